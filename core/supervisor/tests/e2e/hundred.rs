//! A hundred services: all run, half of them are killed again and again, none is lost; then nothing wakes up any more.
use super::LIVE;
use super::world::{Random, kill};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

const MANY: usize = 100;
const KILLING: Duration = Duration::from_secs(8);

#[test]
fn of_a_hundred_services_none_is_lost() {
    let mut services = String::new();
    for n in 0..MANY {
        let _ = write!(services, "[services.s{n:03}]\n{LIVE}");
        services += "restart = { delay = \"20ms\", max_delay = \"200ms\", reset_after = \"500ms\" }\n";
    }
    let mut world = world!("restart_storm.burst = 0\n---\n{services}");
    let begin = Instant::now();
    world.start();
    let all_run = |world: &super::World| {
        world.services().iter().filter(|service| service.state == "running").count() == MANY
    };
    world.until("all run", all_run);
    eprintln!("{MANY} services run after {:?}", begin.elapsed());

    let mut random = Random::new();
    let mut killed = BTreeSet::new();
    let begin = Instant::now();
    while begin.elapsed() < KILLING {
        for service in world.services() {
            let Some(pid) = service.pid.filter(|_| service.state == "running" && random.below(20) == 0)
            else {
                continue;
            };
            // Half of them are left alone; a number that has come back since is nobody's business of ours.
            let even = service.name.ends_with(['0', '2', '4', '6', '8']);
            if even && world.processes(&service.name) == [pid] && killed.insert(pid) {
                kill(pid, libc::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    world.until("all run again", |world| {
        all_run(world) && {
            let restarts: u64 = world.services().iter().map(|service| service.restarts).sum();
            restarts >= killed.len() as u64
        }
    });
    eprintln!("{} were killed, {:?} after the first all run again", killed.len(), begin.elapsed());
    let all = world.services();
    let restarts: u64 = all.iter().map(|service| service.restarts).sum();
    assert_eq!(restarts, killed.len() as u64, "one restart for each death");
    for service in &all {
        let odd = service.name.ends_with(['1', '3', '5', '7', '9']);
        let exit = service.last_exit.as_deref();
        assert!(if odd { exit.is_none() } else { matches!(exit, None | Some("137 SIGKILL")) }, "{service:?}");
        assert_eq!(world.processes(&service.name), [service.pid.unwrap()], "{} runs once", service.name);
    }
    let wrong: Vec<_> = world.events().into_iter().filter(|event| event.to == "failed").collect();
    assert_eq!(wrong, []);

    // The pool's threads go after two seconds without work, the last reset of attempts is due after half a second.
    std::thread::sleep(Duration::from_secs(4));
    let before = work(&world);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        work(&world),
        before,
        "(process, ticks of CPU, context switches): nothing moves when nothing happens"
    );
}

/// (pid, CPU ticks, context switches) of keel and worker, over all threads.
fn work(world: &super::World) -> Vec<(i32, u64, u64)> {
    let measure = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let times = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
        let ticks = times.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        let mut switches = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            switches +=
                counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>();
        }
        (pid, ticks, switches)
    };
    vec![measure(world.keel()), measure(world.worker().expect("a worker"))]
}
