//! Time and chance, as arguments. An instant is milliseconds of CLOCK_BOOTTIME, which goes on while the host sleeps and does
//! not begin anew before the host does: it means the same to the worker that comes after a crash. Wall-clock time is
//! for display and does not occur here.

use std::fmt;
use std::time::Duration;

/// An instant: milliseconds of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ms(pub u64);

impl Ms {
    /// This instant and `span` more, rounded up so that a timer never comes early.
    #[must_use]
    pub fn after(self, span: Duration) -> Ms {
        let ms = span.as_nanos().div_ceil(1_000_000);
        Ms(self.0.saturating_add(u64::try_from(ms).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; nothing if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Ms) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What the outside lends to one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Now {
    pub at: Ms,
    /// A number drawn by the caller from 0..=u32::MAX, evenly: the part of the jitter to apply.
    pub jitter_share: u32,
}

impl Now {
    #[must_use]
    pub fn new(at: Ms, jitter_share: u32) -> Now {
        Now { at, jitter_share }
    }
}

/// A span as `ps` writes it: `4.2s`, `42s`, `3m`, `2h`, `5d`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0.as_secs();
        match s {
            0..10 if self.0.subsec_millis() >= 100 => write!(f, "{s}.{}s", self.0.subsec_millis() / 100),
            0..120 => write!(f, "{s}s"),
            120..7_200 => write!(f, "{}m", s / 60),
            7_200..172_800 => write!(f, "{}h", s / 3_600),
            _ => write!(f, "{}d", s / 86_400),
        }
    }
}
