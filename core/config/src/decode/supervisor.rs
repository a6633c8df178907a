//! `[supervisor]`.

use std::time::Duration;

use super::{Field, Fields};
use crate::inputs::Builtin;
use crate::schema::{LogFormat, LogLevel, OnExit, RestartStorm, Supervisor};

/// `sun_path` less its NUL (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

pub fn supervisor(t: &Fields<'_>, builtin: &Builtin) -> Supervisor {
    let run_dir = t.or("run_dir", Field::host_path, builtin.run_dir.clone());
    let socket = t.or("socket", Field::host_path, run_dir.join("sampand.sock"));
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_BYTES_MAX
        && let Some(f) = t.get("socket").or(t.get("run_dir"))
    {
        let wrong =
            format!("{} has {bytes} bytes, a socket's path {SOCKET_BYTES_MAX} at most", socket.display());
        f.wrong(wrong, "name a shorter one: socket = \"..\"");
    }
    let storm = t.table("restart_storm", "a table");
    Supervisor {
        socket,
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
        log_level: t.or("log_level", |f| f.word("level", LEVELS, &[]), LogLevel::Info),
        log_format: t.or(
            "log_format",
            |f| f.word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)], &[]),
            LogFormat::Text,
        ),
        cgroup_parent: t.or("cgroup_parent", cgroup_parent, None),
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
