//! Calendars as text, and when they come.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod any;
mod clocks;
mod mistakes;
mod systemd;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sampan_calendar::Calendar;

fn calendar(text: &str) -> Calendar {
    Calendar::parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"))
}

/// The first few times after `after`, as `show` writes them.
fn following(text: &str, after: &str, zone: &TimeZone, many: usize) -> Vec<Timestamp> {
    let calendar = calendar(text);
    let mut at: Timestamp = after.parse().unwrap();
    let mut found = Vec::new();
    while found.len() < many
        && let Some(next) = calendar.next(at, zone)
    {
        assert!(next > at, "{text}: {next} does not follow {at}");
        found.push(next);
        at = next;
    }
    found
}
