//! `ns` and `enter`, as the tour tells it: two sleeps share everything, unshare makes one differ, enter goes there.

use std::process::{Child, Command};

use crate::sampan::{Root, run};

/// A `sleep` in new namespaces of its own. Namespaces need root.
struct Sleeper(Child);

impl Sleeper {
    fn plain() -> Sleeper {
        Sleeper(Command::new("sleep").arg("60").spawn().unwrap())
    }

    /// `unshare` execs the program, so its pid is the sleeper's.
    fn unshared(flags: &str) -> Option<Sleeper> {
        if !sampan_testkit::need::root() {
            return None;
        }
        let words = format!("{flags} sh -c").split(' ').map(str::to_owned).collect::<Vec<_>>();
        let child =
            Command::new("unshare").args(words).arg("hostname inside; exec sleep 60").spawn().unwrap();
        let sleeper = Sleeper(child);
        let comm = format!("/proc/{}/comm", sleeper.pid());
        for _ in 0..500 {
            if std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep") {
                return Some(sleeper);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("unshare did not come up");
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_namespaces_of_two_sleeps_are_the_same() {
    let root = Root::new("same");
    let (a, b) = (Sleeper::plain(), Sleeper::plain());
    let (a, b) = (a.pid(), b.pid());
    let found: serde_json::Value = serde_json::from_str(&root.ok(["ns", "--json", &a, &b])).unwrap();
    let namespaces = found[0]["namespaces"].as_array().unwrap();
    assert!(namespaces.len() >= 7);
    for n in namespaces {
        assert_eq!(n["shared_with"], serde_json::json!([b.clone()]), "{n}");
    }
}

#[test]
fn unshare_makes_one_differ() {
    let root = Root::new("differ");
    let Some(inside) = Sleeper::unshared("--uts") else { return };
    let found: serde_json::Value = serde_json::from_str(&root.ok(["ns", "--json", &inside.pid()])).unwrap();
    let own: Vec<_> = found[0]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|n| n["host"] == false)
        .map(|n| n["type"].as_str().unwrap())
        .collect();
    assert!(own.contains(&"uts") && !own.contains(&"net"), "{own:?}");
}

#[test]
fn enter_goes_where_the_target_is_and_returns_its_code() {
    let root = Root::new("enter");
    let Some(inside) = Sleeper::unshared("--uts --net --ipc --mount") else { return };
    let pid = inside.pid();
    let script =
        "hostname; ls /sys/class/net 2>/dev/null | wc -l >/dev/null; readlink /proc/self/ns/net; exit 7";
    let (code, out, err) = run(&mut root.command(["enter", "-a", "-t", &pid, "sh", "-c", script]));
    let net = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!((code, out, err.as_str()), (7, format!("inside\n{}\n", net.display()), ""));
}

#[test]
fn letters_and_files_are_nsenters() {
    let root = Root::new("letters");
    let Some(inside) = Sleeper::unshared("--uts --net") else { return };
    let pid = inside.pid();
    let uts = format!("/proc/{pid}/ns/uts");
    for args in [
        vec!["-t", &pid, "-u", "hostname"],
        vec!["--target", &pid, "--uts", "hostname"],
        vec![&format!("--uts={uts}"), "hostname"],
        vec![&format!("-u{uts}"), "hostname"],
        vec!["-F", "-t", &pid, "-u", "hostname"],
        vec!["-t", &pid, "-u", "-w", "-r", "hostname"],
    ] {
        let all: Vec<_> = ["enter"].into_iter().chain(args).collect();
        assert_eq!(root.ok(all), "inside\n");
    }
}

#[test]
fn the_user_of_a_user_namespace_is_its_root() {
    let root = Root::new("user");
    let Some(inside) = Sleeper::unshared("--user --map-root-user --uts") else { return };
    assert_eq!(root.ok(["enter", "-t", &inside.pid(), "-a", "id", "-u"]), "0\n");
}

#[test]
fn a_uid_and_a_gid_can_be_chosen() {
    let root = Root::new("uid");
    let Some(inside) = Sleeper::unshared("--uts") else { return };
    let out = root.ok([
        "enter",
        "-t",
        &inside.pid(),
        "-u",
        "-S",
        "123",
        "-G",
        "456",
        "sh",
        "-c",
        "id -u; id -g; id -G",
    ]);
    assert_eq!(out, "123\n456\n456\n");
}

#[test]
fn a_namespace_of_another_kind_is_refused_by_name() {
    let root = Root::new("kind");
    let Some(inside) = Sleeper::unshared("--uts") else { return };
    let file = format!("/proc/{}/ns/uts", inside.pid());
    assert_eq!(
        root.err(["enter", &format!("--net={file}"), "true"]).1,
        format!(
            "sampan: cannot join the net namespace of {file} (setns): EINVAL; \
             it is not a namespace of that kind\n"
        )
    );
}

#[test]
fn a_missing_program_is_127() {
    let root = Root::new("missing");
    let pid = std::process::id().to_string();
    let (code, err) = root.err(["enter", "-t", &pid, "nonexistent-program"]);
    assert_eq!(code, 127, "{err}");
}

#[test]
fn neither_a_process_nor_a_container() {
    let root = Root::new("nobody");
    assert_eq!(root.err(["enter", "-t", "nosuch", "-a"]).1, "sampan: nosuch: container does not exist\n");
    let gone = {
        let s = Sleeper::plain();
        s.pid()
    };
    assert_eq!(
        root.err(["ns", &gone]).1,
        format!("sampan: {gone}: no such process, and no container of that name\n")
    );
}
