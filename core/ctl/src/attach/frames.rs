//! The connection to sampand once it carries frames (`sampan_api::attach`). Nothing here waits but `first`.
use crate::client::Error;
use rustix::io::Errno;
use sampan_api::attach::{FRAME_BYTES_MAX, First, HEAD_BYTES, Last, STDERR, STDOUT, WORD, head, parse_head};
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// What sampand says.
pub enum Frame {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Last(Last),
}

#[derive(PartialEq, Eq)]
pub enum Sent {
    /// As much as has room.
    Some,
    /// Nobody takes it any more; something may have been said before that.
    Refused,
}

pub struct Frames {
    socket: UnixStream,
    received: Vec<u8>,
    to_send: Vec<u8>,
}

impl Frames {
    /// What came with the answer to the request is a beginning of them.
    pub fn new(answered: BufReader<UnixStream>) -> Result<Frames, Error> {
        let received = answered.buffer().to_vec();
        Ok(Frames { socket: answered.into_inner(), received, to_send: Vec::new() })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for the first of them; after that nothing waits.
    pub fn first(&mut self) -> Result<First, Error> {
        loop {
            if let Some((WORD, bytes)) = self.take()? {
                self.socket.set_nonblocking(true)?;
                return parse(&bytes);
            }
            if !self.receive()? {
                return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Bytes that are still to be sent.
    pub fn waiting(&self) -> usize {
        self.to_send.len()
    }

    pub fn put(&mut self, kind: u8, bytes: &[u8]) {
        for part in bytes.chunks(FRAME_BYTES_MAX) {
            self.to_send.extend_from_slice(&head(kind, part.len()));
            self.to_send.extend_from_slice(part);
        }
    }

    pub fn send(&mut self) -> Result<Sent, Error> {
        while !self.to_send.is_empty() {
            match rustix::io::write(&self.socket, &self.to_send) {
                Ok(count) => drop(self.to_send.drain(..count)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    self.to_send.clear();
                    return Ok(Sent::Refused);
                }
                Err(error) => return Err(Error::Broken(error.into())),
            }
        }
        Ok(Sent::Some)
    }

    /// Takes what has come; false: there is no more.
    pub fn receive(&mut self) -> Result<bool, Error> {
        let mut buffer = [0; 64 << 10];
        match self.socket.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.received.extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(Error::Broken(error)),
        }
    }

    /// None: it is not all there yet.
    pub fn next(&mut self) -> Result<Option<Frame>, Error> {
        let Some((kind, bytes)) = self.take()? else { return Ok(None) };
        match kind {
            STDOUT => Ok(Some(Frame::Stdout(bytes))),
            STDERR => Ok(Some(Frame::Stderr(bytes))),
            WORD => Ok(Some(Frame::Last(parse(&bytes)?))),
            _ => Err(broken("a frame of a kind that sampanctl does not know")),
        }
    }

    fn take(&mut self) -> Result<Option<(u8, Vec<u8>)>, Error> {
        let Some(head) = self.received.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let (kind, length) = parse_head(*head).ok_or_else(|| broken("a frame that is too long"))?;
        let end = HEAD_BYTES + length;
        let Some(bytes) = self.received.get(HEAD_BYTES..end).map(<[u8]>::to_vec) else { return Ok(None) };
        self.received.drain(..end);
        Ok(Some((kind, bytes)))
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| broken(&error.to_string()))
}

fn broken(what: &str) -> Error {
    Error::Broken(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()))
}
