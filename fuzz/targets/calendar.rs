//! `schedule` of a service: an error, or times that only go on.
#![no_main]
use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use sampan_calendar::Calendar;

fuzz_target!(|text: &str| {
    let Ok(calendar) = Calendar::parse(text) else { return };
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let mut at = Timestamp::from_second(1_800_000_000).unwrap();
    for _ in 0..4 {
        let Some(next) = calendar.next(at, &zone) else { return };
        assert!(next > at);
        at = next;
    }
});
