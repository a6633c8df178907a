//! Who does it all: kills, stops, fills the disk, edits config.toml at the wrong moment.
use super::Chaos;
use crate::e2e::world::Random;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::time::{Duration, Instant};

/// What must be taken back.
enum Undo {
    Continue(OwnedFd),
    Thaw(String),
    MakeRoom,
}

pub struct Adversary<'a> {
    chaos: &'a mut Chaos,
    random: Random,
    later: Vec<(Instant, Undo)>,
    /// An odd seed.
    may_kill_all: bool,
}

/// A process of sampand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Keel,
    Worker,
    Holder,
}

impl<'a> Adversary<'a> {
    pub fn new(chaos: &'a mut Chaos, seed: u64) -> Adversary<'a> {
        // Numbers near each other would begin alike.
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let random = Random::seeded(mixed);
        Adversary { chaos, random, later: Vec::new(), may_kill_all: seed % 2 == 1 }
    }

    /// Until the time is over; then all is taken back, and the services are as they were configured.
    pub fn rage(mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.act();
            let pause = Instant::now() + Duration::from_millis(20 + self.random.below(480));
            while Instant::now() < pause {
                self.undo(false);
                std::thread::sleep(Duration::from_millis(10));
            }
            if self.quiet() {
                self.chaos.listen();
            }
        }
        self.undo(true);
        self.chaos.note("it is over");
        for service in &mut self.chaos.services {
            if service.absent {
                service.absent = false;
            }
        }
        self.chaos.configure();
        self.chaos.world.until("the config is applied", |world| world.ctl(&["apply"]).code == 0);
        self.chaos.listen();
    }

    /// Nothing of sampand is stopped, so it answers.
    fn quiet(&self) -> bool {
        !self.later.iter().any(|(_, undo)| matches!(undo, Undo::Continue(_)))
    }

    fn later(&mut self, most_ms: u64, undo: Undo) {
        let after = Duration::from_millis(50 + self.random.below(most_ms));
        self.later.push((Instant::now() + after, undo));
    }

    fn undo(&mut self, all: bool) {
        let now = Instant::now();
        let due: Vec<_> = self.later.extract_if(.., |(at, _)| all || *at <= now).collect();
        for (_, undo) in due {
            match undo {
                Undo::Continue(process) => {
                    let _ = pidfd_send_signal(&process, Signal::CONT);
                    self.chaos.note("continued");
                }
                Undo::Thaw(name) => {
                    let ran = self.chaos.world.sampan(&["resume", &name]);
                    self.chaos.note(format!("resume {name}: {} {}", ran.code, ran.err.trim()));
                }
                Undo::MakeRoom => {
                    let _ = fs::remove_file(self.chaos.disk.path().join("fill"));
                    self.chaos.note("the disk has room");
                }
            }
        }
    }

    fn act(&mut self) {
        use Part::{Holder, Keel, Worker};
        match self.random.below(100) {
            0..12 => self.kill_parts(&[Worker]),
            12..18 => self.kill_parts(&[Keel]),
            18..24 => self.kill_parts(&[Holder]),
            24..29 => self.kill_parts(&[Keel, Worker]),
            29..32 => self.kill_parts(&[Holder, Worker]),
            32..34 => self.kill_parts(&[Keel, Holder]),
            34..36 => self.kill_parts(&[Keel, Holder, Worker]),
            36..56 => self.kill_services(),
            56..61 => self.stop_part(),
            61..68 => self.stop_service(),
            68..73 => self.fill(),
            73..82 => self.apply(),
            82..88 => self.pause(),
            88..91 => self.planned_restart(),
            91..97 => self.by_hand(),
            _ => self.broken_config(),
        }
    }

    fn pid(&self, part: Part) -> Option<i32> {
        match part {
            Part::Keel => Some(self.chaos.world.keel()),
            Part::Worker => self.chaos.world.worker(),
            Part::Holder => self.chaos.world.holder(),
        }
    }

    /// By pidfd: what has the number when it is opened must still be who was meant.
    fn open(&self, part: Part) -> Option<OwnedFd> {
        let pid = self.pid(part)?;
        let pidfd = open(pid)?;
        (self.pid(part) == Some(pid)).then_some(pidfd)
    }

    fn kill_parts(&mut self, parts: &[Part]) {
        let keel = parts.contains(&Part::Keel);
        let all = keel && (parts.contains(&Part::Holder) || self.chaos.world.holder().is_none());
        if all && !self.may_kill_all {
            return;
        }
        let found: Vec<_> = parts.iter().filter_map(|part| self.open(*part)).collect();
        self.chaos.unheld |= all;
        self.chaos.note(format!("kill {parts:?}{}", if all { ": nobody holds anything" } else { "" }));
        for process in &found {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        if keel {
            self.chaos.world.ended();
            self.begin_again();
        }
    }

    /// Sometimes at once, sometimes others have died or config.toml was edited meanwhile.
    fn begin_again(&mut self) {
        if self.random.below(2) == 0 {
            self.kill_services();
        }
        if self.random.below(4) == 0 {
            self.edit();
        }
        let pause = self.random.below(600);
        std::thread::sleep(Duration::from_millis(pause));
        self.undo(false);
        self.chaos.note("start sampand");
        self.chaos.start();
    }

    fn kill_services(&mut self) {
        let most = if self.random.below(12) == 0 { super::MANY } else { 1 + self.random.below(5) as usize };
        let mut killed = Vec::new();
        for n in 0..super::MANY {
            let n = if most == super::MANY { n } else { self.random.below(super::MANY as u64) as usize };
            let name = self.chaos.services[n].name.clone();
            if killed.len() < most && self.signal_service(&name, Signal::KILL).is_some() {
                self.chaos.done.get_mut(&name).unwrap().killed += 1;
                killed.push(name);
            }
        }
        self.chaos.note(format!("kill {}", killed.join(" ")));
    }

    /// The main process of a service, which is in its cgroup before and after it is opened.
    fn signal_service(&self, name: &str, signal: Signal) -> Option<OwnedFd> {
        let main = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.starts_with(b"/bin/talker\0/account"))
        };
        let processes = || self.chaos.world.processes(name).into_iter().find(main);
        let pid = processes()?;
        let pidfd = open(pid)?;
        if processes() != Some(pid) {
            return None;
        }
        pidfd_send_signal(&pidfd, signal).ok().map(|()| pidfd)
    }

    fn any_service(&mut self) -> usize {
        self.random.below(super::MANY as u64) as usize
    }

    fn stop_part(&mut self) {
        let (part, most) =
            [(Part::Worker, 3000), (Part::Keel, 1000), (Part::Holder, 3000)][self.random.below(3) as usize];
        let Some(process) = self.open(part) else { return };
        let _ = pidfd_send_signal(&process, Signal::STOP);
        self.chaos.note(format!("stop {part:?}"));
        self.later(most, Undo::Continue(process));
    }

    fn stop_service(&mut self) {
        let n = self.any_service();
        let name = self.chaos.services[n].name.clone();
        if let Some(process) = self.signal_service(&name, Signal::STOP) {
            self.chaos.note(format!("stop {name}"));
            self.later(3000, Undo::Continue(process));
        }
    }

    fn fill(&mut self) {
        use std::io::Write;
        let Ok(mut file) = fs::File::create(self.chaos.disk.path().join("fill")) else { return };
        let block = vec![0; 4096];
        while file.write_all(&block).is_ok() {}
        self.chaos.note("the disk is full");
        self.later(3000, Undo::MakeRoom);
    }

    /// Some services change; what must live anew is counted as stopped once.
    fn edit(&mut self) {
        let mut changed = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let (n, what) = (self.any_service(), self.random.below(3));
            let service = &mut self.chaos.services[n];
            match what {
                0 => service.version += 1,
                1 => service.pids += 1,
                _ => service.absent = !service.absent,
            }
            self.chaos.done.get_mut(&service.name).unwrap().ordered += u64::from(what != 1);
            changed.push(format!("{} {}", service.name, ["version", "pids", "absent"][what as usize]));
        }
        self.chaos.configure();
        self.chaos.note(format!("edit {}", changed.join(", ")));
    }

    fn apply(&mut self) {
        self.edit();
        if self.quiet() {
            let ran = self.chaos.world.ctl(&["apply"]);
            self.chaos.note(format!("apply: {} {}", ran.code, ran.err.trim()));
        }
    }

    fn pause(&mut self) {
        let n = self.any_service();
        let name = self.chaos.services[n].name.clone();
        let ran = self.chaos.world.sampan(&["pause", &name]);
        self.chaos.note(format!("pause {name}: {} {}", ran.code, ran.err.trim()));
        self.later(2500, Undo::Thaw(name));
    }

    fn planned_restart(&mut self) {
        if !self.quiet() {
            return;
        }
        self.chaos.note("SIGTERM, with keep");
        self.chaos.world.signal(libc::SIGTERM);
        let ended = self.chaos.world.ended();
        assert_eq!(ended, Some(0), "a planned restart; sampand said:\n{}", self.chaos.world.said());
        self.begin_again();
    }

    fn by_hand(&mut self) {
        if !self.quiet() {
            return;
        }
        let n = self.any_service();
        let name = self.chaos.services[n].name.clone();
        self.chaos.done.get_mut(&name).unwrap().ordered += 1;
        let ran = self.chaos.world.ctl(&["restart", &name]);
        self.chaos.note(format!("restart {name}: {} {}", ran.code, ran.err.trim()));
    }

    /// run_dir can still be read.
    fn spoil(&self) {
        let text = fs::read_to_string(self.chaos.world.config()).unwrap();
        fs::write(self.chaos.world.config(), format!("{text}\n[[[ not toml\n")).unwrap();
    }

    /// An operator saves half an edit, and a worker dies.
    fn broken_config(&mut self) {
        self.spoil();
        self.chaos.note("config.toml is broken");
        // Where nothing lives, a start needs a config that can be read.
        let something_lives = !self.chaos.world.processes("s05").is_empty();
        let held = self.chaos.world.holder().is_some() || self.may_kill_all;
        if self.random.below(2) == 0 || !something_lives || !held {
            self.kill_parts(&[Part::Worker]);
        } else if let Some(keel) = self.open(Part::Keel) {
            self.chaos.unheld |= self.chaos.world.holder().is_none();
            self.chaos.note("kill Keel");
            let _ = pidfd_send_signal(&keel, Signal::KILL);
            self.chaos.world.ended();
            self.chaos.start();
        }
        if self.quiet() {
            // A start may have found it edited.
            self.spoil();
            let ran = self.chaos.world.ctl(&["apply"]);
            assert_ne!(ran.code, 0, "a broken config is applied: {ran:?}");
        }
        self.chaos.configure();
    }
}

fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}
