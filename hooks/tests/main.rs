//! A hook's promises, each as a sentence and a line: a small shell script is the hook.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sampan_hooks::{Cause, Hook, Hooks, Kind, OnFailure, Output, Place, Run, run_all};

fn sh(script: &str) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-c".into(), script.into()],
        env: vec!["PATH=/usr/bin:/bin".into()],
        timeout: Some(20),
    }
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sampan-hooks-{}-{name}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn run(hook: &Hook) -> Result<(), sampan_hooks::Error> {
    hook.run_blocking(Kind::CreateRuntime, 1, br#"{"id":"c1","status":"creating"}"#)
}

fn error(hook: &Hook) -> String {
    run(hook).unwrap_err().to_string()
}

#[test]
fn the_state_is_on_stdin() {
    let file = scratch("stdin");
    run(&sh(&format!("cat > {}", file.display()))).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), r#"{"id":"c1","status":"creating"}"#);
    fs::remove_file(file).unwrap();
}

#[test]
fn a_hook_that_never_reads_its_stdin_does_not_hold_us_up() {
    let state = vec![b'x'; 4 << 20];
    sh("exit 0").run_blocking(Kind::Prestart, 0, &state).unwrap();
}

#[test]
fn without_an_environment_it_has_ours() {
    let hook = Hook {
        env: Vec::new(),
        ..sh(
            "test -n \"$PATH\" && test \"$PATH\" = \"$(tr '\\0' '\\n' </proc/$PPID/environ | sed -n s/^PATH=//p)\"",
        )
    };
    run_all(
        &Hooks { prestart: vec![hook], ..Hooks::default() },
        Kind::Prestart,
        b"{}",
        None,
        Output::Tail,
        |_| {},
    )
    .unwrap();
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
    assert!(e.output.len() <= 2 * sampan_hooks::run::OUTPUT_BYTES_MAX);
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
    fs::remove_file(file).unwrap();
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
    fs::remove_file(file).unwrap();
}

#[test]
fn a_failed_hook_leaves_nothing_behind() {
    let file = scratch("left");
    run(&sh(&format!("sleep 78 & echo $! > {}; exit 1", file.display()))).unwrap_err();
    assert!(gone(fs::read_to_string(&file).unwrap().trim()));
    fs::remove_file(file).unwrap();
}

#[test]
fn endless_output_does_not_hide_the_deadline() {
    let hook =
        Hook { timeout: Some(1), ..sh("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done") };
    assert!(matches!(run(&hook).unwrap_err().cause, Cause::Timeout(_)));
}

#[test]
fn output_can_go_to_the_callers_descriptor() {
    let path = scratch("log");
    let file = fs::File::create(&path).unwrap();
    let hook = sh("echo out; echo err >&2; exit 2");
    let e = sampan_hooks::run::run(&Run {
        prepare: |_| {},
        kind: Kind::Poststop,
        index: 0,
        hook: &hook,
        state: b"{}",
        cwd: Some("/".as_ref()),
        output: Output::To(file.as_fd()),
    });
    assert_eq!(e.unwrap_err().to_string(), "hooks.poststop[0]: /bin/sh exited with 2");
    assert_eq!(fs::read_to_string(&path).unwrap(), "out\nerr\n");
    fs::remove_file(path).unwrap();
}

#[test]
fn the_first_failure_stops_a_kind_that_aborts() {
    let file = scratch("abort");
    let hooks =
        Hooks { prestart: vec![sh("exit 1"), sh(&format!("touch {}", file.display()))], ..Hooks::default() };
    assert!(run_all(&hooks, Kind::Prestart, b"{}", None, Output::Tail, |_| {}).is_err());
    assert!(!file.exists());
}

#[test]
fn poststop_warns_and_goes_on() {
    let file = scratch("warn");
    let hooks =
        Hooks { poststop: vec![sh("exit 1"), sh(&format!("touch {}", file.display()))], ..Hooks::default() };
    let warnings = run_all(&hooks, Kind::Poststop, b"{}", None, Output::Tail, |_| {}).unwrap();
    assert_eq!(warnings.len(), 1);
    fs::remove_file(file).unwrap();
}

#[test]
fn only_poststop_lets_the_verb_go_on() {
    for kind in Kind::ALL {
        let expected = if kind == Kind::Poststop { OnFailure::Warn } else { OnFailure::Abort };
        assert_eq!(kind.on_failure(), expected, "{kind}");
    }
}

#[test]
fn two_kinds_run_inside_the_container() {
    let inside: Vec<_> =
        Kind::ALL.into_iter().filter(|k| k.place() == Place::Container).map(Kind::name).collect();
    assert_eq!(inside, ["createContainer", "startContainer"]);
}

#[test]
fn hooks_are_read_as_go_writes_them() {
    let hooks: Hooks = serde_json::from_str(
        r#"{"prestart":null,"createRuntime":[{"path":"/bin/a","args":null,"env":null,"timeout":5,"new":1}],"x":1}"#,
    )
    .unwrap();
    assert_eq!(hooks.create_runtime[0].limit(), Some(Duration::from_secs(5)));
    assert!(hooks.prestart.is_empty() && !hooks.is_empty());
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
