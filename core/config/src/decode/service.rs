//! `[services.X]`: what to run, rights, resources, logging, hooks. Files, ports, health and restart are beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::{
    Cx, Field, Fields, Named, Value, files, joined, life, logging, network, ports, ready, resources, rights,
    schedule, sockets, steps, stores,
};
use crate::diagnostic::Diagnostic;
use crate::keys::{self, Found};
use crate::near::nearest;
use crate::schema::{
    Condition, Dependency, Hook, Hooks, Image, Membership, NameOrId, NamedVolume, NetworkMode, Notify,
    Policy, Port, Pull, RootMode, Rootfs, Secret, Service, Signal, Source, User,
};
use crate::source::Spot;
use crate::tree::Node;
use crate::{units, words};
use sampan_image::Reference;

/// A service and where the parts stand that are checked against other services.
pub struct Draft {
    pub service: Service,
    /// The table's name.
    pub at: Spot,
    pub ports: Vec<(Port, Spot)>,
    /// The dependency's name, and its condition.
    pub depends_on: BTreeMap<String, (Spot, Spot)>,
    pub networks: Vec<(Membership, Spot)>,
    pub has_healthcheck: bool,
}

/// What services name of other sections.
pub struct Stores {
    pub volumes: Named<NamedVolume>,
    pub secrets: Named<Secret>,
}

/// Long because it is one value with a line for each key.
pub fn service(cx: &Cx<'_>, name: &str, node: &Node, stores: &Stores) -> Draft {
    let t = Fields::new(cx, Some(node), super::join("services", name));
    let source = source(&t, &node.key);
    let bundle = matches!(source, Source::Bundle(_));
    let image = matches!(source, Source::Image(_));
    if !bundle && !image && t.get("command").is_none() {
        t.missing("command", "as command = [\"PROGRAM\", \"ARGUMENT\"]");
    }
    let privileged = t.or("privileged", Field::boolean, false);
    let namespaces = joined::namespaces(&t);
    let network_mode = t.or("network_mode", joined::network_mode, NetworkMode::Bridge);
    let (ports, port_spots) = ports::ports(&t);
    let mut needs = depends_on(&t);
    let networks = network::memberships(&t, node);
    let healthcheck = life::healthcheck(&t);
    let restart = life::restart(&t.table("restart", "a policy or a table"));
    // What an image says of it is known when it is here.
    let may_be_images = image && t.get("healthcheck").is_none();
    let watchdog = t.or("watchdog", ready::watchdog, Duration::ZERO);
    ready::have_watchdog(&t, healthcheck.as_ref(), watchdog);
    let has_healthcheck = healthcheck.is_some() || life::says_healthcheck(&t) || may_be_images;
    let mut service = Service {
        name: name.to_string(),
        of: None,
        entrypoint: t.or("entrypoint", command, Vec::new()),
        command: t.or("command", command, Vec::new()),
        working_dir: t.or("working_dir", Field::inside_path, "/".into()),
        hostname: t.or("hostname", hostname, name.to_string()),
        domainname: t.or("domainname", |f| f.or_none(hostname), None),
        init: t.or("init", Field::boolean, false),
        tty: t.or("tty", Field::boolean, false),
        stdin_open: t.or("stdin_open", Field::boolean, false),
        autostart: t.or("autostart", Field::boolean, true),
        schedule: schedule::schedule(&t, restart.policy),
        profiles: t.or("profiles", |f| f.list(Field::nonempty), Vec::new()),
        labels: texts(&t.table("labels", "a table")),
        annotations: annotations(&t.table("annotations", "a table")),
        volumes: t.or("volumes", |f| files::volumes(f, &stores.volumes), Vec::new()),
        tmpfs: t.or("tmpfs", files::tmpfs, Vec::new()),
        secrets: t.or("secrets", |f| stores::uses(f, &stores.secrets), Vec::new()),
        // To a tmpfs 0 is no limit at all.
        shm_size: t.or("shm_size", |f| f.size_in(1..=1 << 40, "1 byte to 1T"), 64 << 20),
        environment: files::environment(&t),
        adjust: adjust(&t),
        user: t.or("user", rights::user, User { user: NameOrId::Id(0), group: Some(NameOrId::Id(0)) }),
        group_add: t.or("group_add", |f| f.list(rights::group), Vec::new()),
        cap_add: t.or("cap_add", |f| f.list(rights::capability), all_if(privileged)),
        cap_drop: t.or("cap_drop", |f| f.list(rights::capability), Vec::new()),
        sysctls: rights::sysctls(&t, &namespaces, &network_mode),
        ulimits: rights::ulimits(&t),
        oom_score_adj: t.or("oom_score_adj", |f| f.integer(-1000..=1000), 0) as i32,
        devices: t.or("devices", |f| f.list(rights::device), Vec::new()),
        privileged,
        sockets: sockets::sockets(&t, name, &namespaces),
        security: rights::security(&t.table("security", "a table"), privileged, &namespaces),
        namespaces,
        resources: resources::resources(&t.table("resources", "a table")),
        network_mode,
        networks: networks.iter().map(|(membership, _)| membership.clone()).collect(),
        resolver: network::resolver(&t),
        ports,
        restart,
        depends_on: BTreeMap::new(),
        notify: t.or("notify", |f| ready::notify(f, has_healthcheck, &t.path), Notify::None),
        start_timeout: t.or("start_timeout", Field::duration, Duration::from_secs(90)),
        watchdog,
        fd_store_max: t.or("fd_store_max", |f| f.integer(ready::FD_STORE), 0) as u32,
        reload: t.or("reload", |f| f.or_none(ready::reload), None),
        stop_signal: t.or("stop_signal", signal, Signal(libc::SIGTERM)),
        stop_grace_period: t.or("stop_grace_period", Field::duration, Duration::from_secs(10)),
        logging: logging::logging(&t.table("logging", "a driver or a table")),
        hooks: hooks(&t.table("hooks", "a table")),
        lifecycle: steps::lifecycle(&t.table("lifecycle", "a table")),
        on: steps::on(&t.table("on", "a table")),
        own: match source {
            Source::Bundle(_) => said(node, &|key, node| key.oci && !node.inherited),
            Source::Image(_) => said(node, &|key, _| keys::is_of_images(key)),
            Source::Rootfs(_) => BTreeSet::new(),
        },
        source,
        healthcheck,
    };
    joined::needs(&t, &service, &mut needs);
    joined::beside(&t, &service);
    ready::beside(&t, &service);
    ready::fd_store(&t, &service);
    let (depends_on, dependency_spots) = needs;
    service.depends_on = depends_on;
    if service.environment.is_empty() {
        // To add nothing is not to say anything.
        service.own.remove("environment");
    }
    Draft {
        has_healthcheck,
        service,
        at: node.key.clone(),
        ports: port_spots,
        depends_on: dependency_spots,
        networks,
    }
}

/// What `privileged` is about capabilities where the service does not say.
fn all_if(privileged: bool) -> Vec<String> {
    if privileged { vec!["ALL".into()] } else { Vec::new() }
}

/// A table of text, where numbers and booleans are text too.
fn texts(t: &Fields<'_>) -> BTreeMap<String, String> {
    let text = |f: &Field<'_>| match &f.node.value {
        Value::Integer(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => f.text(),
    };
    t.entries().filter_map(|(name, f)| Some((name.to_owned(), text(&f)?))).collect()
}

fn annotations(t: &Fields<'_>) -> BTreeMap<String, String> {
    for (name, f) in t.entries().filter(|(name, _)| name.starts_with("org.sampan.")) {
        f.wrong(format!("{name} is Sampan's own"), "choose another prefix");
    }
    texts(t)
}

fn adjust(t: &Fields<'_>) -> BTreeMap<String, String> {
    let entries = t.table("adjust", "a table").entries();
    entries.filter_map(|(leaf, field)| Some((leaf.to_owned(), field.nonempty()?))).collect()
}

fn source(t: &Fields<'_>, at: &Spot) -> Source {
    let rootfs = t.table("rootfs", "a path or a table");
    // Beside an image it may say how that is written to.
    let is_source = |f: &Field<'_>| f.node.table().is_none() || rootfs.get("path").is_some();
    let path = t.get("rootfs").filter(|f| t.get("image").is_none() || is_source(f));
    let said: Vec<Field<'_>> = path.into_iter().chain(t.get("bundle")).chain(t.get("image")).collect();
    if let [first, second, ..] = said.as_slice() {
        let mut errors = t.cx.errors.borrow_mut();
        let hint = "drop one: rootfs, bundle or image";
        errors.push(
            Diagnostic::error(&t.path, &second.node.key, "two things to run", hint)
                .also(&first.node.key, "the other"),
        );
    }
    if let Some(f) = t.get("pull").filter(|_| t.get("image").is_none()) {
        f.wrong("there is no image", "add image = \"NAME\" or drop pull");
    }
    if let Some(f) = t.get("bundle") {
        return Source::Bundle(f.host_path().unwrap_or_default());
    }
    if let Some(f) = t.get("image") {
        return Source::Image(Image {
            reference: reference(&f).unwrap_or_default(),
            pull: t.or("pull", pull, Pull::Missing),
            mode: rootfs.or("mode", root_mode, RootMode::Rw),
        });
    }
    let path = match rootfs.get("path") {
        Some(f) => f.host_path(),
        None => {
            // A table of the wrong kind: already said.
            if t.get("rootfs").is_none_or(|f| f.node.table().is_some()) {
                let hint = "add image = \"NAME\", rootfs = \"PATH\", rootfs = \"host\" or bundle = \"PATH\"";
                t.cx.errors.borrow_mut().push(Diagnostic::error(&t.path, at, "nothing to run", hint));
            }
            None
        }
    };
    Source::Rootfs(Rootfs {
        path: path.unwrap_or_else(|| PathBuf::from("/")),
        mode: rootfs.or("mode", root_mode, RootMode::Ro),
    })
}

fn reference(f: &Field<'_>) -> Option<String> {
    let text = f.nonempty()?;
    match Reference::parse(&text) {
        Ok(_) => Some(text),
        Err(why) => {
            f.wrong(why.to_string(), "");
            None
        }
    }
}

fn pull(f: &Field<'_>) -> Option<Pull> {
    const WORDS: &[(&str, Pull)] =
        &[("missing", Pull::Missing), ("always", Pull::Always), ("never", Pull::Never)];
    f.word("answer", WORDS, &[])
}

fn root_mode(f: &Field<'_>) -> Option<RootMode> {
    f.word("mode", &[("ro", RootMode::Ro), ("rw", RootMode::Rw), ("scratch", RootMode::Scratch)], &[])
}

/// `[word]`, or text split as by sh.
pub fn command(f: &Field<'_>) -> Option<Vec<String>> {
    let argv = match &f.node.value {
        Value::Text(_) => match words::split(&f.text()?) {
            Ok(words) => words,
            Err(why) => {
                f.wrong(why, format!("no shell runs: [\"sh\", \"-c\", {}] has one", f.node.at.text()));
                return None;
            }
        },
        Value::Array(_) => f.list(Field::text)?,
        _ => return f.expected("an array of words or a string"),
    };
    match argv.first() {
        Some(program) if !program.is_empty() => Some(argv),
        Some(_) => {
            f.wrong("the program's name is empty", "write its path or name");
            None
        }
        None if f.path.ends_with("entrypoint") => Some(argv),
        None => {
            f.wrong("is empty", "as [\"PROGRAM\", \"ARGUMENT\"]");
            None
        }
    }
}

fn hostname(f: &Field<'_>) -> Option<String> {
    let name = f.nonempty()?;
    // HOST_NAME_MAX of Linux.
    if name.len() > 64 {
        f.wrong("longer than 64 bytes", "sethostname takes no more");
        return None;
    }
    Some(name)
}

fn depends_on(t: &Fields<'_>) -> joined::Needs {
    const CONDITIONS: &[(&str, Condition)] = &[
        ("service_started", Condition::Started),
        ("service_ready", Condition::Ready),
        ("service_healthy", Condition::Healthy),
        ("service_completed_successfully", Condition::CompletedSuccessfully),
    ];
    let mut resolved = BTreeMap::new();
    let mut spots = BTreeMap::new();
    for (name, field) in t.table("depends_on", "an array of services or a table").entries() {
        if field.node.table().is_none() {
            field.expected::<()>("a table");
            continue;
        }
        let fields = field.fields();
        let condition = fields.get("condition");
        let at = condition.as_ref().map_or(&field.node.key, |c| &c.node.at).clone();
        let condition =
            condition.and_then(|f| f.word("condition", CONDITIONS, &[])).unwrap_or(Condition::Started);
        let required = fields.or("required", Field::boolean, true);
        let restart = fields.or("restart", Field::boolean, false);
        let bind = fields.or("bind", Field::boolean, false);
        if let Some(f) = fields.get("bind").filter(|_| bind && !required) {
            f.wrong("it cannot stop with what it goes on without", "drop bind, or required = false");
        }
        resolved.insert(name.to_string(), Dependency { condition, required, restart, bind });
        spots.insert(name.to_string(), (field.node.key.clone(), at));
    }
    (resolved, spots)
}

pub fn signal(f: &Field<'_>) -> Option<Signal> {
    let text = match &f.node.value {
        Value::Integer(n) => n.to_string(),
        _ => f.text()?,
    };
    match units::parse_signal(&text) {
        Some(number) => Some(Signal(number)),
        None => {
            let upper = text.to_ascii_uppercase();
            let hint = match nearest(upper.strip_prefix("SIG").unwrap_or(&upper), units::signal_names()) {
                Some(near) => format!("did you mean \"SIG{near}\"?"),
                None => "as \"SIGTERM\"; kill -l lists them".into(),
            };
            f.wrong("no such signal", hint);
            None
        }
    }
}

fn hooks(t: &Fields<'_>) -> Hooks {
    let kind = |name: &str| t.or(name, |f| f.list(hook), Vec::new());
    Hooks {
        prestart: kind("prestart"),
        create_runtime: kind("createRuntime"),
        create_container: kind("createContainer"),
        start_container: kind("startContainer"),
        poststart: kind("poststart"),
        poststop: kind("poststop"),
    }
}

fn hook(f: &Field<'_>) -> Option<Hook> {
    let Value::Table(_) = f.node.value else { return f.expected("a table: { path, args, env, timeout }") };
    let t = f.fields();
    t.only(&["path", "args", "env", "timeout"], &[]);
    let Some(path) = t.get("path") else {
        t.missing("path", "add path = \"/PROGRAM\"");
        return None;
    };
    // startContainer's path is the container's: never relative to us.
    let inside = f.path.ends_with("startContainer");
    let path = if inside { path.inside_path().map(PathBuf::from) } else { path.host_path() }?;
    let name = path.to_string_lossy().into_owned();
    Some(Hook {
        args: t.or("args", |f| f.list(Field::text), vec![name]),
        env: t.or("env", |f| f.list(Field::text), Vec::new()),
        timeout: t.or("timeout", |f| f.integer(1..=86_400), 30) as u32,
        path,
    })
}

/// Which of its keys count.
type Counts<'c> = &'c dyn Fn(&keys::Key, &Node) -> bool;

/// The keys that the service's table sets, of those that count.
fn said(node: &Node, counts: Counts<'_>) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    collect(node, counts, &mut Vec::new(), &mut out);
    out
}

fn collect<'n>(node: &'n Node, counts: Counts<'_>, path: &mut Vec<&'n str>, out: &mut BTreeSet<String>) {
    for (name, child) in node.table().into_iter().flatten() {
        path.push(name);
        match keys::find(keys::SERVICE, path) {
            // What env_file gives is the environment.
            Found::Key(key) if counts(key, child) => {
                out.insert(if key.path == "env_file" { "environment".into() } else { key.path.into() });
            }
            Found::Group { .. } => collect(child, counts, path, out),
            _ => {}
        }
        path.pop();
    }
}

/// Policies whose services never complete.
pub fn lives_on(policy: Policy) -> bool {
    matches!(policy, Policy::Always | Policy::UnlessStopped)
}
