//! `on_full = "block"` where there are segments: room for all that a transfer writes is made sure of before it writes. Where there is
//! none, what was read stays in the spool, nothing more is read, and the container waits when its pipe is full.
use std::io;
use std::time::Instant;

use memchr::memchr_iter;

use super::AGAIN;
use super::service::Service;
use crate::config::Driver;
use crate::record::{OVERHEAD_BYTES_MAX, Rest};
use crate::segments::REMARK_BYTES;
use crate::spool::{Spool, State};

impl Service {
    /// Makes sure of room for what is written of these. The oldest segments go first.
    pub(super) fn has_room_for(&mut self, tail: &[u8], data: &[u8]) -> bool {
        if self.full_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let needs = self.bytes_at_most(tail, data);
        let needed = self.segments.number();
        while let Err(error) = self.segments.reserve(needs) {
            if self.segments.is_open() && self.segments.free_oldest(needed) {
                continue;
            }
            if !self.is_blocked {
                tracing::error!(
                    service = self.name, %error,
                    "no room for its log: nothing is dropped, it waits (on_full = \"block\")"
                );
                self.figures.write_errors += 1;
            }
            return false;
        }
        if std::mem::take(&mut self.is_blocked) {
            tracing::info!(service = self.name, "its log is written again");
        }
        self.full_until = None;
        true
    }

    fn bytes_at_most(&self, tail: &[u8], data: &[u8]) -> u64 {
        let bytes = tail.len() + data.len();
        let lines = memchr_iter(b'\n', tail).count() + memchr_iter(b'\n', data).count();
        let parts = bytes / (self.settings.max_line as usize - 3) + 1;
        let text = match self.settings.driver {
            Driver::Local | Driver::Journald => bytes,
            // A control character becomes six.
            Driver::JsonFile => 6 * bytes,
        };
        (text + (lines + parts) * OVERHEAD_BYTES_MAX) as u64 + REMARK_BYTES
    }

    /// All of it stays in the spool.
    pub(super) fn wait_for_room(
        &mut self,
        stream: usize,
        slot: usize,
        spool: &mut Spool,
        rest: Rest,
        state: State,
    ) -> io::Result<()> {
        self.is_blocked = true;
        let now = Instant::now();
        let until = self.full_until.filter(|until| now < *until);
        self.full_until = Some(until.unwrap_or(now + AGAIN));
        spool.commit(slot, rest, state)?;
        self.streams[stream].take_up(slot, spool.carry(slot));
        Ok(())
    }
}
