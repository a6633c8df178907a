//! Containers in a user namespace that somebody else has made, as those of a pod are.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sampan_testkit::{Bundle, need};
use serde_json::{Value, json};

use crate::sampan::{Root, program, run};

const MAP: &str = "0 100000 65536";
/// A namespace's type in config.json, and its file.
const OF_POD: [(&str, &str); 5] =
    [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid_for_children")];

/// Namespaces that a process of its own holds.
pub struct Pod(Child);

impl Pod {
    pub fn new(uids: &str) -> Pod {
        Pod::with_groups(uids, "allow")
    }

    /// `setgroups`: "allow" or "deny" (user_namespaces(7)).
    fn with_groups(uids: &str, setgroups: &str) -> Pod {
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--net",
            "--ipc",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "sleep",
            "1000",
        ]);
        let pod =
            Pod(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        while pod.link("user") == fs::read_link("/proc/self/ns/user").unwrap().display().to_string() {
            std::thread::sleep(Duration::from_millis(5));
        }
        for (file, text) in [("setgroups", setgroups), ("uid_map", uids), ("gid_map", MAP)] {
            fs::write(format!("/proc/{}/{file}", pod.0.id()), text).unwrap();
        }
        // Its first process is what keeps a pid namespace.
        while fs::read_link(pod.path("pid_for_children")).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        pod
    }

    pub fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.0.id())
    }

    fn link(&self, file: &str) -> String {
        fs::read_link(self.path(file)).unwrap().display().to_string()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In these namespaces by their paths, and in new ones of the other types.
fn bundle(name: &str, pod: &Pod, joined: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(name).unwrap();
    let namespaces =
        OF_POD.into_iter().chain([("mount", "mnt"), ("cgroup", "cgroup")]).map(|(kind, file)| {
            match joined.contains(&kind) {
                true => json!({"type": kind, "path": pod.path(file)}),
                false => json!({"type": kind}),
            }
        });
    bundle.set("/linux/namespaces", namespaces.collect());
    bundle
}

fn ready() -> bool {
    need::root() && need::busybox()
}

fn dir(bundle: &Bundle) -> &str {
    bundle.path().to_str().unwrap()
}

fn id(bundle: &Bundle) -> &str {
    bundle.path().file_name().unwrap().to_str().unwrap()
}

const TELL: &str = "tr -s ' ' </proc/self/uid_map; id -u; readlink /proc/self/ns/user; touch /dev/shm/x && stat -c %u /dev/shm/x
    hostname; cat /proc/1/comm; test -c /dev/null && echo null >/dev/null && ls /sys/class/net && ls -d /sys/fs/cgroup";

#[test]
fn a_container_in_a_user_namespace_of_a_path_has_all_others_of_its_own() {
    if !ready() {
        return;
    }
    let pod = Pod::new(MAP);
    let mut bundle = bundle("users", &pod, &["user"]);
    // Without maps of its own an id-mapped mount has the namespace's.
    let data = bundle.path().join("data");
    fs::create_dir(&data).unwrap();
    bundle.add("/mounts", json!({"destination": "/mnt", "source": data, "options": ["bind", "idmap"]}));
    bundle.script(&format!("{TELL}; stat -c %u /mnt")).write().unwrap();
    fs::create_dir(bundle.rootfs().join("mnt")).unwrap();
    let root = Root::new("users");
    let said = root.ok(["run", "-b", dir(&bundle), id(&bundle)]);
    let expected = format!(" {MAP}\n0\n{}\n0\ntest\nsh\nlo\n/sys/fs/cgroup\n0\n", pod.link("user"));
    assert_eq!(said, expected);
    assert_eq!(crate::lifecycle::leftovers(id(&bundle)), [""; 0]);
}

#[test]
fn containers_of_a_pod_share_its_namespaces_and_exec_joins_them() {
    if !ready() {
        return;
    }
    let pod = Pod::new(MAP);
    let root = Root::new("pod");
    let kinds = OF_POD.map(|(kind, _)| kind);
    let mut bundles = ["pod-a", "pod-b"].map(|name| bundle(name, &pod, &kinds));
    let links = "for ns in user net ipc uts pid; do readlink /proc/self/ns/$ns; done; cat /proc/self/uid_map | tr -s ' '";
    let expected: String =
        OF_POD.iter().map(|(_, file)| pod.link(file) + "\n").chain([format!(" {MAP}\n")]).collect();
    for bundle in &mut bundles {
        bundle.script("exec sleep 77").write().unwrap();
        root.ok(["run", "-d", "-b", dir(bundle), id(bundle)]);
        assert_eq!(root.ok(["exec", id(bundle), "/bin/sh", "-c", links]), expected);
    }
    // Each sees the other's process.
    let [a, b] = &bundles;
    assert_eq!(root.ok(["exec", id(a), "/bin/sh", "-c", "ps | grep -c '[s]leep 77'"]), "2\n");
    root.ok(["delete", "--force", id(b)]);
    assert_eq!(root.ok(["list", "-q"]), format!("{}\n", id(a)));
}

/// Whoever starts a process there leaves his own groups outside, since inside nobody can.
#[test]
fn where_groups_can_not_be_set_a_container_and_exec_have_none() {
    if !ready() {
        return;
    }
    let pod = Pod::with_groups(MAP, "deny");
    let mut bundle = bundle("denied", &pod, &["user"]);
    let groups = "cat /proc/self/setgroups; grep ^Groups: /proc/self/status";
    bundle.script(&format!("({groups}) >/dev/shm/said; exec sleep 77")).write().unwrap();
    let root = Root::new("denied");
    let as_member_of = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--groups", "4,6", program(), "--root"]).arg(root.path());
        run(command.args(args).stdin(Stdio::null()))
    };
    let expected = "deny\nGroups:\t \n";
    let ran = as_member_of(&["run", "-d", "-b", dir(&bundle), id(&bundle)]);
    assert_eq!(ran, (0, String::new(), String::new()));
    let ran = as_member_of(&["exec", id(&bundle), "/bin/sh", "-c", &format!("cat /dev/shm/said; {groups}")]);
    assert_eq!(ran, (0, expected.repeat(2), String::new()));
    assert_eq!(root.ok(["exec", id(&bundle), "/bin/sh", "-c", groups]), expected);
}

/// A network that belongs to another user namespace, or to the host's, as CNI makes them: the host's root joins it all the same.
/// Its files in sysfs are its owner's, so the host's are shown.
#[test]
fn a_network_of_somebody_else_is_joined_beside_a_user_namespace() {
    if !ready() {
        return;
    }
    let (pod, other) = (Pod::new(MAP), Pod::new("0 300000 65536"));
    let mut of_the_host =
        Command::new("unshare").args(["--net", "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap();
    let of_the_host_path = format!("/proc/{}/ns/net", of_the_host.id());
    let root = Root::new("foreign");
    crate::lifecycle::eventually("its network", || {
        fs::read_link(&of_the_host_path).unwrap() != fs::read_link("/proc/self/ns/net").unwrap()
    });
    for (name, path) in [("foreign", other.path("net")), ("hosts", of_the_host_path)] {
        let mut bundle = bundle(name, &pod, &["user"]);
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "network", "path": path}));
        bundle
            .script("readlink /proc/self/ns/net; readlink /proc/self/ns/user; ls -d /sys/class/net/lo")
            .write()
            .unwrap();
        let network = fs::read_link(&path).unwrap().display().to_string();
        let ran = run(&mut root.command(["run", "-b", dir(&bundle), id(&bundle)]));
        let expected = format!("{network}\n{}\n/sys/class/net/lo\n", pod.link("user"));
        assert_eq!(ran, (0, expected, String::new()), "{name}");
    }
    of_the_host.kill().unwrap();
    of_the_host.wait().unwrap();
}

/// containerd and CRI-O repeat the maps; runc's rules.
#[test]
fn maps_beside_a_path_are_those_of_the_namespace_or_an_error() {
    if !ready() {
        return;
    }
    let pod = Pod::new(MAP);
    let root = Root::new("maps");
    let ran = |first: u32| {
        let mut bundle = bundle("maps", &pod, &["user"]);
        let map: Value = json!([{"containerID": 0, "hostID": first, "size": 65_536}]);
        bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        bundle.script("exit 0").write().unwrap();
        root.err(["--log-level", "warning", "run", "-b", dir(&bundle), id(&bundle)])
    };
    let (code, said) = ran(100_000);
    assert!(
        code == 0 && said.contains("linux.uidMappings: are those of the user namespace that is joined"),
        "{said}"
    );
    let (code, said) = ran(200_000);
    let says = "linux.uidMappings: differ from those of the user namespace that is joined (0 100000 65536): leave them out";
    assert!(code == 1 && said.contains(says), "{said}");
}

#[test]
fn a_namespace_without_a_root_and_our_own_are_refused() {
    if !ready() {
        return;
    }
    let root = Root::new("refused");
    let refused = |name: &str, pod: &Pod, path: Option<&str>, says: &str| {
        let mut bundle = bundle(name, pod, &["user"]);
        if let Some(path) = path {
            bundle.set("/linux/namespaces/0/path", json!(path));
        }
        bundle.write().unwrap();
        let (code, said) = root.err(["run", "-b", dir(&bundle), id(&bundle)]);
        assert!(code == 1 && said.contains(says), "{code}: {said}");
    };
    let pod = Pod::new("1 100000 10");
    refused(
        "rootless",
        &pod,
        None,
        "0 has no id in the user namespace that is joined (linux.uidMappings of it)",
    );
    let says = "linux.namespaces[0].path: /proc/self/ns/user is the user namespace that we are in ourselves";
    refused("own", &pod, Some("/proc/self/ns/user"), says);
    refused("other", &pod, Some("/proc/self/ns/net"), "is a net namespace, not a user namespace");
}

/// A script in the bundle's folder, as a user without privileges. `POD` in the config is the pid of what runs in the background.
fn as_user(bundle: &Bundle, script: &str) -> (i32, String, String) {
    let own = bundle.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
    bundle.write().unwrap();
    for path in [&own, bundle.path(), &bundle.path().join("config.json")] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "sh", "-ec", script, program()]);
    command.env("XDG_RUNTIME_DIR", &own).current_dir(bundle.path()).stdin(Stdio::null());
    run(&mut command)
}

/// As podman without root asks: no groups, nothing limited, and what its user may join.
fn of_a_user(name: &str, path: &str, network: &str) -> Bundle {
    let mut bundle = Bundle::new(name).unwrap();
    let kinds = ["pid", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    let joined = [json!({"type": "user", "path": path}), json!({"type": "network", "path": network})];
    bundle.set("/linux/namespaces", kinds.into_iter().chain(joined).collect());
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    for key in ["resources", "cgroupsPath"] {
        linux.remove(key);
    }
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    // Its group is the terminals', which has no id in there.
    bundle.set("/mounts/2/options", json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]));
    bundle.script("tr -s ' ' </proc/self/uid_map; id -u; cat /proc/1/comm; ls /sys/class/net");
    bundle
}

#[test]
fn a_user_joins_what_is_his_own() {
    if !ready() {
        return;
    }
    let bundle = of_a_user("user", "/proc/POD/ns/user", "/proc/POD/ns/net");
    let ran = as_user(
        &bundle,
        "unshare --user --map-root-user --net sleep 1000 >/dev/null 2>&1 & trap 'kill $!' EXIT
         until test \"$(cat /proc/$!/uid_map 2>/dev/null)\" != \"$(cat /proc/self/uid_map)\" -a \"$(cat /proc/$!/comm)\" = sleep; do sleep 0.01; done
         sed -i s/POD/$!/ config.json; $0 run -b . joined",
    );
    assert_eq!(ran, (0, " 0 1000 1\n0\nsh\nlo\n".into(), String::new()));
}

/// His rights are those over what his user namespace owns.
#[test]
fn nor_does_a_user_join_a_network_of_somebody_else_in_his_own_user_namespace() {
    if !ready() {
        return;
    }
    let pod = Pod::new(MAP);
    let bundle = of_a_user("network", "/proc/POD/ns/user", "net");
    let at = bundle.path().join("net");
    fs::write(&at, "").unwrap();
    assert!(Command::new("mount").arg("--bind").arg(pod.path("net")).arg(&at).status().unwrap().success());
    let (code, out, err) = as_user(
        &bundle,
        "unshare --user --map-root-user sleep 1000 >/dev/null 2>&1 & trap 'kill $!' EXIT
         until test \"$(cat /proc/$!/uid_map 2>/dev/null)\" != \"$(cat /proc/self/uid_map)\" -a \"$(cat /proc/$!/comm)\" = sleep; do sleep 0.01; done
         sed -i \"s/POD/$!/; s|\\\"net\\\"|\\\"$PWD/net\\\"|\" config.json; $0 run -b . joined",
    );
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    assert_eq!((code, out.as_str()), (1, ""));
    let says = "linux.namespaces[5].path: cannot join network namespace";
    assert!(err.contains(says) && err.contains("in the user namespace that owns it"), "{err}");
    assert!(err.contains("EPERM"), "{err}");
}

#[test]
fn nobody_joins_what_is_somebody_elses() {
    if !ready() {
        return;
    }
    let pod = Pod::new(MAP);
    let bundle = of_a_user("theirs", "ns", "ns");
    let at = bundle.path().join("ns");
    fs::write(&at, "").unwrap();
    assert!(Command::new("mount").arg("--bind").arg(pod.path("user")).arg(&at).status().unwrap().success());
    let (code, out, err) =
        as_user(&bundle, "sed -i \"s|\\\"ns\\\"|\\\"$PWD/ns\\\"|\" config.json; $0 run -b . theirs");
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    assert_eq!((code, out.as_str()), (1, ""));
    let says = "linux.namespaces[4].path: cannot join user namespace";
    assert!(
        err.contains(says) && err.contains("joining needs CAP_SYS_ADMIN in the user namespace that owns it"),
        "{err}"
    );
    assert!(Path::new(&at).exists());
}
