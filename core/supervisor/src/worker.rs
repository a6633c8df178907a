//! The worker's one loop: sources become messages, messages become events, events become actions.
//!
//! ```text
//!   pidfds  timers  signals  clients  jobs' answers
//!       \      |      |        |       /
//!        +-> Message -> [ step: (Service, Event) -> Actions ] -> journal -> executor
//!                          core/service, pure               intent first
//! ```
//! A turn takes what has come, then settles: the start gate, the order of a shutdown, clients that wait. Nothing in a turn
//! blocks; what may take time (launching, cleaning up, plugins) is a job that answers by a message. A watchdog in the
//! keel ends a worker whose turn does not end.
use crate::behind::Behind;
use crate::bus::Bus;
use crate::executor::Ground;
use crate::fleet::{Entry, Fleet};
use crate::life::Born;
use crate::opening::Then;
use crate::probe::{Probes, Report};
use crate::request::{Answer, Request};
use crate::settings::{Event, Service, Settings};
use crate::shutdown::Shutdown;
use crate::tidy::Tidy;
use crate::waiters::Waiter;
use crate::{clock, fleet};
use sampan_api as api;
use sampan_journal::{self as journal, Journal};
use sampan_keel::Order;
use sampan_service::desired::Desired;
use sampan_service::graph::Graph;
use sampan_service::limits::Gate;
use sampan_service::sabotage::{Invariant, broken};
use sampan_service::{Down, Exit, Life, Now, Problem, State, Up, WaitFor, Wanted};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Messages taken in one turn; the rest waits for the next, so that no turn grows with the load.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// The keel ends a worker whose turn lasts longer.
const TURN_MAX: Duration = Duration::from_secs(30);

/// What sources and jobs send to the loop.
#[derive(Debug)]
pub enum Message {
    /// An event of one service, from a job or a timer.
    Service {
        name: Arc<str>,
        event: Event,
    },
    /// The answer to `Create`.
    Born {
        name: Arc<str>,
        generation: u64,
        result: Result<Box<Born>, Problem>,
    },
    /// The pidfd of a main process is readable.
    Exited {
        name: Arc<str>,
        generation: u64,
    },
    Probed(Report),
    Request(Request),
    Order(Order),
    /// The start gate may say something else now.
    Gate,
    /// `shutdown_timeout` is over.
    Hurry,
    /// What is not stopped by now does not stop.
    GiveUp,
}

/// How sampand ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is stopped and removed.
    Stopped,
    /// Something would not stop or could not be removed, most likely for a dead mount: it is left to the next sampand.
    Left,
    /// `on_exit = "keep"`: containers run on.
    Kept,
}

pub struct Worker {
    pub ground: Rc<Ground>,
    pub fleet: Fleet,
    pub graph: Graph,
    pub gate: Gate,
    /// The gate may say something else than before.
    pub gate_dirty: bool,
    pub journal: Journal,
    pub behind: Behind,
    pub desired: journal::Desired,
    pub bus: Bus,
    pub(crate) tidy: Tidy,
    pub probes: Probes,
    pub waiters: Vec<Waiter>,
    /// The loop's own connection.
    pub keel: sampan_keel::Keel,
    pub lives: u32,
    pub next_handle: u64,
    /// What `adopt` found, to be told before any other event.
    pub adopted: Vec<(Arc<str>, Event)>,
    pub(crate) ending: Option<Shutdown>,
    /// `Down` requests are answered at the very end.
    pub(crate) farewell: Vec<Answer<api::Done>>,
    pub(crate) kept: bool,
}

impl Worker {
    pub fn new(
        ground: Rc<Ground>,
        keel: sampan_keel::Keel,
        journal: Journal,
        desired: journal::Desired,
        lives: u32,
    ) -> Worker {
        let config = ground.config();
        let (slots, storm) = fleet::limits(&config.supervisor, clock::boottime());
        let (reports, mut reported) = mpsc::unbounded_channel();
        let send = ground.send.clone();
        tokio::task::spawn_local(async move {
            while let Some(report) = reported.recv().await {
                let _ = send.send(Message::Probed(report));
            }
        });
        Worker {
            graph: fleet::graph(&config),
            gate: Gate::new(slots, storm),
            gate_dirty: true,
            ground,
            fleet: Fleet::default(),
            journal,
            behind: None,
            desired,
            bus: Bus::default(),
            tidy: Tidy::default(),
            probes: Probes::new(reports),
            waiters: Vec::new(),
            keel,
            lives,
            next_handle: 1,
            adopted: Vec::new(),
            ending: None,
            farewell: Vec::new(),
            kept: false,
        }
    }

    /// Tells the services that live what became of them, and brings the config into force.
    pub fn begin(&mut self, then: Then) -> Result<(), String> {
        for (name, event) in std::mem::take(&mut self.adopted) {
            self.apply(&name, &event);
        }
        self.begin_with(then)
    }

    /// Runs until sampand is asked to end.
    pub async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) -> (Outcome, Worker) {
        // Asked to end before it began, it starts nothing.
        if !self.is_ending() {
            self.boot();
        }
        loop {
            {
                let keel = self.keel.clone();
                let _turn = keel.watchdog().turn(TURN_MAX);
                self.settle();
                if let Some(outcome) = self.over() {
                    return (outcome, self);
                }
            }
            let Some(first) = messages.recv().await else { return (Outcome::Kept, self) };
            let keel = self.keel.clone();
            let _turn = keel.watchdog().turn(TURN_MAX);
            self.take(first);
            for _ in 1..MESSAGES_PER_TURN_MAX {
                match messages.try_recv() {
                    Ok(message) => self.take(message),
                    Err(_) => break,
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Service { name, event } => self.apply(&name, &event),
            Message::Born { name, generation, result } => self.born(&name, generation, result),
            Message::Exited { name, generation } => self.exited(&name, generation),
            Message::Probed(report) => self.probed(&report),
            Message::Request(request) => self.request(request),
            Message::Order(order) => self.order(order),
            Message::Gate => self.gate_dirty = true,
            Message::Hurry => self.hurry(),
            Message::GiveUp => self.give_up(),
        }
    }

    /// One event of one service: step, write down, act.
    pub fn apply(&mut self, name: &str, event: &Event) {
        let now = Now::new(clock::boottime(), luck());
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let before = entry.machine.clone();
        let actions = sampan_service::step(&mut entry.machine, event, now);
        if entry.machine != before {
            self.record(name, &before, event);
        }
        for action in actions {
            self.act(name, action);
        }
        self.after(name, &before);
    }

    /// The transition's record, then its line, then everybody who listens.
    fn record(&mut self, name: &str, before: &Service, event: &Event) {
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let machine = &entry.machine;
        if machine.state == before.state && machine.wanted == before.wanted && machine.job == before.job {
            return;
        }
        if broken(Invariant::LostRecord) && machine.state.name() == "running" {
            return;
        }
        let data = record_data(entry);
        let cause = event.to_string();
        let written = self.journal.append(&journal::Entry {
            service: name,
            generation: machine.generation,
            from: before.state.name(),
            to: machine.state.name(),
            cause: &cause,
            data: &data,
        });
        let health = (before.state.health(), machine.state.health());
        if before.state.name() != machine.state.name() || health.0 != health.1 {
            tell(name, before, machine, brief(event, &cause));
        }
        self.bus.publish(&transition(&written));
    }

    /// What follows from a transition beside its actions.
    fn after(&mut self, name: &str, before: &Service) {
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let is_ready = |state: &State| matches!(state, State::Running { .. });
        if is_ready(&entry.machine.state) && !is_ready(&before.state) {
            self.ground.tell_ready(entry);
        }
        // A life that is over by the machine's account gives up what belonged to it.
        if before.state.has_life() && !entry.machine.state.has_life() {
            entry.live = None;
        }
        if entry.machine.wanted == Wanted::Down(Down::Removed) && entry.machine.is_over() {
            self.ground.forget(name);
            self.fleet.entries.remove(name);
        }
    }

    fn born(&mut self, name: &str, generation: u64, result: Result<Box<Born>, Problem>) {
        self.tidy.soon();
        let life = match result {
            Ok(born) => {
                if let Some(entry) = self.fleet.get_mut(name) {
                    entry.owners = born.owners;
                    entry.live = Some(self.ground.watch(
                        &entry.name,
                        generation,
                        born.process,
                        born.netns,
                        Some(born.gate),
                    ));
                }
                Life::Created
            }
            Err(problem) => {
                let problem = match self.fleet.get(name) {
                    Some(entry) => self.ground.located(problem, entry.config()),
                    None => problem,
                };
                // One that does not go away is told once, when the service has failed.
                if !matches!(problem, Problem::Config(_)) {
                    tracing::warn!(service = name, "cannot create: {problem}");
                }
                Life::CreateFailed(problem)
            }
        };
        self.apply(name, &Event::life(generation, life));
    }

    /// Reads the status without reaping, writes it down, then lets the kernel forget it: no window in which it is lost.
    fn exited(&mut self, name: &str, generation: u64) {
        let Some(entry) = self.fleet.get(name) else { return };
        let Some(live) = entry.live.as_ref().filter(|live| live.generation == generation) else { return };
        let (pid, handle) = (live.pid, live.handle.clone());
        let status = self.ground.exit_status(&self.keel, live);
        let (oom_kills, empty) = self.ground.last_look(name);
        let oom = oom_kills > live.oom_before;
        let exit = Exit { status, oom };
        // Perhaps by a kill of all of its group, which `sampan kill --all` and others may ask for.
        if status == sampan_service::Status::Signal(libc::SIGKILL) {
            self.ground.note_kill(name);
        }
        let lived = live.started_at.and_then(|at| at.elapsed().ok());
        if oom {
            self.ground.tell_oom(entry, oom_kills - live.oom_before);
        }
        if let Some(entry) = self.fleet.get(name) {
            self.ground.tell_exit(entry, exit, lived);
        }
        self.apply(name, &Event::life(generation, Life::Exited { exit, empty }));
        if let Some(handle) = handle
            && let Err(error) = self.keel.let_go(&handle)
        {
            tracing::warn!(service = name, pid, "cannot reap: {error}");
        }
    }

    /// A health check has changed its mind.
    fn probed(&mut self, report: &Report) {
        if let (Event::Life { life: Life::Health(verdict), generation }, Some(entry)) =
            (&report.event, self.fleet.get(&report.service))
            && entry.machine.generation == *generation
        {
            self.ground.tell_health(entry, verdict);
        }
        self.apply(&report.service, &report.event);
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Reload if self.is_ending() => {
                tracing::warn!("SIGHUP: sampand is stopping, nothing changed")
            }
            Order::Reload => match self.ground.reload() {
                Ok(loaded) => {
                    if let Err(why) = self.replace_config(loaded) {
                        tracing::error!("{why}; nothing changed");
                    }
                }
                Err(text) => tracing::error!("the config has errors, nothing changed\n{text}"),
            },
            Order::Terminate if self.ground.keeps_on_exit() && self.ending.is_none() => {
                tracing::info!("SIGTERM: containers run on (on_exit = \"keep\")");
                self.kept = true;
            }
            _ if self.ending.is_some() => self.hurry(),
            _ => self.end("asked to stop; once more to hurry"),
        }
    }

    /// What a turn leaves to be done once: gate, order of the shutdown, clients.
    fn settle(&mut self) {
        loop {
            let mut moved = self.run_gate();
            if self.ending.is_some() {
                moved |= self.stop_next();
            }
            if !moved {
                break;
            }
        }
        self.limit_the_last();
        self.mind_journal();
        self.answer_waiters();
    }

    fn run_gate(&mut self) -> bool {
        if !std::mem::take(&mut self.gate_dirty) || self.ending.is_some() {
            return false;
        }
        let (fleet, graph, ground) = (&self.fleet, &self.graph, &self.ground);
        let standing = |name: &str| fleet.get(name).map(|entry| entry.machine.standing());
        let events = self.gate.turn(clock::boottime(), |name| {
            graph.blocker(name, standing).or_else(|| ground.missing_plugin(name).map(WaitFor::Plugin))
        });
        if let Some(at) = self.gate.wake_at() {
            self.ground.wake_gate(at);
        }
        for (name, event) in &events {
            self.apply(name, event);
        }
        !events.is_empty()
    }

    /// Saves what must survive a reboot, off the loop.
    pub fn save_desired(&mut self) {
        self.note_desired();
        self.ground.save_desired(self.desired.clone());
    }

    fn note_desired(&mut self) {
        for (name, entry) in &self.fleet.entries {
            let wish = self.desired.services.entry(name.to_string()).or_default();
            match entry.machine.wanted {
                Wanted::Up => wish.stopped = false,
                Wanted::Down(Down::Hand) => wish.stopped = true,
                Wanted::Down(Down::Idle | Down::Removed) => {}
            }
            wish.restarts = entry.machine.restarts;
            wish.attempt = entry.machine.attempts;
            wish.delay_left_ms = match entry.machine.state {
                State::Backoff { until, .. } => {
                    Some(u64::try_from(until.since(clock::boottime()).as_millis()).unwrap_or(u64::MAX))
                }
                _ => None,
            };
        }
    }

    /// Everything that is to run at boot is asked for, and what it needs with it.
    pub fn boot(&mut self) {
        // The journal may know of a stop by hand that desired.json did not get to see. `always` starts what a hand has
        // stopped when sampand starts, not when a worker follows another.
        self.note_desired();
        let stays = |wanted| wanted == Wanted::Up || (self.lives > 1 && wanted == Wanted::Down(Down::Hand));
        let configs: Vec<(String, Settings)> = self
            .fleet
            .entries
            .values()
            .filter(|entry| !stays(entry.machine.wanted))
            .map(|entry| (entry.name.to_string(), entry.machine.applied().clone()))
            .collect();
        let services = configs
            .iter()
            .map(|(name, config)| (name.clone(), Desired { config, autostart: config.autostart }))
            .collect();
        let order: Vec<String> = self.graph.start_order().map(str::to_owned).collect();
        let events = sampan_service::desired::boot(&services, &self.held(), order.iter().map(String::as_str));
        for (name, event) in events {
            self.with_needs(&name, false);
            self.apply(&name, &event);
        }
    }

    /// Asks for what `name` depends on. A dependency that a hand has stopped stays stopped, and one that failed is left so,
    /// unless a hand asks for `name`.
    pub fn with_needs(&mut self, name: &str, by_hand: bool) {
        let needs: Vec<String> = self.graph.with_needs(name).into_iter().map(str::to_owned).collect();
        for need in needs.iter().filter(|need| *need != name) {
            let Some(entry) = self.fleet.get(need) else { continue };
            if by_hand
                || entry.machine.wanted != Wanted::Up && entry.machine.wanted != Wanted::Down(Down::Hand)
            {
                self.apply(need, &Event::Up(Up::Dependant(name.to_owned())));
            }
        }
    }

    /// Stopped by hand, by desired.json.
    pub fn held(&self) -> BTreeSet<String> {
        self.desired.services.iter().filter(|(_, wish)| wish.stopped).map(|(name, _)| name.clone()).collect()
    }
}

/// The machine's record with what the executor must find again.
fn record_data(entry: &Entry) -> serde_json::Value {
    let mut data: serde_json::Map<String, serde_json::Value> =
        entry.machine.to_record().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    data.insert("handle".into(), entry.handle.into());
    if let Some(live) = &entry.live {
        data.insert("pid".into(), live.pid.into());
        data.insert("oom_before".into(), live.oom_before.into());
        if let Some(at) = live.started_at {
            data.insert("started_at".into(), clock::rfc3339(at).into());
        }
    }
    serde_json::Value::Object(data)
}

/// A journal record as clients see it.
pub fn transition(record: &journal::Record) -> api::Transition {
    api::Transition {
        seq: record.seq,
        time: clock::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(record.time)),
        service: record.service.clone(),
        generation: record.generation,
        from: record.from.clone(),
        to: record.to.clone(),
        cause: record.cause.clone(),
        data: record.data.as_object().cloned().unwrap_or_default(),
    }
}

/// The cause without what was told beside it.
fn brief<'c>(event: &Event, cause: &'c str) -> &'c str {
    match event {
        Event::Life { life: Life::CreateFailed(_), .. } => "create failed",
        Event::Life { life: Life::StartFailed(_), .. } => "start failed",
        _ => cause,
    }
}

/// One transition, one line.
fn tell(name: &str, before: &Service, after: &Service, cause: &str) {
    let from = before.state.name();
    let health = after.state.health();
    if before.state.name() == after.state.name() {
        tracing::info!(service = name, cause, "{from}: {} -> {health}", before.state.health());
        return;
    }
    let to = after.state.name();
    match &after.state {
        State::Backoff { since, until, attempt } => {
            let delay_ms = u64::try_from(until.since(*since).as_millis()).unwrap_or(u64::MAX);
            tracing::info!(service = name, cause, attempt, delay_ms, "{from} -> {to}");
        }
        // The reason says more than that it was cleaned up.
        State::Failed { why } => tracing::error!(service = name, "{from} -> {to}: {why}"),
        State::Waiting { on, .. } => tracing::info!(service = name, on = %on, "{from} -> {to}"),
        State::Stopped { why } => tracing::info!(service = name, "{from} -> {to}: {why}"),
        _ => tracing::info!(service = name, cause, "{from} -> {to}"),
    }
}

/// The part of the jitter to apply. It need not be secret, only different from one start to the next.
fn luck() -> u32 {
    let mut bytes = [0; 4];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}
