//! A shutdown of many services that need each other: nobody is told before what needs it is gone, and all of them end.

use crate::random::Random;
use sampan_service::cause::Up;
use sampan_service::graph::{Graph, Need};
use sampan_service::{Action, Condition, Event, Exit, Job, Life, Ms, Now, Policy, Service, step};
use std::collections::BTreeMap;

/// Each may need those before it.
fn graph(random: &mut Random, count: u64) -> Graph {
    let name = |n: u64| format!("s{n}");
    let needs = |random: &mut Random, n: u64| {
        let on = (0..n).filter(|_| random.below(3) == 0).collect::<Vec<_>>();
        on.into_iter().map(|on| Need::new(&name(on), Condition::Started)).collect::<Vec<_>>()
    };
    Graph::new((0..count).map(|n| (name(n), needs(random, n))).collect()).unwrap()
}

/// What comes next of its life by itself.
fn answer(service: &Service) -> Option<Event> {
    let life = match service.job {
        Some(Job::Create) => Life::Created,
        Some(Job::Start) => Life::Started,
        Some(Job::Drain) => Life::Drained,
        Some(Job::Cleanup) => Life::CleanedUp,
        None if service.state.name() == "stopping" => Life::Exited { exit: Exit::code(0), empty: true },
        None => return None,
    };
    Some(Event::life(service.generation, life))
}

fn shut_down(seed: u64) {
    let mut random = Random::new(seed);
    let count = 2 + random.below(8);
    let graph = graph(&mut random, count);
    let now = |random: &mut Random| Now::new(Ms(1_000), random.next() as u32);
    let mut services: BTreeMap<String, Service> =
        graph.start_order().map(|name| (name.to_owned(), Service::new(Policy::default()))).collect();
    for service in services.values_mut() {
        // Somewhere on the way up.
        for event in [Event::Up(Up::Hand), Event::Granted].into_iter().take(random.below(3) as usize) {
            let _ = step(service, &event, now(&mut random));
        }
        for _ in 0..random.below(3) {
            if let Some(event) = answer(service) {
                let _ = step(service, &event, now(&mut random));
            }
        }
    }
    for _ in 0..1_000 {
        loop {
            let told = graph.to_end(services.iter().map(|(name, service)| (name.as_str(), &**service)));
            if told.is_empty() {
                break;
            }
            for name in told {
                let lives = |name: &str| services[name].state.has_life();
                if lives(&name) {
                    let needing = graph.dependants(&name).find(|(dependant, _)| lives(dependant));
                    assert_eq!(needing, None, "{name} is stopped before what needs it (seed {seed})");
                }
                let service = services.get_mut(&name).unwrap();
                let actions = step(service, &Event::Shutdown, now(&mut random));
                assert!(!actions.contains(&Action::Create), "a start during a shutdown");
            }
        }
        if services.values().all(|service| service.state.is_at_rest() && service.job.is_none()) {
            return;
        }
        let names: Vec<&String> = services.keys().collect();
        let name = names[random.below(count) as usize].clone();
        let service = services.get_mut(&name).unwrap();
        // Nobody ends because it was only told that others do, but some crash in between.
        let event = match answer(service) {
            Some(event) => event,
            None if service.state.name() == "running" && random.below(4) == 0 => {
                Event::life(service.generation, Life::Exited { exit: Exit::code(1), empty: true })
            }
            None => continue,
        };
        let _ = step(service, &event, now(&mut random));
    }
    panic!("it does not end (seed {seed}): {services:?}");
}

#[test]
fn a_shutdown_of_services_that_need_each_other_is_in_order_and_ends() {
    (0..2_000).for_each(shut_down);
}
