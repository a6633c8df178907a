//! `schedule`: jobs by time.

use sampan_calendar::Calendar;

use super::{Field, Fields, lives_on};
use crate::schema::Policy;

/// What its policy brings back is never done, and so no job.
pub fn schedule(t: &Fields<'_>, policy: Policy) -> Option<Calendar> {
    let calendar = t.or("schedule", |f| f.or_none(calendar), None);
    if let Some(f) = t.get("schedule").filter(|_| calendar.is_some() && lives_on(policy)) {
        f.wrong("its restart policy brings the job back at once", "add restart = \"on-failure\" or \"no\"");
    }
    calendar
}

fn calendar(f: &Field<'_>) -> Option<Calendar> {
    match Calendar::parse(&f.nonempty()?) {
        Ok(calendar) => zone_is_here(f, &calendar).then_some(calendar),
        Err(wrong) => {
            f.wrong(wrong.what, wrong.hint);
            None
        }
    }
}

fn zone_is_here(f: &Field<'_>, calendar: &Calendar) -> bool {
    let Some(zone) = calendar.zone() else { return true };
    let is_here = f.cx.asked.has_zone(zone, &f.path);
    if !is_here {
        f.wrong(
            format!("no time zone {zone} on this host"),
            "as \"03:00 Europe/Berlin\" (package tzdata); without one: the host's",
        );
    }
    is_here
}
