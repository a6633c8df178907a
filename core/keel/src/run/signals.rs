//! Signals to the keel. Those that are orders go to whichever worker lives (`orders`), some are passed on as they are, the rest is
//! read and forgotten.

use super::Tender;
use super::say::say;
use crate::hold::wait_for;
use crate::holder::Holder;
use crate::orders::Order;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::time::Duration;

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
const SI_KERNEL: i32 = 0x80;

/// Blocks what is not to end or stop us. From here on it is read.
pub fn take_over() -> Result<SignalFd, (&'static str, Errno)> {
    let mut held = SigSet::empty();
    HELD.into_iter().for_each(|signal| held.add(signal));
    held.thread_block().map_err(|e| ("block signals", from_nix(e)))?;
    SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| ("make a signalfd", from_nix(e)))
}

fn from_nix(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}

impl Tender {
    /// Some: end with this code.
    pub fn pass_signals(&mut self) -> Option<u8> {
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

    /// As PID 1 we are the parent of every orphan. Those that we did not clone are reaped; ours stay zombies until the worker asks.
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
}
