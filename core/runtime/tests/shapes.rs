//! What verbs print, and where: the shapes that clients of runc read.

use std::fs;

use sampan_testkit::{Bundle, need};
use serde_json::Value;

use crate::lifecycle::eventually;
use crate::sampan::{Root, run};

/// A running container, or one that has stopped by now.
struct Container {
    root: Root,
    _bundle: Bundle,
    id: String,
}

impl Container {
    fn new(name: &str) -> Option<Container> {
        if !need::root() || !need::busybox() {
            return None;
        }
        let mut bundle = Bundle::new(name).unwrap();
        bundle.script("sleep 60");
        bundle.write().unwrap();
        let (root, id) = (Root::new(name), format!("t{}-{name}", std::process::id()));
        root.ok(["run", "-d", "-b", bundle.path().to_str().unwrap(), &id]);
        Some(Container { root, _bundle: bundle, id })
    }

    fn stop(&self) {
        self.root.ok(["kill", &self.id, "KILL"]);
        eventually("stopped", || self.root.ok(["state", &self.id]).contains("\"stopped\""));
    }

    fn pid(&self) -> u64 {
        let state: Value = serde_json::from_str(&self.root.ok(["state", &self.id])).unwrap();
        state["pid"].as_u64().unwrap()
    }
}

#[test]
fn events_begin_with_type_and_id() {
    let Some(c) = Container::new("events-shape") else { return };
    let line = c.root.ok(["events", "--stats", &c.id]);
    let begins = format!(r#"{{"type":"stats","id":"{}","data":{{"cpu":"#, c.id);
    assert!(line.starts_with(&begins) && line.ends_with("}\n"), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn a_list_is_runcs_table_and_one_line_of_json() {
    let root = Root::new("list-empty");
    assert_eq!(root.ok(["list"]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    assert_eq!(root.ok(["list", "-f", "json"]), "null\n");
    let Some(c) = Container::new("list-shape-of-a-long-name") else { return };
    let table = c.root.ok(["list"]);
    let (head, row) = table.split_once('\n').unwrap();
    let column = |name: &str| head.find(name).unwrap();
    assert_eq!(column("PID"), c.id.len() + 3, "{table}");
    assert_eq!(column("STATUS") - column("PID"), 12, "{table}");
    assert_eq!(row[column("PID")..].split(' ').next().unwrap(), c.pid().to_string());
    assert!(row[column("STATUS")..].starts_with("running     /"), "{table}");
    assert!(row[column("OWNER")..] == *"root\n", "{table}");
    let json = c.root.ok(["list", "-f", "json"]);
    assert!(json.starts_with(r#"[{"ociVersion":"#) && json.ends_with("\"owner\":\"root\"}]\n"), "{json}");
    assert_eq!(json.lines().count(), 1);
}

#[test]
fn ps_is_the_hosts_ps_of_the_container_also_of_a_stopped_one() {
    let Some(c) = Container::new("ps-shape") else { return };
    if !need::need("ps (apt-get install procps)", std::process::Command::new("ps").output().is_ok()) {
        return;
    }
    let pid = c.pid();
    let table = c.root.ok(["ps", &c.id]);
    assert!(table.starts_with("UID ") && table.lines().count() == 2, "{table}");
    assert!(table.contains(&format!(" {pid} ")) && table.ends_with("sleep 60\n"), "{table}");
    assert_eq!(c.root.ok(["ps", "-f", "json", &c.id]), format!("[{pid}]\n"));
    c.stop();
    let table = c.root.ok(["ps", &c.id]);
    assert!(table.starts_with("UID ") && table.lines().count() == 1, "{table}");
    assert_eq!(c.root.ok(["ps", "-f", "json", &c.id]), "null\n");
}

#[test]
fn the_log_is_there_from_the_start_and_debug_says_what_is_done() {
    let root = Root::new("log-shape");
    let file = root.path().with_extension("log");
    let log = file.to_str().unwrap();
    root.ok(["--log", log, "list"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
    root.ok(["--log", log, "--log-format", "json", "--debug", "list"]);
    let lines = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().all(|line| line["level"] == "debug"), "{lines:?}");
    assert!(lines[0]["msg"].as_str().unwrap().contains("list"), "{lines:?}");
    fs::remove_file(&file).unwrap();
    let (code, err) = root.err(["--log", "/no/such/log", "list"]);
    assert_eq!((code, err.as_str()), (1, "sampan: --log /no/such/log: ENOENT\n"));
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let (code, _, err) = root.after("true", ["--log", log, "list"]);
    assert_eq!((code, err), (1, format!("sampan: --log {log}: ENXIO\n")));
    fs::remove_file(&file).unwrap();
    let Some(c) = Container::new("log-debug") else { return };
    let (_, _, err) = run(&mut c.root.command(["--debug", "exec", &c.id, "true"]));
    assert!(err.contains("sampan: debug: ") && err.contains("runs its program"), "{err}");
}
