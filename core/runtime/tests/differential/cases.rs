//! The bundles that are compared: each the one that `spec` writes, with a change.

use std::process::{Child, Command};

use sampan_plan::seccomp::docker::{Facts, default_profile};
use sampan_testkit::Bundle;
use serde_json::{Value, json};

use super::report::inode;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `run` in the foreground.
    Run,
    /// create, start, exec, kill, delete, with `state` between them.
    Life,
    /// `run` fails, with the same code and these words in its message, whatever their case.
    Fails(&'static str),
}

pub struct Case {
    pub name: &'static str,
    pub how: How,
    pub change: fn(&mut Bundle, &Others),
    /// Flags and program of each.
    pub execs: &'static [(&'static [&'static str], &'static [&'static str])],
}

/// Namespaces of another process, to be joined by path.
pub struct Others(Child);

pub const JOINED: [&str; 3] = ["net", "ipc", "uts"];

impl Others {
    pub fn new() -> Others {
        let child = Command::new("unshare").args(["-n", "-i", "-u", "sleep", "600"]).spawn().unwrap();
        let others = Others(child);
        while JOINED.iter().any(|k| inode(&others.path(k)) == inode(&format!("/proc/thread-self/ns/{k}"))) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        others
    }

    pub fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const fn run(name: &'static str, change: fn(&mut Bundle, &Others)) -> Case {
    Case { name, how: How::Run, change, execs: &[] }
}

const fn fails(name: &'static str, words: &'static str, change: fn(&mut Bundle, &Others)) -> Case {
    Case { name, how: How::Fails(words), change, execs: &[] }
}

pub const CASES: &[Case] = &[
    run("default", |_, _| {}),
    Case {
        name: "life",
        how: How::Life,
        change: |b, _| {
            b.set("/annotations", json!({"org.example.key": "value", "empty": ""}));
            b.set("/process/oomScoreAdj", json!(100));
            b.set("/linux/resources", resources());
        },
        execs: &[
            (&[], &["/observe"]),
            (&["--user", "1000:1001", "--cwd", "/etc", "--env", "A=1", "-e", "B=2"], &["/observe"]),
            (&["--cap", "CAP_NET_ADMIN"], &["/observe"]),
            (&["--no-new-privs"], &["/observe"]),
            (&["--tty"], &["/observe"]),
            (&["--tty", "--user", "1000"], &["/observe"]),
            (&[], &["/observe", "exit", "7"]),
            (&[], &["/observe", "signal", "15"]),
            (&[], &["/nosuch"]),
            (&[], &["nosuch"]),
            (&[], &["/etc/passwd"]),
            (&["--cwd", "/nosuch"], &["/bin/pwd"]),
        ],
    },
    Case {
        name: "everything",
        how: How::Life,
        change: |b, _| {
            users(b);
            b.add("/linux/namespaces", json!({"type": "cgroup"}));
            b.add("/linux/namespaces", json!({"type": "time"}));
            b.set(
                "/linux/timeOffsets",
                json!({"monotonic": {"secs": 86_400, "nanosecs": 1}, "boottime": {"secs": 3600}}),
            );
            seccomp(b);
            hooks(b);
            b.set("/domainname", json!("domain.test"));
            b.set(
                "/linux/sysctl",
                json!({"net.ipv4.ip_unprivileged_port_start": "1", "kernel.msgmax": "4096"}),
            );
            b.set("/linux/resources", resources());
        },
        execs: &[
            (&[], &["/observe"]),
            (&["--user", "1000:1000"], &["/observe"]),
            (&["--tty"], &["/observe"]),
        ],
    },
    run("no seccomp but caps", |b, _| {
        let all: Vec<&str> =
            sampan_plan::ids::CAPABILITIES.iter().copied().filter(|c| *c != "CAP_SYS_RESOURCE").collect();
        b.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
        b.set("/process/noNewPrivileges", json!(false));
    }),
    run("docker seccomp", |b, _| seccomp(b)),
    run("docker seccomp without no_new_privs", |b, _| {
        seccomp(b);
        b.set("/process/noNewPrivileges", json!(false));
    }),
    run("seccomp actions", |b, _| {
        b.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
                {"names": ["keyctl", "add_key"], "action": "SCMP_ACT_ERRNO"},
                {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
                {"names": ["setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
                {"names": ["acct"], "action": "SCMP_ACT_KILL"},
                {"names": ["swapon"], "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["kcmp"], "action": "SCMP_ACT_TRAP"},
                {"names": ["quotactl"], "action": "SCMP_ACT_LOG"},
                {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3,
                 "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
                {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
                 "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_GE"}, {"index": 1, "value": 3, "op": "SCMP_CMP_NE"}]},
                {"names": ["nosuchcall"], "action": "SCMP_ACT_ERRNO"}
            ]}),
        );
    }),
    Case {
        name: "terminal",
        how: How::Life,
        change: |b, _| {
            b.set("/process/terminal", json!(true));
            b.set("/process/consoleSize", json!({"height": 33, "width": 77}));
        },
        execs: &[(&["--tty"], &["/observe"])],
    },
    Case {
        name: "terminal of a user",
        how: How::Life,
        change: |b, _| {
            b.set("/process/terminal", json!(true));
            b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        },
        execs: &[],
    },
    run("user", |b, _| {
        b.set(
            "/process/user",
            json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 7, 1001], "umask": 0o27}),
        );
        b.set("/process/cwd", json!("/tmp"));
    }),
    run("ambient", |b, _| {
        let caps = json!(["CAP_NET_BIND_SERVICE", "CAP_KILL"]);
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        b.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps, "inheritable": caps, "ambient": caps}));
        b.set("/process/rlimits", json!([
            {"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256}, {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            {"type": "RLIMIT_NPROC", "hard": 4000, "soft": 3000}, {"type": "RLIMIT_STACK", "hard": 16_777_216, "soft": 8_388_608}
        ]));
        b.set("/process/noNewPrivileges", json!(false));
    }),
    run("no capabilities", |b, _| {
        b.config.pointer_mut("/process").unwrap().as_object_mut().unwrap().remove("capabilities");
        b.set("/process/oomScoreAdj", json!(500));
    }),
    run("environment", |b, _| {
        b.set("/process/env", json!(["PATH=/bin", "A=1", "EMPTY=", "B=2", "A=3", "SPACE=a b"]));
        b.set("/process/args", json!(["/observe", "", "a b", "ü"]));
    }),
    run("mounts", |b, _| mounts(b)),
    run("writable root", |b, _| {
        b.set("/root/readonly", json!(false));
        b.set("/linux/rootfsPropagation", json!("private"));
        b.set("/linux/maskedPaths", json!(["/proc/keys", "/etc/passwd", "/root", "/nosuch"]));
        b.set("/linux/readonlyPaths", json!(["/etc", "/bin/busybox", "/nosuch"]));
    }),
    run("propagation rslave", |b, _| {
        b.set("/linux/rootfsPropagation", json!("rslave"));
    }),
    run("propagation shared", |b, _| {
        b.set("/linux/rootfsPropagation", json!("shared"));
    }),
    run("propagation unbindable", |b, _| {
        b.set("/linux/rootfsPropagation", json!("unbindable"));
    }),
    run("devices", |b, _| {
        let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
        b.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
        b.set("/linux/devices", json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 5, "gid": 6},
            {"path": "/dev/deep/pipe", "type": "p", "fileMode": 0o640},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o644},
            {"path": "/dev/blk", "type": "b", "major": 7, "minor": 0}
        ]));
        b.set("/linux/resources", json!({"devices": [
            {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            {"allow": true, "type": "b", "major": 7, "access": "m"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rm"},
            {"allow": true, "type": "c", "major": 4, "minor": 0, "access": "r"}
        ]}));
    }),
    run("bound dev", |b, _| {
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rslave", "nosuid"]}));
    }),
    run("no dev", |b, _| {
        b.config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        b.set("/root/readonly", json!(false));
    }),
    run("names and sysctls", |b, _| {
        b.set("/hostname", json!("name.example"));
        b.set("/linux/sysctl", json!({
            "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647", "kernel.shm_rmid_forced": "1",
            "fs.mqueue.msg_max": "20", "net.core.somaxconn": "99", "kernel.sem": "32001 1024000000 500 32001"
        }));
    }),
    run("joined", |b, o| {
        b.config.as_object_mut().unwrap().remove("hostname");
        b.set(
            "/linux/namespaces",
            json!([
                {"type": "pid"}, {"type": "mount"}, {"type": "network", "path": o.path("net")},
                {"type": "ipc", "path": o.path("ipc")}, {"type": "uts", "path": o.path("uts")}
            ]),
        );
    }),
    run("few namespaces", |b, _| {
        b.config.as_object_mut().unwrap().remove("hostname");
        b.set("/linux/namespaces", json!([{"type": "mount"}, {"type": "network"}]));
        b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/dev/mqueue");
    }),
    run("cgroup namespace", |b, _| {
        b.add("/linux/namespaces", json!({"type": "cgroup"}));
        b.set(
            "/linux/cgroupsPath",
            json!(format!("/same-{}", b.path().file_name().unwrap().to_str().unwrap())),
        );
        b.set("/linux/resources", resources());
    }),
    run("own groups", |b, _| {
        b.add("/linux/namespaces", json!({"type": "cgroup"}));
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let mounts = b.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["destination"] != "/sys/fs/cgroup");
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}));
    }),
    run("users", |b, _| users(b)),
    run("users, host root", |b, _| {
        users(b);
        b.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 65536}]));
        b.set("/linux/gidMappings", json!([{"containerID": 0, "hostID": 0, "size": 65536}]));
        b.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5]}));
    }),
    run("relative root", |b, _| {
        b.set("/root/path", json!("./rootfs/"));
        b.set("/process/cwd", json!("/made/for/it"));
        b.set("/root/readonly", json!(false));
    }),
    run("working directory to be made, read-only root", |b, _| {
        b.set("/process/cwd", json!("/not/there/yet"));
    }),
    run("hooks", |b, _| hooks(b)),
    Case { name: "hooks of a life", how: How::Life, change: |b, _| hooks(b), execs: &[] },
    run("exit code", |b, _| {
        b.args(&["/observe", "exit", "42"]);
    }),
    run("end by a signal", |b, _| {
        b.script("sh -c 'kill -KILL $$'; exit $?");
    }),
    run("killed", |b, _| {
        // The first process of a pid namespace cannot end itself so.
        b.set(
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}]),
        );
        b.args(&["/observe", "signal", "9"]);
    }),
    fails("missing program", "no such file or directory", |b, _| _ = b.args(&["/nosuch"])),
    fails("program not in PATH", "not found in $path", |b, _| _ = b.args(&["nosuch"])),
    fails("program not executable", "permission denied", |b, _| _ = b.args(&["/etc/passwd"])),
    fails("program is a folder", "", |b, _| _ = b.args(&["/etc"])),
    fails("missing root", "nosuch", |b, _| _ = b.set("/root/path", json!("nosuch"))),
    fails("missing mount source", "/nosuch", |b, _| {
        b.add(
            "/mounts",
            json!({"destination": "/tmp", "type": "bind", "source": "/nosuch", "options": ["bind"]}),
        );
    }),
    fails("failing hook", "hook", |b, _| {
        _ = b.set("/hooks", json!({"createRuntime": [{"path": "/bin/false"}]}))
    }),
    fails("relative cwd", "cwd", |b, _| _ = b.set("/process/cwd", json!("tmp"))),
    fails("joining what is not there", "/nosuch", |b, _| {
        b.add("/linux/namespaces", json!({"type": "cgroup", "path": "/nosuch"}));
    }),
];

/// Inodes that the case joins.
pub fn joined(others: &Others) -> Vec<String> {
    JOINED.iter().map(|k| inode(&others.path(k))).collect()
}

fn resources() -> Value {
    let mut all = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 100_000_000, "reservation": 50_000_000},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 50}
    });
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        // crun refuses it on cgroup v2.
        all["memory"]["swappiness"] = json!(10);
    }
    all
}

/// Two ranges of each, so that a file of 0 and one of 1000 differ.
fn users(b: &mut Bundle) {
    b.add("/linux/namespaces", json!({"type": "user"}));
    b.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 100_000, "size": 1000}, {"containerID": 1000, "hostID": 200_000, "size": 500}]));
    b.set("/linux/gidMappings", json!([{"containerID": 0, "hostID": 300_000, "size": 1000}, {"containerID": 1000, "hostID": 400_000, "size": 500}]));
    use std::os::unix::fs::{PermissionsExt, lchown};
    let root = b.rootfs();
    lchown(&root, Some(100_000), Some(300_000)).unwrap();
    for folder in std::fs::read_dir(&root).unwrap().flatten() {
        lchown(folder.path(), Some(100_000), Some(300_000)).unwrap();
    }
    std::fs::set_permissions(b.path().join("hooks"), PermissionsExt::from_mode(0o777)).unwrap();
    // crun opens it as the container's root.
    std::fs::set_permissions(b.path(), PermissionsExt::from_mode(0o755)).unwrap();
}

fn seccomp(b: &mut Bundle) {
    let bounding = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"].map(Into::into);
    let native = sampan_plan::seccomp::Arch::native().unwrap();
    let profile = default_profile(&Facts { bounding: &bounding, kernel: (6, 1), native }).unwrap();
    b.set("/linux/seccomp", serde_json::to_value(profile).unwrap());
}

/// Two of each kind; what they see goes to BUNDLE/hooks/report.
fn hooks(b: &mut Bundle) {
    use std::os::unix::fs::PermissionsExt;
    let folder = b.path().join("hooks");
    let report = folder.join("report");
    std::fs::write(&report, "").unwrap();
    std::fs::set_permissions(&report, PermissionsExt::from_mode(0o666)).unwrap();
    std::fs::create_dir(b.rootfs().join("hooks")).unwrap();
    b.add(
        "/mounts",
        json!({"destination": "/hooks", "type": "bind", "source": "hooks", "options": ["rbind", "rw"]}),
    );
    let observer = b.path().join("observe");
    let of = |kind: &str| -> Value {
        let inside = kind == "startContainer";
        let program = if inside { json!("/observe") } else { json!(observer) };
        let report = if inside { json!("/hooks/report") } else { json!(report) };
        (1..=2)
            .map(|n| match n {
                1 => json!({"path": program, "args": ["zeroth", "hook", format!("{kind}-{n}"), report], "env": ["ONE=1", "TWO=2"], "timeout": 20}),
                _ => json!({"path": program, "args": ["zeroth", "hook", format!("{kind}-{n}"), report]}),
            })
            .collect()
    };
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let all: serde_json::Map<String, Value> = kinds.iter().map(|k| ((*k).to_owned(), of(k))).collect();
    b.set("/hooks", Value::Object(all));
    b.set("/annotations", json!({"org.example.key": "value"}));
}

fn mounts(b: &mut Bundle) {
    use std::os::unix::fs::symlink;
    let (data, root) = (b.path().join("data"), b.rootfs());
    std::fs::create_dir_all(data.join("inner")).unwrap();
    std::fs::write(data.join("file"), "hello").unwrap();
    std::fs::create_dir_all(root.join("full/of")).unwrap();
    std::fs::write(root.join("full/of/things"), "here").unwrap();
    symlink("/tmp", root.join("to-tmp")).unwrap();
    symlink("../../etc", root.join("full/to-etc")).unwrap();
    let bind = |to: &str, from: &str, o: &[&str]| json!({"destination": to, "type": "bind", "source": from, "options": o});
    let tmpfs =
        |to: &str, o: &[&str]| json!({"destination": to, "type": "tmpfs", "source": "tmpfs", "options": o});
    let all = data.to_str().unwrap();
    let file = format!("{all}/file");
    for m in [
        bind("/data", all, &["rbind", "ro", "nosuid", "rprivate"]),
        bind("/plain", all, &["bind"]),
        bind("/no-type-options", "data", &["rbind", "nodev", "noexec", "rslave"]),
        bind("/made/on/the/way", all, &["bind", "rw", "noatime"]),
        bind("/etc/file", &file, &["bind", "ro", "noexec"]),
        bind("/new/file", &file, &["bind"]),
        bind("/to-tmp/through", all, &["bind", "nodiratime"]),
        bind("/full/to-etc/through", all, &["bind", "shared"]),
        bind("/data-rro", all, &["rbind", "rro"]),
        bind("/data-un", all, &["bind", "unbindable"]),
        tmpfs("/full", &["tmpcopyup", "size=1m", "mode=1770", "nosuid"]),
        tmpfs("/t1", &["noexec", "relatime", "uid=5", "gid=6", "size=65536k"]),
        tmpfs("/t1/nested/deep", &["ro", "nodev", "strictatime"]),
        tmpfs("/t2", &["rprivate", "sync", "dirsync", "nr_inodes=100"]),
        tmpfs("/t3", &[]),
        bind("/t3/nested", all, &["rbind", "ro"]),
        json!({"destination": "/proc2", "type": "proc", "source": "proc", "options": ["hidepid=2", "nosuid"]}),
        json!({"destination": "/sys2", "type": "sysfs", "source": "sysfs", "options": ["ro"]}),
        json!({"destination": "relative", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}),
    ] {
        b.add("/mounts", m);
    }
    b.args(&[
        "/observe",
        "all",
        "/data",
        "/plain",
        "/data/file",
        "/etc/file",
        "/new/file",
        "/tmp/through",
        "/full",
        "/full/of/things",
        "/t1",
        "/t1/nested/deep",
        "/t2",
        "/t3",
        "/relative",
        "/data-rro/inner",
        "/made",
        "/made/on",
        "/new",
    ]);
}
