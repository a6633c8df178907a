//! The ordered shutdown: dependants first, each with its grace, and all of it within `shutdown_timeout`.
//!
//! That sampand ends is this worker's to know, and its keel's, which tells the next worker. No service's record says it:
//! the machine is told to stop (`Event::Shutdown`) and what is wanted of the service stays, so a shutdown that is interrupted
//! leaves nothing that would keep a service down. Until sampand has ended nothing is started, by whomever.
use crate::clock;
use crate::request::{Answer, Connection};
use crate::settings::Event;
use crate::task::Task;
use crate::worker::{Message, Outcome, Worker};
use sampan_api as api;
use sampan_config::schema::OnExit;
use sampan_keel::Ending;
use sampan_service::Down;
use sampan_service::sabotage::{Invariant, broken};
use std::time::{Duration, Instant};

/// How long the last of a shutdown may take: after there is no more grace, or where all that is left cannot be removed. Time
/// for one more attempt.
pub const LAST_MAX: Duration = Duration::from_secs(12);

/// Whoever asked for the end and does not read the answer holds it up for so long.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Whether sampand ends, and how. Once it does nothing is started.
#[derive(Debug, Default)]
pub(crate) enum Ends {
    #[default]
    Not,
    /// Containers run on (`on_exit = "keep"`).
    Leaves,
    Stops(Shutdown),
}

/// A shutdown under way.
#[derive(Debug)]
pub(crate) struct Shutdown {
    /// Services are stopped in reverse order of their dependencies.
    hurried: bool,
    given_up: bool,
    _limit: Task,
    /// The last of the limits, once it runs.
    last: Option<Task>,
}

impl Worker {
    /// Containers run on when sampand is asked to end.
    pub(super) fn keeps_on_exit(&self) -> bool {
        self.config.supervisor.on_exit == OnExit::Keep
    }

    /// Begins the ordered shutdown.
    pub fn end(&mut self, why: &str) {
        if self.is_ending() {
            return;
        }
        tracing::info!("{why}");
        let limit = self.config.supervisor.shutdown_timeout;
        crate::service_manager::is_stopping(limit + LAST_MAX);
        let _limit = self.say_after(limit, Message::Hurry);
        self.ends = Ends::Stops(Shutdown { hurried: false, given_up: false, _limit, last: None });
    }

    /// Ends at the end of this turn, unless a shutdown is under way.
    pub(crate) fn leave(&mut self) {
        if !self.is_ending() {
            self.ends = Ends::Leaves;
        }
    }

    fn say_after(&self, limit: Duration, message: Message) -> Task {
        let send = self.send.clone();
        Task::from(tokio::task::spawn_local(async move {
            tokio::time::sleep(limit).await;
            let _ = send.send(message);
        }))
    }

    /// A shutdown ends, whatever does not.
    pub(crate) fn limit_the_last(&mut self) {
        let Ends::Stops(ending) = &self.ends else { return };
        let mut left = self.fleet.entries.values().filter(|entry| !entry.is_at_rest());
        if ending.last.is_none() && (ending.hurried || left.all(|entry| entry.machine.state.is_uncleaned())) {
            let last = self.say_after(LAST_MAX, Message::GiveUp);
            if let Ends::Stops(ending) = &mut self.ends {
                ending.last = Some(last);
            }
        }
    }

    /// What is not stopped by now does not stop.
    pub(crate) fn give_up(&mut self) {
        if let Ends::Stops(ending) = &mut self.ends {
            ending.given_up = true;
        }
    }

    /// What is not at rest, in words.
    pub fn left(&self) -> Vec<String> {
        let now = clock::boottime();
        let left = self.fleet.entries.values().filter(|entry| !entry.is_at_rest());
        left.map(|entry| format!("{} ({})", entry.name, self.fleet.status(entry, now).text)).collect()
    }

    /// No more order, no more grace.
    pub(crate) fn hurry(&mut self) {
        let Ends::Stops(ending) = &mut self.ends else { return };
        if !ending.hurried {
            ending.hurried = true;
            tracing::warn!("hurry: no more grace, every container is killed");
        }
        for name in self.fleet.names() {
            self.apply(&name, &self.end_of(&name));
            self.apply(&name, &Event::Hurry);
        }
    }

    /// Goes on with what sampand was asked for under an earlier worker. No service is told before it has heard what became
    /// of its life.
    pub fn go_on(&mut self, ending: Ending) {
        match ending {
            Ending::No => {}
            Ending::Terminate if self.keeps_on_exit() => self.leave(),
            Ending::Terminate | Ending::Everything => self.end("asked to stop, before this worker came"),
            Ending::Hurry => {
                self.end("asked to stop, before this worker came");
                let _ = self.send.send(Message::Hurry);
            }
        }
    }

    /// `down` of a client: as Ctrl-C, and an answer at the end.
    pub fn farewell(&mut self, answer: Answer<api::Done>, connection: Connection) {
        self.farewell.push((answer, connection));
        if !broken(Invariant::ShutdownForgotten)
            && let Err(error) = self.context.loop_keel.note_ending(Ending::Everything)
        {
            tracing::warn!("a worker after this one would not go on with it: {error}");
        }
        self.end("asked to stop by a client");
    }

    pub fn is_ending(&self) -> bool {
        !matches!(self.ends, Ends::Not)
    }

    /// Stops what nothing depends on any more; true if there was such a service.
    pub(crate) fn stop_next(&mut self) -> bool {
        let services = self.fleet.entries.iter().map(|(name, entry)| (&**name, &*entry.machine));
        let now = self.graph.to_end(services);
        for name in &now {
            self.apply(name, &self.end_of(name));
        }
        !now.is_empty()
    }

    /// What a shutdown tells it. What is wanted of a service stays; a one-off is not begun again after it.
    fn end_of(&self, name: &str) -> Event {
        if self.one_offs.has(name) { Event::Down(Down::Hand) } else { Event::Shutdown }
    }

    pub(crate) fn over(&mut self) -> Option<Outcome> {
        match &self.ends {
            Ends::Leaves => Some(Outcome::Kept),
            Ends::Stops(_) if self.fleet.all_at_rest() => Some(Outcome::Stopped),
            Ends::Stops(ending) if ending.given_up => Some(Outcome::Left),
            Ends::Stops(_) | Ends::Not => None,
        }
    }

    /// Tells clients that wait for the end; the last thing before it. Returns when they have read it: an answer about a thousand services
    /// is more than a socket holds.
    pub async fn say_farewell(&mut self) {
        let now = clock::boottime();
        let services: Vec<_> =
            self.fleet.entries.values().map(|entry| self.fleet.status(entry, now)).collect();
        let complete = self.fleet.all_at_rest();
        let mut open = Vec::new();
        for (answer, connection) in self.farewell.drain(..) {
            let _ = answer.send(Ok(api::Done { services: services.clone(), complete }));
            open.push(connection);
        }
        let end = Instant::now() + FAREWELL_MAX;
        while !open.iter().all(Connection::is_closed) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
