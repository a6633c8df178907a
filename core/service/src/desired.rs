//! From what the config says, old and new, to events: a boot and a reload go the same way. What a change of a key means
//! (nothing, live, a new life) is the config's knowledge and comes as [`Change`].

use crate::cause::{Down, Restart, Up};
use crate::event::Event;
use crate::policy::{Begins, RestartPolicy};
use crate::service::HasPolicy;
use std::collections::{BTreeMap, BTreeSet};

/// What the new config means for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Live,
    /// It needs a new life.
    Restart,
    New,
    Removed,
}

/// A service as the new config wants it.
#[derive(Debug)]
pub struct Desired<'a, C> {
    pub config: &'a C,
    pub autostart: bool,
}

impl<C: HasPolicy> Desired<'_, C> {
    /// Whether the supervisor starts it unasked; `held`: stopped by hand, which `always` does not heed at a boot.
    fn starts(&self, held: bool) -> bool {
        self.autostart && (!held || self.config.policy().restart == RestartPolicy::Always)
    }
}

/// The first events of a supervisor that finds nothing running, in `order` (the graph's start order).
pub fn boot<'a, C: HasPolicy>(
    services: &BTreeMap<String, Desired<'a, C>>,
    held: &BTreeSet<String>,
    order: impl IntoIterator<Item = &'a str>,
) -> Vec<(String, Event<C>)> {
    let starts = |name: &&str| services.get(*name).is_some_and(|s| s.starts(held.contains(*name)));
    order.into_iter().filter(starts).map(|name| (name.to_owned(), Event::Up(Up::Boot))).collect()
}

/// The events of a reload. Removed ones come first, dependants before what they need (`old_order` backwards); then changes
/// and new services in `new_order`. A restart is no second stop of what is stopped by hand: the machine knows.
pub fn reload<'a, C: HasPolicy>(
    services: &BTreeMap<String, Desired<'a, C>>,
    changes: &BTreeMap<String, Change>,
    held: &BTreeSet<String>,
    old_order: impl DoubleEndedIterator<Item = &'a str>,
    new_order: impl Iterator<Item = &'a str>,
) -> Vec<(String, Event<C>)> {
    let change = |name: &str| changes.get(name).copied().unwrap_or(Change::Nothing);
    let removed = old_order.rev().filter(|name| change(name) == Change::Removed);
    let mut events: Vec<_> = removed.map(|name| (name.to_owned(), Event::Down(Down::Removed))).collect();
    for name in new_order {
        let Some(service) = services.get(name) else { continue };
        let config = || service.config.clone();
        let event = match change(name) {
            Change::Nothing | Change::Removed => continue,
            Change::Live => Event::Live(config()),
            Change::Restart => Event::Replaced(config()),
            Change::New if service.autostart && !held.contains(name) => Event::Up(Up::Config),
            Change::New => continue,
        };
        events.push((name.to_owned(), event));
        // Nothing of it runs for that: from now on its time comes, as after a boot.
        let by_time = service.config.policy().begins == Begins::ByTime;
        if by_time && service.autostart && !held.contains(name) && change(name) != Change::New {
            events.push((name.to_owned(), Event::Up(Up::Config)));
        }
    }
    events
}

/// `restart NAME` by hand: itself, and who asked to be restarted with it, in `order`.
pub fn restart<'a, C>(graph: &'a crate::graph::Graph, name: &'a str) -> Vec<(String, Event<C>)> {
    let with = graph.restarted_with(name);
    let event = |service: &'a str| match with.get(service) {
        Some(need) => Some((service.to_owned(), Event::Restart(Restart::Dependency(need.on.clone())))),
        None if service == name => Some((service.to_owned(), Event::Restart(Restart::Hand))),
        None => None,
    };
    graph.start_order().filter_map(event).collect()
}
