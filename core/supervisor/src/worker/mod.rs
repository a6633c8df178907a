//! The worker's one loop: sources become messages, messages become events, events become actions.
//!
//! ```text
//!   pidfds  timers  signals  clients  jobs' answers
//!       \      |      |        |       /
//!        +-> Message -> [ step: (Service, Event) -> Actions ] -> journal -> act
//!                          core/service, pure               intent first
//! ```
//! A turn takes what has come, then settles: the start gate, the order of a shutdown, clients that wait. Nothing in a turn
//! blocks; what may take time (launching, cleaning up, plugins) is a job that answers by a message. A watchdog in the
//! keel ends a worker whose turn does not end.
//!
//! The worker is one thing with one owner: its modules are parts of it.
mod act;
mod adopt;
mod apply;
mod attach;
mod behind;
mod boot;
mod bound;
mod calendars;
mod clients;
mod desired;
mod images;
mod joined;
mod notified;
mod notify;
mod one_offs;
pub mod opening;
pub mod pause;
pub mod record;
mod reload;
pub mod shutdown;
mod stores;
mod tell;
mod turns;
mod update;
mod waiters;
mod watchdog;
mod watching;
mod wishes;

use crate::bus::Bus;
use crate::callers::Groups;
use crate::clock;
use crate::fleet::{self, Ended, Fleet};
use crate::life::{self, Context, Created};
use crate::message::{Asker, Message, Sender};
use crate::one_off::kept::Kept;
use crate::places;
use crate::probe::{Probes, Report};
use crate::request::{Answer, Connection};
use crate::scrape;
use crate::settings::{Event, Service};
use crate::source::Source;
use crate::task::{Task, sleep_until};
use crate::tidy::Tidy;
use behind::Behind;
use calendars::Calendars;
use one_offs::OneOffs;
use opening::Then;
use sampan_api as api;
use sampan_config::{Config, schema};
use sampan_journal::{self as journal, Journal};
use sampan_keel::{Child, Order};
use sampan_plugin_host::Plugins;
use sampan_service::graph::Graph;
use sampan_service::limits::Gate;
use sampan_service::{Down, Exit, Life, Ms, Problem, WaitFor, Wanted};
use shutdown::Ends;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, watch};
use turns::{Turn, Turns};
use waiters::Waiter;
use watching::watch;
use wishes::Wishes;

/// Messages taken in one turn; the rest waits for the next, so that no turn grows with the load.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// The keel ends a worker whose turn lasts longer.
const TURN_MAX: Duration = Duration::from_secs(30);

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

/// What a worker begins with.
pub struct Begin {
    pub context: Rc<Context>,
    pub config: Config,
    /// Of the workers before this one.
    pub one_offs: Vec<(Kept, schema::Service)>,
    pub source: Source,
    pub send: Sender,
    pub journal: Journal,
    pub desired: journal::Desired,
    /// The how manyth of this sampand it is.
    pub lives: u32,
    /// See `record::run`.
    pub run: String,
}

pub struct Worker {
    context: Rc<Context>,
    /// The one that holds.
    config: Rc<Config>,
    source: Rc<Source>,
    /// Held by whoever reads it: one after the other, as they came.
    reading: Rc<Mutex<()>>,
    send: Sender,
    lives: u32,
    run: String,
    turns: Turns,
    metrics: scrape::Server,
    /// None: the control socket is not served yet.
    groups: Option<watch::Sender<Groups>>,

    fleet: Fleet,
    one_offs: OneOffs,
    graph: Graph,
    gate: Gate,
    /// The gate may say something else than before.
    gate_dirty: bool,
    gate_timer: Option<(Ms, Task)>,
    probes: Probes,
    next_handle: u64,
    /// What `adopt` found, to be told before any other event.
    adopted: Vec<(Arc<str>, Event)>,

    journal: Journal,
    behind: Behind,
    desired: journal::Desired,
    wishes: Wishes,
    /// Not yet given to `wishes`.
    save_due: bool,
    calendars: Calendars,
    bus: Bus,
    waiters: Vec<Waiter>,
    tidy: Tidy,
    ends: Ends,
    /// `Down` requests are answered at the very end.
    farewell: Vec<(Answer<api::Done>, Connection)>,
}

impl Worker {
    pub fn new(begin: Begin) -> Worker {
        let Begin { context, mut config, one_offs, source, send, journal, desired, lives, run } = begin;
        let one_offs = OneOffs::found(one_offs, &mut config, &send);
        let metrics = scrape::Server::new(send.clone());
        let (slots, storm) = fleet::limits(&config.supervisor, clock::boottime());
        let (reports, mut reported) = mpsc::unbounded_channel();
        let told = send.clone();
        tokio::task::spawn_local(async move {
            while let Some(report) = reported.recv().await {
                let _ = told.send(Message::Probed(report));
            }
        });
        Worker {
            graph: fleet::graph(&config),
            gate: Gate::new(slots, storm),
            gate_dirty: true,
            gate_timer: None,
            wishes: Wishes::start(context.dirs.state.clone()),
            save_due: false,
            calendars: Calendars::default(),
            context,
            config: Rc::new(config),
            source: Rc::new(source),
            reading: Rc::default(),
            send,
            lives,
            run,
            turns: Turns::new(Instant::now()),
            metrics,
            groups: None,
            fleet: Fleet::default(),
            one_offs,
            probes: Probes::new(reports),
            next_handle: 1,
            adopted: Vec::new(),
            journal,
            behind: None,
            desired,
            bus: Bus::default(),
            waiters: Vec::new(),
            tidy: Tidy::default(),
            ends: Ends::Not,
            farewell: Vec::new(),
        }
    }

    pub fn context(&self) -> Rc<Context> {
        self.context.clone()
    }

    /// Tells the services that live what became of them, and brings the config into force.
    pub fn begin(&mut self, then: Then) -> Result<(), String> {
        for (name, event) in std::mem::take(&mut self.adopted) {
            self.apply(&name, &event);
        }
        self.begin_with(then)?;
        self.tidy.soon();
        Ok(())
    }

    /// Runs until sampand is asked to end.
    pub async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) -> (Outcome, Worker) {
        // Asked to end before it began, it starts nothing.
        if !self.is_ending() {
            self.boot();
        }
        let keel = self.context.loop_keel.clone();
        let mut begun = Instant::now();
        let mut turn = Turn { first: "start", ..Turn::default() };
        let mut watched = keel.watchdog().turn(TURN_MAX);
        loop {
            self.settle();
            if let Some(outcome) = self.over() {
                return (outcome, self);
            }
            drop(watched);
            self.note_turn(turn, begun);
            let Some(first) = messages.recv().await else { return (Outcome::Kept, self) };
            begun = Instant::now();
            turn = Turn { first: first.kind(), messages: 1, ..Turn::default() };
            watched = keel.watchdog().turn(TURN_MAX);
            self.take(first);
            for _ in 1..MESSAGES_PER_TURN_MAX {
                match messages.try_recv() {
                    Ok(message) => self.take(message),
                    Err(_) => break,
                }
                turn.messages += 1;
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Service { name, event } => self.apply(&name, &event),
            Message::Fetched { name, number, result } => self.fetched(&name, number, result),
            Message::Created { name, generation, result } => self.created(&name, generation, result),
            Message::Started { name, generation, result } => self.started(&name, generation, result),
            Message::Discarded { name } => self.discarded(&name),
            Message::ClientLeft { name } => self.client_left(&name),
            Message::Exited { name, generation } => self.exited(&name, generation),
            Message::Probed(report) => self.probed(&report),
            Message::Notified { name, generation } => self.notified(&name, generation),
            Message::Taken { name, generation, dropped } => self.taken(&name, generation, dropped),
            Message::Watchdog { name, generation } => self.look_at_watchdog(&name, generation),
            Message::Request(request) => self.request(request),
            Message::Order(order) => self.order(order),
            Message::Config { asker, result } => self.config_read(asker, result),
            Message::Reloaded(reloaded) => self.reloaded(*reloaded),
            Message::Froze(froze) => self.froze(*froze),
            Message::Clock => self.calendars.look_again(),
            Message::Updated(updated) => self.updated(*updated),
            Message::Gate => self.gate_dirty = true,
            Message::Hurry => self.hurry(),
            Message::GiveUp => self.give_up(),
        }
    }

    /// One event of one service: step, write down, act.
    pub fn apply(&mut self, name: &str, event: &Event) {
        let now = clock::now();
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let before = entry.machine.clone();
        let actions = sampan_service::step(&mut entry.machine, event, now);
        self.record(name, &before, event);
        for action in actions {
            self.act(name, action);
        }
        self.after(name, &before);
    }

    /// What follows from a transition beside its actions.
    fn after(&mut self, name: &str, before: &Service) {
        let Some(entry) = self.fleet.get_mut(name) else { return };
        notify::moved(&self.context, entry, &before.state);
        notified::hear(&self.context, &self.send, entry);
        watchdog::begin(&self.send, entry);
        self.calendars.moved(before, &entry.machine);
        // A life that is over by the machine's account gives up what belonged to it.
        if before.state.has_life() && !entry.machine.state.has_life() {
            entry.live = None;
        }
        let is_removed = entry.machine.wanted == Wanted::Down(Down::Removed) && entry.machine.is_over();
        if is_removed && !self.one_offs.has(name) {
            self.fleet.entries.remove(name);
            self.forget(name, name);
        }
    }

    fn created(&mut self, name: &str, generation: u64, result: Result<Box<Created>, Problem>) {
        self.tidy.soon();
        let life = match result {
            Ok(created) => {
                let send = self.send.clone();
                self.led_by_its_image(name, created.image);
                if let Some(entry) = self.fleet.get_mut(name) {
                    entry.owners = created.owners;
                    let (process, netns, gate) = (created.process, created.netns, Some(created.gate));
                    entry.live = Some(watch(send, &entry.name, generation, process, netns, gate));
                }
                Life::Created
            }
            Err(problem) => {
                let problem = match self.fleet.get(name) {
                    Some(entry) => self.located(problem, entry.config()),
                    None => problem,
                };
                Life::CreateFailed(problem)
            }
        };
        self.apply(name, &Event::life(generation, life));
    }

    fn started(&mut self, name: &str, generation: u64, result: Result<(), Problem>) {
        let life = match (result, self.fleet.get(name)) {
            (Ok(()), _) => self.begin_post_start(name, generation),
            (Err(problem), None) => Life::StartFailed(problem),
            (Err(problem), Some(entry)) => Life::StartFailed(self.located(problem, entry.config())),
        };
        if let Some(entry) = self.fleet.get_mut(name).filter(|entry| entry.machine.generation == generation)
            && let Some(ended) = entry.untold.take()
        {
            notify::ended(&self.context, entry, ended);
        }
        self.apply(name, &Event::life(generation, life));
    }

    /// A launch's problem with the line of config.toml that it is about.
    fn located(&self, problem: Problem, service: &schema::Service) -> Problem {
        let origin = |key: &str| self.source.place(&format!("services.{}.{key}", service.owner()));
        places::located(problem, service, &self.context.spec_of(&service.name), origin)
    }

    /// Ends and removes what is left of a service that has no entry.
    pub(super) fn discard(&self, name: &str, generation: u64, child: Option<Child>) {
        let (context, send, name) = (self.context.clone(), self.send.clone(), name.to_owned());
        self.context.aside(async move {
            if let Err(problem) = life::discard(&context, &name, generation, child).await {
                tracing::error!(service = name, "cannot remove what is left of it: {problem}");
            }
            let _ = send.send(Message::Discarded { name });
        });
    }

    fn discarded(&mut self, name: &str) {
        // Unless the config names it again.
        if self.fleet.get(name).is_none() {
            self.forget(name, name);
        }
    }

    /// Reads the status without reaping, writes it down, then lets the kernel forget it: no window in which it is lost.
    fn exited(&mut self, name: &str, generation: u64) {
        let Some(entry) = self.fleet.get(name) else { return };
        let Some(live) = entry.live.as_ref().filter(|live| live.generation == generation) else { return };
        let (pid, handle) = (live.pid, live.handle.clone());
        let status = life::exit_status(&self.context.loop_keel, live.handle.as_ref(), live.pidfd.as_fd());
        let (oom_kills, empty) = self.context.last_look(name);
        let oom_kills = oom_kills.saturating_sub(live.oom_before);
        let exit = Exit { status, oom: oom_kills > 0 };
        // Perhaps by a kill of all of its group, which `sampan kill --all` and others may ask for.
        if status == sampan_service::Status::Signal(libc::SIGKILL) {
            self.context.note_kill(name);
        }
        let lived = live.started_at.and_then(|at| at.elapsed().ok());
        let ended = Ended { exit, lived, oom_kills };
        self.context.relays.note_exit(name, exit);
        if let Some(entry) = self.fleet.get_mut(name) {
            match entry.is_being_started() {
                true => entry.untold = Some(ended),
                false => notify::ended(&self.context, entry, ended),
            }
        }
        self.apply(name, &Event::life(generation, Life::Exited { exit, empty }));
        if let Some(handle) = handle
            && let Err(error) = self.context.loop_keel.let_go_unheard(&handle)
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
            notify::health(&self.context, entry, verdict);
        }
        self.apply(&report.service, &report.event);
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Reload if self.is_ending() => {
                tracing::warn!("SIGHUP: sampand is stopping, nothing changed")
            }
            Order::Reload => self.read_config(Asker::Signal),
            Order::Holder => self.context.place_holder(),
            Order::Terminate if self.keeps_on_exit() && !self.is_ending() => {
                tracing::info!("SIGTERM: containers run on (on_exit = \"keep\")");
                self.leave();
            }
            _ if self.is_ending() => self.hurry(),
            _ => self.end("asked to stop; once more to hurry"),
        }
    }

    /// What a turn leaves to be done once: gate, order of the shutdown, what is saved, clients.
    fn settle(&mut self) {
        self.heed_calendars();
        loop {
            let mut moved = self.run_gate();
            if matches!(self.ends, Ends::Stops(_)) {
                moved |= self.stop_next();
            }
            if !moved {
                break;
            }
        }
        self.limit_the_last();
        self.mind_journal();
        self.save_if_due();
        self.answer_waiters();
        self.tidy_one_offs();
    }

    fn run_gate(&mut self) -> bool {
        if !std::mem::take(&mut self.gate_dirty) || self.is_ending() {
            return false;
        }
        let bound = self.stop_with_others();
        let (fleet, graph, config, plugins) = (&self.fleet, &self.graph, &self.config, &self.context.plugins);
        let standing = |name: &str| fleet.get(name).map(|entry| entry.machine.standing());
        let events = self.gate.turn(clock::boottime(), |name| {
            graph
                .blocker(name, standing)
                .or_else(|| missing_plugin(plugins, config, name).map(WaitFor::Plugin))
        });
        if let Some(at) = self.gate.wake_at() {
            self.wake_gate(at);
        }
        events.iter().for_each(|(name, event)| self.apply(name, event));
        bound || !events.is_empty()
    }

    /// Looks at the gate (and at clients with a limit) again at this time.
    fn wake_gate(&mut self, at: Ms) {
        if self.gate_timer.as_ref().is_some_and(|(armed, _)| *armed <= at && *armed > clock::boottime()) {
            return;
        }
        let send = self.send.clone();
        self.gate_timer = Some((at, sleep_until(at, move || drop(send.send(Message::Gate)))));
    }
}

/// The plugin that a service waits for, if one of those that it cannot do without is not there yet.
fn missing_plugin(plugins: &Plugins, config: &Config, service: &str) -> Option<String> {
    let needs = config.services.get(service).map_or(&[][..], |service| life::needs(service));
    plugins.waiting_for(service, needs).map(|failure| failure.plugin)
}
