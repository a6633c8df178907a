//! `sampanctl attach`: a service's output as it comes, and what is typed to it.
//!
//! One poll, no threads. Whoever detaches, or is killed, leaves the service as it is.
mod frames;
pub mod terminal;

use crate::args;
use crate::ask::{Ask, DONE, FAILED, complain, of, to_json};
use crate::client::{self, Error};
use crate::keys::Typed;
use frames::{Frame, Frames};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sampan_api as api;
use sampan_api::attach::{First, Last, PROTOCOL, TYPED, WORD, Window};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
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
    };
    let is_raw = raw.is_some();
    let end = session.run();
    drop(raw);
    if is_raw && !matches!(end, Ok(End::Last(Last::End { .. }))) {
        // Whatever the service has written last, what is said next is a line of its own.
        complain_after_newline();
    }
    Ok(said(&with.service, end?))
}

fn complain_after_newline() {
    use std::io::Write;
    let _ = writeln!(io::stderr());
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
            Catches::End => {
                [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT].into_iter().collect()
            }
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
}

impl Session<'_> {
    fn run(mut self) -> Result<End, Error> {
        self.draw_anew()?;
        loop {
            let [heard, typed, signalled] = self.wait()?;
            if signalled && let Some(end) = self.take_signals()? {
                return Ok(end);
            }
            if typed && self.read()? {
                return Ok(End::Detached);
            }
            if self.frames.send()? == frames::Sent::Refused && !heard {
                return Ok(End::BrokenOff);
            }
            if heard && let Some(end) = self.hear()? {
                return Ok(end);
            }
        }
    }

    /// Whether there is something from sampand, from standard input, and of signals.
    fn wait(&self) -> Result<[bool; 3], Error> {
        let mut socket = PollFlags::IN;
        if self.frames.waiting() > 0 {
            socket |= PollFlags::OUT;
        }
        let stdin = rustix::stdio::stdin();
        // What is typed on a terminal is looked through for the keys even where nobody takes it.
        let has_room = self.typed.is_some() || self.frames.waiting() < WAITING_BYTES_MAX;
        let input = if self.reads && has_room { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [
            PollFd::from_borrowed_fd(self.frames.fd(), socket),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stdin, input),
        ];
        // A hang-up is told unasked.
        let asked = if input.is_empty() { 2 } else { 3 };
        match poll(fds.get_mut(..asked).unwrap_or_default(), None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok([false; 3]),
            Err(error) => return Err(Error::Broken(error.into())),
        }
        let [socket, signals, input] = fds;
        let is_in = |flags: PollFlags| flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        Ok([is_in(socket.revents()), asked == 3 && is_in(input.revents()), is_in(signals.revents())])
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

    fn hear(&mut self) -> Result<Option<End>, Error> {
        let goes_on = self.frames.receive()?;
        while let Some(frame) = self.frames.next()? {
            match frame {
                Frame::Stdout(bytes) => write(rustix::stdio::stdout(), &bytes)?,
                Frame::Stderr(bytes) => write(rustix::stdio::stderr(), &bytes)?,
                Frame::Last(last) => return Ok(Some(End::Last(last))),
            }
        }
        Ok((!goes_on).then_some(End::BrokenOff))
    }
}

/// All of it; ours may be nonblocking, as whoever shares our terminal has made it.
fn write(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(error) => return Err(Error::Broken(error.into())),
        }
    }
    Ok(())
}
