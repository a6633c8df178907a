//! Order, cycles, who waits, who may stop.

use crate::samples;
use sampan_service::graph::{Error, Graph, Need};
use sampan_service::state::Health;
use sampan_service::{Condition, Facts, Ms, Standing, State};
use std::collections::{BTreeMap, BTreeSet};

/// `"web: app healthy, db?; app"`: `?` = not required, `~` = restart, `!` = bind.
fn needs(text: &str) -> BTreeMap<String, Vec<Need>> {
    let service = |line: &str| {
        let (name, list) = line.split_once(':').unwrap_or((line, ""));
        let list = list.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|need| {
            let (on, condition) = need.split_once(' ').unwrap_or((need, "started"));
            Need {
                required: !on.ends_with('?'),
                restart: on.ends_with('~'),
                bind: on.ends_with('!'),
                ..Need::new(on.trim_end_matches(['?', '~', '!']), Condition::parse(condition).unwrap())
            }
        });
        (name.trim().to_owned(), list.collect())
    };
    text.split(';').map(service).collect()
}

fn graph(text: &str) -> Graph {
    Graph::new(needs(text)).unwrap()
}

fn order(text: &str) -> String {
    graph(text).start_order().collect::<Vec<_>>().join(" ")
}

fn errors(text: &str) -> String {
    let errors = Graph::new(needs(text)).unwrap_err();
    errors.iter().map(Error::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn each_starts_after_what_it_needs_and_ties_go_by_name() {
    assert_eq!(order("c; b; a"), "a b c");
    assert_eq!(order("web: app; app: migrate, cache; migrate: db; db; cache"), "db migrate cache app web");
    assert_eq!(order("a: d; b: d; c: d; d"), "d a b c");
}

#[test]
fn a_cycle_is_told_as_a_path() {
    assert_eq!(errors("a: a"), "dependency cycle a -> a");
    assert_eq!(errors("web: app; app: web; z"), "dependency cycle app -> web -> app");
    assert_eq!(errors("a: b; b: c; c: d; d: b"), "dependency cycle b -> c -> d -> b");
    assert_eq!(
        errors("a: nowhere; b: b"),
        "a depends on nowhere, which is no service; dependency cycle b -> b"
    );
}

#[test]
fn a_need_that_is_not_required_may_be_missing() {
    assert_eq!(order("web: cache?"), "web");
}

#[test]
fn a_start_brings_up_what_it_needs() {
    let graph = graph("web: app; app: db; db; other: db");
    assert_eq!(graph.with_needs(["app"]), [("db", "app"), ("app", "app")]);
    let all = [("db", "app"), ("app", "app"), ("other", "other"), ("web", "web")];
    assert_eq!(graph.with_needs(["web", "other", "app"]), all, "whoever is named is there for itself");
    assert_eq!(graph.with_needs(["nowhere"]), [("", ""); 0]);
    let graph = self::graph("web: app, cache?; app; cache");
    assert_eq!(
        graph.with_needs(["web"]),
        [("app", "web"), ("web", "web")],
        "what it goes on without stays as it is"
    );
}

fn blocker(text: &str, standing: Option<Standing>) -> String {
    graph(text).blocker("web", |_| standing).map_or("-".to_owned(), |on| on.to_string())
}

#[test]
fn who_waits_for_what() {
    let down = Standing::default();
    let started = Standing { started: true, ..down };
    let ready = Standing { started: true, ready: true, ..down };
    let healthy = Standing { healthy: true, ..ready };
    let failed = Standing { at_rest: true, ..down };
    let done = Standing { started: true, completed: true, at_rest: true, ..down };
    for (needs, standing, expected) in [
        ("web: db; db", down, "db started"),
        ("web: db; db", started, "-"),
        ("web: db ready; db", started, "db ready"),
        ("web: db healthy; db", ready, "db healthy"),
        ("web: db healthy; db", healthy, "-"),
        ("web: db completed_successfully; db", ready, "db completed_successfully"),
        ("web: db completed_successfully; db", done, "-"),
        ("web: db; db", done, "-"),
        ("web: db healthy; db", failed, "db healthy"),
        ("web: db? healthy; db", failed, "-"),
        ("web: db? healthy; db", down, "db healthy"),
    ] {
        assert_eq!(blocker(needs, Some(standing)), expected, "{needs} {standing:?}");
    }
    assert_eq!(blocker("web: db?", None), "-");
}

#[test]
fn dependants_stop_first_and_what_has_no_life_at_once() {
    let graph = graph("web: app; app: db; db; cron: db");
    let all: BTreeSet<String> = ["web", "app", "db", "cron"].map(str::to_owned).into();
    assert_eq!(graph.may_stop(&all, |_| true), ["cron", "web"]);
    assert_eq!(graph.may_stop(&all, |name| name == "app" || name == "db"), ["app", "cron", "web"]);
    assert_eq!(graph.may_stop(&all, |name| name == "db"), ["app", "cron", "db", "web"]);
    let alone: BTreeSet<String> = ["db".to_owned()].into();
    assert_eq!(graph.may_stop(&alone, |_| true), ["db"], "a stop of one service asks nobody else");
}

#[test]
fn a_restart_by_hand_takes_along_who_asked_for_it() {
    let graph = graph("web: app~; app: db~; db; other: db");
    let events = |name| {
        let list = sampan_service::desired::restart::<sampan_service::Policy>(&graph, name);
        list.iter().map(|(name, event)| format!("{name}: {event}")).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(events("db"), "db: restarted by hand; app: restarted with db; web: restarted with app");
    assert_eq!(events("web"), "web: restarted by hand");
}

/// Over all states of both: told is who is up, if what it is bound to is neither up and started nor a job that is done.
#[test]
fn who_is_bound_to_what_is_gone_is_told_and_nobody_else() {
    let graph = graph("web: db!; loose: db; db");
    let facts = |state: &State| Facts { state: state.clone(), ..Facts::default() };
    let mut told = 0;
    for (dependant, mine) in samples::states() {
        for (needed, its) in samples::states() {
            let (mine, its) = (facts(&mine), facts(&its));
            let by_name = |name: &str| Some(if name == "db" { &its } else { &mine });
            let is_up = ["creating", "created", "starting", "running"].contains(&mine.state.name());
            let is_there =
                ["starting", "running"].contains(&its.state.name()) || needed == "stopped, finished";
            let expected: &[(&str, &str)] = if is_up && !is_there { &[("web", "db")] } else { &[] };
            assert_eq!(graph.bound_in_vain(by_name), expected, "{dependant} bound to {needed}");
            told += expected.len();
        }
    }
    assert!(told > 20, "{told}");
    let up = facts(&State::Running { since: Ms(0), health: Health::None, adopted: false, steady_at: None });
    assert_eq!(graph.bound_in_vain(|name| (name != "db").then_some(&up)), [("web", "db")]);
}
