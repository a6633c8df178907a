//! Records to systemd's journal, in its native protocol: a datagram for each, or a sealed memfd where one is large.
//!
//! A line with a newline in a field cannot come from here, but a name might: such a field has its length in front of it.
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::config::Driver;
use crate::record::{STREAMS, is_remark, parse};

pub const SOCKET: &str = "/run/systemd/journal/socket";
/// A journal that takes nothing for so long, from nobody, is not waited for any longer.
const PATIENCE: Duration = Duration::from_millis(100);
/// What it refused so long ago says nothing about now.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// A larger entry goes as a file, which the socket's buffer need not hold.
const DATAGRAM_BYTES_MAX: usize = 32 * 1024;

/// syslog's numbers: what the container says, what it says on stderr, what this plugin says.
const INFO: &str = "6";
const ERROR: &str = "3";
const WARNING: &str = "4";

pub struct Journal {
    path: PathBuf,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    socket: Option<UnixDatagram>,
    /// It has taken nothing, of any service, since the first of these, and was asked at the second.
    refused: Option<(Instant, Instant)>,
    entry: Vec<u8>,
}

/// Why the journal has not taken an entry.
#[derive(Debug)]
pub enum Refusal {
    /// It is full: it may take it in a moment.
    Busy,
    Failed(io::Error),
}

impl Journal {
    pub fn new(path: PathBuf) -> Journal {
        Journal { path, link: Mutex::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        Ok(socket)
    }

    /// Whether it is there. The error says what to do.
    pub fn reach(&self) -> io::Result<()> {
        // Anew: of an earlier socket nothing but sending shows whether somebody listens.
        let socket = self.connect().map_err(|error| {
            let said = format!(
                "logging.driver = \"journald\": cannot reach the journal at {}: {error}; \
                 start systemd-journald, or choose \"local\"",
                self.path.display()
            );
            io::Error::new(error.kind(), said)
        })?;
        self.link().socket = Some(socket);
        Ok(())
    }

    /// A record, without ever waiting: who logs has others to see to.
    pub fn send(&self, service: &str, record: &[u8]) -> Result<(), Refusal> {
        let mut link = self.link();
        let mut entry = std::mem::take(&mut link.entry);
        write_entry(&mut entry, service, record.strip_suffix(b"\n").unwrap_or(record));
        let sent = if entry.is_empty() { Ok(()) } else { self.send_entry(&mut link.socket, &entry) };
        link.entry = entry;
        match sent {
            Err(error) if is_full(&error) => Err(link.refuse(Instant::now())),
            Err(error) => Err(Refusal::Failed(error)),
            Ok(()) => {
                link.refused = None;
                Ok(())
            }
        }
    }

    fn send_entry(&self, socket: &mut Option<UnixDatagram>, entry: &[u8]) -> io::Result<()> {
        if let Some(connected) = socket {
            match send_to(connected, entry) {
                // It was started anew, under the same name.
                Err(error) if is_gone(&error) => *socket = None,
                sent => return sent,
            }
        }
        let connected = self.connect()?;
        let sent = send_to(&connected, entry);
        *socket = Some(connected);
        sent
    }
}

impl Link {
    fn refuse(&mut self, now: Instant) -> Refusal {
        let known = self.refused.filter(|(_, last)| now < *last + FORGOTTEN);
        let since = known.map_or(now, |(since, _)| since);
        self.refused = Some((since, now));
        if now < since + PATIENCE {
            return Refusal::Busy;
        }
        Refusal::Failed(io::Error::new(io::ErrorKind::TimedOut, "the journal takes nothing"))
    }
}

/// ENOBUFS is a matter of memory, EAGAIN of the journal's queue.
fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AGAIN | Errno::NOBUFS))
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::CONNREFUSED, Errno::NOTCONN, Errno::CONNRESET, Errno::PIPE];
    Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno))
}

fn send_to(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    if entry.len() > DATAGRAM_BYTES_MAX {
        return send_file(socket, entry);
    }
    match send_once(|| rustix::net::send(socket, entry, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) => send_file(socket, entry),
        sent => sent,
    }
}

fn send_once(send: impl Fn() -> Result<usize, Errno>) -> io::Result<()> {
    rustix::io::retry_on_intr(send)?;
    Ok(())
}

/// The journal takes a file from whoever has sealed it.
fn send_file(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    let fd = rustix::fs::memfd_create("sampan-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(entry)?;
    let fd = OwnedFd::from(file);
    rustix::fs::fcntl_add_seals(
        &fd,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    let fds = [fd.as_fd()];
    send_once(|| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendmsg(socket, &[IoSlice::new(b"")], &mut control, flags)
    })
}

/// Of a record as `RecordWriter` writes it; none of anything else.
fn write_entry(entry: &mut Vec<u8>, service: &str, line: &[u8]) {
    entry.clear();
    let Some(record) = parse(Driver::Journald, line) else { return };
    let priority = match &*record.stream {
        _ if is_remark(line) => WARNING,
        stream if stream == STREAMS[1] => ERROR,
        _ => INFO,
    };
    field(entry, "MESSAGE", &record.text);
    field(entry, "PRIORITY", priority.as_bytes());
    for name in ["SYSLOG_IDENTIFIER", "CONTAINER_NAME", "CONTAINER_ID", "SAMPAN_SERVICE"] {
        field(entry, name, service.as_bytes());
    }
    field(entry, "SAMPAN_STREAM", record.stream.as_bytes());
    field(entry, "SAMPAN_TIME", record.time.as_bytes());
    if !record.end {
        field(entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
}

fn field(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}
