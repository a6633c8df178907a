//! What a service says of itself: `notify`, `watchdog`, `healthcheck.notify`; and `reload`, which asks it to.

use std::time::Duration;

use super::service::{command, signal};
use super::sockets::{self, SOCKETS_MAX};
use super::{Field, Fields};
use crate::schema::{ByWatchdog, Healthcheck, Notify, Probe, Reload, SaysOn, Service};

/// One that is shorter would be missed by a busy machine, not by a service that hangs.
const WATCHDOG_MIN: Duration = Duration::from_millis(100);
/// Of those that a service is given.
const FIRST: u32 = 3;
/// After all the sockets that it may have.
const FDS: std::ops::RangeInclusive<i64> = FIRST as i64..=FIRST as i64 + SOCKETS_MAX as i64;
/// A launch has room for so many beside its sockets.
pub const FD_STORE: std::ops::RangeInclusive<i64> = 0..=Service::FD_STORE_MAX as i64;
const WORDS: &[(&str, Notify)] =
    &[("none", Notify::None), ("ready", Notify::Ready), ("healthy", Notify::Healthy)];

/// Of a service with a health check, or without.
pub fn notify(f: &Field<'_>, has_healthcheck: bool, service: &str) -> Option<Notify> {
    if f.node.table().is_some() {
        let t = f.fields();
        t.only(&["fd"], &[]);
        let Some(fd) = t.get("fd") else {
            t.missing("fd", "as notify = { fd = 3 }");
            return None;
        };
        return Some(Notify::Fd(fd.integer(FDS)? as u32));
    }
    let notify = f.word("readiness", WORDS, &[])?;
    if notify == Notify::Healthy && !has_healthcheck {
        f.wrong("there is no healthcheck", format!("add [{service}.healthcheck] or drop notify"));
        return None;
    }
    Some(notify)
}

/// What else the service has to do with its `notify = { fd }`.
pub fn beside(t: &Fields<'_>, service: &Service) {
    let Notify::Fd(fd) = service.notify else { return };
    let Some(f) = t.get("notify") else { return };
    let f = f.fields().get("fd").unwrap_or(f);
    let (sockets, next) = (service.sockets.len() as u32, FIRST + service.sockets.len() as u32);
    if fd < next {
        let all = if sockets == 1 { "3 is".to_owned() } else { format!("3 to {} are", next - 1) };
        f.wrong(format!("{fd} is one of its sockets ({all})"), format!("write fd = {next}"));
    } else if fd > next {
        f.wrong(
            format!("{fd} would leave a gap: the next descriptor is {next}"),
            format!("write fd = {next}"),
        );
    }
    if !service.watchdog.is_zero() {
        let hint = "who says WATCHDOG=1 on NOTIFY_SOCKET can say READY=1 there: write notify = \"ready\", or drop one";
        f.wrong("beside watchdog", hint);
    }
}

/// Who has descriptors kept says so on NOTIFY_SOCKET, and is told by LISTEN_PID that they are its own.
pub fn fd_store(t: &Fields<'_>, service: &Service) {
    let Some(f) = t.get("fd_store_max").filter(|_| service.fd_store_max > 0) else { return };
    if service.says_on() != Some(SaysOn::Socket) {
        f.wrong("it has no NOTIFY_SOCKET", "add notify = \"ready\" or a watchdog, or drop fd_store_max");
    } else {
        sockets::has_a_known_number(&f, &service.namespaces);
    }
}

pub fn watchdog(f: &Field<'_>) -> Option<Duration> {
    let watchdog = f.duration()?;
    if !watchdog.is_zero() && watchdog < WATCHDOG_MIN {
        f.wrong("too short", "100ms or more; 0s: none");
        return None;
    }
    Some(watchdog)
}

pub fn by_watchdog(f: &Field<'_>) -> Option<ByWatchdog> {
    if f.boolean()? {
        return Some(ByWatchdog);
    }
    f.wrong("can be true alone", "leave it out");
    None
}

/// A health that nothing could tell.
pub fn have_watchdog(t: &Fields<'_>, check: Option<&Healthcheck>, watchdog: Duration) {
    let by_watchdog = check.is_some_and(|check| matches!(check.probe, Probe::Notify(_)));
    let check = Fields::new(t.cx, t.get("healthcheck").map(|f| f.node), format!("{}.healthcheck", t.path));
    if let Some(f) = check.get("notify").filter(|_| by_watchdog && watchdog.is_zero()) {
        f.wrong("there is no watchdog", format!("add {}.watchdog = \"30s\"", t.path));
    }
}

pub fn reload(f: &Field<'_>) -> Option<Reload> {
    if f.node.table().is_none() {
        return f.expected("a table: { signal } or { command }");
    }
    let t = f.fields();
    t.only(&["signal", "command"], &[]);
    match (t.get("signal"), t.get("command")) {
        (Some(f), None) => signal(&f).map(Reload::Signal),
        (None, Some(f)) => command(&f).map(Reload::Command),
        (Some(_), Some(f)) => {
            f.wrong("beside signal", "drop one");
            None
        }
        (None, None) => {
            t.missing("signal", "as reload = { signal = \"SIGHUP\" }, or { command = [\"PROGRAM\"] }");
            None
        }
    }
}
