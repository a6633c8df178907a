//! A host in which one service lives: it carries actions out, says what may happen next, and asserts at every step what
//! must hold. It knows the contract of the crate's page and nothing of the machine's inside.

use crate::samples;
use proptest::prelude::*;
use sampan_service::cause::{Down, Problem, Restart, Up, WaitFor};
use sampan_service::event::{Found, Verdict};
use sampan_service::policy::{OnFailure, OomPolicy, Readiness, RestartPolicy};
use sampan_service::{Action, Event, Exit, Job, Life, Ms, Now, Policy, Service, State, Wanted, step};
use std::time::Duration;

/// The main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Main {
    None,
    /// In the middle of a create: its death is the create's failure.
    Building,
    /// Created or started. Its death is an Exited.
    Alive {
        started: bool,
    },
}

/// What may happen; what cannot, in the present world, does nothing.
#[derive(Clone, Debug)]
pub enum Op {
    Wish(Event),
    Pass(u64),
    EarlyTimer,
    Grant,
    Block,
    Answer {
        ok: bool,
        config: bool,
    },
    Exit {
        code: i32,
        leaves: bool,
    },
    Empties,
    Says(Life),
    /// Of the life before.
    Late(Life),
    /// The worker dies and a new one adopts. `ends`: the process ends meanwhile; `seen`: its status can be read.
    Crash {
        ends: bool,
        seen: bool,
        released: bool,
    },
}

#[derive(Debug)]
pub struct World {
    pub service: Service,
    policy: Policy,
    now: Ms,
    luck: u32,
    main: Main,
    /// Processes besides the main one, and whether they have been killed.
    others: bool,
    killed: bool,
    /// Created, and not cleaned up since.
    remains: bool,
    owed: Option<Job>,
    timer: Option<Ms>,
    probing: bool,
    asking: bool,
    holding: bool,
    pub creates: u32,
    /// Reasons to start that the policy does not count.
    tickets: u32,
    crashes: bool,
}

impl World {
    pub fn new(policy: Policy, crashes: bool) -> World {
        World {
            service: Service::new(policy.clone()),
            policy,
            now: Ms(1_000),
            luck: 0,
            main: Main::None,
            others: false,
            killed: false,
            remains: false,
            owed: None,
            timer: None,
            probing: false,
            asking: false,
            holding: false,
            creates: 0,
            tickets: 0,
            crashes,
        }
    }

    pub fn run(&mut self, op: &Op) {
        self.luck = self.luck.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match op {
            Op::Wish(event) => self.wish(event),
            Op::Pass(ms) => {
                self.now.0 += ms;
                if self.timer.is_some_and(|at| at <= self.now) {
                    self.timer = None;
                    self.live(Life::Timer);
                }
            }
            Op::EarlyTimer => self.live(Life::Timer),
            Op::Grant if self.asking => {
                self.asking = false;
                self.holding = true;
                self.feed(&Event::Granted);
            }
            Op::Block if self.asking => self.feed(&Event::Blocked(WaitFor::StartSlot)),
            Op::Grant | Op::Block => {}
            Op::Answer { ok, config } => self.answer(*ok, *config),
            Op::Exit { code, leaves } => {
                if let Main::Alive { .. } = self.main {
                    self.main = Main::None;
                    self.others = *leaves && !self.killed;
                    let exit = if self.killed { Exit::signal(9) } else { Exit::code(*code) };
                    self.live(Life::Exited { exit, empty: !self.others });
                }
            }
            Op::Empties => {
                if self.others && self.killed && self.main == Main::None {
                    self.others = false;
                    self.live(Life::Empty);
                }
            }
            Op::Says(life) => {
                if self.main == (Main::Alive { started: true }) {
                    self.live(life.clone());
                }
            }
            Op::Late(life) => {
                if let Some(former) = self.service.generation.checked_sub(1) {
                    let before = self.service.clone();
                    self.feed(&Event::life(former, life.clone()));
                    assert_eq!(before, self.service, "a former life moved this one");
                }
            }
            Op::Crash { ends, seen, released } if self.crashes => self.crash(*ends, *seen, *released),
            Op::Crash { .. } => {}
        }
    }

    fn wish(&mut self, event: &Event) {
        match event {
            Event::Up(_) | Event::Restart(_) | Event::Replaced(_) | Event::Lost(_) => self.tickets += 1,
            _ => {}
        }
        self.feed(event);
    }

    fn live(&mut self, life: Life) {
        self.feed(&Event::life(self.service.generation, life));
    }

    fn answer(&mut self, ok: bool, config: bool) {
        let problem = if config { Problem::Config("no such user".to_owned()) } else { samples::problem() };
        let Some(job) = self.owed.take() else { return };
        let life = match job {
            Job::Create if ok && !self.killed => {
                self.main = Main::Alive { started: false };
                Life::Created
            }
            Job::Create => {
                self.main = Main::None;
                Life::CreateFailed(problem)
            }
            Job::Start if ok && self.main != Main::None => {
                self.main = Main::Alive { started: true };
                Life::Started
            }
            Job::Start => Life::StartFailed(problem),
            Job::Drain => Life::Drained,
            Job::Cleanup if ok => {
                (self.remains, self.killed) = (false, false);
                Life::CleanedUp
            }
            Job::Cleanup => Life::CleanupFailed(problem),
        };
        self.live(life);
    }

    fn crash(&mut self, ends: bool, seen: bool, released: bool) {
        let record = self.service.to_record();
        let get = |key: &str| record.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
        let again = Service::from_record(self.policy.clone(), get).expect("what was written can be read");
        assert_eq!(Service { policy: again.policy.clone(), next: None, ..self.service.clone() }, again);
        self.service = again;
        let starting = self.owed == Some(Job::Start);
        (self.owed, self.timer, self.probing, self.asking, self.holding) = (None, None, false, false, false);
        self.tickets += 1;
        // A child at a barrier reads its end and leaves, at once or in a moment.
        self.main = match self.main {
            Main::Alive { started: false } if starting && released => Main::Alive { started: true },
            main => main,
        };
        let exit = if seen { Exit::code(4) } else { Exit::UNKNOWN };
        let found = match self.main {
            Main::None => Found::Gone { empty: !self.others },
            Main::Building | Main::Alive { started: false } => {
                self.main = if ends { Main::None } else { Main::Alive { started: false } };
                self.killed |= !ends;
                if ends {
                    Found::Exited { exit, started: false, empty: true }
                } else {
                    Found::Alive { started: false }
                }
            }
            Main::Alive { started: true } if ends => {
                self.main = Main::None;
                self.others = false;
                if seen {
                    Found::Exited { exit, started: true, empty: true }
                } else {
                    Found::Gone { empty: true }
                }
            }
            Main::Alive { started: true } => Found::Alive { started: true },
        };
        self.live(Life::Adopted(found));
    }

    pub fn feed(&mut self, event: &Event) {
        let before = self.service.clone();
        for action in step(&mut self.service, event, Now::new(self.now, self.luck)) {
            self.act(action, event);
        }
        if before.state != self.service.state {
            assert!(!self.service.cause.is_empty(), "every transition has a cause");
        }
        self.check();
    }

    fn owe(&mut self, job: Job) {
        assert_eq!(self.owed, None, "one job at a time, not {job:?} as well");
        self.owed = Some(job);
    }

    fn act(&mut self, action: Action, event: &Event) {
        match action {
            Action::Create => {
                assert_eq!(self.main, Main::None, "two lives at once");
                assert!(!self.others && !self.remains, "a life among the remains of another");
                assert_eq!(self.service.wanted, Wanted::Up, "nobody wants it ({event})");
                assert!(self.holding, "a start without a slot");
                self.owe(Job::Create);
                self.main = Main::Building;
                (self.remains, self.killed) = (true, false);
                self.creates += 1;
            }
            Action::Start => self.owe(Job::Start),
            Action::Drain => self.owe(Job::Drain),
            Action::Cleanup { .. } => {
                assert_eq!(self.main, Main::None, "a cleanup under a living process");
                assert!(!self.others, "a cleanup under living processes");
                self.owe(Job::Cleanup);
            }
            Action::Signal(_) | Action::Thaw | Action::DropKept | Action::Announce => {}
            Action::KillCgroup => self.killed = true,
            Action::Arm { at } => self.timer = Some(at),
            Action::Disarm => self.timer = None,
            Action::HealthBegin => {
                assert!(!self.probing);
                self.probing = true;
            }
            Action::HealthEnd => {
                assert!(self.probing);
                self.probing = false;
            }
            Action::RequestStart => {
                assert!(!self.asking && !self.holding, "in the gate twice");
                self.asking = true;
            }
            Action::ReleaseStart => (self.asking, self.holding) = (false, false),
        }
    }

    /// What holds after every step.
    fn check(&self) {
        let service = &self.service;
        let state = &service.state;
        assert_eq!(service.job, self.owed, "the machine and the executor agree on what is owed");
        assert_eq!(
            state.deadline().is_some(),
            self.timer.is_some(),
            "no deadline without its timer: {state:?}"
        );
        assert_eq!(state.is_probed(), self.probing, "{state:?}");
        let gate = matches!(state, State::Waiting { .. } | State::Creating { .. } | State::Created { .. });
        assert_eq!(gate, self.asking || self.holding, "a slot is neither lost nor kept: {state:?}");
        if !state.has_life() {
            assert!(self.main == Main::None && !self.others && !self.remains, "forgotten: {self:?}");
        }
        if matches!(service.wanted, Wanted::Down(_)) {
            assert!(
                !matches!(state, State::Waiting { .. } | State::Backoff { .. } | State::Running { .. }),
                "goes on though it is not wanted: {state:?}"
            );
        }
        if state.is_at_rest() {
            assert!(!service.kept, "something is kept for a life that will not come");
        }
        if service.policy.attempts_max > 0 {
            assert!(service.attempts <= service.policy.attempts_max);
        }
        if self.policy.restart == RestartPolicy::No {
            assert!(
                self.creates <= self.tickets,
                "started {} times on {} wishes",
                self.creates,
                self.tickets
            );
        }
    }

    /// Everything that must happen happens, and a word of readiness; nothing else does. The process ignores every signal but SIGKILL.
    /// Ends where nothing more would ever happen by itself.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            let op = if self.owed.is_some() {
                Op::Answer { ok: true, config: false }
            } else if self.killed && self.main != Main::None {
                Op::Exit { code: 0, leaves: false }
            } else if self.killed && self.others {
                Op::Empties
            } else if self.asking {
                Op::Grant
            } else if matches!(self.service.state, State::Starting { .. }) {
                Op::Says(Life::Ready)
            } else if let Some(at) = self.timer {
                Op::Pass(at.0.saturating_sub(self.now.0))
            } else {
                return;
            };
            self.run(&op);
        }
        panic!("it goes on and on: {self:?}");
    }

    pub fn is_quiet(&self) -> bool {
        self.timer.is_none() && self.owed.is_none() && !self.probing && !self.asking && !self.holding
    }
}

pub fn ops(len: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 0..len)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => wish().prop_map(Op::Wish),
        4 => (0u64..40_000).prop_map(Op::Pass),
        1 => Just(Op::EarlyTimer),
        6 => Just(Op::Grant),
        1 => Just(Op::Block),
        10 => (prop::bool::weighted(0.85), prop::bool::weighted(0.1))
            .prop_map(|(ok, config)| Op::Answer { ok, config }),
        4 => (0..4i32, any::<bool>()).prop_map(|(code, leaves)| Op::Exit { code, leaves }),
        4 => Just(Op::Empties),
        3 => prop::sample::select(vec![
            Life::Ready,
            Life::Health(Verdict::Healthy),
            Life::Health(Verdict::Unhealthy("500".to_owned())),
            Life::Paused,
            Life::Resumed,
            Life::Oom,
        ]).prop_map(Op::Says),
        1 => prop::sample::select(vec![
            Life::Exited { exit: Exit::code(0), empty: true },
            Life::CleanedUp,
            Life::Started,
            Life::Timer,
        ]).prop_map(Op::Late),
        2 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(ends, seen, released)| Op::Crash { ends, seen, released }),
    ]
}

/// All wishes but the shutdown, which nothing takes back.
fn wish() -> impl Strategy<Value = Event> {
    prop::sample::select(vec![
        Event::Up(Up::Boot),
        Event::Up(Up::Hand),
        Event::Up(Up::Hand),
        Event::Up(Up::Dependant("web".to_owned())),
        Event::Down(Down::Hand),
        Event::Down(Down::Removed),
        Event::Restart(Restart::Hand),
        Event::Restart(Restart::Dependency("db".to_owned())),
        Event::Lost("db".to_owned()),
        Event::Hurry,
        Event::Kill(15),
    ])
}

pub fn policies() -> impl Strategy<Value = Policy> {
    let restart = prop::sample::select(vec![
        RestartPolicy::No,
        RestartPolicy::OnFailure,
        RestartPolicy::Always,
        RestartPolicy::UnlessStopped,
    ]);
    let readiness = prop::sample::select(vec![Readiness::Started, Readiness::Notified, Readiness::Healthy]);
    let on_failure =
        prop::sample::select(vec![OnFailure::Restart, OnFailure::Kill, OnFailure::Stop, OnFailure::None]);
    let oom = prop::sample::select(vec![OomPolicy::Kill, OomPolicy::Stop, OomPolicy::Continue]);
    (restart, readiness, on_failure, oom, 0..4u32, prop::sample::select(vec![0u64, 100, 3_000])).prop_map(
        |(restart, readiness, on_failure, oom, attempts_max, delay_ms)| {
            let base = samples::policy();
            let health = base.health.map(|h| sampan_service::policy::HealthPolicy { on_failure, ..h });
            let delay = Duration::from_millis(delay_ms);
            Policy { restart, readiness, health, oom, attempts_max, delay, ..base }
        },
    )
}
