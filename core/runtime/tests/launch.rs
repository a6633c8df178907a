//! Real containers, as root, through the launch alone: no command line, no other runtime.

use serde_json::json;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};

use sampan_plan::{Options, Plan, Spec};
use sampan_runtime::error::Error;
use sampan_runtime::launch::spawn::Direct;
use sampan_runtime::launch::{self, Barrier, Console, Created, Keep, Request, StartGate};
use sampan_runtime::store::dir::{Folder, Root};
use sampan_runtime::store::state::{Stage, State};
use sampan_testkit::{Bundle, need};

/// A container run to its end: what it printed, and its exit code.
struct Ran {
    output: String,
    code: i32,
}

/// A container in the state `created`, and what it takes to go on.
struct Made {
    created: Created,
    folder: Folder,
    output: File,
    id: String,
}

/// Removes its groups, whatever the test did.
impl Drop for Made {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.created.child.pidfd, rustix::process::Signal::KILL);
        remove_groups(&self.id);
    }
}

fn options(bundle: &Bundle, spec: &Spec<'_>, id: &str) -> Options {
    Options {
        id: id.to_owned(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        given_stdio: spec.process.as_ref().is_some_and(|p| !p.terminal),
        ..Options::default()
    }
}

fn make(bundle: &Bundle, spec: &Spec<'_>, barrier: Barrier) -> Result<Made, Error> {
    let root = Root::new(Some(&bundle.path().join("state"))).unwrap();
    let id = bundle.path().file_name().unwrap().to_str().unwrap().to_owned();
    let folder = root.create(&id).unwrap();
    let host = sampan_runtime::launch::host_facts(spec, bundle.path(), &id, true)?;
    let options = options(bundle, spec, &id);
    let plan = Plan::compile(spec, &host, &options)?;
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let output: File =
        nix::sys::memfd::memfd_create(c"output", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap().into();
    let request = Request {
        plan: &plan,
        host: &host,
        folder: &folder,
        bundle: bundle.path(),
        barrier,
        console: Console::Keep,
        stdio: Some([null.as_fd(), output.as_fd(), output.as_fd()]),
        given: &[],
        netns: None,
        groups: Keep::No,
        hook_log: None,
    };
    let created = launch::create(&request, &mut Direct, &mut ())?;
    Ok(Made { created, folder, output, id })
}

/// A container run to its end.
fn run(bundle: &Bundle) -> Result<Ran, Error> {
    let text = bundle.write().unwrap();
    let spec = Spec::parse(&text)?;
    let mut made = make(bundle, &spec, Barrier::Pipe)?;
    let host = sampan_runtime::launch::host_facts(&spec, bundle.path(), &made.id, true)?;
    let plan = Plan::compile(&spec, &host, &options(bundle, &spec, &made.id))?;
    let folder = made.folder.reopen().unwrap();
    let started = launch::start(&mut made.created, &plan, &folder, &mut launch::HookRunner::new(&mut Direct));
    let code = wait(&made.created.child);
    started?;
    Ok(Ran { output: made.text(), code })
}

impl Made {
    fn text(&mut self) -> String {
        let mut text = String::new();
        self.output.seek(SeekFrom::Start(0)).unwrap();
        self.output.read_to_string(&mut text).unwrap();
        text
    }
}

fn wait(child: &launch::Spawned) -> i32 {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    match waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

fn remove_groups(id: &str) {
    let hierarchies = sampan_cgroups::Hierarchies::detect().unwrap();
    let place = sampan_cgroups::CgroupsPath::parse(None, id).unwrap();
    let _ = sampan_cgroups::Cgroup::at(hierarchies, &place).unwrap().remove();
}

pub fn ready() -> bool {
    need::root() && need::busybox()
}

/// Changes the default bundle, runs a script in it, and compares what it prints.
pub fn check(name: &str, change: impl FnOnce(&mut Bundle), script: &str, expected: &str) {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new(name).unwrap();
    bundle.script(script);
    change(&mut bundle);
    let ran = run(&bundle).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ran.output.trim(), expected, "exit code {}", ran.code);
}

/// Changes the default bundle, and compares the error.
pub fn fails(name: &str, change: impl FnOnce(&mut Bundle), expected: &str) {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new(name).unwrap();
    change(&mut bundle);
    let error = match run(&bundle) {
        Ok(ran) => panic!("it ran: {}", ran.output),
        Err(mut e) => {
            e.container.clear();
            e.step = None;
            e.to_string()
        }
    };
    let path = bundle.path().to_str().unwrap();
    assert_eq!(error.replace(path, "BUNDLE"), expected);
    // Nothing stays behind.
    let id = bundle.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(crate::lifecycle::leftovers(id), [""; 0]);
}

#[test]
fn the_default_config_runs_true() {
    check("true", |_| {}, "exit 0", "");
}

#[test]
fn exit_codes_and_signals_come_through() {
    if !ready() {
        return;
    }
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("false", 1)] {
        let mut bundle = Bundle::new("code").unwrap();
        bundle.script(script);
        bundle.without_pid_namespace();
        assert_eq!(run(&bundle).unwrap().code, code, "{script}");
    }
}

#[test]
fn five_namespaces_are_its_own() {
    let host = |ns: &str| std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
    let script = ["pid", "net", "ipc", "uts", "mnt"].map(|ns| {
        format!("[ $(readlink /proc/self/ns/{ns}) = '{}' ] && echo {ns} is shared;", host(ns).display())
    });
    check(
        "ns",
        |_| {},
        &(script.concat() + "echo $$ $(hostname) $(cat /sys/class/net/lo/flags)"),
        "1 test 0x9",
    );
}

#[test]
fn capabilities_and_no_new_privs_are_as_asked() {
    check(
        "caps",
        |_| {},
        "grep -E '^(Cap|NoNew)' /proc/self/status | tr -d '\\t\\n'",
        "CapInh:0000000000000000CapPrm:0000000020000420CapEff:0000000020000420CapBnd:0000000020000420CapAmb:0000000000000000NoNewPrivs:1",
    );
}

/// config.md, Process: a runtime should not fail for what cannot be granted. docker's --privileged asks for all there are.
#[test]
fn of_all_capabilities_a_container_gets_those_that_we_have() {
    if !need::no_user_namespace() {
        return;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap().trim();
    let all = json!(sampan_plan::ids::CAPABILITIES.as_slice());
    check(
        "all",
        |b| {
            b.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
        },
        "grep CapEff /proc/self/status | cut -f2",
        own,
    );
}

#[test]
fn ambient_capabilities_reach_a_user() {
    let caps = json!(["CAP_NET_BIND_SERVICE"]);
    check(
        "ambient",
        |b| {
            b.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7]}));
            b.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps, "inheritable": caps, "ambient": caps}));
        },
        "id -u; id -G; grep CapEff /proc/self/status | cut -f2; echo $HOME",
        "1000\n1000 5 7\n0000000000000400\n/home/user",
    );
}

#[test]
fn a_time_namespace_goes_with_mappings_and_what_the_kernel_makes_is_the_containers_roots() {
    check(
        "time",
        |b| {
            std::os::unix::fs::chown(b.rootfs(), Some(100_000), Some(100_000)).unwrap();
            b.user_namespace(100_000, 10).add("/linux/namespaces", json!({"type": "time"}));
            b.set("/linux/timeOffsets", json!({"monotonic": {"secs": 86_400}}));
        },
        "grep -c 'monotonic.* 86400 ' /proc/self/timens_offsets; stat -c %u /sys/class/net/lo/mtu /dev/mqueue",
        "1\n0\n0",
    );
}

#[test]
fn a_missing_working_directory_is_made_on_a_read_only_root_too() {
    check("cwd", |b| _ = b.set("/process/cwd", json!("/not/there/yet")), "pwd", "/not/there/yet");
}

#[test]
fn a_hook_of_the_container_has_its_filter_its_umask_and_its_environment() {
    check(
        "filter",
        |b| {
            b.set(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["bpf"], "action": "SCMP_ACT_ERRNO"}]}),
            );
            let hook = |test: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("test \"$TERM $(umask)\" = 'xterm 0022' && {test}")]}]);
            b.set("/hooks", json!({"createContainer": hook("true"), "startContainer": hook("grep -q 'Seccomp:.2' /proc/self/status")}));
        },
        "echo ran",
        "ran",
    );
}

#[test]
fn masked_and_read_only_paths_hold() {
    check(
        "masks",
        |_| {},
        "wc -c </proc/keys; ls /sys/firmware | wc -w;
         (echo 1 >/proc/sys/kernel/sysrq) 2>/dev/null || echo ro; (: >/x) 2>/dev/null || echo root ro",
        "0\n0\nro\nroot ro",
    );
}

#[test]
fn devices_are_made_with_their_modes() {
    if !need::no_user_namespace() {
        return;
    }
    check(
        "devices",
        |b| {
            b.set("/linux/devices", json!([
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 5, "gid": 6},
                {"path": "/dev/deep/pipe", "type": "p"}
            ]));
        },
        "for d in null zero full random urandom tty fuse; do stat -c '%n %a %t:%T %u:%g' /dev/$d; done; stat -c '%F' /dev/deep/pipe;
         for l in ptmx fd stdout; do readlink /dev/$l; done",
        "/dev/null 666 1:3 0:0\n/dev/zero 666 1:5 0:0\n/dev/full 666 1:7 0:0\n/dev/random 666 1:8 0:0\n/dev/urandom 666 1:9 0:0\n/dev/tty 666 5:0 0:0\n/dev/fuse 600 a:e5 5:6\nfifo\npts/ptmx\n/proc/self/fd\n/proc/self/fd/1",
    );
}

#[test]
fn binds_change_only_the_flags_they_name() {
    check(
        "binds",
        |b| {
            let data = b.path().join("data");
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join("file"), "hello").unwrap();
            let m = |to: &str, from: &std::path::Path, o: &[&str]| json!({"destination": to, "source": from, "options": o});
            b.set("/root/readonly", json!(false));
            b.add("/mounts", m("/data", &data, &["rbind", "rro", "nosuid", "rprivate"]));
            b.add("/mounts", m("/made/on/the/way", &data, &["bind", "rw"]));
            b.add("/mounts", m("/etc/file", &data.join("file"), &["bind", "ro", "noexec"]));
        },
        "cat /data/file /made/on/the/way/file /etc/file; echo; (: >/data/x) 2>/dev/null || echo ro; : >/made/on/the/way/x && echo rw;
         grep -E ' (/data|/etc/file) ' /proc/mounts | cut -d' ' -f2,4 | cut -d, -f1-3",
        "hellohellohello\nro\nrw\n/data ro,nosuid,relatime\n/etc/file ro,noexec,relatime",
    );
}

#[test]
fn a_link_in_the_image_cannot_lead_a_mount_outside() {
    check(
        "escape",
        |b| {
            let outside = b.path().join("outside");
            std::fs::create_dir(&outside).unwrap();
            std::os::unix::fs::symlink("../../../../../../../outside", b.rootfs().join("out")).unwrap();
            std::os::unix::fs::symlink("/nowhere/yet", b.rootfs().join("dangling")).unwrap();
            b.add("/mounts", json!({"destination": "/out", "type": "tmpfs", "source": "tmpfs"}));
            b.add("/mounts", json!({"destination": "/dangling/deep", "type": "tmpfs", "source": "tmpfs"}));
        },
        "grep tmpfs /proc/mounts | grep -E 'out|nowhere' | cut -d' ' -f2",
        "/outside\n/nowhere/yet/deep",
    );
}

#[test]
fn tmpcopyup_copies_what_was_there() {
    check(
        "copyup",
        |b| {
            let dir = b.rootfs().join("var/deep");
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("file"), "kept").unwrap();
            std::os::unix::fs::symlink("deep/file", b.rootfs().join("var/link")).unwrap();
            b.add("/mounts", json!({"destination": "/var", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]}));
        },
        "cat /var/link; echo; (: >/var/x) 2>/dev/null || echo ro",
        "kept\nro",
    );
}

#[test]
fn the_process_is_set_up_as_asked() {
    check(
        "process",
        |b| {
            b.set("/process/cwd", json!("/tmp/made/deep"));
            b.set("/root/readonly", json!(false));
            b.set("/process/user/umask", json!(0o027));
            b.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]));
            b.set("/process/env", json!(["PATH=/bin", "A=1", "A=2"]));
            b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}));
            b.set("/domainname", json!("example.org"));
        },
        "pwd; umask; ulimit -Sn; ulimit -Hn; echo $A $HOME; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/kernel/domainname",
        "/tmp/made/deep\n0027\n100\n200\n2 /root\n1\n4096\nexample.org",
    );
}

#[test]
fn a_user_namespace_maps_ids() {
    check(
        "userns",
        |b| {
            b.user_namespace(100_000, 65536);
            b.set("/process/user", json!({"uid": 33, "gid": 34}));
            // Its root may not enter a folder of 0700 on the way to the bundle.
            std::fs::set_permissions(b.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            let data = b.path().join("data");
            std::fs::create_dir(&data).unwrap();
            b.add("/mounts", json!({"destination": "/tmp", "source": data, "options": ["rbind", "ro"]}));
        },
        "cat /proc/self/uid_map | tr -s ' '; id -u; id -g; stat -c '%t:%T' /dev/null; echo x >/dev/null && echo writable; hostname",
        "0 100000 65536\n33\n34\n1:3\nwritable\ntest",
    );
}

#[test]
fn a_time_namespace_sets_clocks_off() {
    check(
        "time",
        |b| {
            b.add("/linux/namespaces", json!({"type": "time"}));
            b.set("/linux/timeOffsets", json!({"boottime": {"secs": 1000000, "nanosecs": 0}}));
        },
        "[ $(cut -d. -f1 /proc/uptime) -gt 1000000 ] && echo off",
        "off",
    );
}

#[test]
fn a_cgroup_namespace_shows_its_own_root() {
    check(
        "cgroupns",
        |b| _ = b.add("/linux/namespaces", json!({"type": "cgroup"})),
        "cut -d: -f3 /proc/self/cgroup | sort -u",
        "/",
    );
}

#[test]
fn namespaces_are_joined_by_path() {
    if !ready() || !need::no_user_namespace() {
        return;
    }
    let mut holder =
        std::process::Command::new("unshare").args(["-n", "-u", "-i", "sleep", "60"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let ns = |kind: &str| format!("/proc/{}/ns/{kind}", holder.id());
    let link = |kind: &str| std::fs::read_link(ns(kind)).unwrap().display().to_string();
    let expected = format!("{}\n{}\n{}", link("net"), link("ipc"), link("uts"));
    let join = json!([{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": ns("net")},
        {"type": "ipc", "path": ns("ipc")}, {"type": "uts", "path": ns("uts")}]);
    let script = "for n in net ipc uts; do readlink /proc/self/ns/$n; done";
    check("join", |b| _ = b.set("/linux/namespaces", join.clone()), script, &expected);
    let with_pid = json!([{"type": "pid", "path": ns("pid")}, {"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}]);
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
    check("joinpid", |b| _ = b.set("/linux/namespaces", with_pid), "readlink /proc/self/ns/pid", &own);
    // A pipe would keep us waiting, and what is none of that type is told before setns could say no more than EINVAL.
    let fifo = Bundle::new("fifo").unwrap();
    let pipe = fifo.path().join("pipe").display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let uts = ns("uts");
    for (kind, path, says) in [
        ("network", &uts, format!("{uts} is a uts namespace, not a net namespace")),
        ("pid", &uts, format!("{uts} is a uts namespace, not a pid namespace")),
        (
            "pid",
            &pipe,
            format!(
                "{pipe} is no namespace\n  likely: it must be a file like /proc/PID/ns/net, or one that such a file is mounted on"
            ),
        ),
    ] {
        let namespaces = json!([{"type": "mount"}, {"type": kind, "path": path}]);
        fails(
            "wrong",
            |b| {
                b.set("/linux/namespaces", namespaces);
                b.config.as_object_mut().unwrap().remove("hostname");
            },
            &format!("linux.namespaces[1].path: {says}"),
        );
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn hooks_run_where_and_when_they_should() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new("hooks").unwrap();
    let log = bundle.path().join("log");
    let hook = |kind: &str| {
        let script = format!(
            "read s; case $s in *'\"status\":\"'*) s=${{s#*status\\\":\\\"}};; esac; echo {kind} ${{s%%\\\"*}} >>{}",
            log.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let mut hooks = json!({});
    for kind in ["prestart", "createRuntime", "createContainer", "poststart"] {
        hooks[kind] = hook(kind);
    }
    hooks["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo startContainer >/tmp/started; cat >>/tmp/started"]}]);
    bundle.config["hooks"] = hooks;
    bundle.set("/root/readonly", json!(false));
    bundle.script("cut -c1-14 /tmp/started | head -1; grep -o '\"pid\":[0-9]*' /tmp/started");
    let ran = run(&bundle).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ran.output.trim(), "startContainer\n\"pid\":1");
    assert_eq!(
        std::fs::read_to_string(&log).unwrap(),
        "prestart creating\ncreateRuntime creating\ncreateContainer creating\npoststart running\n"
    );
}

#[test]
fn hooks_that_fail_say_so() {
    let hook = |kind: &'static str, script: &'static str, timeout: Option<u32>| {
        move |b: &mut Bundle| {
            b.config["hooks"] =
                json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": timeout}]})
        }
    };
    fails(
        "hook1",
        hook("createContainer", "echo no luck; exit 3", None),
        "hooks.createContainer[0]: run hook /bin/sh: exit status 3: no luck",
    );
    fails(
        "hook2",
        hook("startContainer", "sleep 20", Some(1)),
        "hooks.startContainer[0]: run hook /bin/sh within 1 s: still running after 1 s, killed",
    );
}

#[test]
fn a_terminal_comes_back_as_its_master() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new("tty").unwrap();
    bundle
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 33, "width": 77}));
    bundle.script("tty; stty size; stat -c %t:%T /dev/console; [ -t 0 ] && echo yes >/dev/tty");
    let text = bundle.write().unwrap();
    let spec = Spec::parse(&text).unwrap();
    let mut made = make(&bundle, &spec, Barrier::Folder).unwrap_or_else(|e| panic!("{e}"));
    let master = File::from(made.created.console.take().unwrap());
    launch::start_by_folder(&made.folder, &mut launch::HookRunner::new(&mut Direct))
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(wait(&made.created.child), 0);
    let mut text = Vec::new();
    let _ = (&master).read_to_end(&mut text); // EIO is how a pty says the end
    assert_eq!(String::from_utf8_lossy(&text), "/dev/pts/0\r\n33 77\r\n88:0\r\nyes\r\n");
}

#[test]
fn programs_that_cannot_run_are_told_in_runcs_words() {
    let args = |a: &'static str| move |b: &mut Bundle| _ = b.args(&[a]);
    fails("noprog", args("nosuch"), "process.args[0]: exec: \"nosuch\": executable file not found in $PATH");
    fails(
        "nopath",
        args("/no/such"),
        "process.args[0]: exec: \"/no/such\": stat /no/such: no such file or directory",
    );
    fails(
        "noexec",
        args("/etc/passwd"),
        "process.args[0]: exec: \"/etc/passwd\": permission denied\n  likely: it has no x permission for this user, is a directory, or lies on a noexec mount",
    );
}

#[test]
fn what_fails_names_field_call_and_cause() {
    if !need::no_user_namespace() {
        return;
    }
    fails(
        "nosource",
        |b| {
            _ = b
                .add("/mounts", json!({"destination": "/x", "source": "/no/such/place", "options": ["bind"]}))
        },
        "mounts[7]: cannot bind /no/such/place on /x\n  open_tree: ENOENT\n  likely: the source does not exist on the host",
    );
    fails(
        "badoption",
        |b| {
            _ = b.add(
                "/mounts",
                json!({"destination": "/tmp", "type": "tmpfs", "source": "x", "options": ["sise=1"]}),
            )
        },
        "mounts[7]: cannot mount tmpfs (x) on /tmp [sise=1]\n  fsconfig: EINVAL\n  likely: the kernel says: tmpfs: Unknown parameter 'sise'; tmpfs takes gid, huge, inode32, inode64, mode, mpol, noswap, nr_blocks, nr_inodes, size, uid",
    );
    fails(
        "fd-cwd",
        |b| _ = b.set("/process/cwd", json!("/proc/self/fd/7")),
        "process.cwd: cannot change to directory /proc/self/fd/7\n  mkdirat: ENOENT",
    );
    if !need::has_cap(24) {
        fails(
            "rlimit",
            |b| {
                _ = b.set(
                    "/process/rlimits",
                    json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2000000000}]),
                )
            },
            "process.rlimits[0]: cannot set RLIMIT_NOFILE to 1 (hard 2000000000)\n  prlimit: EPERM\n  likely: raising a hard limit above our own needs CAP_SYS_RESOURCE in the host's user namespace; lower \"hard\"",
        );
    }
}

#[test]
fn exec_joins_everything() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new("exec").unwrap();
    bundle.args(&["/bin/sleep", "60"]);
    let text = bundle.write().unwrap();
    let spec = Spec::parse(&text).unwrap();
    let mut made = make(&bundle, &spec, Barrier::Folder).unwrap_or_else(|e| panic!("{e}"));
    launch::start_by_folder(&made.folder, &mut launch::HookRunner::new(&mut Direct))
        .unwrap_or_else(|e| panic!("{e}"));

    let mut process = spec.process.clone().unwrap();
    let script = "hostname; cat /proc/1/comm; grep -c . /proc/self/cgroup; [ $(readlink /proc/self/ns/net) = $(readlink /proc/1/ns/net) ] && echo same;
        grep CapEff /proc/self/status; cmp -s /proc/self/cgroup /proc/1/cgroup || cat /proc/self/cgroup";
    process.args = ["/bin/sh", "-c", script].map(Into::into).to_vec();
    let hierarchies = sampan_cgroups::Hierarchies::detect().unwrap();
    let place = sampan_cgroups::CgroupsPath::parse(None, &made.id).unwrap();
    let cgroup = sampan_cgroups::Cgroup::at(hierarchies, &place).unwrap();
    let init = made.created.child.pidfd.as_fd();
    let host = sampan_runtime::kernel::host::facts_of_running(&spec, Some(&cgroup), init).unwrap();
    let options = Options { id: made.id.clone(), given_stdio: true, ..Options::default() };
    let plan = Plan::exec(&spec, &process, &host, &options).unwrap();
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let output = made.output.try_clone().unwrap();
    let request = launch::ExecRequest {
        plan: &plan,
        id: &made.id,
        container: made.created.child.pidfd.as_fd(),
        cgroup: Some(&cgroup),
        console: Console::Keep,
        stdio: Some([null.as_fd(), output.as_fd(), output.as_fd()]),
    };
    let executed = launch::exec(&request, &mut Direct).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(wait(&executed.child), 0);
    let groups = hierarchies.iter().count();
    assert_eq!(made.text(), format!("test\nsleep\n{groups}\nsame\nCapEff:\t0000000020000420\n"));
}

#[test]
fn a_created_container_waits_without_its_creator_and_stops_with_its_gate() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new("gate").unwrap();
    let text = bundle.write().unwrap();
    let spec = Spec::parse(&text).unwrap();
    let mut made = make(&bundle, &spec, Barrier::Pipe).unwrap();
    made.created.gate = StartGate::IsOpen;
    assert_eq!(wait(&made.created.child), 125, "the child of a dead supervisor ends by itself");
}

#[test]
fn with_an_open_barrier_it_runs_by_itself_and_its_state_says_so() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new("open").unwrap();
    bundle.script("echo ran; exit 7");
    let text = bundle.write().unwrap();
    let spec = Spec::parse(&text).unwrap();
    let mut made = make(&bundle, &spec, Barrier::Open).unwrap_or_else(|e| panic!("{e}"));
    let state = State::load(&made.folder).unwrap().unwrap();
    assert_eq!((state.stage, state.init), (Stage::Running, made.created.state.init));
    // Nobody has started it.
    assert_eq!((wait(&made.created.child), made.text()), (7, "ran\n".to_owned()));
}
