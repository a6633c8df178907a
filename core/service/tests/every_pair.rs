//! Every state with every event, against a table: a change of the machine shows as a changed line.

use crate::samples::{NOW, by_time, events, service, states};
use sampan_service::{Now, Service, State, step};
use std::fmt::Write;

#[test]
fn every_state_has_an_answer_to_every_event() {
    let mut table = String::new();
    let all = states().into_iter().map(|(name, state)| (name, service(state)));
    for (state_name, sample) in all.chain(by_time()) {
        writeln!(table, "{state_name}").unwrap();
        for (event_name, event) in events() {
            let mut service = sample.clone();
            let before = service.clone();
            let actions = step(&mut service, &event, Now::new(NOW, 0));
            if service == before && actions.is_empty() {
                continue;
            }
            let actions: Vec<String> = actions.iter().map(ToString::to_string).collect();
            writeln!(table, "  {event_name:<24} {}{}", outcome(&before, &service), actions.join("; "))
                .unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

/// `-> state` with its data, if it changed; then the other fields that did.
fn outcome(before: &Service, after: &Service) -> String {
    let mut text = String::new();
    if before.state != after.state {
        write!(text, "-> {} ", data(after)).unwrap();
    }
    if before.wanted != after.wanted {
        write!(text, "(wanted: {}) ", after.wanted).unwrap();
    }
    if before.attempts != after.attempts {
        write!(text, "(attempts: {}) ", after.attempts).unwrap();
    }
    if before.config() != after.config() {
        text.push_str("(config) ");
    }
    if before.next_config() != after.next_config() {
        text.push_str("(next config) ");
    }
    if before.last_exit != after.last_exit {
        write!(text, "(exit {}) ", after.last_exit.unwrap()).unwrap();
    }
    text.push_str("| ");
    text
}

/// The state's data as its record has them.
fn data(service: &Service) -> String {
    let record = service.to_record();
    let own = record.iter().skip(1).take_while(|(key, _)| *key != "wanted");
    let own: Vec<String> = own.filter(|(k, _)| *k != "since").map(|(k, v)| format!("{k} {v}")).collect();
    format!("{}{{{}}}", service.state.name(), own.join(", "))
}

#[test]
fn an_event_of_a_former_life_changes_nothing() {
    for (_, state) in states() {
        for (_, event) in events() {
            let sampan_service::Event::Life { life, .. } = event else { continue };
            for generation in [0, 6, 8] {
                let mut service = service(state.clone());
                let before = service.clone();
                let event = sampan_service::Event::life(generation, life.clone());
                assert_eq!(step(&mut service, &event, Now::new(NOW, 0)), []);
                assert_eq!(service, before);
            }
        }
    }
}

#[test]
fn the_samples_cover_every_state() {
    let names = ["stopped", "waiting", "creating", "created", "starting", "running", "stopping", "lingering"];
    let all = names.into_iter().chain(["backoff", "failed"]);
    let sampled: Vec<&str> = states().iter().map(|(_, s): &(_, State)| s.name()).collect();
    assert!(all.into_iter().all(|name| sampled.contains(&name)), "{sampled:?}");
}
