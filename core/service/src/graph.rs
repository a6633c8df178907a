//! Who needs whom: start order, the path of a cycle, what a start still waits for, who may stop now. Built once per config;
//! it holds names and edges and no state, which comes as a function from name to [`Standing`].

use crate::cause::{Condition, WaitFor};
use crate::sabotage::{Invariant, broken};
use crate::service::{Facts, Standing};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;

/// One `depends_on.S`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub on: String,
    pub condition: Condition,
    /// False: goes on without it when it is missing or at rest.
    pub required: bool,
    /// Restart with it, if that is by hand.
    pub restart: bool,
    /// Stop with it, whatever ends it. Of one that is required: else a start without it would be stopped again.
    pub bind: bool,
}

impl Need {
    #[must_use]
    pub fn new(on: &str, condition: Condition) -> Need {
        Need { on: on.to_owned(), condition, required: true, restart: false, bind: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Each waits for the next; the last is the first again.
    Cycle(Vec<String>),
    Unknown {
        service: String,
        on: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Cycle(path) => write!(f, "dependency cycle {}", path.join(" -> ")),
            Error::Unknown { service, on } => write!(f, "{service} depends on {on}, which is no service"),
        }
    }
}

impl std::error::Error for Error {}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    needs: BTreeMap<String, Vec<Need>>,
    /// Each after all that it needs; ties by name.
    order: Vec<String>,
}

impl Graph {
    /// All mistakes at once: every unknown name, and the first cycle.
    pub fn new(needs: BTreeMap<String, Vec<Need>>) -> Result<Graph, Vec<Error>> {
        let unknown = needs.iter().flat_map(|(service, list)| {
            let missing = list.iter().filter(|need| need.required && !needs.contains_key(&need.on));
            missing.map(|need| Error::Unknown { service: service.clone(), on: need.on.clone() })
        });
        let mut errors: Vec<Error> = unknown.collect();
        match sort(&needs) {
            Ok(order) if errors.is_empty() => return Ok(Graph { needs, order }),
            Ok(_) => {}
            Err(path) => errors.push(Error::Cycle(path)),
        }
        Err(errors)
    }

    pub fn start_order(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    #[must_use]
    pub fn needs(&self, name: &str) -> &[Need] {
        self.needs.get(name).map_or(&[], Vec::as_slice)
    }

    /// `names` and all that they cannot do without, directly or not, in start order: what `up NAMES` brings up. With each the one for whom it
    /// is there: one that is named for itself, another one for the first that needs it.
    #[must_use]
    pub fn with_needs<'g>(&'g self, names: impl IntoIterator<Item = &'g str>) -> Vec<(&'g str, &'g str)> {
        let named = names.into_iter().filter(|name| self.needs.contains_key(*name));
        let named: BTreeSet<&str> = named.collect();
        let mut found: BTreeMap<&str, &str> = named.iter().map(|name| (*name, *name)).collect();
        for root in named {
            let mut open = vec![root];
            while let Some(name) = open.pop() {
                for need in
                    self.needs(name).iter().filter(|need| need.required && self.needs.contains_key(&need.on))
                {
                    if let Entry::Vacant(new) = found.entry(&need.on) {
                        new.insert(root);
                        open.push(&need.on);
                    }
                }
            }
        }
        self.start_order().filter_map(|name| found.get(name).map(|root| (name, *root))).collect()
    }

    /// All that asked to be restarted with `name`, directly or not, each with the need that says so; in no order.
    #[must_use]
    pub fn restarted_with<'g>(&'g self, name: &'g str) -> BTreeMap<&'g str, &'g Need> {
        let mut by_need: BTreeMap<&str, Vec<(&str, &Need)>> = BTreeMap::new();
        for (service, list) in &self.needs {
            for need in list.iter().filter(|need| need.restart) {
                by_need.entry(&need.on).or_default().push((service, need));
            }
        }
        let mut with = BTreeMap::new();
        let mut open = vec![name];
        while let Some(on) = open.pop() {
            for (service, need) in by_need.remove(on).into_iter().flatten() {
                if let Entry::Vacant(new) = with.entry(service) {
                    new.insert(need);
                    open.push(service);
                }
            }
        }
        with
    }

    /// Who needs `name` directly, and how; by name.
    pub fn dependants<'g>(&'g self, name: &'g str) -> impl Iterator<Item = (&'g str, &'g Need)> {
        self.needs.iter().flat_map(move |(service, list)| {
            list.iter().filter(move |need| need.on == name).map(move |need| (service.as_str(), need))
        })
    }

    /// The first need of `name` that is not met yet. `standing` knows nothing of a service that does not exist.
    #[must_use]
    pub fn blocker(&self, name: &str, standing: impl Fn(&str) -> Option<Standing>) -> Option<WaitFor> {
        let unmet = self.needs(name).iter().find(|need| match standing(&need.on) {
            Some(standing) if standing.meets(need.condition) => false,
            Some(standing) => need.required || !standing.at_rest,
            None => need.required,
        })?;
        Some(WaitFor::Dependency { service: unmet.on.clone(), condition: unmet.condition })
    }

    /// Who is up and bound to one that is not, each with that one. `facts` knows nothing of a service that does not exist.
    #[must_use]
    pub fn bound_in_vain<'s>(&self, facts: impl Fn(&str) -> Option<&'s Facts>) -> Vec<(&str, &str)> {
        let is_up = |name: &str| facts(name).is_some_and(|facts| facts.state.is_up());
        let is_gone = |name: &str| facts(name).is_none_or(|facts| !facts.standing().started);
        let bound = self.needs.iter().flat_map(|(service, list)| {
            list.iter()
                .filter(|need| need.bind && need.required)
                .map(move |need| (service.as_str(), &*need.on))
        });
        bound.filter(|(service, on)| is_up(service) && is_gone(on)).collect()
    }

    /// During a shutdown: whom to tell [`Event::Shutdown`](crate::Event::Shutdown) now. Nobody is told twice, and what is being
    /// cleaned up is asked again when that is done: it may want another life.
    #[must_use]
    pub fn to_end<'s>(&self, services: impl Iterator<Item = (&'s str, &'s Facts)> + Clone) -> Vec<String> {
        // Most turns of a shutdown wait for those that were told.
        if services.clone().all(|(_, facts)| facts.comes_to_rest()) {
            return Vec::new();
        }
        let services: BTreeMap<&str, &Facts> = services.collect();
        let has_life = |name: &str| services.get(name).is_some_and(|facts| facts.state.has_life());
        let to_stop: BTreeSet<String> = services
            .iter()
            .filter(|(_, facts)| !facts.comes_to_rest() || facts.state.has_life())
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let now = self.may_stop(&to_stop, has_life).into_iter();
        now.filter(|name| services.get(name).is_some_and(|facts| !facts.comes_to_rest()))
            .map(str::to_owned)
            .collect()
    }

    /// Of the services `to_stop`, those that may be told now. One without a life at once, so that no restart begins during a
    /// shutdown; one with a life when no dependant among `to_stop` has one, since a dependant stops first.
    #[must_use]
    pub fn may_stop<'s>(
        &self,
        to_stop: &'s BTreeSet<String>,
        has_life: impl Fn(&str) -> bool,
    ) -> Vec<&'s str> {
        let living = to_stop.iter().filter(|name| has_life(name));
        let held: BTreeSet<&str> =
            living.flat_map(|name| self.needs(name)).map(|need| need.on.as_str()).collect();
        to_stop
            .iter()
            .map(String::as_str)
            .filter(|name| !has_life(name) || !held.contains(name) || broken(Invariant::StopOrder))
            .collect()
    }
}

/// Depth first, in the order of names; the stack holds the way down, so that a cycle can be told as a path.
fn sort(needs: &BTreeMap<String, Vec<Need>>) -> Result<Vec<String>, Vec<String>> {
    let mut order: Vec<String> = Vec::with_capacity(needs.len());
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in needs.keys() {
        // (name, how many of its needs have been followed)
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        let mut on_path: BTreeSet<&str> = BTreeSet::from([start.as_str()]);
        while let Some((name, next)) = path.last_mut() {
            let name: &str = name;
            let need = needs.get(name).and_then(|list| list.get(*next));
            *next += 1;
            let on = match need {
                _ if done.contains(name) => None,
                Some(need) => Some(need.on.as_str()),
                None => None,
            };
            match on {
                None => {
                    path.pop();
                    on_path.remove(name);
                    if done.insert(name) {
                        order.push(name.to_owned());
                    }
                }
                Some(on) if !needs.contains_key(on) || done.contains(on) => {}
                Some(on) => {
                    if !on_path.insert(on) {
                        let names = path.iter().map(|(name, _)| *name).skip_while(|name| *name != on);
                        return Err(names.chain([on]).map(str::to_owned).collect());
                    }
                    path.push((on, 0));
                }
            }
        }
    }
    Ok(order)
}
