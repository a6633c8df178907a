//! `rate_limit`: a bucket that the rate fills and that holds what comes in a second of it. One that is empty is not used again before
//! it is full, so that what is dropped is said once a second at most.
use std::time::{Duration, Instant};

/// What the bucket holds.
const FULL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Limiter {
    /// When the bucket is full again.
    full_at: Instant,
    is_empty: bool,
}

impl Limiter {
    pub fn new(now: Instant) -> Limiter {
        Limiter { full_at: now, is_empty: false }
    }

    /// Bytes that may be written now. The last line may be longer than what is left: the time for it is waited for later.
    pub fn left(&mut self, rate: u64, now: Instant) -> u64 {
        let missing = self.full_at.saturating_duration_since(now);
        self.is_empty &= !missing.is_zero();
        if self.is_empty {
            return 0;
        }
        let bytes = u128::from(rate) * FULL.saturating_sub(missing).as_nanos() / FULL.as_nanos();
        u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
    }

    pub fn spend(&mut self, bytes: u64, rate: u64, now: Instant) {
        let takes = u128::from(bytes) * FULL.as_nanos() / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
        self.full_at = self.full_at.max(now) + takes;
    }

    /// Something did not fit.
    pub fn close(&mut self) {
        self.is_empty = true;
    }

    /// What was dropped may be said, whatever the rate is.
    pub fn open(&mut self) {
        self.is_empty = false;
    }

    /// When it is used again.
    pub fn closed_until(&self) -> Option<Instant> {
        self.is_empty.then_some(self.full_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In any time not more than the rate, the bucket, and one line; and what comes slower is not held up.
        #[test]
        fn never_more_than_the_rate(rate in 1024u64..1 << 30, steps in prop::collection::vec((0u64..2_000_000, 1u64..70_000), 1..300)) {
            let begin = Instant::now();
            let (mut limiter, mut now, mut written, mut longest) = (Limiter::new(begin), begin, 0, 0);
            for (micros, line) in steps {
                now += Duration::from_micros(micros);
                let left = limiter.left(rate, now);
                if left > 0 {
                    limiter.spend(line, rate, now);
                    (written, longest) = (written + line, longest.max(line));
                    if line >= left {
                        limiter.close();
                    }
                }
                let most = rate as f64 * (1.0 + (now - begin).as_secs_f64()) + longest as f64 + 1.0;
                prop_assert!(written as f64 <= most, "{written} of {most}");
            }
        }

        #[test]
        fn what_is_slower_than_the_rate_is_all_written(rate in 2048u64..1 << 30, lines in prop::collection::vec(1u64..2000, 1..300)) {
            let mut now = Instant::now();
            let mut limiter = Limiter::new(now);
            for line in lines.into_iter().map(|line| line.min(rate)) {
                let left = limiter.left(rate, now);
                prop_assert!(left >= line, "{left}");
                limiter.spend(line, rate, now);
                now += Duration::from_nanos(line * 1_000_000_000 / rate + 1);
            }
        }
    }
}
