//! Plugins at work under a real sampand: the two examples, one that writes down what it sees, and three that go wrong.
use super::applied::another_worker;
use super::world::library;
use super::{LIVE, World};
use sampan_testkit::Folder;
use sampan_testkit::need;
use sampan_testkit::plugin::{C, watch};
use std::path::Path;
use std::process::Command;

fn compiler() -> bool {
    need::need("cc", Command::new("cc").arg("--version").output().is_ok())
}

/// A plugin's table in config.toml.
fn table(name: &str, path: &Path, more: &str) -> String {
    format!("[plugins.{name}]\npath = \"{}\"\n{more}\n", path.display())
}

fn plugin(world: &World, name: &str) -> sampan_api::PluginStatus {
    let all: Vec<sampan_api::PluginStatus> =
        serde_json::from_str(&world.ok(&["--json", "plugin", "list"])).unwrap();
    all.into_iter().find(|plugin| plugin.name == name).unwrap_or_else(|| panic!("no plugin {name}"))
}

#[test]
fn the_example_in_rust_marks_refuses_and_remembers() {
    let path = library("audit");
    if !need::need("libaudit.so (cargo build --workspace)", path.exists()) {
        return;
    }
    let audit = table("audit", &path, "config = { deny = [\"evil\"] }");
    let mut world = world!(
        "{audit}[services.good]\n{LIVE}[services.evil]\n{LIVE}restart = {{ max_attempts = 1 }}\n\
         [services.crash]\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\nrestart = \"no\"\n"
    );
    world.start();
    world.until_state("good", "running");
    world.until_state("evil", "failed");
    world.until_state("crash", "failed");
    let why = world.ok(&["why", "evil"]);
    assert!(why.contains("audit veto: denied by audit"), "{why}");
    let good = world.inspect("good");
    assert_eq!(
        good.owners.get("annotations/org.example.audited").map(String::as_str),
        Some("audit"),
        "{good:?}"
    );
    let bundle = std::fs::read_to_string(Path::new(&good.bundle.unwrap()).join("config.json")).unwrap();
    assert!(bundle.contains("org.example.audited"), "{bundle}");
    world.until("it saw the exit", |world| world.said().contains("code=3"));
    let audit = plugin(&world, "audit");
    assert_eq!((audit.state.as_str(), audit.errors), ("active", 0), "{audit:?}");
}

#[test]
fn the_example_in_c_sets_a_variable_and_sees_exits() {
    if !compiler() {
        return;
    }
    let dir = Folder::new();
    let watch = table("watch", &watch(&dir), "");
    let mut world = world!("{watch}[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    assert!(world.ok(&["exec", "a", "env"]).contains("WATCHED=1"));
    world.ok(&["restart", "a"]);
    world.until("it saw the exit", |world| {
        world.said().lines().any(|line| line.contains("exit") && line.contains("watch"))
    });
    assert!(world.ok(&["exec", "a", "env"]).contains("WATCHED=1"));
}

#[test]
fn every_transition_is_seen() {
    if !compiler() {
        return;
    }
    let dir = Folder::new();
    let call = r#"
trace("seer", r); return SP_OK;"#;
    let seer = table("seer", &C::new("seer", call).build(&dir), "");
    let trace = dir.0.join("trace");
    let seen = |service: &str| -> Vec<String> {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        let mine = text.lines().filter(|line| line.split_whitespace().nth(2) == Some(service));
        mine.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
    };
    let services = format!(
        "{seer}[services.a]\n{LIVE}[services.job]\ncommand = [\"/bin/true\"]\nrestart = \"no\"\n\
         [services.brief]\ncommand = [\"/bin/true\"]\nrestart = \"no\"\n\
         hooks.poststart = [{{ path = \"/bin/sh\", args = [\"sh\", \"-c\", \"sleep 0.5\"] }}]\n\
         [services.late]\n{LIVE}autostart = false\n"
    );
    let world = world!("{services}");
    let mut world = world.env("TRACE", &trace.display().to_string());
    world.start();
    world.until_state("a", "running");
    world.until_state("job", "stopped");
    world.ok(&["stop", "a"]);
    let life = ["create", "review", "attach", "start", "started"];
    world.until("the last event", |_| seen("a").last().is_some_and(|event| event == "removed"));
    assert_eq!(seen("a"), [&life[..], &["ready", "stop", "stopping", "exit", "detach", "removed"]].concat());
    world.until("the last event", |_| seen("job").last().is_some_and(|event| event == "removed"));
    // It may end before it is called ready.
    let job: Vec<String> = seen("job").into_iter().filter(|event| event != "ready").collect();
    assert_eq!(job, [&life[..], &["exit", "detach", "removed"]].concat());
    // The program of this one ends while its start is still being finished.
    world.until("the last event", |_| seen("brief").last().is_some_and(|event| event == "removed"));
    let brief: Vec<String> = seen("brief").into_iter().filter(|event| event != "ready").collect();
    assert_eq!(brief, [&life[..], &["exit", "detach", "removed"]].concat());

    // What changes while it runs is told when it holds.
    world.ok(&["start", "late"]);
    world.configure(&format!("{services}resources.pids = 77\n"));
    world.ok(&["apply"]);
    world.until("late's limits are changed", |_| seen("late").last().is_some_and(|event| event == "updated"));

    // A new worker tells its plugins what runs: attach once more, marked as a replay.
    world.ok(&["start", "late"]);
    world.until("late is attached", |_| seen("late").iter().any(|event| event == "started"));
    super::world::kill(world.worker().unwrap(), libc::SIGKILL);
    world.until("late is attached again", |_| {
        std::fs::read_to_string(&trace)
            .unwrap()
            .lines()
            .any(|line| line.starts_with("seer attach(replay) late"))
    });
    assert_eq!(world.inspect("late").status.generation, 1);
}

#[test]
fn a_plugin_that_panics_fails_one_request() {
    let path = library("fixture");
    if !need::need("libfixture.so (cargo build --workspace)", path.exists()) {
        return;
    }
    let fixture = table("fixture", &path, "on_error = \"ignore\"");
    let mut world = world!("{fixture}[services.a]\n{LIVE}[services.panics]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    // on_error = "ignore": the service starts without what the plugin would have said.
    world.until_state("panics", "running");
    let said = world.said();
    assert!(said.lines().any(|line| line.contains("fixture") && line.contains("at once")), "{said}");
    assert_eq!(plugin(&world, "fixture").state, "active");
    let version: sampan_api::Version = world.get("/v1/version").unwrap();
    assert_eq!(version.worker_lives, 1);
}

#[test]
fn a_plugin_asks_for_signals_starts_and_stops() {
    if !compiler() {
        return;
    }
    let dir = Folder::new();
    // A line for the log at each answer; each asks for the next.
    let asks = C {
        before: r#"static void ask(uint32_t op, uint64_t token, const char *args) { h->submit(cx, op, 0, token, B(args), NULL, 0); }
static void said(uint64_t token, int status) { char text[64]; snprintf(text, sizeof text, "answer %d status %d", (int)token, status); sp_log line = { .size = sizeof line, .level = 3, .message = B(text) }; h->log(cx, &line); }
"#,
        ..C::new(
            "asks",
            r#"if (r->event == SP_EV_STARTED && is(r, "boss")) ask(SP_OP_START, 1, "{\"service\":\"worker\"}");
               if (r->event == SP_EV_RESULT) { said(r->token, r->exit_code);
                 if (r->token == 1) ask(SP_OP_RESTART, 2, "{\"service\":\"worker\"}");
                 if (r->token == 2) ask(SP_OP_SIGNAL, 3, "{\"service\":\"worker\",\"signal\":\"USR1\"}");
                 if (r->token == 3) ask(SP_OP_SIGNAL, 4, "{\"service\":\"worker\",\"signal\":\"NONE\"}");
                 if (r->token == 4) ask(SP_OP_STOP, 5, "{\"service\":\"worker\"}");
                 if (r->token == 5) ask(SP_OP_STOP, 6, "{\"service\":\"nobody\"}"); }
               return SP_OK;"#,
        )
    };
    let asks = table("asks", &asks.build(&dir), "");
    let mut world = world!("{asks}[services.boss]\n{LIVE}[services.worker]\n{LIVE}autostart = false\n");
    world.start();
    world.until("the last answer is there", |world| world.said().contains("answer 6"));
    let said = world.said();
    for line in ["1 status 0", "2 status 0", "3 status 0", "4 status -1", "5 status 0", "6 status -1"] {
        assert!(said.contains(&format!("answer {line}")), "{line}: {said}");
    }
    assert_eq!(world.inspect("worker").status.state, "stopped");
    assert_eq!(world.inspect("boss").status.state, "running");
}

#[test]
fn a_plugin_that_hangs_is_disabled_and_named() {
    if !compiler() {
        return;
    }
    let dir = Folder::new();
    let hangs =
        C::new("hangs", r#"if (r->event == SP_EV_CREATE && is(r, "bad")) for (;;) pause(); return SP_OK;"#);
    let hangs = table("hangs", &hangs.build(&dir), "timeout = \"300ms\"\nhard_timeout = \"1s\"");
    let mut world = world!("{hangs}[services.a]\n{LIVE}[services.bad]\n{LIVE}autostart = false\n");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    world.ok(&["start", "bad"]);
    assert_eq!(world.inspect("bad").status.state, "running", "it is not required");
    world.until("it is disabled", |world| plugin(world, "hangs").state == "disabled");
    let hangs = plugin(&world, "hangs");
    assert!(hangs.reason.contains("timeouts in a row"), "{hangs:?}");
    assert!(world.said().contains("plugin hangs"), "{}", world.said());
    assert_eq!(world.pid("a"), a);
    world.ok(&["restart", "a"]);
}

#[test]
fn a_plugin_that_segfaults_is_left_out_and_named() {
    if !compiler() {
        return;
    }
    let dir = Folder::new();
    let bad = C::new(
        "bad",
        r#"if (r->event == SP_EV_CREATE && is(r, "boom")) *(volatile int *)0 = 1; return SP_OK;"#,
    );
    let bad = table("bad", &bad.build(&dir), "");
    let mut world = world!("{bad}[services.a]\n{LIVE}[services.boom]\n{LIVE}autostart = false\n");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    world.ctl(&["start", "boom", "-d"]);
    // The worker dies of it, the next one knows why and does without the plugin.
    world.until_state("boom", "running");
    assert_eq!((world.pid("a"), world.processes("a")), (a, vec![a]));
    let bad = plugin(&world, "bad");
    assert_eq!(bad.state, "absent", "{bad:?}");
    assert!(
        bad.reason.starts_with("quarantined")
            && bad.reason.contains("SIGSEGV")
            && bad.reason.contains("create"),
        "{bad:?}"
    );
    let version: sampan_api::Version = world.get("/v1/version").unwrap();
    assert_eq!(version.worker_lives, 2);
    let said = world.ok(&["plugin", "reset", "bad"]);
    assert!(said.contains("not quarantined any more"), "{said}");
    let worker = rustix::process::Pid::from_raw(version.worker_pid).unwrap();
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
    world.until("the next worker is there", |world| world.ctl(&["version"]).code == 0);
    let version: sampan_api::Version = world.get("/v1/version").unwrap();
    assert_eq!(version.worker_lives, 3);
    world.until("it is loaded again", |world| plugin(world, "bad").state == "active");
    assert_eq!(world.pid("a"), a);
}

/// What is said to hold at sampand's next start does not come with a worker that dies.
#[test]
fn what_an_apply_changes_of_plugins_holds_at_sampand_s_next_start_and_no_earlier() {
    let path = library("audit");
    if !need::need("libaudit.so (cargo build --workspace)", path.exists()) {
        return;
    }
    let denied = "restart = { max_attempts = 1 }\nautostart = false\n";
    let config = |table: &str| format!("{table}[services.a]\n{LIVE}{denied}[services.b]\n{LIVE}{denied}");
    let audit = |deny: &str| table("audit", &path, &format!("config = {{ deny = [\"{deny}\"] }}"));
    let mut world = world!("{}", config(&audit("a")));
    world.start();
    let denies = |world: &World, name: &str, other: &str| {
        assert_ne!(world.ctl(&["start", name]).code, 0, "{name} is denied");
        world.until_state(name, "failed");
        world.ok(&["start", other]);
        world.until_state(other, "running");
        world.ok(&["stop", other]);
    };
    denies(&world, "a", "b");
    for changed in [audit("b"), String::new()] {
        world.configure(&config(&changed));
        world.ok(&["apply"]);
        another_worker(&world);
        denies(&world, "a", "b");
    }
    world.configure(&config(&audit("b")));
    assert_eq!(world.interrupt(), Some(0));
    world.start();
    denies(&world, "b", "a");
}
