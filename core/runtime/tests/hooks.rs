//! A hook's promises, each as a sentence and a line: a small shell script is the hook.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sampan_hooks::{Cause, Hook, Hooks, Kind};
use sampan_runtime::launch::hooks::{HookRunner, Which, run as run_one, run_all};
use sampan_runtime::launch::printed::{LOG_BYTES_MAX, TAIL_BYTES_MAX};
use sampan_runtime::launch::spawn::Direct;
use sampan_runtime::store::state::State;
use sampan_testkit::{Folder, need};

use crate::sampan::Root;

fn sh(script: &str) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-c".into(), script.into()],
        env: vec!["PATH=/usr/bin:/bin".into()],
        timeout: Some(20),
    }
}

/// The place of a file that goes with its test.
struct Scratch {
    _folder: Folder,
    file: PathBuf,
}

impl std::ops::Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.file
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.file
    }
}

fn scratch(name: &str) -> Scratch {
    let folder = Folder::new();
    Scratch { file: folder.path(name), _folder: folder }
}

const ABOUT: &[u8] = br#"{"id":"c1","status":"creating"}"#;

fn run(hook: &Hook) -> Result<(), sampan_hooks::Error> {
    run_with(hook, ABOUT, &mut HookRunner::new(&mut Direct))
}

fn run_with(hook: &Hook, about: &[u8], runner: &mut HookRunner<'_>) -> Result<(), sampan_hooks::Error> {
    run_one(&Which { kind: Kind::CreateRuntime, index: 1, hook }, about, Path::new("/"), runner, &mut || ())
}

fn error(hook: &Hook) -> String {
    run(hook).unwrap_err().to_string()
}

#[test]
fn the_state_is_on_stdin() {
    let file = scratch("stdin");
    run(&sh(&format!("cat > {}", file.display()))).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), r#"{"id":"c1","status":"creating"}"#);
}

#[test]
fn a_hook_that_never_reads_its_stdin_does_not_hold_us_up() {
    let state = vec![b'x'; 4 << 20];
    run_with(&sh("exit 0"), &state, &mut HookRunner::new(&mut Direct)).unwrap();
}

#[test]
fn without_an_environment_it_has_ours() {
    let hook = Hook {
        env: Vec::new(),
        ..sh(
            "test -n \"$PATH\" && test \"$PATH\" = \"$(tr '\\0' '\\n' </proc/$PPID/environ | sed -n s/^PATH=//p)\"",
        )
    };
    run(&hook).unwrap();
}

#[test]
fn argv_and_environment_are_the_hooks_own() {
    let hook = Hook { env: vec!["A=1".into(), "PATH=/bin".into()], ..sh("echo $0:$A:$HOME; exit 1") };
    assert_eq!(error(&hook), "hooks.createRuntime[1]: /bin/sh exited with 1; it printed: sh:1:");
}

#[test]
fn an_absent_args_is_the_path_alone() {
    run(&Hook { path: "/bin/true".into(), ..Hook::default() }).unwrap();
}

#[test]
fn an_error_names_the_hook_its_code_and_what_it_printed() {
    assert_eq!(
        error(&sh("echo one; echo two >&2; exit 3")),
        "hooks.createRuntime[1]: /bin/sh exited with 3; it printed: one | two"
    );
}

#[test]
fn an_error_keeps_the_end_of_a_long_output() {
    let e = run(&sh("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 1")).unwrap_err();
    assert!(e.output.len() <= 2 * TAIL_BYTES_MAX);
    assert!(e.output.ends_with("line 2999"), "{}", e.output);
}

#[test]
fn a_signal_is_named() {
    assert_eq!(error(&sh("kill -TERM $$")), "hooks.createRuntime[1]: /bin/sh was killed by signal 15");
}

#[test]
fn a_missing_program_is_an_error_not_a_panic() {
    let e = error(&Hook { path: "/nonexistent/hook".into(), ..Hook::default() });
    assert_eq!(
        e,
        "hooks.createRuntime[1]: /nonexistent/hook cannot be started: No such file or directory (os error 2)"
    );
}

#[test]
fn a_relative_path_is_refused() {
    let e = error(&Hook { path: "true".into(), ..Hook::default() });
    assert_eq!(e, "hooks.createRuntime[1]: true cannot be started: the path must be absolute");
}

#[test]
fn the_whole_group_is_killed_at_the_deadline() {
    let file = scratch("group");
    let hook = Hook { timeout: Some(1), ..sh(&format!("sleep 77 & echo $! > {}; wait", file.display())) };
    let start = Instant::now();
    let e = run(&hook).unwrap_err();
    assert!(matches!(e.cause, Cause::Timeout(d) if d == Duration::from_secs(1)), "{e}");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(gone(fs::read_to_string(&file).unwrap().trim()));
}

#[test]
fn a_child_that_holds_the_pipe_does_not_hold_us_up() {
    let file = scratch("daemon");
    let start = Instant::now();
    run(&sh(&format!("sleep 15 & echo $! > {}; exit 0", file.display()))).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    let pid: i32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_failed_hook_leaves_nothing_behind() {
    let file = scratch("left");
    run(&sh(&format!("sleep 78 & echo $! > {}; exit 1", file.display()))).unwrap_err();
    assert!(gone(fs::read_to_string(&file).unwrap().trim()));
}

/// A script that starts `program` in a session of its own, as a daemon does: nobody's group, nobody's child.
fn daemon(program: &str, file: &Path) -> String {
    format!(
        "setsid sh -c '{program} & echo $! >{0}.new; mv {0}.new {0}' & wait; sleep 0.1; setsid {program} &",
        file.display()
    )
}

#[test]
fn a_failed_hook_leaves_nothing_behind_in_other_sessions_either() {
    let file = scratch("session");
    run(&sh(&format!("{} exit 1", daemon("sleep 79", &file)))).unwrap_err();
    assert!(gone(fs::read_to_string(&file).unwrap().trim()));
    assert_eq!(running("sleep\x0079\0"), 0);
}

#[test]
fn nor_one_that_is_over_its_time() {
    let file = scratch("late-session");
    let hook =
        Hook { timeout: Some(1), ..sh(&format!("{} exec setsid -w sleep 80", daemon("sleep 80", &file))) };
    let start = Instant::now();
    assert!(matches!(run(&hook).unwrap_err().cause, Cause::Timeout(_)));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(gone(fs::read_to_string(&file).unwrap().trim()));
    assert_eq!(running("sleep\x0080\0"), 0);
}

/// What v1's freezer holds does not die of SIGKILL, as little as what waits in the kernel for a dead disk.
#[test]
fn what_a_failed_hook_leaves_that_cannot_be_killed_holds_nobody_up() {
    struct Frozen(PathBuf);
    impl Drop for Frozen {
        fn drop(&mut self) {
            let _ = fs::write(self.0.join("freezer.state"), "THAWED");
            let until = Instant::now() + Duration::from_secs(5);
            while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    if !need::root() || !need::need("v1's freezer", freezer.is_dir()) {
        return;
    }
    let frozen = Frozen(freezer.join(format!("sampan-hook-{}", std::process::id())));
    fs::create_dir(&frozen.0).unwrap();
    let group = frozen.0.display();
    let script = format!(
        "sleep 83 & echo $! >{group}/cgroup.procs; echo FROZEN >{group}/freezer.state
         until grep -q FROZEN {group}/freezer.state; do sleep 0.01; done; exit 7"
    );
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(error(&Hook { timeout: None, ..sh(&script) })));
    let said = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(said, "hooks.createRuntime[1]: /bin/sh exited with 7");
}

#[test]
fn what_a_hook_leaves_that_does_well_runs_on() {
    let file = scratch("service");
    run(&sh(&format!("{} exit 0", daemon("sleep 81", &file)))).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while running("sleep\x0081\0") < 2 {
        assert!(Instant::now() < deadline, "a daemon is missing");
        std::thread::sleep(Duration::from_millis(10));
    }
    for pid in processes("sleep\x0081\0") {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

#[test]
fn a_hook_that_signals_its_own_group_ends_by_that() {
    assert_eq!(error(&sh("kill -KILL 0")), "hooks.createRuntime[1]: /bin/sh was killed by signal 9");
}

/// Processes with this command line, its words separated as procfs does.
pub fn processes(command: &str) -> Vec<rustix::process::Pid> {
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_one =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == command.as_bytes());
    all.filter(is_one).filter_map(rustix::process::Pid::from_raw).collect()
}

fn running(command: &str) -> usize {
    processes(command).len()
}

#[test]
fn endless_output_does_not_hide_the_deadline() {
    let hook =
        Hook { timeout: Some(1), ..sh("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done") };
    assert!(matches!(run(&hook).unwrap_err().cause, Cause::Timeout(_)));
}

/// What a hook printed, by lines of the log.
fn logged(hook: &Hook) -> String {
    let path = scratch("log");
    let file = fs::File::create(&path).unwrap();
    let _ = run_with(hook, ABOUT, &mut HookRunner { spawn: &mut Direct, log: Some(file.as_fd()) });
    fs::read_to_string(&path).unwrap()
}

#[test]
fn what_it_prints_is_logged_line_by_line_under_its_name() {
    assert_eq!(
        logged(&sh("echo out; echo err >&2; printf part; exit 2")),
        "createRuntime hook /bin/sh: out\ncreateRuntime hook /bin/sh: err\ncreateRuntime hook /bin/sh: part\n"
    );
}

#[test]
fn ten_megabytes_are_cut_in_the_log() {
    let text = logged(&sh("yes 0123456789 | head -c 10000000"));
    assert!(text.len() < LOG_BYTES_MAX + 200, "{}", text.len());
    assert!(text.trim_end().ends_with("bytes more, not logged)"), "{:?}", text.lines().last());
}

#[test]
fn a_log_that_nobody_reads_is_not_waited_for() {
    let (_read, write) = rustix::pipe::pipe().unwrap();
    rustix::io::ioctl_fionbio(&write, true).unwrap();
    let start = Instant::now();
    for _ in 0..3 {
        let mut runner = HookRunner { spawn: &mut Direct, log: Some(write.as_fd()) };
        run_with(&sh("yes 0123456789 | head -c 100000"), ABOUT, &mut runner).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// A container's folder whose state has these hooks.
fn with_hooks(name: &str, hooks: Hooks) -> (Root, sampan_runtime::store::dir::Folder, State) {
    let root = Root::new(name);
    let folder = sampan_runtime::store::dir::Root::new(Some(root.path())).unwrap().create("c").unwrap();
    let state = State { hooks, ..State::creating("c", "/".into()) };
    (root, folder, state)
}

#[test]
fn the_first_failure_stops_a_kind_that_aborts() {
    let file = scratch("abort");
    let hooks =
        Hooks { prestart: vec![sh("exit 1"), sh(&format!("touch {}", file.display()))], ..Hooks::default() };
    let (_root, folder, mut state) = with_hooks("hooks-abort", hooks);
    assert!(run_all(&mut state, Kind::Prestart, &folder, &mut HookRunner::new(&mut Direct)).is_err());
    assert!(!file.exists());
}

#[test]
fn poststop_warns_and_goes_on_and_each_runs_once() {
    let file = scratch("warn");
    let touch = sh(&format!("echo ran >> {}", file.display()));
    let hooks = Hooks { poststop: vec![sh("exit 1"), touch], ..Hooks::default() };
    let (_root, folder, mut state) = with_hooks("hooks-warn", hooks);
    let poststop = |state: &mut State| {
        run_all(state, Kind::Poststop, &folder, &mut HookRunner::new(&mut Direct)).unwrap().len()
    };
    assert_eq!(poststop(&mut state), 1);
    // As whoever goes on after a crash finds it.
    let mut found = State::load(&folder).unwrap().unwrap();
    assert_eq!((found.poststop_ended, poststop(&mut found)), (2, 0));
    assert_eq!(fs::read_to_string(&file).unwrap(), "ran\n");
}

/// A killed process is gone, or a zombie that its new parent has not reaped yet.
fn gone(pid: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return true,
            Ok(stat) if stat.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with('Z')) => {
                return true;
            }
            Ok(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    false
}
