//! One stream of a service on its way to the log, with a copy for whoever is attached.
//!
//! ```text
//!   terminal ─splice─► staged ─splice─► pipe of whoever keeps the log
//!   the service ──────►   │ tee
//!                         └─► clients
//! ```
//! Each step is one system call from one thing that the keel has to another (splice(2)): a worker that is killed between two of
//! them loses nothing. A copy is made without taking anything away (tee(2)). Into files it is written before it is taken away:
//! there a kill may leave something twice.
use super::clients::Clients;
use crate::fence::{self, Held};
use axum::body::Bytes;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice, tee};
use sampan_api::attach;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// What a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;
/// How often a full pipe is tried again if the kernel does not say that it has room.
const AGAIN: Duration = Duration::from_secs(1);

/// Where it goes in the end.
#[derive(Debug)]
pub enum Sink {
    /// Its other end is read by a plugin.
    Pipe(OwnedFd),
    File(Arc<File>),
    Nowhere,
}

/// The descriptors of one stream.
#[derive(Debug)]
pub struct Ends {
    pub stream: attach::Stream,
    /// A pipe, open for reading and writing.
    pub staged: OwnedFd,
    /// A terminal's master, not blocking: then what the service writes comes from there.
    pub terminal: Option<Arc<OwnedFd>>,
    pub sink: Sink,
}

pub struct Stream {
    service: String,
    ends: Ends,
    clients: Rc<Clients>,
    /// So much of what is staged the clients have.
    shown: usize,
    null: File,
    /// Where copies are made; none before the first.
    scratch: Option<(OwnedFd, OwnedFd)>,
    is_failing: bool,
}

#[derive(Debug)]
enum Turn {
    Moved,
    Empty,
    /// Whoever keeps the log is busy, or waits for room on a disk.
    Full,
    Write(Vec<u8>, Arc<File>),
    /// Nobody has the terminal open.
    HungUp,
}

impl Stream {
    pub fn new(service: &str, ends: Ends, clients: Rc<Clients>) -> io::Result<Stream> {
        let null = File::options().write(true).open("/dev/null")?;
        let service = service.to_owned();
        Ok(Stream { service, ends, clients, shown: 0, null, scratch: None, is_failing: false })
    }

    /// Moves what comes, until it is told to end and there is no more.
    pub async fn pump(mut self, ending: watch::Receiver<bool>) {
        if let Err(error) = self.pump_to_the_end(ending).await {
            tracing::error!(service = self.service, "its output is not passed on any more: {error}");
            self.clients.break_off(&error.to_string());
        }
    }

    async fn pump_to_the_end(&mut self, mut ending: watch::Receiver<bool>) -> io::Result<()> {
        let (mut source, room) = self.watched()?;
        loop {
            let mut ready = tokio::select! {
                ready = source.readable() => Some(ready?),
                _ = ending.changed() => None,
            };
            let hung_up = self.move_all(room.as_ref()).await?;
            if *ending.borrow() {
                return Ok(());
            }
            let was_closed = ready.as_ref().is_some_and(|ready| ready.ready().is_read_closed());
            if let Some(ready) = &mut ready {
                ready.clear_ready();
            }
            if hung_up {
                // It may be opened again, of which the kernel says nothing.
                let _ = tokio::time::timeout(AGAIN, ending.changed()).await;
            }
            if was_closed {
                // To tokio a hang-up is final: it would be ready for ever, also when it is open again.
                source = self.watched()?.0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// What is waited for to be read, and to have room. Duplicates: a descriptor can be registered once.
    fn watched(&self) -> io::Result<(AsyncFd<Held>, Option<AsyncFd<Held>>)> {
        let source = match &self.ends.terminal {
            Some(terminal) => terminal.try_clone()?,
            None => self.ends.staged.try_clone()?,
        };
        let room = match &self.ends.sink {
            Sink::Pipe(pipe) => Some(fence::writable(pipe.try_clone()?)?),
            Sink::File(_) | Sink::Nowhere => None,
        };
        Ok((fence::readable(source)?, room))
    }

    /// True: nobody has the terminal open.
    async fn move_all(&mut self, room: Option<&AsyncFd<Held>>) -> io::Result<bool> {
        loop {
            match self.turn()? {
                // The loop has others to look after.
                Turn::Moved => tokio::task::yield_now().await,
                Turn::Empty => return Ok(false),
                Turn::HungUp => return Ok(true),
                Turn::Write(bytes, file) => self.write(bytes, file).await?,
                Turn::Full => {
                    let Some(room) = room else { continue };
                    if let Ok(ready) = tokio::time::timeout(AGAIN, room.writable()).await {
                        ready?.clear_ready();
                    }
                }
            }
        }
    }

    fn turn(&mut self) -> io::Result<Turn> {
        let hung_up = match &self.ends.terminal {
            Some(terminal) => stage(terminal.as_fd(), self.ends.staged.as_fd())?,
            None => false,
        };
        let waiting = rustix::io::ioctl_fionread(&self.ends.staged)?;
        if waiting == 0 {
            return Ok(if hung_up { Turn::HungUp } else { Turn::Empty });
        }
        if let Sink::File(file) = &self.ends.sink {
            let file = file.clone();
            let bytes = self.peek()?;
            if bytes.is_empty() {
                return Ok(Turn::Empty);
            }
            self.clients.show(self.ends.stream, Bytes::copy_from_slice(&bytes));
            return Ok(Turn::Write(bytes, file));
        }
        if self.shown == 0 && !self.clients.is_empty() {
            let bytes = self.peek()?;
            if bytes.is_empty() {
                return Ok(Turn::Empty);
            }
            self.shown = bytes.len();
            self.clients.show(self.ends.stream, bytes.into());
        }
        let most = if self.shown == 0 { CHUNK_BYTES } else { self.shown };
        let sink = match &self.ends.sink {
            Sink::Pipe(pipe) => pipe.as_fd(),
            Sink::File(_) | Sink::Nowhere => self.null.as_fd(),
        };
        match splice(&self.ends.staged, None, sink, None, most, SpliceFlags::NONBLOCK) {
            Ok(moved) => {
                self.shown = self.shown.saturating_sub(moved);
                Ok(Turn::Moved)
            }
            Err(Errno::AGAIN) => Ok(Turn::Full),
            Err(error) => Err(error.into()),
        }
    }

    /// A copy of what is staged, which stays there.
    fn peek(&mut self) -> io::Result<Vec<u8>> {
        let (read, write) = match &mut self.scratch {
            Some(scratch) => scratch,
            none => none.insert(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?),
        };
        let count = match tee(&self.ends.staged, &*write, CHUNK_BYTES, SpliceFlags::NONBLOCK) {
            // A service may read what it has written itself: its standard output is open for both.
            Err(Errno::AGAIN) => 0,
            count => count?,
        };
        let mut bytes = vec![0; count];
        let mut from = 0;
        while let Some(rest) = bytes.get_mut(from..).filter(|rest| !rest.is_empty()) {
            from += rustix::io::read(&*read, rest)?;
        }
        Ok(bytes)
    }

    async fn write(&mut self, bytes: Vec<u8>, file: Arc<File>) -> io::Result<()> {
        let count = bytes.len();
        let written = tokio::task::spawn_blocking(move || (&*file).write_all(&bytes)).await;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => self.is_failing = false,
            // As where a plugin keeps the log: a full disk stops no service.
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(
                        service = self.service,
                        "output is dropped until it can be written: {error}"
                    );
                }
            }
        }
        self.take_away(count)
    }

    fn take_away(&self, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            match splice(&self.ends.staged, None, &self.null, None, left, SpliceFlags::NONBLOCK) {
                Err(Errno::AGAIN) => break,
                taken => left -= taken?.min(left),
            }
        }
        Ok(())
    }
}

/// From a terminal into the pipe, as much as has room. True: nobody has the terminal open, and there is no more.
fn stage(terminal: BorrowedFd<'_>, staged: BorrowedFd<'_>) -> io::Result<bool> {
    let taken = match splice(terminal, None, staged, None, CHUNK_BYTES, SpliceFlags::NONBLOCK) {
        // Linux 5.10 cannot splice from a terminal: a worker that is killed between the two calls loses this one read.
        Err(Errno::INVAL) => copy(terminal, staged),
        taken => taken,
    };
    match taken {
        Ok(0) | Err(Errno::IO) => Ok(true),
        // Nothing, or no room: that is looked at next.
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Of a size that a pipe takes whole or not at all (PIPE_BUF, pipe(7)).
fn copy(terminal: BorrowedFd<'_>, staged: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut bytes = [0; 4096];
    if !has_room(staged)? {
        return Err(Errno::AGAIN);
    }
    let count = rustix::io::read(terminal, &mut bytes)?;
    rustix::io::write(staged, bytes.get(..count).unwrap_or_default())
}

fn has_room(pipe: BorrowedFd<'_>) -> Result<bool, Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::from_borrowed_fd(pipe, PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec::default()))?;
    Ok(polled.iter().any(|one| one.revents().contains(PollFlags::OUT)))
}

#[cfg(test)]
mod tests {
    use super::super::clients::Piece;
    use super::*;
    use sampan_api::attach::Last;
    use std::os::fd::AsRawFd;

    /// A pipe, open for both as a FIFO is.
    fn staged() -> OwnedFd {
        let (read, _write) = std::io::pipe().unwrap();
        File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", read.as_raw_fd()))
            .unwrap()
            .into()
    }

    /// Whoever keeps the log has closed its end.
    #[test]
    fn a_stream_that_cannot_be_passed_on_is_told_to_those_who_are_attached_and_to_those_who_come() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (_, nobody_reads) = std::io::pipe().unwrap();
            rustix::io::ioctl_fionbio(&nobody_reads, true).unwrap();
            let clients = Rc::<Clients>::default();
            let mut attached = clients.add();
            let ends = Ends {
                stream: attach::Stream::Stdout,
                staged: staged(),
                terminal: None,
                sink: Sink::Pipe(nobody_reads.into()),
            };
            rustix::io::write(&ends.staged, b"last words\n").unwrap();
            let (_ending, end) = watch::channel(false);
            Stream::new("a", ends, clients.clone()).unwrap().pump(end).await;
            let mut late = clients.add();
            for (output, shown) in [(&mut attached, "last words\n"), (&mut late, "")] {
                let mut bytes = Vec::new();
                let last = loop {
                    match output.next().await {
                        Some(Piece::Output(_, some)) => bytes.extend_from_slice(&some),
                        Some(Piece::Last(last)) => break Some(last),
                        None => break None,
                    }
                };
                assert_eq!(String::from_utf8_lossy(&bytes), shown);
                assert!(
                    matches!(&last, Some(Last::CutOff { text }) if text.contains("Broken pipe")),
                    "{last:?}"
                );
            }
        });
    }
}
