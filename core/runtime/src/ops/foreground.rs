//! Waiting for a process as a shell's foreground job: signals forwarded, a terminal relayed, orphans reaped, its code returned.
//!
//! ```text
//!   our stdin --raw--> master     master -> our stdout     SIGWINCH -> master's size
//!   signals -> the process        pidfd -> its end         SIGCHLD -> reap what we adopted
//! ```
//! One poll, no threads. The end is the process's end, not the terminal's: a child that keeps the terminal open does not
//! hold us up. Deliberately absent: how the process came to be.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, OutputModes, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::kernel::pidfd::{self, Exit};
use crate::kernel::signals::{self, Received, Signals};

/// Which signals reach the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// All: it has a session of its own.
    All,
    /// Those that processes sent us: what the terminal sends, it gets itself, being in our process group.
    FromProcesses,
}

/// Waits for the process and reaps it.
pub fn wait(
    pid: i32,
    process: BorrowedFd<'_>,
    signals: &Signals,
    forward: Forward,
    relay: Option<Relay>,
) -> io::Result<Exit> {
    let mut relay = relay;
    let mut reaped = None;
    loop {
        let over = wait_for_any(process, signals, relay.as_ref())?;
        if let Some(relay) = &mut relay {
            relay.turn()?;
        }
        while let Some(signal) = signals.next()? {
            deliver(&signal, process, forward, relay.as_ref());
        }
        while let Some((ended, exit)) = signals::reap() {
            reaped = reaped.or((ended == pid).then_some(exit));
        }
        if over {
            if let Some(relay) = &mut relay {
                relay.drain()?;
            }
            return Ok(reaped.unwrap_or_else(|| pidfd::exit(process)));
        }
    }
}

/// Sleeps until there is something to do; true: the process has ended.
fn wait_for_any(process: BorrowedFd<'_>, signals: &Signals, relay: Option<&Relay>) -> io::Result<bool> {
    let mut fds = vec![
        PollFd::from_borrowed_fd(process, PollFlags::IN),
        PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN),
    ];
    if let Some(relay) = relay {
        relay.add_to(&mut fds);
    }
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(fds.first().is_some_and(|process| !process.revents().is_empty()))
}

fn deliver(signal: &Received, process: BorrowedFd<'_>, forward: Forward, relay: Option<&Relay>) {
    match (signal.number, relay) {
        // The end of a child is ours to reap; SIGURG is not passed on, as in runc (Go's runtime wakes its threads with it).
        (libc::SIGCHLD | libc::SIGURG, _) => {}
        (libc::SIGWINCH, Some(relay)) => relay.resize(),
        // It may have ended a moment ago; the pidfd says so next.
        (number, _) if forward == Forward::All || !signal.from_kernel => {
            drop(pidfd::send(process, number));
        }
        _ => {}
    }
}

/// Our terminal joined to a pty's master.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    /// What our terminal was like; put back on drop.
    before: Option<Termios>,
    from_master: VecDeque<u8>,
    to_master: VecDeque<u8>,
    stdin_open: bool,
    master_open: bool,
}

/// One direction holds at most this much; then its source waits.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What the kernel keeps of a pty's output (TTYB_DEFAULT_MEM_LIMIT in drivers/tty/tty_buffer.c).
const PTY_BYTES_MAX: usize = 640 * 1024;

impl Relay {
    /// Sets our terminal raw, if stdin is one, and the pty to its size.
    pub fn new(master: OwnedFd) -> io::Result<Relay> {
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        let stdin = rustix::stdio::stdin();
        let mut before = None;
        if isatty(stdin) {
            let old = tcgetattr(stdin)?;
            let mut raw = old.clone();
            raw.make_raw();
            // The container's terminal leaves newlines alone, so ours adds the carriage returns.
            raw.output_modes |= OutputModes::OPOST;
            tcsetattr(stdin, OptionalActions::Now, &raw)?;
            before = Some(old);
        }
        let relay = Relay {
            master,
            before,
            from_master: VecDeque::new(),
            to_master: VecDeque::new(),
            stdin_open: true,
            master_open: true,
        };
        relay.resize();
        Ok(relay)
    }

    /// The pty takes the size of our terminal, if we have one.
    pub fn resize(&self) {
        if let Some(size) = window() {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    fn add_to<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let mut master = PollFlags::empty();
        if self.from_master.len() < BUFFER_BYTES_MAX {
            master |= PollFlags::IN;
        }
        if !self.to_master.is_empty() {
            master |= PollFlags::OUT;
        }
        if self.master_open && !master.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.master.as_fd(), master));
        }
        if self.stdin_open && self.to_master.len() < BUFFER_BYTES_MAX {
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
        if !self.from_master.is_empty() {
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::OUT));
        }
    }

    /// Moves what can be moved without waiting.
    fn turn(&mut self) -> io::Result<()> {
        if self.stdin_open && ready(rustix::stdio::stdin(), PollFlags::IN)? {
            self.stdin_open = take(rustix::stdio::stdin(), &mut self.to_master)?;
            if !self.stdin_open {
                // The end of a piped stdin is the terminal's end-of-file key.
                self.to_master.push_back(4);
            }
        }
        if self.master_open && !self.to_master.is_empty() && ready(self.master.as_fd(), PollFlags::OUT)? {
            give(self.master.as_fd(), &mut self.to_master)?;
        }
        if self.master_open
            && self.from_master.len() < BUFFER_BYTES_MAX
            && ready(self.master.as_fd(), PollFlags::IN)?
        {
            self.master_open = take(self.master.as_fd(), &mut self.from_master)?;
        }
        if !self.from_master.is_empty() && ready(rustix::stdio::stdout(), PollFlags::OUT)? {
            give(rustix::stdio::stdout(), &mut self.from_master)?;
        }
        Ok(())
    }

    /// What the process wrote before its end: at most what a pty holds. Whoever goes on to write into it, as a child that
    /// ignores the hang-up may, is not waited for.
    fn drain(&mut self) -> io::Result<()> {
        let mut left = PTY_BYTES_MAX;
        loop {
            let before = self.from_master.len();
            if self.master_open && left > 0 && ready(self.master.as_fd(), PollFlags::IN)? {
                self.master_open = take(self.master.as_fd(), &mut self.from_master)?;
                left = left.saturating_sub(self.from_master.len() - before);
            } else if self.from_master.is_empty() {
                return Ok(());
            }
            while !self.from_master.is_empty() {
                // It may be nonblocking, and full.
                wait_writable(rustix::stdio::stdout())?;
                give(rustix::stdio::stdout(), &mut self.from_master)?;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// A terminal in the foreground is joined to ours, so there must be one; asked before anything is made. The words are
/// runc's, which looks in the same places.
pub fn check_terminal() -> super::Result<()> {
    let stdio = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    if stdio.into_iter().any(isatty) {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open("/dev/tty", flags, rustix::fs::Mode::empty()) {
        Ok(_) => Ok(()),
        Err(_) => Err(super::Error::new("open /dev/tty: no such device or address")
            .field("process.terminal")
            .likely("we run without a terminal; set terminal to false, or detach with --console-socket")),
    }
}

/// Rows and columns of our terminal.
pub fn size() -> Option<(u16, u16)> {
    window().map(|w| (w.ws_row, w.ws_col))
}

fn window() -> Option<Winsize> {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
        .into_iter()
        .find_map(|ours| tcgetwinsize(ours).ok())
}

fn ready(fd: BorrowedFd<'_>, what: PollFlags) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, what)];
    match poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(n) => Ok(n > 0),
        Err(Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn wait_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// False at the end of the source. A pty whose last slave is closed says EIO.
fn take(fd: BorrowedFd<'_>, into: &mut VecDeque<u8>) -> io::Result<bool> {
    let mut buffer = [0; 8192];
    match rustix::io::read(fd, &mut buffer) {
        Ok(0) | Err(Errno::IO) => Ok(false),
        Ok(n) => {
            into.extend(&buffer[..n]);
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// What nobody reads any more is dropped.
fn give(fd: BorrowedFd<'_>, from: &mut VecDeque<u8>) -> io::Result<()> {
    let (bytes, _) = from.as_slices();
    match rustix::io::write(fd, bytes) {
        Ok(n) => drop(from.drain(..n)),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(Errno::PIPE | Errno::IO) => from.clear(),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}
