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
    if (is(r, "hang")) { close(open(getenv("CRASH_HANGS"), O_CREAT | O_WRONLY, 0600)); for (;;) pause(); }
    return SP_OK;"#;
const BEFORE: &str = r#"
static void *own(void *arg) { (void)arg; *(volatile int *)0 = 1; return NULL; }
static __attribute__((constructor)) void loaded(void) { const char *how = getenv("CRASH_HOW"); if (how && !strcmp(how, "load")) abort(); }
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
        match how.as_str() {
            // The plugin is in a call, and has done nothing.
            "watchdog" | "watchdog-thread" | "worker" | "worker-abort" => {
                let hangs = PathBuf::from(std::env::var("CRASH_HANGS").unwrap());
                let beside = async {
                    eventually("the plugin is in a call", || hangs.exists()).await;
                    match how.as_str() {
                        // SAFETY: none; it is to crash.
                        "worker" => unsafe { std::ptr::null_mut::<i32>().write_volatile(1) },
                        "worker-abort" => std::process::abort(),
                        _ => std::future::pending().await,
                    }
                };
                let _ = tokio::join!(create(&plugins, "hang"), beside);
            }
            how => drop(create(&plugins, how).await),
        }
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
    let hangs = world.dir.0.join("hangs");
    let mut worker = worker.env("CRASH_HANGS", &hangs).spawn().unwrap();
    match how {
        "watchdog" => kill_once_it_hangs(&hangs, worker.id(), worker.id()),
        "watchdog-thread" => kill_once_it_hangs(&hangs, worker.id(), thread_of_bad(worker.id())),
        _ => {}
    }
    let status = worker.wait().unwrap();
    let next = run(world.open(&configs));
    let said = next.failures.iter().map(Failure::to_string).collect();
    assert!(next.plugins.names().contains(&"good"));
    // A third worker, and then a reset.
    if !next.failures.is_empty() {
        assert_eq!(run(world.open(&configs)).failures, next.failures);
        assert_eq!(next.plugins.reset("bad"), Ok(Reset::Unlocked));
        assert!(next.plugins.reset("bad").is_err(), "there is nothing left to reset");
        assert_eq!(run(world.open(&configs)).failures, []);
    }
    (status.signal(), said)
}

/// As the keel ends a worker whose loop does not turn.
fn kill_once_it_hangs(hangs: &Path, pid: u32, thread: u32) {
    run(eventually("the plugin is in a call", || hangs.exists()));
    let (pid, thread) = (pid as libc::pid_t, thread as libc::pid_t);
    // SAFETY: signals a child of ours that is not waited for yet.
    let sent = unsafe {
        match pid == thread {
            true => i64::from(libc::kill(pid, libc::SIGABRT)),
            false => libc::syscall(libc::SYS_tgkill, pid, thread, libc::SIGABRT),
        }
    };
    assert_eq!(sent, 0);
}

/// The thread of the plugin, found by its name.
fn thread_of_bad(pid: u32) -> u32 {
    let mut found = None;
    run(eventually("the plugin's thread is there", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let named =
            |path: &Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|c| c.trim() == "pl:bad");
        found = tasks.map(|task| task.path()).find(|path| named(path));
        found.is_some()
    }));
    found.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn check(how: &str, signal: i32, evidence: &str) {
    let (died, said) = crash(how);
    assert_eq!(died, Some(signal), "{how}");
    let name = nix::sys::signal::Signal::try_from(signal).unwrap();
    let expected = format!(
        "plugin bad: quarantined: it crashed sampand by {name} {evidence}; `sampanctl plugin reset bad` or a new file brings it back"
    );
    assert_eq!(said, [expected], "{how}");
}

#[test]
fn a_null_write_is_blamed() {
    check("null", libc::SIGSEGV, "in create (in a call of it)");
}

#[test]
fn a_fault_in_libc_is_blamed_on_the_caller() {
    check("libc", libc::SIGSEGV, "in create (in a call of it)");
}

#[test]
fn an_abort_is_blamed() {
    check("abort", libc::SIGABRT, "in create (in a call of it)");
}

#[test]
fn a_stack_overflow_is_blamed() {
    check("deep", libc::SIGSEGV, "in create (in a call of it)");
}

#[test]
fn a_fault_on_a_thread_that_it_started_is_blamed() {
    check("thread", libc::SIGSEGV, "(in its code)");
}

#[test]
fn kill_9_blames_nobody() {
    assert_eq!(crash("kill"), (Some(libc::SIGKILL), vec![]));
}

#[test]
fn a_crash_while_it_is_loaded_is_blamed() {
    let (died, said) = crash("load");
    assert_eq!(died, Some(libc::SIGABRT));
    let expected = "plugin bad: quarantined: it crashed sampand by SIGABRT in open (in a call of it); ";
    assert!(said[0].starts_with(expected), "{said:?}");
}

#[test]
fn the_watchdog_blames_nobody() {
    assert_eq!(crash("watchdog"), (Some(libc::SIGABRT), vec![]));
}

#[test]
fn a_signal_from_outside_blames_nobody_whichever_thread_it_meets() {
    assert_eq!(crash("watchdog-thread"), (Some(libc::SIGABRT), vec![]));
}

#[test]
fn a_fault_of_the_worker_is_not_the_fault_of_who_is_in_a_call() {
    assert_eq!(crash("worker"), (Some(libc::SIGSEGV), vec![]));
    assert_eq!(crash("worker-abort"), (Some(libc::SIGABRT), vec![]));
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
    assert_eq!(
        refused,
        "plugin bad: quarantined: it crashed; `sampanctl plugin reset bad` or a new file brings it back"
    );
    std::fs::write(world.state_dir().join("quarantine.json"), entry("0")).unwrap();
    assert_eq!(run(world.open(&[config("bad", &path)])).failures, []);
}
