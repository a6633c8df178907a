//! Words for sets of states, as patterns: a match that uses them is still checked to be complete.

/// The states in which nothing of a container can exist.
macro_rules! no_life {
    () => {
        State::Stopped { .. } | State::Waiting { .. } | State::Backoff { .. } | State::Failed { .. }
    };
}

/// A create or a start is under way.
macro_rules! launching {
    () => {
        State::Creating { .. } | State::Created { .. }
    };
}

/// The program runs, as far as we know.
macro_rules! runs {
    () => {
        State::Starting { .. } | State::Running { .. }
    };
}
