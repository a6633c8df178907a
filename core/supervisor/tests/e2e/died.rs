//! Worker and keel die, at any moment and both: containers run on, none is doubled, no exit status is lost or invented.
use super::world::{LONG, Random, Small, is_dead, kill};
use super::{LIVE, World, chaos};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Ends by SIGUSR1 with 37 and is not started again.
const ONCE: &str = r#"command = ["/bin/sh", "-c", "trap 'exit 37' USR1; sleep 100000 & wait"]
stop_signal = "SIGKILL"
restart = "no"
"#;
/// Ends by SIGUSR1 with 37 and is started again.
const AGAIN: &str = r#"command = ["/bin/sh", "-c", "trap 'exit 37' USR1; sleep 100000 & wait"]
stop_signal = "SIGKILL"
"#;

pub(super) fn kill_the_worker(world: &World) {
    let end = Instant::now() + LONG;
    loop {
        if let Some(worker) = world.worker() {
            kill(worker, libc::SIGKILL);
            // Or on a busy machine the next call finds the same one again. Seen by itself: the kernel's list of children may leave one
            // out while others end (proc(5)).
            let process = PathBuf::from(format!("/proc/{worker}"));
            return world.until("it is gone", |_| !process.exists() || is_dead(&process));
        }
        assert!(Instant::now() < end, "no worker; sampand said:\n{}", world.said());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The stop is in the journal before the signal is sent; desired.json is written beside, and may be late.
#[test]
fn a_stop_by_hand_outlives_the_worker_that_had_no_time_to_save_it() {
    let mut world =
        world!("[services.a]\n{LIVE}restart = \"always\"\n[services.b]\n{LIVE}[services.c]\n{LIVE}");
    world.start();
    for name in ["a", "b", "c"] {
        world.until_state(name, "running");
    }
    let desired = world.dir().join("state/desired.json");
    world.ok(&["stop", "a", "b"]);
    world.until("it is saved", |_| desired.exists());
    std::thread::sleep(Duration::from_millis(200));
    // As if it had not been.
    std::fs::remove_file(&desired).unwrap();
    let c = world.pid("c");
    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    std::thread::sleep(Duration::from_millis(300));
    for name in ["a", "b"] {
        assert_eq!(world.inspect(name).status.state, "stopped", "{name}: {}", world.said());
    }
    assert_eq!(world.pid("c"), c);
}

/// As the keel's children are named until they execute their programs. A worker that follows another waits for that.
#[test]
fn a_service_may_call_itself_what_the_keel_is_called() {
    let own_name = "command = [\"/bin/sh\", \"-c\", \"printf sampand-keel >/proc/self/comm; sleep 100000 & wait\"]\nstop_signal = \"SIGKILL\"\n";
    let mut world = world!(
        "[services.a]\n{own_name}[services.b]\n{own_name}[services.c]\n{own_name}[services.d]\n{LIVE}"
    );
    world.start();
    let pids = ["a", "b", "c", "d"].map(|name| {
        world.until_state(name, "running");
        world.pid(name)
    });
    let named = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sampand-keel\n";
    world.until("they are named so", |_| pids[..3].iter().all(named));
    let begin = Instant::now();
    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    let took = begin.elapsed();
    assert_eq!(["a", "b", "c", "d"].map(|name| world.pid(name)), pids, "{}", world.said());
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_full_run_folder_is_told_and_what_happened_meanwhile_is_written_when_there_is_room() {
    let mut world = world!(
        r#"[services.crash]
command = ["/no/such/program"]
restart = {{ delay = "1ms", max_delay = "1ms" }}
[services.a]
{LIVE}"#
    );
    let small = Small::new(world.dir().join("run"), "1M");
    world.start();
    world.until_state("a", "running");
    let fill = small.path().join("fill");
    let _ = std::fs::write(&fill, vec![0; 2 << 20]);
    world.until("it is told", |world| world.said().contains("cannot write the journal"));
    world.ok(&["stop", "a", "crash"]);
    let lives = world.inspect("crash").status.generation;
    std::fs::remove_file(&fill).unwrap();
    world.until("it is written without a further event", |world| {
        world.said().contains("the journal is written again")
    });
    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    assert_eq!(world.inspect("crash").status.generation, lives, "nothing is forgotten");
    assert_eq!(world.inspect("a").status.state, "stopped");
    assert_eq!(world.interrupt(), Some(0));
}

#[test]
fn what_follows_outlives_the_worker() {
    let logging = super::world::library("logging");
    let mut world = world!(
        r#"[plugins.logging]
path = "{}"
[services.talks]
command = ["/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"]
stop_signal = "SIGKILL"
"#,
        logging.display()
    );
    world.start();
    world.until_state("talks", "running");
    let ctl = |args: &[&str], name: &str| {
        let mut ctl = std::process::Command::new(super::world::program("sampanctl"));
        let out = std::fs::File::create(world.dir().join(name)).unwrap();
        ctl.arg("--socket").arg(world.socket()).args(args).stdout(out).spawn().unwrap()
    };
    let mut followers = [ctl(&["logs", "-f", "talks"], "lines"), ctl(&["events", "-f"], "events")];
    let lines = |world: &World| -> Vec<u32> {
        let text = std::fs::read_to_string(world.dir().join("lines")).unwrap();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect()
    };
    for _ in 0..2 {
        let many = lines(&world).len() + 20;
        world.until("it follows", |world| lines(world).len() > many);
        kill_the_worker(&world);
    }
    let many = lines(&world).len() + 20;
    world.until("it goes on", |world| lines(world).len() > many);
    let seen = lines(&world);
    assert_eq!(seen, (1..=seen.len() as u32).collect::<Vec<_>>(), "none lost, none twice");
    world.ok(&["kill", "talks"]);
    world.until("events go on", |world| {
        std::fs::read_to_string(world.dir().join("events")).unwrap().contains("exit 137")
    });
    for follower in &mut followers {
        kill(follower.id() as i32, libc::SIGKILL);
        follower.wait().unwrap();
    }
}

/// Three sampands, because the keel makes workers that die young wait longer and longer.
#[test]
fn a_worker_killed_at_twenty_one_moments_loses_nothing() {
    let mut random = Random::new();
    for _ in 0..3 {
        kill_seven_workers(&mut random);
    }
}

fn kill_seven_workers(random: &mut Random) {
    let mut world = world!(
        r#"[services.a]
{LIVE}[services.b]
{LIVE}[services.c]
{LIVE}[services.talks]
command = ["/bin/sh", "-c", "while echo line; do sleep 0.01; done"]
stop_signal = "SIGKILL"
[services.crash]
command = ["/bin/sh", "-c", "sleep 0.02; exit 3"]
restart = {{ delay = "20ms", max_delay = "50ms" }}
stop_signal = "SIGKILL"
"#
    );
    world.start();
    let lasting = ["a", "b", "c", "talks"];
    for name in lasting {
        world.until_state(name, "running");
    }
    let pids = lasting.map(|name| world.pid(name));
    let mut restarts = 0;
    for _ in 0..7 {
        kill_the_worker(&world);
        if random.below(2) == 0 {
            let crash = world.inspect("crash");
            assert!(crash.status.restarts >= restarts, "{} after {restarts}", crash.status.restarts);
            restarts = crash.status.restarts;
            assert!(matches!(crash.status.exit_code, None | Some(3)), "{crash:?}");
        }
        std::thread::sleep(Duration::from_millis(random.below(150)));
    }
    assert_eq!(lasting.map(|name| world.pid(name)), pids);
    for name in ["a", "b", "c"] {
        assert_eq!(world.processes(name), [world.pid(name)], "{name} runs once");
    }
    let before = world.inspect("crash").status.restarts;
    world.until("crash is still restarted", |world| world.inspect("crash").status.restarts > before + 1);
    assert!(world.processes("crash").len() <= 2, "a shell and its sleep: {:?}", world.processes("crash"));
    let exits: BTreeSet<String> = world
        .events()
        .iter()
        .filter_map(|event| Some(event.data.get("last_exit")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(exits.into_iter().collect::<Vec<_>>(), ["3"], "no exit but those that were");
    let version: sampan_api::Version = world.get("/v1/version").unwrap();
    assert_eq!(version.worker_lives, 8);
}

#[test]
fn an_exit_while_no_worker_lives_is_reported() {
    let mut world = world!("[services.once]\n{ONCE}[services.again]\n{AGAIN}");
    world.start();
    world.until_state("once", "running");
    world.until_state("again", "running");
    let pids = [world.pid("once"), world.pid("again")];
    // The keel sleeps, so that nobody starts a new worker meanwhile.
    world.signal(libc::SIGSTOP);
    kill_the_worker(&world);
    for pid in pids {
        kill(pid, libc::SIGUSR1);
    }
    std::thread::sleep(Duration::from_millis(100));
    world.signal(libc::SIGCONT);
    world.until_state("once", "failed");
    assert_eq!(world.inspect("once").status.exit_code, Some(37));
    world.until("the other lives again", |world| world.inspect("again").status.generation == 2);
    let again = world.inspect("again");
    assert_eq!((again.status.exit_code, again.status.restarts), (Some(37), 1));
}

#[test]
fn the_next_sampand_adopts_what_a_killed_keel_leaves() {
    let mut world =
        world!("[services.a]\n{LIVE}[services.once]\n{ONCE}[services.gone]\n{ONCE}[services.back]\n{AGAIN}");
    world.start();
    let names = ["a", "once", "gone", "back"];
    for name in names {
        world.until_state(name, "running");
    }
    let [a, once, gone, back] = names.map(|name| world.pid(name));
    let worker = world.worker().unwrap();
    world.signal(libc::SIGKILL);
    assert_eq!(world.ended(), None);
    world.until("the worker goes with its keel", |_| {
        !std::path::Path::new(&format!("/proc/{worker}")).exists()
    });
    assert_eq!(world.processes("a"), [a], "containers run on");
    // These end while nobody looks.
    kill(gone, libc::SIGUSR1);
    kill(back, libc::SIGUSR1);
    world.until("they are gone", |world| {
        world.processes("gone").is_empty() && world.processes("back").is_empty()
    });
    world.start();
    assert_eq!((world.pid("a"), world.pid("once")), (a, once));
    world.until_state("gone", "failed");
    let known = World::kernel() >= (6, 15);
    let (exit, code) = if known { ("37", Some(37)) } else { ("unknown", None) };
    let gone = world.inspect("gone");
    assert_eq!((gone.status.last_exit.as_deref(), gone.status.exit_code), (Some(exit), code), "never 0");
    world.until("back is back", |world| world.inspect("back").status.generation == 2);
    assert_eq!(world.inspect("back").status.last_exit.as_deref(), Some(exit));
    world.ok(&["stop", "once"]);
    assert_eq!(world.processes("once"), Vec::<i32>::new());
}

#[test]
fn keel_and_worker_killed_together_again_and_again() {
    let mut world = world!(
        "[services.a]\n{LIVE}[services.crash]\ncommand = [\"/bin/false\"]\nrestart.max_delay = \"100ms\"\n"
    );
    let mut a = None;
    let mut random = Random::new();
    for _ in 0..5 {
        world.start();
        world.until_state("a", "running");
        let pid = world.pid("a");
        assert_eq!(*a.get_or_insert(pid), pid);
        assert_eq!(world.processes("a"), [pid]);
        std::thread::sleep(Duration::from_millis(random.below(100)));
        let worker = world.worker();
        world.signal(libc::SIGKILL);
        if let Some(worker) = worker {
            kill(worker, libc::SIGKILL);
        }
        assert_eq!(world.ended(), None);
    }
    world.start();
    assert_eq!(Some(world.pid("a")), a);
    world
        .until("crash is restarted", |world| world.inspect("crash").status.last_exit.as_deref() == Some("1"));
}

/// What happens at one boundary: returns whether a worker died there.
fn dies_at(boundary: u64) -> Option<bool> {
    let mut world = World::new(&format!(
        "[services.job]\ncommand = [\"/bin/sh\", \"-c\", \"exit 0\"]\nrestart = \"on-failure\"\n\
         [services.once]\ncommand = [\"/bin/sh\", \"-c\", \"exit 37\"]\nrestart = \"no\"\n\
         [services.a]\n{LIVE}[services.b]\n{LIVE}"
    ))?
    .env("SAMPAN_CRASH_AT", &boundary.to_string());
    world.start();
    let at = format!("crash point {boundary}: ");
    world.until_state("job", "stopped");
    world.until_state("once", "failed");
    world.until_state("a", "running");
    world.until_state("b", "running");
    let (job, once) = (world.inspect("job"), world.inspect("once"));
    assert_eq!((job.status.exit_code, once.status.exit_code), (Some(0), Some(37)), "{}", world.said());
    assert_eq!((world.processes("a"), world.processes("b")), (vec![world.pid("a")], vec![world.pid("b")]));
    // The answer may be lost with a worker; what was asked for may not be half done.
    world.until("a is stopped", |world| {
        world.ctl(&["stop", "a"]);
        world.inspect("a").status.state == "stopped"
    });
    assert_eq!(world.processes("a"), Vec::<i32>::new());
    world.until("b lives anew", |world| {
        world.ctl(&["restart", "b"]);
        let b = world.inspect("b").status;
        b.generation > 1 && b.state == "running"
    });
    assert_eq!(world.processes("b"), [world.pid("b")]);
    let (events, mut faults) = (world.events(), Vec::new());
    chaos::exits(&events, &mut faults);
    assert!(faults.is_empty(), "at boundary {boundary} an end is told twice, and not alike: {faults:?}");
    assert_eq!(world.interrupt(), Some(0), "{}", world.said());
    let died = world.said().contains(&at);
    if died {
        let line = world.said().lines().find(|line| line.contains(&at)).unwrap_or_default().to_owned();
        eprintln!("{line}");
    }
    Some(died)
}

/// Each run takes its share of the boundaries, all of them with SAMPAN_TEST_ALL=1.
#[test]
fn a_worker_that_dies_between_two_steps_loses_nothing() {
    let limit = Duration::from_secs(12);
    let all = std::env::var_os("SAMPAN_TEST_ALL").is_some();
    let stride = if all { 1 } else { 11 };
    let mut boundary = if all { 1 } else { 1 + Random::new().below(stride) };
    let begin = Instant::now();
    while all || begin.elapsed() < limit {
        match dies_at(boundary) {
            None => return,
            Some(true) => boundary += stride,
            Some(false) => {
                eprintln!("boundary {boundary} lies beyond the end");
                assert!(boundary > 20, "the boundaries are not where this test looks");
                return;
            }
        }
    }
    eprintln!("stopped at boundary {boundary}: {limit:?} are over");
}
