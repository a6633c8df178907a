//! In a user namespace that somebody else has made, as podman without root calls us: root there, and nobody outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sampan_testkit::{Bundle, need};

use crate::sampan::{program, run};

/// What root in the namespace is outside.
const FIRST: u32 = 100_000;

struct Outsider {
    bundle: Bundle,
    /// XDG_RUNTIME_DIR, where our state goes.
    own: PathBuf,
}

impl Outsider {
    fn new(name: &str) -> Option<Outsider> {
        if !need::root() || !need::busybox() {
            return None;
        }
        let mut bundle = Bundle::new(name).unwrap();
        // As podman's: no groups asked for, nothing limited.
        let linux = bundle.config["linux"].as_object_mut().unwrap();
        for key in ["resources", "cgroupsPath"] {
            linux.remove(key);
        }
        let own = bundle.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Some(Outsider { bundle, own })
    }

    fn sampan(&self, args: &[&str]) -> (i32, String, String) {
        self.inside(&[&[program()], args].concat())
    }

    fn inside(&self, args: &[&str]) -> (i32, String, String) {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", INSIDE, "sh"])
            .arg(self.bundle.path().join("go"))
            .args(args)
            .env("XDG_RUNTIME_DIR", &self.own)
            .env("USER", "somebody")
            .current_dir(self.bundle.path())
            .stdin(Stdio::null());
        run(&mut shell)
    }
}

/// Runs the arguments after the first, which is a pipe to be made, in a user namespace whose maps are written from outside: what
/// newuidmap does for podman.
const INSIDE: &str = r#"
go=$1; shift; rm -f "$go"; mkfifo "$go"
unshare --user --keep-caps sh -c 'read line < "$0"; exec setpriv --reuid 0 --regid 0 --clear-groups "$@"' "$go" "$@" < /dev/null &
until [ "$(readlink /proc/$!/ns/user)" != "$(readlink /proc/$$/ns/user)" ]; do sleep 0.01; done
echo "0 100000 65536" > /proc/$!/uid_map; echo "0 100000 65536" > /proc/$!/gid_map
echo > "$go"; wait $!
"#;

fn give(path: &Path) {
    chown(path, Some(FIRST), Some(FIRST)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

#[test]
fn a_container_lives_without_groups_and_with_the_hosts_devices() {
    let Some(mut outsider) = Outsider::new("rootless") else { return };
    outsider.bundle.args(&["/bin/sleep", "1000"]);
    outsider.bundle.write().unwrap();
    give(&outsider.own);
    give(&outsider.bundle.rootfs());
    let name = outsider.bundle.path().file_name().unwrap().to_str().unwrap().to_owned();
    let ok = |args: &[&str]| {
        let (code, out, err) = outsider.sampan(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    };
    ok(&["create", "--bundle", ".", &name]);
    assert!(outsider.own.join("sampan/containers").join(&name).is_dir(), "state is where it may be");
    ok(&["start", &name]);
    let state: serde_json::Value = serde_json::from_str(&ok(&["state", &name])).unwrap();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    assert!(!groups.contains(&name), "{groups}");
    ok(&["kill", &name, "KILL"]);
    ok(&["delete", "--force", &name]);
    assert_eq!(ok(&["list", "-q"]), "");
}

/// It joins the container's pid namespace and cannot come back from there: the one outside is not this root's.
#[test]
fn exec_in_the_same_user_namespace() {
    let Some(mut outsider) = Outsider::new("rootless") else { return };
    outsider.bundle.args(&["/bin/sleep", "1000"]);
    outsider.bundle.write().unwrap();
    give(&outsider.own);
    give(&outsider.bundle.rootfs());
    let script =
        "$0 create x && $0 start x && $0 exec x /bin/sh -c 'echo in; exit 5'; echo $?; $0 delete --force x";
    let (code, out, err) = outsider.inside(&["sh", "-c", script, program()]);
    assert_eq!((code, out.as_str()), (0, "in\n5\n"), "{err}");
}

#[test]
fn what_is_asked_for_and_may_not_be_had_is_an_error() {
    let Some(mut outsider) = Outsider::new("rootless") else { return };
    outsider.bundle.script("echo x > /dev/null; head -c 4 /dev/zero | wc -c");
    outsider.bundle.write().unwrap();
    give(&outsider.own);
    give(&outsider.bundle.rootfs());
    let name = outsider.bundle.path().file_name().unwrap().to_str().unwrap().to_owned();
    let (code, out, err) = outsider.sampan(&["run", &name]);
    assert_eq!((code, out.trim()), (0, "4"), "{err}");
    outsider.bundle.set("/linux/resources", serde_json::json!({ "pids": { "limit": 9 } }));
    outsider.bundle.write().unwrap();
    let (code, _, err) = outsider.sampan(&["run", &name]);
    assert!(code == 1 && err.contains("cannot make the control group"), "{code}: {err}");
}
