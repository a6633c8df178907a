//! Descriptors that a service has given away to have them again in its next life (FDSTORE=1, `fd_store_max`). The keel has them, so
//! they outlive the worker; what each is called is in a file of the run folder, written before the keel has it.
//!
//! ```text
//!   FDSTORE=1 ─► launching process: a look, the message stays ─► run_dir/fdstore/X/3, keel: fdstore/X/3 ─► the message is taken
//!   next life ─► those whose other end is gone go ─► LISTEN_FDNAMES of its spec ─► its descriptors, behind its sockets
//! ```
//! What a service sends may be of a dead mount, and to close that can last for ever: it is received in a launching process. What is
//! kept is of the kernel's own and asks no file system. All of it is done under the service's lock between lives (`RestartCache`).
use super::launcher::UnderWay;
use super::reading::{self, Unanswered};
use super::talk::{Order, Said};
use super::{Context, of_io, on_pool};
use crate::sd_notify::message::{AboutFds, Dropped};
use crate::{fence, release};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags};
use sampan_config::schema::Service;
use sampan_keel::Keel;
use sampan_service::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of one that was given no name.
const UNNAMED: &str = "stored";

/// A message whose descriptors are to be kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Store {
    run: PathBuf,
    service: String,
    max: u32,
    name: String,
    polls: bool,
    /// Its sender, by which the message is known to be the one that was heard.
    pid: i32,
}

/// One that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub number: u32,
    pub name: String,
}

/// What is known of one, with the descriptor.
struct Entry {
    number: u32,
    name: String,
    polls: bool,
    fd: OwnedFd,
}

fn folder(run: &Path, service: &str) -> PathBuf {
    run.join("fdstore").join(service)
}

/// By what the keel knows it.
fn key(service: &str, number: u32) -> String {
    format!("fdstore/{service}/{number}")
}

/// Does what a message says; it stays in the queue.
pub async fn hear(
    context: &Context,
    service: &Service,
    about: AboutFds,
    socket: Arc<OwnedFd>,
    pid: i32,
) -> Vec<Dropped> {
    let cache = context.restart_cache(&service.name);
    let _turn = cache.lock().await;
    let (run, name) = (context.dirs.run.clone(), about.name);
    if let (true, Some(name)) = (about.removes, name.clone()) {
        let (keel, run, of) = (context.keel_for_the_pool(), run.clone(), service.name.clone());
        let removed = on_pool(move || remove(&keel, &run, &of, &name).map_err(of_io)).await;
        if let Err(problem) = removed {
            tracing::error!(service = service.name, "FDSTOREREMOVE: {problem}");
        }
    }
    if !about.stores {
        return Vec::new();
    }
    let name = name.unwrap_or_else(|| UNNAMED.to_owned());
    let (service, max) = (service.name.clone(), service.fd_store_max);
    keep(context, Store { run, service, max, name, polls: about.polls, pid }, &socket).await
}

async fn keep(context: &Context, store: Store, socket: &OwnedFd) -> Vec<Dropped> {
    // No service has this name.
    let place: Arc<str> = format!("[fdstore] {}", store.service).into();
    if context.launchers.hang(&place).is_some() {
        return vec![Dropped::FdsAreLate];
    }
    let (service, under_way) = (store.service.clone(), UnderWay::new(place));
    let order = Order::Store(Box::new(store));
    match reading::ask_with(&context.launchers, &under_way, order, &[socket.as_fd()]).await {
        Ok((Said::Stored(Ok(dropped)), launcher)) => {
            context.launchers.put(launcher);
            dropped
        }
        Ok((Said::Stored(Err(why)), _)) => {
            tracing::debug!(service, "FDSTORE: {why}");
            vec![Dropped::Unkept]
        }
        Ok(_) | Err(Unanswered::Failed(_)) => vec![Dropped::Unkept],
        Err(Unanswered::TooLong(_)) => {
            context.launchers.ended(&under_way).await;
            vec![Dropped::FdsAreLate]
        }
    }
}

/// What a launching process does for that.
pub fn store(keel: &Keel, store: &Store, socket: &OwnedFd) -> io::Result<Vec<Dropped>> {
    let (peeked, fds, is_short) = fence::peek_fds(socket, &mut [0; 1])?;
    if peeked.pid != store.pid {
        // Somebody else has taken it meanwhile.
        return Ok(Vec::new());
    }
    if is_short {
        return Ok(vec![Dropped::FdsAreCut]);
    }
    let (mut kept, mut dropped) = (entries(keel, &store.run, &store.service)?, BTreeSet::new());
    if fds.is_empty() {
        dropped.insert(Dropped::NoFds);
    }
    let memfds = memfds()?;
    for fd in fds {
        if !can_be_kept(&fd, memfds)? {
            dropped.insert(Dropped::FdKind);
        } else if kept.iter().any(|one| fence::is_same_file(&one.fd, &fd)) {
            // It has its name already.
        } else if let Some(number) = free(keel, store, &mut kept)? {
            let entry = Entry { number, name: store.name.clone(), polls: store.polls, fd };
            write(keel, store, &entry)?;
            kept.push(entry);
        } else {
            dropped.insert(Dropped::StoreIsFull);
        }
    }
    Ok(dropped.into_iter().collect())
}

/// A number that none has; where there is room, or where one goes that nobody can use any more.
fn free(keel: &Keel, store: &Store, kept: &mut Vec<Entry>) -> io::Result<Option<u32>> {
    if kept.len() >= store.max as usize {
        *kept = without_gone(keel, &store.run, &store.service, std::mem::take(kept))?;
    }
    let is_full = kept.len() >= store.max as usize;
    let free = (0..store.max).find(|number| kept.iter().all(|one| one.number != *number));
    Ok(free.filter(|_| !is_full))
}

fn write(keel: &Keel, store: &Store, Entry { number, name, polls, fd }: &Entry) -> io::Result<()> {
    let folder = folder(&store.run, &store.service);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    std::fs::write(folder.join(number.to_string()), format!("{}{name}", u8::from(*polls)))?;
    // A file without a descriptor means nothing.
    keel.keep(&key(&store.service, *number), Some(fd.as_fd())).map_err(io::Error::other)
}

/// The file system of all memfds of ordinary pages, which no path leads to.
fn memfds() -> io::Result<u64> {
    Ok(rustix::fs::fstat(rustix::fs::memfd_create(c"", MemfdFlags::CLOEXEC)?)?.st_dev)
}

/// Pipes, sockets, memfds, eventfds and timerfds. Nothing is asked that a file system would have to answer.
fn can_be_kept(fd: &OwnedFd, memfds: u64) -> io::Result<bool> {
    if rustix::fs::fcntl_getfl(fd)?.contains(OFlags::PATH) {
        return Ok(false);
    }
    let is_pipe = rustix::pipe::fcntl_getpipe_size(fd).is_ok();
    if is_pipe || rustix::net::sockopt::socket_type(fd).is_ok() {
        return Ok(true);
    }
    if rustix::fs::fcntl_get_seals(fd).is_ok() {
        // Files of every tmpfs have seals, too.
        return Ok(rustix::fs::fstat(fd)?.st_dev == memfds);
    }
    // A file that is called so has its path here, from the root on.
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(["anon_inode:[eventfd]", "anon_inode:[timerfd]"].iter().any(|kind| link == Path::new(kind)))
}

/// All that is kept for a service, the first number first. One whose descriptor was closed with sampand is forgotten.
fn entries(keel: &Keel, run: &Path, service: &str) -> io::Result<Vec<Entry>> {
    let mut all = Vec::new();
    let found = match std::fs::read_dir(folder(run, service)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        found => found?,
    };
    for file in found {
        let file = file?;
        let said = std::fs::read_to_string(file.path())?;
        let number = file.file_name().to_str().and_then(|name| name.parse().ok());
        let (Some(number), Some((polls, name))) = (number, said.split_at_checked(1)) else { continue };
        match keel.fetch(&key(service, number)).map_err(io::Error::other)? {
            Some(fd) => all.push(Entry { number, name: name.to_owned(), polls: polls == "1", fd }),
            None => std::fs::remove_file(file.path())?,
        }
    }
    all.sort_by_key(|one| one.number);
    Ok(all)
}

fn without_gone(keel: &Keel, run: &Path, service: &str, all: Vec<Entry>) -> io::Result<Vec<Entry>> {
    let (gone, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.polls && is_gone(&one.fd));
    for one in gone {
        close(keel, run, service, one)?;
    }
    Ok(kept)
}

/// Its other end is closed, or it is broken.
fn is_gone(fd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::empty())];
    let _ = poll(&mut polled, Some(&Timespec::default()));
    polled.iter().any(|one| one.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// In the keel first, so that it never closes the last one: a socket may linger.
fn close(keel: &Keel, run: &Path, service: &str, one: Entry) -> io::Result<()> {
    keel.keep(&key(service, one.number), None).map_err(io::Error::other)?;
    let _ = std::fs::remove_file(folder(run, service).join(one.number.to_string()));
    release::hurried(|| drop(one.fd));
    Ok(())
}

/// Those of this name.
fn remove(keel: &Keel, run: &Path, service: &str, name: &str) -> io::Result<()> {
    let mut all = entries(keel, run, service)?.into_iter().filter(|one| one.name == name);
    all.try_for_each(|one| close(keel, run, service, one))
}

/// What a life is to be given, as its spec says it.
pub async fn ready(context: &Context, service: &Service) -> Result<Vec<Stored>, Problem> {
    if service.fd_store_max == 0 {
        return Ok(Vec::new());
    }
    let (keel, run, name) = (context.keel_for_the_pool(), context.dirs.run.clone(), service.name.clone());
    on_pool(move || {
        let all = entries(&keel, &run, &name).and_then(|all| without_gone(&keel, &run, &name, all));
        let stored = |one: Entry| Stored { number: one.number, name: one.name };
        Ok(all.map_err(of_io)?.into_iter().map(stored).collect())
    })
    .await
}

/// The descriptors themselves.
pub fn open(keel: &Keel, service: &str, numbers: &[u32]) -> Result<Vec<OwnedFd>, Problem> {
    let gone =
        || Problem::Io("a descriptor that was kept for it (fd_store_max) is not there any more".into());
    let one =
        |number: &u32| keel.fetch(&key(service, *number)).map_err(of_io).and_then(|fd| fd.ok_or_else(gone));
    numbers.iter().map(one).collect()
}

/// Nothing is kept any more: no next life of the same service follows.
pub fn let_go(keel: &Keel, run: &Path, service: &str) -> io::Result<()> {
    let folder = folder(run, service);
    if !folder.exists() {
        return Ok(());
    }
    for number in 0..Service::FD_STORE_MAX {
        if let Some(fd) = keel.fetch(&key(service, number)).map_err(io::Error::other)? {
            close(keel, run, service, Entry { number, name: String::new(), polls: false, fd })?;
        }
    }
    std::fs::remove_dir_all(folder)
}

/// A worker begins: what was kept for those that do not go on is let go of.
pub fn let_go_of_all_but(keel: &Keel, run: &Path, goes_on: impl Fn(&str) -> bool) {
    for folder in std::fs::read_dir(run.join("fdstore")).into_iter().flatten().flatten() {
        let name = folder.file_name();
        let Some(service) = name.to_str().filter(|name| !goes_on(name)) else { continue };
        if let Err(error) = let_go(keel, run, service) {
            tracing::error!(service, "what was kept for it (fd_store_max) stays open: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::EventfdFlags;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::time::{TimerfdClockId, TimerfdFlags};
    use sampan_testkit::Folder;

    #[test]
    fn what_the_kernel_itself_has_made_can_be_kept() {
        let (reads, writes) = rustix::pipe::pipe().unwrap();
        let (socket, _end) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
        let kept = [
            ("a pipe to read", reads),
            ("a pipe to write", writes),
            ("a socket", socket),
            ("a memfd", rustix::fs::memfd_create(c"x", MemfdFlags::CLOEXEC).unwrap()),
            ("an eventfd", rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap()),
            ("a timerfd", timer),
        ];
        let memfds = memfds().unwrap();
        for (what, fd) in kept {
            assert!(can_be_kept(&fd, memfds).unwrap(), "{what}");
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let path = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, 0.into());
            assert!(!can_be_kept(&path.unwrap(), memfds).unwrap(), "{what}, as a path");
        }
    }

    #[test]
    fn what_leads_to_a_file_system_or_a_process_cannot() {
        let folder = Folder::new();
        let named = folder.path("memfd:x (deleted)");
        std::fs::write(&named, "").unwrap();
        let open = |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, 0.into()).unwrap();
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        let us = rustix::process::getpid();
        let shm = Path::new("/dev/shm").join(format!("sampan-{}", std::process::id()));
        std::fs::write(&shm, "").unwrap();
        let of_tmpfs = open(&shm);
        std::fs::remove_file(&shm).unwrap();
        let refused = [
            ("a folder", open(Path::new("/"))),
            ("a file", open(&named)),
            ("a file of a tmpfs, removed", of_tmpfs),
            ("a device", open(Path::new("/dev/null"))),
            ("a namespace", open(Path::new("/proc/self/ns/net"))),
            ("a file of procfs", open(Path::new("/proc/self/status"))),
            ("a pidfd", rustix::process::pidfd_open(us, rustix::process::PidfdFlags::empty()).unwrap()),
            ("an epoll", epoll),
        ];
        for (what, fd) in refused {
            assert!(!can_be_kept(&fd, memfds().unwrap()).unwrap(), "{what}");
        }
    }

    #[test]
    fn one_whose_other_end_is_closed_is_gone() {
        let (reads, writes) = rustix::pipe::pipe().unwrap();
        assert!(!is_gone(&reads) && !is_gone(&writes));
        drop(writes);
        assert!(is_gone(&reads));
        assert!(fence::is_same_file(&reads, reads.try_clone().unwrap()));
        let (other, _writes) = rustix::pipe::pipe().unwrap();
        assert!(!fence::is_same_file(&reads, &other));
    }
}
