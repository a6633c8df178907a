//! What each key's value may be; keys.rs says the same to people, and decode/ decides. A test holds them together:
//! core/config/tests/json_schema.rs.
//! Long because it is one table.

use super::shape::Shape::{
    self, Any, Anything, Boolean, Capability, Duration, Inside, Integer, Like, List, Map, MapOf, Mode,
    Nonempty, Number, Signal, Size, Text, Words,
};
use super::shape::Table;
use crate::decode::ULIMITS;

const COUNT: Shape = Integer(0, 0xffff_ffff);
const PORT: Shape = Integer(1, 65_535);
const PATH: Shape = Nonempty;
const NONE: Shape = Words(&["none"]);
const AUTO: Shape = Words(&["auto"]);
const TEXTS: Shape = List(&Text);
const NAMES: Shape = List(&Nonempty);
/// Text is split as by sh.
const COMMAND: Shape = Any(&[Nonempty, Shape::Some(&Text)]);
const NAMESPACE: Shape = Any(&[Words(&["private", "host"]), SERVICES]);
const SERVICES: Shape = Like("^service:.", "service:db");
const SIZE_OR_NONE: Shape = Any(&[Size, NONE]);
/// Of labels and the like: numbers and booleans are text too.
const VALUES: Shape = Map(&Any(&[Text, Integer(i64::MIN, i64::MAX), Boolean]));
const EXITS: Shape = List(&Any(&[Integer(0, 255), Signal]));
/// A name, or a number.
const GROUP: Shape = Any(&[Nonempty, Integer(0, 0xffff_ffff)]);
const LIMIT: Shape = Any(&[Integer(-1, i64::MAX), Nonempty]);
const ADDRESS: Shape = Like("^[0-9A-Fa-f.:]+$", "192.0.2.53");
const ADDRESS_OR_AUTO: Shape = Any(&[AUTO, ADDRESS]);
const CIDR_OR_AUTO: Shape = Any(&[AUTO, Like("^[0-9.]+/[0-9]+$", "10.7.0.0/24")]);

const HOOKS: Shape = List(&Shape::Table(Table {
    keys: &[("path", PATH), ("args", TEXTS), ("env", TEXTS), ("timeout", Integer(1, 86_400))],
    required: &["path"],
}));

/// In the container, or on the host.
const STEPS: Shape = List(&Shape::Table(Table {
    keys: &[
        ("command", COMMAND),
        ("in", Words(&["container", "host"])),
        ("user", IDS),
        ("timeout", Duration),
    ],
    required: &["command"],
}));

const HOST_STEPS: Shape = List(&Shape::Table(Table {
    keys: &[("command", COMMAND), ("in", Words(&["host"])), ("user", IDS), ("timeout", Duration)],
    required: &["command"],
}));

const IDS: Shape = Like("^[0-9]+:[0-9]+$", "1000:1000");

const ID_MAP: Shape = List(&Like("^[0-9]+:[0-9]+:[0-9]+$", "0:100000:65536"));

const VOLUMES: Shape = List(&Any(&[
    Like("^[^:]+:[^:]+(:[^:]*)?$", "./data:/data:ro"),
    Shape::Table(Table {
        keys: &[
            ("type", Words(&["bind", "volume"])),
            ("source", Nonempty),
            ("target", Inside),
            ("read_only", Boolean),
            ("options", NAMES),
            ("create", Boolean),
            ("nocopy", Boolean),
            ("selinux", Words(&["z", "Z"])),
        ],
        required: &["source", "target"],
    }),
]));

const SECRETS: Shape = List(&Any(&[
    Nonempty,
    Shape::Table(Table {
        keys: &[("source", Nonempty), ("target", Nonempty), ("mode", Mode), ("uid", COUNT), ("gid", COUNT)],
        required: &["source"],
    }),
]));

const SOCKETS: Shape = List(&Shape::Table(Table {
    keys: &[("listen", Like("^(tcp|udp|unix):.", "tcp:127.0.0.1:8080")), ("name", Nonempty)],
    required: &["listen"],
}));

const PORT_OR_RANGE: Shape = Any(&[PORT, Like("^[0-9]+-[0-9]+$", "8000-8010")]);

const PORTS: Shape = List(&Any(&[
    Like("^.*[0-9]+:[0-9]+(-[0-9]+)?(/(tcp|udp))?$", "127.0.0.1:8080:80"),
    Shape::Table(Table {
        keys: &[
            ("target", PORT_OR_RANGE),
            ("published", PORT_OR_RANGE),
            ("host_ip", Text),
            ("protocol", Words(&["tcp", "udp"])),
        ],
        required: &["target", "published"],
    }),
]));

const MEMBERSHIPS: Shape = Any(&[
    List(&Any(&[
        Nonempty,
        Shape::Table(Table {
            keys: &[
                ("name", Nonempty),
                ("ipv4_address", ADDRESS_OR_AUTO),
                ("ipv6_address", ADDRESS_OR_AUTO),
                ("aliases", NAMES),
            ],
            required: &["name"],
        }),
    ])),
    Map(&Shape::Table(Table {
        keys: &[("ipv4_address", ADDRESS_OR_AUTO), ("ipv6_address", ADDRESS_OR_AUTO), ("aliases", NAMES)],
        required: &[],
    })),
]);

const ENV_FILE: Shape =
    Any(&[PATH, Shape::Table(Table { keys: &[("path", PATH), ("required", Boolean)], required: &["path"] })]);

const POLICY: Shape = Like("^(no|on-failure(:[0-9]+)?|always|unless-stopped)$", "unless-stopped");
const DRIVER: Shape = Words(&["local", "json-file", "k8s-file", "journald", "none"]);

/// What may stand instead of a table, by the table's path.
pub const SHORT: &[(&str, Shape)] = &[
    ("rootfs", PATH),
    ("restart", POLICY),
    ("logging", DRIVER),
    ("healthcheck", NONE),
    ("healthcheck.http", PORT),
    ("depends_on", TEXTS),
];

pub const TOP: &[(&str, Shape)] = &[("version", Integer(1, 1)), ("include", TEXTS)];

pub const SUPERVISOR: &[(&str, Shape)] = &[
    ("run_dir", PATH),
    ("state_dir", PATH),
    ("socket", PATH),
    ("admin_group", Nonempty),
    ("read_group", Nonempty),
    ("on_exit", Words(&["stop", "keep"])),
    ("shutdown_timeout", Duration),
    ("max_parallel_starts", COUNT),
    ("restart_storm.burst", COUNT),
    ("restart_storm.interval", Duration),
    ("metrics", Nonempty),
    ("log_level", Words(&["error", "warn", "info", "debug", "trace"])),
    ("log_format", Words(&["text", "json"])),
    ("plugin_dir", PATH),
    ("cgroup_parent", Nonempty),
];

pub const SERVICE: &[(&str, Shape)] = &[
    ("rootfs.path", PATH),
    ("rootfs.mode", Words(&["ro", "rw", "scratch"])),
    ("read_only", Boolean),
    ("bundle", PATH),
    ("image", Nonempty),
    ("pull", Words(&["missing", "always", "never"])),
    ("entrypoint", Any(&[Text, TEXTS])),
    ("command", COMMAND),
    ("working_dir", Inside),
    ("hostname", Nonempty),
    ("domainname", Nonempty),
    ("init", Boolean),
    ("tty", Boolean),
    ("stdin_open", Boolean),
    ("autostart", Boolean),
    ("profiles", NAMES),
    ("schedule", Nonempty),
    ("labels", VALUES),
    ("annotations", VALUES),
    ("volumes", VOLUMES),
    ("tmpfs", Any(&[Inside, List(&Inside)])),
    ("shm_size", Size),
    ("devices", List(&Like("^/", "/dev/ttyUSB0"))),
    ("environment", Any(&[TEXTS, Map(&Any(&[Text, Number(f64::MIN, f64::MAX), Boolean]))])),
    ("env_file", Any(&[ENV_FILE, List(&ENV_FILE)])),
    ("user", GROUP),
    ("group_add", List(&GROUP)),
    ("cap_add", List(&Capability)),
    ("cap_drop", List(&Capability)),
    ("privileged", Boolean),
    ("pid", NAMESPACE),
    ("ipc", NAMESPACE),
    ("uts", NAMESPACE),
    ("cgroup", NAMESPACE),
    ("sysctls", Map(&Any(&[Nonempty, Integer(i64::MIN, i64::MAX), Boolean]))),
    (
        "ulimits",
        MapOf(
            &ULIMITS,
            &Any(&[
                LIMIT,
                Shape::Table(Table {
                    keys: &[("soft", LIMIT), ("hard", LIMIT)],
                    required: &["soft", "hard"],
                }),
            ]),
        ),
    ),
    ("oom_score_adj", Integer(-1000, 1000)),
    ("security.no_new_privileges", Boolean),
    ("security.seccomp_profile", Nonempty),
    ("security.apparmor", Nonempty),
    ("security.selinux", Nonempty),
    ("security.masked_paths", List(&Any(&[Words(&["default"]), Inside]))),
    ("security.readonly_paths", List(&Any(&[Words(&["default"]), Inside]))),
    (
        "security.userns",
        Any(&[
            Words(&["none", "auto"]),
            Shape::Table(Table {
                keys: &[("uid_map", ID_MAP), ("gid_map", ID_MAP)],
                required: &["uid_map", "gid_map"],
            }),
        ]),
    ),
    ("resources.cpus", Any(&[Number(0.01, 65_536.0), NONE])),
    ("resources.cpu_weight", Integer(1, 10_000)),
    ("resources.io_weight", Integer(1, 10_000)),
    ("resources.cpuset", Any(&[NONE, Like("^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$", "0-3,8")])),
    ("resources.memory", SIZE_OR_NONE),
    ("resources.memory_swap", SIZE_OR_NONE),
    ("resources.memory_high", SIZE_OR_NONE),
    ("resources.memory_low", Size),
    ("resources.memory_min", Size),
    ("resources.pids", Integer(0, 4 << 20)),
    (
        "resources.io_max",
        Map(&Shape::Table(Table {
            keys: &[
                ("rbps", Size),
                ("wbps", Size),
                ("riops", Integer(1, i64::MAX)),
                ("wiops", Integer(1, i64::MAX)),
            ],
            required: &[],
        })),
    ),
    ("resources.oom_policy", Words(&["kill", "stop", "continue"])),
    ("resources.unified", Map(&Any(&[Nonempty, Integer(i64::MIN, i64::MAX)]))),
    ("network_mode", Any(&[Words(&["bridge", "none", "host"]), SERVICES])),
    ("networks", MEMBERSHIPS),
    ("ports", PORTS),
    ("dns", List(&ADDRESS)),
    ("dns_search", NAMES),
    ("dns_opt", NAMES),
    ("extra_hosts", List(&Like("^[^:=]+[:=].", "db:192.0.2.7"))),
    ("sockets", SOCKETS),
    ("restart.policy", POLICY),
    ("restart.delay", Duration),
    ("restart.multiplier", Number(1.0, 100.0)),
    ("restart.max_delay", Duration),
    ("restart.jitter", Number(0.0, 1.0)),
    ("restart.reset_after", Duration),
    ("restart.max_attempts", COUNT),
    ("restart.success_exit_status", EXITS),
    ("restart.prevent_exit_status", EXITS),
    ("restart.force_exit_status", EXITS),
    ("healthcheck.test", Any(&[Nonempty, TEXTS])),
    ("healthcheck.http.port", PORT),
    ("healthcheck.http.path", Like("^/", "/health")),
    ("healthcheck.http.status", Any(&[Integer(100, 599), Like("^[0-9]{3}(-[0-9]{3})?$", "200-399")])),
    ("healthcheck.http.host", Nonempty),
    ("healthcheck.tcp", PORT),
    ("healthcheck.unix", Inside),
    ("healthcheck.notify", Boolean),
    ("healthcheck.interval", Duration),
    ("healthcheck.timeout", Duration),
    ("healthcheck.retries", Integer(1, 1000)),
    ("healthcheck.start_period", Duration),
    ("healthcheck.start_interval", Duration),
    ("healthcheck.success_threshold", Integer(1, 1000)),
    ("healthcheck.on_failure", Words(&["restart", "kill", "stop", "none"])),
    ("healthcheck.stop_grace_period", Duration),
    (
        "notify",
        Any(&[
            Words(&["none", "ready", "healthy"]),
            Shape::Table(Table { keys: &[("fd", Integer(3, 35))], required: &["fd"] }),
        ]),
    ),
    ("start_timeout", Duration),
    ("watchdog", Duration),
    ("fd_store_max", Integer(0, 64)),
    ("depends_on.*.condition", CONDITION),
    ("depends_on.*.required", Boolean),
    ("depends_on.*.restart", Boolean),
    ("depends_on.*.bind", Boolean),
    ("stop_signal", Signal),
    ("stop_grace_period", Duration),
    (
        "reload",
        Any(&[
            NONE,
            Shape::Table(Table { keys: &[("signal", Signal)], required: &["signal"] }),
            Shape::Table(Table { keys: &[("command", COMMAND)], required: &["command"] }),
        ]),
    ),
    ("logging.driver", DRIVER),
    ("logging.max_size", Size),
    ("logging.max_file", Integer(1, 1000)),
    ("logging.max_line", Size),
    ("logging.max_age", Any(&[NONE, Duration])),
    ("logging.rate_limit", Any(&[NONE, Like("/s\\s*$", "1M/s")])),
    ("logging.compress", Boolean),
    ("logging.mode", Words(&["blocking", "non-blocking"])),
    ("logging.max_buffer_size", Size),
    ("logging.drop", Words(&["oldest", "newest"])),
    ("logging.on_full", Words(&["drop", "block"])),
    ("hooks.prestart", HOOKS),
    ("hooks.createRuntime", HOOKS),
    ("hooks.createContainer", HOOKS),
    ("hooks.startContainer", HOOKS),
    ("hooks.poststart", HOOKS),
    ("hooks.poststop", HOOKS),
    ("lifecycle.pre_start", HOST_STEPS),
    ("lifecycle.post_start", STEPS),
    ("lifecycle.pre_stop", STEPS),
    ("lifecycle.post_stop", HOST_STEPS),
    ("on.exit", HOST_STEPS),
    ("on.failure", HOST_STEPS),
    ("on.oom", HOST_STEPS),
    ("on.health", HOST_STEPS),
    ("secrets", SECRETS),
    ("adjust", Map(&Nonempty)),
];

const CONDITION: Shape =
    Words(&["service_started", "service_ready", "service_healthy", "service_completed_successfully"]);

pub const NETWORK: &[(&str, Shape)] = &[
    ("driver", Words(&["bridge"])),
    ("subnet", CIDR_OR_AUTO),
    ("gateway", ADDRESS_OR_AUTO),
    ("ip_range", CIDR_OR_AUTO),
    ("ipv6", Boolean),
    ("internal", Boolean),
    ("isolated", Boolean),
    ("mtu", Any(&[Integer(0, 0), Integer(68, 65_535)])),
];

pub const VOLUME: &[(&str, Shape)] =
    &[("driver", Words(&["local"])), ("path", PATH), ("uid", COUNT), ("gid", COUNT), ("mode", Mode)];

pub const SECRET: &[(&str, Shape)] = &[("file", PATH), ("environment", Nonempty), ("command", COMMAND)];

pub const PLUGIN: &[(&str, Shape)] = &[
    ("enabled", Boolean),
    ("path", PATH),
    ("config", Map(&Anything)),
    ("after", NAMES),
    ("services", NAMES),
    ("required", Boolean),
    ("on_error", Words(&["fail", "ignore", "disable"])),
    ("timeout", Duration),
    ("hard_timeout", Duration),
    ("open_timeout", Duration),
    (
        "grants",
        List(&Words(&["seccomp", "capabilities", "devices", "namespaces", "hooks", "sysctl", "user"])),
    ),
];
