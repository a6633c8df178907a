//! The thread that sees to the network between requests: rules that others took away, forwarding that others changed, chains of
//! others that are in the way, links that wait to be removed.
//!
//! It sleeps in `poll` until the kernel says that something changed, or something is due; an idle host does not wake it. A sweep is
//! put off for a second so that one grace period of the kernel serves all that stopped meanwhile, and so that the links of a
//! dead namespace, or a bridge needed again at once, need no sweep at all.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::conntrack::{self, Stale};
use crate::engine::{Chores, Engine};
use crate::forwarding::{self, Changed};
use crate::mutex::lock;
use crate::netlink::{Family, Socket};
use crate::ports::TABLE;
use crate::{link, listing, obstacles};

const SWEEP_AFTER: Duration = Duration::from_secs(1);
/// What the kernel refused is tried again at this distance.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Whoever writes chains writes several.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// By then no answer is under way any more.
const FORGET_AFTER: Duration = Duration::from_millis(50);

pub struct Guard {
    requests: Arc<Requests>,
    thread: JoinHandle<()>,
}

struct Requests {
    due: Mutex<Due>,
    wake: EventFd,
}

#[derive(Clone, Default)]
struct Due {
    sweep_at: Option<Instant>,
    look_at: Option<Instant>,
    again_at: Option<Instant>,
    forget: Vec<(Instant, Stale)>,
    stop: bool,
}

impl Due {
    fn next(&self) -> Option<Instant> {
        let forget = self.forget.iter().map(|(at, _)| *at);
        forget.chain(self.sweep_at).chain(self.look_at).chain(self.again_at).min()
    }
}

impl Requests {
    fn soon(&self, chores: Chores) {
        let mut due = lock(&self.due);
        if chores.sweep {
            due.sweep_at.get_or_insert_with(|| Instant::now() + SWEEP_AFTER);
        }
        if chores.look {
            due.look_at.get_or_insert_with(|| Instant::now() + LOOK_AFTER);
        }
        if chores.again {
            due.again_at.get_or_insert_with(|| Instant::now() + AGAIN_AFTER);
        }
        due.forget.extend(chores.forget.into_iter().map(|stale| (Instant::now() + FORGET_AFTER, stale)));
    }
}

impl Guard {
    pub fn start(engine: Arc<Mutex<Engine>>) -> Result<Guard, String> {
        let failed = |e: Errno| format!("cannot watch the network: {}", e.desc());
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(failed)?;
        let requests = Arc::new(Requests { due: Mutex::default(), wake });
        let listen = |family, groups: &[u32]| {
            let mut socket = Socket::open(family).map_err(|e| e.to_string())?;
            groups.iter().try_for_each(|group| socket.listen(*group)).map_err(|e| e.to_string())?;
            Ok::<Socket, String>(socket)
        };
        let ask = |family| Socket::open(family).map_err(|e| e.to_string());
        let mut watcher = Watcher {
            requests: Arc::clone(&requests),
            engine,
            rules: listen(Family::Netfilter, &[listing::NOTIFICATIONS])?,
            forwarding: listen(Family::Route, &forwarding::NOTIFICATIONS)?,
            links: ask(Family::Route)?,
            nft: ask(Family::Netfilter)?,
            obstacles: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("network-guard".into())
            .stack_size(256 * 1024)
            .spawn(move || watcher.run())
            .map_err(|e| format!("cannot start the network's guard: {e}"))?;
        Ok(Guard { requests, thread })
    }

    /// What a request has left to do.
    pub fn soon(&self, chores: Chores) {
        if chores != Chores::default() {
            self.requests.soon(chores);
            let _ = self.requests.wake.write(1);
        }
    }

    pub fn stop(self) {
        lock(&self.requests.due).stop = true;
        let _ = self.requests.wake.write(1);
        let _ = self.thread.join();
    }
}

struct Watcher {
    requests: Arc<Requests>,
    engine: Arc<Mutex<Engine>>,
    /// These two hear of changes, the others ask.
    rules: Socket,
    forwarding: Socket,
    links: Socket,
    nft: Socket,
    /// As last told.
    obstacles: Vec<String>,
}

impl Watcher {
    fn run(&mut self) {
        // What changed between the first work and now, nobody told us.
        self.see_to_forwarding();
        loop {
            let due = lock(&self.requests.due).clone();
            if due.stop {
                return;
            }
            let [rules, forwarding] = match self.wait(due.next()) {
                Ok(heard) => heard,
                Err(e) => {
                    tracing::error!("nobody watches the network any more: poll: {}", e.desc());
                    return;
                }
            };
            if rules {
                self.hear_of_rules();
            }
            if forwarding && self.is_forwarding_to_be_seen_to() {
                self.see_to_forwarding();
            }
            self.forget_flows();
            let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
            if is_due(due.again_at) {
                lock(&self.requests.due).again_at = None;
                self.try_again();
            }
            if is_due(due.look_at) {
                lock(&self.requests.due).look_at = None;
                self.look_for_obstacles();
            }
            if is_due(due.sweep_at) {
                lock(&self.requests.due).sweep_at = None;
                lock(&self.engine).doom_leaving();
                // Without the engine's lock: this is where the kernel takes its time.
                if let Err(e) = link::remove_doomed(&mut self.links) {
                    tracing::warn!("{e}");
                }
            }
        }
    }

    /// Until something is heard, asked for, or due. What was heard of: rules, forwarding.
    fn wait(&self, until: Option<Instant>) -> Result<[bool; 2], Errno> {
        let timeout = until.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let wake = &self.requests.wake;
        let mut fds = [self.rules.raw().as_fd(), self.forwarding.raw().as_fd(), wake.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
        let [rules, forwarding, asked] = fds.map(|fd| fd.any().unwrap_or(false));
        if asked {
            let _ = wake.read();
        }
        Ok([rules, forwarding])
    }

    /// Reads all notices that are there, then writes the rules anew once if any of them says that others took from ours.
    fn hear_of_rules(&mut self) {
        let Some(port) = lock(&self.engine).nft_port() else { return };
        let (mut taken, mut foreign) = (false, false);
        let lost = drain(&mut self.rules, |notice| {
            taken |= listing::took_from(notice, TABLE, port);
            foreign |= notice.port != port;
        });
        if foreign || lost {
            self.requests.soon(Chores { look: true, ..Chores::default() });
        }
        if taken || lost {
            match lock(&self.engine).program_anew() {
                Ok(()) => tracing::info!("rules: taken away by another program -> written anew"),
                Err(e) => {
                    tracing::error!("rules: taken away by another program, and cannot be written: {e}");
                    self.requests.soon(Chores { again: true, ..Chores::default() });
                }
            }
        }
    }

    /// Reads all notices that are there. Ends of our own containers come and go, and are nothing to look at.
    fn is_forwarding_to_be_seen_to(&mut self) -> bool {
        let mut changes = Vec::new();
        let lost = drain(&mut self.forwarding, |notice| changes.extend(forwarding::changed(notice)));
        let links = &mut self.links;
        lost || changes.into_iter().any(|change| match change {
            Changed::All => true,
            Changed::Off(index) => match link::link_at(links, index) {
                Ok(Some(link)) => !link.is_end_of_ours(),
                Ok(None) => false,
                Err(_) => true,
            },
        })
    }

    fn see_to_forwarding(&mut self) {
        if let Err(e) = lock(&self.engine).see_to_forwarding() {
            tracing::error!("forwarding was changed by another program, and cannot be turned on: {e}");
            self.requests.soon(Chores { again: true, ..Chores::default() });
        }
    }

    /// What failed has been told.
    fn try_again(&self) {
        let mut engine = lock(&self.engine);
        match engine.program_anew().and_then(|()| engine.see_to_forwarding()) {
            Ok(()) => tracing::info!("rules and forwarding: written, after an error"),
            Err(e) => {
                tracing::debug!("rules and forwarding: still not written: {e}");
                self.requests.soon(Chores { again: true, ..Chores::default() });
            }
        }
    }

    fn forget_flows(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        lock(&self.requests.due).forget.retain(|one| {
            let is_later = one.0 > now;
            if !is_later {
                due.push(one.clone());
            }
            is_later
        });
        for (_, stale) in due {
            if let Err(e) = conntrack::forget(&mut self.nft, &stale) {
                tracing::warn!("flows of before may be stuck: {e}");
            }
        }
    }

    fn look_for_obstacles(&mut self) {
        let bridges = lock(&self.engine).bridges_in_use();
        let found = match obstacles::of(&mut self.nft, &mut self.links, &bridges) {
            Ok(found) => found,
            Err(e) => return tracing::warn!("{e}"),
        };
        for new in found.iter().filter(|found| !self.obstacles.contains(found)) {
            tracing::warn!("{new}");
        }
        lock(&self.engine).set_obstacles(found.clone());
        self.obstacles = found;
    }
}

/// All notices that are there; true: some were lost.
fn drain(socket: &mut Socket, mut each: impl FnMut(&crate::wire::Received<'_>)) -> bool {
    let mut lost = false;
    loop {
        match socket.notifications() {
            Ok(notices) => notices.for_each(|notice| each(&notice)),
            Err(Errno::ENOBUFS) => lost = true,
            Err(_) => return lost,
        }
        let mut more = [PollFd::new(socket.raw().as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut more, PollTimeout::ZERO), Ok(n) if n > 0) {
            return lost;
        }
    }
}
