//! The control socket itself. The keel has it, so that no connection is refused while one worker follows another: who comes in
//! between waits. A path that somebody removed, or put something else at, is noticed by inotify, and the socket made again.
use rustix::fs::{Mode, OFlags, XattrFlags, inotify};
use rustix::io::Errno;
use sampan_keel::LoopKeel;
use sampan_plugin::lock;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the keel knows the socket, and the file at its path, by.
const SOCKET: &str = "api.socket";
const FILE: &str = "api.file";
const ACL: &str = "system.posix_acl_access";
/// Where it cannot be made again: the folder is gone, or the disk is full.
const AGAIN: Duration = Duration::from_secs(1);

/// A socket that is listened to, and the file that leads to it.
pub struct Listening {
    pub socket: UnixListener,
    file: std::fs::File,
    path: PathBuf,
}

impl Listening {
    /// The one that the keel has, if its file is still at `path`; else a new one. The run folder's lock is ours, so what stands
    /// at the path is nobody else's.
    pub fn open(path: &Path, keel: &LoopKeel) -> io::Result<Listening> {
        let fetch = |key| keel.fetch(key).map_err(io::Error::other);
        if let (Some(socket), Some(file)) = (fetch(SOCKET)?, fetch(FILE)?) {
            let file = std::fs::File::from(file);
            if lock::is_at(&file, path) {
                return Ok(Listening { socket: socket.into(), file, path: path.to_owned() });
            }
        }
        Listening::make(path, keel).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()))
        })
    }

    fn make(path: &Path, keel: &LoopKeel) -> io::Result<Listening> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: OwnedFd = rustix::fs::open(path, flags, Mode::empty())?;
        keel.keep(SOCKET, Some(socket.as_fd())).map_err(io::Error::other)?;
        keel.keep(FILE, Some(file.as_fd())).map_err(io::Error::other)?;
        Ok(Listening { socket, file: file.into(), path: path.to_owned() })
    }

    /// Lets root, our own user and these groups connect: an access list of the file (acl(5)), since one owning group may be too few.
    pub fn let_in(&self, groups: &[u32]) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let set = if groups.is_empty() {
            match rustix::fs::removexattr(&path, ACL) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                Err(error) => Err(error),
            }
        } else {
            rustix::fs::setxattr(&path, ACL, &access_list(groups), XattrFlags::empty())
        };
        // Of a file with a list the bits of its group are the list's mask.
        let mode = if groups.is_empty() { 0o600 } else { 0o660 };
        let set = set.and_then(|()| rustix::fs::chmod(&path, Mode::from_raw_mode(mode)));
        set.map_err(|error| {
            io::Error::other(format!("cannot set the access list of {}: {error}", self.path.display()))
        })
    }

    /// Returns when the path leads elsewhere, with what listens there now.
    pub async fn replaced(&self, keel: &LoopKeel) -> Listening {
        let mut told = false;
        loop {
            let changes = changes(&self.path);
            if !lock::is_at(&self.file, &self.path) {
                match Listening::open(&self.path, keel) {
                    Ok(anew) => return anew,
                    Err(error) if !told => tracing::error!("{error}; tried again each second"),
                    Err(_) => {}
                }
                told = true;
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            match changes {
                Ok(changes) => drop(changes.readable().await),
                Err(error) => {
                    tracing::error!("cannot watch {}: {error}", self.path.display());
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// As the kernel takes it: a version, then kind, rights and number of each entry (linux/posix_acl_xattr.h), sorted.
fn access_list(groups: &[u32]) -> Vec<u8> {
    const VERSION: u32 = 2;
    const OWNER: u16 = 0x01;
    const OWNING_GROUP: u16 = 0x04;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    const OTHERS: u16 = 0x20;
    const NO_ID: u32 = u32::MAX;
    let first = [(OWNER, 6, NO_ID), (OWNING_GROUP, 0, NO_ID)];
    let last = [(MASK, 6, NO_ID), (OTHERS, 0, NO_ID)];
    let named = groups.iter().map(|gid| (GROUP, 6, *gid));
    let mut list = VERSION.to_le_bytes().to_vec();
    for (kind, rights, id) in first.into_iter().chain(named).chain(last) {
        list.extend(u16::to_le_bytes(kind));
        list.extend(u16::to_le_bytes(rights));
        list.extend(u32::to_le_bytes(id));
    }
    list
}

/// Readable when the folder of the socket has changed.
fn changes(path: &Path) -> io::Result<tokio::io::unix::AsyncFd<crate::fence::Held>> {
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::DELETE_SELF
        | inotify::WatchFlags::MOVE_SELF;
    inotify::add_watch(&inotify, path.parent().unwrap_or(Path::new("/")), flags)?;
    crate::fence::readable(inotify)
}

/// sampand ends and its services run on: nobody may wait here for an answer.
pub fn close(path: &Path, keel: &LoopKeel) {
    for key in [SOCKET, FILE] {
        let _ = keel.keep(key, None);
    }
    let _ = std::fs::remove_file(path);
}
