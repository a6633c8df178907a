//! Every verb and flag of `sampan`, once. Parser, --help, man page and shell completions read this and nothing else.
//! runc's and crun's flags have runc's and crun's names, because podman, containerd, docker, CRI-O and buildkit pass
//! them; `enter` has nsenter's letters. Flags that only exist so that a client's call works say so in their help.

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    /// One value, named so in the help.
    Value(&'static str),
    /// A value only if it is attached: `--flag=VALUE`, `-fVALUE`.
    Maybe(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    pub takes: Takes,
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Start,
    Run,
    Exec,
    Kill,
    Delete,
    State,
    List,
    Ps,
    Pause,
    Resume,
    Update,
    Events,
    Ns,
    Enter,
    Plan,
    Spec,
    Features,
    Checkpoint,
    Restore,
    Generate,
}

/// What there must be before a verb can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// The folder of containers.
    Root,
    /// That folder, and the id of one of them, which is the first positional argument.
    Container,
}

/// A verb, and all that parser, help and dispatch must know of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub verb: Verb,
    pub name: &'static str,
    pub needs: Needs,
    /// It goes near a container, which must not get at our binary (kernel/seal.rs; entry.rs has the same verbs, by a test).
    pub seal: bool,
    /// The positional arguments, as the help shows them.
    pub operands: &'static str,
    /// How many there may be.
    pub count: (usize, usize),
    /// The first positional argument ends the flags: what follows belongs to somebody else.
    pub stops: bool,
    pub help: &'static str,
    pub flags: &'static [Flag],
}

const ANY: usize = usize::MAX;

const fn on(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag { long, short: letter(short), takes: Takes::Nothing, help }
}

const fn value(long: &'static str, short: char, name: &'static str, help: &'static str) -> Flag {
    Flag { long, short: letter(short), takes: Takes::Value(name), help }
}

const fn maybe(long: &'static str, short: char, name: &'static str, help: &'static str) -> Flag {
    Flag { long, short: letter(short), takes: Takes::Maybe(name), help }
}

const fn letter(short: char) -> Option<char> {
    if short == ' ' { None } else { Some(short) }
}

pub const GLOBAL: &[Flag] = &[
    value("root", ' ', "DIR", "where containers are kept (default /run/sampan/containers)"),
    value("log", ' ', "FILE", "append errors to FILE as well"),
    value("log-format", ' ', "text|json", "format of the log (default text)"),
    value("log-level", ' ', "error|warning|debug", "what goes to the log (default error)"),
    on("debug", ' ', "the same as --log-level debug"),
    on("systemd-cgroup", ' ', "let systemd make the cgroup; not supported yet"),
    value("cgroup-manager", ' ', "cgroupfs|systemd|disabled", "who makes the cgroup (default cgroupfs)"),
    value("rootless", ' ', "true|false|auto", "without root's rights (default auto)"),
    on("help", 'h', "print help"),
    on("version", 'v', "print the version"),
];

const BUNDLE: Flag = value("bundle", 'b', "DIR", "the bundle: a folder with config.json (default .)");
const PID_FILE: Flag = value("pid-file", ' ', "FILE", "write the process's pid to FILE when it is ready");
const CONSOLE: Flag =
    value("console-socket", ' ', "SOCKET", "send the terminal's master to this unix socket");
const PIDFD: Flag = value(
    "pidfd-socket",
    ' ',
    "SOCKET",
    "send a pidfd of the process to this unix socket; not supported yet",
);
const PRESERVE: Flag = value("preserve-fds", ' ', "N", "pass on descriptors 3 to 2+N");
const FORMAT: Flag = value("format", 'f', "table|json", "output format (default table)");
const JSON: Flag = on("json", ' ', "print JSON");

const CREATE: &[Flag] = &[
    BUNDLE,
    value("config", 'f', "FILE", "the config.json, if it is not the bundle's"),
    CONSOLE,
    PIDFD,
    PID_FILE,
    on("no-pivot", ' ', "use MS_MOVE and chroot instead of pivot_root (initramfs); not supported yet"),
    on("no-new-keyring", ' ', "keep the caller's session keyring"),
    PRESERVE,
    on("no-subreaper", ' ', "accepted for crun's clients; create is never a subreaper"),
];

const RUN: &[Flag] = &[
    BUNDLE,
    value("config", 'f', "FILE", "the config.json, if it is not the bundle's"),
    CONSOLE,
    PIDFD,
    PID_FILE,
    on("no-pivot", ' ', "use MS_MOVE and chroot instead of pivot_root (initramfs); not supported yet"),
    on("no-new-keyring", ' ', "keep the caller's session keyring"),
    PRESERVE,
    on("detach", 'd', "do not wait for the container's end"),
    on("keep", ' ', "do not delete the container when it ends"),
    on("no-subreaper", ' ', "do not adopt the container's orphans"),
    on("trace", ' ', "print what each step cost"),
    value("rootfs", ' ', "host|DIR", "no bundle: run CMD in this root; host is this machine's, read-only"),
    value(
        "image",
        ' ',
        "NAME",
        "no bundle: run this image, pulled if it is not here, or CMD in it; nothing of it stays",
    ),
    on("scratch", ' ', "with --rootfs: let CMD write to the root, in memory; nothing of it stays"),
    on("tty", 't', "with --rootfs or --image: give it a terminal (default: if we have one)"),
    // As docker has them.
    value("volume", 'v', "SRC:DST[:ro]", "with --rootfs or --image: mount a file or folder (repeatable)"),
    value("env", 'e', "NAME[=VALUE]", "with these: add to the environment (repeatable)"),
    value("workdir", 'w', "DIR", "with these: working directory"),
    value("user", 'u', "UID[:GID]", "with these: run as this user"),
    value("memory", 'm', "SIZE", "with these: limit of memory, as 512m"),
    value("network", ' ', "host|none", "with these: the host's network, or none (default)"),
    value("hostname", ' ', "NAME", "with these: the host name (default: the container's id)"),
    on("read-only", ' ', "with these: nothing may be written to the root"),
    value("cap-add", ' ', "CAP|ALL", "with these: add a capability (repeatable)"),
    value("cap-drop", ' ', "CAP|ALL", "with these: take a capability away, before any is added (repeatable)"),
    on("init", ' ', "with these: a first process of ours that starts CMD, passes signals on and reaps"),
];

const EXEC: &[Flag] = &[
    value("process", 'p', "FILE", "the process as JSON"),
    value("cwd", ' ', "DIR", "working directory"),
    value("env", 'e', "NAME=VALUE", "add to the environment (repeatable)"),
    on("tty", 't', "allocate a terminal"),
    value("user", 'u', "UID[:GID]", "user and group"),
    value("additional-gids", 'g', "GID", "further group (repeatable)"),
    on("detach", 'd', "do not wait for the process's end"),
    PID_FILE,
    CONSOLE,
    PIDFD,
    PRESERVE,
    value("process-label", ' ', "LABEL", "SELinux label"),
    value("apparmor", ' ', "PROFILE", "AppArmor profile"),
    on("no-new-privs", ' ', "set no_new_privs"),
    value("cap", 'c', "CAP", "add a capability (repeatable)"),
    value("cgroup", ' ', "[CTRL[,CTRL]:]PATH", "join this sub-cgroup; not supported yet"),
    on("ignore-paused", ' ', "exec in a paused container too"),
];

const ENTER: &[Flag] = &[
    value("target", 't', "PID|ID", "the process or container to take namespaces from"),
    on("all", 'a', "all namespaces of the target that differ from ours"),
    maybe("mount", 'm', "FILE", "mount namespace"),
    maybe("uts", 'u', "FILE", "uts namespace (hostname)"),
    maybe("ipc", 'i', "FILE", "ipc namespace"),
    maybe("net", 'n', "FILE", "network namespace"),
    maybe("pid", 'p', "FILE", "pid namespace"),
    maybe("user", 'U', "FILE", "user namespace"),
    maybe("cgroup", 'C', "FILE", "cgroup namespace"),
    maybe("time", 'T', "FILE", "time namespace"),
    value("setuid", 'S', "UID", "become this user (default 0 with --user)"),
    value("setgid", 'G', "GID", "become this group (default 0 with --user)"),
    on("preserve-credentials", ' ', "keep user and groups with --user"),
    maybe("root", 'r', "DIR", "root folder (default the target's)"),
    maybe("wd", 'w', "DIR", "working folder (default the target's)"),
    on("no-fork", 'F', "do not fork before running the program"),
];

const UPDATE: &[Flag] = &[
    value("resources", 'r', "FILE", "the limits as JSON; - is stdin"),
    value("memory", ' ', "BYTES", "memory limit"),
    value("memory-reservation", ' ', "BYTES", "memory that is reclaimed last"),
    value("memory-swap", ' ', "BYTES", "memory and swap limit; -1 is none"),
    value("cpu-period", ' ', "US", "CPU period"),
    value("cpu-quota", ' ', "US", "CPU time in a period"),
    value("cpu-burst", ' ', "US", "CPU time that may be saved up"),
    value("cpu-share", ' ', "N", "CPU shares"),
    value("cpu-rt-period", ' ', "US", "real-time period"),
    value("cpu-rt-runtime", ' ', "US", "real-time runtime"),
    value("cpu-idle", ' ', "0|1", "run only when nothing else does"),
    value("cpuset-cpus", ' ', "LIST", "CPUs"),
    value("cpuset-mems", ' ', "LIST", "memory nodes"),
    value("pids-limit", ' ', "N", "number of processes; -1 is none"),
    value("blkio-weight", ' ', "N", "block I/O weight, 10 to 1000"),
    value("l3-cache-schema", ' ', "TEXT", "Intel RDT L3 schema; not supported yet"),
    value("mem-bw-schema", ' ', "TEXT", "Intel RDT memory bandwidth schema; not supported yet"),
    value("kernel-memory", ' ', "BYTES", "accepted and ignored, as in runc"),
    value("kernel-memory-tcp", ' ', "BYTES", "accepted and ignored, as in runc"),
];

pub const VERBS: &[Row] = &[
    Row {
        verb: Verb::Create,
        name: "create",
        needs: Needs::Container,
        seal: true,
        operands: "ID [BUNDLE]",
        count: (1, 2),
        stops: false,
        help: "make a container from a bundle; its program waits for start",
        flags: CREATE,
    },
    Row {
        verb: Verb::Start,
        name: "start",
        needs: Needs::Container,
        seal: false,
        operands: "ID",
        count: (1, 1),
        stops: false,
        help: "start a created container's program",
        flags: &[],
    },
    Row {
        verb: Verb::Run,
        name: "run",
        needs: Needs::Root,
        seal: true,
        operands: "[ID] [-- CMD [ARG]...]",
        count: (0, 1),
        stops: false,
        help: "create and start, and wait for the end; --rootfs host -- CMD needs no bundle",
        flags: RUN,
    },
    Row {
        verb: Verb::Exec,
        name: "exec",
        needs: Needs::Container,
        seal: true,
        operands: "ID [CMD [ARG]...]",
        count: (1, ANY),
        stops: true,
        help: "run a further program in a running container",
        flags: EXEC,
    },
    Row {
        verb: Verb::Kill,
        name: "kill",
        needs: Needs::Container,
        seal: false,
        operands: "ID [SIGNAL]",
        count: (1, 2),
        stops: true,
        help: "send a signal (default TERM) to a container's first process",
        flags: &[on("all", 'a', "to every process of the container")],
    },
    Row {
        verb: Verb::Delete,
        name: "delete",
        needs: Needs::Container,
        seal: false,
        operands: "ID",
        count: (1, 1),
        stops: false,
        help: "remove a stopped container",
        flags: &[on(
            "force",
            'f',
            "kill it first if it runs; clean up whatever is left; a missing one is no error",
        )],
    },
    Row {
        verb: Verb::State,
        name: "state",
        needs: Needs::Container,
        seal: false,
        operands: "ID",
        count: (1, 1),
        stops: false,
        help: "print a container's state as JSON",
        flags: &[],
    },
    Row {
        verb: Verb::List,
        name: "list",
        needs: Needs::Root,
        seal: false,
        operands: "",
        count: (0, 0),
        stops: false,
        help: "list containers",
        flags: &[FORMAT, on("quiet", 'q', "ids alone")],
    },
    Row {
        verb: Verb::Ps,
        name: "ps",
        needs: Needs::Container,
        seal: false,
        operands: "ID [PS-ARG]...",
        count: (1, ANY),
        stops: true,
        help: "list a container's processes",
        flags: &[FORMAT],
    },
    Row {
        verb: Verb::Pause,
        name: "pause",
        needs: Needs::Container,
        seal: false,
        operands: "ID",
        count: (1, 1),
        stops: false,
        help: "freeze all processes of a container",
        flags: &[],
    },
    Row {
        verb: Verb::Resume,
        name: "resume",
        needs: Needs::Container,
        seal: false,
        operands: "ID",
        count: (1, 1),
        stops: false,
        help: "let a paused container go on",
        flags: &[],
    },
    Row {
        verb: Verb::Update,
        name: "update",
        needs: Needs::Container,
        seal: false,
        operands: "ID",
        count: (1, 1),
        stops: false,
        help: "change a container's limits",
        flags: UPDATE,
    },
    Row {
        verb: Verb::Events,
        name: "events",
        needs: Needs::Container,
        seal: false,
        operands: "ID",
        count: (1, 1),
        stops: false,
        help: "print a container's resource use as JSON",
        flags: &[
            on("stats", ' ', "once"),
            value("interval", ' ', "TIME", "time between two lines (default 5s)"),
        ],
    },
    Row {
        verb: Verb::Ns,
        name: "ns",
        needs: Needs::Root,
        seal: false,
        operands: "[ID|PID]...",
        count: (0, ANY),
        stops: false,
        help: "show namespaces: which are own, which shared with the host or other containers",
        flags: &[JSON],
    },
    Row {
        verb: Verb::Enter,
        name: "enter",
        needs: Needs::Root,
        seal: true,
        operands: "[CMD [ARG]...]",
        count: (0, ANY),
        stops: true,
        help: "run a program (default a shell) in namespaces of a container or process, as nsenter does",
        flags: ENTER,
    },
    Row {
        verb: Verb::Plan,
        name: "plan",
        needs: Needs::Nothing,
        seal: false,
        operands: "[BUNDLE]",
        count: (0, 1),
        stops: false,
        help: "print every step that starting the bundle would take",
        flags: &[JSON, BUNDLE],
    },
    Row {
        verb: Verb::Spec,
        name: "spec",
        needs: Needs::Nothing,
        seal: false,
        operands: "",
        count: (0, 0),
        stops: false,
        help: "write a config.json to begin with",
        flags: &[
            BUNDLE,
            on("rootless", ' ', "for use without root's rights; not supported yet"),
            on(
                "secure",
                ' ',
                "the hardened container of run --rootfs and sampand, in place of runc's template",
            ),
        ],
    },
    Row {
        verb: Verb::Features,
        name: "features",
        needs: Needs::Nothing,
        seal: false,
        operands: "",
        count: (0, 0),
        stops: false,
        help: "print what this build can do as JSON",
        flags: &[],
    },
    Row {
        verb: Verb::Checkpoint,
        name: "checkpoint",
        needs: Needs::Nothing,
        seal: false,
        operands: "ID",
        count: (0, ANY),
        stops: true,
        help: "not supported yet",
        flags: &[],
    },
    Row {
        verb: Verb::Restore,
        name: "restore",
        needs: Needs::Nothing,
        seal: false,
        operands: "ID",
        count: (0, ANY),
        stops: true,
        help: "not supported yet",
        flags: &[],
    },
    Row {
        verb: Verb::Generate,
        name: "generate",
        needs: Needs::Nothing,
        seal: false,
        operands: "man|bash|zsh|fish",
        count: (1, 1),
        stops: false,
        help: "print the man page or a shell's completions",
        flags: &[],
    },
];

pub fn row(name: &str) -> Option<&'static Row> {
    VERBS.iter().find(|row| row.name == name)
}
