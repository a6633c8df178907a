//! The start gate: everybody who wants to start passes here, one host-wide rule after another: what it needs, a slot
//! (`max_parallel_starts`), and for restarts a token (`restart_storm`). First come, first served among those who could go.
//! It tells each who waits why, and says so again only when the reason changes. A slot is lent for a few seconds: a launch that
//! takes longer waits for something, and goes on without it, so that it holds up nobody.

use crate::cause::WaitFor;
use crate::event::Event;
use crate::time::Ms;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a launch has a slot to itself.
pub const SLOT_MAX: Duration = Duration::from_secs(5);

/// At most `burst` in any stretch of `interval`, after a quiet one; then evenly. In whole numbers: the level counts
/// milliseconds of `interval` per token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    burst: u64,
    interval_ms: u64,
    level: u64,
    filled: Ms,
}

impl Bucket {
    /// None, that is no limit, if either is zero.
    #[must_use]
    pub fn new(burst: u32, interval: Duration, now: Ms) -> Option<Bucket> {
        let interval_ms = u64::try_from(interval.as_millis()).ok()?;
        let burst = u64::from(burst);
        let level = burst.saturating_mul(interval_ms);
        (level > 0).then_some(Bucket { burst, interval_ms, level, filled: now })
    }

    fn fill(&mut self, now: Ms) {
        let gone = now.0.saturating_sub(self.filled.0);
        let full = self.burst.saturating_mul(self.interval_ms);
        self.level = self.level.saturating_add(gone.saturating_mul(self.burst)).min(full);
        self.filled = self.filled.max(now);
    }

    /// One token, if there is one.
    pub fn take(&mut self, now: Ms) -> bool {
        self.fill(now);
        let enough = self.level >= self.interval_ms;
        if enough {
            self.level -= self.interval_ms;
        }
        enough
    }

    /// When the next token is there.
    #[must_use]
    pub fn next(&self) -> Ms {
        let missing = self.interval_ms.saturating_sub(self.level);
        Ms(self.filled.0.saturating_add(missing.div_ceil(self.burst)))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Waiter {
    name: String,
    /// A restart by policy: takes a token.
    restart: bool,
    told: Option<WaitFor>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    slots: usize,
    storm: Option<Bucket>,
    waiting: VecDeque<Waiter>,
    /// Since when.
    holding: BTreeMap<String, Ms>,
}

impl Gate {
    /// `slots`: how many may be on their way up at once, at least one.
    #[must_use]
    pub fn new(slots: usize, storm: Option<Bucket>) -> Gate {
        Gate { slots: slots.max(1), storm, waiting: VecDeque::new(), holding: BTreeMap::new() }
    }

    /// The config changed. Who waits and who holds a slot stays.
    pub fn set(&mut self, slots: usize, storm: Option<Bucket>) {
        self.slots = slots.max(1);
        self.storm = storm;
    }

    /// `Action::RequestStart`; `restart` when `service.attempts > 0`. The answer comes from the next `turn`.
    pub fn request(&mut self, name: &str, restart: bool) {
        self.release(name);
        self.waiting.push_back(Waiter { name: name.to_owned(), restart, told: None });
    }

    /// `Action::ReleaseStart`.
    pub fn release(&mut self, name: &str) {
        self.holding.remove(name);
        self.waiting.retain(|waiter| waiter.name != name);
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What to tell whom. To be called after requests, releases and announcements, once per turn of the loop, and at
    /// `wake_at`. `blocker` says what a service needs that is not there: a dependency, a plugin.
    #[must_use]
    pub fn turn<C>(&mut self, now: Ms, blocker: impl Fn(&str) -> Option<WaitFor>) -> Vec<(String, Event<C>)> {
        self.holding.retain(|_, since| since.after(SLOT_MAX) > now);
        let mut events = Vec::new();
        let mut still = VecDeque::with_capacity(self.waiting.len());
        while let Some(mut waiter) = self.waiting.pop_front() {
            // Most of those who wait, when many start at once. What else it lacks by then is looked at when there is a slot.
            if self.is_full() && waiter.told == Some(WaitFor::StartSlot) {
                still.push_back(waiter);
                continue;
            }
            match self.reason(&waiter, now, &blocker) {
                None => {
                    self.holding.insert(waiter.name.clone(), now);
                    events.push((waiter.name, Event::Granted));
                }
                Some(reason) => {
                    if waiter.told.as_ref() != Some(&reason) {
                        waiter.told = Some(reason.clone());
                        events.push((waiter.name.clone(), Event::Blocked(reason)));
                    }
                    still.push_back(waiter);
                }
            }
        }
        self.waiting = still;
        events
    }

    /// When `turn` has something to say though nothing happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Ms> {
        let waits = |on: &WaitFor| self.waiting.iter().any(|waiter| waiter.told.as_ref() == Some(on));
        let token = self.storm.as_ref().filter(|_| waits(&WaitFor::Storm)).map(Bucket::next);
        let oldest = self.holding.values().min().filter(|_| waits(&WaitFor::StartSlot));
        token.into_iter().chain(oldest.map(|since| since.after(SLOT_MAX))).min()
    }

    fn is_full(&self) -> bool {
        self.holding.len() >= self.slots
    }

    fn reason(
        &mut self,
        waiter: &Waiter,
        now: Ms,
        blocker: impl Fn(&str) -> Option<WaitFor>,
    ) -> Option<WaitFor> {
        if let Some(reason) = blocker(&waiter.name) {
            return Some(reason);
        }
        if self.is_full() {
            return Some(WaitFor::StartSlot);
        }
        let delayed = waiter.restart && self.storm.as_mut().is_some_and(|bucket| !bucket.take(now));
        delayed.then_some(WaitFor::Storm)
    }
}
