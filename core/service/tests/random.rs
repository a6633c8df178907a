//! Random worlds from a seed: the same seed, the same world. What fails is told with its seed and the shortest script that
//! was found to fail, and `SAMPAN_SIMULATE_SEED` runs that seed alone.

use crate::samples;
use crate::world::{Crash, Op};
use sampan_service::cause::{Down, Restart, Up};
use sampan_service::event::Verdict;
use sampan_service::policy::{Begins, HealthPolicy, OnFailure, Readiness, RestartPolicy};
use sampan_service::{Exit, Life, Policy};
use std::time::Duration;

/// splitmix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// In so many of a hundred cases.
    fn percent(&mut self, many: u64) -> bool {
        self.below(100) < many
    }

    pub fn ops(&mut self, most: u64) -> Vec<Op> {
        (0..self.below(most + 1)).map(|_| self.op()).collect()
    }

    fn op(&mut self) -> Op {
        match self.below(63) {
            0..4 => self.wish(),
            4..6 => Op::Live(self.policy()),
            6..8 => Op::Replace(self.policy()),
            8 => Op::AddAgain(self.policy(), self.percent(70)),
            9..14 => Op::Pass(self.below(40_000)),
            14..16 => Op::Pass(self.of(&[0, 1, 10_000])),
            16 => Op::EarlyTimer,
            17..25 => Op::Grant,
            25 => Op::Block,
            26..38 => Op::Answer { ok: self.percent(85), config: self.percent(10) },
            38..42 => Op::Exit { exit: self.exit(), leaves: self.percent(50) },
            42..48 => Op::Kill,
            48..51 => Op::Empties,
            51 => Op::Freeze,
            52..55 => Op::Says(if self.percent(50) {
                Verdict::Healthy
            } else {
                Verdict::Unhealthy("500".to_owned())
            }),
            55 => Op::Late(self.late()),
            56..58 => Op::Crash(self.crash()),
            58 => {
                let done = usize::try_from(self.below(4)).unwrap();
                Op::CrashInside(done, self.crash())
            }
            59 => Op::Notes(Life::Ready),
            60 => Op::Notes(Life::Extend(Duration::from_millis(self.of(&[0, 1, 200_000])))),
            61 => Op::Notes(Life::Silent("no WATCHDOG=1".to_owned())),
            _ if self.percent(15) => Op::Shutdown,
            _ => Op::Hurry,
        }
    }

    fn wish(&mut self) -> Op {
        match self.below(14) {
            11 => Op::Up(Up::Config),
            12..14 => Op::Up(Up::Time),
            0 => Op::Up(Up::Boot),
            1..4 => Op::Up(Up::Hand),
            4 => Op::Up(Up::Dependant("web".to_owned())),
            5 => Op::Down(Down::Hand),
            6 => Op::Down(Down::Removed),
            7 => Op::Restart(Restart::Hand),
            8 => Op::Restart(Restart::Dependency("db".to_owned())),
            9 => Op::Restart(Restart::Bound("db".to_owned())),
            _ => Op::Signal(15),
        }
    }

    fn exit(&mut self) -> Exit {
        let oom = self.percent(20);
        Exit {
            oom,
            ..self.of(&[Exit::code(0), Exit::code(1), Exit::code(3), Exit::signal(9), Exit::UNKNOWN])
        }
    }

    fn late(&mut self) -> Life {
        let exit = Exit::code(0);
        match self.below(5) {
            0 => Life::Exited { exit, empty: true },
            1 => Life::CleanedUp,
            2 => Life::Started,
            3 => Life::Killed { empty: true },
            _ => Life::Timer,
        }
    }

    pub fn crash(&mut self) -> Crash {
        Crash {
            ends: self.percent(50),
            seen: self.percent(50),
            released: self.percent(50),
            landed: self.percent(50),
            keel: self.percent(40),
        }
    }

    pub fn policy(&mut self) -> Policy {
        let restart = self.of(&[
            RestartPolicy::No,
            RestartPolicy::OnFailure,
            RestartPolicy::Always,
            RestartPolicy::UnlessStopped,
        ]);
        let on_failure = self.of(&[OnFailure::Restart, OnFailure::Kill, OnFailure::Stop, OnFailure::None]);
        let base = samples::policy();
        let checked = base.health.map(|health| HealthPolicy { on_failure, ..health });
        let health = checked.filter(|_| self.percent(80));
        let job = matches!(restart, RestartPolicy::No | RestartPolicy::OnFailure);
        Policy {
            begins: if job && self.percent(40) { Begins::ByTime } else { Begins::AtOnce },
            restart,
            readiness: match self.below(3) {
                0 if health.is_some() => Readiness::Healthy,
                1 => Readiness::Notified,
                _ => Readiness::Started,
            },
            health,
            attempts_max: u32::try_from(self.below(4)).unwrap(),
            delay: Duration::from_millis(self.of(&[0, 100, 3_000])),
            stop_grace: Duration::from_millis(self.of(&[0, 1, 10_000])),
            start_timeout: self.of(&[None, Some(Duration::ZERO), Some(Duration::from_secs(90))]),
            ..base
        }
    }
}
