//! The keel's process from start to end: one `poll` over the signals, the worker's pidfd and socket, the holder's
//! pidfd and the watchdog's timer. Everything is allocated before the loop begins. What to do when a worker ends is decided by
//! `after`, a function without effects.

use super::executed::COMM;
use super::hold::{Hold, fate, high, reply, wait_for};
use super::holder::Holder;
use super::orders::{Ending, Order};
use super::sys::{self, Strings};
use super::wire::{self, Message, Op};
use super::{EXIT_AGAIN, EXIT_EXEC_FAILED, WORKER};
use core::fmt::Write as _;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions};
use rustix::time::{ClockId, Timespec};
use sampan_journal::crash::keel_point as point;
use std::ffi::OsString;
use std::time::Duration;

/// A worker that lived this long may die and be followed at once.
const STEADY: Duration = Duration::from_secs(10);
const DELAY_FIRST: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// So many workers in a row that did not live long: if none ever said `ready`, or we were asked to end and this one
/// did not, it will not work; say so and end.
const FALSE_STARTS_MAX: u32 = 3;
/// From SIGABRT (a core dump, a last word of the crash handler) to SIGKILL.
const HUNG_GRACE: Duration = Duration::from_secs(1);
/// From the end of the conversation to the end of the worker.
const LEAVE_GRACE: Duration = Duration::from_secs(10);
/// Requests in a row before signals, the worker's end and other connections are looked at again: a launch takes 0.2 ms, and
/// on one of the others the worker's loop waits.
const BATCH: usize = 4;

/// Passed on to the worker as they are. TERM, INT and HUP become orders (`orders`). The rest of `HELD` is read and
/// forgotten: the keel has no use for it, and its default would end or stop the one process that must go on.
const PASSED: [(i32, Signal); 2] = [(libc::SIGQUIT, Signal::QUIT), (libc::SIGWINCH, Signal::WINCH)];
const HELD: [NixSignal; 10] = [
    NixSignal::SIGTERM,
    NixSignal::SIGINT,
    NixSignal::SIGHUP,
    NixSignal::SIGQUIT,
    NixSignal::SIGWINCH,
    NixSignal::SIGUSR1,
    NixSignal::SIGUSR2,
    NixSignal::SIGTSTP,
    NixSignal::SIGALRM,
    NixSignal::SIGCHLD,
];

/// Becomes the keel.
pub fn run(arguments: Vec<OsString>) -> ! {
    match Tender::new(arguments) {
        // Nothing is dropped: what it has open is the holder's too.
        Ok(mut tender) => std::process::exit(tender.tend().into()),
        Err((doing, errno)) => {
            say(format_args!("cannot {doing}: {errno}"));
            std::process::exit(1)
        }
    }
}

struct Tender {
    argv: Strings,
    environment: Strings,
    signals: SignalFd,
    hold: Hold,
    worker: Option<Worker>,
    /// From the moment when a worker knows where the run folder is.
    holder: Option<Holder>,
    next_start: Duration,
    history: History,
}

struct Worker {
    pid: Pid,
    pidfd: OwnedFd,
    socket: OwnedFd,
    since: Duration,
    ready: bool,
    /// Orders to end that came before it was ready.
    unheard: u32,
    /// By a signal, SIGSTOP as a rule; that was said.
    stopped: bool,
    /// It has closed its end of the socket: it is about to end, and nothing more is expected of it.
    silent: bool,
    /// The watchdog fired.
    hung: bool,
    /// At this time it is killed: it hung, or it is silent and does not end.
    kill_at: Option<Duration>,
}

/// What `after` needs to know of earlier workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct History {
    any_ready: bool,
    /// Died in a row without having lived for `STEADY`.
    brief: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    End(u8),
    Start { delay: Duration },
}

/// What follows the end of a worker.
fn after(
    history: &mut History,
    fate: (i32, i32),
    was_ready: bool,
    lived: Duration,
    asked_to_end: bool,
) -> Next {
    history.any_ready |= was_ready;
    match fate {
        (wire::FATE_CODE, 0) => return Next::End(0),
        // What a worker cannot do without, or a configuration that does not load, ends `sampand` when the user starts it. When a
        // crashed worker's successor meets that, services run: better one that comes back as soon as it is mended.
        (wire::FATE_CODE, code @ (1 | 2)) if !history.any_ready => return Next::End(code as u8),
        // What is asked to end and cannot end all says so.
        (wire::FATE_CODE, 1) if asked_to_end && was_ready => return Next::End(1),
        (wire::FATE_CODE, code) if code == i32::from(EXIT_AGAIN) => {
            history.brief = 0;
            return Next::Start { delay: Duration::ZERO };
        }
        _ => {}
    }
    history.brief = if lived >= STEADY { 0 } else { history.brief + 1 };
    if (!history.any_ready || asked_to_end && !was_ready) && history.brief >= FALSE_STARTS_MAX {
        return Next::End(1);
    }
    let delay = match history.brief {
        0 | 1 => Duration::ZERO,
        n => DELAY_FIRST.saturating_mul(1 << (n - 2).min(10)).min(DELAY_MAX),
    };
    Next::Start { delay }
}

type Failed = (&'static str, Errno);

impl Tender {
    fn new(arguments: Vec<OsString>) -> Result<Tender, Failed> {
        sys::close_inherited();
        let _ = rustix::thread::set_name(COMM);
        sys::keep_exit_statuses().map_err(|e| ("set SIGCHLD to its default", e))?;
        raise_open_files();
        // Not permitted to an ordinary user, nor in many containers. Children get theirs by their plan.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-900");

        let mut held = SigSet::empty();
        HELD.into_iter().for_each(|signal| held.add(signal));
        held.thread_block().map_err(|e| ("block signals", from_nix(e)))?;
        let signals = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|e| ("make a signalfd", from_nix(e)))?;

        let mut words = arguments.into_iter();
        let name = words.next().unwrap_or_else(|| "sampand".into());
        let argv = Strings::new([name, WORKER.into()].into_iter().chain(words));
        let environment = Strings::new(std::env::vars_os().map(|(mut key, value)| {
            key.push("=");
            key.push(value);
            key
        }));
        Ok(Tender {
            argv: argv.ok_or(("pass on the arguments", Errno::INVAL))?,
            environment: environment.ok_or(("pass on the environment", Errno::INVAL))?,
            signals,
            hold: Hold::new()?,
            worker: None,
            holder: None,
            next_start: Duration::ZERO,
            history: History::default(),
        })
    }

    fn tend(&mut self) -> u8 {
        loop {
            let now = now();
            if self.worker.is_none() && now >= self.next_start {
                self.start_worker(now);
            }
            if let Some(holder) = &mut self.holder
                && holder.renew(&self.hold, now)
            {
                self.hold.orders.give(Order::Holder);
            }
            let ready = self.wait(now);
            if ready.signals
                && let Some(code) = self.pass_signals()
            {
                return self.end(code);
            }
            if ready.holder {
                self.holder_ended();
            }
            if ready.ended {
                if let Some(code) = self.worker_ended() {
                    return self.end(code);
                }
                continue;
            }
            if ready.socket {
                self.serve();
            }
            if ready.others {
                self.serve_others();
            }
            self.watch(ready.watchdog);
        }
    }

    /// What runs on keeps its holder, or gets one: the next one's time may not have come. Nothing of the table that they share is
    /// closed here.
    fn end(&mut self, code: u8) -> u8 {
        if self.hold.holds_no_process() {
            if let Some(holder) = self.holder.take() {
                holder.end();
            }
        } else if let Some(holder) = &mut self.holder {
            holder.stay(&self.hold, now());
        }
        code
    }

    fn wait(&self, now: Duration) -> Ready {
        let start = self.worker.is_none().then_some(self.next_start);
        let kill = self.worker.as_ref().and_then(|worker| worker.kill_at);
        let renew = self.holder.as_ref().and_then(Holder::due);
        let soonest = [start, kill, renew].into_iter().flatten().min();
        let timeout = soonest.map(|at| timespec(at.saturating_sub(now)));
        // In the place of what is not there stands a descriptor of which nothing is asked.
        let nothing = || PollFd::new(&self.signals, PollFlags::empty());
        let of_worker = |of: fn(&Worker) -> Option<&OwnedFd>| {
            self.worker.as_ref().and_then(of).map_or_else(nothing, |fd| PollFd::new(fd, PollFlags::IN))
        };
        let first = [
            PollFd::new(&self.signals, PollFlags::IN),
            of_worker(|worker| Some(&worker.pidfd)),
            // A closed socket is always readable.
            of_worker(|worker| (!worker.silent).then_some(&worker.socket)),
            PollFd::new(&self.hold.watchdog, PollFlags::IN),
            match self.holder.as_ref().and_then(Holder::pidfd) {
                Some(pidfd) => PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
                None => nothing(),
            },
        ];
        let mut fds: [PollFd<'_>; 5 + wire::CONNECTIONS_MAX] = core::array::from_fn(|_| nothing());
        let others =
            self.hold.connections.open().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN));
        let mut count = 0;
        for (to, from) in fds.iter_mut().zip(first.into_iter().chain(others)) {
            *to = from;
            count += 1;
        }
        // EINTR, ENOMEM: the next turn asks again.
        let Some(fds) = fds.get_mut(..count) else { return Ready::default() };
        if poll(fds, timeout.as_ref()).is_err() {
            return Ready::default();
        }
        let mut ready = fds.iter().map(is_ready);
        let mut next = || ready.next().unwrap_or_default();
        let (signals, ended, socket, watchdog, holder) = (next(), next(), next(), next(), next());
        Ready { signals, ended, socket, watchdog, holder, others: ready.any(|ready| ready) }
    }

    fn holder_ended(&mut self) {
        if let Some(holder) = &mut self.holder {
            say(format_args!("the holder of our descriptors has ended: another one starts"));
            holder.ended(now());
        }
    }

    /// Who asks for a holder is told its pid; 0: it has just ended, and another one starts.
    fn with_holder(&self, request: &Message, mut answer: Message) -> Message {
        if matches!(Op::from_word(request.kind), Some(Op::Hold | Op::Holder)) {
            let pid = self.holder.as_ref().and_then(Holder::pid);
            answer.words[0] = pid.map_or(0, |pid| pid.as_raw_nonzero().get());
        }
        answer
    }

    /// From here on what we hold outlives us.
    fn start_holder(&mut self, request: &Message, fds: &mut wire::Fds) -> Result<(), Errno> {
        fds.complete()?;
        let record = high(fds.take(0).ok_or(Errno::BADF)?)?;
        if self.holder.is_none() {
            self.holder = Some(Holder::start(request, record, &self.hold, now())?);
        }
        Ok(())
    }

    fn start_worker(&mut self, now: Duration) {
        let started = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| ("make a socket pair", e))
            .and_then(|(ours, theirs)| {
                sys::clone_worker(self.hold.program.as_fd(), &self.argv, &self.environment, theirs.as_fd())
                    .map(|(pid, pidfd)| (pid, pidfd, ours))
                    .map_err(|e| ("clone", e))
            });
        match started {
            Ok((pid, pidfd, socket)) => {
                self.hold.workers = self.hold.workers.saturating_add(1);
                self.hold.table.set_worker(Some(pidfd.as_fd()));
                self.worker = Some(Worker {
                    pid,
                    pidfd,
                    socket,
                    since: now,
                    ready: false,
                    unheard: 0,
                    stopped: false,
                    silent: false,
                    hung: false,
                    kill_at: None,
                });
            }
            Err((doing, errno)) => {
                say(format_args!("cannot start the worker, trying again in 1 s: {doing}: {errno}"));
                self.next_start = now + Duration::from_secs(1);
            }
        }
    }

    /// Some: end with this code.
    fn pass_signals(&mut self) -> Option<u8> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = info.ssi_signo as i32;
            if number == libc::SIGCHLD {
                if rustix::process::getpid().is_init() {
                    self.reap_strangers();
                }
                self.worker_stopped();
                continue;
            }
            if let Some((_, signal)) = PASSED.iter().find(|(passed, _)| *passed == number) {
                if let Some(worker) = self.worker.as_ref().filter(|worker| worker.ready) {
                    let _ = rustix::process::pidfd_send_signal(&worker.pidfd, *signal);
                }
                continue;
            }
            // The kernel itself sends SIGHUP for one reason: our terminal is gone. That is no wish to reload.
            let number =
                if number == libc::SIGHUP && info.ssi_code == SI_KERNEL { libc::SIGTERM } else { number };
            let Some((_, order)) = Order::SIGNALS.into_iter().find(|(signal, _)| *signal == number) else {
                continue;
            };
            self.hold.orders.give(order);
            if order == Order::Reload {
                continue;
            }
            match &mut self.worker {
                Some(worker) if worker.ready => {}
                Some(worker) => {
                    worker.unheard += 1;
                    if worker.unheard > 1 {
                        say(format_args!("asked to end twice, but the worker does not get ready: ending"));
                        return Some(1);
                    }
                }
                // What there is to stop, only a worker can stop: no more waiting for it.
                None => self.next_start = Duration::ZERO,
            }
        }
        None
    }

    /// A child has ended, stopped or goes on. A worker that was stopped answers nobody, and somebody wonders why.
    fn worker_stopped(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let options = WaitIdOptions::STOPPED | WaitIdOptions::CONTINUED | WaitIdOptions::NOHANG;
        let told = rustix::process::waitid(WaitId::PidFd(worker.pidfd.as_fd()), options);
        let Ok(Some(status)) = told else { return };
        let pid = worker.pid.as_raw_nonzero();
        if status.stopped() && !worker.stopped {
            say(format_args!(
                "the worker, process {pid}, was stopped by a signal; `kill -CONT {pid}` lets it go on"
            ));
        } else if status.continued() && worker.stopped {
            say(format_args!("the worker, process {pid}, goes on"));
        }
        worker.stopped = status.stopped();
    }

    /// As PID 1 we are the parent of every orphan. What we did not clone we bury; ours wait for the worker.
    fn reap_strangers(&self) {
        let mut text = [0u8; 4096];
        let Ok(file) = std::fs::File::open("/proc/thread-self/children") else { return };
        let mut pid = 0i32;
        while let Ok(got @ 1..) = rustix::io::read(&file, &mut text) {
            for byte in text.get(..got).unwrap_or_default() {
                if byte.is_ascii_digit() {
                    pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
                    continue;
                }
                let is_worker = self.worker.as_ref().is_some_and(|w| w.pid.as_raw_nonzero().get() == pid);
                let is_holder = self
                    .holder
                    .as_ref()
                    .and_then(Holder::pid)
                    .is_some_and(|h| h.as_raw_nonzero().get() == pid);
                if !is_worker && !is_holder && !self.hold.table.is_child(pid) {
                    let _ = wait_for(pid, WaitIdOptions::empty());
                }
                pid = 0;
            }
        }
    }

    /// Some: end with this code.
    fn worker_ended(&mut self) -> Option<u8> {
        let worker = self.worker.take()?;
        self.hold.table.set_worker(None);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let ended = rustix::process::waitid(WaitId::PidFd(worker.pidfd.as_fd()), options);
        let fate = match ended {
            Ok(Some(_)) if worker.hung => (wire::FATE_HUNG, 0),
            Ok(Some(status)) => fate(&status),
            _ => (wire::FATE_NONE, 0),
        };
        // A turn that it did not end is not its successor's.
        self.hold.disarm();
        self.hold.connections.close_all();
        let now = now();
        let lived = now.saturating_sub(worker.since);
        self.hold.fate = fate;
        match after(&mut self.history, fate, worker.ready, lived, self.hold.orders.ending != Ending::No) {
            Next::Start { delay } => {
                self.next_start = now + delay;
                if fate != (wire::FATE_CODE, i32::from(EXIT_AGAIN)) {
                    let ms = delay.as_millis();
                    let count = self.hold.table.children.len();
                    say(format_args!(
                        "the worker {}; {count} processes run on, the next worker starts in {ms} ms",
                        Died(fate)
                    ));
                }
                None
            }
            Next::End(code) => {
                if !matches!(fate, (wire::FATE_CODE, 0..=2)) || self.history.brief >= FALSE_STARTS_MAX {
                    say(format_args!(
                        "the worker {} {} times without getting ready: giving up",
                        Died(fate),
                        self.history.brief
                    ));
                }
                Some(code)
            }
        }
    }

    fn watch(&mut self, fired: bool) {
        if fired {
            self.hold.disarm();
        }
        let now = now();
        let Some(worker) = &mut self.worker else { return };
        if fired && !worker.hung {
            worker.hung = true;
            worker.kill_at = Some(now + HUNG_GRACE);
            say(format_args!("the worker hangs (a turn of its loop does not end): killing it"));
            let _ = rustix::process::pidfd_send_signal(&worker.pidfd, Signal::ABORT);
        } else if worker.kill_at.is_some_and(|at| now >= at) {
            let _ = rustix::process::pidfd_send_signal(&worker.pidfd, Signal::KILL);
            // A process in an uninterruptible wait may take its time: ask once a second.
            worker.kill_at = Some(now + HUNG_GRACE);
        }
    }

    fn serve(&mut self) {
        for _ in 0..BATCH {
            let Some(worker) = &self.worker else { return };
            let (request, mut fds) = match wire::receive(worker.socket.as_fd(), RecvFlags::DONTWAIT) {
                Ok(Some(request)) => request,
                // It is read again, by and by.
                Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM | Errno::NOBUFS) => return,
                Ok(None) | Err(Errno::CONNRESET) => return self.worker_leaves(),
                // It speaks nonsense.
                Err(_) => {
                    let _ = rustix::process::pidfd_send_signal(&worker.pidfd, Signal::KILL);
                    return;
                }
            };
            point("asked");
            let mut done = Ok(());
            match Op::from_word(request.kind) {
                Some(Op::Ready) => self.worker_ready(),
                Some(Op::Hold) => done = self.start_holder(&request, &mut fds),
                Some(Op::Release) => {
                    if let Some(holder) = self.holder.take() {
                        holder.end();
                    }
                }
                _ => {}
            }
            let handled = done.map_err(Into::into).and_then(|()| self.hold.handle(&request, &mut fds));
            let handled = handled.map(|(answer, fd)| (self.with_holder(&request, answer), fd));
            drop(fds);
            point("before the answer");
            let Some(worker) = &self.worker else { return };
            match reply(worker.socket.as_fd(), &request, handled) {
                Ok(()) => point("answered"),
                Err(Errno::PIPE | Errno::CONNRESET) => return self.worker_leaves(),
                // It asks and does not listen.
                Err(_) => {
                    let _ = rustix::process::pidfd_send_signal(&worker.pidfd, Signal::KILL);
                    return;
                }
            }
        }
    }

    /// One request of each of the worker's processes that has one.
    fn serve_others(&mut self) {
        for at in 0..wire::CONNECTIONS_MAX {
            let Some(socket) = self.hold.connections.get(at) else { continue };
            let (request, mut fds) = match wire::receive(socket, RecvFlags::DONTWAIT) {
                Ok(Some(request)) => request,
                Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM | Errno::NOBUFS) => continue,
                // It has ended, or speaks nonsense.
                Ok(None) | Err(_) => {
                    self.hold.connections.close(at);
                    continue;
                }
            };
            let handled = match Op::from_word(request.kind) {
                Some(op) if op.is_workers() => Err(Errno::PERM.into()),
                _ => self.hold.handle(&request, &mut fds),
            };
            let Some(socket) = self.hold.connections.get(at) else { continue };
            if reply(socket, &request, handled).is_err() {
                self.hold.connections.close(at);
            }
        }
    }

    /// It closed its end: it is on its way out, most likely with the exit code that counts.
    fn worker_leaves(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.silent = true;
            worker.kill_at = Some(now() + LEAVE_GRACE);
        }
    }

    fn worker_ready(&mut self) {
        self.history.any_ready = true;
        let Some(worker) = &mut self.worker else { return };
        worker.ready = true;
    }
}

#[derive(Default)]
struct Ready {
    signals: bool,
    ended: bool,
    socket: bool,
    watchdog: bool,
    holder: bool,
    /// One of the connections beside the worker's own.
    others: bool,
}

const SI_KERNEL: i32 = 0x80;

fn is_ready(fd: &PollFd<'_>) -> bool {
    !fd.revents().is_empty()
}

fn from_nix(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn now() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

/// "died of signal 11": how the worker ended, for people.
struct Died((i32, i32));

impl core::fmt::Display for Died {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            (wire::FATE_CODE, code) if code == i32::from(EXIT_EXEC_FAILED) => {
                write!(f, "could not be executed")
            }
            (wire::FATE_CODE, 101) => write!(f, "panicked"),
            (wire::FATE_CODE, code) => write!(f, "ended with code {code}"),
            (wire::FATE_SIGNAL, 9) => write!(f, "was killed (SIGKILL)"),
            (wire::FATE_SIGNAL, signal) => write!(f, "died of signal {signal}"),
            (wire::FATE_CORE, signal) => write!(f, "died of signal {signal} (core dumped)"),
            (wire::FATE_HUNG, _) => write!(f, "hung and was killed"),
            _ => write!(f, "is gone"),
        }
    }
}

/// One line on stderr, without allocating, and only if it does not block: a reader that has stopped must not
/// stop us.
fn say(what: core::fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 300], len: 0 };
    let _ = writeln!(line, "sampand: {what}");
    let stderr = rustix::stdio::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    if poll(&mut fds, Some(&timespec(Duration::ZERO))) == Ok(1) {
        let _ = rustix::io::write(stderr, line.bytes.get(..line.len).unwrap_or_default());
    }
}

struct Line {
    bytes: [u8; 300],
    len: usize,
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let len = text.len().min(room.len());
        for (to, from) in room.iter_mut().zip(text.as_bytes()) {
            *to = *from;
        }
        self.len += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: (i32, i32) = (wire::FATE_SIGNAL, 11);

    fn check(history: History, fate: (i32, i32), ready: bool, lived_s: u64, expected: Next) {
        let mut history = history;
        assert_eq!(after(&mut history, fate, ready, Duration::from_secs(lived_s), false), expected);
    }

    fn served() -> History {
        History { any_ready: true, ..History::default() }
    }

    fn start(ms: u64) -> Next {
        Next::Start { delay: Duration::from_millis(ms) }
    }

    #[test]
    fn asked_to_end_ends_the_keel() {
        check(served(), (wire::FATE_CODE, 0), true, 5, Next::End(0));
    }

    #[test]
    fn a_failure_and_a_bad_configuration_end_the_keel_at_first() {
        for code in [1, 2] {
            check(History::default(), (wire::FATE_CODE, code), false, 0, Next::End(code as u8));
        }
    }

    #[test]
    fn after_a_crash_they_do_not() {
        for code in [1, 2] {
            check(History { brief: 1, ..served() }, (wire::FATE_CODE, code), false, 0, start(100));
        }
    }

    #[test]
    fn asked_to_end_a_worker_says_with_1_that_not_all_has_ended() {
        let mut history = served();
        assert_eq!(after(&mut history, (wire::FATE_CODE, 1), true, Duration::ZERO, true), Next::End(1));
        // One that cannot even begin is followed a few times.
        let mut fails = || after(&mut history, (wire::FATE_CODE, 1), false, Duration::ZERO, true);
        assert_eq!([fails(), fails(), fails()], [start(0), start(100), Next::End(1)]);
    }

    #[test]
    fn a_crash_after_long_service_is_followed_at_once() {
        check(History { brief: 7, ..served() }, CRASH, true, 11, start(0));
    }

    #[test]
    fn crash_loops_slow_down() {
        let mut history = served();
        let delays: Vec<u128> = (0..9)
            .map(|_| match after(&mut history, CRASH, true, Duration::ZERO, false) {
                Next::Start { delay } => delay.as_millis(),
                Next::End(code) => panic!("ended with {code}"),
            })
            .collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn a_worker_that_never_gets_ready_is_given_up() {
        let mut history = History::default();
        assert_eq!(after(&mut history, CRASH, false, Duration::ZERO, false), start(0));
        assert_eq!(after(&mut history, CRASH, false, Duration::ZERO, false), start(100));
        assert_eq!(after(&mut history, CRASH, false, Duration::ZERO, false), Next::End(1));
    }

    #[test]
    fn an_upgrade_is_no_crash() {
        check(History { brief: 5, ..served() }, (wire::FATE_CODE, EXIT_AGAIN.into()), true, 0, start(0));
    }

    #[test]
    fn asked_to_end_it_does_not_wait_for_ever_for_a_worker_that_can() {
        let mut history = served();
        let mut asked = || after(&mut history, CRASH, false, Duration::ZERO, true);
        assert_eq!([asked(), asked(), asked()], [start(0), start(100), Next::End(1)]);
    }
}
