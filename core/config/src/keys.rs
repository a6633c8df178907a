//! Every key of config.toml, once: its forms, default, when a change applies, and whether it is built. The check for
//! unknown keys, the hints, `diff`'s verdicts and docs/config.md all read this table; decoding reads only what it
//! lists. What compose, Quadlet and systemd call them is in elsewhere/table.rs. `*` stands for a name.
//! Long because it is one table.

#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub path: &'static str,
    pub forms: &'static str,
    pub default: &'static str,
    pub applies: Applies,
    pub stage: Stage,
    /// Described by an OCI config.json: with `bundle`, only the service's own setting counts.
    pub oci: bool,
    pub meaning: &'static str,
}

/// What a change needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Applies {
    /// Nothing: it is live.
    Live,
    /// Only containers made later have it.
    NewContainers,
    /// The service restarts, in graph order.
    Restart,
    /// sampand's next start.
    Supervisor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Built,
    /// Known, not built.
    Later,
}

use Applies::{Live as L, NewContainers as N, Restart as R, Supervisor as S};
use Stage::{Built as B, Later as X};

const fn key(
    path: &'static str,
    forms: &'static str,
    default: &'static str,
    applies: Applies,
    stage: Stage,
    meaning: &'static str,
) -> Key {
    Key { path, forms, default, applies, stage, oci: false, meaning }
}

/// A key that config.json describes too.
const fn oci(
    path: &'static str,
    forms: &'static str,
    default: &'static str,
    applies: Applies,
    stage: Stage,
    meaning: &'static str,
) -> Key {
    Key { path, forms, default, applies, stage, oci: true, meaning }
}

/// What an image says where neither the service nor `[defaults]` does.
pub fn is_of_images(key: &Key) -> bool {
    const THEY: [&str; 8] = [
        "entrypoint",
        "command",
        "working_dir",
        "environment",
        "env_file",
        "user",
        "stop_signal",
        "healthcheck",
    ];
    THEY.contains(&key.path.split('.').next().unwrap_or_default())
}

/// The sections of a config, with the path their keys hang below.
pub const SECTIONS: [(&str, &[Key]); 7] = [
    ("", TOP),
    ("supervisor", SUPERVISOR),
    ("services.*", SERVICE),
    ("networks.*", NETWORK),
    ("volumes.*", VOLUME),
    ("secrets.*", SECRET),
    ("plugins.*", PLUGIN),
];

pub const TOP: &[Key] = &[
    key("version", "1", "1", L, B, "another number is an error"),
    key(
        "include",
        "[path, glob]",
        "[]",
        L,
        B,
        "paths (missing: error) and globs (may be empty), 8 levels deep",
    ),
    key("defaults", "any service key but depends_on, ports", "{}", L, B, "below every service"),
    key("supervisor", "table", "{}", L, B, "sampand itself"),
    key("services", "{ NAME = table }", "{}", L, B, "what runs"),
    key("networks", "{ NAME = table }", "{}", L, B, "`default` always exists"),
    key(
        "volumes",
        "{ NAME = table }",
        "{}",
        L,
        B,
        "named volumes: folders that nothing but `sampanctl volume rm` removes",
    ),
    key("secrets", "{ NAME = table }", "{}", L, B, "read at each start, never kept or shown"),
    key("plugins", "{ NAME = table }", "{}", L, B, "network, logging and cgroups load unasked"),
];

pub const SUPERVISOR: &[Key] = &[
    key(
        "run_dir",
        "path",
        "/run/sampan",
        S,
        B,
        "containers, bundles, FIFOs, the journal. A second sampand needs its own run_dir, state_dir and cgroup_parent",
    ),
    key("state_dir", "path", "/var/lib/sampan", S, B, "what outlives a reboot: logs, desired state"),
    key("socket", "path", "RUN_DIR/sampand.sock", S, B, "HTTP API; for root, our own user and these groups"),
    key(
        "admin_group",
        "group",
        "none",
        L,
        B,
        "may command, too: a name of the host's /etc/group, or a number (security.md)",
    ),
    key("read_group", "group", "none", L, B, "may look: states, events, logs, metrics; not the config"),
    key("on_exit", "stop, keep", "stop", L, B, "what SIGTERM does to the containers"),
    key("shutdown_timeout", "duration", "90s", L, B, "for the whole graph; then cgroup.kill"),
    key("max_parallel_starts", "integer", "0", L, B, "0: as many as CPUs"),
    key(
        "restart_storm.burst",
        "integer",
        "200",
        L,
        B,
        "restarts per interval on the whole host; more are delayed; 0: off",
    ),
    key("restart_storm.interval", "duration", "10s", L, B, ""),
    key("metrics", "HOST:PORT, path", "none", L, B, "for Prometheus; without HOST: 127.0.0.1 (metrics.md)"),
    key("log_level", "error, warn, info, debug, trace", "info", L, B, "sampand's own log"),
    key("log_format", "text, json", "text", L, B, ""),
    key("plugin_dir", "path", "PREFIX/lib/sampan/plugins", S, B, "the shipped three load from it unasked"),
    key("hooks_dirs", "[path]", "[/etc/sampan/hooks.d]", N, X, "OCI hooks.d; podman's only if named"),
    key("cgroup_parent", "path", "auto", S, B, "auto: sampan.scope where systemd is init, else /sampan"),
    key("cgroup_manager", "auto, cgroupfs, systemd", "auto", S, X, "cgroupfs where delegated"),
];

pub const SERVICE: &[Key] = &[
    // What to run: one of rootfs, bundle, image.
    key(
        "rootfs.path",
        "\"PATH\", \"host\", { path, mode }",
        "",
        R,
        B,
        "`\"host\"` is `/`: of /usr, /etc and /opt what anybody on the host may read; see security.md",
    ),
    key(
        "rootfs.mode",
        "ro, rw, scratch",
        "ro",
        R,
        B,
        "ro: nothing is written there, so /proc, /dev, /sys, working_dir, targets of volumes and tmpfs must exist; scratch: writes go to memory (the service's) and are gone at its end. of an image: rw unless it says otherwise, kept over restarts and gone with a new image",
    ),
    key("read_only", "boolean", "true", R, B, "compose's word: ro, or false = rw; not beside rootfs.mode"),
    key(
        "bundle",
        "path",
        "",
        R,
        B,
        "an OCI bundle; its config.json stands in for built-in values and [defaults]",
    ),
    key(
        "image",
        "reference",
        "",
        R,
        B,
        "as \"nginx:1.27\"; what it says of itself is below the service's own keys; see images.md",
    ),
    key(
        "pull",
        "missing, always, never",
        "missing",
        N,
        B,
        "when the image is got from its registry. always: before each start; if there is no answer, what is here runs",
    ),
    oci("entrypoint", "[word], \"words\"", "[]", R, B, "goes before command"),
    oci("command", "[word], \"words\"", "required; the image's", R, B, "text is split as by sh, without sh"),
    oci("working_dir", "path", "/", R, B, ""),
    oci("hostname", "name", "the service's", R, B, ""),
    oci("domainname", "name", "none", R, B, "the NIS domain that `uname` and getdomainname(2) show"),
    key(
        "init",
        "boolean",
        "false",
        R,
        B,
        "a first process of ours (/dev/sampan-init, 4 KB): starts the program, passes signals on, reaps; ends as it does, by signal N: 128 + N",
    ),
    oci(
        "tty",
        "boolean",
        "false",
        R,
        B,
        "a terminal of its own in place of the pipes; its lines end with \\r\\n, in the log too; TERM=xterm unless set; see attach.md",
    ),
    key(
        "stdin_open",
        "boolean",
        "false",
        R,
        B,
        "standard input is open, and never at its end, for `sampanctl attach`; false: /dev/null",
    ),
    key("autostart", "boolean", "true", L, B, "false: by hand or as a dependency"),
    key(
        "schedule",
        "\"[WEEKDAYS] [DATE] [TIME] [ZONE]\", daily..",
        "none",
        L,
        B,
        "a job (restart no or on-failure) that is started by time, as by systemd's OnCalendar, in the host's time zone; see schedule.md",
    ),
    key(
        "profiles",
        "[name]",
        "[]",
        L,
        B,
        "starts by itself only with `sampand --profile P` of one of them; by hand and as a dependency always",
    ),
    key(
        "labels",
        "{ K = v }",
        "{}",
        L,
        B,
        "for people and filters: `sampanctl ps --filter label=K=v`, `inspect`",
    ),
    oci("annotations", "{ K = v }", "{}", R, B, "into config.json; org.sampan.* is ours"),
    // Files and environment.
    oci(
        "volumes",
        "[\"SRC:DST[:ro]\"], [{ type, source, target, read_only, options, create, nocopy, selinux }]",
        "[]",
        R,
        B,
        "bind mounts: rbind, rprivate, nosuid, nodev. Missing source: error; `create` makes a folder. a SRC without / or . is a name of [volumes], filled from the image when it is made, but for `:nocopy`; `:z`, `:Z`: nothing where SELinux is off",
    ),
    oci(
        "tmpfs",
        "[\"DST[:size=..,mode=..]\"]",
        "[]",
        R,
        B,
        "nosuid, nodev; without `mode` that of the folder that it covers, else 1777",
    ),
    oci("shm_size", "size", "64M", R, B, ""),
    oci(
        "devices",
        "[\"HOST[:DST[:rwm]]\"]",
        "[]",
        R,
        B,
        "of a folder all devices below it; CDI names are not built yet",
    ),
    oci(
        "environment",
        "{ K = v }, [\"K=V\", \"K\"]",
        "{}",
        R,
        B,
        "\"K\": sampand's value, else nothing is inherited; PATH, HOME are set",
    ),
    oci(
        "env_file",
        "path, [path], [{ path, required }]",
        "[]",
        R,
        B,
        "below environment; missing: error unless `required = false`",
    ),
    // User and rights.
    oci("user", "\"uid[:gid]\", \"name[:group]\"", "0:0", R, B, "names: the rootfs' /etc/passwd"),
    oci("group_add", "[group]", "[]", R, B, "besides those of its user; names: the rootfs' /etc/group"),
    oci("cap_add", "[capability, ALL]", "[]", R, B, "on docker's set"),
    oci("cap_drop", "[capability, ALL]", "[]", R, B, "comes before cap_add"),
    oci(
        "privileged",
        "boolean",
        "false",
        R,
        B,
        "all capabilities and devices of the host, no seccomp profile, nothing masked or read-only, unless the service says otherwise; no_new_privileges stays",
    ),
    oci(
        "pid",
        "private, host, service:X",
        "private",
        R,
        B,
        "host: sees and signals what its user may of all processes.",
    ),
    oci(
        "ipc",
        "private, host, service:X",
        "private",
        R,
        B,
        "host: with the host's /dev/shm and message queues; service:X: without X's /dev/shm",
    ),
    oci(
        "uts",
        "private, host, service:X",
        "private",
        R,
        B,
        "host: has the host's name; not beside hostname.",
    ),
    oci("cgroup", "private, host, service:X", "private", R, B, "host: sees the paths of the host's groups"),
    oci(
        "sysctls",
        "{ NAME = value }",
        "docker's two",
        R,
        B,
        "besides unprivileged ports from 0 and ping for all: net.*, fs.mqueue.*, kernel.msg*, sem, shm*",
    ),
    oci(
        "ulimits",
        "{ name = n, \"soft:hard\" or { soft, hard } }",
        "nofile 1024:524288",
        R,
        B,
        "others: as the host's PID 1 has them; \"unlimited\"",
    ),
    oci("oom_score_adj", "integer", "0", R, B, "-1000 to 1000; whom the kernel ends first"),
    oci("security.no_new_privileges", "boolean", "true", R, B, "docker: false"),
    oci("security.seccomp_profile", "default, unconfined, path", "default", R, B, "docker's"),
    oci("security.apparmor", "name", "none", R, B, "a profile that the host has loaded"),
    oci("security.selinux", "label", "none", R, B, "of the processes"),
    oci(
        "security.masked_paths",
        "[path]",
        "[\"default\"]",
        R,
        B,
        "look empty; \"default\" in the list stands for the built-in ones",
    ),
    oci(
        "security.readonly_paths",
        "[path]",
        "[\"default\"]",
        R,
        B,
        "\"default\" stands for the built-in ones",
    ),
    oci(
        "security.userns",
        "none, auto, { uid_map = [\"INSIDE:HOST:SIZE\"], gid_map }",
        "none",
        R,
        B,
        "auto: 65536 ids of `sampan`, or else of `root`, in /etc/subuid and /etc/subgid; see security.md",
    ),
    // Resources.
    oci("resources.cpus", "float", "none", L, B, "CPUQuota"),
    oci("resources.cpu_weight", "1-10000", "100", L, B, "cpu_shares 1024 = 100"),
    oci("resources.io_weight", "1-10000", "100", L, B, ""),
    oci("resources.cpuset", "\"0-3\"", "none", L, B, "AllowedCPUs"),
    oci("resources.memory", "size", "none", L, B, "mem_limit, MemoryMax"),
    oci(
        "resources.memory_swap",
        "size",
        "none",
        L,
        B,
        "of swap alone; none: as much again as memory. compose: the sum",
    ),
    oci("resources.memory_high", "size", "none", L, B, "slowed down above it; cgroup v2"),
    oci("resources.memory_low", "size", "0B", L, B, "mem_reservation; kept for it while others have more"),
    oci("resources.memory_min", "size", "0B", L, B, "kept for it always; cgroup v2"),
    oci("resources.pids", "integer", "4096", L, B, "pids_limit, TasksMax; ends fork bombs; 0: no limit"),
    oci(
        "resources.io_max",
        "{ \"/dev/sda\" = { rbps, wbps, riops, wiops } }",
        "{}",
        R,
        B,
        "per second; of whole disks",
    ),
    oci(
        "resources.oom_policy",
        "kill, stop, continue",
        "kill",
        R,
        B,
        "kill: with one process all of the service ends, on cgroup v2; stop: so, too, and it is failed, whatever `restart` says; continue: that process alone",
    ),
    key("resources.pressure", "table", "{}", L, X, "PSI: an event, no action"),
    oci(
        "resources.unified",
        "{ \"file\" = \"value\" }",
        "{}",
        R,
        B,
        "any file of a controller of cgroup v2 that has no key of its own",
    ),
    key("resources.slice", "name", "none", L, X, ""),
    // Network.
    oci(
        "network_mode",
        "bridge, none, host, service:X",
        "bridge",
        R,
        B,
        "bridge: `networks`; without the plugin loopback only; service:X: the network and the names of X, after which it starts and with which it stops. ns:PATH is not built yet",
    ),
    key(
        "networks",
        "[name], { NAME = { ipv4_address, ipv6_address, aliases } }",
        "[\"default\"]",
        R,
        B,
        "eth0, eth1.. as written; { name, .. } may stand in the list, too",
    ),
    key(
        "ports",
        "[\"[ADDR:]HOST:CONTAINER[/udp]\"], [{ target, published, host_ip, protocol }]",
        "[]",
        R,
        B,
        "no ADDR: all, as compose. Ranges as \"8000-8010:80-90\"",
    ),
    key("dns", "[address]", "[]", R, B, "asked of what is no service's name; []: the host's servers"),
    key("dns_search", "[text]", "[]", R, B, "[]: the host's; [\".\"]: none"),
    key("dns_opt", "[text]", "[]", R, B, "options of resolv.conf; []: the host's, and ndots:0"),
    key("extra_hosts", "[\"NAME:ADDRESS\", \"NAME:host-gateway\"]", "[]", R, B, "lines of /etc/hosts"),
    key(
        "sockets",
        "[{ listen = \"tcp:ADDR:PORT\", \"udp:ADDR:PORT\" or \"unix:PATH\", name }]",
        "[]",
        R,
        B,
        "of the host, from descriptor 3 on, with LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID as systemd's; opened before the first start, open until the service leaves the config. No start at the first connection",
    ),
    // Restart.
    key(
        "restart.policy",
        "no, on-failure[:N], always, unless-stopped",
        "unless-stopped",
        L,
        B,
        "where compose has no: what ends is started again. always: also what was stopped by hand, when sampand starts",
    ),
    key("restart.delay", "duration", "100ms", L, B, "before the first restart in a row"),
    key("restart.multiplier", "float", "2.0", L, B, ""),
    key("restart.max_delay", "duration", "1m", L, B, ""),
    key("restart.jitter", "0-1", "0.25", L, B, "lengthens the wait by up to this part"),
    key(
        "restart.reset_after",
        "duration",
        "10s",
        L,
        B,
        "ready, not unhealthy so long: delay and attempts begin anew",
    ),
    key("restart.max_attempts", "integer", "0", L, B, "in a row; reached: failed. 0: no limit"),
    key(
        "restart.success_exit_status",
        "[integer, \"SIGTERM\"]",
        "[0]",
        L,
        B,
        "the whole list; any other exit, a start that fails and a bad health check are failures",
    ),
    key("restart.prevent_exit_status", "[integer, \"SIGTERM\"]", "[]", L, B, "never restarted after these"),
    key(
        "restart.force_exit_status",
        "[integer, \"SIGTERM\"]",
        "[]",
        L,
        B,
        "restarted after these, whatever the policy; max_attempts counts",
    ),
    // Health, readiness, dependencies, stop.
    key(
        "healthcheck.test",
        "[\"CMD\", ..], [\"CMD-SHELL\", text], [\"NONE\"], text = CMD-SHELL",
        "none",
        L,
        B,
        "in the container. One of test, http, tcp, unix, notify",
    ),
    key(
        "healthcheck.http.port",
        "http = port, or { port, path, status, host }",
        "none",
        L,
        B,
        "by us in its network namespace, no exec",
    ),
    key("healthcheck.http.path", "text", "/", L, B, ""),
    key("healthcheck.http.status", "\"LOW-HIGH\", integer", "200-399", L, B, ""),
    key("healthcheck.http.host", "text", "localhost", L, B, ""),
    key("healthcheck.tcp", "port", "none", L, B, ""),
    key("healthcheck.unix", "path", "none", L, B, "a stream socket in the container that accepts"),
    key(
        "healthcheck.notify",
        "true",
        "none",
        L,
        B,
        "by watchdog: healthy from its first WATCHDOG=1, unhealthy when it is missed; of the keys below start_period, on_failure and stop_grace_period count",
    ),
    key("healthcheck.interval", "duration", "30s", L, B, ""),
    key("healthcheck.timeout", "duration", "5s", L, B, "compose's 30s comes too late"),
    key("healthcheck.retries", "integer", "3", L, B, ""),
    key(
        "healthcheck.start_period",
        "duration",
        "30s",
        L,
        B,
        "failures do not count; ends at the first success",
    ),
    key("healthcheck.start_interval", "duration", "1s", L, B, "between tests in the start period"),
    key("healthcheck.success_threshold", "integer", "1", L, B, "successes in a row until it is healthy"),
    key(
        "healthcheck.on_failure",
        "restart, kill, stop, none",
        "restart",
        L,
        B,
        "restart: stop, then the restart policy, as a failure; kill: cgroup.kill instead of stop. docker: none",
    ),
    key(
        "healthcheck.stop_grace_period",
        "duration",
        "= service's",
        L,
        B,
        "of a service that is stopped because it is unhealthy; then cgroup.kill",
    ),
    key(
        "notify",
        "none, ready, healthy, { fd = 3 }",
        "none",
        R,
        B,
        "ready at once, when it says READY=1 on NOTIFY_SOCKET (sd_notify), when it is healthy, or when it writes a newline to this descriptor (as s6), which is open from its start and the next one after its sockets",
    ),
    key(
        "start_timeout",
        "duration",
        "1m30s",
        L,
        B,
        "from the start slot until it is ready, plugins and hooks included; then it is ended; 0s: as long as it takes; EXTEND_TIMEOUT_USEC makes it longer",
    ),
    key(
        "watchdog",
        "duration",
        "0s",
        R,
        B,
        "how long it may say nothing once it is ready (WATCHDOG=1 on NOTIFY_SOCKET; WATCHDOG_USEC has this); then it is unhealthy, by healthcheck.on_failure where there is one; 0s: for ever",
    ),
    key(
        "fd_store_max",
        "integer",
        "0",
        R,
        B,
        "descriptors of its own that it may have kept (FDSTORE=1 on NOTIFY_SOCKET), to have them again after a restart, behind its sockets; 0 to 64",
    ),
    key(
        "depends_on.*.condition",
        "service_started, service_ready, service_healthy, service_completed_successfully; short: [name]",
        "service_started",
        L,
        B,
        "unmet or failed: waiting(why); stop order is the reverse",
    ),
    key(
        "depends_on.*.required",
        "boolean",
        "true",
        L,
        B,
        "false: is not started for it, and goes on without it where it does not exist, has failed or is stopped",
    ),
    key("depends_on.*.restart", "boolean", "false", L, B, "is restarted with it, if that is by hand"),
    key(
        "depends_on.*.bind",
        "boolean",
        "false",
        L,
        B,
        "stops when it is up no more, and comes back with it; BindsTo",
    ),
    key("stop_signal", "signal", "SIGTERM", L, B, "to the main process"),
    key("stop_grace_period", "duration", "10s", L, B, "then cgroup.kill"),
    key(
        "reload",
        "{ signal }, { command }",
        "none",
        L,
        B,
        "what `sampanctl reload` does: a signal to the main process, or a command in the container; one that says RELOADING=1 is waited for until READY=1",
    ),
    // Logging.
    key(
        "logging.driver",
        "local, json-file, k8s-file, journald, none",
        "local",
        R,
        B,
        "CRI lines in state_dir/logs, which podman and kubelet call k8s-file; without the plugin raw files",
    ),
    key("logging.max_size", "size", "20M", N, B, "of one file"),
    key("logging.max_file", "integer", "5", N, B, "docker local's"),
    key("logging.max_line", "size", "16K", N, B, "longer: parts"),
    key(
        "logging.max_age",
        "duration",
        "none",
        N,
        B,
        "a file is removed so long after its last line, and begun anew when it is so old: lines stay this long, and twice as long at most",
    ),
    key(
        "logging.rate_limit",
        "\"1M/s\"",
        "none",
        N,
        B,
        "of both streams together; what comes faster is dropped, counted and said",
    ),
    key("logging.compress", "boolean", "true", N, B, "files that are not written any more, with zstd"),
    key(
        "logging.mode",
        "blocking, non-blocking",
        "blocking",
        N,
        B,
        "non-blocking: a disk or journal that is slow never holds the service up; what it prints waits in memory",
    ),
    key("logging.max_buffer_size", "size", "1M", N, B, "of that memory, both streams together"),
    key(
        "logging.drop",
        "oldest, newest",
        "oldest",
        N,
        B,
        "which lines go when it is full: they are counted, and the log says so where they are missing",
    ),
    key(
        "logging.on_full",
        "drop, block",
        "drop",
        N,
        B,
        "full disk: lines are dropped and counted, or the service waits for room",
    ),
    // Hooks, steps, actions, secrets.
    oci(
        "hooks.prestart",
        "[{ path, args, env, timeout }]",
        "[]",
        N,
        B,
        "args [path], env [], timeout 30 (seconds)",
    ),
    oci("hooks.createRuntime", "[{ path, args, env, timeout }]", "[]", N, B, ""),
    oci("hooks.createContainer", "[{ path, args, env, timeout }]", "[]", N, B, ""),
    oci("hooks.startContainer", "[{ path, args, env, timeout }]", "[]", N, B, "path is inside the container"),
    oci("hooks.poststart", "[{ path, args, env, timeout }]", "[]", N, B, ""),
    oci("hooks.poststop", "[{ path, args, env, timeout }]", "[]", N, B, ""),
    key(
        "lifecycle.pre_start",
        "[{ command, in, user, timeout }]",
        "[]",
        L,
        B,
        "on the host, before the container is made, which one that fails prevents; in \"host\", user sampand's or \"UID:GID\", timeout 1m. Once more where sampand's worker died",
    ),
    key(
        "lifecycle.post_start",
        "[{ command, in, user, timeout }]",
        "[]",
        L,
        B,
        "when its program runs, beside it; in \"container\" (as its user) or \"host\"",
    ),
    key(
        "lifecycle.pre_stop",
        "[{ command, in, user, timeout }]",
        "[]",
        L,
        B,
        "before the stop signal, for stop_grace_period at most, which begins anew after it; in \"container\" or \"host\"",
    ),
    key(
        "lifecycle.post_stop",
        "[{ command, in, user, timeout }]",
        "[]",
        L,
        B,
        "on the host, after each life, also one that could not start",
    ),
    key(
        "on.exit",
        "[{ command, in, user, timeout }]",
        "[]",
        L,
        B,
        "on the host, beside all else: its program has ended. SAMPAN_SERVICE, _EVENT, _EXIT_CODE or _SIGNAL, _HEALTH. When sampand ends, all lists of `on` together have 5 s, and what is killed then is counted in a warning",
    ),
    key("on.failure", "[{ command, in, user, timeout }]", "[]", L, B, "it is failed: nobody starts it again"),
    key(
        "on.oom",
        "[{ command, in, user, timeout }]",
        "[]",
        L,
        B,
        "the kernel has killed for memory in this life",
    ),
    key(
        "on.health",
        "[{ command, in, user, timeout }]",
        "[]",
        L,
        B,
        "a health check has changed its verdict",
    ),
    key(
        "secrets",
        "[name], [{ source, target, mode, uid, gid }]",
        "[]",
        R,
        B,
        "files in /run/secrets, 0400 and the service's user's; run_dir must be on a tmpfs",
    ),
    key("adjust", "{ \"env/TZ\" = \"PLUGIN\" }", "{}", N, B, "whose value wins where plugins differ"),
];

pub const NETWORK: &[Key] = &[
    key("driver", "bridge", "bridge", R, B, "cni:NAME, macvlan, ipvlan, ptp are not built yet"),
    key("subnet", "CIDR", "auto", R, B, "a free /20 of 10.144.0.0/12; its first address is the gateway"),
    key("gateway", "address", "auto", R, B, "this host's address there"),
    key("ip_range", "CIDR", "auto", R, B, "where addresses are taken from unasked; auto: the whole subnet"),
    key("ipv6", "boolean", "true", R, B, "a /64 of its own (ULA), where the host has IPv6"),
    key("internal", "boolean", "false", R, B, "no way out"),
    key("isolated", "boolean", "false", R, B, "no peers"),
    key("allow_direct", "boolean", "false", R, X, "routed from outside"),
    key("mtu", "integer", "0", R, B, "0: the default route's"),
];

pub const VOLUME: &[Key] = &[
    key("driver", "local", "local", R, B, ""),
    key("path", "path", "STATE_DIR/volumes/X", R, B, "down, apply never remove it"),
    key("uid", "integer", "the image's, or 0", N, B, "when made"),
    key("gid", "integer", "the image's, or 0", N, B, ""),
    key("mode", "mode", "the image's, or 0755", N, B, ""),
];

pub const SECRET: &[Key] = &[
    key("file", "path", "", N, B, "one of file, environment, command"),
    key("environment", "name", "", N, B, "a variable of sampand's own environment"),
    key("command", "[word], \"words\"", "", N, B, "what a program of the host prints, as root, within 10 s"),
];

/// A plugin is configured when it is opened, which is when sampand starts.
pub const PLUGIN: &[Key] = &[
    key("enabled", "boolean", "true", S, B, ""),
    key("path", "file", "PLUGIN_DIR/libX.so", S, B, "owner root or us, not world-writable"),
    key("command", "[word]", "none", S, X, ""),
    key("config", "table", "{}", S, B, "its schema checks it"),
    key("after", "[plugin]", "[]", S, B, ""),
    key("services", "[glob]", "[\"*\"]", S, B, ""),
    key("required", "boolean", "false", S, B, ""),
    key("on_error", "fail, ignore, disable", "ignore; fail if required", S, B, ""),
    key("timeout", "duration", "5s", S, B, ""),
    key("hard_timeout", "duration", "60s", S, B, ""),
    key("open_timeout", "duration", "10s", S, B, ""),
    key("isolation", "inline, process", "inline", L, X, ""),
    key("loop", "boolean", "false", L, X, ""),
    key("allow_abort", "boolean", "false", L, X, ""),
    key(
        "grants",
        "[leaf]",
        "[]",
        S,
        B,
        "what it may set besides: seccomp, capabilities, devices, namespaces, hooks, sysctl, user",
    ),
    key("sandbox", "table", "{}", L, X, ""),
];

/// How a path of a config relates to a section's keys.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    Key(&'static Key),
    /// A table whose keys are `PATH.x`; `built` if any of them is.
    Group {
        built: bool,
    },
    Unknown,
}

pub fn find(section: &'static [Key], path: &[&str]) -> Found {
    let mut group = None;
    for key in section {
        match fits(key.path, path) {
            Fit::Exact => return Found::Key(key),
            Fit::Above => group = Some(group.unwrap_or(false) || key.stage == Stage::Built),
            Fit::No => {}
        }
    }
    group.map_or(Found::Unknown, |built| Found::Group { built })
}

/// The key that governs a leaf at or below it: `environment.PATH` is `environment`'s.
pub fn governing(section: &'static [Key], path: &[&str]) -> Option<&'static Key> {
    (1..=path.len()).find_map(|n| match find(section, &path[..n]) {
        Found::Key(key) => Some(key),
        _ => None,
    })
}

enum Fit {
    Exact,
    Above,
    No,
}

fn fits(pattern: &str, path: &[&str]) -> Fit {
    // Most keys differ in the first letters, and this runs for each key of each service.
    if path.first().is_some_and(|first| !pattern.starts_with(first)) {
        return Fit::No;
    }
    let mut parts = pattern.split('.');
    for segment in path {
        match parts.next() {
            Some(part) if part == "*" || part == *segment => {}
            _ => return Fit::No,
        }
    }
    if parts.next().is_some() { Fit::Above } else { Fit::Exact }
}
