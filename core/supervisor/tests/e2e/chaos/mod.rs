//! `make chaos`: fifty services that write all the time, and everything happens to them and to sampand at once. Seeded; what is
//! done follows from the seed, when it meets what does not.
//!
//! An even seed never kills all three processes of sampand at once, so nothing may be lost or unknown. An odd one does.
mod account;
mod adversary;

use super::World;
use super::world::{Small, kill, library, run};
pub(super) use account::exits;
use account::{ACCOUNT_BYTES, Done, Log, Service};
use adversary::Adversary;
use sampan_api::Transition;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const MANY: usize = 50;
/// Of state_dir: so much, and so much more for each second.
const DISK_MIB: (u64, u64) = (64, 1);
/// More descriptors than before are a leak: of those that come and go, so many may be there.
const DESCRIPTORS_SLACK: usize = 8;

/// One service, and what its config says at present.
#[derive(Clone, Debug)]
struct Settings {
    name: String,
    words: String,
    more: &'static str,
    /// Changed, it lives anew.
    version: u32,
    /// Changed, it does not.
    pids: u32,
    /// Left out of the config for a while.
    absent: bool,
}

impl Settings {
    /// Slow and quick ones, some that end by themselves, some that write much at once, some with a check, and jobs.
    fn new(n: usize) -> Settings {
        let period = [20_000, 50_000, 100_000, 400_000][n % 4];
        let (lines, burst, length) = match n % 10 {
            0 => (40 + 13 * n, 1, 30),
            1 => (0, 50, 40),
            2 => (0, 1, 3000),
            3 => (200, 1, -40),
            4 => (2000, 20, 100),
            _ => (0, 1, 60),
        };
        let more = match n % 10 {
            2 => "logging.max_size = \"200K\"\nlogging.max_file = 3\n",
            3 => "restart.policy = \"on-failure\"\n",
            7 => {
                "healthcheck = { test = [\"CMD\", \"/bin/talker\"], interval = \"1s\", timeout = \"60s\", retries = 1000 }\n"
            }
            _ => "",
        };
        let name = format!("s{n:02}");
        let words = format!("\"/account/{name}\", \"{period}\", \"{lines}\", \"{burst}\", \"{length}\"");
        Settings { name, words, more, version: 0, pids: 100, absent: false }
    }

    /// Done when it has ended by itself.
    fn is_job(&self) -> bool {
        self.more.contains("on-failure")
    }

    fn toml(&self) -> String {
        let Settings { name, words, more, version, pids, .. } = self;
        format!(
            "[services.{name}]\ncommand = [\"/bin/talker\", {words}]\nresources.pids = {pids}\n\
             environment = {{ VERSION = \"{version}\" }}\n{more}"
        )
    }
}

/// sampand and its services, and what has happened.
struct Chaos {
    world: World,
    disk: Small,
    services: Vec<Settings>,
    done: BTreeMap<String, Done>,
    events: BTreeMap<u64, Transition>,
    diary: Vec<String>,
    begin: Instant,
    /// Were all of its processes ever dead at once?
    unheld: bool,
}

impl Chaos {
    fn new(time: Duration) -> Option<Chaos> {
        let nobody = sampan_testkit::World { shared: false, user_namespace: false };
        let world = World::new("")?;
        nobody.enter().unwrap();
        let disk =
            Small::new(world.dir().join("state"), &format!("{}M", DISK_MIB.0 + DISK_MIB.1 * time.as_secs()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/chaos/talker.c");
        let program = world.dir().join("rootfs/bin/talker");
        let flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-static", "-O1"];
        let built = run(Command::new("cc").args(flags).arg(source).arg("-o").arg(program));
        assert_eq!(built.code, 0, "{built:?}");
        fs::create_dir(world.dir().join("rootfs/account")).unwrap();
        fs::create_dir(world.dir().join("account")).unwrap();
        let services: Vec<_> = (0..MANY).map(Settings::new).collect();
        for service in &services {
            let file = fs::File::create(world.dir().join("account").join(&service.name)).unwrap();
            file.set_len(ACCOUNT_BYTES).unwrap();
        }
        let done = services.iter().map(|service| (service.name.clone(), Done::default())).collect();
        Some(Chaos {
            world,
            disk,
            services,
            done,
            events: BTreeMap::new(),
            diary: Vec::new(),
            begin: Instant::now(),
            unheld: false,
        })
    }

    fn note(&mut self, text: impl Into<String>) {
        let text = format!("{:8.3} {}", self.begin.elapsed().as_secs_f64(), text.into());
        if std::env::var_os("SAMPAN_CHAOS_TELL").is_some() {
            eprintln!("{text}");
        }
        self.diary.push(text);
    }

    /// config.toml as the services are at present.
    fn configure(&self) {
        let dir = self.world.dir().display();
        let mut toml = format!(
            "on_exit = \"keep\"\nrestart_storm.burst = 0\n---\n[plugins.logging]\npath = \"{}\"\n",
            library("logging").display()
        );
        for service in self.services.iter().filter(|service| !service.absent) {
            let _ = write!(
                toml,
                "{}volumes = [\"{dir}/account:/account\"]\nrestart.delay = \"50ms\"\nrestart.max_delay = \"400ms\"\n",
                service.toml()
            );
        }
        self.world.configure(&toml);
    }

    /// As `World::start`, and what there is to see is kept if it fails.
    fn start(&mut self) {
        self.world.spawn();
        let end = Instant::now() + super::world::LONG;
        while self.world.get::<sampan_api::Version>("/v1/version").is_err() {
            if Instant::now() > end || self.world.has_ended() {
                panic!("{}", self.report(&["sampand does not start".to_owned()]));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The transitions since the last time. While no worker answers there are none; they are kept.
    fn listen(&mut self) {
        let since = self.events.last_key_value().map_or(1, |(seq, _)| seq + 1);
        let heard = self.world.ctl(&["--json", "events", "--since", &since.to_string()]);
        for event in serde_json::Deserializer::from_str(&heard.out).into_iter::<Transition>() {
            let Ok(event) = event else { break };
            self.events.insert(event.seq, event);
        }
    }

    /// Which of the services do not run as they should, in words: each must have written since, but for those that are done.
    fn not_running(&self, since: &[u64]) -> Vec<String> {
        let services = self.world.services();
        let mut wrong = Vec::new();
        for (settings, before) in self.services.iter().zip(since) {
            let Some(status) = services.iter().find(|status| status.name == settings.name) else {
                wrong.push(format!("{} is no service", settings.name));
                continue;
            };
            let is_done = settings.is_job() && status.state == "stopped";
            if !is_done && (self.written(settings) == *before || status.state == "failed") {
                wrong.push(format!("{} is {} and writes nothing", status.name, status.text));
            }
        }
        if services.len() != MANY {
            wrong.push(format!("{} services", services.len()));
        }
        wrong
    }

    fn written(&self, settings: &Settings) -> u64 {
        let account = account::read(&self.world.dir().join("account").join(&settings.name));
        account.lives.iter().map(|life| life.written[0] + life.written[1]).sum()
    }

    /// Until each service has written again.
    fn wait(&mut self, what: &str) -> Result<(), String> {
        let since: Vec<u64> = self.services.iter().map(|settings| self.written(settings)).collect();
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            self.listen();
            let wrong = self.not_running(&since);
            if wrong.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.report(&[format!("{what}: {wrong:?}")]));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ends it as by `sampanctl down`, and says what is wrong with all that was.
    fn verdict(mut self) -> Result<(), String> {
        let mut faults = Vec::new();
        self.listen();
        // The last exits are told while it goes down: a follower hears them.
        let heard = self.world.dir().join("heard.json");
        let since = self.events.last_key_value().map_or(1, |(seq, _)| seq + 1).to_string();
        let mut follower = Command::new(super::world::program("sampanctl"))
            .arg("--socket")
            .arg(self.world.socket())
            .args(["--json", "events", "-f", "--since", &since])
            .stdout(fs::File::create(&heard).unwrap())
            .spawn()
            .unwrap();
        // It must be there before the end begins.
        std::thread::sleep(Duration::from_millis(500));
        let ended = self.world.interrupt();
        kill(follower.id().cast_signed(), libc::SIGTERM);
        let _ = follower.wait();
        let heard = fs::read_to_string(heard).unwrap();
        for event in serde_json::Deserializer::from_str(&heard).into_iter::<Transition>().flatten() {
            self.events.insert(event.seq, event);
        }
        if ended != Some(0) {
            faults.push(format!("sampand ended with {ended:?}"));
        }
        self.check_events(&mut faults);
        let mounts = sampan_testkit::world::mountinfo().unwrap();
        let here = self.world.dir().display().to_string();
        let own = self.disk.path().display().to_string();
        let left = mounts.lines().filter(|line| line.contains(&here) && !line.contains(&own));
        faults.extend(left.map(|line| format!("left: mount {line}")));
        faults.extend(self.world.leftovers().into_iter().filter(|left| !left.starts_with("mount")));
        if faults.is_empty() { Ok(()) } else { Err(self.report(&faults)) }
    }

    fn check_events(&self, faults: &mut Vec<String>) {
        let events: Vec<Transition> = self.events.values().cloned().collect();
        let mut exits = account::exits(&events, faults);
        let (mut lives, mut lines) = (0, 0);
        for settings in &self.services {
            let name = &settings.name;
            let service = Service {
                name,
                account: account::read(&self.world.dir().join("account").join(name)),
                done: self.done[name],
                exits: exits.remove(name.as_str()).unwrap_or_default(),
                log: Log::read(&self.disk.path().join("logs").join(name)),
                unheld: self.unheld,
            };
            lives += service.account.lives.len();
            lines += service.account.lives.iter().map(|life| life.written[0] + life.written[1]).sum::<u64>();
            faults.extend(service.faults());
        }
        let unknown = events.iter().filter(|event| event.cause == "exit unknown").count();
        eprintln!("{lives} lives have written {lines} lines; {unknown} ends are unknown");
    }

    /// Of a run that failed: what is wrong, what was done, where the rest can be seen.
    fn report(&self, faults: &[String]) -> String {
        let kept = std::env::temp_dir().join(format!("sampan-chaos-{}", std::process::id()));
        let _ = fs::create_dir_all(&kept);
        for name in ["state/logs", "account", "out", "run/journal", "run/applied.json", "config.toml"] {
            run(Command::new("cp").arg("-a").arg(self.world.dir().join(name)).arg(&kept));
        }
        let events: Vec<&Transition> = self.events.values().collect();
        let _ = fs::write(kept.join("events.json"), serde_json::to_string_pretty(&events).unwrap());
        let _ = fs::write(kept.join("diary"), self.diary.join("\n"));
        let last = self.diary.len().saturating_sub(40);
        format!(
            "\n{}\n\nwhat was done last:\n{}\n\nlogs, transitions, all that was done: {}",
            faults.join("\n"),
            self.diary[last..].join("\n"),
            kept.display()
        )
    }
}

/// Open descriptors of keel and worker.
fn descriptors(world: &World) -> [usize; 2] {
    let of = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    [of(world.keel()), world.worker().map_or(0, of)]
}

fn one_run(seed: u64, time: Duration) -> Option<Result<(), String>> {
    let mut chaos = Chaos::new(time)?;
    chaos.configure();
    chaos.world.start();
    let outcome = chaos.wait("at the beginning").and_then(|()| {
        let before = descriptors(&chaos.world);
        Adversary::new(&mut chaos, seed).rage(time);
        chaos.wait("after the last that was done")?;
        std::thread::sleep(Duration::from_secs(3));
        chaos.wait("at the end")?;
        let after = descriptors(&chaos.world);
        eprintln!("descriptors of keel and worker: {before:?}, then {after:?}");
        if (0..2).any(|n| after[n] > before[n] + DESCRIPTORS_SLACK) {
            return Err(
                chaos.report(&[format!("descriptors of keel and worker: {before:?}, then {after:?}")])
            );
        }
        Ok(())
    });
    Some(outcome.and_then(|()| chaos.verdict()))
}

/// `SAMPAN_CHAOS_SECONDS`, `SAMPAN_CHAOS_SEED`: docs/testing.md.
#[test]
#[ignore = "takes minutes: make chaos"]
fn chaos() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("SAMPAN_CHAOS_SECONDS").unwrap_or(300);
    let seeds = match number("SAMPAN_CHAOS_SEED") {
        Some(seed) => vec![seed],
        None => {
            let now = u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()) % 1_000_000;
            vec![now, now + 1, now + 2]
        }
    };
    let share = Duration::from_secs(seconds) / u32::try_from(seeds.len()).unwrap();
    for seed in seeds {
        eprintln!("chaos: seed {seed}, {share:?}");
        match one_run(seed, share) {
            None => return,
            Some(Ok(())) => {}
            Some(Err(text)) => panic!(
                "{text}\nagain: make chaos SEED={seed} SECONDS={}; on Linux {:?}",
                share.as_secs(),
                World::kernel()
            ),
        }
    }
}
