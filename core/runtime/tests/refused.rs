//! What a bundle may ask for and does not get: an error that names the field, and nothing done.

use std::fs;
use std::process::{Command, Stdio};

use sampan_testkit::{Bundle, need};
use serde_json::{Value, json};

use crate::sampan::{Root, program, run};

/// `run` of a bundle that was changed so; code, output and error.
fn run_with(name: &str, change: impl FnOnce(&mut Bundle)) -> Option<(i32, String, String)> {
    if !need::root() || !need::busybox() {
        return None;
    }
    let root = Root::new(name);
    let mut bundle = Bundle::new(name).unwrap();
    change(&mut bundle);
    bundle.write().unwrap();
    let id = format!("t{}-{name}", std::process::id());
    Some(run(&mut root.command(["run", "-b", bundle.path().to_str().unwrap(), &id])))
}

#[test]
fn nothing_is_set_in_a_namespace_that_is_the_hosts_own() {
    let joined = |kind: &str, path: &str| {
        let own = ["pid", "ipc", "network", "uts", "mount"].into_iter().filter(|k| *k != kind);
        let mut all: Vec<Value> = own.map(|kind| json!({ "type": kind })).collect();
        all.push(json!({ "type": kind, "path": path }));
        json!(all)
    };
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for (kind, link, setting, value) in [
        ("network", "net", "/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "77" })),
        ("ipc", "ipc", "/linux/sysctl", json!({ "kernel.msgmax": "7777" })),
        ("uts", "uts", "/linux/sysctl", json!({ "kernel.domainname": "evil" })),
        ("uts", "uts", "/hostname", json!("evil")),
        ("uts", "uts", "/domainname", json!("evil")),
    ] {
        for process in ["self", &std::process::id().to_string()] {
            let path = format!("/proc/{process}/ns/{link}");
            let Some((code, _, err)) = run_with("own-ns", |b| {
                b.config.as_object_mut().unwrap().remove("hostname");
                b.set("/linux/namespaces", joined(kind, &path)).set(setting, value.clone());
            }) else {
                return;
            };
            let says = format!("not allowed in the host's {link} namespace, which is what {path} is");
            assert!(code == 1 && err.contains(&says), "{setting} {path}: {code}, {err}");
        }
        // To join it and leave it as it is, is nobody's harm.
        let Some(joins) = run_with("own-ns", |b| {
            b.config.as_object_mut().unwrap().remove("hostname");
            b.set("/linux/namespaces", joined(kind, &format!("/proc/self/ns/{link}")));
        }) else {
            return;
        };
        assert_eq!(joins, (0, String::new(), String::new()), "{kind}");
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), hostname);
}

/// The kernel takes no environment of that size; we say so, soon.
#[test]
fn a_million_variables_are_an_error_within_seconds() {
    if !need::root() || !need::busybox() {
        return;
    }
    let root = Root::new("million");
    let mut bundle = Bundle::new("million").unwrap();
    let variables: Vec<String> = (0..1_000_000).map(|n| format!("VARIABLE_{n}=value")).collect();
    bundle.set("/process/env", json!(variables));
    bundle.write().unwrap();
    let id = format!("t{}-million", std::process::id());
    let (code, _, err) = root.after("true", ["run", "-b", bundle.path().to_str().unwrap(), &id]);
    assert!(code == 1 && err.contains("E2BIG"), "{code}: {err}");
    assert_eq!(root.ok(["list", "-q"]), "");
}

/// `sampan spec` asks for one, and a shell without end-of-file would be waited for without end.
#[test]
fn a_terminal_in_the_foreground_where_there_is_none_is_an_error_at_once() {
    if !need::root() || !need::busybox() {
        return;
    }
    let root = Root::new("no-tty");
    let mut bundle = Bundle::new("no-tty").unwrap();
    let (dir, id) = (bundle.path().to_str().unwrap().to_owned(), format!("t{}-no-tty", std::process::id()));
    let refused = |args: &[&str], code: i32| {
        let mut command = Command::new("timeout");
        command.args(["20", "setsid", "-w", program(), "--root"]).arg(root.path());
        let (got, _, err) = run(command.args(args).stdin(Stdio::null()));
        assert!(
            got == code && err.contains("open /dev/tty: no such device or address"),
            "{args:?}: {got}, {err}"
        );
    };
    bundle.args(&["sh"]).set("/process/terminal", json!(true));
    bundle.write().unwrap();
    refused(&["run", "-b", &dir, &id], 1);
    refused(&["run", "-t", "--rootfs", "host", "--", "sh"], 1);
    assert_eq!(root.ok(["list", "-q"]), "");
    bundle.args(&["sleep", "60"]).set("/process/terminal", json!(false));
    bundle.write().unwrap();
    root.ok(["run", "-d", "-b", &dir, &id]);
    refused(&["exec", "-t", &id, "sh"], 255);
    assert_eq!(root.ok(["ps", "-f", "json", &id]).matches(',').count(), 0);
}

#[test]
fn a_missing_interpreter_is_named_as_such() {
    let script = |b: &mut Bundle| {
        let path = b.rootfs().join("script");
        fs::write(&path, "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        b.args(&["/script"]);
    };
    let Some((code, _, err)) = run_with("interpreter", script) else { return };
    assert_eq!(code, 1);
    assert!(err.contains("exec /script: no such file or directory") && err.contains("interpreter"), "{err}");
}
