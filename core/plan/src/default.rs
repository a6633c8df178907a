//! The container one gets without asking for anything: docker's capabilities, masks and mounts. `sampan spec`,
//! `sampan run --rootfs` and sampand all start from this one spec, so that what is tried by hand is what runs as a
//! service. Where it differs from docker (no_new_privileges), docs/config.md says so.

use crate::scratch;
use crate::spec::{
    Capabilities, DeviceRule, Linux, Mount, Namespace, Process, Resources, Rlimit, Root, Spec, Str,
};

pub const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// docker's, and what root alone may read there: uid 0 of a container is that root, and neither procfs nor sysfs can be
/// id-mapped. Some of it does something as it is read: `hot_add` of zram makes a device, also on a read-only sysfs.
pub const MASKED_PATHS: [&str; 36] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/mtrr",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/sys/kernel/cad_pid",
    "/proc/sys/kernel/usermodehelper",
    "/proc/sys/net/ipv4/tcp_fastopen_key",
    "/proc/sys/vm/mmap_rnd_bits",
    "/proc/sys/vm/mmap_rnd_compat_bits",
    "/proc/sys/vm/stat_refresh",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/tty/driver",
    "/proc/vmallocinfo",
    "/sys/bus",
    "/sys/class/dmi",
    "/sys/class/zram-control",
    "/sys/devices/virtual/dmi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/debug",
    "/sys/kernel/mm/damon",
    "/sys/kernel/slab",
    "/sys/kernel/tracing",
    "/sys/module",
];

pub const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Folders that programs expect to write to: on a read-only root each that exists gets a tmpfs. With its mode.
pub const TEMPORARY: [(&str, &str); 3] =
    [("/tmp", "mode=1777"), ("/run", "mode=0755"), ("/var/tmp", "mode=1777")];

/// The built-in ones, and those of the host that they do not name.
pub fn masked_paths(more: &[String]) -> Vec<String> {
    let new = more.iter().filter(|path| !MASKED_PATHS.contains(&path.as_str())).cloned();
    MASKED_PATHS.map(str::to_owned).into_iter().chain(new).collect()
}

/// `args` and the root are the caller's.
pub fn spec() -> Spec<'static> {
    Spec {
        oci_version: "1.2.1".into(),
        process: Some(process()),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        mounts: mounts(),
        linux: linux(),
        ..Spec::default()
    }
}

fn process() -> Process<'static> {
    let all = || CAPABILITIES.map(Str::from).to_vec();
    Process {
        args: vec!["sh".into()],
        env: vec![PATH.into()],
        cwd: "/".into(),
        // Nothing inheritable or ambient (CVE-2022-24769).
        capabilities: Some(Capabilities {
            bounding: all(),
            effective: all(),
            permitted: all(),
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 1024, hard: 524_288 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

fn mounts() -> Vec<Mount<'static>> {
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn linux() -> Linux<'static> {
    let sysctl =
        [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];
    Linux {
        namespaces: ["mount", "pid", "ipc", "uts", "network", "cgroup"]
            .map(|kind| Namespace { kind: kind.into(), path: None })
            .to_vec(),
        resources: Some(Resources { devices: devices(), ..Resources::default() }),
        sysctl: sysctl.map(|(name, value)| (name.into(), value.into())).into(),
        masked_paths: MASKED_PATHS.map(Str::from).to_vec(),
        readonly_paths: READONLY_PATHS.map(Str::from).to_vec(),
        ..Linux::default()
    }
}

/// None but those that every container has; mknod of any is allowed, as its use is not.
fn devices() -> Vec<DeviceRule<'static>> {
    let rule = |kind: &'static str, major, minor, access: &'static str| DeviceRule {
        allow: true,
        kind: Some(kind.into()),
        major,
        minor,
        access: Some(access.into()),
    };
    let deny = DeviceRule { access: Some("rwm".into()), ..DeviceRule::default() };
    let mut rules = vec![deny, rule("c", None, None, "m"), rule("b", None, None, "m")];
    // null zero full random urandom; tty console ptmx; pts.
    for (major, minors) in [(1, &[3, 5, 7, 8, 9][..]), (5, &[0, 1, 2])] {
        rules.extend(minors.iter().map(|minor| rule("c", Some(major), Some(*minor), "rwm")));
    }
    rules.push(rule("c", Some(136), None, "rwm"));
    rules
}

/// `--rootfs host`, `rootfs = "host"`: the host's own root, of which the runtime shows what anybody on the host may read
/// (`host_root`).
pub fn host_rootfs(spec: &mut Spec<'_>) {
    spec.root = Some(Root { path: "/".into(), readonly: true });
}

/// `rootfs.mode = "scratch"`, `--scratch`: the root may be written to, and nothing of it stays.
pub fn scratch_rootfs(spec: &mut Spec<'_>) {
    if let Some(root) = &mut spec.root {
        root.readonly = false;
    }
    spec.annotations.insert(scratch::ANNOTATION.into(), scratch::SCRATCH.into());
}

/// `rootfs.mode = "ro"`: not even a launch writes to the root.
pub fn ro_rootfs(spec: &mut Spec<'_>) {
    if let Some(root) = &mut spec.root {
        root.readonly = true;
    }
    spec.annotations.insert(scratch::ANNOTATION.into(), scratch::RO.into());
}

/// The tmpfs on each folder of [`TEMPORARY`] that the root has, where the root needs them: one that nobody may write
/// to, and the host's own, whose sockets and other people's files are not a container's to see.
pub fn temporary(spec: &mut Spec<'_>, has: impl Fn(&str) -> bool) {
    let Some(root) = &spec.root else { return };
    let is_scratch =
        spec.annotations.get(scratch::ANNOTATION).is_some_and(|mode| mode.as_str() == scratch::SCRATCH);
    let host_scratch = root.path.as_str() == "/" && is_scratch;
    if !(root.readonly || host_scratch) {
        return;
    }
    let there = TEMPORARY.iter().filter(|(path, _)| has(path));
    spec.mounts.extend(there.map(|(path, mode)| mount(path, "tmpfs", "tmpfs", &["nosuid", "nodev", mode])));
}

fn mount(
    to: &'static str,
    kind: &'static str,
    from: &'static str,
    options: &[&'static str],
) -> Mount<'static> {
    Mount {
        destination: to.into(),
        kind: Some(kind.into()),
        source: Some(from.into()),
        options: options.iter().map(|o| Str::from(*o)).collect(),
        ..Mount::default()
    }
}
