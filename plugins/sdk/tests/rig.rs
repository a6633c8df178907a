//! A plugin in Rust seen through the C table.
use sampan_plugin::abi;
use sampan_plugin::prelude::*;
use sampan_plugin::testing::{Event, Rig};
use sampan_plugin::{Whom, Wish};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Cfg {
    #[serde(default)]
    deny: Vec<String>,
    #[serde(default)]
    retries: u32,
}

/// Does something of everything; what it does in `create` depends on the service's name.
struct Sample {
    cfg: Cfg,
    host: Host,
    exits: Counter,
    seen: AtomicUsize,
}

#[async_trait]
impl Plugin for Sample {
    const NAME: &'static str = "sample";
    const AFTER: &'static [&'static str] = &["network"];
    const CLAIMS: &'static [&'static str] = &["stdio"];
    type Config = Cfg;

    async fn open(cfg: Cfg, host: Host) -> Result<Self> {
        if cfg.retries == 13 {
            panic!("thirteen");
        }
        host.put(Container::HOST, "opened", &cfg.retries).await?;
        let exits = host.counter("exits", "container exits")?;
        Ok(Sample { cfg, host, exits, seen: AtomicUsize::new(0) })
    }

    async fn synchronize(&self, _: &Cx, ev: Synchronize) -> Result<()> {
        self.seen.store(ev.containers.len() * 100 + ev.kept.len(), Ordering::Relaxed);
        for kept in ev.kept {
            tracing::info!(key = kept.key, container = kept.container_id, "kept");
        }
        Ok(())
    }

    async fn create(&self, cx: &Cx, ev: Create) -> Result<Adjust> {
        match cx.service() {
            name if self.cfg.deny.iter().any(|d| d == name) => return Err(Error::veto("denied")),
            "panics" => panic!("in create"),
            "panics-later" => {
                tokio::task::yield_now().await;
                panic!("later");
            }
            "task-panics" => tokio::spawn(async { panic!("in a task") }).await?,
            "fuse" => {
                let fuse = json!({ "type": "c", "major": 10, "minor": 229 });
                return Ok(Adjust::new().device("/dev/fuse", fuse));
            }
            "network" => return Ok(Adjust::new().claim("network")),
            "relative" => return Ok(Adjust::new().mount("data", "tmpfs", "tmpfs", &[])),
            "sleeps" => tokio::time::sleep(Duration::from_millis(50)).await,
            "hangs" => std::future::pending().await,
            "cleans-up" => {
                cx.cancelled().await;
                return Err(Error::new("cleaned up"));
            }
            _ => {}
        }
        Ok(Adjust::new().env("ATTEMPT", ev.attempt.to_string()).claim("stdio"))
    }

    async fn attach(&self, cx: &Cx, ev: Attach) -> Result<()> {
        if let Ok(stdout) = cx.fd(Role::Stdout) {
            self.host.keep_fd(cx, "stdout", stdout)?;
        }
        tracing::info!(replay = ev.replay, "attach");
        Ok(())
    }

    async fn exit(&self, cx: &Cx, ev: Exit) -> Result<()> {
        let _span = tracing::info_span!("exiting").entered();
        tracing::warn!(code = ev.code, oom = ev.oom, "exit");
        drop(_span);
        self.exits.add(cx, 1.0);
        if ev.code == 137 {
            self.host.ask(cx.container(), Wish::Restart).await?;
            self.host.ask(Whom::Service("pager".into()), Wish::Signal(10)).await?;
        }
        self.host.put(cx.container(), "last", &ev).await
    }

    async fn detach(&self, cx: &Cx, _: Detach) -> Result<()> {
        self.host.drop_fd(cx, "stdout")
    }

    async fn control(&self, _: &Cx, ev: Control) -> Result<Reply> {
        let (reader, mut writer) = std::io::pipe()?;
        std::io::Write::write_all(&mut writer, ev.request.to_string().as_bytes())?;
        Ok(Reply::json(json!({ "seen": self.seen.load(Ordering::Relaxed) })).fd(reader))
    }

    async fn timer(&self, _: &Cx, ev: Timer) -> Result<()> {
        self.host.put_nowait(Container::HOST, "timer", &ev.token)
    }

    fn close(&self, _: CloseReason) {
        if self.cfg.retries == 14 {
            panic!("in close");
        }
    }
}

fn rig() -> Rig {
    Rig::new::<Sample>(json!({ "deny": ["evil"] })).unwrap()
}

fn create(service: &str) -> Event {
    Event::new(abi::EV_CREATE).of(service).body(json!({ "attempt": 2 }))
}

fn status(result: Result<sampan_plugin::testing::Answered>) -> (i32, String) {
    let error = result.unwrap_err();
    (error.status(), error.to_string())
}

#[test]
fn what_a_plugin_asks_of_the_supervisor_is_seen() {
    let rig = rig();
    rig.fire(create("web")).unwrap();
    assert!(rig.asked().is_empty());
    rig.fire(Event::new(abi::EV_EXIT).of("web").exit(137, 9).flags(abi::F_OOM)).unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while rig.asked().len() < 2 && Instant::now() < until {
        rig.deliver();
    }
    assert_eq!(rig.asked(), [(Wish::Restart, "web".into()), (Wish::Signal(10), "pager".into())]);
}

#[test]
fn a_life_from_create_to_removed_leaves_its_marks() {
    let rig = rig();
    assert_eq!(
        rig.lifecycle("web").unwrap(),
        json!({ "adjust": { "env": { "ATTEMPT": "0" } }, "claims": ["stdio"] })
    );
    assert_eq!(rig.metric("exits"), Some(1.0));
    assert_eq!(rig.kv("", "opened"), Some(json!(0)));
    let exit = rig.logs().into_iter().find(|line| line.message == "exit").unwrap();
    assert_eq!((exit.level, exit.fields), (2, json!({ "code": 0, "oom": false })));
    assert_ne!(exit.container, Container::HOST);
}

#[test]
fn what_was_put_is_there_when_the_handler_is_done() {
    let rig = rig();
    rig.fire(
        Event::new(abi::EV_EXIT).of("web").exit(3, 0).flags(abi::F_OOM).body(json!({ "runtime_ms": 9 })),
    )
    .unwrap();
    let last = rig.kv("web", "last").unwrap();
    assert_eq!((&last["code"], &last["oom"], &last["runtime_ms"]), (&json!(3), &json!(true), &json!(9)));
}

#[test]
fn a_veto_is_not_a_failure() {
    assert_eq!(status(rig().fire(create("evil"))), (abi::E_VETO, "denied".to_owned()));
}

#[test]
fn a_panic_fails_one_request_and_says_where() {
    let rig = rig();
    for (service, text) in [("panics", "in create"), ("panics-later", "later")] {
        let (status, message) = status(rig.fire(create(service)));
        assert_eq!(status, abi::E_PANIC);
        assert!(message.contains(text) && message.contains("tests/rig.rs:"), "{message}");
    }
    rig.fire(create("web")).unwrap();
}

#[test]
fn a_panic_in_a_task_is_an_error_line_and_the_failure_of_who_waited_for_it() {
    let rig = rig();
    let (status, message) = status(rig.fire(create("task-panics")));
    assert_eq!(status, abi::E_FAIL, "{message}");
    assert!(message.contains("in a task"), "{message}");
    rig.fire(create("web")).unwrap();
}

#[test]
fn a_panic_in_open_or_close_stays_inside() {
    let error = Rig::new::<Sample>(json!({ "retries": 13 })).err().unwrap();
    assert!(error.status() == abi::E_PANIC && error.to_string().contains("thirteen"), "{error}");
    let rig = Rig::new::<Sample>(json!({ "retries": 14 })).unwrap();
    drop(rig);
}

#[test]
fn a_config_error_names_its_place_and_the_nearest_key() {
    let text = |config| Rig::new::<Sample>(config).err().unwrap().to_string();
    assert_eq!(text(json!({ "retries": "x" })), r#"config.retries: invalid type: string "x", expected u32"#);
    let unknown = text(json!({ "retires": 1 }));
    assert!(unknown.ends_with(r#"did you mean "retries"?"#), "{unknown}");
}

#[test]
fn an_event_without_a_handler_is_asked_for_once() {
    let rig = rig();
    let bit = 1 << abi::EV_REVIEW;
    assert_ne!(rig.subscribed() & bit, 0);
    rig.fire(Event::new(abi::EV_REVIEW).of("web")).unwrap();
    assert_eq!(rig.subscribed() & bit, 0);
    assert_ne!(rig.subscribed() & (1 << abi::EV_CREATE), 0);
}

#[test]
fn a_cancelled_handler_is_dropped_or_ends_by_itself() {
    let rig = rig();
    for (service, expected) in [
        ("hangs", (abi::E_CANCELLED, "cancelled at its deadline")),
        ("cleans-up", (abi::E_FAIL, "cleaned up")),
    ] {
        let pending = rig.start(create(service)).unwrap();
        assert!(!pending.is_done());
        rig.cancel(&pending);
        let (code, text) = status(pending.wait());
        assert_eq!((code, text.as_str()), expected);
    }
}

#[test]
fn a_thousand_requests_wait_at_once_on_one_extra_thread() {
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter(|task| {
                let comm = task.as_ref().unwrap().path().join("comm");
                std::fs::read_to_string(comm).unwrap_or_default() == "sample-rt\n"
            })
            .count()
    };
    let rig = rig();
    let before = Instant::now();
    let pending: Vec<_> = (0..1000).map(|_| rig.start(create("sleeps")).unwrap()).collect();
    let running = threads();
    for one in pending {
        one.wait().unwrap();
    }
    assert!(before.elapsed() < Duration::from_secs(20));
    // Other tests of this process may have a rig of their own; nextest runs each test alone.
    if std::env::var_os("NEXTEST").is_some() {
        assert_eq!(running, 1);
    }
}

#[test]
fn descriptors_go_in_and_out() {
    let rig = rig();
    let (_, writer) = std::io::pipe().unwrap();
    rig.fire(create("web")).unwrap();
    rig.fire(Event::new(abi::EV_ATTACH).of("web").fd(Role::Stdout, OwnedFd::from(writer))).unwrap();
    assert_eq!(rig.kept(), [("web".to_owned(), "stdout".to_owned())]);
    let mut answer = rig.fire(Event::new(abi::EV_CONTROL).body(json!({ "verb": "read" }))).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(answer.fds.pop().unwrap()), &mut text).unwrap();
    assert_eq!(text, r#"{"verb":"read"}"#);
}

#[test]
fn after_a_crash_synchronize_lists_what_lives_and_what_was_kept() {
    let rig = rig();
    let (_, writer) = std::io::pipe().unwrap();
    rig.fire(create("web")).unwrap();
    rig.fire(Event::new(abi::EV_ATTACH).of("web").fd(Role::Stdout, OwnedFd::from(writer))).unwrap();
    rig.crash_and_reopen().unwrap();
    let answer = rig.fire(Event::new(abi::EV_CONTROL)).unwrap();
    assert_eq!(answer.json, json!({ "seen": 101 }));
}

#[test]
fn a_timer_fires_with_its_token() {
    let rig = rig();
    let mut event = Event::new(abi::EV_TIMER);
    event.token = 77;
    rig.fire(event).unwrap();
    assert_eq!(rig.kv("", "timer"), Some(json!(77)));
}

#[test]
fn the_manifest_has_the_order_the_claims_and_the_schema() {
    let (name, version, manifest) = rig().identity();
    assert_eq!((name.as_str(), version.as_str()), ("sample", "0.1.0"));
    assert_eq!((&manifest["after"], &manifest["claims"]), (&json!(["network"]), &json!(["stdio"])));
    assert_eq!(manifest["schema"]["properties"]["retries"]["type"], "integer");
}

#[test]
fn the_rig_drives_a_library_in_c() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("libwatch.so");
    let built = std::process::Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-I"])
        .args([
            root.join("include"),
            root.join("../../examples/plugin-c/watch.c"),
            "-o".into(),
            library.clone(),
        ])
        .status()
        .unwrap();
    assert!(built.success());
    let rig = Rig::load(&library, json!({})).unwrap();
    assert_eq!(rig.identity().0, "watch");
    assert_eq!(rig.lifecycle("web").unwrap(), json!({ "adjust": { "env": { "WATCHED": "1" } } }));
    assert_eq!(rig.metric("exits"), Some(1.0));
    rig.fire(Event::new(abi::EV_EXIT).of("web").flags(abi::F_OOM)).unwrap();
    assert_eq!(rig.logs().last().unwrap().message, "out of memory");
    rig.crash_and_reopen().unwrap();
    rig.lifecycle("web").unwrap();
}

/// What sampand refuses the rig refuses, in the same words.
#[test]
fn an_answer_that_sampand_would_refuse_fails() {
    let rig = Rig::new::<Sample>(json!({})).unwrap();
    let refused = |service: &str| rig.lifecycle(service).unwrap_err().to_string();
    assert_eq!(
        refused("fuse"),
        "it may not set devices//dev/fuse: that needs grants = [\"devices\"] in its table of config.toml"
    );
    assert_eq!(refused("network"), "it claims network, which its manifest does not say");
    rig.with_grants(&["devices"]).lifecycle("fuse").unwrap();
    let rig = Rig::new::<Sample>(json!({})).unwrap();
    let refused = |service: &str| rig.lifecycle(service).unwrap_err().to_string();
    assert_eq!(refused("relative"), "its answer is not valid: mounts/data: not an absolute path");
}
