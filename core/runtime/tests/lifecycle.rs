//! Each verb on real containers, in each state; and what stays behind: nothing.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sampan_testkit::{Bundle, need, terminal};

use crate::sampan::{Root, program, run};

/// A root and a bundle of their own; `None` where containers cannot be made.
fn here(name: &str, script: &str) -> Option<(Root, Bundle)> {
    if !need::root() || !need::busybox() {
        return None;
    }
    let mut bundle = Bundle::new(name).unwrap();
    bundle.script(script);
    bundle.write().unwrap();
    Some((Root::new(name), bundle))
}

fn dir(bundle: &Bundle) -> &str {
    bundle.path().to_str().unwrap()
}

/// A name that no other test's container, and so no cgroup, has.
fn unique(name: &str) -> String {
    format!("t{}-{name}", std::process::id())
}

fn status(root: &Root, id: &str) -> String {
    let state: serde_json::Value = serde_json::from_str(&root.ok(["state", id])).unwrap();
    state["status"].as_str().unwrap().to_owned()
}

pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a container of that name could have left behind, outside of its root folder.
pub fn leftovers(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().contains(id) {
                    found.push(entry.path().display().to_string());
                } else {
                    todo.push(entry.path());
                }
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|l| l.contains(id)).map(str::to_owned));
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        // A zombie is its new parent's to reap, and no process any more.
        if read("cgroup").contains(id) && !read("stat").contains(") Z ") {
            found.push(format!("process {}", entry.file_name().display()));
        }
    }
    found
}

#[test]
fn create_start_kill_delete() {
    let Some((root, bundle)) = here("life", "trap 'exit 3' TERM; while :; do sleep 0.05; done") else {
        return;
    };
    let id = &unique("life");
    let pid_file = root.path().join("../").join(format!("{id}.pid"));
    root.ok(["create", "--bundle", dir(&bundle), "--pid-file", pid_file.to_str().unwrap(), id]);
    assert_eq!(status(&root, id), "created");
    let pid = fs::read_to_string(&pid_file).unwrap();
    fs::remove_file(&pid_file).unwrap();
    assert!(pid.parse::<i32>().is_ok(), "{pid:?}");
    assert_eq!(
        root.err(["create", "-b", dir(&bundle), id]).1,
        format!("sampan: {id}: container with given ID already exists\n")
    );
    root.ok(["start", id]);
    assert_eq!(status(&root, id), "running");
    assert_eq!(
        root.err(["start", id]).1,
        format!("sampan: {id}: cannot start an already running container\n")
    );
    assert_eq!(
        root.err(["delete", id]).1,
        format!("sampan: {id}: cannot delete container {id} that is not stopped: running\n")
    );
    assert!(root.ok(["list", "-q"]).contains(id.as_str()));
    root.ok(["kill", id, "TERM"]);
    eventually("stopped", || status(&root, id) == "stopped");
    assert_eq!(root.err(["kill", id]).1, format!("sampan: {id}: container not running\n"));
    assert_eq!(
        root.err(["start", id]).1,
        format!("sampan: {id}: cannot start a container that has stopped\n")
    );
    root.ok(["delete", id]);
    assert_eq!(leftovers(id), [""; 0]);
}

#[test]
fn the_bundle_may_be_an_argument() {
    let Some((root, bundle)) = here("arg", "exit 0") else { return };
    let id = &unique("arg");
    root.ok(["create", id, dir(&bundle)]);
    root.ok(["delete", id]);
    assert_eq!(leftovers(id), [""; 0]);
}

#[test]
fn run_returns_the_programs_code_and_leaves_nothing() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$; sleep 5", 137), ("exit 255", 255)] {
        let Some((root, mut bundle)) = here("code", script) else { return };
        if code == 137 {
            bundle.without_pid_namespace().write().unwrap();
        }
        let id = &unique("code");
        assert_eq!(root.err(["run", "-b", dir(&bundle), id]), (code, String::new()), "{script}");
        assert_eq!(root.ok(["list", "-q"]), "");
        assert_eq!(leftovers(id), [""; 0]);
    }
}

/// config.md, Process: what cannot be granted must be logged as a warning.
#[test]
fn what_is_left_out_is_a_warning_for_those_who_ask() {
    let Some((root, mut bundle)) = here("warn", "true") else { return };
    let id = unique("warn");
    bundle.set("/process/capabilities/bounding", serde_json::json!(["CAP_KIL"]));
    bundle.write().unwrap();
    let args = ["run", "--bundle", dir(&bundle), &id];
    assert_eq!(root.err(args), (0, String::new()));
    let said = format!(
        "sampan: warning: {id}: process.capabilities.bounding[0]: unknown capability CAP_KIL is ignored; did you mean CAP_KILL?\n"
    );
    assert_eq!(root.err(["--log-level", "warning"].into_iter().chain(args)), (0, said));
}

/// A limit that this kernel or this version of control groups has not.
#[test]
fn a_limit_that_does_nothing_is_told_once() {
    let Some((root, mut bundle)) = here("nothing", "true") else { return };
    let id = unique("nothing");
    bundle.set("/linux/resources/memory", serde_json::json!({"kernel": 1 << 30}));
    bundle.write().unwrap();
    let args = ["--log-level", "warning", "run", "--bundle", dir(&bundle), &id];
    let says = "linux.resources.memory.kernel does nothing: kernels dropped it in 5.16";
    assert_eq!(root.err(args), (0, format!("sampan: warning: {says}\n")));
}

#[test]
fn stdio_is_ours_in_the_foreground() {
    let Some((root, bundle)) = here("stdio", "read x; echo out $x; echo err >&2") else { return };
    let mut child = root
        .command(["run", "-b", dir(&bundle), &unique("stdio")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"in\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out in\n"[..], &b"err\n"[..]));
}

#[test]
fn run_forwards_signals() {
    let Some((root, bundle)) =
        here("forward", "trap 'echo got; exit 4' TERM; echo ready; while :; do sleep 0.05; done")
    else {
        return;
    };
    let mut child =
        root.command(["run", "-b", dir(&bundle), &unique("forward")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "ready\ngot\n");
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn run_detached_keeps_the_container() {
    let Some((root, bundle)) = here("detach", "sleep 60") else { return };
    let id = &unique("detach");
    // Not `ok`: the container holds our pipes open, as it should.
    let mut command = root.command(["run", "-d", "-b", dir(&bundle), id]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(status(&root, id), "running");
    let pids: Vec<i32> = serde_json::from_str(&root.ok(["ps", "-f", "json", id])).unwrap();
    assert!(!pids.is_empty());
    root.ok(["pause", id]);
    assert_eq!(status(&root, id), "paused");
    assert_eq!(root.err(["pause", id]).1, format!("sampan: {id}: container already paused\n"));
    root.ok(["resume", id]);
    assert_eq!(status(&root, id), "running");
    root.ok(["update", "--pids-limit", "77", id]);
    root.ok(["pause", id]);
    root.ok(["delete", "--force", id]);
    assert_eq!(leftovers(id), [""; 0]);
}

#[test]
fn a_created_container_that_is_paused_says_so_and_keeps_nobody_waiting() {
    let Some((root, bundle)) = here("frozen", "sleep 60") else { return };
    let id = &unique("frozen");
    let mut command = root.command(["create", "-b", dir(&bundle), id]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    root.ok(["pause", id]);
    assert_eq!(status(&root, id), "paused");
    assert!(root.err(["start", id]).1.contains("cannot start a container in the paused state"));
    assert!(root.err(["exec", id, "true"]).1.contains("cannot exec in a paused container"));
    assert!(root.err(["pause", id]).1.contains("container already paused"));
    root.ok(["resume", id]);
    assert_eq!(status(&root, id), "created");
    root.ok(["start", id]);
    root.ok(["delete", "--force", id]);
    assert_eq!(leftovers(id), [""; 0]);
}

#[test]
fn a_program_that_cannot_run_is_named_in_runcs_words_and_leaves_nothing() {
    for (program, text) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/etc", "exec: \"/etc\": permission denied"),
    ] {
        let Some((root, mut bundle)) = here("words", "") else { return };
        bundle.args(&[program]);
        bundle.write().unwrap();
        let id = &unique("words");
        for verb in ["create", "run"] {
            let (code, err) = root.err([verb, "-b", dir(&bundle), id]);
            assert_eq!(code, 1);
            assert!(err.contains(text), "{verb}: {err}");
            assert_eq!(root.ok(["list", "-q"]), "");
            assert_eq!(leftovers(id), [""; 0]);
        }
    }
}

#[test]
fn hooks_run_in_order_with_the_right_status() {
    let Some((root, mut bundle)) = here("hooks", "exit 0") else { return };
    let log = bundle.path().join("log");
    let hook = |kind: &str| {
        let script = format!("printf '%s ' {kind}; grep -o '\"status\":\"[a-z]*\"'");
        serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("({script}) >> {}", log.display())],
            "env": ["PATH=/usr/bin:/bin"] }])
    };
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    let all: serde_json::Map<_, _> = kinds.iter().map(|k| ((*k).to_owned(), hook(k))).collect();
    bundle.set("/hooks", all.into());
    bundle.write().unwrap();
    root.ok(["run", "-b", dir(&bundle), &unique("hooks")]);
    assert_eq!(
        fs::read_to_string(&log).unwrap(),
        "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\npoststart \"status\":\"running\"\n\
         poststop \"status\":\"stopped\"\n"
    );
}

#[test]
fn a_failing_hook_is_named_and_poststop_still_runs_once() {
    for kind in ["prestart", "createRuntime", "poststart"] {
        let Some((root, mut bundle)) = here("failing", "sleep 60") else { return };
        let log = bundle.path().join("log");
        let sh = |script: String| serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
        let mut hooks = serde_json::Map::new();
        hooks.insert(kind.into(), sh("echo no; exit 9".into()));
        hooks.insert("poststop".into(), sh(format!("echo poststop >> {}", log.display())));
        bundle.set("/hooks", hooks.into());
        bundle.write().unwrap();
        let id = &unique("failing");
        let (code, err) = root.err(["run", "-b", dir(&bundle), id]);
        assert_eq!(code, 1);
        assert!(err.contains(&format!("hooks.{kind}[0]: /bin/sh exited with 9; it printed: no")), "{err}");
        assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "poststop\n", "{kind}");
        assert_eq!(leftovers(id), [""; 0]);
    }
}

#[test]
fn a_poststop_hook_that_fails_is_a_warning_of_whoever_removes_the_container() {
    for (program, prestart, code) in [("true", "exit 0", 0), ("true", "exit 9", 1)] {
        let Some((root, mut bundle)) = here("warned", program) else { return };
        let sh = |script: &str| serde_json::json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        bundle.set("/hooks", serde_json::json!({ "prestart": sh(prestart), "poststop": sh("exit 7") }));
        bundle.write().unwrap();
        let id = &unique("warned");
        let found = root.err(["--log-level", "warning", "run", "-b", dir(&bundle), id]);
        assert_eq!(found.0, code, "{}", found.1);
        assert!(found.1.contains("sampan: warning: hooks.poststop[0]: /bin/sh exited with 7"), "{}", found.1);
    }
}

#[test]
fn of_two_starts_exactly_one_wins() {
    for _ in 0..5 {
        let Some((root, bundle)) = here("starts", "sleep 60") else { return };
        let id = &unique("starts");
        root.ok(["create", "-b", dir(&bundle), id]);
        let codes = std::thread::scope(|s| {
            let all: Vec<_> = (0..4).map(|_| s.spawn(|| root.err(["start", id]).0)).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(codes.iter().filter(|c| **c == 0).count(), 1, "{codes:?}");
        root.ok(["delete", "-f", id]);
        assert_eq!(leftovers(id), [""; 0]);
    }
}

#[test]
fn delete_during_create_leaves_nothing() {
    for round in 0..12u32 {
        let Some((root, bundle)) = here("during", "sleep 60") else { return };
        let id = &unique("during");
        let mut create = root
            .command(["create", "-b", dir(&bundle), id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(round) * 500));
        let (code, err) = root.err(["delete", "--force", id]);
        assert_eq!((code, err.as_str()), (0, ""));
        create.wait().unwrap();
        root.ok(["delete", "--force", id]);
        assert_eq!(root.ok(["list", "-q"]), "");
        assert_eq!(leftovers(id), [""; 0], "round {round}");
    }
}

#[test]
fn a_create_killed_at_any_moment_can_be_deleted_without_a_trace() {
    for round in 0..40u32 {
        let Some((root, bundle)) = here("killed", "sleep 60") else { return };
        let id = &unique("killed");
        let mut create = root
            .command(["create", "-b", dir(&bundle), id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(round) * 250));
        create.kill().unwrap();
        create.wait().unwrap();
        let (code, err) = root.err(["delete", "--force", id]);
        assert_eq!((code, err.as_str()), (0, ""), "round {round}");
        assert!(!root.path().join(id).exists());
        assert_eq!(leftovers(id), [""; 0], "round {round}");
    }
}

#[test]
fn a_container_in_one_line() {
    if !need::root() {
        return;
    }
    let root = Root::new("line");
    let out = root.ok([
        "run",
        "--rootfs",
        "host",
        "--",
        "sh",
        "-c",
        "echo $$; touch /tmp/x && echo tmp; ls /root | wc -l; touch /usr/x 2>/dev/null || echo read-only",
    ]);
    assert_eq!(out, "1\ntmp\n0\nread-only\n");
    assert_eq!(root.err(["run", "--rootfs", "host", "--", "sh", "-c", "exit 6"]).0, 6);
    assert_eq!(root.ok(["list", "-q"]), "");
}

#[test]
fn a_container_in_one_line_has_dockers_filter() {
    if !need::root() {
        return;
    }
    let root = Root::new("filter");
    // What the kernel says, and a call that docker's profile denies without CAP_SYS_ADMIN.
    let script = "grep ^Seccomp: /proc/self/status | tr -d '\\t'; unshare -m true 2>/dev/null || echo denied";
    assert_eq!(root.ok(["run", "--rootfs", "host", "--", "sh", "-c", script]), "Seccomp:2\ndenied\n");
}

#[test]
fn a_container_in_one_line_from_a_folder() {
    let Some((root, bundle)) = here("folder", "") else { return };
    let rootfs = bundle.rootfs();
    assert_eq!(root.ok(["run", "--rootfs", rootfs.to_str().unwrap(), "--", "echo", "hi"]), "hi\n");
}

#[test]
fn run_without_a_process_is_an_error() {
    let Some((root, bundle)) = here("none", "") else { return };
    let file = bundle.path().join("none.json");
    let mut spec: serde_json::Value =
        serde_json::from_slice(&fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
    spec.as_object_mut().unwrap().remove("process");
    fs::write(&file, spec.to_string()).unwrap();
    let id = &unique("none");
    let run = ["run", "-b", bundle.path().to_str().unwrap(), "--config", file.to_str().unwrap(), id];
    let (code, err) = root.err(run);
    let says = format!("process: {} has none", file.display());
    assert!(code == 1 && err.contains(&says), "{code}: {err}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_container_in_one_line_that_cannot_be_leaves_nothing() {
    let Some((root, bundle)) = here("nothing", "") else { return };
    let file = bundle.path().join("config.json");
    let file = file.to_str().unwrap();
    for (args, says) in [
        (&["--rootfs", "/no/such"][..], "--rootfs /no/such: ENOENT".to_owned()),
        (&["--rootfs", file], format!("--rootfs {file}: not a directory")),
        (&["--rootfs", "host", "--console-socket", "/no/such"], "console".into()),
    ] {
        let (code, err) = root.err(["run"].iter().chain(args).chain(&["--", "true"]));
        assert!(code == 1 && err.contains(&says), "{args:?}: {err}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "{args:?} left a folder");
    }
}

#[test]
fn enter_all_equals_being_inside() {
    let Some((root, bundle)) = here("inside", "sleep 60") else { return };
    let id = &unique("inside");
    let mut command = root.command(["run", "-d", "-b", dir(&bundle), id]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let out =
        root.ok(["enter", "-a", "-t", id, "/bin/sh", "-c", "hostname; cat /proc/1/comm; ls /bin/busybox"]);
    assert_eq!(out, "test\nsleep\n/bin/busybox\n");
    let found: serde_json::Value = serde_json::from_str(&root.ok(["ns", "--json", id])).unwrap();
    let own = found[0]["namespaces"].as_array().unwrap().iter().filter(|n| n["host"] == false).count();
    assert_eq!(own, bundle.config["linux"]["namespaces"].as_array().unwrap().len(), "{found}");
    root.ok(["delete", "-f", id]);
}

#[test]
fn plan_prints_steps_and_does_nothing() {
    let Some((root, bundle)) = here("plan", "exit 0") else { return };
    let out = root.ok(["plan", dir(&bundle)]);
    assert!(out.contains("mounts[0]"), "{out}");
    let json: serde_json::Value = serde_json::from_str(&root.ok(["plan", "--json", dir(&bundle)])).unwrap();
    assert!(json.is_object() || json.is_array());
    assert_eq!(root.ok(["list", "-q"]), "");
}

#[test]
fn orphans_come_to_a_foreground_run_and_it_still_ends() {
    let Some((root, bundle)) = here("orphans", "(sleep 0.2 &) ; exit 2") else { return };
    assert_eq!(root.err(["run", "-b", dir(&bundle), &unique("orphans")]).0, 2);
}

/// A terminal by `script`, which gives `sampan run` one of its own.
#[test]
fn a_terminal_in_the_foreground() {
    let Some((root, mut bundle)) = here("tty", "tty; stty size") else { return };
    if !terminal::needed() {
        return;
    }
    bundle.set("/process/terminal", true.into());
    bundle.write().unwrap();
    let line = format!(
        "stty rows 33 cols 99; {} --root {} run -b {} {}",
        program(),
        root.path().display(),
        dir(&bundle),
        unique("tty")
    );
    let (code, out, err) = run(&mut terminal::on_a_terminal(&line));
    // Somewhere `script` types an end-of-file key, since its own stdin is empty.
    assert_eq!((code, out.replace("^@", "").as_str()), (0, "/dev/pts/0\r\n33 99\r\n"), "{err}");
}

#[test]
fn a_detached_terminal_needs_a_console_socket() {
    let Some((root, mut bundle)) = here("socket", "exit 0") else { return };
    assert!(
        root.err(["create", "-b", dir(&bundle), "--console-socket", "/x", "c"])
            .1
            .contains("--console-socket")
    );
    bundle.set("/process/terminal", true.into());
    bundle.write().unwrap();
    assert!(root.err(["create", "-b", dir(&bundle), "c"]).1.contains("without --console-socket"));
    assert_eq!(root.ok(["list", "-q"]), "");
}

#[test]
fn trace_says_what_each_step_cost() {
    let Some((root, bundle)) = here("trace", "exit 0") else { return };
    let (code, err) = root.err(["run", "--trace", "-b", dir(&bundle), &unique("trace")]);
    assert_eq!(code, 0);
    let steps: serde_json::Value = serde_json::from_str(&root.ok(["plan", "--json", dir(&bundle)])).unwrap();
    assert_eq!(err.lines().count(), steps["steps"].as_array().unwrap().len() + 1, "{err}");
    assert!(err.lines().all(|l| l.contains(" us  ")), "{err}");
}

#[test]
fn spec_writes_what_run_can_run() {
    for secure in [&[][..], &["--secure"]] {
        let Some((root, bundle)) = here("written", "") else { return };
        fs::remove_file(bundle.path().join("config.json")).ok();
        root.ok(["spec", "-b", dir(&bundle)].iter().chain(secure));
        let file = bundle.path().join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["sh", "-c", "hostname"]);
        fs::write(&file, config.to_string()).unwrap();
        assert_eq!(root.ok(["run", "-b", dir(&bundle), &unique("written")]), "sampan\n");
    }
}

/// The fields that tools and tutorials count on; the names differ.
#[test]
fn spec_is_runcs_template() {
    let Some((root, bundle)) = here("template", "") else { return };
    if !need::need("runc (apt-get install runc)", Command::new("runc").arg("--version").output().is_ok()) {
        return;
    }
    let written = |command: &mut Command| {
        let file = bundle.path().join("config.json");
        fs::remove_file(&file).ok();
        assert_eq!(run(command), (0, String::new(), String::new()));
        serde_json::from_str::<serde_json::Value>(&fs::read_to_string(&file).unwrap()).unwrap()
    };
    let theirs = written(Command::new("runc").args(["spec", "-b", dir(&bundle)]));
    let ours = written(&mut root.command(["spec", "-b", dir(&bundle)]));
    for field in [
        "/process/terminal",
        "/process/user",
        "/process/args",
        "/process/env",
        "/process/cwd",
        "/process/capabilities/bounding",
        "/process/capabilities/effective",
        "/process/capabilities/permitted",
        "/process/rlimits",
        "/process/noNewPrivileges",
        "/root",
        "/linux/namespaces",
        "/linux/readonlyPaths",
        "/linux/sysctl",
    ] {
        // A field that is absent is the same as an empty one.
        let of = |config: &serde_json::Value| config.pointer(field).cloned().unwrap_or_default();
        assert_eq!(of(&ours), of(&theirs), "{field}");
    }
    let destinations = |config: &serde_json::Value| -> Vec<String> {
        config["mounts"].as_array().unwrap().iter().map(|m| m["destination"].to_string()).collect()
    };
    assert_eq!(destinations(&ours), destinations(&theirs));
}

#[test]
fn relative_masked_and_read_only_paths_are_below_the_root() {
    let script = "ls /root; touch /tmp/sub/x 2>/dev/null || echo read-only";
    let Some((root, mut bundle)) = here("relative", script) else { return };
    fs::write(bundle.rootfs().join("root/secret"), "").unwrap();
    fs::create_dir(bundle.rootfs().join("tmp/sub")).unwrap();
    bundle.set("/root/readonly", false.into());
    bundle.set("/linux/maskedPaths", serde_json::json!(["root"]));
    bundle.set("/linux/readonlyPaths", serde_json::json!(["tmp/sub"]));
    bundle.write().unwrap();
    assert_eq!(root.ok(["run", "-b", dir(&bundle), &unique("relative")]), "read-only\n");
}

#[test]
fn events_are_runcs() {
    let Some((root, bundle)) = here("events", "sleep 60") else { return };
    let id = &unique("events");
    root.ok(["run", "-d", "-b", dir(&bundle), id]);
    let line = root.ok(["events", "--stats", id]);
    let stats: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((stats["type"].as_str(), stats["id"].as_str()), (Some("stats"), Some(id.as_str())));
    assert!(stats["data"]["cpu"]["usage"]["total"].is_u64(), "{stats}");
    assert!(stats["data"]["pids"]["current"].as_u64() >= Some(1), "{stats}");
}

/// A client that looks after the end must not find the pid of a process that is gone.
#[test]
fn a_pid_file_is_written_once() {
    let Some((root, mut bundle)) = here("once", "until rm /pids/pid 2>/dev/null; do sleep 0.01; done") else {
        return;
    };
    let folder = bundle.path().join("pids");
    fs::create_dir(&folder).unwrap();
    bundle
        .add("/mounts", serde_json::json!({"destination": "/pids", "source": folder, "options": ["rbind"]}));
    bundle.write().unwrap();
    let file = folder.join("pid");
    root.ok(["run", "-b", dir(&bundle), "--pid-file", file.to_str().unwrap(), &unique("once")]);
    assert!(!file.exists(), "it came back after the container had removed it");
}

#[test]
fn what_our_caller_is_bound_to_does_not_bind_the_container() {
    let Some((root, bundle)) = here("cpus", "grep Cpus_allowed_list /proc/self/status; sleep 60") else {
        return;
    };
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned() + "\n";
    let can = Command::new("taskset").arg("--version").output().is_ok();
    if !need::need("taskset (apt-get install util-linux)", can)
        || !need::need("two CPUs", all.contains(['-', ',']))
    {
        return;
    }
    let id = &unique("cpus");
    let bound = |args: &[&str]| {
        let mut command = Command::new("taskset");
        command.args(["1", program(), "--root"]).arg(root.path()).args(args);
        run(command.stdin(Stdio::null()))
    };
    let (code, out, err) = bound(&["run", "-d", "-b", dir(&bundle), id]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (_, inside, _) = bound(&["exec", id, "grep", "Cpus_allowed_list", "/proc/1/status"]);
    assert_eq!(inside, all, "{out}");
    let (_, inside, _) = bound(&["exec", id, "grep", "Cpus_allowed_list", "/proc/self/status"]);
    assert_eq!(inside, all, "exec");
}
