//! Nanoseconds since 1970 as RFC 3339 text, always 30 bytes, always UTC: sorted as text is sorted by time.
use std::time::{SystemTime, UNIX_EPOCH};

pub const TEXT_BYTES: usize = 30;

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// `2026-11-25T01:36:53.123456789Z`
pub fn text(ns: u64) -> [u8; TEXT_BYTES] {
    let (seconds, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (year, month, day) = date(seconds / 86_400);
    let mut out = *b"0000-00-00T00:00:00.000000000Z";
    let fields = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, seconds / 3600 % 24),
        (14, 2, seconds / 60 % 60),
        (17, 2, seconds % 60),
        (20, 9, ns),
    ];
    for (at, width, mut value) in fields {
        for digit in out[at..at + width].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    out
}

/// Of `text`'s form; a fraction of 0 to 9 digits.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let bytes = whole.as_bytes();
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.len() != 19 || punctuation.iter().any(|(at, byte)| bytes[*at] != *byte) || fraction.len() > 9 {
        return None;
    }
    let number = |from: usize, to: usize| whole.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds =
        days(year, month, day) * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let ns = format!("{fraction:0<9}").parse::<u64>().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(ns)
}

/// Days since 1970 to a date. Years begin in March, so that the leap day is the last of its year (Hinnant, "chrono-compatible
/// low-level date algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year) = (year / 400, year % 400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_era = year * 365 + year / 4 - year / 100 + (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + day_of_era - 719_468
}
