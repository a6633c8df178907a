//! A plugin that kills the worker is named and left out (row 9). The worker is this test binary, run once more.
use super::*;
use sampan_testkit::Folder;
use sampan_testkit::plugin::C;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

/// How a plugin may end the process; `create` of a service of that name does it.
const CRASHES: &str = r#"
    if (r->event != SP_EV_CREATE) return SP_OK;
    if (is(r, "null")) *(volatile int *)0 = 1;
    if (is(r, "libc")) memset((void *)(uintptr_t)r->id, 1, 64);
    if (is(r, "abort")) abort();
    if (is(r, "deep")) return deep(1000000000) ? SP_OK : SP_E_FAIL;
    if (is(r, "thread")) { pthread_t t; pthread_create(&t, NULL, own, NULL); for (;;) pause(); }
    if (is(r, "kill")) { kill(getpid(), SIGKILL); for (;;) pause(); }
    return SP_OK;"#;
const BEFORE: &str = r#"
static void *own(void *arg) { (void)arg; *(volatile int *)0 = 1; return NULL; }
static __attribute__((noinline)) int deep(int n) { volatile char pad[4096]; pad[0] = (char)n; return n ? deep(n - 1) + pad[0] : 1; }
"#;

fn bad(dir: &Folder) -> PathBuf {
    C { before: BEFORE, ..C::new("bad", CRASHES) }.build(dir)
}

/// The worker's part, run by `crash` below with the page's descriptor in the environment.
#[test]
#[ignore = "run by the other tests of this file"]
fn worker() {
    let Ok(how) = std::env::var("CRASH_HOW") else { return };
    let dir = std::mem::ManuallyDrop::new(Folder(std::env::var("CRASH_DIR").unwrap().into()));
    let page: i32 = std::env::var("CRASH_PAGE").unwrap().parse().unwrap();
    let keep = Keep::default();
    // SAFETY: inherited from the parent for this.
    keep.keep("plugins/page", Some(unsafe { BorrowedFd::borrow_raw(page) })).unwrap();
    let world = std::mem::ManuallyDrop::new(World { dir: Folder(dir.0.clone()), keep: Arc::new(keep) });
    run(async {
        let plugins = world
            .with(&[config("good", &dir.0.join("libgood.so")), config("bad", &dir.0.join("libbad.so"))])
            .await;
        let _ = create(&plugins, &how).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
}

/// Runs a worker that dies, and returns its signal and what the next one says.
fn crash(how: &str) -> (Option<i32>, Vec<String>) {
    let world = World::new();
    bad(&world.dir);
    C::new("good", "return SP_OK;").build(&world.dir);
    let configs =
        [config("good", &world.dir.0.join("libgood.so")), config("bad", &world.dir.0.join("libbad.so"))];
    // The page is made here, as the keel would hold it.
    let first = run(world.open(&configs));
    assert_eq!(first.failures, []);
    let page = world.keep.fetch("plugins/page").unwrap().unwrap();
    let number = page.as_raw_fd();
    let mut worker = Command::new(std::env::current_exe().unwrap());
    worker
        .args(["--ignored", "--exact", "crash::worker", "--test-threads", "1"])
        .env("CRASH_HOW", how)
        .env("CRASH_DIR", &world.dir.0)
        .env("CRASH_PAGE", "100")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    // SAFETY: only dup2 and prctl, which are async-signal-safe.
    unsafe {
        worker.pre_exec(move || {
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            if libc::dup2(number, 100) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    let status = worker.status().unwrap();
    let next = run(world.open(&configs));
    let said = next.failures.iter().map(Failure::to_string).collect();
    assert!(next.plugins.names().contains(&"good"));
    // A third worker, and then a reset.
    if !next.failures.is_empty() {
        assert_eq!(run(world.open(&configs)).failures, next.failures);
        assert!(next.plugins.reset("bad"));
        assert_eq!(run(world.open(&configs)).failures, []);
    }
    (status.signal(), said)
}

fn check(how: &str, signal: i32, evidence: &str) {
    let (died, said) = crash(how);
    assert_eq!(died, Some(signal), "{how}");
    let name = nix::sys::signal::Signal::try_from(signal).unwrap();
    let expected = format!(
        "plugin bad: quarantined: it crashed sampand by {name} in create ({evidence}); a new file or a reset brings it back"
    );
    assert_eq!(said, [expected], "{how}");
}

#[test]
fn a_null_write_is_blamed() {
    check("null", libc::SIGSEGV, "on its own thread");
}

#[test]
fn a_fault_in_libc_is_blamed_on_the_caller() {
    check("libc", libc::SIGSEGV, "on its own thread");
}

#[test]
fn an_abort_is_blamed() {
    check("abort", libc::SIGABRT, "on its own thread");
}

#[test]
fn a_stack_overflow_is_blamed() {
    check("deep", libc::SIGSEGV, "on its own thread");
}

#[test]
fn a_fault_on_a_thread_that_it_started_is_blamed() {
    check("thread", libc::SIGSEGV, "in its code");
}

#[test]
fn kill_9_blames_nobody() {
    assert_eq!(crash("kill"), (Some(libc::SIGKILL), vec![]));
}

#[test]
fn a_new_file_gets_a_new_chance() {
    let world = World::new();
    let path = bad(&world.dir);
    std::fs::create_dir_all(world.state_dir()).unwrap();
    let entry = |sha: &str| json!({ "bad": { "sha256": sha, "why": "it crashed" } }).to_string();
    let sha = String::from_utf8(Command::new("sha256sum").arg(&path).output().unwrap().stdout).unwrap();
    std::fs::write(world.state_dir().join("quarantine.json"), entry(sha.split(' ').next().unwrap())).unwrap();
    let refused = run(world.open(&[config("bad", &path)])).failures.remove(0).to_string();
    assert_eq!(refused, "plugin bad: quarantined: it crashed; a new file or a reset brings it back");
    std::fs::write(world.state_dir().join("quarantine.json"), entry("0")).unwrap();
    assert_eq!(run(world.open(&[config("bad", &path)])).failures, []);
}
