//! A bundle on disk: a root of busybox alone, and the config that `runc spec` writes, to be changed as a test likes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{World, mountinfo};

pub const BUSYBOX: &str = "/bin/busybox";

/// Removed when dropped.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    pub config: Value,
    /// What was mounted before, in a world of the test's own.
    mounts: Option<String>,
}

impl Bundle {
    /// In a folder of its own below the system's temporary one; `name` tells tests apart.
    pub fn new(name: &str) -> std::io::Result<Bundle> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sampan-test-{}-{n}-{name}", std::process::id()));
        let root = path.join("rootfs");
        for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "run"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy(BUSYBOX, root.join("bin/busybox"))?;
        for tool in TOOLS {
            symlink("busybox", root.join("bin").join(tool))?;
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )?;
        let world = World::asked();
        let mounts = match world {
            Some(world) => Some(world.enter().and_then(|()| mountinfo())?),
            None => None,
        };
        let mut bundle = Bundle { path, config: default_config(), mounts };
        if world.is_some_and(|world| world.user_namespace) {
            // Each id is the same outside: the root's files belong to whom they should.
            bundle.user_namespace(0, 65536);
        }
        Ok(bundle)
    }

    /// A user namespace of its own, in which the `size` ids from 0 on are the host's from `first` on.
    pub fn user_namespace(&mut self, first: u32, size: u32) -> &mut Bundle {
        if let Some(Value::Array(list)) = self.config.pointer_mut("/linux/namespaces") {
            list.retain(|namespace| namespace["type"] != "user");
        }
        let map = json!([{"containerID": 0, "hostID": first, "size": size}]);
        self.add("/linux/namespaces", json!({"type": "user"}));
        self.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// What the container runs.
    pub fn args(&mut self, args: &[&str]) -> &mut Bundle {
        self.set("/process/args", json!(args))
    }

    /// A shell script as the container's program.
    pub fn script(&mut self, script: &str) -> &mut Bundle {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Replaces the value at a JSON pointer; its parents must exist, a last name is added where it is missing.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        match self.config.pointer_mut(parent) {
            Some(Value::Object(object)) => _ = object.insert(name.to_owned(), value),
            Some(Value::Array(array)) if name == "-" => array.push(value),
            _ => panic!("no {parent} in the config"),
        }
        self
    }

    /// In the host's pid namespace, where the program can kill itself: the first process of one of its own cannot
    /// (pid_namespaces(7)). And so without procfs, which a user namespace may mount for a pid namespace of its own alone.
    pub fn without_pid_namespace(&mut self) -> &mut Bundle {
        for (list, name, value) in [("/linux/namespaces", "type", "pid"), ("/mounts", "destination", "/proc")]
        {
            if let Some(Value::Array(entries)) = self.config.pointer_mut(list) {
                entries.retain(|entry| entry[name] != value);
            }
        }
        self
    }

    /// Adds to a list at a JSON pointer.
    pub fn add(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        self.set(&format!("{pointer}/-"), value)
    }

    /// Writes config.json, and returns its text.
    pub fn write(&self) -> std::io::Result<String> {
        let text = serde_json::to_string_pretty(&self.config)?;
        fs::write(self.path.join("config.json"), &text)?;
        Ok(text)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        if let Some(before) = self.mounts.take().filter(|_| !std::thread::panicking()) {
            assert_eq!(mountinfo().unwrap_or_default(), before, "mounts were left behind");
        }
    }
}

const TOOLS: [&str; 38] = [
    "sh", "true", "false", "cat", "ls", "echo", "readlink", "grep", "tr", "hostname", "stat", "wc", "head",
    "id", "mount", "umount", "mkdir", "touch", "rm", "sleep", "kill", "ps", "env", "pwd", "tty", "stty",
    "cut", "dd", "test", "mknod", "chmod", "find", "seq", "sort", "tail", "date", "ip", "nc",
];

/// As `runc spec` writes it, with /bin/true as its program.
pub fn default_config() -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "test",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
