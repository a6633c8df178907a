//! Mistakes and what is said about them: `LINE:COLUMN key: message [hint]`, one line each.

use super::{Folder, Load};

#[test]
fn ten_mistakes_get_ten_messages_at_once() {
    let folder = Folder::new().with("config.toml", include_str!("ten_mistakes.toml"));
    assert_eq!(folder.check(&["config.toml"]), include_str!("ten_mistakes.txt"));
}

/// Errors, else warnings, of a whole file.
#[track_caller]
pub fn check(toml: &str, expected: &[&str]) {
    let folder = Folder::new().with("config.toml", toml);
    assert_eq!(lines(&folder, &["config.toml"]), expected, "\n{toml}");
}

#[track_caller]
fn service(keys: &str, expected: &[&str]) {
    assert_eq!(said(keys), expected, "\n{keys}");
}

/// Of a service that is otherwise right; the keys stand from line 2 on.
pub fn said(keys: &str) -> Vec<String> {
    messages(&format!("[services.web]\n{keys}\nrootfs = \"/\"\ncommand = [\"a\"]\n"))
}

fn messages(text: &str) -> Vec<String> {
    lines(&Folder::new().with("c.toml", text), &["c.toml"])
}

fn lines(folder: &Folder, files: &[&str]) -> Vec<String> {
    let found = match folder.load(files) {
        Ok(loaded) => loaded.warnings,
        Err(errors) => errors,
    };
    let text = found.iter().map(|d| {
        let at = d.at.as_ref().map_or("-".into(), |at| format!("{}:{}", at.line(), at.column()));
        let hint = if d.hint.is_empty() { String::new() } else { format!(" [{}]", d.hint) };
        format!("{at} {}{hint}", d.title()).replace(&format!("{}/", folder.0.display()), "")
    });
    text.collect()
}

#[test]
fn files() {
    check("a = 1", &["1:1 unknown key `a` [docs/config.md lists all keys]"]);
    check("service = 1", &["1:1 unknown key `service` [did you mean `services`?]"]);
    check(
        "service = 1\n[supervisor]\non_exit = \"leave\"",
        &[
            "1:1 unknown key `service` [did you mean `services`?]",
            "3:11 supervisor.on_exit: no such answer [one of stop, keep]",
        ],
    );
    check("a b", &["1:3 not TOML: key with no value, expected `=`"]);
    check("x = 1\nx = 2", &["2:1 not TOML: duplicate key"]);
    check("version = 2", &["1:11 version: no such version [this sampand reads version = 1]"]);
    check("services = 3", &["1:12 services: expected a table, found an integer [write [services]]"]);
    check("include = \"x\"", &["1:11 include: expected an array, found a string [write [\"FILE\"]]"]);
    check(
        "include = [\"x\"]",
        &["1:12 include: cannot read x: no such file or directory [a glob may find nothing, a path may not]"],
    );
    check("include = [\"*.none\", \"conf.d/*.toml\"]", &[]);
    check("[volumes.x]", &[]);
    let nobody = "is nobody's: strangers may have it [name a group made for this]";
    for (group, said) in [
        ("root", None),
        ("0", None),
        ("1234", None),
        ("none", None),
        ("65534", Some(format!("group 65534 {nobody}"))),
        ("4294967295", Some(format!("group 4294967295 {nobody}"))),
        ("", Some("is empty [write a value or leave the key out]".into())),
        (
            "no group",
            Some("no group no group in /etc/group [`groupadd` makes one; of others write the number]".into()),
        ),
    ] {
        for key in ["admin_group", "read_group"] {
            let at = format!("2:{} supervisor.{key}: ", key.len() + 4);
            let says: Vec<String> = said.iter().map(|said| format!("{at}{said}")).collect();
            let says: Vec<&str> = says.iter().map(String::as_str).collect();
            check(&format!("[supervisor]\n{key} = {group:?}"), &says);
        }
    }
    let place = |at: &str, said: Option<&str>| {
        let says: Vec<String> = said.iter().map(|said| format!("2:11 supervisor.metrics: {said}")).collect();
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        check(&format!("[supervisor]\nmetrics = {at:?}"), &says);
    };
    for good in
        ["none", "9464", ":9464", "localhost:9464", "0.0.0.0:9464", "[::1]:9464", "/run/x.sock", "./x"]
    {
        place(good, None);
    }
    for bad in ["x", "web:9464", ":0", ":65536"] {
        let said = format!(
            "{bad:?} is no HOST:PORT with an address for HOST, nor a path [write \":9464\" for 127.0.0.1 alone, \
             \"0.0.0.0:9464\", \"[::1]:9464\", or a path with a slash]"
        );
        place(bad, Some(&said));
    }
    check(
        "[supervisor]\nrundir = \"x\"",
        &["2:1 supervisor: unknown key `rundir` [did you mean `run_dir`?]"],
    );
    check(
        "[supervisor]\nsocket_mode = 1",
        &[
            "2:1 supervisor: unknown key `socket_mode` [not a key: root and our own user, and supervisor.admin_group, read_group]",
        ],
    );
    check(
        "[supervisor]\non_exit = \"leave\"",
        &["2:11 supervisor.on_exit: no such answer [one of stop, keep]"],
    );
    check(
        "[services.Web]\nrootfs = \"/\"\ncommand = \"a\"",
        &["1:11 services: `Web` is not a name [a-z and 0-9 first, then also _ . -, at most 63]"],
    );
}

#[test]
fn a_file_that_is_not_there() {
    let folder = Folder::new();
    assert_eq!(
        folder.check(&["none.toml"]),
        "error: cannot read none.toml: no such file or directory\n |\n = help: name the file with --config FILE\nnone.toml: 1 error, nothing changed\n"
    );
}

#[test]
fn what_to_run() {
    check(
        "[services.a]\ncommand = \"x\"",
        &[
            "1:11 services.a: nothing to run [add image = \"NAME\", rootfs = \"PATH\", rootfs = \"host\" or bundle = \"PATH\"]",
        ],
    );
    check(
        "[services.a]\nrootfs = \"/\"",
        &["1:1 services.a: command is missing [as command = [\"PROGRAM\", \"ARGUMENT\"]]"],
    );
    check(
        "[services.a]\nrootfs = \"/\"\nbundle = \"/\"",
        &["3:1 services.a: two things to run [drop one: rootfs, bundle or image]"],
    );
    check(
        "[services.a]\nread_only = false\nrootfs = { path = \"/\", mode = \"ro\" }\ncommand = \"x\"",
        &["2:1 services.a.read_only: beside rootfs.mode [the two say the same: drop one]"],
    );
    check(
        "[services.a]\nread_only = true\nrootfs = { path = \"/\", mode = \"scratch\" }\ncommand = \"x\"",
        &["2:1 services.a.read_only: beside rootfs.mode [the two say the same: drop one]"],
    );
    check(
        "[services.a]\nrootfs = \"/\"\ncommand = \"a | b\"",
        &["3:11 services.a.command: `|` needs a shell [no shell runs: [\"sh\", \"-c\", \"a | b\"] has one]"],
    );
    check(
        "[services.a]\nrootfs = \"/\"\ncommand = []",
        &["3:11 services.a.command: is empty [as [\"PROGRAM\", \"ARGUMENT\"]]"],
    );
    check(
        "[services.a]\nrootfs = \"~/x\"\ncommand = \"x\"",
        &["2:10 services.a.rootfs.path: `~` is not a path here [write ${HOME}, or the path from the root]"],
    );
    check(
        "[services.a]\nrootfs = \"gone\"\ncommand = \"x\"",
        &["1:11 services.a.rootfs: no folder gone [it must be there before the service starts]"],
    );
}

#[test]
fn what_the_start_would_refuse_is_refused_before() {
    service(
        "logging = { max_size = \"0\", max_line = \"1M\", max_age = \"0s\" }\nshm_size = 0\nsecurity.seccomp_profile = \"/no/such.json\"",
        &[
            "2:24 services.web.logging.max_size: 0 bytes is out of range [4K to 1T]",
            "2:40 services.web.logging.max_line: 1048576 bytes is out of range [256 bytes to 64K]",
            "2:56 services.web.logging.max_age: must be more than 0 [as \"1s\"]",
            "3:12 services.web.shm_size: 0 bytes is out of range [1 byte to 1T]",
            "4:28 services.web.security.seccomp_profile: cannot read /no/such.json: no such file or directory [or write \"default\"]",
        ],
    );
}

#[test]
fn the_buffer_of_a_log() {
    service(
        "logging = { mode = \"async\", max_buffer_size = \"4000\", drop = \"all\" }",
        &[
            "2:20 services.web.logging.mode: no such mode [one of blocking, non-blocking]",
            "2:47 services.web.logging.max_buffer_size: 4000 bytes is out of range [4K to 1G]",
            "2:62 services.web.logging.drop: no such drop [one of oldest, newest]",
        ],
    );
    let wrong = "1073741825 bytes is out of range [4K to 1G]";
    service(
        "logging = { mode = \"non-blocking\", max_buffer_size = 1073741825 }",
        &[&format!("2:54 services.web.logging.max_buffer_size: {wrong}")],
    );
    let without = "has no meaning without a mode [add mode = \"non-blocking\"]";
    service(
        "logging = { max_buffer_size = \"4K\", drop = \"newest\" }",
        &[
            &format!("2:31 services.web.logging.max_buffer_size: {without}"),
            &format!("2:44 services.web.logging.drop: {without}"),
        ],
    );
    service("logging = { mode = \"blocking\", drop = \"newest\" }", &[]);
}

#[test]
fn rates_of_logs() {
    let says = |rate: &str, what: &str| {
        service(
            &format!("logging.rate_limit = {rate}"),
            &[&format!("2:22 services.web.logging.rate_limit: {what} [as \"1M/s\": 1K/s to 1T/s]")],
        );
    };
    says("\"1M\"", "is no rate");
    says("\"1M/m\"", "is no rate");
    says("\"1/s\"", "1 bytes a second is out of range");
    says("\"x/s\"", "`x` is not a size");
}

#[test]
fn names_of_others() {
    service(
        "cpus = 1.5",
        &["2:1 services.web: unknown key `cpus` [compose's name; here: resources.cpus = 1.5]"],
    );
    service(
        "MemoryMax = \"1G\"",
        &["2:1 services.web: unknown key `MemoryMax` [systemd's name; here: resources.memory = \"1G\"]"],
    );
    service(
        "\"Environment=\" = \"A=b\"",
        &[
            "2:1 services.web: unknown key `Environment=` [Quadlet's and systemd's name; here: environment = \"A=b\"]",
        ],
    );
    service(
        "deploy.replicas = 2",
        &[
            "2:1 services.web: unknown key `deploy` [compose's name; here: resources.cpus, resources.memory, resources.memory_low, resources.pids, restart.policy, restart.delay, restart.reset_after, restart.max_attempts]",
        ],
    );
    service(
        "CPUQuota = \"50%\"",
        &["2:1 services.web: unknown key `CPUQuota` [systemd's name; here: resources.cpus (100% = 1.0)]"],
    );
    service(
        "LimitNOFILE = 1024",
        &[
            "2:1 services.web: unknown key `LimitNOFILE` [systemd's name; here: ulimits (LimitNOFILE: { nofile = N })]",
        ],
    );
    check(
        "mem_limit = \"1G\"",
        &[
            "1:1 unknown key `mem_limit` [compose's name; here: resources.memory = \"1G\", in [services.NAME]]",
        ],
    );
    service("mounts = []", &["2:1 services.web: unknown key `mounts` [not a key: write volumes]"]);
    service(
        "restart.mode = \"always\"",
        &["2:9 services.web.restart: unknown key `mode` [not a key: write restart.policy]"],
    );
    service("memory = \"1G\"", &["2:1 services.web: unknown key `memory` [here: resources.memory]"]);
    service(
        "replicas = 2",
        &[
            "2:1 services.web: unknown key `replicas` [not a key: write a service each, with [defaults] for what they share]",
        ],
    );
}

#[test]
fn schedules() {
    let at = "3:12 services.web.schedule: ";
    let job = |schedule: &str, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|said| format!("{at}{said}")).collect();
        assert_eq!(said(&format!("restart = \"no\"\nschedule = {schedule}")), expected, "{schedule}");
    };
    job("\"Mon..Fri 03:00\"", &[]);
    job("\"none\"", &[]);
    job("\"daily UTC\"", &[]);
    job("5", &["expected a string, found an integer [write \"5\"]"]);
    job("\"\"", &["is empty [write a value or leave the key out]"]);
    job("\"*-02-30\"", &["*-02-30 00:00:00 never comes [no day of any year fits it]"]);
    job("\"*:*/5\"", &["`*/5`: `*` goes with nothing else [write 0/5]"]);
    job("\"0 3 * * *\"", &["cron's form [as \"03:00\", \"Mon..Fri *:0/15\" or \"*-*-01 12:30\"]"]);
    // Also what is a folder of zones, or a table beside them.
    for zone in ["Europe/Nowhere", "Europe", "leapseconds"] {
        let says = "[as \"03:00 Europe/Berlin\" (package tzdata); without one: the host's]";
        job(&format!("\"daily {zone}\""), &[&format!("no time zone {zone} on this host {says}")]);
    }
    service(
        "schedule = \"daily\"",
        &[
            "2:12 services.web.schedule: its restart policy brings the job back at once [add restart = \"on-failure\" or \"no\"]",
        ],
    );
    service(
        "OnCalendar = \"daily\"",
        &["2:1 services.web: unknown key `OnCalendar` [systemd's name; here: schedule = \"daily\"]"],
    );
}

#[test]
fn kinds() {
    service(
        "read_only = \"true\"",
        &["2:13 services.web.read_only: expected a boolean, found a string [write true or false]"],
    );
    service("read_only = \"${YES}\"", &[]);
    service("user = -1", &["2:8 services.web.user: -1 is out of range [0 or more]"]);
    service(
        "init = 1",
        &["2:8 services.web.init: expected a boolean, found an integer [write true or false]"],
    );
    service(
        "autostart = \"yes\"",
        &["2:13 services.web.autostart: expected a boolean, found a string [write true]"],
    );
    service(
        "working_dir = 5",
        &["2:15 services.web.working_dir: expected a string, found an integer [write \"5\"]"],
    );
    service(
        "working_dir = \"x\"",
        &["2:15 services.web.working_dir: a path in the container begins with / [write \"/x\"]"],
    );
    service("restart = 5", &["2:11 services.web.restart: expected a policy or a table, found an integer"]);
    service(
        "restart = \"on-failure:x\"",
        &["2:11 services.web.restart: `x` is not a number of attempts [as \"on-failure:3\"]"],
    );
    service(
        "restart.success_exit_status = [256]",
        &["2:32 services.web.restart.success_exit_status: 256 is out of range [0 to 255]"],
    );
    service(
        "restart.prevent_exit_status = [\"SIGTREM\"]",
        &["2:32 services.web.restart.prevent_exit_status: no such signal [did you mean \"SIGTERM\"?]"],
    );
    service(
        "restart.force_exit_status = [\"15\"]",
        &[
            "2:30 services.web.restart.force_exit_status: neither an exit status nor a signal's name [as 15, or \"SIGTERM\"]",
        ],
    );
    service(
        "restart = { force_exit_status = [3, \"KILL\"], prevent_exit_status = [\"SIGKILL\"] }",
        &["2:69 services.web.restart.prevent_exit_status: SIGKILL is in force_exit_status too [drop one]"],
    );
    service(
        "notify = \"healthy\"",
        &[
            "2:10 services.web.notify: there is no healthcheck [add [services.web.healthcheck] or drop notify]",
        ],
    );
    service(
        "notify = \"redy\"",
        &["2:10 services.web.notify: no such readiness [did you mean \"ready\"? Else: none, healthy]"],
    );
    let socket = |port: u16| format!("{{ listen = \"tcp:127.0.0.1:{port}\" }}");
    for (keys, expected) in [
        ("notify = { fd = 2 }".to_owned(), "2:17 services.web.notify.fd: 2 is out of range [3 to 35]"),
        (
            "notify = true".into(),
            "2:10 services.web.notify: expected a string: none, ready, healthy, found a boolean [write one of these, in quotes]",
        ),
        ("notify = { fd = \"3\" }".into(), "2:17 services.web.notify.fd: expected an integer"),
        ("notify = {}".into(), "services.web.notify: fd is missing [as notify = { fd = 3 }]"),
        (
            "notify = { fd = 5 }".into(),
            "2:17 services.web.notify.fd: 5 would leave a gap: the next descriptor is 3 [write fd = 3]",
        ),
        (
            format!("notify = {{ fd = 3 }}\nsockets = [{}]", socket(80)),
            "2:17 services.web.notify.fd: 3 is one of its sockets (3 is) [write fd = 4]",
        ),
        (
            format!("notify = {{ fd = 4 }}\nsockets = [{}, {}]", socket(80), socket(81)),
            "2:17 services.web.notify.fd: 4 is one of its sockets (3 to 4 are) [write fd = 5]",
        ),
        (
            "notify = { fd = 3 }\nwatchdog = \"1s\"".into(),
            "2:17 services.web.notify.fd: beside watchdog [who says WATCHDOG=1 on NOTIFY_SOCKET can say READY=1 there: write notify = \"ready\", or drop one]",
        ),
        (
            "fd_store_max = 65\nnotify = \"ready\"".into(),
            "2:16 services.web.fd_store_max: 65 is out of range [0 to 64]",
        ),
        (
            "fd_store_max = 1\nnotify = { fd = 3 }".into(),
            "2:16 services.web.fd_store_max: it has no NOTIFY_SOCKET [add notify = \"ready\" or a watchdog, or drop fd_store_max]",
        ),
        (
            "fd_store_max = 1\nnotify = \"ready\"\npid = \"host\"".into(),
            "2:16 services.web.fd_store_max: beside pid = \"host\"",
        ),
    ] {
        let said = said(&keys);
        assert!(said.len() == 1 && said[0].contains(expected), "{keys}: {said:?}");
    }
    service(
        "healthcheck.unix = \"run/x\"",
        &["2:20 services.web.healthcheck.unix: a path in the container begins with / [write \"/run/x\"]"],
    );
    service("watchdog = \"1ms\"", &["2:12 services.web.watchdog: too short [100ms or more; 0s: none]"]);
    service(
        "healthcheck.notify = true",
        &["2:22 services.web.healthcheck.notify: there is no watchdog [add services.web.watchdog = \"30s\"]"],
    );
    service(
        "watchdog = \"1s\"\nhealthcheck.notify = false",
        &["3:22 services.web.healthcheck.notify: can be true alone [leave it out]"],
    );
    service(
        "watchdog = \"1s\"\nhealthcheck = { notify = true, tcp = 1 }",
        &["3:17 services.web.healthcheck: two kinds of test [drop one]"],
    );
    for (line, wrong) in [
        (
            "reload = \"SIGHUP\"",
            "2:10 services.web.reload: expected a table: { signal } or { command }, found a string",
        ),
        (
            "reload = {}",
            "2:10 services.web.reload: signal is missing [as reload = { signal = \"SIGHUP\" }, or { command = [\"PROGRAM\"] }]",
        ),
        (
            "reload.signal = \"SIGHUB\"",
            "2:17 services.web.reload.signal: no such signal [did you mean \"SIGHUP\"?]",
        ),
        (
            "reload = { signal = \"HUP\", command = [\"x\"] }",
            "2:38 services.web.reload.command: beside signal [drop one]",
        ),
        (
            "reload = { signal = \"HUP\", comand = 1 }",
            "2:28 services.web.reload: unknown key `comand` [did you mean `command`?]",
        ),
    ] {
        service(line, &[wrong]);
    }
    service("restart.jitter = 2", &["2:18 services.web.restart.jitter: 2 is out of range [0 to 1]"]);
    service(
        "restart = { delay = \"2m\" }",
        &["2:21 services.web.restart.delay: longer than max_delay [raise restart.max_delay too]"],
    );
    service(
        "stop_grace_period = \"5x\"",
        &["2:21 services.web.stop_grace_period: no such unit of time: `x` [as \"1m30s\": us ms s m h d]"],
    );
    service(
        "stop_grace_period = \"5\"",
        &["2:21 services.web.stop_grace_period: a duration needs a unit [write \"5s\"]"],
    );
    service(
        "stop_signal = \"SIGTREM\"",
        &["2:15 services.web.stop_signal: no such signal [did you mean \"SIGTERM\"?]"],
    );
    service(
        "shm_size = \"1Q\"",
        &["2:12 services.web.shm_size: no such unit of size: `q` [as \"512M\": K M G T of 1024, or bytes]"],
    );
    service(
        "resources.memory = 100",
        &[
            "2:20 services.web.resources.memory: too little to start anything [512K or more; a bare number is bytes]",
        ],
    );
    service("resources.pids = -1", &["2:18 services.web.resources.pids: -1 is out of range [0 to 4194304]"]);
    service(
        "cap_add = [\"NET_ADMN\"]",
        &["2:12 services.web.cap_add: no such capability [did you mean \"NET_ADMIN\"?]"],
    );
    service("user = \":5\"", &["2:8 services.web.user: a name is empty [as \"1000:1000\" or \"www-data\"]"]);
    service(
        "user = \"4294967295\"",
        &["2:8 services.web.user: 4294967295 is out of range [0 to 4294967294]"],
    );
    service(
        "hooks.poststart = [{ args = [] }]",
        &["2:20 services.web.hooks.poststart: path is missing [add path = \"/PROGRAM\"]"],
    );
    service(
        "hooks.poststart = [{ path = \"/a\", timeout = \"1s\" }]",
        &[
            "2:45 services.web.hooks.poststart.timeout: expected an integer, found a string [write digits, without quotes]",
        ],
    );
    service(
        "hooks.postart = []",
        &["2:7 services.web.hooks: unknown key `postart` [did you mean `poststart`?]"],
    );
}

#[test]
fn health() {
    service(
        "healthcheck.interval = \"1s\"",
        &["2:1 services.web.healthcheck: nothing to test [add test, http, tcp, unix or notify]"],
    );
    service(
        "healthcheck = { http = 80, tcp = 80 }",
        &["2:28 services.web.healthcheck: two kinds of test [drop one]"],
    );
    service(
        "healthcheck.test = [\"pg_isready\"]",
        &[
            "2:20 services.web.healthcheck.test: not a test [as [\"CMD\", \"PROGRAM\", ..], [\"CMD-SHELL\", \"TEXT\"] or [\"NONE\"]]",
        ],
    );
    service(
        "healthcheck = { tcp = 80, interval = \"0s\" }",
        &["2:38 services.web.healthcheck.interval: must be more than 0 [as \"1s\"]"],
    );
    for (keys, wrong) in [
        ("success_threshold = 0", "2:47 services.web.healthcheck.success_threshold: "),
        ("stop_grace_period = 5", "2:47 services.web.healthcheck.stop_grace_period: "),
    ] {
        let said = said(&format!("healthcheck = {{ tcp = 80, {keys} }}"));
        assert!(matches!(said.as_slice(), [one] if one.starts_with(wrong)), "{said:?}");
    }
    service(
        "healthcheck.http.path = \"/\"",
        &[
            "2:13 services.web.healthcheck.http: port is missing [as http = 80, or { port = 80, path = \"/health\" }]",
        ],
    );
    service(
        "healthcheck.http = { port = 80, path = \"/a b\" }",
        &["2:40 services.web.healthcheck.http.path: not a path of HTTP [begins with /, no spaces]"],
    );
    service(
        "healthcheck.http = { port = 80, status = \"ok\" }",
        &["2:42 services.web.healthcheck.http.status: not a status of HTTP [as \"200-399\" or 204]"],
    );
}

#[test]
fn volumes_and_environment() {
    service(
        "volumes = [\"./gone:/data\"]",
        &[
            "2:12 services.web.volumes: gone does not exist [make it, or write { source, target, create = true }]",
        ],
    );
    service(
        "volumes = [\"/:/x:roo\"]",
        &["2:12 services.web.volumes: no such mount option: `roo` [did you mean \"ro\"?]"],
    );
    service(
        "volumes = [\"/:/\"]",
        &["2:12 services.web.volumes: a volume on / [that is what rootfs is for]"],
    );
    service(
        "volumes = [\"/:/x/../etc\"]",
        &["2:12 services.web.volumes: a path in the container has no `..` [write where it leads]"],
    );
    service(
        "volumes = [\"/:/a\", \"/etc:/a/\"]",
        &["2:20 services.web.volumes: two volumes on /a [the second would hide the first]"],
    );
    service(
        "volumes = [{ source = \"/\", target = \"/a\", typ = \"bind\" }]",
        &["2:43 services.web.volumes: unknown key `typ` [did you mean `type`?]"],
    );
    service("tmpfs = [\"/t:size=x\"]", &["2:10 services.web.tmpfs: `x` is not a size [as size=64M]"]);
    service(
        "environment = [\"=x\"]",
        &["2:16 services.web.environment: not a variable [write \"K=V\", or \"K\" for our own value]"],
    );
    service(
        "environment = [\"A=1\", \"A=2\"]",
        &["2:23 services.web.environment: A is set twice [drop one]"],
    );
    service(
        "environment.A = \"${NONE}\"",
        &[
            "2:18 services.web.environment.A: variable NONE is not set [set it in sampand's environment or write ${NONE:-text}]",
        ],
    );
    service(
        "environment.A = \"x${EMPTY:?say it}\"",
        &["2:19 services.web.environment.A: variable EMPTY is not set [say it]"],
    );
    service(
        "environment.A = \"${NAME\"",
        &[
            "2:18 services.web.environment.A: `${` without a `}` [close it, or write `$${` for the text itself]",
        ],
    );
    service(
        "environment.A = \"${a b}\"",
        &[
            "2:18 services.web.environment.A: no such form of a variable [`${V}`, `${V:-text}`, `${V:?message}`; `$$` is a `$`]",
        ],
    );
    service(
        "environment.A = \"a\\u0000b\"",
        &["2:17 services.web.environment.A: a NUL byte [no system call takes it]"],
    );
    service(
        "env_file = \"gone.env\"",
        &[
            "2:12 services.web.env_file: cannot read gone.env: no such file or directory [make it, or write { path, required = false }]",
        ],
    );
    service("env_file = [{ path = \"gone.env\", required = false }]", &[]);
}

#[test]
fn a_bad_line_of_an_env_file_is_named_and_not_shown() {
    let folder = Folder::new()
        .with("config.toml", "[services.web]\nrootfs = \"/\"\ncommand = \"a\"\nenv_file = \"web.env\"\n")
        .with("web.env", "A=1\nTOKEN secret\n");
    assert_eq!(
        lines(&folder, &["config.toml"]),
        ["4:12 services.web.env_file: web.env:2: no `=` [lines are K=V]"]
    );
}

#[test]
fn ports() {
    service(
        "ports = [\"80\"]",
        &["2:10 services.web.ports: the host's port is missing [write \"80:80\" to publish it as itself]"],
    );
    service(
        "ports = [\"0:80\"]",
        &[
            "2:10 services.web.ports: `0` is not a port [as \"8080:80\", \"127.0.0.1:8080:80\", \"53:53/udp\", \"8000-8010:80-90\"]",
        ],
    );
    service(
        "ports = [\"8000-8010:80\"]",
        &["2:10 services.web.ports: 11 ports of the host for 1 of the container [ranges are of one length]"],
    );
    service(
        "ports = [\"8010-8000:80-90\"]",
        &["2:10 services.web.ports: the range 8010-8000 ends before it begins [write 8000-8010]"],
    );
    service(
        "ports = [\"1-1001:1-1001\"]",
        &["2:10 services.web.ports: a range of 1001 ports [at most 1000: each is held by a socket]"],
    );
    service(
        "ports = [\"81:81\", \"80-82:80-82\"]",
        &["2:19 services.web.ports: 81/tcp of all addresses is published twice [choose another host port]"],
    );
    service("ports = [\"[2001:db8::1]:80:80\", \"127.0.0.1:80:80\"]", &[]);
    service(
        "ports = [\"[2001:db8::1]:80:80\", \"[::]:80:80\"]",
        &["2:33 services.web.ports: 80/tcp of all addresses is published twice [choose another host port]"],
    );
    service(
        "ports = [\"x:80:80\"]",
        &[
            "2:10 services.web.ports: `x` is not an address [as \"127.0.0.1:8080:80\", \"[2001:db8::1]:8080:80\"]",
        ],
    );
    service("ports = [\"80:80/icmp\"]", &["2:10 services.web.ports: no such protocol: `icmp` [tcp or udp]"]);
    service("ports = [\"127.0.0.1:80:80\", \"127.0.0.2:80:80\", \"80:80/udp\"]", &[]);
    service(
        "ports = [\"127.0.0.1:80:80\", \"0.0.0.0:80:80\"]",
        &["2:29 services.web.ports: 80/tcp of all addresses is published twice [choose another host port]"],
    );
    service(
        "network_mode = \"host\"\nports = [\"80:80\"]",
        &[
            "3:10 services.web.ports: nothing is published with network_mode = \"host\" [drop ports, or use \"bridge\"]",
        ],
    );
}

#[test]
fn networks() {
    check(
        "[services.a]\nrootfs = \"/\"\ncommand = \"a\"\nnetworks = [\"frnt\"]\n[networks.front]",
        &["4:13 services.a.networks: no such network: frnt [did you mean `front`?]"],
    );
    service(
        "networks = [\"default\", \"default\"]",
        &["2:24 services.web.networks: default is named twice [drop one]"],
    );
    service(
        "network_mode = \"service:x\"",
        &["2:16 services.web.network_mode: no such service [add [services.x]]"],
    );
    check(
        "[networks.a]\nsubnet = \"10.1.2.3/16\"",
        &["2:10 networks.a.subnet: an address, not a subnet [write \"10.1.0.0/16\"]"],
    );
    check(
        "[networks.a]\nsubnet = \"10.1.0.0/16\"\n[networks.b]\nsubnet = \"10.1.4.0/24\"",
        &["4:10 networks.b.subnet: overlaps with network a [choose another]"],
    );
    check(
        "[networks.a]\nallow_direct = true",
        &["2:1 networks.a.allow_direct: known, but not built in this version [leave it out]"],
    );
    check(
        "[networks.a]\nsubnet = \"10.1.0.0/24\"\ngateway = \"10.1.1.1\"\nip_range = \"10.2.0.0/25\"\nmtu = 60",
        &[
            "3:11 networks.a.gateway: no address of 10.1.0.0/24 [its first and its last are nobody's]",
            "4:12 networks.a.ip_range: no part of 10.1.0.0/24 [it is where addresses are taken from unasked]",
            "5:7 networks.a.mtu: 60 is out of range [0 for the default route's, or 68 to 65535; IPv6 needs 1280]",
        ],
    );
    check(
        "[networks.a]\ngateway = \"10.1.1.1\"",
        &["2:11 networks.a.gateway: without a subnet there is no gateway [write subnet, too]"],
    );
    let a = "[networks.a]\nsubnet = \"10.1.0.0/24\"\n[services.x]\nrootfs = \"/\"\ncommand = \"a\"\n[services.x.networks]\n";
    let said = |keys: &str| messages(&format!("{a}{keys}"));
    assert_eq!(
        said("a = { ipv4_address = \"10.1.0.1\" }\ndefault = { ipv4_address = \"10.144.0.9\", alias = 1 }"),
        [
            "7:1 services.x.networks: 10.1.0.1 is the gateway of network a [choose another]",
            "8:1 services.x.networks: network default has any free subnet, so 10.144.0.9 may not be in it [write networks.default.subnet]",
            "8:42 services.x.networks.default: unknown key `alias` [known: ipv4_address, ipv6_address, aliases]",
        ]
    );
    assert_eq!(
        said("a = { ipv4_address = \"10.1.1.7\", aliases = [\"a b\"] }"),
        [
            "7:1 services.x.networks: 10.1.1.7 is no address of 10.1.0.0/24 [choose one of the network's]",
            "7:45 services.x.networks.a.aliases: `a b` is no name of a host [letters, digits, _ and -, with dots between]",
        ]
    );
    let twice = "a = { ipv4_address = \"10.1.0.7\" }\n[services.y]\nrootfs = \"/\"\ncommand = \"a\"\nnetworks = [{ name = \"a\", ipv4_address = \"10.1.0.7\" }]";
    assert_eq!(
        said(twice),
        ["11:13 services.y.networks: 10.1.0.7 of network a is asked for twice [choose another]"]
    );
    service(
        "dns = [\"ns1\"]\nextra_hosts = [\"db\", \"d b:::1\", \"db:x\"]",
        &[
            "2:8 services.web.dns: `ns1` is not an address [as \"192.0.2.53\"]",
            "3:16 services.web.extra_hosts: the address is missing [as \"NAME:192.0.2.7\" or \"NAME:host-gateway\"]",
            "3:22 services.web.extra_hosts: `d b` is no name of a host [as \"NAME:192.0.2.7\" or \"NAME:host-gateway\"]",
            "3:33 services.web.extra_hosts: `x` is not an address [as \"NAME:192.0.2.7\" or \"NAME:host-gateway\"]",
        ],
    );
    check(
        "[networks.a]\ndriver = \"macvlan\"",
        &["2:10 networks.a.driver: known, but not built in this version [built: bridge]"],
    );
}

const TWO: &str = "\nrootfs = \"/\"\ncommand = [\"a\"]\n";

#[test]
fn dependencies() {
    service(
        "depends_on = [\"dbb\"]",
        &["2:15 services.web.depends_on.dbb: no such service [add [services.dbb]]"],
    );
    service(
        "depends_on = [\"web\"]",
        &["2:15 services: dependency cycle web -> web [waits for itself: drop it]"],
    );
    service(
        "depends_on.web.bind = true",
        &["2:12 services: dependency cycle web -> web [waits for itself: drop it]"],
    );
    check(
        &format!("[services.a]{TWO}depends_on.b = {{ required = false, bind = true }}\n[services.b]{TWO}"),
        &[
            "4:43 services.a.depends_on.b.bind: it cannot stop with what it goes on without [drop bind, or required = false]",
        ],
    );
    for key in ["required", "restart", "bind"] {
        check(
            &format!("[services.a]{TWO}depends_on.b.{key} = \"yes\"\n[services.b]{TWO}"),
            &[&format!(
                "4:{} services.a.depends_on.b.{key}: expected a boolean, found a string [write true]",
                17 + key.len()
            )],
        );
    }
    check(
        &format!("[services.a]{TWO}depends_on.b.condition = \"service_redy\"\n[services.b]{TWO}"),
        &[
            "4:26 services.a.depends_on.b.condition: no such condition [did you mean \"service_ready\"? Else: service_started, service_healthy, service_completed_successfully]",
        ],
    );
    check(
        &format!("[services.a]{TWO}depends_on.bb.required = false\n[services.b]{TWO}"),
        &["4:12 services.a.depends_on.bb: no such service; goes on without it [did you mean `b`?]"],
    );
    check(
        &format!(
            "[services.a]{TWO}depends_on.b.condition = \"service_completed_successfully\"\n[services.b]{TWO}"
        ),
        &[
            "4:26 services.a.depends_on.b: b never completes: its restart policy brings it back [write services.b.restart = \"on-failure\" or \"no\"]",
        ],
    );
}

#[test]
fn a_cycle_of_three_is_told_once_with_its_path() {
    let toml = format!(
        "[services.c]{TWO}depends_on = [\"a\"]\n[services.a]{TWO}depends_on = [\"b\", \"d\"]\n[services.b]{TWO}depends_on = [\"c\"]\n[services.d]{TWO}"
    );
    check(&toml, &["4:15 services: dependency cycle c -> a -> b -> c [c waits for a]"]);
}

#[test]
fn a_mistake_in_defaults_is_told_once_and_by_its_name() {
    check(
        &format!("[defaults]\nstop_grace_period = 5\n[services.a]{TWO}[services.\"b.c\"]{TWO}"),
        &["2:21 defaults.stop_grace_period: a duration needs a unit [write \"5s\"]"],
    );
    check(
        "[defaults]\nports = [\"80:80\"]",
        &["2:1 defaults: ports cannot be shared [write it in each service]"],
    );
}

#[test]
fn plugins() {
    check(
        "[plugins.x]\nevents = []",
        &["2:1 plugins.x: unknown key `events` [not a key: the plugin's manifest says which]"],
    );
    check(
        "[plugins.x]\ntimeout = \"2m\"",
        &["2:11 plugins.x.timeout: longer than hard_timeout [hard_timeout is the end of all extensions]"],
    );
    check(
        "[plugins.x]\nisolation = \"process\"",
        &["2:1 plugins.x.isolation: known, but not built in this version [leave it out]"],
    );
    check("[plugins.x]\ngrants = [\"devices\", \"hooks\"]", &[]);
    check(
        "[plugins.x]\ngrants = [\"device\"]",
        &[concat!(
            "2:11 plugins.x.grants: no such grant [did you mean \"devices\"? Else: seccomp, capabilities, namespaces, ",
            "hooks, sysctl, user]"
        )],
    );
    check("[plugins.x]\nconfig = 3", &["2:10 plugins.x.config: expected a table, found an integer"]);
}

#[test]
fn a_key_set_twice_in_one_tree_names_both_places() {
    let folder = Folder::new()
        .with("config.toml", "include = [\"more/*.toml\"]\n[services.web]\nrootfs = \"/\"\ncommand = \"a\"\n")
        .with("more/a.toml", "[services.web]\nuser = \"1\"\n")
        .with("more/b.toml", "[services.web]\nuser = \"2\"\n");
    insta::assert_snapshot!(folder.check(&["config.toml"]), @r#"
    error: services.web.user: set twice
     --> more/b.toml:2:1
      |
    2 | user = "2"
      | ^^^^ and here: drop one, or use a second --config
      |
     ::: more/a.toml:2:1
      |
    2 | user = "1"
      | ---- first set here
    config.toml: 1 error, nothing changed
    "#);
}

#[test]
fn includes_end() {
    let folder = Folder::new().with("config.toml", "include = [\"config.toml\"]\n");
    assert_eq!(lines(&folder, &["config.toml"]), ["1:12 include: config.toml includes itself [drop it]"]);
    let mut deep = Folder::new();
    for n in 0..10 {
        deep = deep.with(&format!("{n}.toml"), &format!("include = [\"{}.toml\"]\n", n + 1));
    }
    let deep = deep.with("10.toml", "");
    assert_eq!(lines(&deep, &["0.toml"]), ["1:12 include: more than 8 levels [include it from further up]"]);
}

#[test]
fn as_json() {
    let folder = Folder::new()
        .with("c.toml", "[services.web]\nrootfs = \"/\"\ncommand = \"a\"\nrestart = \"allways\"\n");
    let paths = vec![folder.path("c.toml")];
    let (text, code) = sampan_config::report(&paths, &folder.load(&["c.toml"]), false, true);
    assert_eq!(code, 2);
    insta::assert_snapshot!(text.replace(&format!("{}/", folder.0.display()), ""), @r#"
    [
      {
        "column": 11,
        "file": "c.toml",
        "hint": "did you mean \"always\"? Else: no, on-failure[:N], unless-stopped",
        "key": "services.web.restart",
        "line": 4,
        "message": "no such policy",
        "severity": "error"
      }
    ]
    "#);
}

/// What sampand says to do must help whoever does it.
#[test]
fn hints_do_not_mislead() {
    let said =
        |text: &str| messages(&format!("[services.a]\nrootfs = \"/\"\ncommand = \"x\"\n{text}")).join("\n");
    let endless = said("stop_grace_period = \"infinity\"");
    assert!(!endless.contains("infinitys") && endless.contains("as \"1m30s\""), "{endless}");
    assert!(!said("healthcheck.retries = \"nan\"").contains("write nan"));
    assert!(
        said("ports = [8080]").contains("[write \"8080:8080\" to publish it as itself]"),
        "{}",
        said("ports = [8080]")
    );
    assert_eq!(said("ports = [\"8080:8080\"]"), "", "and that is taken");
}

#[test]
fn attempts_of_a_policy() {
    let attempts = |text: &str| {
        let folder =
            Folder::new().with("c.toml", &format!("[services.a]\nrootfs = \"/\"\ncommand = \"x\"\n{text}\n"));
        folder.config(&["c.toml"]).services["a"].restart.max_attempts
    };
    assert_eq!(attempts("restart = \"on-failure:3\""), 3);
    assert_eq!(attempts("restart = { policy = \"on-failure:3\" }"), 3);
    assert_eq!(attempts("restart.policy = \"on-failure:3\"\nrestart.delay = \"1s\""), 3);
    assert_eq!(attempts("restart = { policy = \"on-failure\" }"), 0);
    let said =
        |text: &str| messages(&format!("[services.a]\nrootfs = \"/\"\ncommand = \"x\"\n{text}")).join("\n");
    let twice = said("restart = { policy = \"on-failure:3\", max_attempts = 4 }");
    assert!(twice.contains("services.a.restart.max_attempts: is set twice"), "{twice}");
    assert!(said("restart.policy = \"on-failure:x\"").contains("not a number of attempts"));
}

#[test]
fn a_socket_has_a_path_that_fits() {
    let long = format!("/run/{}", "x".repeat(120));
    for (text, place) in [
        (format!("[supervisor]\nsocket = \"{long}\""), "2:10 supervisor.socket"),
        (format!("[supervisor]\nrun_dir = \"{long}\""), "2:11 supervisor.run_dir"),
    ] {
        let said = messages(&text).join("\n");
        assert!(said.starts_with(place) && said.contains("107 at most"), "{said}");
    }
    let fits = format!("[supervisor]\nrun_dir = \"{long}\"\nsocket = \"/run/s\"");
    assert_eq!(messages(&fits), Vec::<String>::new());
}

#[test]
fn steps() {
    service(
        "lifecycle.pre_start = [{ command = \"a b\" }]\non.exit = [{ command = [\"x\"], user = \"1:2\", timeout = \"1s\" }]",
        &[],
    );
    service(
        "lifecycle.pre_start = [{ command = [\"a\"], in = \"container\" }]",
        &[
            "2:48 services.web.lifecycle.pre_start.in: there is no container before its start [write \"host\", or leave it out]",
        ],
    );
    service(
        "on.failure = [\"page\"]",
        &["2:15 services.web.on.failure: expected a table: { command, in, user, timeout }, found a string"],
    );
    service(
        "on.health = [{}]",
        &["2:14 services.web.on.health: command is missing [add command = [\"PROGRAM\", \"ARGUMENT\"]]"],
    );
    service(
        "lifecycle.pre_stop = [{ command = [\"a\"], user = \"web\", time = 3, in = \"guest\" }]",
        &[
            "2:49 services.web.lifecycle.pre_stop.user: the user of a step is two numbers [as \"1000:1000\"]",
            "2:56 services.web.lifecycle.pre_stop: unknown key `time` [known: command, in, user, timeout]",
            "2:71 services.web.lifecycle.pre_stop.in: no such place [one of container, host]",
        ],
    );
    service(
        "lifecycle.prestart = []",
        &["2:11 services.web.lifecycle: unknown key `prestart` [did you mean `pre_start`?]"],
    );
}
