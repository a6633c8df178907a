//! What the loop does for all services at once grows with their number and not with its square.
use super::{LIVE, World};
use std::fmt::Write;
use std::time::Duration;

/// Each needs the one before, and the first one never ends as the second one wants it: nothing else is launched.
fn chain(count: usize) -> String {
    let mut services = format!("[services.s0000]\n{LIVE}restart = \"no\"\nautostart = false\n");
    for n in 1..count {
        let (on, condition) =
            (n - 1, if n == 1 { "service_completed_successfully" } else { "service_started" });
        let _ = write!(
            services,
            "[services.s{n:04}]\n{LIVE}autostart = false\ndepends_on.s{on:04} = {{ condition = \"{condition}\" }}\n"
        );
    }
    services
}

/// The processor's time that the loop has had, so that a busy machine does not count.
fn of_the_loop(world: &World) -> Duration {
    let worker = world.worker().expect("a worker");
    let text = std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn time_of_up(count: usize) -> Option<Duration> {
    let mut world = World::new(&chain(count))?;
    world.start();
    let names: Vec<String> = (0..count).map(|n| format!("s{n:04}")).collect();
    let before = of_the_loop(&world);
    world.ok(&[&["up"][..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let took = of_the_loop(&world) - before;
    let waiting = world.services().iter().filter(|service| service.state == "waiting").count();
    assert_eq!(waiting, count - 1, "{}", world.said());
    Some(took)
}

#[test]
fn of_up_with_many_services_in_a_chain() {
    let (Some(few), Some(many)) = (time_of_up(100), time_of_up(1_000)) else { return };
    let times = many.as_secs_f64() / few.as_secs_f64();
    assert!(times < 25.0, "10 times the services take {times:.0} times as long: {few:?}, {many:?}");
}
