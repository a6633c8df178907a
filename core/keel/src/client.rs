//! The worker's end of the keel's socket: one typed method per request. Each method sends, waits for the
//! answer (some 20 us; a launch some 200) and returns it; clones share one connection and take turns: they
//! are for threads of the blocking pool. The loop has a connection of its own (`LoopKeel`).

use crate::orders::Ending;
use crate::sealed::sealed;
use crate::watchdog::Watchdog;
use crate::wire::{self, Message, Name, Op};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal};
use sampan_child::sys::{Call, Fault};
use sampan_journal::crash;
use sampan_runtime::error::errno_name;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this is sampand's worker, which only its keel starts\n  run `sampand` without the argument \"worker\""
    )]
    NoKeel,
    #[error("the keel is gone: this worker must end, containers run on")]
    Gone,
    #[error(
        "the keel speaks version {keel} of the protocol, this worker {}\n  restart sampand (containers run on with on_exit = \"keep\")",
        wire::VERSION
    )]
    Version { keel: i32 },
    #[error("the keel could not {doing} {what}: {call}{errno}{hint}", call = named(*fault), errno = errno_name(*errno), hint = hint(*errno))]
    Refused {
        doing: &'static str,
        what: String,
        errno: Errno,
        /// Of a launch: what `sampan_child::spawn` said.
        fault: Option<Fault>,
    },
    #[error("{what:?} is no name for the keel: 1 to {max} bytes", max = wire::NAME_MAX)]
    Name { what: String },
    #[error("cannot {doing}: {errno}", errno = errno_name(*errno))]
    Call { doing: &'static str, errno: Errno },
    #[error("the keel answered {0}: this is a bug")]
    Confused(&'static str),
    #[error(transparent)]
    Seal(sampan_runtime::error::Error),
}

fn named(fault: Option<Fault>) -> String {
    fault.map(|fault| format!("{}: ", fault.call.name())).unwrap_or_default()
}

pub(super) fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::MFILE => "\n  its limit on open files is reached; raise it (ulimit -Hn, LimitNOFILE=)",
        Errno::TOOMANYREFS => {
            "\n  more descriptors of this user are on their way between processes than it may have open; raise that limit"
        }
        Errno::NOSPC => "\n  its table is full",
        Errno::AGAIN => "\n  the limit on processes is reached (ulimit -u, pids.max, kernel.pid_max)",
        _ => "",
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal { number: i32, core: bool },
}

impl Exit {
    /// As a shell says it: 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal { number, .. } => 128 + number,
        }
    }
}

/// A process that this keel cloned, or one before it.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub tag: String,
    pub handle: Handle,
}

/// How the keel knows a process that has not been let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handle {
    /// Its child, by its pid, which cannot be reused before it is reaped: a zombie keeps the exit status.
    Own(i32),
    /// The child of a keel that is dead, by the key of its pidfd. Whoever inherited it reaps it; from Linux 6.15 on the
    /// pidfd tells how it ended.
    Orphan(String),
}

/// The key of an orphan's pidfd.
pub(super) struct Orphan<'t> {
    pub pid: i32,
    pub tag: &'t str,
}

impl std::fmt::Display for Orphan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "orphan/{}/{}", self.pid, self.tag)
    }
}

impl<'t> Orphan<'t> {
    fn parse(key: &'t str) -> Option<Orphan<'t>> {
        let (pid, tag) = key.strip_prefix("orphan/")?.split_once('/')?;
        Some(Orphan { pid: pid.parse().ok()?, tag })
    }
}

/// What the keel holds, as a new worker finds it.
#[derive(Debug, Default)]
pub struct Kept {
    /// Running or waiting to be reaped: ask `peek`.
    pub children: Vec<Child>,
    /// Keys for `fetch`.
    pub keys: Vec<String>,
}

/// What became of the worker before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// There was none: `sampand` has just been started.
    First,
    Ended(Exit),
    /// A turn of its loop took too long and the keel killed it.
    Hung,
}

/// The connection. Cheap to clone. Clones wait for each other: the loop has one of its own (`LoopKeel`).
#[derive(Clone, Debug)]
pub struct Keel {
    shared: Arc<Shared>,
}

/// A connection of the loop's own, on which it never waits for a thread that launches: it stays on the loop's thread.
#[derive(Clone, Debug)]
pub struct LoopKeel(Rc<Keel>);

impl Deref for LoopKeel {
    type Target = Keel;

    fn deref(&self) -> &Keel {
        &self.0
    }
}

#[derive(Debug)]
struct Shared {
    socket: OwnedFd,
    /// The sequence number of the last request. Locked from a request until its answer.
    seq: Mutex<u32>,
    watchdog: OwnedFd,
    /// How many workers this keel has had before this one.
    before: u32,
    fate: Fate,
}

impl Keel {
    pub(super) fn greet(socket: OwnedFd) -> Result<Keel, Error> {
        let hello =
            Message { kind: Op::Hello as u32, seq: 0, words: [wire::VERSION, 0, 0, 0], name: Name::EMPTY };
        wire::send(socket.as_fd(), &hello, &[], SendFlags::empty()).map_err(|_| Error::Gone)?;
        let (answer, mut fds) = match wire::receive(socket.as_fd(), RecvFlags::empty()) {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Error::Gone),
            Err(errno) => return Err(Error::Call { doing: "read the keel's greeting", errno }),
        };
        if answer.kind != 0 {
            let errno = Errno::from_raw_os_error(answer.kind as i32);
            return Err(Error::Refused { doing: "greet", what: "this worker".into(), errno, fault: None });
        }
        let [version, before, kind, number] = answer.words;
        if version != wire::VERSION {
            return Err(Error::Version { keel: version });
        }
        let watchdog = the_one(&mut fds, "a greeting without the watchdog")?;
        let fate = match kind {
            wire::FATE_CODE => Fate::Ended(Exit::Code(number)),
            wire::FATE_SIGNAL => Fate::Ended(Exit::Signal { number, core: false }),
            wire::FATE_CORE => Fate::Ended(Exit::Signal { number, core: true }),
            wire::FATE_HUNG => Fate::Hung,
            _ => Fate::First,
        };
        let before = before.unsigned_abs();
        if before > 0 {
            crash::spare();
        }
        Ok(Keel { shared: Arc::new(Shared { socket, seq: Mutex::new(0), watchdog, before, fate }) })
    }

    /// How many workers came before this one, and how the last of them ended.
    pub fn predecessor(&self) -> (u32, Fate) {
        (self.shared.before, self.shared.fate)
    }

    /// Readable (end of file) when the keel is gone; the loop may watch it. PDEATHSIG is usually faster.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.shared.socket.as_fd()
    }

    pub fn watchdog(&self) -> Watchdog<'_> {
        Watchdog::of(self.shared.watchdog.as_fd())
    }

    /// Whether sampand was asked to end before this worker came, and a pipe (not blocking) with the orders from now on: a
    /// byte each, `Order::from_byte`.
    pub fn orders(&self) -> Result<(Ending, OwnedFd), Error> {
        let (answer, mut fds) = self.call(Op::Orders, [0; 4], "", &[], "hand out", "orders")?;
        let pipe = the_one(&mut fds, "orders without a pipe")?;
        Ok((Ending::from_word(answer.words[0]), pipe))
    }

    /// A client has asked sampand to end: a worker that follows this one goes on with that.
    pub fn note_ending(&self, ending: Ending) -> Result<(), Error> {
        self.call(Op::Ending, [ending as i32, 0, 0, 0], "", &[], "take note of", "the end").map(drop)
    }

    /// Say it when orders are heard: until then a second one to end ends the keel itself.
    pub fn ready(&self) -> Result<(), Error> {
        self.call(Op::Ready, [0; 4], "", &[], "take note of", "this worker").map(drop)
    }

    /// Clones a process that carries out the image (`sampan_child`). `slots[n]` is the image's `Slot(n)`.
    pub fn launch(&self, image: &[u8], slots: &[BorrowedFd<'_>], tag: &str) -> Result<Child, Error> {
        let memfd = sealed_image(image)?;
        self.launch_from(memfd.as_fd(), slots, tag)
    }

    /// The same, from a memfd that the caller keeps for the next launch.
    pub fn launch_from(
        &self,
        image: BorrowedFd<'_>,
        slots: &[BorrowedFd<'_>],
        tag: &str,
    ) -> Result<Child, Error> {
        let mut fds = [image; wire::FDS_MAX];
        let all = fds.get_mut(..=slots.len()).ok_or(Error::Refused {
            doing: "launch",
            what: tag.to_owned(),
            errno: Errno::TOOMANYREFS,
            fault: None,
        })?;
        for (to, from) in all.iter_mut().skip(1).zip(slots) {
            *to = *from;
        }
        if tag.len() > wire::TAG_MAX {
            return Err(Error::Name { what: tag.to_owned() });
        }
        let (answer, mut fds) = self.call(Op::Launch, [0; 4], tag, all, "launch", tag)?;
        let pid = answer.words[0];
        let pidfd = the_one(&mut fds, "a launch without a pidfd").inspect_err(|_| {
            // The keel's child until it is reaped, so the pid is still its own. Who is told of a failure alone may leave nothing
            // that runs; the next worker finds what is left of it.
            let _ = Pid::from_raw(pid).map(|pid| rustix::process::kill_process(pid, Signal::KILL));
        })?;
        Ok(Child { pid, pidfd, tag: tag.to_owned(), handle: Handle::Own(pid) })
    }

    /// How the child ended; None while it runs. Changes nothing: ask as often as you like, then write it down,
    /// then `reap`.
    pub fn peek(&self, pid: i32) -> Result<Option<Exit>, Error> {
        let (answer, _) = self.call(Op::Peek, [pid, 0, 0, 0], "", &[], "look at", &pid)?;
        exit(&answer)
    }

    /// Lets the dead child go: its pid may be used again. Refused (EBUSY) while it runs.
    pub fn reap(&self, pid: i32) -> Result<Exit, Error> {
        let (answer, _) = self.call(Op::Reap, [pid, 0, 0, 0], "", &[], "reap", &pid)?;
        exit(&answer)?.ok_or(Error::Confused("a reaped child that runs"))
    }

    /// Lets the dead child go, whoever cloned it, and does not wait for that: what is against it is told with the next answer.
    pub fn let_go_unheard(&self, handle: &Handle) -> Result<(), Error> {
        match handle {
            Handle::Own(pid) => {
                self.ask(&mut self.lock(), Op::Reap, [*pid, 0, 0, 0], Name::EMPTY, &[]).map(drop)
            }
            Handle::Orphan(_) => self.let_go(handle),
        }
    }

    /// Lets the dead child go, whoever cloned it.
    pub fn let_go(&self, handle: &Handle) -> Result<(), Error> {
        match handle {
            Handle::Own(pid) => self.reap(*pid).map(drop),
            Handle::Orphan(key) => self.keep(key, None),
        }
    }

    /// From now on the keel has a holder, which writes its line into this record. Its pid, unless it has just ended.
    pub(super) fn hold(&self, record: BorrowedFd<'_>, place: i32, number: i32) -> Result<Option<u32>, Error> {
        let words = [place, number, 0, 0];
        let what = "what it has, by a process of its own";
        let (answer, _) = self.call(Op::Hold, words, "", &[record], "hold", what)?;
        Ok(holder_in(&answer))
    }

    /// The process that holds what the keel has; none if it has just ended, and another one starts (`Order::Holder`).
    pub fn holder(&self) -> Result<Option<u32>, Error> {
        let (answer, _) = self.call(Op::Holder, [0; 4], "", &[], "name", "its holder")?;
        Ok(holder_in(&answer))
    }

    /// All is over: nothing need outlive the keel any more. The locks of the run folder are free when the keel has ended.
    pub fn release(&self) -> Result<(), Error> {
        self.call(Op::Release, [0; 4], "", &[], "release", "its holder").map(drop)
    }

    /// The keel holds a duplicate of `fd` under this key (in the place of an older one) until it is dropped
    /// by `None`. Dropping what is not there is no error.
    pub fn keep(&self, key: &str, fd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        self.call(Op::Keep, [0; 4], key, fd.as_slice(), "keep", key).map(drop)
    }

    pub fn fetch(&self, key: &str) -> Result<Option<OwnedFd>, Error> {
        match self.call(Op::Fetch, [0; 4], key, &[], "fetch", key) {
            Ok((_, mut fds)) => the_one(&mut fds, "a fetch without a descriptor").map(Some),
            Err(Error::Refused { errno: Errno::NOENT, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// All children that are not reaped, of keels before this one too, and the keys of all other kept descriptors.
    pub fn list(&self) -> Result<Kept, Error> {
        let mut kept = Kept::default();
        let mut cursor = 0;
        while let Some((answer, mut fds)) = self.next(Op::NextChild, cursor)? {
            let [pid, next, ..] = answer.words;
            let pidfd = the_one(&mut fds, "a child without a pidfd")?;
            kept.children.push(Child { pid, pidfd, tag: text(&answer.name), handle: Handle::Own(pid) });
            cursor = next;
        }
        cursor = 0;
        while let Some((answer, _)) = self.next(Op::NextKept, cursor)? {
            kept.keys.push(text(&answer.name));
            cursor = answer.words[1];
        }
        let (orphans, keys) = kept.keys.into_iter().partition(|key| Orphan::parse(key).is_some());
        kept.keys = keys;
        for key in orphans {
            kept.children.extend(self.orphan(key)?);
        }
        Ok(kept)
    }

    fn orphan(&self, key: String) -> Result<Option<Child>, Error> {
        let Some(pidfd) = self.fetch(&key)? else { return Ok(None) };
        let Some(Orphan { pid, tag }) = Orphan::parse(&key) else { return Ok(None) };
        Ok(Some(Child { pid, pidfd, tag: tag.to_owned(), handle: Handle::Orphan(key) }))
    }

    /// One more connection, for a process of the worker's (`Keel::connected`). The keel closes it when this worker ends, so
    /// that nobody starts anything in the name of a worker that is no more.
    pub fn connect(&self) -> Result<OwnedFd, Error> {
        self.connect_for(wire::CONNECT_PROCESS)
    }

    fn connect_for(&self, whom: i32) -> Result<OwnedFd, Error> {
        let (_, mut fds) = self.call(Op::Connect, [whom, 0, 0, 0], "", &[], "make", "one more connection")?;
        the_one(&mut fds, "a connection without a descriptor")
    }

    pub fn of_the_loop(&self) -> Result<LoopKeel, Error> {
        Ok(LoopKeel(Rc::new(Keel::connected(self.connect_for(wire::CONNECT_LOOP)?)?)))
    }

    /// In the process that was given one end of a `connect`.
    pub fn connected(socket: OwnedFd) -> Result<Keel, Error> {
        Keel::greet(socket)
    }

    /// The program that later workers execute. Then end with `EXIT_AGAIN`.
    pub fn program(&self, program: OwnedFd) -> Result<(), Error> {
        let sealed = sampan_runtime::kernel::seal::sealed(program).map_err(Error::Seal)?;
        self.call(Op::Program, [0; 4], "", &[sealed.as_fd()], "take", "the new program").map(drop)
    }

    fn next(&self, op: Op, cursor: i32) -> Result<Option<(Message, wire::Fds)>, Error> {
        match self.call(op, [cursor, 0, 0, 0], "", &[], "list", "what it holds") {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Refused { errno: Errno::NOENT, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn call(
        &self,
        op: Op,
        words: [i32; 4],
        name: &str,
        fds: &[BorrowedFd<'_>],
        doing: &'static str,
        what: &(impl ToString + ?Sized),
    ) -> Result<(Message, wire::Fds), Error> {
        let name = Name::new(name.as_bytes()).ok_or_else(|| Error::Name { what: name.to_owned() })?;
        let mut seq = self.lock();
        let request = self.ask(&mut seq, op, words, name, fds)?;
        loop {
            let (answer, fds) = match wire::receive(self.shared.socket.as_fd(), RecvFlags::empty()) {
                Ok(Some(answer)) => answer,
                Ok(None) | Err(Errno::CONNRESET) => return Err(Error::Gone),
                Err(errno) => return Err(Error::Call { doing: "read the keel's answer", errno }),
            };
            if answer.seq != request.seq {
                // To a call that failed half way (its receiving was interrupted by an error), or that nobody waited for.
                if answer.kind != 0 {
                    let errno = Errno::from_raw_os_error(answer.kind as i32);
                    tracing::warn!("an earlier request to the keel was refused: {errno}");
                }
                continue;
            }
            crash::point(op.answered());
            return match answer.kind {
                0 => Ok((answer, fds)),
                errno => Err(Error::Refused {
                    doing,
                    what: what.to_string(),
                    errno: Errno::from_raw_os_error(errno as i32),
                    fault: fault(&answer),
                }),
            };
        }
    }

    /// Sends it, whoever may hear the answer.
    fn ask(
        &self,
        seq: &mut u32,
        op: Op,
        words: [i32; 4],
        name: Name,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Message, Error> {
        *seq = seq.wrapping_add(1);
        let request = Message { seq: *seq, ..Message::ask(op, words, name) };
        crash::point(op.before());
        let sent = wire::send(self.shared.socket.as_fd(), &request, fds, SendFlags::empty());
        sent.map_err(|errno| match errno {
            Errno::PIPE | Errno::CONNRESET => Error::Gone,
            // ETOOMANYREFS: too many descriptors in flight; EBADF: a slot was closed.
            errno => Error::Call { doing: "send a request to the keel", errno },
        })?;
        crash::point(op.asked());
        Ok(request)
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        // A number cannot be half written: a panic elsewhere does not spoil it.
        self.shared.seq.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fault(answer: &Message) -> Option<Fault> {
    let [call, detail, ..] = answer.words;
    let call = Call::from_code(u16::try_from(call).ok()?)?;
    Some(Fault { call, errno: answer.kind as u16, detail: detail as u32 })
}

fn exit(answer: &Message) -> Result<Option<Exit>, Error> {
    let [kind, number, ..] = answer.words;
    match kind {
        wire::FATE_NONE => Ok(None),
        wire::FATE_CODE => Ok(Some(Exit::Code(number))),
        wire::FATE_SIGNAL => Ok(Some(Exit::Signal { number, core: false })),
        wire::FATE_CORE => Ok(Some(Exit::Signal { number, core: true })),
        _ => Err(Error::Confused("an unknown kind of exit")),
    }
}

/// The descriptor of an answer that has one.
fn the_one(fds: &mut wire::Fds, without: &'static str) -> Result<OwnedFd, Error> {
    fds.complete().map_err(|errno| Error::Call { doing: "receive a descriptor from the keel", errno })?;
    fds.take(0).ok_or(Error::Confused(without))
}

fn holder_in(answer: &Message) -> Option<u32> {
    u32::try_from(answer.words[0]).ok().filter(|pid| *pid > 0)
}

fn text(name: &Name) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

/// An image for [`Keel::launch_from`].
pub fn sealed_image(image: &[u8]) -> Result<OwnedFd, Error> {
    sealed(image).map_err(|errno| Error::Call { doing: "put an image into a memfd", errno })
}
