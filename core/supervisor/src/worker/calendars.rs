//! Jobs by time. What a calendar says is of the wall clock, which may be set: one timer of the kernel's waits for the first
//! time of all, and for that. Whatever has come since a calendar was last heeded is one run.
//!
//! How far each was heeded is saved with what must survive a reboot, off the loop: a worker that dies in between may start a
//! job again that was over by then, rather than leave one out.
use super::Worker;
use crate::message::{Message, Sender};
use crate::settings::{Event, Service};
use crate::task::{Task, when_clock_shows};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sampan_calendar::Calendar;
use sampan_journal::Heeded;
use sampan_service::{Down, Up, Wanted};

/// From here on a clock that is set back is taken at its word.
const SET_BACK: SignedDuration = SignedDuration::from_hours(1);

/// Which calendars are to be looked at, and when.
#[derive(Debug)]
pub struct Calendars {
    look: Look,
    timer: Option<(Timestamp, Task)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Something has changed: at the end of this turn.
    Now,
    /// When the timer fires.
    Later,
}

impl Default for Calendars {
    fn default() -> Calendars {
        Calendars { look: Look::Now, timer: None }
    }
}

impl Calendars {
    /// The timer fired.
    pub fn look_again(&mut self) {
        (self.look, self.timer) = (Look::Now, None);
    }

    pub fn moved(&mut self, before: &Service, after: &Service) {
        if waits_for(before) != waits_for(after) {
            self.look = Look::Now;
        }
    }

    fn wait_until(&mut self, at: Option<Timestamp>, send: &Sender) {
        if self.timer.as_ref().map(|(armed, _)| *armed) == at {
            return;
        }
        let send = send.clone();
        let wake = move || drop(send.send(Message::Clock));
        self.timer = at.and_then(|at| match when_clock_shows(at.as_second(), wake) {
            Ok(task) => Some((at, task)),
            Err(error) => {
                tracing::error!(
                    "no timer for jobs by time: {error}; they do not run until something else happens"
                );
                None
            }
        });
    }
}

impl Worker {
    /// Starts what is due, and waits for what comes next.
    pub(super) fn heed_calendars(&mut self) {
        if self.calendars.look == Look::Later || self.is_ending() {
            return;
        }
        self.calendars.look = Look::Later;
        let now = Timestamp::now();
        let mut due = Vec::new();
        self.forget_what_waits_no_more();
        for entry in self.fleet.entries.values_mut() {
            let Some(calendar) = waits_for(&entry.machine) else { continue };
            let wish = self.desired.services.entry(entry.name.to_string()).or_default();
            let text = calendar.to_string();
            let heeded = wish.schedule.take().filter(|heeded| heeded.calendar == text);
            let mut heeded = heeded.unwrap_or(Heeded { calendar: text, until: now.as_second() });
            let from = Timestamp::from_second(heeded.until).map_or(now, |until| from(until, now));
            entry.next_run = next(&entry.name, calendar, from);
            if entry.next_run.is_some_and(|at| at <= now) {
                heeded.until = now.as_second();
                entry.next_run = next(&entry.name, calendar, now);
                due.push(entry.name.clone());
            }
            wish.schedule = Some(heeded);
        }
        let first = self.fleet.entries.values().filter_map(|entry| entry.next_run).min();
        self.calendars.wait_until(first, &self.send);
        self.save_soon();
        for name in due {
            self.begin_by_time(&name);
        }
    }

    /// What was stopped by hand, and what has left the config, has missed nothing when it is back.
    fn forget_what_waits_no_more(&mut self) {
        let fleet = &mut self.fleet;
        for (name, wish) in &mut self.desired.services {
            if wish.schedule.is_some() && !fleet.get(name).is_some_and(|entry| entry.machine.waits_for_time())
            {
                wish.schedule = None;
            }
        }
        for entry in fleet.entries.values_mut().filter(|entry| !entry.machine.waits_for_time()) {
            entry.next_run = None;
        }
    }

    /// What it needs comes up with it, but for what a hand has stopped.
    fn begin_by_time(&mut self, name: &str) {
        for (needed, root) in self.with_needs([name]) {
            let wanted = self.fleet.get(&needed).map(|entry| entry.machine.wanted);
            match root {
                None => {
                    tracing::debug!(service = name, "its time has come");
                    self.apply(&needed, &Event::Up(Up::Time));
                }
                Some(_) if matches!(wanted, Some(Wanted::Up | Wanted::Down(Down::Hand))) => {}
                Some(root) => self.apply(&needed, &Event::Up(Up::Dependant(root))),
            }
        }
    }

    /// Whether it is a job that begins by time.
    pub(super) fn begins_by_time(&self, name: &str) -> bool {
        self.fleet.get(name).is_some_and(|entry| entry.machine.applied().schedule.is_some())
    }
}

/// A clock that was far ahead when `until` was noted has been set back. By a little it is set all the time: nothing runs again
/// for that.
fn from(until: Timestamp, now: Timestamp) -> Timestamp {
    if until.duration_since(now) < SET_BACK { until } else { now }
}

fn waits_for(service: &Service) -> Option<&Calendar> {
    service.applied().schedule.as_ref().filter(|_| service.waits_for_time())
}

fn next(service: &str, calendar: &Calendar, after: Timestamp) -> Option<Timestamp> {
    let zone = match calendar.zone() {
        None => TimeZone::system(),
        Some(name) => sampan_config::zone(name)
            .inspect_err(|error| tracing::error!(service, "schedule: {error}: it does not run by time"))
            .ok()?,
    };
    calendar.next(after, &zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_a_little_doubles_no_run() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (run, daily) = (at("2026-12-01T03:00:00Z"), Calendar::parse("03:00 UTC").unwrap());
        let next_run = |now: &str| next("job", &daily, from(run, at(now))).unwrap().to_string();
        assert_eq!(next_run("2026-12-01T12:00:00Z"), "2026-12-02T03:00:00Z");
        assert_eq!(next_run("2026-12-01T02:59:59.5Z"), "2026-12-02T03:00:00Z");
        assert_eq!(next_run("2026-12-01T01:30:00Z"), "2026-12-01T03:00:00Z");
        assert_eq!(next_run("1970-01-01T00:00:10Z"), "1970-01-01T03:00:00Z");
    }
}
