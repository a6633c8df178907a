//! A further process in a running container.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use sampan_testkit::{Bundle, World, need, terminal};

use crate::sampan::{Root, program, run};

struct Running {
    root: Root,
    bundle: Bundle,
    id: String,
}

impl Running {
    fn new(name: &str) -> Option<Running> {
        if !need::root() || !need::busybox() {
            return None;
        }
        let mut bundle = Bundle::new(name).unwrap();
        bundle.script("sleep 60");
        bundle.write().unwrap();
        let id = format!("t{}-{name}", std::process::id());
        let root = Root::new(name);
        root.ok(["run", "-d", "-b", bundle.path().to_str().unwrap(), &id]);
        Some(Running { root, bundle, id })
    }

    /// Exit code, output and error of `exec FLAGS ID PROGRAM`.
    fn exec(&self, flags: &[&str], program: &[&str]) -> (i32, String, String) {
        let words =
            ["exec"].iter().chain(flags).copied().chain([self.id.as_str()]).chain(program.iter().copied());
        run(&mut self.root.command(words))
    }

    fn ok(&self, flags: &[&str], program: &[&str]) -> String {
        let (code, out, err) = self.exec(flags, program);
        assert_eq!((code, err.as_str()), (0, ""));
        out
    }
}

#[test]
fn it_is_inside_the_container() {
    let Some(c) = Running::new("within") else { return };
    assert_eq!(c.ok(&[], &["hostname"]), "test\n");
    assert_eq!(c.ok(&[], &["cat", "/proc/1/comm"]), "sleep\n");
    let same = |kind: &str| {
        let pids: Vec<i32> = serde_json::from_str(&c.root.ok(["ps", "-f", "json", &c.id])).unwrap();
        let inside = c.ok(&[], &["readlink", &format!("/proc/self/ns/{kind}")]);
        assert_eq!(
            inside.trim(),
            fs::read_link(format!("/proc/{}/ns/{kind}", pids[0])).unwrap().to_str().unwrap()
        );
    };
    ["pid", "net", "ipc", "uts", "mnt"].into_iter().for_each(same);
}

#[test]
fn it_is_in_the_containers_cgroup() {
    let Some(c) = Running::new("group") else { return };
    assert!(c.ok(&[], &["cat", "/proc/self/cgroup"]).contains(&c.id));
}

#[test]
fn its_code_is_ours() {
    let Some(c) = Running::new("codes") else { return };
    assert_eq!(c.exec(&[], &["sh", "-c", "exit 5"]).0, 5);
    assert_eq!(c.exec(&[], &["sh", "-c", "kill -TERM $$"]).0, 143);
}

#[test]
fn what_cannot_run_is_255_in_runcs_words_and_writes_no_pid_file() {
    let Some(c) = Running::new("cannot") else { return };
    let pid_file = c.bundle.path().join("pid");
    for (program, text) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        let (code, _, err) = c.exec(&["--pid-file", pid_file.to_str().unwrap()], &[program]);
        assert_eq!(code, 255);
        assert!(err.contains(text), "{err}");
        assert!(!pid_file.exists());
    }
}

#[test]
fn flags_change_the_containers_own_process() {
    let Some(c) = Running::new("flags") else { return };
    assert_eq!(c.ok(&["--cwd", "/etc"], &["pwd"]), "/etc\n");
    assert_eq!(c.ok(&["-e", "A=1", "--env", "B=2"], &["sh", "-c", "echo $A$B"]), "12\n");
    assert_eq!(
        c.ok(&["-u", "1000:1001", "-g", "7"], &["sh", "-c", "id -u; id -g; id -G"]),
        "1000\n1001\n1001 7\n"
    );
    assert!(c.ok(&["--no-new-privs"], &["grep", "NoNewPrivs", "/proc/self/status"]).ends_with("1\n"));
}

#[test]
fn added_capabilities_are_never_inheritable() {
    let Some(c) = Running::new("caps") else { return };
    let out = c.ok(&["--cap", "CAP_NET_ADMIN"], &["grep", "Cap", "/proc/self/status"]);
    let set = |name: &str| {
        let line = out.lines().find(|l| l.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!((set("CapEff") >> 12 & 1, set("CapInh"), set("CapAmb")), (1, 0, 0), "{out}");
}

#[test]
fn a_process_file_is_taken_as_it_is() {
    let Some(c) = Running::new("file") else { return };
    let file = c.bundle.path().join("process.json");
    let process = serde_json::json!({"cwd": "/tmp", "args": ["sh", "-c", "pwd; echo $X; id -u"],
        "env": ["X=y", "PATH=/bin"], "user": {"uid": 42, "gid": 42}});
    fs::write(&file, process.to_string()).unwrap();
    assert_eq!(c.ok(&["--process", file.to_str().unwrap()], &[]), "/tmp\ny\n42\n");
}

#[test]
fn detached_it_runs_on_and_its_pid_is_in_the_file() {
    let Some(c) = Running::new("detached") else { return };
    let pid_file = c.bundle.path().join("pid");
    c.ok(&["-d", "--pid-file", pid_file.to_str().unwrap()], &["sleep", "50"]);
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "sleep\n");
    let pids: Vec<i32> = serde_json::from_str(&c.root.ok(["ps", "-f", "json", &c.id])).unwrap();
    assert!(pids.contains(&pid.parse().unwrap()));
}

#[test]
fn stdin_is_ours() {
    let Some(c) = Running::new("stdin") else { return };
    let mut child =
        c.root.command(["exec", &c.id, "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through");
}

#[test]
fn a_stopped_or_paused_container_is_refused_in_runcs_words() {
    let Some(c) = Running::new("refused") else { return };
    c.root.ok(["pause", &c.id]);
    assert_eq!(
        c.exec(&[], &["true"]).2,
        format!("sampan: {}: cannot exec in a paused container (use --ignore-paused to override)\n", c.id)
    );
    c.root.ok(["resume", &c.id]);
    c.root.ok(["kill", &c.id, "KILL"]);
    while c.root.ok(["state", &c.id]).contains("running") {}
    let (code, _, err) = c.exec(&[], &["true"]);
    assert_eq!((code, err), (255, format!("sampan: {}: cannot exec in a stopped container\n", c.id)));
}

#[test]
fn later_edits_of_the_bundle_have_no_effect() {
    let Some(mut c) = Running::new("edits") else { return };
    c.bundle.set("/process/cwd", "/etc".into());
    c.bundle.write().unwrap();
    assert_eq!(c.ok(&[], &["pwd"]), "/\n");
}

#[test]
fn nothing_of_ours_stays_open() {
    let Some(c) = Running::new("fds") else { return };
    let pid_file = c.bundle.path().join("pid");
    c.ok(&["-d", "--pid-file", pid_file.to_str().unwrap()], &["sleep", "50"]);
    let fds = format!("/proc/{}/fd", fs::read_to_string(&pid_file).unwrap());
    let mut open: Vec<_> = fs::read_dir(fds).unwrap().map(|e| e.unwrap().file_name()).collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
}

/// A terminal by `script`, which gives `sampan exec` one of its own.
#[test]
fn a_terminal_has_the_size_of_ours_from_the_start() {
    let Some(c) = Running::new("tty") else { return };
    if !terminal::needed() {
        return;
    }
    let line = format!(
        "stty rows 31 cols 97; {} --root {} exec -t {} sh -c 'tty; stty size'",
        program(),
        c.root.path().display(),
        c.id
    );
    let (code, out, err) = run(&mut terminal::on_a_terminal(&line));
    // Somewhere `script` types an end-of-file key, since its own stdin is empty.
    assert_eq!((code, out.replace("^@", "").as_str()), (0, "/dev/pts/0\r\n31 97\r\n"), "{err}");
}

#[test]
fn an_exec_whose_pid_file_fails_leaves_no_process() {
    let Some(c) = Running::new("exec-pid") else { return };
    let (code, _, err) = c.exec(&["-d", "--pid-file", "/no/such/folder/pid"], &["sleep", "777"]);
    assert!(code == 255 && err.contains("cannot write --pid-file"), "{code}: {err}");
    let pids: Vec<i32> = serde_json::from_str(&c.root.ok(["ps", "-f", "json", &c.id])).unwrap();
    assert_eq!(pids.len(), 1);
}

#[test]
fn a_number_of_descriptors_that_nobody_can_mean_is_an_error_at_once() {
    let Some(c) = Running::new("exec-fds") else { return };
    for n in ["4294967295", "4294967293", "2147483645", "77"] {
        let (code, _, err) = c.exec(&["--preserve-fds", n], &["true"]);
        assert!(code == 255 && err.contains(" is not open"), "{n}: {code}, {err}");
        let bundle = c.bundle.path().to_str().unwrap();
        let (code, err) = c.root.err(["create", "-b", bundle, "--preserve-fds", n, "other"]);
        assert!(code == 1 && err.contains(" is not open"), "{n}: {code}, {err}");
    }
}

#[test]
fn an_exec_in_a_paused_container_keeps_nobody_from_resuming_it() {
    let Some(c) = Running::new("exec-paused") else { return };
    c.root.ok(["pause", &c.id]);
    let mut exec = c
        .root
        .command(["exec", "--ignore-paused", &c.id, "echo", "woken"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(exec.try_wait().unwrap().is_none(), "it waits for the resume");
    c.root.ok(["update", "--pids-limit", "77", &c.id]);
    c.root.ok(["resume", &c.id]);
    let out = exec.wait_with_output().unwrap();
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(0), &b"woken\n"[..]));
}

#[test]
fn a_paused_container_with_an_exec_that_waits_is_deleted() {
    let Some(c) = Running::new("exec-delete") else { return };
    c.root.ok(["pause", &c.id]);
    let mut exec = c.root.command(["exec", "--ignore-paused", &c.id, "true"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let (code, _, err) = c.root.after("true", ["delete", "--force", &c.id]);
    assert_eq!((code, err.as_str()), (0, ""));
    // Thawed to die, it may still have got to its end.
    exec.wait().unwrap();
    assert_eq!(crate::lifecycle::leftovers(&c.id), [""; 0]);
}

/// runc takes a process through JSON, which has no other bytes.
#[test]
fn bytes_that_are_not_utf8_become_the_replacement_character_as_in_runc() {
    let Some(c) = Running::new("bytes") else { return };
    let odd = OsStr::from_bytes(b"a\xffb");
    let mut env = OsString::from("ODD=");
    env.push(odd);
    let mut command = c.root.command(["exec", "-e"]);
    command.arg(env).args([&c.id, "sh", "-c", "echo $ODD $0"]).arg(odd);
    assert_eq!(run(&mut command), (0, "a\u{fffd}b a\u{fffd}b\n".into(), String::new()));
}

#[test]
fn a_process_file_that_is_no_json_is_named() {
    let Some(c) = Running::new("no-json") else { return };
    let file = c.bundle.path().join("process.json");
    fs::write(&file, "{").unwrap();
    let (code, _, err) = c.exec(&["--process", file.to_str().unwrap()], &[]);
    let says = format!("{}: EOF while parsing", file.display());
    assert!(code == 255 && err.contains(&says) && !err.contains("config.json"), "{err}");
}

#[test]
fn the_processs_cpus_are_final_and_the_containers_where_there_are_none() {
    let Some(mut c) = Running::new("affinity") else { return };
    let ours = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = |status: &str| {
        status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:\t")).unwrap_or_default().to_owned()
    };
    let all = allowed(&ours);
    if !need::need("CPUs 0 and 1", all.starts_with("0-")) {
        return;
    }
    let exec = |affinity: serde_json::Value| {
        let process = serde_json::json!({
            "args": ["cat", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"], "execCPUAffinity": affinity,
        });
        let file = c.bundle.path().join("process.json");
        fs::write(&file, process.to_string()).unwrap();
        let (code, out, err) = run(&mut c.root.command(["exec", "-p", file.to_str().unwrap(), &c.id]));
        (code, allowed(&out), err)
    };
    assert_eq!(exec(serde_json::json!({ "initial": "0", "final": "1" })), (0, "1".into(), String::new()));
    assert_eq!(exec(serde_json::json!({ "initial": "1" })), (0, all, String::new()));
    let (code, _, err) = exec(serde_json::json!({ "final": "1-0" }));
    assert!(code == 255 && err.contains("process.execCPUAffinity.final: \"1-0\" is no CPU"), "{err}");
    let (code, _, err) = exec(serde_json::json!({ "initial": "1000" }));
    assert!(code == 255 && err.contains("process.execCPUAffinity.initial: cannot use these CPUs"), "{err}");
    // On the container's own process it has no effect, and it is what is executed there later that has it.
    c.bundle.set("/process/execCPUAffinity", serde_json::json!({ "final": "1" }));
    c.bundle.write().unwrap();
    let id = format!("{}-own", c.id);
    c.root.ok(["run", "-d", "-b", c.bundle.path().to_str().unwrap(), &id]);
    let status = |of: &str| allowed(&c.root.ok(["exec", &id, "cat", &format!("/proc/{of}/status")]));
    assert_eq!((status("1"), status("self")), (allowed(&ours), "1".to_owned()));
}

/// It is born of a process that is its user's already: that one does not count.
#[test]
fn it_needs_room_for_one_process_in_its_users_limit() {
    let Some(c) = Running::new("processes") else { return };
    let uid = 61_234 + std::process::id() % 1_000;
    let process = |limit: u64, args: &[&str]| {
        let path = c.bundle.path().join("process.json");
        let process = serde_json::json!({
            "user": {"uid": uid, "gid": uid}, "args": args, "cwd": "/", "env": ["PATH=/bin"],
            "rlimits": [{"type": "RLIMIT_NPROC", "soft": limit, "hard": limit}],
        });
        fs::write(&path, process.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (code, out, err) =
        c.exec(&["--process", &process(1, &["grep", "Max processes", "/proc/self/limits"])], &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["Max", "processes", "1", "1", "processes"]);
    // With a user namespace the process is born before it becomes its user, and setuid(2) compares before it counts: one more.
    let processes = 1 + usize::from(World::asked().is_some_and(|world| world.user_namespace));
    for _ in 0..processes {
        assert_eq!(c.exec(&["-d", "--process", &process(1, &["sleep", "60"])], &[]).0, 0);
    }
    let (code, _, err) = c.exec(&["--process", &process(1, &["true"])], &[]);
    assert_eq!(code, 255);
    assert!(err.contains("EAGAIN"), "{err}");
}
