//! The clocks: one that never goes back for everything that is decided, real time for what people read.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// Reads what [`rfc3339`] wrote.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // The same calculation as `civil`, the other way round.
    let year = year.checked_sub(u64::from(month <= 2))?;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day.checked_sub(1)?;
    let year_of_era = year % 400;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (year / 400 * 146_097 + day_of_era).checked_sub(719_468)?;
    let second = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400 + second) + Duration::from_millis(number(20..23)?))
}

/// Year, month, day of a number of days since 1970-01-01 (Howard Hinnant's days_from_civil, inverted; years >= 1970).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

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
