//! The annotation `org.sampan.rootfs.idmap`: a plain root whose files are those of the user namespace's root.

use std::fs;
use std::os::unix::fs::MetadataExt;

use sampan_testkit::{Bundle, need};
use serde_json::{Value, json};

use crate::sampan::{Root, run};

fn ready() -> bool {
    need::root() && need::busybox() && need::no_user_namespace()
}

fn bundle(name: &str, readonly: bool, annotations: Value) -> Bundle {
    let mut bundle = Bundle::new(name).unwrap();
    fs::write(bundle.rootfs().join("etc/own"), "").unwrap();
    bundle.set("/root/readonly", json!(readonly));
    bundle.set("/annotations", annotations);
    bundle
}

fn ran(bundle: &Bundle) -> (i32, String, String) {
    bundle.write().unwrap();
    let path = bundle.path();
    let id = path.file_name().unwrap().to_str().unwrap();
    run(&mut Root::new(id).command(["run", "-b", path.to_str().unwrap(), id]))
}

const USERS: &str = "org.sampan.rootfs.idmap";
const MODE: &str = "org.sampan.rootfs.mode";

#[test]
fn in_every_mode_the_hosts_roots_files_are_its_roots() {
    if !ready() {
        return;
    }
    for (name, readonly, annotations) in [
        ("read-only", true, json!({ USERS: "users" })),
        ("ro", true, json!({ USERS: "users", MODE: "ro" })),
        ("rw", false, json!({ USERS: "users" })),
        ("scratch", false, json!({ USERS: "users", MODE: "scratch" })),
    ] {
        let mut bundle = bundle(&format!("root-ids-{name}"), readonly, annotations);
        bundle.user_namespace(100_000, 65_536);
        bundle.script("stat -c '%u:%g' / /etc/own; echo x 2>/dev/null >/etc/new; stat -c %u /etc/new 2>/dev/null || echo none");
        let new = if readonly { "none" } else { "0" };
        assert_eq!(ran(&bundle), (0, format!("0:0\n0:0\n{new}\n"), String::new()), "{name}");
        let written = fs::metadata(bundle.rootfs().join("etc/new")).ok().map(|new| new.uid());
        assert_eq!(
            written,
            (name == "rw").then_some(0),
            "{name}: on disk it belongs to whom it belongs inside"
        );
    }
}

#[test]
fn what_is_no_map_is_said() {
    if !ready() {
        return;
    }
    for (value, userns, words) in [
        ("all", true, "\"all\" is not \"users\""),
        ("users", false, "needs a user namespace, and both linux.uidMappings and linux.gidMappings"),
    ] {
        let mut bundle = bundle("root-ids-wrong", true, json!({ USERS: value }));
        if userns {
            bundle.user_namespace(100_000, 65_536);
        }
        let (code, _, err) = ran(&bundle);
        assert!(code != 0 && err.contains(words), "{value}: {code} {err}");
    }
}
