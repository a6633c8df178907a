//! What is decided for all services at once grows with their number and not with its square: a turn of the loop has a limit.
//!
//! Nobody here has a clock, and comparisons cannot be counted from outside: what is compared is the time of one size with that
//! of another one on the same machine, between which a square and a line are far apart.
#![expect(clippy::disallowed_types, reason = "the time that something takes is what is tested")]

use sampan_service::graph::{Graph, Need};
use sampan_service::{Condition, Event, Facts, Ms, Now, Policy, Service, desired, step};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

const FEW: usize = 500;
const TIMES: usize = 64;
/// Of a line 64 and what a cache that is too small for the many costs (14 times that was seen on a busy machine), of a square 4096 and that.
const RATIO_MAX: f64 = 1500.0;

fn name(n: usize) -> String {
    format!("service-{n:05}")
}

/// Who needs whom.
type Shape = fn(usize, usize) -> Option<usize>;
/// The first start begins the longest way down; the last one; and all need one.
const SHAPES: [(&str, Shape); 3] = [
    ("each the next", |n, count| (n + 1 < count).then_some(n + 1)),
    ("each the one before", |n, _| n.checked_sub(1)),
    ("all one", |n, _| (n > 0).then_some(0)),
];

fn needs(shape: Shape, count: usize) -> BTreeMap<String, Vec<Need>> {
    let need = |on: usize| Need { restart: true, ..Need::new(&name(on), Condition::Started) };
    (0..count).map(|n| (name(n), shape(n, count).map(need).into_iter().collect())).collect()
}

fn least(mut run: impl FnMut()) -> Duration {
    let once = |()| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    };
    [(); 7].map(once).into_iter().min().unwrap_or_default()
}

/// `prepare` is not counted.
fn grows_with_the_number<T>(what: &str, prepare: impl Fn(Shape, usize) -> T, run: impl Fn(&T)) {
    for (shape, needs) in SHAPES {
        let [few, many] = [FEW, FEW * TIMES].map(|count| {
            let given = prepare(needs, count);
            least(|| run(&given))
        });
        let ratio = many.as_secs_f64() / few.as_secs_f64().max(1e-6);
        eprintln!("{what}, {shape}: {few:?}, {many:?}, {ratio:.1}");
        assert!(
            ratio < RATIO_MAX,
            "{what}, {shape}: {TIMES} times the services take {ratio:.0} times as long"
        );
    }
}

fn graph(shape: Shape, count: usize) -> Graph {
    Graph::new(needs(shape, count)).unwrap()
}

#[test]
fn the_making_of_a_graph() {
    grows_with_the_number("Graph::new", needs, |needs| drop(black_box(Graph::new(needs.clone()))));
}

/// All of it, from the first that is told to the last: what a shutdown asks in each of its turns.
#[test]
fn whom_to_stop() {
    let lives = |shape, count| {
        let graph = graph(shape, count);
        let mut services: BTreeMap<String, Service> = BTreeMap::new();
        for n in 0..count {
            let mut service = Service::new(Policy::default());
            for event in [Event::Up(sampan_service::Up::Hand), Event::Granted] {
                drop(step(&mut service, &event, Now::new(Ms(1_000), 0)));
            }
            services.insert(name(n), service);
        }
        (graph, services)
    };
    grows_with_the_number("Graph::to_end", lives, |(graph, services)| {
        let facts = services.iter().map(|(name, service)| -> (&str, &Facts) { (name, service) });
        assert!(!graph.to_end(facts).is_empty());
    });
}

#[test]
fn who_comes_up_with_all() {
    grows_with_the_number("Graph::with_needs", graph, |graph| {
        assert!(!black_box(graph.with_needs(graph.start_order())).is_empty());
    });
}

#[test]
fn who_is_restarted_with_one() {
    grows_with_the_number("desired::restart", graph, |graph| {
        let first = graph.start_order().next().unwrap_or_default();
        let events: Vec<(String, Event<Policy>)> = desired::restart(graph, first);
        assert!(!events.is_empty());
    });
}
