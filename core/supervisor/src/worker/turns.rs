//! How long the loop's turns take: of this worker so far, and in the last minute. Two looks at the clock for each turn.
use super::Worker;
use sampan_api as api;
use std::time::{Duration, Instant};

/// A turn that takes longer is told in the log: clients, timers and ends of processes waited for it.
const SLOW: Duration = Duration::from_millis(100);
/// The last minute, in parts that go one by one.
const PARTS: usize = 6;
const PART_SECONDS: u64 = 10;

/// One turn that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    pub took: Duration,
    /// The kind of its first message.
    pub first: &'static str,
    pub messages: u32,
}

#[derive(Debug)]
pub struct Turns {
    since: Instant,
    count: u64,
    longest: Turn,
    /// The longest of each part, and the part's number since `since`.
    parts: [(u64, Turn); PARTS],
}

impl Turns {
    pub fn new(now: Instant) -> Turns {
        Turns { since: now, count: 0, longest: Turn::default(), parts: [(0, Turn::default()); PARTS] }
    }

    /// A turn has ended. True if it was a slow one.
    pub fn note(&mut self, turn: Turn, now: Instant) -> bool {
        self.count += 1;
        if turn.took > self.longest.took {
            self.longest = turn;
        }
        let part = self.part(now);
        let slots = self.parts.len() as u64;
        if let Some(slot) = self.parts.get_mut((part % slots) as usize) {
            if slot.0 != part {
                *slot = (part, Turn::default());
            }
            if turn.took > slot.1.took {
                slot.1 = turn;
            }
        }
        turn.took > SLOW
    }

    pub fn show(&self, now: Instant) -> api::Loop {
        let part = self.part(now);
        let lately = self.parts.iter().filter(|(of, _)| of + PARTS as u64 > part).map(|(_, turn)| *turn);
        api::Loop {
            turns: self.count,
            longest: show(self.longest),
            longest_of_last_minute: show(lately.max_by_key(|turn| turn.took).unwrap_or_default()),
        }
    }

    fn part(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs() / PART_SECONDS
    }
}

fn show(turn: Turn) -> api::Turn {
    api::Turn {
        took_us: u64::try_from(turn.took.as_micros()).unwrap_or(u64::MAX),
        first: turn.first.to_owned(),
        messages: turn.messages,
    }
}

impl Worker {
    /// The turn that began then is over.
    pub(super) fn note_turn(&mut self, turn: Turn, begun: Instant) {
        let now = Instant::now();
        let turn = Turn { took: now - begun, ..turn };
        if self.turns.note(turn, now) {
            let (ms, messages, first) = (turn.took.as_millis(), turn.messages, turn.first);
            tracing::warn!(
                messages,
                first,
                "a turn of sampand's loop took {ms} ms: clients and services waited for it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_stays_and_that_of_the_last_minute_goes() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let turn = |ms, first| Turn { took: Duration::from_millis(ms), first, messages: 1 };
        let mut turns = Turns::new(begin);
        let told = |turns: &Turns, seconds| {
            let shown = turns.show(at(seconds));
            (shown.turns, shown.longest.first, shown.longest_of_last_minute.first)
        };
        let told_are = |turns: &Turns, seconds, count, longest: &str, lately: &str| {
            assert_eq!(told(turns, seconds), (count, longest.to_owned(), lately.to_owned()), "{seconds} s");
        };
        told_are(&turns, 0, 0, "", "");
        assert!(!turns.note(turn(100, "exited"), at(1)));
        assert!(turns.note(turn(101, "request"), at(2)));
        turns.note(turn(7, "gate"), at(30));
        told_are(&turns, 30, 3, "request", "request");
        told_are(&turns, 59, 3, "request", "request");
        told_are(&turns, 60, 3, "request", "gate");
        told_are(&turns, 89, 3, "request", "gate");
        told_are(&turns, 90, 3, "request", "");
        // The place of a part that is long over is taken by the next.
        turns.note(turn(3, "order"), at(62));
        told_are(&turns, 62, 4, "request", "gate");
        told_are(&turns, 100, 4, "request", "order");
    }
}
