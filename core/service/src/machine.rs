//! `step`.
use crate::{action::Action, event::Event, service::Service, time::Now};
#[must_use]
pub fn step(_service: &mut Service, _event: &Event, _now: Now) -> Vec<Action> {
    Vec::new()
}
