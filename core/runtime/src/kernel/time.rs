//! Wall-clock time as RFC 3339 text in UTC, for `created` in the state and `time` in the log.
//! Clients decode it into their own time types, and a bad one makes them drop the whole message (containerd), so the
//! form is fixed here: `2026-11-24T22:13:22Z`, with nine digits of nanoseconds where asked for.
//!
//! And the time since boot as the host has it. In a time namespace CLOCK_BOOTTIME and the start times of /proc are shifted, and
//! what is written down is read by whoever comes next, in whichever namespace.

use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;

use super::lookup::first_page;

const NANOSECONDS: i64 = 1_000_000_000;

/// Nanoseconds since the host's boot, sleep included.
pub fn since_boot() -> i64 {
    let t = clock_gettime(ClockId::Boottime);
    t.tv_sec.saturating_mul(NANOSECONDS).saturating_add(t.tv_nsec).saturating_sub(ahead())
}

/// So many nanoseconds is the time since boot ahead of the host's in this process's time namespace.
pub fn ahead() -> i64 {
    static AHEAD: OnceLock<i64> = OnceLock::new();
    *AHEAD.get_or_init(|| {
        // None: a kernel without time namespaces.
        let offsets = first_page("/proc/self/timens_offsets").unwrap_or_default();
        boottime(&offsets).unwrap_or(0)
    })
}

/// Of time_namespaces(7)'s file: a line per clock, its name or number, seconds, nanoseconds.
fn boottime(offsets: &str) -> Option<i64> {
    let mut lines = offsets.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words.first().is_some_and(|clock| ["boottime", "7"].contains(clock)))?;
    let number = |at: usize| line.get(at)?.parse::<i64>().ok();
    number(1)?.checked_mul(NANOSECONDS)?.checked_add(number(2)?)
}

/// Now, to the nanosecond, as Go's RFC3339Nano (without its dropping of trailing zeros).
pub fn now_nano() -> String {
    let t = clock_gettime(ClockId::Realtime);
    let mut text = seconds(t.tv_sec);
    text.truncate(text.len() - 1);
    text + &format!(".{:09}Z", t.tv_nsec)
}

/// Now, to the second.
pub fn now() -> String {
    seconds(clock_gettime(ClockId::Realtime).tv_sec)
}

/// Seconds since 1970 as `YYYY-MM-DDTHH:MM:SSZ`.
pub fn seconds(unix: i64) -> String {
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// Days since 1970-01-01 to a Gregorian date: eras of 400 years that begin on 1 March, so that the leap day is last.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{boottime, seconds};

    #[test]
    fn offsets_are_read_as_the_kernel_writes_them() {
        let text = "monotonic         500         0\nboottime    -1000000       250\n";
        assert_eq!(boottime(text), Some(-1_000_000_000_000_000 + 250));
        assert_eq!(boottime(""), None);
    }

    #[test]
    fn seconds_become_dates() {
        assert_eq!(seconds(0), "1970-01-01T00:00:00Z");
        assert_eq!(seconds(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(seconds(1_795_558_402), "2026-11-24T22:13:22Z");
        assert_eq!(seconds(4_107_542_399), "2100-02-28T23:59:59Z");
    }
}
