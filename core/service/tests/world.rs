//! A host in which one service lives: it carries actions out, says what may happen next, and asserts at every step what
//! must hold. It knows the contract of the crate's page and nothing of the machine's inside. Nothing in it is instantaneous:
//! a kill lands some time after it was asked for and is answered some time after that.

use crate::samples;
use sampan_service::cause::{Down, Problem, Restart, Up, WaitFor};
use sampan_service::event::{Found, Verdict};
use sampan_service::policy::{Begins, Readiness, RestartPolicy};
use sampan_service::state::{CleanupPhase, Rest};
use sampan_service::{Action, Exit, Facts, HasPolicy, Job, Life, Ms, Now, Policy, State, Wanted, step};

/// A policy, and a number by which one config is told from the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub version: u32,
    pub policy: Policy,
}

impl HasPolicy for Config {
    fn policy(&self) -> &Policy {
        &self.policy
    }
}

pub type Service = sampan_service::Service<Config>;
pub type Event = sampan_service::Event<Config>;

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

/// A kill of all processes that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    /// It will hit whatever is in the group when it lands.
    Asked,
    Landed,
}

/// What may happen; what cannot, in the present world, does nothing.
#[derive(Clone, Debug)]
pub enum Op {
    Up(Up),
    Down(Down),
    Restart(Restart),
    Hurry,
    Signal(i32),
    /// `apply` with a change that works live, or needs a new life.
    Live(Policy),
    Replace(Policy),
    /// It left the config and comes back.
    AddAgain(Policy, bool),
    /// sampand is asked to end.
    Shutdown,
    Pass(u64),
    EarlyTimer,
    Grant,
    Block,
    Answer {
        ok: bool,
        config: bool,
    },
    Exit {
        exit: Exit,
        leaves: bool,
    },
    /// A kill under way comes one step further.
    Kill,
    Empties,
    Freeze,
    Says(Verdict),
    /// What the service says of itself, or does not say any more.
    Notes(Life),
    /// Of the life before.
    Late(Life),
    Crash(Crash),
    /// In the next step with actions, after so many of them.
    CrashInside(usize, Crash),
}

/// The worker dies and a new one adopts.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// The process ends meanwhile.
    pub ends: bool,
    /// Its status can be read.
    pub seen: bool,
    /// The child was told to go on before the worker died.
    pub released: bool,
    /// A kill that was under way landed.
    pub landed: bool,
    /// The keel too: a shutdown is over with it.
    pub keel: bool,
}

#[derive(Debug)]
pub struct World {
    pub service: Service,
    /// Applied last.
    config: Config,
    now: Ms,
    jitter_share: u32,
    main: Main,
    /// Processes besides the main one.
    others: bool,
    /// A kill has landed: what there is will die.
    doomed: bool,
    frozen: bool,
    kill: Option<Kill>,
    /// Created, and not cleaned up since.
    remains: bool,
    /// The config whose things a cleanup left for the next life.
    kept: Option<u32>,
    cleaning: Option<(bool, u32)>,
    owed: Option<Job>,
    timer: Option<Ms>,
    probing: bool,
    asking: bool,
    holding: bool,
    pub shutdown: bool,
    inside: Option<(usize, Crash)>,
    pub creates: u32,
    /// Reasons to start that the policy does not count.
    tickets: u32,
    /// Every policy so far said `no`.
    only_no: bool,
    /// Steps of the machine.
    pub steps: u64,
}

impl World {
    pub fn new(policy: Policy) -> World {
        let config = Config { version: 0, policy };
        World {
            service: Service::new(config.clone()),
            only_no: config.policy.restart == RestartPolicy::No,
            config,
            now: Ms(1_000),
            jitter_share: 0,
            main: Main::None,
            others: false,
            doomed: false,
            frozen: false,
            kill: None,
            remains: false,
            kept: None,
            cleaning: None,
            owed: None,
            timer: None,
            probing: false,
            asking: false,
            holding: false,
            shutdown: false,
            inside: None,
            creates: 0,
            tickets: 0,
            steps: 0,
        }
    }

    pub fn run(&mut self, op: &Op) {
        self.jitter_share = self.jitter_share.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match op {
            Op::Up(_) | Op::Restart(_) | Op::Live(_) | Op::Replace(_) | Op::AddAgain(..) if self.shutdown => {
            }
            Op::Up(up) => self.wish(&Event::Up(up.clone())),
            Op::Restart(restart) => self.wish(&Event::Restart(restart.clone())),
            Op::Down(down) => self.feed(&Event::Down(*down)),
            Op::Hurry => self.feed(&Event::Hurry),
            Op::Signal(signal) => self.feed(&Event::Kill(*signal)),
            Op::Live(policy) => {
                // What works live works for what is kept, too.
                let version = self.config.version + 1;
                if self.service.next_config().is_none() {
                    self.kept = self.kept.map(|_| version);
                    self.cleaning = self.cleaning.map(|(keep, _)| (keep, version));
                }
                self.apply(policy, Event::Live);
            }
            Op::Replace(policy) => self.apply(policy, Event::Replaced),
            Op::AddAgain(policy, autostart) => self.add_again(policy, *autostart),
            Op::Shutdown => self.shutdown = true,
            Op::Pass(ms) => {
                self.now.0 += ms;
                if self.timer.is_some_and(|at| at <= self.now) {
                    self.timer = None;
                    self.live(Life::Timer);
                }
            }
            Op::EarlyTimer => self.live(Life::Timer),
            Op::Grant if self.asking && !self.shutdown => {
                self.asking = false;
                self.holding = true;
                self.feed(&Event::Granted);
            }
            Op::Block if self.asking => self.feed(&Event::Blocked(WaitFor::StartSlot)),
            Op::Grant | Op::Block => {}
            Op::Answer { ok, config } => self.answer(*ok, *config),
            Op::Exit { exit, leaves } => self.exit(*exit, *leaves),
            Op::Kill => self.kill_goes_on(),
            Op::Empties => self.others &= !(self.doomed && self.main == Main::None),
            Op::Freeze => self.frozen |= matches!(self.service.state, State::Running { .. }),
            Op::Says(verdict) => {
                if self.main == (Main::Alive { started: true }) {
                    self.live(Life::Health(verdict.clone()));
                }
            }
            Op::Notes(life) => {
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
            Op::Crash(crash) => self.crash(*crash),
            Op::CrashInside(done, crash) => self.inside = Some((*done, *crash)),
        }
        // As the supervisor does at the end of each turn.
        while self.shutdown && !self.service.comes_to_rest() {
            let wanted = self.service.wanted;
            self.feed(&Event::Shutdown);
            assert_eq!(self.service.wanted, wanted, "a shutdown is no wish about a service");
        }
        let over = self.service.wanted == Wanted::Down(Down::Removed) && self.service.is_over();
        if over && self.service.generation > 0 {
            // Its entry is dropped, and it is back at once, as a new one.
            self.service = Service::new(self.config.clone());
        }
    }

    fn wish(&mut self, event: &Event) {
        self.tickets += 1;
        self.feed(event);
    }

    fn apply(&mut self, policy: &Policy, event: impl Fn(Config) -> Event) {
        let version = self.config.version + 1;
        self.config = Config { version, policy: policy.clone() };
        self.only_no &= policy.restart == RestartPolicy::No;
        self.wish(&event(self.config.clone()));
    }

    fn add_again(&mut self, policy: &Policy, autostart: bool) {
        if self.service.wanted == Wanted::Down(Down::Removed) {
            self.apply(policy, Event::Replaced);
            assert_ne!(self.service.wanted, Wanted::Down(Down::Removed), "it is in the config");
            if autostart {
                self.wish(&Event::Up(Up::Config));
            }
        }
    }

    fn live(&mut self, life: Life) {
        self.feed(&Event::life(self.service.generation, life));
    }

    fn answer(&mut self, ok: bool, config: bool) {
        let problem = if config { Problem::Config("no such user".to_owned()) } else { samples::problem() };
        let Some(job) = self.owed.take() else { return };
        let life = match job {
            Job::Create if ok && !self.doomed => {
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
                (self.remains, self.doomed, self.frozen) = (false, false, false);
                self.kept = self.cleaning.take().filter(|(keep, _)| *keep).map(|(_, version)| version);
                Life::CleanedUp
            }
            Job::Cleanup => Life::CleanupFailed(problem),
        };
        self.live(life);
    }

    fn exit(&mut self, exit: Exit, leaves: bool) {
        if let Main::Alive { .. } = self.main
            && (!self.frozen || self.doomed)
        {
            self.main = Main::None;
            self.others = leaves && !self.doomed;
            let exit = if self.doomed { Exit::signal(9) } else { exit };
            self.live(Life::Exited { exit, empty: !self.others });
        }
    }

    fn kill_goes_on(&mut self) {
        match self.kill {
            None => {}
            Some(Kill::Asked) => {
                (self.kill, self.doomed) = (Some(Kill::Landed), self.remains);
            }
            Some(Kill::Landed) => {
                self.kill = None;
                self.live(Life::Killed { empty: self.main == Main::None && !self.others });
            }
        }
    }

    fn crash(&mut self, crash: Crash) {
        let Crash { ends, seen, released, landed, keel } = crash;
        let record = self.service.to_record();
        let get = |key: &str| record.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
        let facts = Facts::from_record(get).expect("what was written can be read");
        assert_eq!(facts, *self.service, "the record says it all");
        self.service = Service::with(self.config.clone(), facts);
        self.shutdown &= !keel;
        self.doomed |= landed && self.kill.take().is_some() && self.remains;
        self.kill = None;
        // What is kept for a next life the worker alone knows: the next one makes all anew.
        self.kept = None;
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
            Main::None if matches!(self.service.state, State::Lingering { .. }) => {
                let started = self.service.ran == self.service.generation;
                Found::Over { started, empty: !self.others }
            }
            Main::None => Found::Gone { empty: !self.others },
            Main::Building | Main::Alive { started: false } => {
                self.main = if ends { Main::None } else { Main::Alive { started: false } };
                self.doomed |= !ends;
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
        assert!(
            self.shutdown || self.service.state != State::Stopped { why: Rest::Shutdown },
            "a shutdown outlived its keel"
        );
    }

    pub fn feed(&mut self, event: &Event) {
        self.steps += 1;
        let before = self.service.clone();
        let actions = step(&mut self.service, event, Now::new(self.now, self.jitter_share));
        let cut = self.inside.filter(|_| !actions.is_empty());
        if let Some((done, crash)) = cut {
            self.inside = None;
            actions.into_iter().take(done).for_each(|action| self.act(action, event));
            // Nothing that was to be done after the crash is done by anybody but the next worker.
            self.crash(crash);
            return;
        }
        for action in actions {
            self.act(action, event);
        }
        self.check_step(&before, event);
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
                assert_eq!(self.kill, None, "a kill of the last life will hit this one");
                assert!(!self.shutdown, "a start during a shutdown");
                assert_eq!(
                    *self.service.config(),
                    self.config,
                    "a life by a config that is not the last one applied"
                );
                assert!(
                    self.kept.take().is_none_or(|version| version == self.config.version),
                    "what another config had, a published port, is kept for this one"
                );
                self.owe(Job::Create);
                self.main = Main::Building;
                (self.remains, self.doomed) = (true, false);
                self.creates += 1;
            }
            Action::Start => self.owe(Job::Start),
            Action::Drain => {
                assert!(!self.frozen, "a frozen process hears nothing");
                self.owe(Job::Drain);
            }
            Action::Cleanup { keep } => {
                assert_eq!(self.main, Main::None, "a cleanup under a living process");
                assert!(!self.others, "a cleanup under living processes");
                self.cleaning = Some((keep, self.service.config().version));
                self.owe(Job::Cleanup);
            }
            Action::Signal(_) | Action::Announce => {}
            Action::Thaw => self.frozen = false,
            Action::DropKept => self.kept = None,
            Action::KillCgroup => {
                assert_eq!(self.kill, None, "one kill at a time");
                (self.kill, self.frozen) = (Some(Kill::Asked), false);
            }
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

    /// What holds of one step.
    fn check_step(&self, before: &Service, event: &Event) {
        let after = &self.service;
        assert!(before.state == after.state || !after.cause.is_empty(), "every transition has a cause");
        if before.last_exit != after.last_exit {
            let told = match event {
                Event::Life { life: Life::Exited { exit, .. }, .. }
                | Event::Life { life: Life::Adopted(Found::Exited { exit, .. }), .. } => *exit,
                Event::Life { life: Life::Started, .. } => match before.state {
                    State::Lingering { remains: CleanupPhase::Answer { exit, .. }, .. } => exit,
                    _ => panic!("an exit told by a start"),
                },
                _ => Exit::UNKNOWN,
            };
            assert_eq!(after.last_exit, Some(told), "an exit status that nobody has seen ({event})");
        }
        let runs = |service: &Service| matches!(service.state, State::Running { .. });
        if runs(after) && !runs(before) && after.config().policy.readiness == Readiness::Notified {
            assert!(
                matches!(event, Event::Life { life: Life::Ready, .. }),
                "ready though it has not said so: {event}"
            );
        }
        if *event == Event::Up(Up::Time) && !before.waits_for_time() {
            assert_eq!(before, after, "a time is no wish");
        }
        let unasked = matches!(event, Event::Up(Up::Boot | Up::Config) | Event::Live(_) | Event::Replaced(_))
            || matches!(event, Event::Restart(restart) if *restart != Restart::Hand);
        if unasked && self.config.policy.begins == Begins::ByTime && before.state.is_at_rest() {
            assert!(after.state.is_at_rest(), "a job begins before its time ({event})");
        }
        let done = |service: &Service| service.state == State::Stopped { why: Rest::Finished };
        if done(before) && !done(after) {
            assert!(
                matches!(event, Event::Up(_) | Event::Restart(_)),
                "done stays done until asked, not: {event}"
            );
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
        let gate = match state {
            State::Waiting { .. } => self.kill.is_none(),
            State::Creating { .. } | State::Created { .. } => true,
            _ => false,
        };
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
        if *state == (State::Stopped { why: Rest::Scheduled }) {
            assert!(service.waits_for_time(), "it waits for a time that is not its own: {service:?}");
        }
        if state.is_at_rest() {
            assert!(!service.kept && self.kept.is_none(), "something is kept for a life that will not come");
        }
        let next = service.next_config().unwrap_or_else(|| service.config());
        assert_eq!(next, &self.config, "the config that was applied last is lost");
        assert!(service.next_config().is_none() || state.has_life(), "nobody waits for the next config");
        if self.only_no {
            assert!(
                self.creates <= self.tickets,
                "started {} times on {} wishes",
                self.creates,
                self.tickets
            );
        }
    }

    /// Everything that must happen happens, and a word of health; nothing else does. The process ignores every signal but SIGKILL.
    /// Ends where nothing more would ever happen by itself.
    pub fn settle(&mut self) {
        for _ in 0..300 {
            let op = if self.owed.is_some() {
                Op::Answer { ok: true, config: false }
            } else if self.doomed && self.main != Main::None {
                Op::Exit { exit: Exit::code(0), leaves: false }
            } else if self.doomed && self.others && self.main == Main::None {
                Op::Empties
            } else if self.kill.is_some() {
                Op::Kill
            } else if self.asking && !self.shutdown {
                Op::Grant
            } else if matches!(self.service.state, State::Starting { .. }) {
                match self.config.policy.readiness {
                    Readiness::Notified => Op::Notes(Life::Ready),
                    Readiness::Started | Readiness::Healthy => Op::Says(Verdict::Healthy),
                }
            } else if let Some(at) = self.timer {
                Op::Pass(at.0.saturating_sub(self.now.0))
            } else {
                return;
            };
            self.run(&op);
        }
        panic!("it goes on and on: {self:?}");
    }

    /// A crash that has not come yet does not come.
    pub fn forget_crash(&mut self) {
        self.inside = None;
    }

    pub fn is_quiet(&self) -> bool {
        self.timer.is_none()
            && self.owed.is_none()
            && self.kill.is_none()
            && !self.probing
            && !self.asking
            && !self.holding
    }
}
