//! `[supervisor]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::{Field, Fields};
use crate::inputs::Builtin;
use crate::schema::{Group, LogFormat, LogLevel, MetricsAt, OnExit, RestartStorm, Supervisor};

/// `sun_path` less its NUL (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

pub fn supervisor(t: &Fields<'_>, builtin: &Builtin) -> Supervisor {
    let run_dir = t.or("run_dir", Field::host_path, builtin.run_dir.clone());
    let socket = t.or("socket", Field::host_path, run_dir.join("sampand.sock"));
    if let Some(f) = t.get("socket").or(t.get("run_dir")) {
        check_length(&f, &socket, "name a shorter one: socket = \"..\"");
    }
    let storm = t.table("restart_storm", "a table");
    Supervisor {
        socket,
        admin_group: t.or("admin_group", group, None),
        read_group: t.or("read_group", group, None),
        state_dir: t.or("state_dir", Field::host_path, builtin.state_dir.clone()),
        plugin_dir: t.or("plugin_dir", Field::host_path, builtin.plugin_dir.clone()),
        run_dir,
        on_exit: t.or(
            "on_exit",
            |f| f.word("answer", &[("stop", OnExit::Stop), ("keep", OnExit::Keep)], &[]),
            OnExit::Stop,
        ),
        shutdown_timeout: t.or("shutdown_timeout", Field::duration, Duration::from_secs(90)),
        max_parallel_starts: t.or("max_parallel_starts", Field::count, 0),
        restart_storm: RestartStorm {
            burst: storm.or("burst", Field::count, 200),
            interval: storm.or("interval", Field::period, Duration::from_secs(10)),
        },
        metrics: t.or("metrics", metrics, None),
        log_level: t.or("log_level", |f| f.word("level", LEVELS, &[]), LogLevel::Info),
        log_format: t.or(
            "log_format",
            |f| f.word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)], &[]),
            LogFormat::Text,
        ),
        cgroup_parent: t.or("cgroup_parent", cgroup_parent, None),
    }
}

fn check_length(f: &Field<'_>, socket: &Path, hint: &str) {
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        let wrong =
            format!("{} has {bytes} bytes, a socket's path {SOCKET_BYTES_MAX} at most", socket.display());
        f.wrong(wrong, hint);
    }
}

/// What the kernel shows of a group that has no number here, as of a caller in another user namespace.
const NOBODY: u32 = 65534;
const GROUPS: &str = "/etc/group";

/// A name is looked up once, when the config is read.
fn group(f: &Field<'_>) -> Option<Option<Group>> {
    let name = f.nonempty()?;
    if name == "none" {
        return Some(None);
    }
    let gid = match name.parse() {
        Ok(gid) => gid,
        Err(_) => named(f, &name)?,
    };
    // The last one is no group: it stands for "leave it" (chown(2)).
    if gid == NOBODY || gid == u32::MAX {
        f.wrong(format!("group {name} is nobody's: strangers may have it"), "name a group made for this");
        return None;
    }
    Some(Some(Group { name, gid }))
}

/// `NAME:password:GID:members`, a line each (group(5)).
fn named(f: &Field<'_>, name: &str) -> Option<u32> {
    let text = f.text_file(Path::new(GROUPS), "write the group's number")?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1).and_then(|gid| gid.parse().ok()))
    });
    match found.flatten() {
        Some(gid) => Some(gid),
        None => {
            f.wrong(
                format!("no group {name} in {GROUPS}"),
                "`groupadd` makes one; of others write the number",
            );
            None
        }
    }
}

/// What has a slash is a path.
fn metrics(f: &Field<'_>) -> Option<Option<MetricsAt>> {
    let text = f.nonempty()?;
    if text == "none" {
        return Some(None);
    }
    if text.contains('/') {
        let path = f.host_path_of(&text)?;
        check_length(f, &path, "name a shorter one");
        return Some(Some(MetricsAt::Socket(path)));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", &text));
    let address = match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "localhost" => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok(),
    };
    match (address, port.parse()) {
        (Some(address), Ok(port)) if port != 0 => {
            Some(Some(MetricsAt::Address(SocketAddr::new(address, port))))
        }
        _ => {
            let wrong = format!("{text:?} is no HOST:PORT with an address for HOST, nor a path");
            f.wrong(wrong, "write \":9464\" for 127.0.0.1 alone, \"0.0.0.0:9464\", \"[::1]:9464\", or a path with a slash");
            None
        }
    }
}

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

fn cgroup_parent(f: &Field<'_>) -> Option<Option<String>> {
    let text = f.nonempty()?;
    match text.as_str() {
        "auto" => Some(None),
        _ => f.inside_path_of(&text).map(Some),
    }
}
