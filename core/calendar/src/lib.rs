//! Times by the calendar, written as systemd's `OnCalendar` (systemd.time(7)): `Mon..Fri 03:00`, `*-*-01`, `hourly`.
//!
//! A [`Calendar`] is read from text and written in its normal form; [`Calendar::next`] is the first instant after another
//! one, in a time zone. Both are pure: what time it is and which zone is the host's are arguments.
//!
//! Where it is not systemd's: seconds are whole, and what a change of the clock does is decided for jobs. Local times that a
//! clock skips in spring come together at the moment when it jumps, so that no night is left out. Those that it has twice in
//! autumn come the first time only, unless the calendar has every hour: that goes on hour by hour.
#![forbid(unsafe_code)]

mod component;

mod parse;

mod civil;

mod zone;

pub use parse::Wrong;

use component::Component;

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Bit 0 is Monday.
    weekdays: u8,
    year: Component,
    month: Component,
    day: Component,
    /// `~`: days count from the end of the month, 1 is the last.
    from_end: bool,
    hour: Component,
    minute: Component,
    second: Component,
    /// None: the host's.
    zone: Option<String>,
}

impl Calendar {
    /// The IANA zone that it names; none: the host's own.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }
}
