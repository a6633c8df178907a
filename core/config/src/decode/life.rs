//! `restart` and `healthcheck`.

use std::time::Duration;

use super::service::{command, signal};
use super::{Field, Fields, Value, choose, ready};
use crate::diagnostic::Diagnostic;
use crate::schema::{ExitStatus, Healthcheck, HttpProbe, OnUnhealthy, Policy, Probe, Restart, TestCommand};

const POLICIES: [(&str, Policy); 4] = [
    ("no", Policy::No),
    ("on-failure", Policy::OnFailure),
    ("always", Policy::Always),
    ("unless-stopped", Policy::UnlessStopped),
];

pub fn restart(t: &Fields<'_>) -> Restart {
    let restart = Restart {
        policy: t.or("policy", |f| policy(f, &t.path), Policy::UnlessStopped),
        delay: t.or("delay", Field::duration, Duration::from_millis(100)),
        multiplier: t.or("multiplier", |f| f.float(1.0..=100.0), 2.0),
        max_delay: t.or("max_delay", Field::duration, Duration::from_secs(60)),
        jitter: t.or("jitter", |f| f.float(0.0..=1.0), 0.25),
        reset_after: t.or("reset_after", Field::duration, Duration::from_secs(10)),
        max_attempts: t.or("max_attempts", Field::count, 0),
        success_exit_status: t.or("success_exit_status", exits, vec![ExitStatus::Code(0)]),
        prevent_exit_status: t.or("prevent_exit_status", exits, Vec::new()),
        force_exit_status: t.or("force_exit_status", exits, Vec::new()),
    };
    if let Some(f) = t.get("delay").filter(|_| restart.delay > restart.max_delay) {
        f.wrong("longer than max_delay", "raise restart.max_delay too");
    }
    for f in t.get("prevent_exit_status").and_then(|f| f.items()).unwrap_or_default() {
        if let Some(both) = exit(&f).filter(|status| restart.force_exit_status.contains(status)) {
            f.wrong(format!("{both} is in force_exit_status too"), "drop one");
        }
    }
    restart
}

fn exits(f: &Field<'_>) -> Option<Vec<ExitStatus>> {
    f.list(exit)
}

fn exit(f: &Field<'_>) -> Option<ExitStatus> {
    if let Value::Integer(_) = f.node.value {
        return Some(ExitStatus::Code(f.integer(0..=255)? as u8));
    }
    if f.text()?.bytes().all(|byte| byte.is_ascii_digit()) {
        f.wrong("neither an exit status nor a signal's name", "as 15, or \"SIGTERM\"");
        return None;
    }
    signal(f).map(ExitStatus::Signal)
}

/// Named `services.X.restart`, however it was written.
fn policy(f: &Field<'_>, path: &str) -> Option<Policy> {
    let f = Field { path: path.to_string(), ..f.clone() };
    let text = f.text()?;
    if let Some((_, policy)) = POLICIES.iter().find(|(word, _)| *word == text) {
        return Some(*policy);
    }
    if let Some(n) = text.strip_prefix("on-failure:") {
        f.wrong(format!("`{n}` is not a number of attempts"), "as \"on-failure:3\"");
        return None;
    }
    f.wrong(
        "no such policy",
        choose(&text, ["no", "on-failure[:N]", "always", "unless-stopped"].into_iter()),
    );
    None
}

/// How a service can be found well.
const PROBES: [&str; 5] = ["test", "http", "tcp", "unix", "notify"];

/// Whether there is meant to be one, even if it is wrong.
pub fn says_healthcheck(t: &Fields<'_>) -> bool {
    let t = Fields::new(t.cx, t.get("healthcheck").map(|f| f.node), "");
    let off = t.get("test").is_some_and(|f| match &f.node.value {
        Value::Text(text) => text == "none",
        Value::Array(items) => items.first().and_then(|i| i.text()) == Some("NONE"),
        _ => false,
    });
    !off && PROBES.iter().any(|name| t.get(name).is_some())
}

pub fn healthcheck(t: &Fields<'_>) -> Option<Healthcheck> {
    let said = t.get("healthcheck");
    let t = t.table("healthcheck", "a table");
    let probe = probe(&t);
    if probe.is_none()
        && let Some(f) =
            said.filter(|f| f.node.table().is_some() && !PROBES.iter().any(|n| t.get(n).is_some()))
        && !f.node.inherited
    {
        f.cx.errors.borrow_mut().push(Diagnostic::error(
            &f.path,
            &f.node.key,
            "nothing to test",
            "add test, http, tcp, unix or notify",
        ));
    }
    let check = Healthcheck {
        interval: t.or("interval", Field::period, Duration::from_secs(30)),
        timeout: t.or("timeout", Field::period, Duration::from_secs(5)),
        retries: t.or("retries", |f| f.integer(1..=1000), 3) as u32,
        start_period: t.or("start_period", Field::duration, Duration::from_secs(30)),
        start_interval: t.or("start_interval", Field::period, Duration::from_secs(1)),
        success_threshold: t.or("success_threshold", |f| f.integer(1..=1000), 1) as u32,
        stop_grace_period: t.or("stop_grace_period", |f| f.duration().map(Some), None),
        on_failure: t.or("on_failure", |f| f.word("answer", ON_FAILURE, &[]), OnUnhealthy::Restart),
        probe: probe.clone().unwrap_or(Probe::Tcp(0)),
    };
    probe.map(|_| check)
}

const ON_FAILURE: &[(&str, OnUnhealthy)] = &[
    ("restart", OnUnhealthy::Restart),
    ("kill", OnUnhealthy::Kill),
    ("stop", OnUnhealthy::Stop),
    ("none", OnUnhealthy::None),
];

fn probe(t: &Fields<'_>) -> Option<Probe> {
    let said: Vec<Field<'_>> = PROBES.iter().filter_map(|name| t.get(name)).collect();
    if let [first, second, ..] = said.as_slice() {
        let error = Diagnostic::error(&t.path, &second.node.key, "two kinds of test", "drop one");
        t.cx.errors.borrow_mut().push(error.also(&first.node.key, "the other"));
    }
    if let Some(f) = t.get("test") {
        return test(&f).map(Probe::Test);
    }
    if let Some(f) = t.get("http") {
        let http = t.table("http", "a port or a table");
        let Some(port) = http.get("port") else {
            if f.node.table().is_some() {
                http.missing("port", "as http = 80, or { port = 80, path = \"/health\" }");
            }
            return None;
        };
        return Some(Probe::Http(HttpProbe {
            port: port.port()?,
            path: http.or("path", url_path, "/".into()),
            status: http.or("status", status, (200, 399)),
            host: http.or("host", host, "localhost".into()),
        }));
    }
    if let Some(f) = t.get("unix") {
        return f.inside_path().map(|path| Probe::Unix(path.into()));
    }
    if let Some(f) = t.get("notify") {
        return ready::by_watchdog(&f).map(Probe::Notify);
    }
    t.get("tcp").and_then(|f| f.port()).map(Probe::Tcp)
}

fn test(f: &Field<'_>) -> Option<TestCommand> {
    if let Value::Text(_) = f.node.value {
        let text = f.nonempty()?;
        return (text != "none").then_some(TestCommand::Shell(text));
    }
    let argv = f.list(Field::text)?;
    match argv.split_first() {
        Some((first, [])) if first == "NONE" => None,
        Some((first, [_, ..])) if first == "CMD" => {
            let field = Field { path: f.path.clone(), ..f.clone() };
            command(&field).map(|argv| TestCommand::Argv(argv[1..].to_vec()))
        }
        Some((first, [text])) if first == "CMD-SHELL" => Some(TestCommand::Shell(text.clone())),
        _ => {
            f.wrong("not a test", "as [\"CMD\", \"PROGRAM\", ..], [\"CMD-SHELL\", \"TEXT\"] or [\"NONE\"]");
            None
        }
    }
}

/// It becomes a request line: no spaces, no control characters.
fn url_path(f: &Field<'_>) -> Option<String> {
    let path = f.nonempty()?;
    if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
        f.wrong("not a path of HTTP", "begins with /, no spaces");
        return None;
    }
    Some(path)
}

fn host(f: &Field<'_>) -> Option<String> {
    let host = f.nonempty()?;
    if !host.bytes().all(|b| b.is_ascii_graphic()) {
        f.wrong("not a host's name", "as \"localhost\"");
        return None;
    }
    Some(host)
}

fn status(f: &Field<'_>) -> Option<(u16, u16)> {
    let text = match &f.node.value {
        Value::Integer(n) => n.to_string(),
        _ => f.text()?,
    };
    let (low, high) = text.split_once('-').unwrap_or((&text, &text));
    match (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
        (Ok(low), Ok(high)) if low <= high && (100..600).contains(&low) && high < 600 => Some((low, high)),
        _ => {
            f.wrong("not a status of HTTP", "as \"200-399\" or 204");
            None
        }
    }
}
