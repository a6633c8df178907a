//! What services say of themselves, heard: each message is done, with its record in the journal, before it is taken from the queue.
use super::Worker;
use crate::fleet::{Entry, Live};
use crate::life::{self, Context};
use crate::message::{Message, Sender};
use crate::sd_notify::message::{AboutFds, Assignment, Dropped};
use crate::sd_notify::{self, Heard, Notifications, Phase, Socket, Wait, socket};
use crate::settings::Event;
use crate::task::Task;
use rustix::process::Pid;
use sampan_config::schema::SaysOn;
use sampan_service::{Life, State};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages of one service that are heard in one turn.
const AT_ONCE_MAX: usize = 16;
/// How long they may take. One more is heard after that.
const AT_ONCE_TIME: Duration = Duration::from_millis(20);
/// After so many. Whoever sends more meanwhile waits for room in the queue.
const REST: Duration = Duration::from_millis(100);
/// After one that carried descriptors: as many as others in the same time.
const REST_AFTER_TAKING: Duration = Duration::from_millis(6);

/// After an error, which may not go away.
const AGAIN: Duration = Duration::from_secs(10);

/// Begins to hear a service that runs. What it has said before that stands in the queue.
pub(super) fn hear(context: &Context, send: &Sender, entry: &mut Entry) {
    let runs = matches!(entry.machine.state, State::Starting { .. } | State::Running { .. });
    let Some(is_for) = entry.config().says_on().filter(|_| runs) else { return };
    let name = entry.name.clone();
    let Some(live) = entry.live.as_mut().filter(|live| live.says.is_none()) else { return };
    let opened = open(context, &name, is_for).and_then(|socket| {
        let members =
            life::members(context.hierarchies, &context.cgroup(&name)).map_err(|e| e.to_string())?;
        let wait = wait(send, &name, live.generation, &socket, Duration::ZERO);
        Ok(Notifications::new(socket, members, wait))
    });
    match opened {
        Ok(says) => live.says = Some(says),
        Err(error) => {
            tracing::error!(service = &*name, "what it says of itself (notify) is not heard: {error}")
        }
    }
}

/// The one that the keel has. If every process of sampand was killed at once, nobody had it: it is made anew.
fn open(context: &Context, name: &str, is_for: SaysOn) -> Result<Socket, String> {
    let kept = context.loop_keel.fetch(&socket::key(name)).map_err(|error| error.to_string())?;
    match (kept, is_for) {
        (Some(fd), _) => Ok(Socket::new(fd, is_for)),
        (None, SaysOn::Socket) => {
            tracing::warn!(service = name, "what it has said on NOTIFY_SOCKET and nobody had heard is lost");
            let made = socket::make(&context.loop_keel, &context.dirs.run, name);
            made.map(|fd| Socket::new(fd, is_for)).map_err(|error| error.to_string())
        }
        // A service that runs cannot be given another one.
        (None, SaysOn::Descriptor) => {
            Err("our end of its descriptor was closed with sampand; the next life has one".into())
        }
    }
}

/// Until there is something to hear, and for `rest` at least.
fn wait(send: &Sender, name: &Arc<str>, generation: u64, socket: &Socket, rest: Duration) -> Wait {
    let (send, name, socket) = (send.clone(), name.clone(), socket.shared());
    Wait::Message(Task::from(tokio::task::spawn_local(async move {
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        match crate::fence::readable(socket) {
            Ok(fd) => drop(fd.readable().await),
            Err(error) => {
                tracing::error!(service = &*name, "cannot wait for what it says: {error}");
                tokio::time::sleep(AGAIN).await;
            }
        }
        let _ = send.send(Message::Notified { name, generation });
    })))
}

/// Until a message is taken from the queue. One at a time for each service: what is closed with it may take its time.
/// `about`: what is done of it before that. That goes on to its end, also where the life that has sent it ends meanwhile: what it
/// gives away when it ends is for its next one.
fn taking(
    send: &Sender,
    name: &Arc<str>,
    generation: u64,
    socket: &Socket,
    about: Option<impl Future<Output = Vec<Dropped>> + 'static>,
) -> Wait {
    let (send, name, socket) = (send.clone(), name.clone(), socket.clone());
    let about = about.map(tokio::task::spawn_local);
    Wait::Taking(Task::from(tokio::task::spawn_local(async move {
        let dropped = match about {
            Some(about) => about.await.unwrap_or_default(),
            None => Vec::new(),
        };
        let taken = tokio::task::spawn_blocking(move || socket.take()).await;
        match taken.unwrap_or_else(|panicked| Err(panicked.into())) {
            Ok(()) => {
                let _ = send.send(Message::Taken { name, generation, dropped });
            }
            Err(error) => tracing::error!(
                service = &*name,
                "it is not heard any more: cannot take what it says: {error}"
            ),
        }
    })))
}

impl Worker {
    pub(super) fn notified(&mut self, name: &str, generation: u64) {
        let rest = if self.hear_some(name, generation) { REST } else { Duration::ZERO };
        if self.says(name, generation).is_some_and(|says| matches!(says.wait, Wait::Message(_))) {
            self.wait_for_more(name, generation, rest);
        }
    }

    /// A message that carried descriptors is taken: on with the next.
    pub(super) fn taken(&mut self, name: &str, generation: u64, dropped: Vec<Dropped>) {
        for dropped in dropped {
            self.drop_message(name, generation, dropped, None);
        }
        self.wait_for_more(name, generation, REST_AFTER_TAKING);
    }

    fn wait_for_more(&mut self, name: &str, generation: u64, rest: Duration) {
        let send = self.send.clone();
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let name = entry.name.clone();
        let live = entry.live.as_mut().filter(|live| live.generation == generation);
        if let Some(says) = live.and_then(|live| live.says.as_mut()) {
            says.wait = wait(&send, &name, generation, &says.socket, rest);
        }
    }

    /// True: more may stand in the queue.
    pub(super) fn hear_some(&mut self, name: &str, generation: u64) -> bool {
        let until = Instant::now() + AT_ONCE_TIME;
        (0..AT_ONCE_MAX).all(|_| Instant::now() > until || self.hear_next(name, generation))
    }

    /// True: there was a message.
    fn hear_next(&mut self, name: &str, generation: u64) -> bool {
        let Some(says) = self.says(name, generation) else { return false };
        if matches!(says.wait, Wait::Taking(_)) {
            return true;
        }
        let (socket, heard) = match says.socket.look() {
            Ok(Some(heard)) => (says.socket.clone(), heard),
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(service = name, "cannot hear what it says: {error}");
                return false;
            }
        };
        let mut about = None;
        if sd_notify::is_of(&says.members, heard.pid) {
            about = self.about_fds(name, generation, &heard);
            for said in heard.said {
                self.said(name, generation, said);
            }
            if let Some(dropped) = heard.dropped {
                self.drop_message(name, generation, dropped, heard.pid);
            }
        } else {
            self.drop_message(name, generation, Dropped::Foreign, heard.pid);
        }
        if heard.carries || about.is_some() {
            self.begin_taking(name, generation, &socket, about.zip(heard.pid));
            return true;
        }
        if let Err(error) = socket.take() {
            tracing::error!(service = name, "cannot take what it says: {error}");
            return false;
        }
        true
    }

    /// What is to be done about descriptors that are kept for it.
    fn about_fds(&mut self, name: &str, generation: u64, heard: &Heard) -> Option<AboutFds> {
        let about = AboutFds::of(&heard.said)?;
        let max = self.fleet.get(name)?.config().fd_store_max;
        let why = match (max, &about) {
            (0, AboutFds { stores: true, .. }) => Dropped::NoStore,
            (0, _) => return None,
            (_, AboutFds { stores: true, .. }) if !heard.carries => Dropped::NoFds,
            (_, AboutFds { removes: true, name: None, .. }) => Dropped::Unclear,
            _ => return Some(about),
        };
        self.drop_message(name, generation, why, heard.pid);
        None
    }

    fn begin_taking(&mut self, name: &str, generation: u64, socket: &Socket, about: Option<(AboutFds, Pid)>) {
        let (send, context) = (self.send.clone(), self.context.clone());
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let (name, config, queue) = (entry.name.clone(), entry.machine.config().shared(), socket.shared());
        let about = about.map(|(about, pid)| async move {
            life::fd_store::hear(&context, &config, about, queue, pid.as_raw_nonzero().get()).await
        });
        let live = entry.live.as_mut().filter(|live| live.generation == generation);
        if let Some(says) = live.and_then(|live| live.says.as_mut()) {
            says.wait = taking(&send, &name, generation, socket, about);
        }
    }

    pub(super) fn says(&mut self, name: &str, generation: u64) -> Option<&mut Notifications> {
        self.live_of(name, generation)?.says.as_mut()
    }

    fn live_of(&mut self, name: &str, generation: u64) -> Option<&mut Live> {
        let live = self.fleet.get_mut(name)?.live.as_mut();
        live.filter(|live| live.generation == generation)
    }

    fn said(&mut self, name: &str, generation: u64, said: Assignment) {
        let life = match said {
            Assignment::Ready => {
                self.is(name, generation, Phase::Ready);
                Life::Ready
            }
            Assignment::Extend(span) => Life::Extend(span),
            Assignment::Reloading => return self.is(name, generation, Phase::Reloading),
            Assignment::Stopping => return self.is(name, generation, Phase::Stopping),
            Assignment::Status(status) => {
                if let Some(says) = self.says(name, generation) {
                    says.has_status(status);
                }
                return;
            }
            Assignment::MainPid(pid) => {
                if !self.live_of(name, generation).is_some_and(|live| is_main(live.pid, pid)) {
                    self.drop_message(name, generation, Dropped::MainPid, None);
                }
                return;
            }
            // Its descriptor is closed when the message is taken.
            Assignment::Barrier => return,
            // All at once (`about_fds`).
            Assignment::Store | Assignment::Unstore | Assignment::FdName(_) | Assignment::NoPoll => return,
            Assignment::Alive => return self.is_alive(name, generation),
            Assignment::Trigger => return self.is_silent(name, generation, "WATCHDOG=trigger".into()),
            Assignment::Watchdog(every) => return self.has_watchdog(name, generation, every),
        };
        self.apply(name, &Event::life(generation, life));
    }

    fn is(&mut self, name: &str, generation: u64, word: Phase) {
        if let Some(says) = self.says(name, generation) {
            says.is(word);
        }
    }

    /// Counted; said once for each reason.
    fn drop_message(&mut self, name: &str, generation: u64, dropped: Dropped, pid: Option<Pid>) {
        if self.says(name, generation).is_some_and(|says| says.count(dropped)) {
            let pid = pid.map(|pid| pid.as_raw_nonzero().get());
            tracing::warn!(
                service = name,
                pid,
                "NOTIFY_SOCKET: a message is dropped, and more are counted: {dropped}"
            );
        }
    }
}

/// Whether a service means its main process by this number: ours for it, or one of its own namespaces'.
fn is_main(main: i32, number: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{main}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().any(|one| one.parse() == Ok(number))
}
