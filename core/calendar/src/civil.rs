//! The first local date and time that fit a calendar, from another one on. No zone is involved.

use crate::Calendar;
use jiff::civil::{Date, DateTime, Time, date};

/// The last year that a calendar can name.
const YEAR_MAX: i16 = 2199;

impl Calendar {
    pub(crate) fn ever_comes(&self) -> bool {
        self.civil(date(1970, 1, 1).at(0, 0, 0, 0)).is_some()
    }

    /// `from` itself, if it fits. `from` has whole seconds.
    pub(crate) fn civil(&self, from: DateTime) -> Option<DateTime> {
        let day = self.day(from.date())?;
        let time = if day == from.date() { self.time(from.time()) } else { self.time(Time::midnight()) };
        match time {
            Some(time) => Some(day.to_datetime(time)),
            None => {
                let day = self.day(day.tomorrow().ok()?)?;
                Some(day.to_datetime(self.time(Time::midnight())?))
            }
        }
    }

    fn day(&self, from: Date) -> Option<Date> {
        for year in from.year()..=YEAR_MAX {
            if !self.year.has(year.unsigned_abs()) {
                continue;
            }
            let first = if year == from.year() { from.month() } else { 1 };
            for month in (first..=12).filter(|month| self.month.has(month.unsigned_abs().into())) {
                let begins = Date::new(year, month, 1).ok()?;
                let first = if begins.first_of_month() == from.first_of_month() { from.day() } else { 1 };
                let mut days =
                    (first..=begins.days_in_month()).filter_map(|day| Date::new(year, month, day).ok());
                if let Some(day) = days.find(|day| self.fits(*day)) {
                    return Some(day);
                }
            }
        }
        None
    }

    fn fits(&self, day: Date) -> bool {
        let weekday = 1_u8 << day.weekday().to_monday_zero_offset();
        let number = |day: i8| u16::from(day.unsigned_abs());
        let in_month = match self.from_end {
            true => self.day.has_from_end(number(day.days_in_month() - day.day() + 1)),
            false => self.day.has(number(day.day())),
        };
        in_month && (self.weekdays == 0 || self.weekdays & weekday != 0)
    }

    fn time(&self, from: Time) -> Option<Time> {
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        for h in (hour..24).filter(|h| self.hour.has(h.unsigned_abs().into())) {
            let first = if h == hour { minute } else { 0 };
            for m in (first..60).filter(|m| self.minute.has(m.unsigned_abs().into())) {
                let first = if h == hour && m == minute { second } else { 0 };
                if let Some(s) = (first..60).find(|s| self.second.has(s.unsigned_abs().into())) {
                    return Time::new(h, m, s, 0).ok();
                }
            }
        }
        None
    }

    /// Also written as `0..23` or `0/1`.
    pub(crate) fn has_every_hour(&self) -> bool {
        (0..24).all(|hour| self.hour.has(hour))
    }
}
