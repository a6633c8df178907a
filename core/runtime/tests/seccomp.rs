//! Nothing of ours has to pass a container's filter: execve is the first call after it, and the only one.

use std::time::{Duration, Instant};

use sampan_testkit::{Bundle, need};
use serde_json::{Value, json};

use crate::sampan::{Root, run};

struct Here {
    root: Root,
    bundle: Bundle,
    id: String,
}

fn here(name: &str) -> Option<Here> {
    if !need::root() || !need::busybox() {
        return None;
    }
    Some(Here {
        root: Root::new(name),
        bundle: Bundle::new(name).unwrap(),
        id: format!("t{}-{name}", std::process::id()),
    })
}

impl Here {
    fn sampan(&self, verb: &[&str]) -> (i32, String, String) {
        run(&mut self.root.command(verb))
    }
    fn run(&self) -> (i32, String, String) {
        self.bundle.write().unwrap();
        self.sampan(&["run", "-b", self.bundle.path().to_str().unwrap(), &self.id])
    }
    fn create(&self) {
        self.bundle.write().unwrap();
        self.root.ok(["create", "-b", self.bundle.path().to_str().unwrap(), &self.id]);
    }
}

/// All but these are allowed.
fn without(calls: &[&str]) -> Value {
    let denied = json!({"names": calls, "action": "SCMP_ACT_ERRNO"});
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [denied]})
}

/// What a launch does on its way, and no program of busybox needs.
const OURS: [&str; 24] = [
    "close_range",
    "faccessat2",
    "statx",
    "openat2",
    "fchdir",
    "getcwd",
    "capset",
    "prctl",
    "setgroups",
    "setresuid",
    "setresgid",
    "umask",
    "prlimit64",
    "keyctl",
    "setsid",
    "sched_setaffinity",
    "clock_gettime",
    "dup3",
    "mmap",
    "sethostname",
    "mount_setattr",
    "move_mount",
    "pivot_root",
    "seccomp",
];

#[test]
fn a_profile_may_deny_everything_that_a_launch_does() {
    for (no_new_privileges, uid) in [(true, 0), (false, 0), (true, 1000), (false, 1000)] {
        let Some(mut here) = here(&format!("ours-{no_new_privileges}-{uid}")) else { return };
        here.bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        here.bundle.set("/process/user", json!({"uid": uid, "gid": uid}));
        // A program that needs next to nothing: with mmap denied a shell would not start.
        here.bundle.set("/linux/seccomp", without(&OURS)).args(&["/bin/true"]);
        let (code, out, err) = here.run();
        assert!(!err.contains("sampan:"), "no_new_privs {no_new_privileges}, uid {uid}: {code} {out} {err}");
        // Without what libc itself asks for.
        let few: Vec<&str> =
            OURS.into_iter().filter(|call| !matches!(*call, "mmap" | "prlimit64" | "prctl")).collect();
        here.bundle.set("/linux/seccomp", without(&few)).script("echo ran");
        assert_eq!(
            here.run(),
            (0, "ran\n".to_owned(), String::new()),
            "no_new_privs {no_new_privileges}, uid {uid}"
        );
    }
}

/// Without no_new_privs the filter needs CAP_SYS_ADMIN until the last moment, and the program must not have it.
#[test]
fn no_capability_that_the_filter_needed_reaches_the_program() {
    for uid in [0, 1000] {
        let Some(mut here) = here(&format!("admin-{uid}")) else { return };
        here.bundle.set("/process/noNewPrivileges", json!(false));
        here.bundle.set("/process/user", json!({"uid": uid, "gid": uid}));
        here.bundle
            .script("grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNew|Seccomp:)' /proc/self/status | tr -d '\\t'");
        let plain = here.run().1;
        here.bundle.set("/linux/seccomp", without(&["bpf"]));
        let filtered = here.run().1;
        assert!(plain.contains("Seccomp:0\n") && plain.contains("NoNewPrivs:0\n"), "{plain}");
        assert_eq!(filtered, plain.replace("Seccomp:0", "Seccomp:2"), "uid {uid}");
    }
}

#[test]
fn a_profile_that_denies_execve_is_an_error_and_never_a_process_that_spins() {
    let only = |names: &[&str], action: &str| {
        let rule = json!({"names": names, "action": "SCMP_ACT_ALLOW"});
        json!({"defaultAction": action, "syscalls": [rule]})
    };
    let nothing = only(&["clone"], "SCMP_ACT_ERRNO");
    for (name, profile) in [
        ("errno", without(&["execve"])),
        ("nothing", nothing.clone()),
        ("kill", only(&["write"], "SCMP_ACT_KILL")),
        ("killed", only(&["exit_group"], "SCMP_ACT_KILL_PROCESS")),
    ] {
        for no_new_privileges in [true, false] {
            let Some(mut here) = here(&format!("denied-{name}-{no_new_privileges}")) else { return };
            here.bundle
                .set("/process/noNewPrivileges", json!(no_new_privileges))
                .set("/linux/seccomp", profile.clone());
            let start = Instant::now();
            let said = "linux.seccomp: execve denied by the seccomp profile";
            let (code, _, err) = here.run();
            assert!(code == 1 && err.contains(said), "{name}: run: {code} {err}");
            here.create();
            let (code, _, err) = here.sampan(&["start", &here.id]);
            assert!(code == 1 && err.contains(said), "{name}: start: {code} {err}");
            assert!(start.elapsed() < Duration::from_secs(20), "{name}: {:?}", start.elapsed());
            let (code, _, err) = here.sampan(&["delete", &here.id]);
            assert_eq!((code, err), (0, String::new()), "{name}: it has ended");
        }
    }
}

#[test]
fn exec_says_so_too() {
    let Some(mut here) = here("exec") else { return };
    here.bundle.set("/linux/seccomp", without(&["bpf"])).script("sleep 100");
    here.create();
    here.root.ok(["start", &here.id]);
    // The config that exec goes by is the one kept at create.
    let kept = here.root.path().join(&here.id).join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    config["linux"]["seccomp"] = without(&["execve"]);
    std::fs::remove_file(&kept).unwrap();
    std::fs::write(&kept, config.to_string()).unwrap();
    let (code, _, err) = here.sampan(&["exec", &here.id, "true"]);
    assert!(code == 255 && err.contains("execve denied by the seccomp profile"), "{code} {err}");
}
