//! The order of a launch, and the only place that knows it.
//!
//! ```text
//!   namespaces -> root -> mounts (groups joined before the first view of them) -> devices -> pty -> masks
//!     -> [hooks, network: the parent] -> pivot -> names, limits, cwd -> capabilities, user -> program found
//!     -> [created: wait for start] -> startContainer -> seccomp -> execve
//! ```
//! All mounts come before the pivot, because the host's devices cannot be cloned once the old root is gone.  The pivot closes
//! every descriptor that leads to the host: what comes after it looks up what the container chose.
//! The filter is loaded by the last step, so that nothing of ours must pass it.

use crate::build::{Build, clean, from_bundle};
use crate::error::Error;
use crate::host::{Host, Version};
use crate::mounts::{self, Around, Dev, Made};
use crate::namespaces::Namespaces;
use crate::plan::{Gate, Options, Parent, Plan, Want};
use crate::rootfs::RootPropagation;
use crate::spec::{Hook, Hooks, Process, Spec};
use crate::{host_root, ids, labels, limits, process, rootfs, scratch, seccomp};
use sampan_child::step::{Environment, Filter, List, Numbers, Step, mark};
use sampan_child::sys::uapi::*;

impl<'a> Plan<'a> {
    /// Decides everything about launching the container of `spec`.
    pub fn compile(spec: &'a Spec<'a>, host: &Host, options: &Options) -> Result<Plan<'a>, Error> {
        check(spec)?;
        let linux = &spec.linux;
        let ns = Namespaces::parse(spec, options)?;
        let new_user = ns.makes(CLONE_NEWUSER);
        let groups_denied = new_user && !host.privileged;
        let root = spec.root.as_ref().filter(|r| !r.path.is_empty());
        let root = root.ok_or_else(|| Error::new("root.path", "is missing"))?;
        let propagation = RootPropagation::parse(linux)?;
        let path = from_bundle(&root.path, &options.bundle);
        let around = Around { linux, host, options, namespaces: &ns, propagation, root: &path };
        let b = &mut Build::default();
        b.want(Want::Report);
        if options.trace {
            b.want(Want::Trace);
        }

        // ---- born ----
        ns.born_into(b);
        if host.cgroups.iter().any(|g| g.version == Version::V2) {
            b.want(Want::Group);
        }
        let first = options.first_of_ours();
        b.step("", Step::Close { first, keep: Numbers::default() });
        b.step("", Step::Signals {});
        if options.given_stdio {
            for to in 0..3 {
                let from = b.want(Want::Stdio(to));
                b.step("", Step::Stdio { from, to });
            }
        }
        b.step("", Step::Session {});
        let oom = spec.process.as_ref().and_then(|p| p.oom_score_adj);
        if new_user {
            let from = b.want(Want::Gate(Gate::Maps));
            b.step("linux.uidMappings", Step::Wait { from });
            // While the files are still opened by the host's root, which we are until the next step.
            join_groups(b, host, &ns);
        }
        ns.time_namespace(b, linux)?;
        if new_user {
            b.step("linux.uidMappings", Step::BecomeRoot { setgroups: u32::from(!groups_denied) });
        }
        b.step("", Step::Undumpable {});
        ns.joined_by_child(b);

        // ---- the root and what is mounted in it ----
        b.step("", Step::Umask { mask: 0 });
        let scratch = scratch::asked(spec)?;
        match &host.root {
            Some(shown) => host_root::root(b, shown, spec, root, &around)?,
            None => rootfs::root(b, &path, scratch, &around)?,
        }

        let made = &mut Made::default();
        let mut joined = new_user;
        let mut join = |b: &mut Build| {
            if !joined {
                join_groups(b, host, &ns);
                joined = true;
            }
        };
        for (index, m) in spec.mounts.iter().enumerate() {
            let dev_before = made.dev;
            mounts::mount(b, m, index, &around, made, &mut join)?;
            if made.dev == Dev::Mounted && dev_before != Dev::Mounted {
                rootfs::devices(b, linux, &ns, made, host)?;
            }
        }
        if made.dev != Dev::Mounted {
            rootfs::devices(b, linux, &ns, made, host)?;
        }
        if let Some(shown) = &host.root {
            host_root::resolver(b, shown, &spec.mounts, &ns)?;
        }
        join(b);
        let program = match &spec.process {
            Some(p) => Some((p, process::program(b, p)?)),
            None => None,
        };
        if let Some(p) = &spec.process {
            process::terminal(b, p, made.dev != Dev::Bound, options);
        }
        for (target, field) in std::mem::take(&mut made.read_only_later) {
            let target = b.text(&target, &field)?;
            let set = MOUNT_ATTR_RDONLY;
            b.step(field, Step::Attributes { target, set, clear: 0, flags: 0 });
        }
        rootfs::sysctls(b, spec, &ns)?;
        rootfs::masks(b, linux)?;
        if ns.makes(CLONE_NEWNET) {
            b.step("linux.namespaces", Step::Loopback {});
        }

        // ---- the parent's turn, then ours ----
        let hooks = &spec.hooks;
        if options.attach || !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
            b.step("hooks", Step::Reached { mark: mark::MOUNTED });
            let from = b.want(Want::Gate(Gate::Attached));
            b.step("hooks", Step::Wait { from });
        }
        let state = [("creating", &hooks.create_container), ("created", &hooks.start_container)];
        let [creating, created] =
            state.map(|(status, list)| hook_state(b, spec, options, status, list.is_empty()));
        let environment = program.as_ref().map(|(_, program)| program.env);
        if !hooks.create_container.is_empty() {
            b.step("hooks.createContainer", Step::Umask { mask: 0o022 });
        }
        hook_steps(b, &hooks.create_container, "createContainer", creating, environment)?;
        if let Some(p) = &spec.process {
            labels::process(b, p, options.new_keyring)?;
        }
        if root.readonly {
            if let Some(cwd) = spec.process.as_ref().map(|p| clean(&p.cwd)).filter(|cwd| cwd != "/") {
                let path = b.text(&cwd, "process.cwd")?;
                b.step("process.cwd", Step::Folder { path });
            }
            b.step("root.readonly", Step::RootAttributes { set: MOUNT_ATTR_RDONLY });
        }
        b.step("root.path", Step::Pivot { first, keep: Numbers::default() });
        if let Some(to) = propagation.root {
            b.step("linux.rootfsPropagation", Step::Propagate { to });
        }

        // ---- inside ----
        names(b, spec, &ns)?;
        if options.new_keyring {
            let name = b.text(&format!("_ses.{}", options.id), "id")?;
            b.step("", Step::Keyring { name });
        }
        let denied = Identity { groups_denied, available: host.available(ns.has(CLONE_NEWUSER)) };
        become_process(b, spec, program.as_ref().map(|(p, _)| *p), &denied, options)?;
        if let Some((p, program)) = &program {
            program.find(b, p);
        }
        b.step("", Step::Reached { mark: mark::READY });
        let from = b.want(Want::Gate(Gate::Start));
        b.step("", Step::Wait { from });
        if let Some((_, program)) = &program {
            let filter = filter(b, spec)?;
            if filter.insns > 0 && !hooks.start_container.is_empty() {
                b.step("linux.seccomp", Step::HookFilter { filter });
            }
            hook_steps(b, &hooks.start_container, "startContainer", created, environment)?;
            program.exec(b, filter);
        }

        let parent = Parent {
            uid: spec.process.as_ref().map_or(0, |p| p.user.uid),
            uid_mappings: linux.uid_mappings.clone(),
            gid_mappings: linux.gid_mappings.clone(),
            deny_setgroups: groups_denied,
            oom_score_adj: oom,
            cgroups_path: linux.cgroups_path.as_deref(),
            cgroup_owner: cgroup_owner(spec, host, &ns),
            resources: linux.resources.as_ref(),
            hooks: Some(hooks),
            annotations: Some(&spec.annotations),
            terminal: spec.process.as_ref().is_some_and(|p| p.terminal),
            console_size: spec.process.as_ref().and_then(|p| p.console_size.clone()),
            own_pid_namespace: ns.makes(CLONE_NEWPID),
            own_network: ns.has(CLONE_NEWNET),
            program: spec.process.as_ref().and_then(|p| p.args.first()).map(|a| a.as_str()),
            no_process: spec.process.is_none(),
            root: from_bundle(&root.path, &options.bundle),
        };
        Ok(finish(b, parent))
    }
}

/// config-linux.md, Cgroup ownership: the container's group goes to the process's user where it can use it: cgroup v2 alone, a
/// cgroup namespace of its own, a hierarchy that it may write to.
fn cgroup_owner(spec: &Spec<'_>, host: &Host, ns: &Namespaces) -> Option<u32> {
    let v2 = host.cgroups.iter().all(|group| group.version == Version::V2);
    let writable = spec.mounts.iter().any(|mount| {
        matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2"))
            && *mount.destination == *"/sys/fs/cgroup"
            && !mount.options.iter().any(|option| **option == *"ro")
    });
    let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
    // Whoever made the group has it already.
    ids::to_host(&spec.linux.uid_mappings, uid)
        .filter(|uid| v2 && writable && host.privileged && ns.makes(CLONE_NEWCGROUP) && *uid != host.uid)
}

/// The image is made last, when every slot is known.
pub(crate) fn finish<'a>(b: &mut Build, parent: Parent<'a>) -> Plan<'a> {
    let image = b.image();
    Plan {
        image,
        steps: std::mem::take(&mut b.steps),
        origins: std::mem::take(&mut b.origins),
        slots: std::mem::take(&mut b.slots),
        parent,
        warnings: std::mem::take(&mut b.warnings),
    }
}

/// What no part of the plan reads, and so could pass in silence.
fn check(spec: &Spec<'_>) -> Result<(), Error> {
    let major = spec.oci_version.split('.').next().unwrap_or_default();
    match major {
        "" => return Err(Error::new("ociVersion", "is missing")),
        "0" | "1" => {}
        _ => {
            let problem = format!("{} is of another major version than 1", spec.oci_version);
            return Err(Error::new("ociVersion", problem));
        }
    }
    let linux = &spec.linux;
    let not_yet = [
        (!linux.net_devices.is_empty(), "linux.netDevices"),
        (linux.intel_rdt.is_some(), "linux.intelRdt"),
        (linux.memory_policy.is_some(), "linux.memoryPolicy"),
    ];
    if let Some((_, field)) = not_yet.iter().find(|(given, _)| *given) {
        return Err(Error::unsupported(*field));
    }
    check_hooks(&spec.hooks)?;
    spec.process.as_ref().map_or(Ok(()), check_process)
}

/// config.md, POSIX-platform Hooks; also of those that run later, perhaps only when the container is gone.
fn check_hooks(hooks: &Hooks<'_>) -> Result<(), Error> {
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, index, hook) in kinds
        .iter()
        .flat_map(|(kind, hooks)| hooks.iter().enumerate().map(move |(index, hook)| (kind, index, hook)))
    {
        let wrong = |leaf, problem| Err(Error::new(format!("hooks.{kind}[{index}].{leaf}"), problem));
        if !hook.path.starts_with('/') {
            return wrong("path", format!("{:?} is not an absolute path", hook.path.as_str()));
        }
        if let Some(timeout) = hook.timeout.filter(|timeout| *timeout <= 0) {
            return wrong("timeout", format!("{timeout} is not above 0"));
        }
    }
    Ok(())
}

pub(crate) fn check_process(p: &Process<'_>) -> Result<(), Error> {
    match p.exec_cpu_affinity {
        Some(_) => Err(Error::unsupported("process.execCPUAffinity")),
        None => Ok(()),
    }
}

/// Waits until the groups are whole, joins the v1 ones (v2 came with clone3), and makes the cgroup namespace there.
fn join_groups(b: &mut Build, host: &Host, ns: &Namespaces) {
    if !host.cgroups.is_empty() {
        let from = b.want(Want::Gate(Gate::Groups));
        b.step("linux.cgroupsPath", Step::Wait { from });
    }
    for group in host.cgroups.iter().filter(|g| g.version == Version::V1) {
        let tasks = b.table.own(&format!("{}/tasks", group.folder()));
        b.step("linux.cgroupsPath", Step::JoinCgroup { tasks });
    }
    ns.cgroup_namespace(b);
}

fn names(b: &mut Build, spec: &Spec<'_>, ns: &Namespaces) -> Result<(), Error> {
    for (name, field) in [(&spec.hostname, "hostname"), (&spec.domainname, "domainname")] {
        let Some(name) = name.as_deref().filter(|n| !n.is_empty()) else { continue };
        if !ns.has(CLONE_NEWUTS) {
            return Err(Error::new(
                field,
                "needs a uts namespace of its own in linux.namespaces: it would rename the host",
            ));
        }
        if name.len() > 64 {
            return Err(Error::new(field, format!("{name:?} is longer than 64 bytes")));
        }
        let name = b.text(name, field)?;
        b.step(field, if field == "hostname" { Step::Hostname { name } } else { Step::Domainname { name } });
    }
    Ok(())
}

/// What decides who the process can become.
pub(crate) struct Identity {
    pub groups_denied: bool,
    /// Capabilities that we can hand on.
    pub available: u64,
}

/// From root in the container to the process: limits, directory, capabilities, user.
pub(crate) fn become_process(
    b: &mut Build,
    spec: &Spec<'_>,
    process: Option<&Process<'_>>,
    identity: &Identity,
    options: &Options,
) -> Result<(), Error> {
    let Some(p) = process else { return Ok(()) };
    if p.user.uid != 0 && !p.terminal {
        b.step("process.user.uid", Step::OwnStdio { uid: p.user.uid });
    }
    limits::rlimits(b, &p.rlimits)?;
    if let Some(s) = &p.scheduler {
        limits::scheduler(b, s)?;
    }
    if let Some(io) = &p.io_priority {
        limits::io_priority(b, io)?;
    }
    if let Some(personality) = &spec.linux.personality {
        limits::personality(b, personality)?;
    }
    b.step("process.user.umask", Step::Umask { mask: p.user.umask.unwrap_or(0o022) });
    process::working_directory(b, p, false)?;
    let mut sets = ids::sets(b, p.capabilities.as_ref(), identity.available)?;
    if spec.linux.seccomp.is_some() && !p.no_new_privileges {
        // seccomp(2) asks for it where no_new_privs is not set. It is in none of the sets that execve hands on.
        sets.until_execve(ids::CAP_SYS_ADMIN & identity.available);
    }
    ids::bounding(b, &sets);
    ids::become_user(b, &p.user, &sets, identity.groups_denied)?;
    if p.user.uid != 0 {
        process::working_directory(b, p, true)?;
    }
    if p.no_new_privileges {
        b.step("process.noNewPrivileges", Step::NoNewPrivs {});
    }
    b.step("", Step::CloseOnExec { first: options.first_of_ours() });
    Ok(())
}

/// The config's filter; one without instructions where there is none.
pub(crate) fn filter(b: &mut Build, spec: &Spec<'_>) -> Result<Filter, Error> {
    let Some(profile) = &spec.linux.seccomp else { return Ok(Filter::default()) };
    let insns = seccomp::compile(profile)?;
    let bytes: Vec<u8> = insns.iter().flat_map(|i| i.to_ne_bytes()).collect();
    Ok(Filter { program: b.table.raw(&bytes), insns: insns.len() as u32, flags: seccomp::flags(profile)? })
}

/// The state that hooks in the container read: two strings with the pid between them.
fn hook_state(b: &mut Build, spec: &Spec<'_>, options: &Options, status: &str, unused: bool) -> List {
    if unused {
        return List::default();
    }
    let json = |s: &str| serde_json::Value::from(s).to_string();
    let annotations = serde_json::to_string(&spec.annotations).unwrap_or_default();
    let before = format!(
        "{{\"ociVersion\":{},\"id\":{},\"status\":{},\"bundle\":{},\"annotations\":{annotations},\"pid\":",
        json("1.3.0"),
        json(&options.id),
        json(status),
        json(&options.bundle),
    );
    b.table.list([before.as_str(), "}"], "annotations").unwrap_or_default()
}

/// Hooks without an environment get `environment`, the process's, as under runc.
fn hook_steps(
    b: &mut Build,
    hooks: &[Hook<'_>],
    kind: &'static str,
    state: List,
    environment: Option<List>,
) -> Result<(), Error> {
    for (index, hook) in hooks.iter().enumerate() {
        let field = format!("hooks.{kind}[{index}]");
        let timeout_s = hook.timeout.map_or(0, |timeout| u32::try_from(timeout).unwrap_or(u32::MAX));
        let path = hook.path.as_str();
        let args: Vec<&str> = match hook.args.is_empty() {
            true => vec![path, path],
            false => std::iter::once(path).chain(hook.args.iter().map(|a| a.as_str())).collect(),
        };
        let argv = b.table.list(args, &format!("{field}.args"))?;
        let env = match environment.filter(|_| hook.env.is_empty()) {
            Some(environment) => Environment::OfProcess(environment),
            None => {
                let own = hook.env.iter().map(|e| e.as_str());
                Environment::Own(b.table.list(own, &format!("{field}.env"))?)
            }
        };
        let output = b.want(Want::HookOutput { kind, index, path: path.to_owned() });
        b.step(field, Step::Hook { argv, env, state: state.first, timeout_s, output });
    }
    Ok(())
}
