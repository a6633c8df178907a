//! `sampan run` as a job of the shell. Without a pid namespace of its own, so that a child outlives the program.

use std::process::{Command, Stdio};

use sampan_testkit::{Bundle, need, terminal};
use serde_json::json;

use crate::lifecycle::leftovers;
use crate::sampan::{Root, bundle, program, run};

/// Its child ignores the hang-up and writes without end into the terminal that it keeps.
#[test]
fn the_end_of_the_foreground_waits_for_no_writer() {
    if !need::root() || !need::busybox() {
        return;
    }
    let (root, mut bundle) = (Root::new("writer"), Bundle::new("writer").unwrap());
    bundle.script("trap '' HUP; /bin/busybox yes & sleep 0.2; exit 5");
    if !terminal::needed() {
        return;
    }
    let own = ["network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    bundle.set("/linux/namespaces", json!(own));
    bundle.set("/process/terminal", true.into());
    bundle.write().unwrap();
    let id = format!("t{}-writer", std::process::id());
    let sampan = program();
    let line = format!("{sampan} --root {} run -b {} {id}", root.path().display(), bundle.path().display());
    let line = format!("timeout --foreground -s KILL 20 {line}");
    assert_eq!(run(&mut terminal::on_a_terminal(&line)).0, 5);
    assert_eq!(leftovers(&id), [""; 0]);
}

/// Or what is opened first would be one of them, for us and for the container.
#[test]
fn a_standard_stream_that_the_caller_has_closed_is_the_null_device() {
    for closed in ["<&-", "2>&-", "<&- 2>&-"] {
        let change = |bundle: &mut Bundle| {
            bundle.script(
                "for n in 0 1 2; do readlink /proc/self/fd/$n; done >/dev/shm/said; cat /dev/shm/said",
            );
        };
        let Some(bundle) = bundle("closed", change) else { return };
        let id = bundle.path().file_name().unwrap().to_str().unwrap();
        let root = Root::new(id);
        let script = format!("exec \"$0\" \"$@\" {closed}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, program(), "--root"]).arg(root.path());
        shell.args(["run", "-b", bundle.path().to_str().unwrap(), id]).stdin(Stdio::piped());
        let (code, out, err) = run(&mut shell);
        assert_eq!(code, 0, "{err}");
        let said: Vec<&str> = out.lines().collect();
        for (number, redirection) in [(0, "<&-"), (2, "2>&-")] {
            assert_eq!(said[number] == "/dev/null", closed.contains(redirection), "{closed}: {out}");
        }
    }
}
