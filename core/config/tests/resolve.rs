//! What configs resolve to: forms, layers, variables, and that the printed config means the same.

use std::time::Duration;

use sampan_config::schema::*;
use sampan_config::{self as config, Config, explain};
use serde_json::{Value, json};

use super::{Folder, Load};

const ROOT: &str = "rootfs = \"/\"\ncommand = [\"a\"]\n";

pub fn web(keys: &str) -> Service {
    let folder = Folder::new().with("c.toml", &format!("[services.web]\n{ROOT}{keys}\n"));
    reloads(&folder, &["c.toml"]).services["web"].as_ref().clone()
}

/// Loads, prints, loads what was printed: the two are equal.
#[track_caller]
pub fn reloads(folder: &Folder, files: &[&str]) -> Config {
    let loaded = match folder.load(files) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{}", config::diagnostic::render(&errors, false)),
    };
    let text = explain::toml(&loaded.config, &loaded.origins, None).unwrap();
    let again = Folder::new().with("printed.toml", &text);
    match again.load(&["printed.toml"]) {
        Ok(again) => assert_eq!(again.config, loaded.config, "\n{text}"),
        Err(errors) => panic!("{text}\n{}", config::diagnostic::render(&errors, false)),
    }
    loaded.config
}

#[track_caller]
pub fn same(short: &str, long: &str) {
    assert_eq!(web(short), web(long), "\n{short}\n{long}");
}

#[test]
fn short_forms_are_long_ones() {
    same("restart = \"always\"", "restart.policy = \"always\"");
    same("restart = \"on-failure:3\"", "restart = { policy = \"on-failure\", max_attempts = 3 }");
    same(
        "restart.success_exit_status = [0, \"term\"]",
        "restart = { success_exit_status = [0, \"SIGTERM\"] }",
    );
    same("restart.force_exit_status = [\"RTMIN+1\"]", "restart.force_exit_status = [\"SIGRTMIN+1\"]");
    same("notify = \"none\"", "");
    same("logging = \"none\"", "logging.driver = \"none\"");
    same("healthcheck.http = 80", "healthcheck.http.port = 80");
    same("healthcheck.http = \"${PORT}\"", "healthcheck.http.port = 8080");
    same("healthcheck.test = \"a b\"", "healthcheck.test = [\"CMD-SHELL\", \"a b\"]");
    same("healthcheck = \"none\"", "healthcheck.test = [\"NONE\"]");
    same("entrypoint = \"a 'b c' \\\\d\"", "entrypoint = [\"a\", \"b c\", \"d\"]");
    same(
        "environment = [\"A=1\", \"NAME\", \"UNSET\", \"DOLLAR\"]",
        "environment = { A = 1, NAME = \"value\", DOLLAR = \"a$b$${c}\" }",
    );
    same(
        "ports = [\"127.0.0.1:80:90/udp\"]",
        "ports = [{ host_ip = \"127.0.0.1\", published = 80, target = 90, protocol = \"udp\" }]",
    );
    same(
        "volumes = [\"/etc:/x:ro\"]",
        "volumes = [{ type = \"bind\", source = \"/etc\", target = \"/x/\", read_only = true }]",
    );
    same("tmpfs = \"/t\"", "tmpfs = [\"/t\"]");
    same("cap_add = [\"kill\", \"all\"]", "cap_add = [\"CAP_KILL\", \"ALL\"]");
    same("stop_signal = \"int\"", "stop_signal = 2");
    same("resources.memory = \"none\"", "");
    same("read_only = true", "");
    same("user = 5", "user = \"5\"");
}

#[test]
fn defaults_are_the_documented_ones() {
    let web = web("");
    assert_eq!(web.restart.policy, Policy::UnlessStopped);
    assert_eq!(web.restart.delay, Duration::from_millis(100));
    assert_eq!(web.resources.pids, 4096);
    assert_eq!(web.networks, [Membership::of("default")]);
    assert_eq!(web.hostname, "web");
    assert_eq!(web.stop_grace_period, Duration::from_secs(10));
    assert!(web.security.no_new_privileges);
}

/// The key table says what each default is; what resolves must be that.
#[test]
fn the_key_table_tells_the_truth_about_defaults() {
    let folder = Folder::new().with("c.toml", &format!("[services.web]\n{ROOT}healthcheck.http = 80\n"));
    let loaded = folder.load(&["c.toml"]).unwrap();
    let shown = explain::json(&loaded.config, &loaded.origins, Some("web")).unwrap();
    let shown = shown["services.web"].as_object().unwrap();
    let mut compared = 0;
    for key in config::keys::SERVICE.iter().filter(|k| k.stage == config::keys::Stage::Built) {
        let Some(entry) = shown.get(key.path) else {
            // Tables without entries, and what another key stands in for.
            let silent = [
                "read_only",
                "bundle",
                "image",
                "pull",
                "env_file",
                "healthcheck.test",
                "healthcheck.tcp",
                "healthcheck.unix",
                "healthcheck.notify",
                "healthcheck.stop_grace_period",
                "sysctls",
                "ulimits",
            ];
            let is_table = key.default == "{}";
            assert!(
                is_table || silent.contains(&key.path) || key.path.contains('*'),
                "{} is not shown",
                key.path
            );
            continue;
        };
        if entry["origin"] != "default" {
            continue;
        }
        let text = match &entry["value"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let expected = key.default.replace("the service's", "web");
        assert_eq!(text, expected, "{}", key.path);
        compared += 1;
    }
    assert!(compared > 35, "{compared}");
}

#[test]
fn networks_are_in_the_order_in_which_they_are_written() {
    let resolved = |keys: &str| {
        let text =
            format!("[networks.a]\nsubnet = \"10.9.0.0/24\"\n[networks.b]\n[services.web]\n{ROOT}{keys}\n");
        reloads(&Folder::new().with("c.toml", &text), &["c.toml"]).services["web"].networks.clone()
    };
    let named = |networks: &[Membership]| networks.iter().map(|m| m.network.clone()).collect::<Vec<_>>();
    assert_eq!(named(&resolved("networks = [\"b\", \"a\"]")), ["b", "a"]);
    let table = resolved(
        "[services.web.networks.b]\naliases = [\"www\", \"Web.example.org\"]\n[services.web.networks.a]\nipv4_address = \"10.9.0.7\"",
    );
    assert_eq!(named(&table), ["b", "a"]);
    assert_eq!(table[0].aliases, ["www", "Web.example.org"]);
    assert_eq!(table[1].ipv4_address, Some([10, 9, 0, 7].into()));
    let list = "networks = [{ name = \"b\", aliases = [\"www\", \"Web.example.org\"] }, { name = \"a\", ipv4_address = \"10.9.0.7\" }]";
    assert_eq!(resolved(list), table);
}

#[test]
fn ranges_of_ports_are_their_ports() {
    same("ports = [\"8000-8002:80-82\"]", "ports = [\"8000:80\", \"8001:81\", \"8002:82\"]");
    same(
        "ports = [\"127.0.0.1:8000-8001:8000-8001/udp\"]",
        "ports = [{ host_ip = \"127.0.0.1\", published = \"8000-8001\", target = \"8000-8001\", protocol = \"udp\" }]",
    );
}

#[test]
fn extra_hosts_are_written_as_compose_has_them() {
    same("extra_hosts = [\"a:192.0.2.1\", \"b=[::1]\"]", "extra_hosts = [\"a=192.0.2.1\", \"b:::1\"]");
    let hosts = web("extra_hosts = [\"host.docker.internal:host-gateway\"]").resolver.extra_hosts;
    assert_eq!(hosts[0].address, HostAddress::Gateway);
}

#[test]
fn origins_are_file_and_line() {
    let folder = Folder::new()
        .with("c.toml", "[defaults]\nuser = \"1:1\"\n[services.web]\nrootfs = \"/\"\ncommand = \"a\"\nenv_file = \"e\"\nresources = { memory = \"1G\" }\n")
        .with("e", "A=1\n");
    let loaded = folder.load(&["c.toml"]).unwrap();
    let shown = explain::json(&loaded.config, &loaded.origins, Some("web")).unwrap();
    let origin = |key: &str| {
        shown["services.web"][key]["origin"]
            .as_str()
            .unwrap()
            .replace(&format!("{}/", folder.0.display()), "")
    };
    assert_eq!(origin("user"), "c.toml:2");
    assert_eq!(origin("resources.memory"), "c.toml:7");
    assert_eq!(origin("environment.A"), "c.toml:6");
    assert_eq!(origin("shm_size"), "default");
    assert!(explain::toml(&loaded.config, &loaded.origins, Some("none")).is_none());
}

#[test]
fn a_service_is_over_defaults_key_by_key() {
    let folder = Folder::new().with(
        "c.toml",
        "[defaults]\nrootfs = \"/\"\ncap_drop = [\"ALL\"]\nenvironment = { A = \"1\", B = \"2\" }\nhealthcheck = { tcp = 80, interval = \"5s\" }\nrestart = \"always\"\n\
         [services.web]\ncommand = \"a\"\ncap_drop = [\"KILL\"]\nenvironment.B = \"3\"\nhealthcheck.http = 81\nrestart.delay = \"1s\"\n",
    );
    let web = &reloads(&folder, &["c.toml"]).services["web"];
    assert_eq!(web.cap_drop, ["CAP_KILL"], "arrays replace");
    assert_eq!(web.environment["A"], "1");
    assert_eq!(web.environment["B"], "3");
    assert_eq!(web.restart.policy, Policy::Always);
    assert_eq!(web.restart.delay, Duration::from_secs(1));
    let check = web.healthcheck.clone().unwrap();
    assert!(matches!(check.probe, Probe::Http(_)), "what excludes goes");
    assert_eq!(check.interval, Duration::from_secs(5));
}

#[test]
fn a_later_file_is_over_an_earlier_one() {
    let folder = Folder::new()
        .with("a.toml", &format!("[services.web]\n{ROOT}restart = \"always\"\nports = [\"80:80\"]\n"))
        .with("sub/b.toml", "[services.web]\nrestart.delay = \"9s\"\nports = [\"81:80\"]\nrootfs = \"x\"\n[services.web.environment]\nA = \"1\"\n")
        .with("sub/x/.keep", "");
    let web = &reloads(&folder, &["a.toml", "sub/b.toml"]).services["web"];
    assert_eq!(web.restart.policy, Policy::Always);
    assert_eq!(web.restart.delay, Duration::from_secs(9));
    assert_eq!(web.ports.iter().map(|p| p.published).collect::<Vec<_>>(), [81]);
    let Source::Rootfs(root) = &web.source else { panic!() };
    assert_eq!(root.path, folder.path("sub/x"), "from the file that names it");
}

#[test]
fn a_bundle_takes_the_place_of_an_inherited_rootfs() {
    let folder = Folder::new()
        .with("b/config.json", "{}")
        .with("c.toml", "[defaults]\nrootfs = \"/\"\nuser = \"5\"\nautostart = false\n[services.web]\nbundle = \"b\"\nresources.pids = 5\n");
    let web = &reloads(&folder, &["c.toml"]).services["web"];
    assert_eq!(web.source, Source::Bundle(folder.path("b")));
    assert!(!web.sets("user") && web.sets("resources.pids") && web.sets("resources"));
    assert!(!web.autostart, "what OCI does not describe stays");
    let loaded = folder.load(&["c.toml"]).unwrap();
    let text = explain::toml(&loaded.config, &loaded.origins, Some("web")).unwrap();
    assert!(
        text.contains("resources.pids = 5") && !text.contains("user") && text.ends_with("  # bundle\n"),
        "{text}"
    );
}

#[test]
fn includes_are_one_tree() {
    let folder = Folder::new()
        .with("c.toml", "include = [\"d/*.toml\", \"e.toml\"]\n[services.web]\nrootfs = \"/\"\n")
        .with("d/1.toml", "[services.web]\ncommand = \"a\"\n")
        .with("d/.hidden.toml", "not toml")
        .with("e.toml", "[services.web.environment]\nA = \"1\"\n");
    assert_eq!(reloads(&folder, &["c.toml"]).services["web"].environment["A"], "1");
}

#[test]
fn variables_may_be_numbers_and_booleans() {
    let web = web("autostart = \"${YES}\"\nresources = { cpus = \"${HALF:-0.5}\", pids = \"${PORT}\" }");
    assert!(web.autostart);
    assert_eq!(web.resources.cpus, Some(0.5));
    assert_eq!(web.resources.pids, 8080);
}

#[test]
fn a_plugins_config_is_its_own() {
    let folder = Folder::new().with(
        "c.toml",
        "[plugins.x]\nconfig = { a = 1, b = [\"${NAME}\", 2.5], c = { d = true } }\nrequired = true\n",
    );
    let plugin = &reloads(&folder, &["c.toml"]).plugins["x"];
    assert_eq!(plugin.config, json!({ "a": 1, "b": ["value", 2.5], "c": { "d": true } }));
    assert_eq!(plugin.on_error, OnError::Fail);
}

#[test]
fn whose_value_wins_is_said_leaf_by_leaf() {
    assert_eq!(web("").adjust.len(), 0);
    let adjust = web("adjust = { \"env/TZ\" = \"tz\" }").adjust;
    assert_eq!(adjust.get("env/TZ").map(String::as_str), Some("tz"));
}

/// With what `make run` and a reader of examples/ have in their environment.
#[test]
fn plugins_are_told_which_limits_were_written() {
    assert!(web("").resources.written().is_empty());
    assert_eq!(web("resources = { pids = 4096 }").resources.written(), ["resources.pids"]);
}

#[test]
fn the_shipped_configs_have_no_mistakes() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files: Vec<_> = std::fs::read_dir(top.join("examples"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    assert!(files.len() >= 2);
    files.extend([top.join("config.toml"), top.join("examples/app/config.toml")]);
    for file in files {
        let loaded = config::load(std::slice::from_ref(&file), &|_| None, &config::Builtin::default());
        let (text, code) = config::report(&[file], &loaded, false, false);
        assert_eq!(code, 0, "{text}");
        let loaded = loaded.unwrap();
        let printed = explain::toml(&loaded.config, &loaded.origins, None).unwrap();
        let again = Folder::new().with("p.toml", &printed);
        assert_eq!(again.config(&["p.toml"]), loaded.config);
    }
}

/// The long example of the reference: stage 2 keys removed.
#[test]
fn the_references_shortest_example() {
    let folder = Folder::new().with(
        "c.toml",
        "[services.load]\nrootfs = \"host\"\ncommand = [\"sh\", \"-c\", \"while cat /proc/loadavg; do sleep 60; done\"]\nuser = \"65534:65534\"\nresources.memory = \"16M\"\n",
    );
    let loaded = folder.load(&["c.toml"]).unwrap();
    let text = explain::toml(&loaded.config, &loaded.origins, Some("load")).unwrap();
    insta::assert_snapshot!(text.replace(&format!("{}/", folder.0.display()), ""), @r#"
    [services.load]
    rootfs.path = "/"                      # c.toml:2
    rootfs.mode = "ro"                     # default
    entrypoint = []                        # default
    command = ["sh", "-c", "while cat /proc/loadavg; do sleep 60; done"]  # c.toml:3
    working_dir = "/"                      # default
    hostname = "load"                      # default
    domainname = "none"                    # default
    init = false                           # default
    tty = false                            # default
    stdin_open = false                     # default
    autostart = true                       # default
    schedule = "none"                      # default
    profiles = []                          # default
    volumes = []                           # default
    tmpfs = []                             # default
    shm_size = "64M"                       # default
    devices = []                           # default
    user = "65534:65534"                   # c.toml:4
    group_add = []                         # default
    cap_add = []                           # default
    cap_drop = []                          # default
    privileged = false                     # default
    pid = "private"                        # default
    ipc = "private"                        # default
    uts = "private"                        # default
    cgroup = "private"                     # default
    oom_score_adj = 0                      # default
    security.no_new_privileges = true      # default
    security.seccomp_profile = "default"   # default
    security.apparmor = "none"             # default
    security.selinux = "none"              # default
    security.masked_paths = ["default"]    # default
    security.readonly_paths = ["default"]  # default
    security.userns = "none"               # default
    resources.cpus = "none"                # default
    resources.cpu_weight = 100             # default
    resources.io_weight = 100              # default
    resources.cpuset = "none"              # default
    resources.memory = "16M"               # c.toml:5
    resources.memory_swap = "none"         # default
    resources.memory_high = "none"         # default
    resources.memory_low = "0B"            # default
    resources.memory_min = "0B"            # default
    resources.pids = 4096                  # default
    resources.oom_policy = "kill"          # default
    network_mode = "bridge"                # default
    networks = ["default"]                 # default
    ports = []                             # default
    dns = []                               # default
    dns_search = []                        # default
    dns_opt = []                           # default
    extra_hosts = []                       # default
    sockets = []                           # default
    restart.policy = "unless-stopped"      # default
    restart.delay = "100ms"                # default
    restart.multiplier = 2.0               # default
    restart.max_delay = "1m"               # default
    restart.jitter = 0.25                  # default
    restart.reset_after = "10s"            # default
    restart.max_attempts = 0               # default
    restart.success_exit_status = [0]      # default
    restart.prevent_exit_status = []       # default
    restart.force_exit_status = []         # default
    healthcheck.test = ["NONE"]            # default
    notify = "none"                        # default
    start_timeout = "1m30s"                # default
    watchdog = "0s"                        # default
    fd_store_max = 0                       # default
    stop_signal = "SIGTERM"                # default
    stop_grace_period = "10s"              # default
    reload = "none"                        # default
    logging.driver = "local"               # default
    logging.max_size = "20M"               # default
    logging.max_file = 5                   # default
    logging.max_line = "16K"               # default
    logging.max_age = "none"               # default
    logging.rate_limit = "none"            # default
    logging.compress = true                # default
    logging.mode = "blocking"              # default
    logging.max_buffer_size = "1M"         # default
    logging.drop = "oldest"                # default
    logging.on_full = "drop"               # default
    hooks.prestart = []                    # default
    hooks.createRuntime = []               # default
    hooks.createContainer = []             # default
    hooks.startContainer = []              # default
    hooks.poststart = []                   # default
    hooks.poststop = []                    # default
    lifecycle.pre_start = []               # default
    lifecycle.post_start = []              # default
    lifecycle.pre_stop = []                # default
    lifecycle.post_stop = []               # default
    on.exit = []                           # default
    on.failure = []                        # default
    on.oom = []                            # default
    on.health = []                         # default
    secrets = []                           # default
    "#);
}

#[test]
fn the_docs_are_the_key_tables() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let text = config::docs::markdown();
    if std::env::var_os("SAMPAN_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "docs/config.md is old: SAMPAN_WRITE_DOCS=1 cargo test -p sampan-config the_docs");
}

#[test]
fn the_manual_has_every_key_and_its_example_loads() {
    let page = config::manual::page("1");
    for (_, keys) in config::keys::SECTIONS {
        for key in keys.iter().filter(|key| key.stage == config::keys::Stage::Built) {
            let heading = format!("\n.B {}\n", key.path.replace('*', "NAME").replace('-', "\\-"));
            assert!(page.contains(&heading), "config.toml(5) has no {heading}");
        }
    }
    for section in ["NAME", "DESCRIPTION", "EXAMPLES", "FILES", "SEE ALSO"] {
        assert!(page.contains(&format!("\n.SH {section}\n")), "{section}");
    }
    let folder = Folder::new().with("config.toml", config::manual::EXAMPLE);
    assert_eq!(folder.config(&["config.toml"]).services.len(), 2);
    // A line that roff would take for a request of its own, or a name with a mark of Markdown.
    let requests = ["TH", "SH", "PP", "TP", "B", "BR", "br", "nf", "fi"];
    for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
        let request = line[1..].split(' ').next().unwrap_or_default();
        assert!(requests.contains(&request), "{line}");
    }
    assert!(!page.contains('`') && !page.contains("**") && page.contains("net.*"));
}

fn write(folder: &Folder, name: &str, text: &str) {
    std::fs::write(folder.path(name), text).unwrap();
}

/// What a worker that follows another has: not one of the files need be there any more.
#[test]
fn a_config_is_made_again_without_the_files_it_was_made_of() {
    let folder = Folder::new();
    write(&folder, "c.toml", "include = [\"part*.toml\", \"more.toml\"]\n[defaults]\nrootfs = \"root\"\n");
    write(&folder, "part1.toml", "[services.a]\ncommand = \"a ${NAME}\"\nenv_file = \"a.env\"\n");
    write(
        &folder,
        "more.toml",
        "[services.b]\ncommand = \"b\"\nvolumes = [\"./data:/data\"]\nenv_file = { path = \"no.env\", required = false }\n",
    );
    write(&folder, "a.env", "K=v\n");
    for made in ["root", "data"] {
        std::fs::create_dir(folder.path(made)).unwrap();
    }
    let loaded = folder.load(&["c.toml"]).unwrap();
    for gone in ["c.toml", "part1.toml", "more.toml", "a.env"] {
        std::fs::remove_file(folder.path(gone)).unwrap();
    }
    for gone in ["root", "data"] {
        std::fs::remove_dir(folder.path(gone)).unwrap();
    }
    // What was not there then is not there now.
    write(&folder, "no.env", "broken");
    write(&folder, "part2.toml", "broken");
    let again = sampan_config::again(&loaded.inputs).unwrap();
    assert_eq!(again.config, loaded.config);
    assert_eq!(again.config.services["a"].environment["K"], "v");
    assert_eq!(again.config.services["a"].argv(), ["a", "value"]);
}

#[test]
fn the_run_folder_is_found_in_a_file_with_mistakes() {
    let folder = Folder::new();
    let builtin = sampan_config::Builtin::default();
    let found = |text: &str| {
        write(&folder, "c.toml", text);
        sampan_config::run_dir(&[folder.path("c.toml")], &|_| None, &builtin)
    };
    let here = folder.path("run");
    let good = "[supervisor]\nrun_dir = \"run\"\n";
    assert_eq!(found(good), here);
    for more in [
        "[[[",
        "[services.a]\ncommand = ",
        "[supervisor]\n",
        "[services.a]\nno = \"key\"\n",
        "a = 99999999999999999999\n",
    ] {
        assert_eq!(found(&format!("{good}{more}")), here, "{more:?}");
    }
    assert_eq!(found(""), builtin.run_dir);
    assert_eq!(sampan_config::run_dir(&[folder.path("none.toml")], &|_| None, &builtin), builtin.run_dir);
}

/// A worker that follows another goes on as sampand began, whatever was applied since.
#[test]
fn what_lasts_is_taken_from_the_start() {
    use sampan_config::keys::{Applies, PLUGIN, SUPERVISOR, Stage};
    let of = |text: &str| Folder::new().with("c.toml", text).config(&["c.toml"]);
    let begun = of("[plugins.x]\npath = \"/x\"\n[plugins.gone]\npath = \"/gone\"\n");
    let other = of(
        "[supervisor]\nrun_dir = \"run\"\nstate_dir = \"state\"\nsocket = \"sock\"\nplugin_dir = \"plugins\"\n\
         cgroup_parent = \"/other\"\non_exit = \"keep\"\nshutdown_timeout = \"1s\"\nmax_parallel_starts = 9\n\
         restart_storm = { burst = 9, interval = \"9s\" }\nmetrics = \":9464\"\nadmin_group = \"root\"\nread_group = \"1\"\nlog_level = \"trace\"\nlog_format = \"json\"\n\
         [plugins.new]\npath = \"/new\"\n\
         [plugins.x]\nenabled = false\npath = \"/y\"\nconfig = { a = 1 }\nafter = [\"new\"]\nservices = [\"z\"]\n\
         required = true\ntimeout = \"1500us\"\nhard_timeout = \"1h1s\"\nopen_timeout = \"9s\"\ngrants = [\"user\"]\n",
    );
    let built =
        |keys: &[sampan_config::keys::Key]| keys.iter().filter(|key| key.stage == Stage::Built).count();
    let all = sampan_config::diff::diff(&begun, &other);
    assert_eq!(all.supervisor.len(), built(SUPERVISOR), "each key differs: {:?}", all.supervisor);
    let sampan_config::diff::Change::Live(plugin) = &all.plugins["x"] else { panic!("{:?}", all.plugins) };
    let differ: std::collections::BTreeSet<&str> =
        plugin.iter().filter_map(|field| field.key.split('.').next()).collect();
    assert_eq!(differ.len(), built(PLUGIN), "each key differs: {differ:?}");
    let there_and_back = |config: &sampan_config::Config| {
        serde_json::from_str(&serde_json::to_string(&config.lasting()).unwrap()).unwrap()
    };
    let mut now = other.clone();
    now.go_on_as(there_and_back(&begun));
    let left = sampan_config::diff::diff(&begun, &now);
    assert!(left.plugins.values().all(|change| *change == sampan_config::diff::Change::Nothing), "{left:?}");
    assert!(!left.supervisor.is_empty());
    assert!(left.supervisor.iter().all(|field| field.applies != Applies::Supervisor), "{left:?}");
    now.go_on_as(there_and_back(&other));
    assert_eq!(now, other, "what is written down is what is read");
}
