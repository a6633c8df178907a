//! The keel's process from start to end: one `poll` over the signals, the worker's pidfd and socket, the holder's
//! pidfd and the watchdog's timer. Everything is allocated before the loop begins. What to do when a worker ends is decided by
//! `after`, a function without effects; `signals` hears, `serve` answers, `say` tells.

mod after;
mod say;
mod serve;
mod signals;

use crate::executed::COMM;
use crate::hold::{Hold, fate};
use crate::holder::Holder;
use crate::orders::{Ending, Order};
use crate::sys::{self, Strings};
use crate::{EXIT_AGAIN, WORKER, wire};
use after::{FALSE_STARTS_MAX, History, Next, after};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions};
use rustix::time::{ClockId, Timespec};
use say::{Died, say};
use std::ffi::OsString;
use std::time::Duration;

/// From SIGABRT (a core dump, a last word of the crash handler) to SIGKILL.
const HUNG_GRACE: Duration = Duration::from_secs(1);

/// Nothing came for so long: what was done before may not be done again soon.
const QUIET: Duration = Duration::from_secs(1);

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
    /// When the program's pages are given back, if nothing comes before; none: they are, and nothing has come since.
    trim_at: Option<Duration>,
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

type Failed = (&'static str, Errno);

impl Tender {
    fn new(arguments: Vec<OsString>) -> Result<Tender, Failed> {
        sys::close_inherited();
        let _ = rustix::thread::set_name(COMM);
        sys::keep_exit_statuses().map_err(|e| ("set SIGCHLD to its default", e))?;
        raise_open_files();
        // Not permitted to an ordinary user, nor in many containers. Children get theirs by their plan.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-900");

        let signals = signals::take_over()?;
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
            trim_at: None,
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
            self.trim_when_quiet(&ready);
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

    /// Of the pages of our program a sleeping keel needs few.
    fn trim_when_quiet(&mut self, ready: &Ready) {
        if ready.any() {
            self.trim_at = Some(now() + QUIET);
        } else if self.trim_at.take_if(|at| now() >= *at).is_some() {
            sys::trim_program();
        }
    }

    fn wait(&self, now: Duration) -> Ready {
        let start = self.worker.is_none().then_some(self.next_start);
        let kill = self.worker.as_ref().and_then(|worker| worker.kill_at);
        let renew = self.holder.as_ref().and_then(Holder::due);
        let soonest = [start, kill, renew, self.trim_at].into_iter().flatten().min();
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

impl Ready {
    fn any(&self) -> bool {
        let Ready { signals, ended, socket, watchdog, holder, others } = *self;
        signals || ended || socket || watchdog || holder || others
    }
}

fn is_ready(fd: &PollFd<'_>) -> bool {
    !fd.revents().is_empty()
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
