//! Any text, any time, any zone.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sampan_calendar::Calendar;

fn part(max: u16) -> impl Strategy<Value = String> {
    let one = 0..=max;
    prop_oneof![
        4 => one.clone().prop_map(|n| n.to_string()),
        2 => Just("*".to_owned()),
        2 => (one.clone(), 1_u16..30).prop_map(|(n, every)| format!("{n}/{every}")),
        2 => (one.clone(), 0_u16..20).prop_map(move |(n, more)| format!("{n}..{}", (n + more).min(max))),
        1 => (one.clone(), one).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

/// Calendars, and what is nearly one.
fn text() -> impl Strategy<Value = String> {
    let weekdays =
        prop_oneof![6 => Just(""), 1 => Just("Mon..Fri "), 1 => Just("Sun "), 1 => Just("Tue,Sat ")];
    let date = prop_oneof![3 => Just(String::new()), 1 => (part(12), "[-~]", part(31)).prop_map(|(m, sep, d)| format!("*-{m}{sep}{d} "))];
    let time = (part(23), part(59), part(59)).prop_map(|(h, m, s)| format!("{h}:{m}:{s}"));
    (weekdays, date, time).prop_map(|(weekdays, date, time)| format!("{weekdays}{date}{time}"))
}

fn zones() -> [TimeZone; 4] {
    let posix = |text: &str| TimeZone::posix(text).unwrap();
    // Lord Howe goes back by half an hour; the last one changes at midnight.
    [
        TimeZone::UTC,
        posix("CET-1CEST,M3.5.0,M10.5.0/3"),
        posix("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"),
        posix("<-03>3<-02>,M3.5.0/0,M10.5.0/0"),
    ]
}

/// Does `calendar` come at `at`, by the rules of lib.rs and the slowest of ways?
fn is_due(calendar: &Calendar, at: Timestamp, zone: &TimeZone) -> bool {
    let utc = TimeZone::UTC;
    let second = SignedDuration::from_secs(1);
    let comes = |local: jiff::civil::DateTime| {
        let at = utc.to_timestamp(local).unwrap();
        calendar.next(at - second, &utc) == Some(at)
    };
    let (local, before) = (zone.to_datetime(at), zone.to_datetime(at - second));
    let expected = before + second;
    let mut skipped = expected;
    while skipped < local {
        if comes(skipped) {
            return true;
        }
        skipped += second;
    }
    let again = zone.to_ambiguous_timestamp(local).is_ambiguous()
        && zone.to_ambiguous_timestamp(local).earlier().unwrap() != at;
    let hours = calendar.to_string();
    let hours = hours.split(':').next().unwrap().rsplit(' ').next().unwrap();
    comes(local) && (!again || matches!(hours, "*" | "00/1" | "00..23"))
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in "\\PC{0,40}") {
        let _ = Calendar::parse(&text);
    }

    #[test]
    fn no_bytes_of_the_grammar_are_too_odd(text in "[-0-9*~.,/: MonTueUTC]{0,30}") {
        if let Ok(calendar) = Calendar::parse(&text) {
            prop_assert_eq!(Calendar::parse(&calendar.to_string()), Ok(calendar));
        }
    }

    #[test]
    fn time_goes_on(text in text(), second in 0_i64..4_000_000_000, nanos in 0..1_000_000_000) {
        let Ok(calendar) = Calendar::parse(&text) else { return Ok(()) };
        prop_assert_eq!(Calendar::parse(&calendar.to_string()), Ok(calendar.clone()));
        let mut after = Timestamp::new(second, nanos).unwrap();
        for zone in zones() {
            for _ in 0..5 {
                let Some(next) = calendar.next(after, &zone) else { break };
                prop_assert!(next > after);
                // From anywhere in between it is the same.
                let between = after + (next - after) / 2;
                prop_assert_eq!(calendar.next(between.min(next - SignedDuration::from_secs(1)).max(after), &zone), Some(next));
                after = next;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Around each change of the clock in 2026 second by second.
    #[test]
    fn around_a_change_of_the_clock_each_second_is_right(text in text()) {
        let Ok(calendar) = Calendar::parse(&text) else { return Ok(()) };
        for zone in zones() {
            let year: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
            for change in zone.following(year).take(2).map(|change| change.timestamp()) {
                let mut at = change - SignedDuration::from_mins(90);
                let ends = change + SignedDuration::from_mins(90);
                let mut next = calendar.next(at, &zone);
                while at < ends {
                    at += SignedDuration::from_secs(1);
                    prop_assert_eq!(next == Some(at), is_due(&calendar, at, &zone), "{} at {}", calendar, at);
                    if next == Some(at) {
                        next = calendar.next(at, &zone);
                    }
                }
            }
        }
    }
}
