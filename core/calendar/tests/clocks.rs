//! What a change of the clock does.

use crate::{calendar, following};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// On 2026-03-29 01:00 UTC from 02:00 to 03:00; on 2026-10-25 01:00 UTC from 03:00 to 02:00.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn times(text: &str, after: &str, many: usize) -> Vec<String> {
    following(text, after, &berlin(), many).into_iter().map(|at| at.to_string()).collect()
}

#[test]
fn in_another_zone_than_utc() {
    assert_eq!(times("03:00", "2026-01-01T00:00:00Z", 2), ["2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z"]);
    assert_eq!(times("03:00", "2026-07-01T00:00:00Z", 1), ["2026-07-01T01:00:00Z"]);
}

/// systemd leaves that night out. A job that is to run every night runs every night.
#[test]
fn what_the_clock_skips_comes_when_it_jumps() {
    let nights = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    assert_eq!(times("02:30", "2026-03-28T00:00:00Z", 3), nights);
    // All that it skips is one time, and what is due at the jump itself is the same.
    let quarters = ["2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"];
    assert_eq!(times("*:0/15", "2026-03-29T00:30:00Z", 3), quarters);
    // Nothing of it is skipped: nothing comes.
    assert_eq!(times("01:30", "2026-03-29T00:00:00Z", 2), ["2026-03-29T00:30:00Z", "2026-03-29T23:30:00Z"]);
}

#[test]
fn what_the_clock_has_twice_comes_once() {
    let nights = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    assert_eq!(times("02:30", "2026-10-24T00:00:00Z", 3), nights);
    // Also seen from within the second time.
    assert_eq!(times("02:30", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30:00Z"]);
    assert_eq!(times("02:30", "2026-10-25T01:00:00Z", 1), ["2026-10-26T01:30:00Z"]);
}

#[test]
fn what_comes_every_hour_comes_every_hour() {
    let hours =
        ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"];
    assert_eq!(times("hourly", "2026-10-24T23:00:00Z", 4), hours);
    assert_eq!(times("0..23:00", "2026-10-24T23:00:00Z", 4), hours);
    let hours = ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"];
    assert_eq!(times("hourly", "2026-03-28T23:00:00Z", 3), hours);
}

/// A zone that skipped a whole day: Samoa, the 30th of December 2011.
#[test]
fn a_day_that_never_was() {
    let apia = TimeZone::get("Pacific/Apia").unwrap();
    let found = following("12:00", "2011-12-29T00:00:00Z", &apia, 3);
    let found: Vec<String> = found.into_iter().map(|at| at.to_string()).collect();
    assert_eq!(found, ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]);
}

#[test]
fn fractions_of_a_second_and_the_ends_of_time() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let next = |after| calendar("*:*:*").next(at(after), &TimeZone::UTC).map(|at| at.to_string());
    assert_eq!(next("2026-01-01T00:00:00.999Z").as_deref(), Some("2026-01-01T00:00:01Z"));
    assert_eq!(next("1969-12-31T23:59:59.5Z").as_deref(), Some("1970-01-01T00:00:00Z"));
    assert_eq!(next("2199-12-31T23:59:59Z"), None);
    assert_eq!(calendar("hourly").next(Timestamp::MAX, &berlin()), None);
    assert!(calendar("hourly").next(Timestamp::MIN, &berlin()).is_some());
    assert_eq!(calendar("2026-01-01").next(at("2026-01-01T00:00:00Z"), &TimeZone::UTC), None);
}
