//! A netlink socket that asks and waits: every request is acknowledged, every refusal says what was being done.
//!
//! Synchronous on purpose: the kernel answers within the send, so an answer is there when we read, and a plugin's
//! thread may wait. A socket belongs to the network namespace it was made in, wherever it is used from; that is how
//! a container's interfaces are configured without entering its namespace for more than one call.

use std::io;
use std::os::fd::BorrowedFd;

use netlink_sys::{Socket as Raw, SocketAddr, protocols};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::wire::{self, DUMP, Message};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const DUMP_INTERRUPTED: u16 = 0x10;
const ERROR_CAPPED: u16 = 0x100;
const ERROR_HAS_TEXT: u16 = 0x200;
const ERROR_TEXT: u16 = 1;

/// Larger than any datagram the kernel sends in a dump (32 KiB).
const RECEIVE_BYTES: usize = 64 * 1024;
/// A dump that changes under us is asked for again this often, then taken as it is.
const DUMP_TRIES_MAX: u32 = 8;

#[derive(Debug, thiserror::Error)]
#[error("{doing}: {}{}", errno.desc(), said.as_deref().map(|s| format!(" (kernel: {s})")).unwrap_or_default())]
pub struct Error {
    pub doing: String,
    pub errno: Errno,
    /// The kernel's own words (extended acknowledgement), where it has some.
    pub said: Option<String>,
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Route,
    Netfilter,
}

#[derive(Debug)]
pub struct Socket {
    raw: Raw,
    /// Ours on the bus: notifications that we caused carry it.
    pub port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub fn open(family: Family) -> Result<Socket> {
        let protocol = match family {
            Family::Route => protocols::NETLINK_ROUTE,
            Family::Netfilter => protocols::NETLINK_NETFILTER,
        };
        let at = |e: io::Error| failed("cannot open a netlink socket", errno(&e));
        let mut raw = Raw::new(protocol).map_err(at)?;
        let port = raw.bind_auto().map_err(at)?.port_number();
        // The kernel's explanation, without our request echoed in front of it. Both are since 4.12.
        raw.set_ext_ack(true).map_err(at)?;
        raw.set_cap_ack(true).map_err(at)?;
        raw.connect(&SocketAddr::new(0, 0)).map_err(at)?;
        Ok(Socket { raw, port, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// A socket of another network namespace: a thread of its own enters it, opens, and ends. Meanwhile, `work` is done here:
    /// a thread may take a while to be scheduled.
    pub fn open_in<T>(
        netns: BorrowedFd<'_>,
        family: Family,
        work: impl FnOnce() -> T,
    ) -> (Result<Socket>, T) {
        let open = || {
            setns(netns, CloneFlags::CLONE_NEWNET)
                .map_err(|e| failed("cannot enter the container's network namespace", e))?;
            Socket::open(family)
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("netns".into()).stack_size(64 * 1024);
            let started = thread.spawn_scoped(scope, open);
            let done = work();
            let socket = match started {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|_| Err(failed("cannot enter the network namespace", Errno::EFAULT))),
                Err(e) => Err(failed("cannot start a thread", errno(&e))),
            };
            (socket, done)
        })
    }

    /// Joins a multicast group: from now on `notifications` has something to read.
    pub fn listen(&mut self, group: u32) -> Result<()> {
        self.raw.add_membership(group).map_err(|e| failed("cannot listen on netlink", errno(&e)))
    }

    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// Sends one request and waits for its acknowledgement.
    pub fn request(&mut self, doing: impl FnOnce() -> String, message: Message) -> Result<()> {
        match self.request_all(vec![message]) {
            Ok(()) => Ok(()),
            Err((_, errno, said)) => Err(Error { doing: doing(), errno, said }),
        }
    }

    /// Sends several requests in one datagram, each acknowledged. The kernel does them in order and goes on after a
    /// refusal; the first refusal is what is reported, with its index.
    pub fn request_all(
        &mut self,
        messages: Vec<Message>,
    ) -> std::result::Result<(), (usize, Errno, Option<String>)> {
        match self.request_each(messages).map_err(|e| (0, e, None))?.into_iter().next() {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// As `request_all`; every refusal, with its index, in the order of the requests.
    pub fn request_each(
        &mut self,
        messages: Vec<Message>,
    ) -> std::result::Result<Vec<(usize, Errno, Option<String>)>, Errno> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        let count = messages.len();
        for mut message in messages {
            self.sequence += 1;
            message.want_ack();
            bytes.extend_from_slice(message.seal(self.sequence));
        }
        self.send(&bytes)?;
        let mut refused = Vec::new();
        let mut open = count;
        while open > 0 {
            self.receive()?;
            for m in wire::messages(&self.buffer) {
                let Some(index) = m.sequence.checked_sub(first).map(|i| i as usize).filter(|i| *i < count)
                else {
                    continue; // an answer to an earlier request that was given up
                };
                if m.kind != NLMSG_ERROR {
                    continue; // NLM_F_ECHO, not asked for
                }
                open = open.saturating_sub(1);
                refused.extend(refusal(m).map(|(errno, said)| (index, errno, said)));
            }
        }
        Ok(refused)
    }

    /// Sends `bytes` as they are (an nf_tables batch); `last` is the number whose answer ends the exchange. Returns
    /// every refusal by its number.
    pub fn batch(
        &mut self,
        bytes: &[u8],
        first: u32,
        last: u32,
    ) -> Result<Vec<(u32, Errno, Option<String>)>> {
        let at = |e| failed("cannot talk to nf_tables", e);
        self.send(bytes).map_err(at)?;
        let mut refused = Vec::new();
        loop {
            self.receive().map_err(at)?;
            for m in wire::messages(&self.buffer) {
                if m.kind != NLMSG_ERROR || m.sequence < first || m.sequence > last {
                    continue;
                }
                let refusal = refusal(m);
                // A refusal of the opening message is all there will be: nothing after it was looked at.
                let ends = m.sequence == last || (m.sequence == first && refusal.is_some());
                refused.extend(refusal.map(|(errno, said)| (m.sequence, errno, said)));
                if ends {
                    return Ok(refused);
                }
            }
        }
    }

    /// Numbers for a batch of `count` messages.
    pub fn take_sequence(&mut self, count: u32) -> u32 {
        let first = self.sequence + 1;
        self.sequence += count;
        first
    }

    /// One object, or None where the kernel says there is none.
    pub fn get<T>(
        &mut self,
        doing: impl FnOnce() -> String,
        message: Message,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        self.sequence += 1;
        let mut message = message;
        let bytes = message.seal(self.sequence).to_vec();
        let answer = self.send(&bytes).and_then(|()| {
            loop {
                self.receive()?;
                let Some(m) = wire::messages(&self.buffer).find(|m| m.sequence == self.sequence) else {
                    continue;
                };
                return match refusal(m) {
                    None => Ok(Ok(read(m.body))),
                    Some((Errno::ENODEV | Errno::ENOENT | Errno::ESRCH, _)) => Ok(Ok(None)),
                    Some(refusal) => Ok(Err(refusal)),
                };
            }
        });
        match answer {
            Ok(Ok(found)) => Ok(found),
            Ok(Err((errno, said))) => Err(Error { doing: doing(), errno, said }),
            Err(errno) => Err(Error { doing: doing(), errno, said: None }),
        }
    }

    /// All objects of a kind: `read` sees each body, and keeps what it wants.
    pub fn dump<T>(
        &mut self,
        doing: &str,
        message: Message,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..DUMP_TRIES_MAX {
            found.clear();
            let whole = self.dump_once(message.clone(), |body| found.extend(read(body)));
            match whole {
                Ok(true) => break,
                Ok(false) => continue,
                Err((errno, said)) => return Err(Error { doing: doing.into(), errno, said }),
            }
        }
        Ok(found)
    }

    /// False: the objects changed in between, and some may be missing.
    fn dump_once(
        &mut self,
        mut message: Message,
        mut each: impl FnMut(&[u8]),
    ) -> std::result::Result<bool, (Errno, Option<String>)> {
        self.sequence += 1;
        let bytes = message.seal(self.sequence).to_vec();
        self.send(&bytes).map_err(|e| (e, None))?;
        let mut whole = true;
        loop {
            self.receive().map_err(|e| (e, None))?;
            for m in wire::messages(&self.buffer).filter(|m| m.sequence == self.sequence) {
                whole &= m.flags & DUMP_INTERRUPTED == 0;
                match m.kind {
                    NLMSG_DONE => return Ok(whole),
                    NLMSG_ERROR => return refusal(m).map_or(Ok(whole), Err),
                    _ => each(m.body),
                }
            }
        }
    }

    /// What has been multicast since; blocks until there is something. Err(ENOBUFS): some were lost.
    pub fn notifications(&mut self) -> std::result::Result<impl Iterator<Item = wire::Received<'_>>, Errno> {
        self.receive()?;
        Ok(wire::messages(&self.buffer))
    }

    fn send(&self, bytes: &[u8]) -> std::result::Result<(), Errno> {
        loop {
            match self.raw.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(e) if errno(&e) == Errno::EINTR => {}
                Err(e) => return Err(errno(&e)),
            }
        }
    }

    fn receive(&mut self) -> std::result::Result<(), Errno> {
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(e) if errno(&e) == Errno::EINTR => {}
                Err(e) => return Err(errno(&e)),
            }
        }
    }
}

/// Does `work` on a thread of its own inside a network namespace.
pub fn within<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let inside = || {
            setns(netns, CloneFlags::CLONE_NEWNET)
                .map_err(|e| failed("cannot enter the container's network namespace", e))?;
            Ok(work())
        };
        let thread = std::thread::Builder::new().name("netns".into()).stack_size(64 * 1024);
        match thread.spawn_scoped(scope, inside) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(failed("cannot enter the network namespace", Errno::EFAULT))),
            Err(e) => Err(failed("cannot start a thread", errno(&e))),
        }
    })
}

/// A request for a list.
pub fn dump_request(kind: u16, fixed: &[u8]) -> Message {
    Message::new(kind, DUMP).fixed(fixed)
}

fn refusal(m: wire::Received<'_>) -> Option<(Errno, Option<String>)> {
    if m.kind != NLMSG_ERROR {
        return None;
    }
    let code = wire::u32_at(m.body, 0)? as i32;
    if code == 0 {
        return None;
    }
    // After the code: the header of what was refused, and the rest of it unless capped.
    let echoed = if m.flags & ERROR_CAPPED != 0 { wire::HEADER } else { wire::u32_at(m.body, 4)? as usize };
    let said = (m.flags & ERROR_HAS_TEXT != 0)
        .then(|| wire::attribute(wire::after(m.body, 4 + echoed.next_multiple_of(4)), ERROR_TEXT))
        .flatten()
        .map(wire::text);
    Some((Errno::from_raw(-code), said))
}

fn errno(e: &io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

pub fn failed(doing: &str, errno: Errno) -> Error {
    Error { doing: doing.into(), errno, said: None }
}
