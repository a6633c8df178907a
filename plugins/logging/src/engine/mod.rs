//! The logging thread: one epoll over all pipes, all file writes, all timers.
//!
//! ```text
//!  pipe --splice--> spool --Pieces, RecordWriter--> out --append--> segment    commands: attach, detach, ... by a channel
//!   or: pipe --splice--> ring --> spool --> ..                                     (reader.rs: the thread that fills the rings)
//!                     ^ tail of an unfinished line, count of what was dropped  timers: only while something waits for them
//! ```
//! A turn takes at most 128 KiB off each of the two pipes of a service, then the others have theirs. A disk that is full does
//! not stop a service: the oldest of its segments go, then records are dropped and counted. The count is in the spool, so it outlives
//! this process, and a service that ends stays here until its log says what was dropped. thread.rs is the loop, life.rs what comes
//! and goes, service.rs what is written, limit.rs how fast, room.rs what a full disk holds up, entries.rs what the journal does, backlog.rs what
//! is read for those that must not wait, packer.rs compresses beside it.
mod backlog;
mod entries;
mod life;
mod limit;
mod packer;
mod reader;
mod redo;
mod room;
mod service;
mod thread;

use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll};
use sampan_plugin::prelude::*;
use tokio::sync::oneshot;

use crate::config::{Driver, Settings};
use crate::journal::{self, Journal};
use crate::notifier::Notifier;
use crate::ring::Ring;
use crate::spool::Spool;
use packer::Packer;
use reader::Reader;
use thread::LogThread;

/// A full disk is tried again, and figures are reported, at this distance.
const AGAIN: Duration = Duration::from_secs(1);
/// Records are written in portions of about this size.
const OUT_BYTES: usize = 96 * 1024;
/// Before it is written, a log is looked for at its place this often: somebody may have removed it.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

const COMMANDS: u64 = u64::MAX;

/// What a service has logged since it was attached first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Of the container's, newlines included.
    pub bytes: u64,
    pub lines: u64,
    pub dropped: u64,
    pub write_errors: u64,
    pub segments: usize,
}

/// Told about new figures at most once a second: container, before, now.
pub type Report = Box<dyn Fn(Container, &Figures, &Figures) + Send>;

/// Where logs go.
#[derive(Clone)]
pub struct Places {
    /// It gets a folder per service.
    pub dir: PathBuf,
    pub journal: Arc<Journal>,
}

impl From<PathBuf> for Places {
    fn from(dir: PathBuf) -> Places {
        Places { dir, journal: Arc::new(Journal::new(journal::SOCKET.into())) }
    }
}

/// By service.
pub type Rings = BTreeMap<String, Arc<Ring>>;

pub struct Attachment {
    pub service: String,
    pub container: Container,
    pub settings: Settings,
    /// Where `settings.buffer` says so: of these bytes, and kept over crashes.
    pub ring: Option<Arc<Ring>>,
    pub pipes: [Option<Arc<OwnedFd>>; 2],
}

impl Attachment {
    /// Whether something can be read from its pipes right now.
    pub fn has_more(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let pipes = self.pipes.iter().flatten();
        let mut fds: Vec<PollFd<'_>> = pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        let _ = poll(&mut fds, Some(&now));
        fds.iter().any(|fd| fd.revents().contains(PollFlags::IN))
    }
}

type Done<T> = oneshot::Sender<T>;

enum Command {
    Attach(Attachment, Done<io::Result<()>>),
    Detach(String, Done<()>),
    /// Attached, read until its pipes are empty, and detached, with nothing in between.
    Finish(Attachment, Done<io::Result<()>>),
    /// Whoever read its output before is dead, and what was read, counted or waiting went with it. Whether its log is in the journal.
    Lost(String, Option<Driver>, Done<io::Result<()>>),
    /// Those that are not listed are gone.
    Retain(Vec<String>, Done<()>),
    Status(Done<BTreeMap<String, Figures>>),
    Stop,
}

pub struct Engine {
    commands: Sender<Command>,
    wakeup: Arc<OwnedFd>,
    notifier: Arc<Notifier>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    pub fn start(places: impl Into<Places>, spool: Spool, report: Report) -> io::Result<Engine> {
        Engine::go_on(places, spool, Rings::new(), report)
    }

    /// What a crash left in `spool` is written first. What it left in `rings` is written when their services are attached, or are gone.
    pub fn go_on(
        places: impl Into<Places>,
        mut spool: Spool,
        rings: Rings,
        report: Report,
    ) -> io::Result<Engine> {
        let places = places.into();
        let (commands, inbox) = channel();
        let wakeup = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wakeup, epoll::EventData::new_u64(COMMANDS), epoll::EventFlags::IN)?;
        let notifier = Arc::new(Notifier::default());
        redo::redo(&places, &mut spool, &rings, notifier.removed())?;
        let mut thread = LogThread {
            places,
            spool,
            epoll,
            inbox,
            wakeup: wakeup.clone(),
            notifier: notifier.clone(),
            report,
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            next_key: 1,
            timers: BinaryHeap::new(),
            report_at: None,
            packer: Packer::default(),
            reader: Reader::default(),
            rings,
            out: Vec::with_capacity(2 * OUT_BYTES),
            wrote: false,
        };
        let thread = std::thread::Builder::new().name("sp-logging".to_owned()).spawn(move || thread.run())?;
        Ok(Engine { commands, wakeup, notifier, thread: Some(thread) })
    }

    pub fn attach(&self, attachment: Attachment) -> oneshot::Receiver<io::Result<()>> {
        self.ask(|done| Command::Attach(attachment, done))
    }

    /// Reads until the pipes are empty, then lets go of them.
    pub fn detach(&self, service: &str) -> oneshot::Receiver<()> {
        self.ask(|done| Command::Detach(service.to_owned(), done))
    }

    /// For what came after a detach.
    pub fn finish(&self, attachment: Attachment) -> oneshot::Receiver<io::Result<()>> {
        self.ask(|done| Command::Finish(attachment, done))
    }

    /// What its log lacks before what comes now is not known, and its log says so, as soon as it can. To be asked for before its output is attached.
    pub fn lost(&self, service: &str, driver: Option<Driver>) -> oneshot::Receiver<io::Result<()>> {
        self.ask(|done| Command::Lost(service.to_owned(), driver, done))
    }

    pub fn retain(&self, services: Vec<String>) -> oneshot::Receiver<()> {
        self.ask(|done| Command::Retain(services, done))
    }

    pub fn status(&self) -> oneshot::Receiver<BTreeMap<String, Figures>> {
        self.ask(Command::Status)
    }

    pub fn notifier(&self) -> Arc<Notifier> {
        self.notifier.clone()
    }

    fn ask<T>(&self, command: impl FnOnce(Done<T>) -> Command) -> oneshot::Receiver<T> {
        let (done, answer) = oneshot::channel();
        self.send(command(done));
        answer
    }

    fn send(&self, command: Command) {
        // A thread that has ended drops the command, and whoever waits is told so.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.wakeup, &1u64.to_ne_bytes());
    }
}

impl Drop for Engine {
    /// Pipes stay as they are, unfinished lines stay in the spool: for the next one.
    fn drop(&mut self) {
        self.notifier.end();
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}

/// For `attach`: a descriptor of one's own.
pub fn own(fd: Option<BorrowedFd<'_>>) -> io::Result<Option<Arc<OwnedFd>>> {
    fd.map(|fd| fd.try_clone_to_owned().map(Arc::new)).transpose()
}
