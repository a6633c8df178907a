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

impl Turns {
    pub fn new(layers: usize) -> Turns {
        let state = State { next: 0, done: vec![false; layers], error: None };
        Turns { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the lowest up; none once something has failed.
    pub fn next(&self) -> Option<usize> {
        let mut state = self.state();
        if state.error.is_some() || state.next >= state.done.len() {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    pub fn done(&self, index: usize, result: Result<()>) {
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
