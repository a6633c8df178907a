//! `sampanctl attach`: a service's output as it comes, and what is typed to it.
//!
//! One poll, no threads. Whoever detaches, or is killed, leaves the service as it is.
mod frames;
mod output;
pub mod terminal;

use crate::args;
use crate::ask::{Ask, DONE, FAILED, complain, of, to_json};
use crate::client::{self, Error};
use crate::keys::Typed;
use frames::{Frame, Frames};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use output::Output;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sampan_api as api;
use sampan_api::attach::{First, Last, PROTOCOL, TYPED, WORD, Window};
use std::os::fd::AsFd;
use terminal::Raw;

/// What waits for sampand at most; then nothing more is read from standard input.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// As shells have it for a program that a signal has ended.
const BY_SIGNAL: u8 = 128;

/// How it came to its end.
enum End {
    Detached,
    /// A signal that was sent to us.
    Signal(u8),
    Last(Last),
    BrokenOff,
}

pub fn attach(ask: &Ask<'_>, with: &args::Attach) -> Result<u8, Error> {
    let path = of(&with.service, "/attach");
    let mut frames = Frames::new(client::upgrade(ask.socket(), &path, PROTOCOL)?)?;
    let first: First = frames.first()?;
    let passes_input = first.stdin_open && !with.no_stdin;
    let raw = if first.tty && passes_input { Raw::new()? } else { None };
    let catches = if raw.is_some() {
        Catches::End
    } else if with.sig_proxy && !first.tty {
        Catches::All
    } else {
        Catches::Size
    };
    let session = Session {
        ask,
        service: &with.service,
        frames,
        signals: catches.signals()?,
        catches,
        typed: raw.is_some().then(|| Typed::new(&with.detach_keys)),
        reads: passes_input,
        has_terminal: first.tty,
        outputs: [Output::of(rustix::stdio::stdout()), Output::of(rustix::stdio::stderr())],
        shown: None,
        is_broken_off: false,
    };
    let is_raw = raw.is_some();
    let end = session.run();
    drop(raw);
    if is_raw && !matches!(end, Ok(End::Last(Last::End { .. }))) {
        // Whatever the service has written last, what is said next is a line of its own. Nobody may read it: then it is not said.
        let _ = Output::of(rustix::stdio::stderr()).write(b"\n");
    }
    Ok(said(&with.service, end?))
}

fn said(service: &str, end: End) -> u8 {
    match end {
        End::Detached => {
            complain(&format!("detached; {service} goes on"));
            DONE
        }
        End::Signal(number) => BY_SIGNAL.saturating_add(number),
        End::Last(Last::End { code: Some(code), .. }) => u8::try_from(code).unwrap_or(FAILED),
        End::Last(Last::End { code: None, text }) => {
            complain(&format!("{service} has ended: {text}"));
            FAILED
        }
        End::Last(Last::CutOff { text }) => {
            complain(&format!("{service}: {text}"));
            FAILED
        }
        End::BrokenOff => {
            complain(&format!(
                "the connection to sampand broke off: its worker has ended, {service} has not; attach again"
            ));
            FAILED
        }
    }
}

/// Which signals are not left to do what they do to any program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Catches {
    /// They are for the service.
    All,
    /// Our terminal has to be put back first.
    End,
    Size,
}

impl Catches {
    fn signals(self) -> Result<SignalFd, Error> {
        let mut set = match self {
            Catches::All => SigSet::all(),
            Catches::End => ENDS.into_iter().collect(),
            Catches::Size => SigSet::empty(),
        };
        for left in LEFT_ALONE {
            set.remove(left);
        }
        set.add(Signal::SIGWINCH);
        let failed = |errno: nix::Error| Error::Here(format!("cannot take over signals: {errno}"));
        set.thread_block().map_err(failed)?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(failed)
    }
}

/// What people end a program by.
const ENDS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];

/// Job control is our shell's, a fault our own, and what says that a child has ended or a reader has gone is for us.
const LEFT_ALONE: [Signal; 13] = [
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGCONT,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGURG,
];

struct Session<'s> {
    ask: &'s Ask<'s>,
    service: &'s str,
    frames: Frames,
    signals: SignalFd,
    catches: Catches,
    /// Looks for the keys that detach; none: our input is no terminal, or not raw.
    typed: Option<Typed>,
    /// Standard input is passed on.
    reads: bool,
    has_terminal: bool,
    /// Standard output and standard error.
    outputs: [Output; 2],
    /// What waits for room in one of them. Until it is out nothing more is taken from sampand, which cuts off who takes too little.
    shown: Option<Shown>,
    /// Nothing more comes from sampand.
    is_broken_off: bool,
}

/// Output that is not out yet.
struct Shown {
    /// Of the two.
    to: usize,
    rest: Vec<u8>,
}

/// What can be gone on with.
#[derive(Clone, Copy, Default)]
struct Ready {
    heard: bool,
    typed: bool,
    signalled: bool,
    has_room: bool,
}

impl Session<'_> {
    fn run(mut self) -> Result<End, Error> {
        self.draw_anew()?;
        loop {
            let ready = self.wait()?;
            if ready.signalled
                && let Some(end) = self.take_signals()?
            {
                return Ok(end);
            }
            if ready.typed && self.read()? {
                return Ok(End::Detached);
            }
            if self.frames.send()? == frames::Sent::Refused && !ready.heard && self.shown.is_none() {
                return Ok(End::BrokenOff);
            }
            if ready.heard {
                self.is_broken_off = !self.frames.receive()?;
            }
            if ready.has_room {
                self.show()?;
            }
            if let Some(end) = self.hear()? {
                return Ok(end);
            }
        }
    }

    fn wait(&self) -> Result<Ready, Error> {
        let mut socket = if self.shown.is_none() { PollFlags::IN } else { PollFlags::empty() };
        if self.frames.waiting() > 0 {
            socket |= PollFlags::OUT;
        }
        // What is typed on a terminal is looked through for the keys even where nobody takes it.
        let reads = self.reads && (self.typed.is_some() || self.frames.waiting() < WAITING_BYTES_MAX);
        let stdin = rustix::stdio::stdin();
        // A hang-up is told unasked: what is not waited for is left out.
        let room = self.shown.as_ref().and_then(|shown| self.outputs.get(shown.to));
        let asked = [
            Some(PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)),
            (!socket.is_empty()).then(|| PollFd::from_borrowed_fd(self.frames.fd(), socket)),
            reads.then(|| PollFd::from_borrowed_fd(stdin, PollFlags::IN)),
            room.map(|room| PollFd::new(room, PollFlags::OUT)),
        ];
        let mut fds: Vec<PollFd<'_>> = asked.iter().flatten().cloned().collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(Error::Broken(error.into())),
        }
        let mut answers = fds.iter().map(PollFd::revents);
        let mut next = |asked: &Option<PollFd<'_>>, flags: PollFlags| {
            let answer = asked.as_ref().and_then(|_| answers.next());
            answer.is_some_and(|answer| answer.intersects(flags | PollFlags::HUP | PollFlags::ERR))
        };
        let [signals, socket, input, room] = &asked;
        let signalled = next(signals, PollFlags::IN);
        // What waits is shown before more is heard.
        let heard = next(socket, PollFlags::IN) && self.shown.is_none();
        Ok(Ready {
            signalled,
            heard,
            typed: next(input, PollFlags::IN),
            has_room: next(room, PollFlags::OUT),
        })
    }

    fn take_signals(&mut self) -> Result<Option<End>, Error> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = u8::try_from(info.ssi_signo).unwrap_or_default();
            match self.catches {
                _ if i32::from(number) == Signal::SIGWINCH as i32 => self.say_size(0)?,
                Catches::All => {
                    let body = to_json(&api::Kill { signal: number.to_string() });
                    // It may have ended; then that is what is told next.
                    let _ = self.ask.send("POST", &of(self.service, "/kill"), Some(&body));
                    // What nobody reads would keep us for as long, whatever becomes of the service.
                    if self.shown.is_some() && ENDS.iter().any(|ends| *ends as i32 == i32::from(number)) {
                        return Ok(Some(End::Signal(number)));
                    }
                }
                Catches::End | Catches::Size => return Ok(Some(End::Signal(number))),
            }
        }
        Ok(None)
    }

    /// Whoever draws on a terminal does it again when its size changes, as docker makes it: there is no other way to see what was
    /// drawn before.
    fn draw_anew(&mut self) -> Result<(), Error> {
        self.say_size(1)?;
        self.say_size(0)
    }

    fn say_size(&mut self, more_rows: u16) -> Result<(), Error> {
        if let Some(size) = terminal::size().filter(|_| self.has_terminal) {
            let rows = size.rows.saturating_add(more_rows);
            self.frames.put(WORD, to_json(&Window { rows, ..size }).as_bytes());
        }
        Ok(())
    }

    /// True: the keys that detach were typed.
    fn read(&mut self) -> Result<bool, Error> {
        let mut buffer = [0; 16 << 10];
        let count = match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            // Standard input of the service stays open: it may be others that type.
            Ok(0) | Err(Errno::IO) => {
                self.reads = false;
                return Ok(false);
            }
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(Error::Broken(error.into())),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        let Some(typed) = &mut self.typed else {
            self.frames.put(TYPED, bytes);
            return Ok(false);
        };
        let mut pass = Vec::new();
        let over = typed.take(bytes, &mut pass);
        // As a terminal does with what is typed where nobody reads.
        if self.frames.waiting() < WAITING_BYTES_MAX {
            self.frames.put(TYPED, &pass);
        }
        Ok(over)
    }

    /// Goes through what has come, as far as it can be shown at once.
    fn hear(&mut self) -> Result<Option<End>, Error> {
        while self.shown.is_none() {
            let (to, rest) = match self.frames.next()? {
                Some(Frame::Stdout(bytes)) => (0, bytes),
                Some(Frame::Stderr(bytes)) => (1, bytes),
                Some(Frame::Last(last)) => return Ok(Some(End::Last(last))),
                None => return Ok(self.is_broken_off.then_some(End::BrokenOff)),
            };
            self.shown = Some(Shown { to, rest });
            self.show()?;
        }
        Ok(None)
    }

    /// As much as there is room for.
    fn show(&mut self) -> Result<(), Error> {
        while let Some(Shown { to, rest }) = &mut self.shown {
            let Some(output) = self.outputs.get(*to).filter(|_| !rest.is_empty()) else {
                self.shown = None;
                return Ok(());
            };
            match output.write(rest).map_err(|error| Error::Broken(error.into()))? {
                0 => return Ok(()),
                count => drop(rest.drain(..count)),
            }
        }
        Ok(())
    }
}
