//! docs/tour.md, first half, in its order and with its commands: what the page says must stay true.

use std::process::{Child, Command, Stdio};

use sampan_testkit::need;

use crate::sampan::{Root, run};

/// A process in the background, ended with its test.
struct Background(Child);

impl Background {
    /// Returns when it is a `sleep`: what `unshare` and `sh` do before is done.
    fn sleeping(words: &[&str]) -> Background {
        let mut command = Command::new(words[0]);
        let child = command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        let background = Background(child);
        for _ in 0..1000 {
            if std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n") {
                return background;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{words:?} does not sleep");
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `net     4026531833  host, as 4005` -> what the line of that kind says behind the number.
fn whose<'a>(table: &'a str, kind: &str) -> &'a str {
    let line = table
        .lines()
        .find(|l| l.starts_with(' ') && l.split_whitespace().next() == Some(kind))
        .unwrap_or_default();
    line.splitn(3, "  ").nth(2).unwrap_or_default().trim_start().split_once("  ").map_or("", |(_, rest)| rest)
}

const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

#[test]
fn two_sleeps_share_everything_unshare_makes_one_differ_and_enter_goes_there() {
    if !need::root() {
        return;
    }
    let root = Root::new("tour");
    let (one, two) = (Background::sleeping(&["sleep", "100"]), Background::sleeping(&["sleep", "100"]));

    let table = root.ok(["ns", &one.pid(), &two.pid()]);
    for kind in KINDS {
        assert!(whose(&table, kind).ends_with(&format!("as {}", two.pid())), "{kind} of\n{table}");
    }

    let words = ["unshare", "--uts", "sh", "-c", "hostname inside; exec sleep 100"];
    let inside = Background::sleeping(&words);
    let table = root.ok(["ns", &inside.pid(), &one.pid()]);
    assert_eq!(whose(&table, "uts"), "own", "{table}");
    for kind in KINDS.into_iter().filter(|kind| *kind != "uts") {
        assert!(whose(&table, kind).ends_with(&format!("as {}", one.pid())), "{kind} of\n{table}");
    }

    let file = format!("--uts=/proc/{}/ns/uts", inside.pid());
    assert_eq!(root.ok(["enter", "-t", &inside.pid(), "-u", "hostname"]), "inside\n");
    assert_eq!(root.ok(["enter", &file, "hostname"]), "inside\n");
    assert_eq!(root.ok(["enter", "-a", "-t", &inside.pid(), "hostname"]), "inside\n");
    assert_ne!(run(&mut Command::new("hostname")).1, "inside\n");
}

#[test]
fn a_container_in_one_line_and_entering_it_is_what_exec_does() {
    if !need::root() {
        return;
    }
    let root = Root::new("tour-box");
    let script = "echo $$; hostname; id -u; ls /root; cat /etc/shadow 2>/dev/null || echo hidden; touch /etc/x 2>/dev/null || echo read-only";
    let (code, out, err) =
        run(&mut root.command(["run", "--rootfs", "host", "tour-sh", "--", "sh", "-c", script]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "1\ntour-sh\n0\nhidden\nread-only\n", ""));

    let script = "echo mine >/etc/sampan-tour; cat /etc/sampan-tour";
    let said = root.ok(["run", "--rootfs", "host", "--scratch", "--", "sh", "-c", script]);
    assert_eq!(said, "mine\n");
    assert!(!std::path::Path::new("/etc/sampan-tour").exists());

    root.ok(["run", "--rootfs", "host", "-d", "tour-box", "--", "sleep", "100"]);
    let seen =
        "hostname; for kind in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$kind; done";
    let exec = root.ok(["exec", "tour-box", "sh", "-c", seen]);
    let enter = root.ok(["enter", "-a", "-t", "tour-box", "sh", "-c", seen]);
    assert!(exec.starts_with("tour-box\n") && exec.lines().count() == 9, "{exec}");
    assert_eq!(exec, enter);

    let (code, says) = root.err(["delete", "tour-box"]);
    assert_eq!((code, says.contains("that is not stopped: running")), (1, true), "{says}");
    root.ok(["delete", "--force", "tour-box"]);
    assert_eq!(root.ok(["list", "-q"]), "");
}
