//! One connection to a message bus: authentication, calls, and signals that are waited for, all with one deadline.
use crate::wire::{self, Body, Kind, Message, Target};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("systemd cannot be reached at {}: {errno}", path.display())]
    Connect { path: PathBuf, errno: Errno },
    #[error("the message bus refuses us: {0}")]
    Refused(String),
    /// By the other side, in its words.
    #[error("systemd refuses {method}: {text} ({name})")]
    Failed { method: String, name: String, text: String },
    #[error("systemd did not answer {method} within {} s", limit.as_secs())]
    Late { method: String, limit: Duration },
    #[error("systemd ended {unit}'s job with '{result}'")]
    Job { unit: String, result: String },
    #[error("the connection to systemd: {0}")]
    Io(#[from] std::io::Error),
    #[error("what came from the message bus is no D-Bus message")]
    NoMessage,
}

/// Signals that come while we wait for an answer are kept, no more than so many.
const SIGNALS_MAX: usize = 256;

#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    signals: VecDeque<Message>,
    limit: Duration,
}

impl Bus {
    /// Connects and says who we are: the kernel vouches for our uid.
    pub fn connect(path: &Path, limit: Duration) -> Result<Bus, Error> {
        let stream = UnixStream::connect(path).map_err(|error| Error::Connect {
            path: path.to_owned(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
        Bus::over(stream, limit)
    }

    /// Over a connection that is there. No call takes longer than `limit`.
    pub fn over(mut stream: UnixStream, limit: Duration) -> Result<Bus, Error> {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let answer = line(&mut stream)?;
        if !answer.starts_with("OK ") {
            return Err(Error::Refused(answer));
        }
        stream.write_all(b"BEGIN\r\n")?;
        Ok(Bus { stream, serial: 0, signals: VecDeque::new(), limit })
    }

    /// The answer's strings.
    pub fn call(&mut self, target: Target<'_>, body: &Body) -> Result<Vec<String>, Error> {
        self.serial += 1;
        self.stream.write_all(&wire::call(self.serial, target, body))?;
        let until = Instant::now() + self.limit;
        loop {
            let Some(message) = self.next(until)? else {
                return Err(Error::Late { method: target.method.to_owned(), limit: self.limit });
            };
            match message.kind {
                Kind::Return if message.answers == self.serial => return Ok(message.texts),
                Kind::Error if message.answers == self.serial => {
                    let text = message.texts.into_iter().next().unwrap_or_default();
                    return Err(Error::Failed { method: target.method.to_owned(), name: message.name, text });
                }
                Kind::Signal if self.signals.len() < SIGNALS_MAX => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// The first signal of which `wanted` is true, also of those that came before.
    pub fn signal(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Result<Message, Error> {
        let until = Instant::now() + self.limit;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self
                    .next(until)?
                    .ok_or_else(|| Error::Late { method: what.to_owned(), limit: self.limit })?,
            };
            if message.kind == Kind::Signal && wanted(&message) {
                return Ok(message);
            }
        }
    }

    /// The next message; none when the time is over.
    fn next(&mut self, until: Instant) -> Result<Option<Message>, Error> {
        let mut fixed = [0; wire::FIXED_BYTES];
        if !self.fill(&mut fixed, until)? {
            return Ok(None);
        }
        let length = wire::length(&fixed).ok_or(Error::NoMessage)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(length, 0);
        let rest = bytes.get_mut(wire::FIXED_BYTES..).unwrap_or_default();
        if !self.fill(rest, until)? {
            return Ok(None);
        }
        wire::parse(&bytes).map(Some).ok_or(Error::NoMessage)
    }

    /// False when the time is over.
    fn fill(&mut self, mut place: &mut [u8], until: Instant) -> Result<bool, Error> {
        while !place.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut [PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(std::io::Error::from(errno).into()),
            }
            let count = self.stream.read(place)?;
            if count == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            place = place.get_mut(count..).unwrap_or_default();
        }
        Ok(true)
    }
}

/// A line of the authentication, byte by byte: what follows it is messages.
fn line(stream: &mut UnixStream) -> Result<String, Error> {
    const LINE_MAX: usize = 1024;
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n") {
        if text.len() >= LINE_MAX || stream.read(&mut byte)? == 0 {
            return Err(Error::Refused(String::from_utf8_lossy(&text).into_owned()));
        }
        text.extend(byte);
    }
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}
