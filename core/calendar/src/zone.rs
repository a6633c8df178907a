//! Local time to instants. A zone's time is a row of stretches with one offset each; they are gone through from the one that
//! `after` is in, so what comes is never earlier than what came before, whatever the clocks do.

use crate::Calendar;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// No stretch without a change of the clock is entered in vain for longer.
const NEAR: SignedDuration = SignedDuration::from_hours(48);

/// A stretch of a zone's time with one offset.
struct Stretch {
    /// Where it begins, and the offset before; none: always was.
    begins: Option<(Timestamp, Offset)>,
    offset: Offset,
    ends: Option<Timestamp>,
}

impl Stretch {
    fn at(instant: Timestamp, zone: &TimeZone) -> Option<Stretch> {
        let begins = zone.preceding(later(instant)?).next().map(|change| change.timestamp());
        let before = |at: Timestamp| Some(zone.to_offset(at.checked_sub(SignedDuration::from_secs(1)).ok()?));
        Some(Stretch {
            begins: begins.and_then(|at| Some((at, before(at)?))),
            offset: zone.to_offset(instant),
            ends: zone.following(instant).next().map(|change| change.timestamp()),
        })
    }
}

impl Calendar {
    /// The first instant later than `after`, in whole seconds, at which it is due; `local` is the host's zone or the one that
    /// the calendar names. None: it does not come again.
    #[must_use]
    pub fn next(&self, after: Timestamp, local: &TimeZone) -> Option<Timestamp> {
        // The whole second that it is in: before 1970 a fraction is counted from the end.
        let whole = after.as_second() - i64::from(after.subsec_nanosecond() < 0);
        let mut from = Timestamp::from_second(whole.checked_add(1)?).ok()?;
        loop {
            let stretch = Stretch::at(from, local)?;
            if let Some(at) = self.skipped(from, &stretch) {
                return Some(at);
            }
            let first = self.civil(stretch.offset.to_datetime(from).max(self.second_time(&stretch)))?;
            let at = stretch.offset.to_timestamp(first).ok()?;
            let Some(ends) = stretch.ends.filter(|ends| *ends <= at) else { return Some(at) };
            // Nothing fits before `first`: stretches that end well before it need no look.
            let near = at.checked_sub(NEAR).ok()?;
            from = local.preceding(near).next().map_or(ends, |change| change.timestamp().max(ends));
        }
    }

    /// The beginning of a stretch, if a local time that is due was skipped there.
    fn skipped(&self, from: Timestamp, stretch: &Stretch) -> Option<Timestamp> {
        let (at, before) = stretch.begins.filter(|(at, _)| *at == from)?;
        let first = self.civil(before.to_datetime(at))?;
        (first < stretch.offset.to_datetime(at)).then_some(at)
    }

    /// Up to when local times of this stretch were there already, in the one before it, and do not count again.
    fn second_time(&self, stretch: &Stretch) -> jiff::civil::DateTime {
        match stretch.begins {
            Some((at, before)) if !self.has_every_hour() => before.to_datetime(at),
            Some(_) | None => jiff::civil::DateTime::MIN,
        }
    }
}

fn later(instant: Timestamp) -> Option<Timestamp> {
    instant.checked_add(SignedDuration::from_secs(1)).ok()
}
