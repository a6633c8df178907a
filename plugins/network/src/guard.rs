//! The thread that sees to the network between requests: rules that others took away, links that wait to be removed.
//!
//! It sleeps in `poll` until nf_tables says that something changed, or a sweep is due; an idle host does not wake it. A sweep is
//! put off for a second so that one grace period of the kernel serves all that stopped meanwhile, and so that the links of a
//! dead namespace, or a bridge needed again at once, need no sweep at all.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::bridge;
use crate::engine::Engine;
use crate::netlink::{Family, Socket};
use crate::nft;
use crate::ports::TABLE;

const SWEEP_AFTER: Duration = Duration::from_secs(1);

pub struct Guard {
    wish: Arc<Wish>,
    thread: JoinHandle<()>,
}

struct Wish {
    state: Mutex<State>,
    wake: EventFd,
}

#[derive(Default)]
struct State {
    sweep_at: Option<Instant>,
    stop: bool,
}

impl Guard {
    pub fn start(engine: Arc<Mutex<Engine>>) -> Result<Guard, String> {
        let failed = |e: Errno| format!("cannot watch the rules: {}", e.desc());
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(failed)?;
        let wish = Arc::new(Wish { state: Mutex::default(), wake });
        let mut rules = Socket::open(Family::Netfilter).map_err(|e| e.to_string())?;
        rules.listen(nft::NOTIFICATIONS).map_err(|e| e.to_string())?;
        let links = Socket::open(Family::Route).map_err(|e| e.to_string())?;
        let watched = Arc::clone(&wish);
        let thread = std::thread::Builder::new()
            .name("network-guard".into())
            .stack_size(256 * 1024)
            .spawn(move || watch(&watched, &engine, rules, links))
            .map_err(|e| format!("cannot start the network's guard: {e}"))?;
        Ok(Guard { wish, thread })
    }

    /// Some links are doomed: remove them soon.
    pub fn sweep_soon(&self) {
        lock(&self.wish.state).sweep_at.get_or_insert_with(|| Instant::now() + SWEEP_AFTER);
        let _ = self.wish.wake.write(1);
    }

    pub fn stop(self) {
        lock(&self.wish.state).stop = true;
        let _ = self.wish.wake.write(1);
        let _ = self.thread.join();
    }
}

fn watch(wish: &Wish, engine: &Mutex<Engine>, mut rules: Socket, mut links: Socket) {
    loop {
        let sweep_at = {
            let state = lock(&wish.state);
            if state.stop {
                return;
            }
            state.sweep_at
        };
        let timeout = sweep_at.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(rules.raw().as_fd(), PollFlags::POLLIN),
            PollFd::new(wish.wake.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => {
                tracing::error!("nobody watches the rules any more: poll: {}", e.desc());
                return;
            }
        }
        let noticed = fds[0].any().unwrap_or(false);
        if fds[1].any().unwrap_or(false) {
            let _ = wish.wake.read();
        }
        if noticed {
            see_to_rules(&mut rules, engine);
        }
        if sweep_at.is_some_and(|at| at <= Instant::now()) {
            lock(&wish.state).sweep_at = None;
            // Without the engine's lock: this is where the kernel takes its time.
            if let Err(e) = bridge::remove_doomed(&mut links) {
                tracing::warn!("{e}");
            }
        }
    }
}

/// Reads all notices that are there, then writes the rules anew once if any of them says that others took from ours.
fn see_to_rules(rules: &mut Socket, engine: &Mutex<Engine>) {
    let Some(port) = lock(engine).nft_port() else { return };
    let mut taken = false;
    loop {
        match rules.notifications() {
            Ok(mut notices) => taken |= notices.any(|n| nft::took_from(&n, TABLE, port)),
            Err(Errno::ENOBUFS) => taken = true, // some were lost
            Err(_) => break,
        }
        let mut more = [PollFd::new(rules.raw().as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut more, PollTimeout::ZERO), Ok(n) if n > 0) {
            break;
        }
    }
    if taken {
        match lock(engine).program_anew() {
            Ok(()) => tracing::info!("rules: taken away by another program -> written anew"),
            Err(e) => tracing::error!("rules: taken away by another program, and cannot be written: {e}"),
        }
    }
}

/// A handler that panicked has left the records as they were before or after a step; both are sound.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
