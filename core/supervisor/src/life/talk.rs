//! What the worker and a launching process say to each other, over one SOCK_SEQPACKET pair. They take turns; what the process
//! says unasked (`Doing`, `Warning`) comes before its answer.
//!
//! ```text
//!   worker:   Read ─► ◄─ Read      RunDir ─► ◄─ RunDir      Real ─► ◄─ Real    Store ─► ◄─ Stored
//!             Look ─► ◄─ Looked    Launch ─► ◄─ Attach   Attached ─► ◄─ Created    Start ─► ◄─ Started
//!                                or Looked, Failed, Unbundled                   at the end of the socket the process ends
//! ```
//! A record is the length of its head, its head as JSON, and a text that needs no escaping (the spec). One that is too long for
//! a record of the socket travels in a memfd, as its last descriptor.
use super::fd_store::Store;
use super::relayed::Relayed;
use super::stdio::Output;
use crate::hooks;
use crate::one_off::client::Streams;
use crate::sd_notify::message::Dropped;
use crate::source::{Files, Read};
use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use sampan_bundle as bundle;
use sampan_config::schema::{Listen, SaysOn};
use sampan_plugin_host::digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A longer record goes into a memfd.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// In the place of a length: the record is in the last descriptor.
const ELSEWHERE: u32 = u32::MAX;
const FDS_MAX: usize = 12;

/// What the worker asks for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// config.toml.
    Read(Files),
    /// No more of config.toml than where the run folder is.
    RunDir(Files),
    /// Where these paths lead.
    Real(Vec<PathBuf>),
    /// And of what was found for the life before, if that is known.
    Look(Box<bundle::Look>, Option<Digest>),
    /// The text is the spec; none: it is what the bundle says. Descriptors: the pidfds of those whose namespaces it names by their
    /// numbers, then that of the client whose streams it is to have (`given`).
    Launch(Box<Launch>),
    /// The descriptor is the socket with the message.
    Store(Box<Store>),
    /// The answer to `Attach`; or why it must not go on.
    Attached(Result<(), String>),
    Start,
}

/// A container to launch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    pub service: String,
    pub generation: u64,
    pub run: PathBuf,
    pub containers: PathBuf,
    pub io: PathBuf,
    pub logs: PathBuf,
    pub sockets: Vec<Listen>,
    /// Behind them, by their numbers (`fd_store`).
    pub stored: Vec<u32>,
    /// Another life is to be launched only if this look finds what it found for that one: else the answer is `Looked`.
    pub look: Option<(Box<bundle::Look>, Digest)>,
    /// The folder of the life before is aside: it is removed once this one runs.
    pub is_aside: bool,
    /// Of what the bundle says, if that is known.
    pub bundled: Option<Digest>,
    pub stdio: Output,
    pub relayed: Relayed,
    /// In the place of `stdio`.
    pub given: Option<Streams>,
    pub hook_log: hooks::Log,
    /// The groups are those of the life before, with the same limits.
    pub groups_are_ready: bool,
    /// What it has to say how it is.
    pub says_on: Option<SaysOn>,
}

/// What a launching process says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// What may take long is about to be done, in words for people who wait.
    Doing(String),
    Warning(String),
    Read(Box<Read>),
    RunDir(PathBuf),
    Real(Vec<PathBuf>),
    /// What is not kept; or why nothing is.
    Stored(Result<Vec<Dropped>, String>),
    /// Of what was found, which is the text; none: the same as for the life before.
    Looked(Result<Digest, String>),
    /// Descriptors: what these roles are, in this order.
    Attach {
        pid: i32,
        roles: Vec<u32>,
    },
    /// Its descriptors came with `Attach`.
    Created {
        pid: i32,
        oom_before: u64,
        bundled: Digest,
    },
    /// Nothing was done: the bundle does not say what it did for the life before.
    Unbundled,
    /// Nothing is left but what the state folder says. A `Problem` as text.
    Failed(String),
    Started(Result<(), String>),
}

/// What came: a message, its text and its descriptors.
pub type Received<T> = (T, String, Vec<OwnedFd>);

/// Sends one record, whole or not at all.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    text: &str,
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut record = vec![0; 4];
    serde_json::to_writer(&mut record, message)?;
    let head = u32::try_from(record.len() - 4).map_err(io::Error::other)?;
    if let Some(length) = record.first_chunk_mut() {
        *length = head.to_le_bytes();
    }
    if record.len() + text.len() <= RECORD_BYTES_MAX {
        return send_record(socket, &[IoSlice::new(&record), IoSlice::new(text.as_bytes())], fds, flags);
    }
    let mut memfd = File::from(rustix::fs::memfd_create(c"sampan-record", MemfdFlags::CLOEXEC)?);
    memfd.write_all(&record)?;
    memfd.write_all(text.as_bytes())?;
    let fds: Vec<_> = fds.iter().copied().chain([memfd.as_fd()]).collect();
    send_record(socket, &[IoSlice::new(&ELSEWHERE.to_le_bytes())], &fds, flags)
}

fn send_record(
    socket: BorrowedFd<'_>,
    bytes: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors in one message"));
    }
    let flags = flags | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, bytes, &mut control, flags))?;
    Ok(())
}

/// None: the other side is gone.
pub fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<Option<Received<T>>> {
    let mut record = vec![0; RECORD_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut record)], &mut control, flags)
    })?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let mut fds: Vec<OwnedFd> = rights.flatten().collect();
    if got.bytes == 0 {
        return Ok(None);
    }
    record.truncate(got.bytes);
    let broken =
        || io::Error::new(io::ErrorKind::InvalidData, "a broken message between processes of sampand");
    if record == ELSEWHERE.to_le_bytes() {
        let mut memfd = File::from(fds.pop().ok_or_else(broken)?);
        record.clear();
        memfd.rewind()?;
        memfd.read_to_end(&mut record)?;
    }
    let (length, rest) = record.split_first_chunk().ok_or_else(broken)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (head, text) = rest.split_at_checked(length).ok_or_else(broken)?;
    let message = serde_json::from_slice(head)?;
    let text = String::from_utf8(text.to_vec()).map_err(|_| broken())?;
    Ok(Some((message, text, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn there_and_back(text: &str, fds: usize) {
        let (a, b) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let given = vec![rustix::stdio::stderr(); fds];
        send(a.as_fd(), &Said::Doing("waits".into()), text, &given, SendFlags::empty()).unwrap();
        drop(a);
        let (said, got, given) = receive::<Said>(b.as_fd(), RecvFlags::empty()).unwrap().unwrap();
        assert!(matches!(said, Said::Doing(what) if what == "waits"));
        assert_eq!((got.len(), given.len()), (text.len(), fds));
        assert!(got == text);
        assert!(receive::<Said>(b.as_fd(), RecvFlags::empty()).unwrap().is_none());
    }

    #[test]
    fn a_record_of_any_length_arrives_whole() {
        for length in [0, 1, 60_000, RECORD_BYTES_MAX, 1 << 20, 5 << 20] {
            there_and_back(&"é".repeat(length / 2), 0);
            there_and_back(&"é".repeat(length / 2), 4);
        }
    }
}
