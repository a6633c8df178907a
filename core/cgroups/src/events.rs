//! Told by the kernel instead of asking it: one descriptor for any number of groups becomes readable when one of them
//! empties, freezes, or loses a process to the OOM killer.
//!
//! v2 (and `unified` on a hybrid host) by a single inotify instance; v1 knows only an eventfd per group, for memory,
//! so those hang on the same epoll. A notice says that something changed, never what: read the group.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{OFlags, inotify};

use crate::cgroup::Cgroup;
use crate::detect::Version;
use crate::error::{Doing, Errno, Error, Result};
use crate::v2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// `cgroup.events`: it became populated, empty, frozen or thawed.
    Members,
    /// `memory.events` or v1's OOM notification: compare [`Cgroup::oom_kills`] with before.
    Memory,
}

/// Token given to [`Watcher::add`], and what to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    pub token: u64,
    pub changed: Changed,
}

#[derive(Debug)]
pub struct Watcher {
    epoll: OwnedFd,
    inotify: OwnedFd,
    watches: BTreeMap<i32, Notice>,
    /// v1: token -> eventfd.
    memory: BTreeMap<u64, OwnedFd>,
}

/// The inotify instance's place among the tokens.
const INOTIFY: u64 = u64::MAX;

impl Watcher {
    pub fn new() -> Result<Watcher> {
        let failed = |call, e| {
            let likely = (e == Errno::MFILE)
                .then_some("fs.inotify.max_user_instances or the limit of open files is reached");
            Error::new(Doing::Watch, "control groups").call(call, e).likely_or(likely)
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| failed("epoll_create1", e))?;
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).map_err(|e| failed("inotify_init1", e))?;
        epoll::add(&epoll, &inotify, epoll::EventData::new_u64(INOTIFY), epoll::EventFlags::IN)
            .map_err(|e| failed("epoll_ctl", e))?;
        Ok(Watcher { epoll, inotify, watches: BTreeMap::new(), memory: BTreeMap::new() })
    }

    /// Reports changes of `group` under `token`, which must not be in use and not `u64::MAX`.
    pub fn add(&mut self, token: u64, group: &Cgroup<'_>) -> Result<()> {
        let outcome = self.add_v2(token, group).and_then(|()| self.add_v1(token, group));
        if outcome.is_err() {
            self.remove(token);
        }
        outcome
    }

    fn add_v2(&mut self, token: u64, group: &Cgroup<'_>) -> Result<()> {
        let Some(unified) = group.v2() else { return Ok(()) };
        for (file, changed) in [("cgroup.events", Changed::Members), ("memory.events", Changed::Memory)] {
            let path = unified.file(file);
            match inotify::add_watch(&self.inotify, path.as_str(), inotify::WatchFlags::MODIFY) {
                Ok(watch) => {
                    self.watches.insert(watch, Notice { token, changed });
                }
                // The memory controller is on v1, or not handed down.
                Err(Errno::NOENT) if changed == Changed::Memory => {}
                Err(e) => {
                    let likely = (e == Errno::NOSPC).then_some("fs.inotify.max_user_watches is reached");
                    return Err(Error::new(Doing::Watch, path)
                        .call("inotify_add_watch", e)
                        .likely_or(likely));
                }
            }
        }
        Ok(())
    }

    fn add_v1(&mut self, token: u64, group: &Cgroup<'_>) -> Result<()> {
        let Some(memory) = group.group_of(Version::V1, "memory") else { return Ok(()) };
        let failed = |call, e| Error::new(Doing::Watch, memory.file("memory.oom_control")).call(call, e);
        let event =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| failed("eventfd2", e))?;
        let control = memory.open("memory.oom_control", OFlags::RDONLY).map_err(|e| failed("openat", e))?;
        match memory.write("cgroup.event_control", &format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))
        {
            Ok(()) => {}
            // Real-time kernels have no event_control; the count is read at exit anyway.
            Err((_, Errno::NOENT | Errno::OPNOTSUPP)) => return Ok(()),
            Err((call, e)) => return Err(failed(call, e)),
        }
        epoll::add(&self.epoll, &event, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
            .map_err(|e| failed("epoll_ctl", e))?;
        self.memory.insert(token, event);
        Ok(())
    }

    /// Forgets a group; to be called before its token is used again. Fine if the group is gone.
    pub fn remove(&mut self, token: u64) {
        let inotify = &self.inotify;
        self.watches.retain(|watch, notice| {
            if notice.token == token {
                let _ = inotify::remove_watch(inotify, *watch);
            }
            notice.token != token
        });
        // Closing an eventfd takes it off the epoll and the group.
        self.memory.remove(&token);
    }

    /// What changed since the last call; never blocks. May name a group whose files are as before.
    pub fn read(&mut self) -> Result<Vec<Notice>> {
        let failed = |call, e| Error::new(Doing::Watch, "control groups").call(call, e);
        let mut notices = Vec::new();
        let mut ready = Vec::with_capacity(64);
        loop {
            ready.clear();
            let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&none)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(e) => return Err(failed("epoll_wait", e)),
            }
            for event in &ready {
                match event.data.u64() {
                    INOTIFY => self.read_inotify(&mut notices)?,
                    token => {
                        let mut count = [0_u8; 8];
                        match self.memory.get(&token).map(|fd| rustix::io::read(fd, &mut count)) {
                            Some(Ok(_)) => notices.push(Notice { token, changed: Changed::Memory }),
                            Some(Err(Errno::AGAIN | Errno::INTR)) | None => {}
                            Some(Err(e)) => return Err(failed("read", e)),
                        }
                    }
                }
            }
        }
        notices.sort_unstable();
        notices.dedup();
        Ok(notices)
    }

    fn read_inotify(&mut self, notices: &mut Vec<Notice>) -> Result<()> {
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                    notices.extend(self.watches.values().copied()); // any of them may have been lost
                }
                Ok(event) if event.events().contains(inotify::ReadFlags::IGNORED) => {
                    self.watches.remove(&event.wd());
                }
                Ok(event) => notices.extend(self.watches.get(&event.wd()).copied()),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::new(Doing::Watch, "control groups").call("read", e)),
            }
        }
    }
}

impl AsFd for Watcher {
    /// Readable when [`Watcher::read`] has something to say. An epoll descriptor: it may hang on another one.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> i32 {
        self.epoll.as_raw_fd()
    }
}

impl Cgroup<'_> {
    /// Waits until nobody is in the group. False if the time is over first.
    pub fn wait_empty(&self, within: std::time::Duration) -> Result<bool> {
        if let Some(group) = self.v2()
            && v2::event(&group, "populated")?.is_some()
        {
            return crate::freezer::wait_for(&group, "populated", false, within);
        }
        let until = std::time::Instant::now() + within;
        while !self.is_empty()? {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(std::time::Duration::from_millis(5)));
        }
        Ok(true)
    }
}
