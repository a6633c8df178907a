//! The clocks: one that never goes back for everything that is decided, real time for what people read.
use std::time::{Duration, SystemTime};

/// Nanoseconds of CLOCK_MONOTONIC: the same clock the plugins' deadlines use, and tokio's timers.
pub fn monotonic() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(t.tv_sec.unsigned_abs(), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// Milliseconds since the host's boot, sleep included: what the service machine counts in, and what a later worker still
/// understands, in whichever time namespace.
pub fn boottime() -> sampan_service::Ms {
    let ms = sampan_runtime::kernel::time::since_boot() / 1_000_000;
    sampan_service::Ms(u64::try_from(ms).unwrap_or(0))
}

/// For one step of a machine.
pub fn now() -> sampan_service::Now {
    sampan_service::Now::new(boottime(), jitter_share())
}

/// The part of the jitter to apply. It need not be secret, only different from one start to the next.
fn jitter_share() -> u32 {
    let mut bytes = [0; 4];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}

/// A time to come, as people say it in the host's time zone: `03:00`, `Sun 03:00`, `2027-01-01 03:00`.
pub fn local(at: jiff::Timestamp) -> String {
    as_said(jiff::Timestamp::now(), at, &jiff::tz::TimeZone::system())
}

fn as_said(now: jiff::Timestamp, at: jiff::Timestamp, zone: &jiff::tz::TimeZone) -> String {
    let (hours, there) = ((at.as_second() - now.as_second()) / 3600, zone.to_datetime(at));
    let seconds = if there.second() == 0 { "" } else { ":%S" };
    let day = match hours {
        ..24 => "",
        24..168 => "%a ",
        168.. => "%F ",
    };
    there.strftime(&format!("{day}%H:%M{seconds}")).to_string()
}

/// Now as RFC 3339 in UTC with milliseconds.
pub fn rfc3339_now() -> String {
    rfc3339(SystemTime::now())
}

/// `time` as RFC 3339 in UTC with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    format!("{:.3}", jiff::Timestamp::try_from(time).unwrap_or_default())
}

/// Reads what [`rfc3339`] wrote.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn dates_agree_with_date_1() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_564_800, "2026-11-25T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc3339(time), text);
            assert_eq!(parse_rfc3339(text), Some(time));
        }
        // Not rounded: nothing is told as later than it was.
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_nanos(999_999_999)), "1970-01-01T00:00:00.999Z");
    }

    #[test]
    fn a_time_to_come_is_said_as_short_as_it_is_clear() {
        let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        for (at, said) in [
            ("2026-12-01T01:00:00Z", "03:00"),
            ("2026-11-30T22:00:05Z", "00:00:05"),
            ("2026-12-05T22:30:00Z", "Sun 00:30"),
            ("2027-01-01T01:00:00Z", "2027-01-01 03:00"),
        ] {
            assert_eq!(as_said(time("2026-11-30T21:59:00Z"), time(at), &zone), said);
        }
    }
}
