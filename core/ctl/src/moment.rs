//! Points in time as people type them: a time in UTC, or how long ago. Kept as sampand writes times, so that text is compared with text.
use std::time::{SystemTime, UNIX_EPOCH};

/// RFC 3339 in UTC to the millisecond; what sampand writes may go on after that.
const CHARS: usize = "2026-12-01T08:00:00.000".len();

/// Where events begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    Number(u64),
    Time(String),
}

impl Since {
    pub fn parse(text: &str) -> Result<Since, String> {
        match text.parse() {
            Ok(number) => Ok(Since::Number(number)),
            Err(_) => ago(text).map(Since::Time),
        }
    }
}

/// As RFC 3339 in UTC with milliseconds.
pub fn ago(text: &str) -> Result<String, String> {
    let text = text.trim();
    let time = match humantime::parse_duration(text) {
        // Before 1970 there are no lines, and no text of such a time.
        Ok(before) => Some(SystemTime::now().checked_sub(before).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH)),
        // A day is its beginning.
        Err(_) => humantime::parse_rfc3339_weak(text)
            .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text}T00:00:00")))
            .ok(),
    };
    let wrong = || format!("neither a time like 2026-12-01T08:00:00Z nor how long ago, like 10m: {text:?}");
    Ok(humantime::format_rfc3339_millis(time.ok_or_else(wrong)?).to_string())
}

/// To the millisecond.
pub fn is_before(one: &str, other: &str) -> bool {
    one.get(..CHARS) < other.get(..CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_or_counted_back() {
        for (text, time) in [
            ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00.000Z"),
            ("2026-12-01 08:00:00", "2026-12-01T08:00:00.000Z"),
            ("2026-12-01", "2026-12-01T00:00:00.000Z"),
            ("2026-12-01T08:00:00.25Z", "2026-12-01T08:00:00.250Z"),
        ] {
            assert_eq!(ago(text).as_deref(), Ok(time), "{text}");
        }
        let (hour, minute) = (ago("1h").unwrap(), ago("1m 30s").unwrap());
        assert!(is_before(&hour, &minute) && !is_before(&minute, &hour));
        for wrong in ["", "yesterday", "10", "2026-13-01", "99999999999999y"] {
            assert!(ago(wrong).is_err(), "{wrong:?}");
        }
        for long in ["100y", "57y", "10000y"] {
            assert_eq!(ago(long).as_deref(), Ok("1970-01-01T00:00:00.000Z"), "{long}");
        }
        assert_eq!(Since::parse("12"), Ok(Since::Number(12)));
        assert!(matches!(Since::parse("12m"), Ok(Since::Time(_))));
    }

    #[test]
    fn what_comes_after_the_millisecond_does_not_count() {
        assert!(!is_before("2026-12-01T08:00:00.250Z", "2026-12-01T08:00:00.250111Z"));
        assert!(!is_before("2026-12-01T08:00:00.250111Z", "2026-12-01T08:00:00.250Z"));
        assert!(is_before("2026-12-01T08:00:00.249999Z", "2026-12-01T08:00:00.250Z"));
    }
}
