//! Which layer is begun next, which are done, and what went wrong first.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Kind, Result};

pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    next: usize,
    done: Vec<bool>,
    error: Option<Error>,
}

/// A layer that has been begun. However it ends, whoever waits for it hears of that: dropped without a word, it has failed.
pub struct Turn<'a> {
    turns: &'a Turns,
    pub index: usize,
    is_told: bool,
}

impl Turn<'_> {
    pub fn done(mut self, result: Result<()>) {
        self.is_told = true;
        self.turns.done(self.index, result);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            let why = format!("a fault of ours while layer {} was unpacked", self.index + 1);
            self.turns.done(self.index, Err(Error::bad("cannot get the image", why)));
        }
    }
}

impl Turns {
    pub fn new(layers: usize) -> Turns {
        let state = State { next: 0, done: vec![false; layers], error: None };
        Turns { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the lowest up; none once something has failed.
    pub fn next(&self) -> Option<Turn<'_>> {
        let mut state = self.state();
        if state.error.is_some() || state.next >= state.done.len() {
            return None;
        }
        state.next += 1;
        Some(Turn { turns: self, index: state.next - 1, is_told: false })
    }

    fn done(&self, index: usize, result: Result<()>) {
        let mut state = self.state();
        match result {
            Ok(()) => {
                if let Some(done) = state.done.get_mut(index) {
                    *done = true;
                }
            }
            Err(error) => {
                state.error.get_or_insert(error);
            }
        }
        self.changed.notify_all();
    }

    pub fn failed(&self) -> bool {
        self.state().error.is_some()
    }

    /// Until all layers below are done.
    pub fn wait_below(&self, index: usize) -> Result<()> {
        let mut state = self.state();
        loop {
            if state.error.is_some() {
                return Err(Error::new(Kind::Usage, "the layer is given up", "one below it has failed"));
            }
            if state.done.get(..index).unwrap_or_default().iter().all(|done| *done) {
                return Ok(());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn result(self) -> Result<()> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_layer_whose_thread_panics_hears_of_it() {
        let turns = Turns::new(2);
        let (below, above) = (turns.next().unwrap(), turns.next().unwrap());
        let waited = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turns.wait_below(above.index));
            let panicked = scope.spawn(move || {
                let _below = below;
                panic!("on purpose");
            });
            assert!(panicked.join().is_err());
            waiting.join().unwrap()
        });
        assert!(waited.unwrap_err().to_string().contains("one below it has failed"));
        above.done(Ok(()));
        assert!(turns.next().is_none());
        assert!(turns.result().unwrap_err().to_string().contains("a fault of ours while layer 1"));
    }

    #[test]
    fn who_waits_goes_on_when_all_below_are_done() {
        let turns = Turns::new(2);
        let (below, above) = (turns.next().unwrap(), turns.next().unwrap());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turns.wait_below(above.index));
            below.done(Ok(()));
            waiting.join().unwrap().unwrap();
        });
        above.done(Ok(()));
        turns.result().unwrap();
    }
}
