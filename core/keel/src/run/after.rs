//! What follows the end of a worker: a function without effects.

use crate::{EXIT_AGAIN, wire};
use std::time::Duration;

/// A worker that lived this long may die and be followed at once.
const STEADY: Duration = Duration::from_secs(10);
const DELAY_FIRST: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// So many workers in a row that did not live long: if none ever said `ready`, or we were asked to end and this one
/// did not, it will not work; say so and end.
pub const FALSE_STARTS_MAX: u32 = 3;

/// What `after` needs to know of earlier workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub any_ready: bool,
    /// Died in a row without having lived for `STEADY`.
    pub brief: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    End(u8),
    Start { delay: Duration },
}

/// What follows the end of a worker.
pub fn after(
    history: &mut History,
    fate: (i32, i32),
    was_ready: bool,
    lived: Duration,
    asked_to_end: bool,
) -> Next {
    history.any_ready |= was_ready;
    match fate {
        (wire::FATE_CODE, 0) => return Next::End(0),
        // What a worker cannot do without, or a configuration that does not load, ends `sampand` when the user starts it. When a
        // crashed worker's successor meets that, services run: better one that comes back as soon as it is mended.
        (wire::FATE_CODE, code @ (1 | 2)) if !history.any_ready => return Next::End(code as u8),
        // What is asked to end and cannot end all says so.
        (wire::FATE_CODE, 1) if asked_to_end && was_ready => return Next::End(1),
        (wire::FATE_CODE, code) if code == i32::from(EXIT_AGAIN) => {
            history.brief = 0;
            return Next::Start { delay: Duration::ZERO };
        }
        _ => {}
    }
    history.brief = if lived >= STEADY { 0 } else { history.brief + 1 };
    if (!history.any_ready || asked_to_end && !was_ready) && history.brief >= FALSE_STARTS_MAX {
        return Next::End(1);
    }
    let delay = match history.brief {
        0 | 1 => Duration::ZERO,
        n => DELAY_FIRST.saturating_mul(1 << (n - 2).min(10)).min(DELAY_MAX),
    };
    Next::Start { delay }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: (i32, i32) = (wire::FATE_SIGNAL, 11);

    fn check(history: History, fate: (i32, i32), ready: bool, lived_s: u64, expected: Next) {
        let mut history = history;
        assert_eq!(after(&mut history, fate, ready, Duration::from_secs(lived_s), false), expected);
    }

    fn served() -> History {
        History { any_ready: true, ..History::default() }
    }

    fn start(ms: u64) -> Next {
        Next::Start { delay: Duration::from_millis(ms) }
    }

    #[test]
    fn asked_to_end_ends_the_keel() {
        check(served(), (wire::FATE_CODE, 0), true, 5, Next::End(0));
    }

    #[test]
    fn a_failure_and_a_bad_configuration_end_the_keel_at_first() {
        for code in [1, 2] {
            check(History::default(), (wire::FATE_CODE, code), false, 0, Next::End(code as u8));
        }
    }

    #[test]
    fn after_a_crash_they_do_not() {
        for code in [1, 2] {
            check(History { brief: 1, ..served() }, (wire::FATE_CODE, code), false, 0, start(100));
        }
    }

    #[test]
    fn asked_to_end_a_worker_says_with_1_that_not_all_has_ended() {
        let mut history = served();
        assert_eq!(after(&mut history, (wire::FATE_CODE, 1), true, Duration::ZERO, true), Next::End(1));
        // One that cannot even begin is followed a few times.
        let mut fails = || after(&mut history, (wire::FATE_CODE, 1), false, Duration::ZERO, true);
        assert_eq!([fails(), fails(), fails()], [start(0), start(100), Next::End(1)]);
    }

    #[test]
    fn a_crash_after_long_service_is_followed_at_once() {
        check(History { brief: 7, ..served() }, CRASH, true, 11, start(0));
    }

    #[test]
    fn crash_loops_slow_down() {
        let mut history = served();
        let delays: Vec<u128> = (0..9)
            .map(|_| match after(&mut history, CRASH, true, Duration::ZERO, false) {
                Next::Start { delay } => delay.as_millis(),
                Next::End(code) => panic!("ended with {code}"),
            })
            .collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn a_worker_that_never_gets_ready_is_given_up() {
        let mut history = History::default();
        assert_eq!(after(&mut history, CRASH, false, Duration::ZERO, false), start(0));
        assert_eq!(after(&mut history, CRASH, false, Duration::ZERO, false), start(100));
        assert_eq!(after(&mut history, CRASH, false, Duration::ZERO, false), Next::End(1));
    }

    #[test]
    fn an_upgrade_is_no_crash() {
        check(History { brief: 5, ..served() }, (wire::FATE_CODE, EXIT_AGAIN.into()), true, 0, start(0));
    }

    #[test]
    fn asked_to_end_it_does_not_wait_for_ever_for_a_worker_that_can() {
        let mut history = served();
        let mut asked = || after(&mut history, CRASH, false, Duration::ZERO, true);
        assert_eq!([asked(), asked(), asked()], [start(0), start(100), Next::End(1)]);
    }
}
