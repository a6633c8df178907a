//! A hundred services: all run, half of them are killed again and again, none is lost; then nothing wakes up any more.
use super::world::{Random, kill};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MANY: usize = 100;
/// `SAMPAN_STORM_SECONDS` says otherwise (docs/testing.md).
const KILLING: Duration = Duration::from_secs(8);
/// Ends by USR1 with 37 and by USR2 with 41, once its sleep runs; by KILL at any time.
const MORTAL: &str = r#"command = ["/bin/sh", "-c", "trap 'exit 37' USR1; trap 'exit 41' USR2; sleep 100000 & wait"]
stop_signal = "SIGKILL"
restart = { delay = "20ms", max_delay = "200ms", reset_after = "500ms" }
"#;
const ENDS: [(i32, &str); 3] = [(libc::SIGKILL, "137 SIGKILL"), (libc::SIGUSR1, "37"), (libc::SIGUSR2, "41")];

#[test]
fn of_a_hundred_services_none_is_lost() {
    let mut services = String::new();
    for n in 0..MANY {
        let _ = write!(services, "[services.s{n:03}]\n{MORTAL}");
    }
    let mut world = world!("restart_storm.burst = 0\n---\n{services}");
    let killing = std::env::var("SAMPAN_STORM_SECONDS")
        .map_or(KILLING, |seconds| Duration::from_secs(seconds.parse().expect("SAMPAN_STORM_SECONDS")));
    let begin = Instant::now();
    world.start();
    let all_run = |world: &super::World| {
        world.services().iter().filter(|service| service.state == "running").count() == MANY
    };
    world.until("all run", all_run);
    eprintln!("{MANY} services run after {:?}", begin.elapsed());

    // The journal keeps the last thousands of transitions alone, a follower sees all.
    let heard = world.dir().join("heard.json");
    let mut follower = Command::new(super::world::program("sampanctl"))
        .args(["--socket".as_ref(), world.socket().as_os_str()])
        .args(["--json", "events", "-f", "--since", "1"])
        .stdout(File::create(&heard).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    let mut random = Random::new();
    // How each service was made to end, in order; and by its process, so that nobody is killed twice.
    let mut ends: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut killed = BTreeMap::new();
    let begin = Instant::now();
    while begin.elapsed() < killing {
        for service in world.services() {
            let Some(pid) = service.pid.filter(|_| service.state == "running" && random.below(20) == 0)
            else {
                continue;
            };
            // Half of them are left alone; a number that has come back since is nobody's business of ours.
            let even = service.name.ends_with(['0', '2', '4', '6', '8']);
            let processes = world.processes(&service.name);
            if !even || !processes.contains(&pid) || killed.contains_key(&pid) {
                continue;
            }
            let traps_are_set = processes.len() == 2;
            let (signal, exit) = ENDS[if traps_are_set { random.below(3) as usize } else { 0 }];
            killed.insert(pid, signal);
            ends.entry(service.name).or_default().push(exit);
            kill(pid, signal);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    world.until("all run again", |world| {
        all_run(world) && {
            let restarts: u64 = world.services().iter().map(|service| service.restarts).sum();
            restarts >= killed.len() as u64
        }
    });
    for (signal, exit) in ENDS {
        eprintln!("{} ended with {exit}", killed.values().filter(|by| **by == signal).count());
    }
    eprintln!("{} were killed, {:?} after the first all run again", killed.len(), begin.elapsed());
    let all = world.services();
    let restarts: u64 = all.iter().map(|service| service.restarts).sum();
    assert_eq!(restarts, killed.len() as u64, "one restart for each death");
    for service in &all {
        let last = ends.get(&service.name).and_then(|ends| ends.last().copied());
        assert_eq!(service.last_exit.as_deref(), last, "{service:?}");
        assert!(world.processes(&service.name).contains(&service.pid.unwrap()), "{} runs", service.name);
        world.until("it runs once: the shell and its sleep", |world| {
            world.processes(&service.name).len() == 2
        });
    }
    kill(follower.id().cast_signed(), libc::SIGTERM);
    follower.wait().unwrap();
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let heard = std::fs::read_to_string(&heard).unwrap();
    for event in serde_json::Deserializer::from_str(&heard).into_iter::<sampan_api::Transition>() {
        let event = event.unwrap();
        assert_ne!(event.to, "failed", "{event:?}");
        if let Some(exit) = event.cause.strip_prefix("exit ") {
            told.entry(event.service).or_default().push(exit.to_owned());
        }
    }
    for service in &all {
        let made = ends.remove(&service.name).unwrap_or_default();
        let told = told.remove(&service.name).unwrap_or_default();
        assert_eq!(told, made, "{}: each end with its own code, in order", service.name);
    }

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
