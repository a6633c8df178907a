//! Our standard output and standard error, for somebody who must not wait for whoever reads them.
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A pipe that can be written to at all takes so much at once (PIPE_BUF, pipe(7)).
const AT_ONCE_BYTES: usize = 4096;

/// One of the two.
pub struct Output {
    given: BorrowedFd<'static>,
    way: Way,
}

/// How it is written to.
enum Way {
    /// The same pipe or terminal, opened again: it must not be made nonblocking for those with whom we share it.
    Again(OwnedFd),
    /// What may be of any kind: it is looked at first.
    Pieces,
    /// A file has room or an error.
    File,
}

impl Output {
    pub fn of(given: BorrowedFd<'static>) -> Output {
        let kind = rustix::fs::fstat(given).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = format!("/proc/self/fd/{}", given.as_raw_fd());
        let way = match kind {
            Ok(FileType::RegularFile) => Way::File,
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                rustix::fs::open(path, flags, Mode::empty()).map_or(Way::Pieces, Way::Again)
            }
            _ => Way::Pieces,
        };
        Output { given, way }
    }

    /// As much as has room now; 0: there is none.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let bytes = match &self.way {
            Way::Again(_) | Way::File => bytes,
            Way::Pieces if !self.has_room()? => return Ok(0),
            Way::Pieces => bytes.get(..AT_ONCE_BYTES).unwrap_or(bytes),
        };
        match rustix::io::write(self, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            written => written,
        }
    }

    fn has_room(&self) -> Result<bool, Errno> {
        let mut fds = [PollFd::new(self, PollFlags::OUT)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What is waited for to have room.
impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Again(own) => own.as_fd(),
            Way::Pieces | Way::File => self.given,
        }
    }
}
