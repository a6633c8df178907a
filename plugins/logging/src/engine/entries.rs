//! What goes to the journal, entry by entry. One that it has no room for is not waited for here, where all services are read: it stays
//! in the spool with all behind it, its service is not read, and it is offered again in a moment. When the journal takes nothing from
//! anybody for a while, that is a full disk: what happens then is what `on_full` says.
use std::time::{Duration, Instant};

use super::AGAIN;
use super::service::Service;
use crate::config::{Driver, OnFull};
use crate::journal::Refusal;

/// Between two offers of the same entry, and from one to the next twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(32);
/// What is left of a service that has ended is offered for so long.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the journal takes what a service has for it.
#[derive(Default)]
pub(super) struct Offers {
    pause: Duration,
    /// Until then what the journal has no room for stays in the spool; later it is dropped. None: it stays for as long as it has to.
    ends_at: Option<Instant>,
    /// A timer for the next one runs.
    pub timed: bool,
}

impl Offers {
    /// The service has ended.
    pub fn end_soon(&mut self) {
        self.ends_at = Some(Instant::now() + FAREWELL);
    }

    /// Its next life is here.
    pub fn end_now(&mut self) {
        self.ends_at = Some(Instant::now());
    }

    fn have_ended(&self) -> bool {
        self.ends_at.is_some_and(|end| end <= Instant::now())
    }
}

impl Service {
    /// Whether what was read may have to stay in the spool, so that not more may be read than has room there.
    pub fn may_hold(&self) -> bool {
        self.settings.on_full == OnFull::Block || self.settings.driver == Driver::Journald
    }

    /// The next life: it is not the one that the journal was too slow for.
    pub fn go_on_offering(&mut self) {
        self.offers.ends_at = None;
        if self.settings.driver == Driver::Journald {
            self.full_until = None;
        }
    }

    /// When the journal is offered again what it did not take.
    pub fn offers_again_at(&self) -> Option<Instant> {
        let holds = self.is_blocked && self.settings.driver == Driver::Journald;
        let soon = Instant::now() + self.offers.pause;
        holds.then(|| self.full_until.map_or(soon, |until| until.max(soon)))
    }

    /// Empties `entry`, one record: into the journal, behind what was dropped before it, or into what is dropped. False: it stays in the
    /// spool.
    pub(super) fn write_entry(&mut self, stream: usize, entry: &mut Vec<u8>) -> bool {
        if let Err(refusal) = self.offer(stream, entry) {
            if matches!(refusal, Some(Refusal::Busy)) && !self.offers.have_ended() {
                self.offers.pause = (2 * self.offers.pause).clamp(PAUSE_MIN, PAUSE_MAX);
                self.is_blocked = true;
                return false;
            }
            if let Some(refusal) = refusal {
                self.journal_is_full(refusal);
            }
            if self.settings.on_full == OnFull::Block {
                self.is_blocked = true;
                return false;
            }
            self.lose(stream, entry);
        }
        entry.clear();
        true
    }

    /// `Err(None)`: not asked, it was full a moment ago.
    fn offer(&mut self, stream: usize, entry: &[u8]) -> Result<(), Option<Refusal>> {
        let remark = match self.limiter_is_closed() {
            false => self.what_was_dropped(stream),
            true => None,
        };
        if entry.is_empty() && remark.is_none() {
            return Ok(());
        }
        if self.full_until.is_some_and(|until| Instant::now() < until) {
            return Err(None);
        }
        if let Some(remark) = remark {
            for record in remark.split_inclusive(|byte| *byte == b'\n') {
                self.journal.send(&self.name, record).map_err(Some)?;
            }
            self.streams[stream].loss = Default::default();
        }
        if !entry.is_empty() {
            self.journal.send(&self.name, entry).map_err(Some)?;
        }
        self.offers.pause = Duration::ZERO;
        if self.full_until.take().is_some() {
            tracing::info!(service = self.name, dropped = self.figures.dropped, "its log is written again");
        }
        Ok(())
    }

    fn journal_is_full(&mut self, refusal: Refusal) {
        self.figures.write_errors += 1;
        if self.full_until.is_none() {
            let path = self.journal.path().display();
            let error = match refusal {
                Refusal::Busy => "it is too slow".to_owned(),
                Refusal::Failed(error) => error.to_string(),
            };
            let then = match self.settings.on_full {
                OnFull::Drop => "they are dropped and counted until it does",
                OnFull::Block => "nothing is dropped, the service waits (on_full = \"block\")",
            };
            tracing::error!(service = self.name, %path, error, "the journal takes no records: {then}");
        }
        self.full_until = Some(Instant::now() + AGAIN);
    }
}
