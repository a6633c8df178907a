//! What keel and worker say to each other: one fixed shape of message in both directions over a
//! SOCK_SEQPACKET pair, with descriptors beside it. A message is plain words and one short name; nothing
//! here allocates. The worker asks, the keel answers each request exactly once, in order; it never speaks first.

use core::mem::MaybeUninit;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};

/// Both sides say it in the greeting. A worker of another version ends with an error instead of guessing.
pub const VERSION: i32 = 2;
/// The longest key of a kept descriptor, in bytes.
pub const NAME_MAX: usize = 240;
/// The longest tag of a child: with its pid before it, it may become a key (`ORPHAN`).
pub const TAG_MAX: usize = NAME_MAX - 24;
/// How the keys of pidfds begin that were a dead keel's children.
pub const ORPHAN: &[u8] = b"orphan/";
/// Slots of one launch. The kernel takes 253 descriptors per message (SCM_MAX_FD).
pub const SLOTS_MAX: usize = 128;
/// Connections beside the worker's own.
pub const CONNECTIONS_MAX: usize = 128;
/// The image itself comes first.
pub const FDS_MAX: usize = SLOTS_MAX + 1;

/// How a process ended, as two words: one of these and the code or the signal.
pub const FATE_NONE: i32 = 0;
pub const FATE_CODE: i32 = 1;
pub const FATE_SIGNAL: i32 = 2;
/// By a signal, with a core dump.
pub const FATE_CORE: i32 = 3;
/// The worker alone: killed by the watchdog.
pub const FATE_HUNG: i32 = 4;

/// Of `Connect`.
pub const CONNECT_PROCESS: i32 = 0;
pub const CONNECT_LOOP: i32 = 1;

const HEAD: usize = 28;
const MESSAGE_MAX: usize = HEAD + NAME_MAX;

/// What the worker may ask for. The number is the wire format: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// words 0 = version -> words = version, how many workers came before, fate kind, fate number; fd = watchdog
    Hello = 1,
    /// It hears orders: a second one to end is for it.
    Ready = 2,
    /// name = tag, fds = image, slots... -> words 0 = pid, fd = pidfd
    Launch = 3,
    /// words 0 = pid -> words = kind, number, core. May be asked again and again.
    Peek = 4,
    /// As peek, and the process is gone afterwards.
    Reap = 5,
    /// name = key, fd: keep it (in the place of an older one); without fd: drop it.
    Keep = 6,
    /// name = key -> fd
    Fetch = 7,
    /// words 0 = cursor -> words = pid, next cursor; name = tag; fd = pidfd. ENOENT after the last.
    NextChild = 8,
    /// words 0 = cursor -> words 1 = next cursor; name = key. ENOENT after the last.
    NextKept = 9,
    /// fd = the program of all later workers.
    Program = 10,
    /// fd = the record; words = where to write in it, the number of this holder. From now on there is a holder.
    Hold = 11,
    /// words 0 = for whom -> fd = one more connection, for the worker's loop (`CONNECT_LOOP`) or a process of the worker's. It is
    /// closed when the worker ends.
    Connect = 12,
    /// Nothing is to be held any more: the holder ends.
    Release = 13,
    /// -> words 0 = `Ending`; fd = the pipe with what comes.
    Orders = 14,
    /// words 0 = `Ending`: asked for by a client.
    Ending = 15,
    /// -> words 0 = the holder's pid, 0 for none.
    Holder = 16,
}

impl Op {
    /// What is the worker's alone to ask, not its processes'.
    pub fn is_workers(self) -> bool {
        match self {
            Op::Ready | Op::Program | Op::Connect | Op::Orders | Op::Ending => true,
            Op::Hold | Op::Holder | Op::Release => true,
            Op::Hello | Op::Launch | Op::Peek | Op::Reap => false,
            Op::Keep | Op::Fetch | Op::NextChild | Op::NextKept => false,
        }
    }

    pub fn from_word(word: u32) -> Option<Op> {
        Some(match word {
            1 => Op::Hello,
            2 => Op::Ready,
            3 => Op::Launch,
            4 => Op::Peek,
            5 => Op::Reap,
            6 => Op::Keep,
            7 => Op::Fetch,
            8 => Op::NextChild,
            9 => Op::NextKept,
            10 => Op::Program,
            11 => Op::Hold,
            12 => Op::Connect,
            13 => Op::Release,
            14 => Op::Orders,
            15 => Op::Ending,
            16 => Op::Holder,
            _ => return None,
        })
    }
}

/// Names of crash points.
macro_rules! moments {
    ($($op:ident)*) => {
        impl Op {
            pub fn before(self) -> &'static str {
                match self { $(Op::$op => concat!("before ", stringify!($op)),)* }
            }
            pub fn asked(self) -> &'static str {
                match self { $(Op::$op => concat!(stringify!($op), " asked"),)* }
            }
            pub fn answered(self) -> &'static str {
                match self { $(Op::$op => concat!(stringify!($op), " answered"),)* }
            }
        }
    };
}
moments!(Hello Ready Launch Peek Reap Keep Fetch NextChild NextKept Program Hold Connect Release Orders Ending Holder);

/// A tag or a key: at most `NAME_MAX` bytes, held in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    len: u8,
    bytes: [u8; NAME_MAX],
}

impl Name {
    pub const EMPTY: Name = Name { len: 0, bytes: [0; NAME_MAX] };

    pub fn new(text: &[u8]) -> Option<Name> {
        let mut name = Name::EMPTY;
        name.bytes.get_mut(..text.len())?.copy_from_slice(text);
        name.len = u8::try_from(text.len()).ok()?;
        Some(name)
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// One message. `kind` is an `Op` on the way to the keel and an errno (0 = done) on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: u32,
    /// Chosen by the worker, returned by the keel: an answer always belongs to its request.
    pub seq: u32,
    pub words: [i32; 4],
    pub name: Name,
}

impl Message {
    pub fn ask(op: Op, words: [i32; 4], name: Name) -> Message {
        Message { kind: op as u32, seq: 0, words, name }
    }

    pub fn answer(request: &Message, words: [i32; 4]) -> Message {
        Message { kind: 0, seq: request.seq, words, name: Name::EMPTY }
    }

    pub fn refuse(request: &Message, errno: Errno) -> Message {
        Message {
            kind: errno.raw_os_error().unsigned_abs(),
            seq: request.seq,
            words: [0; 4],
            name: Name::EMPTY,
        }
    }

    /// Returns the bytes and how many of them count.
    pub fn encode(&self) -> ([u8; MESSAGE_MAX], usize) {
        let mut out = [0; MESSAGE_MAX];
        let [a, b, c, d] = self.words;
        let name = self.name.as_bytes();
        let head = [
            self.kind.to_le_bytes(),
            self.seq.to_le_bytes(),
            a.to_le_bytes(),
            b.to_le_bytes(),
            c.to_le_bytes(),
            d.to_le_bytes(),
            u32::from(self.name.len).to_le_bytes(),
        ];
        for (to, from) in out.chunks_exact_mut(4).zip(head) {
            to.copy_from_slice(&from);
        }
        for (to, from) in out.iter_mut().skip(HEAD).zip(name) {
            *to = *from;
        }
        (out, HEAD + name.len())
    }

    /// None: not a message of ours (too short, or its name is not as long as it says).
    pub fn decode(bytes: &[u8]) -> Option<Message> {
        let (head, name) = bytes.split_at_checked(HEAD)?;
        let mut words = [[0u8; 4]; 7];
        for (to, from) in words.iter_mut().zip(head.chunks_exact(4)) {
            to.copy_from_slice(from);
        }
        let [kind, seq, a, b, c, d, len] = words;
        if u32::from_le_bytes(len) as usize != name.len() {
            return None;
        }
        Some(Message {
            kind: u32::from_le_bytes(kind),
            seq: u32::from_le_bytes(seq),
            words: [a, b, c, d].map(i32::from_le_bytes),
            name: Name::new(name)?,
        })
    }
}

/// Descriptors that came with a message, in order.
#[derive(Debug)]
pub struct Fds {
    fds: [Option<OwnedFd>; FDS_MAX],
    len: usize,
    truncated: bool,
}

impl Fds {
    fn new() -> Fds {
        Fds { fds: [const { None }; FDS_MAX], len: 0, truncated: false }
    }

    fn push(&mut self, fd: OwnedFd) -> Result<(), Errno> {
        *self.fds.get_mut(self.len).ok_or(Errno::BADMSG)? = Some(fd);
        self.len += 1;
        Ok(())
    }

    /// EMFILE: some of them the kernel had to drop. Our table is full, or the host's.
    pub fn complete(&self) -> Result<(), Errno> {
        if self.truncated { Err(Errno::MFILE) } else { Ok(()) }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, at: usize) -> Option<BorrowedFd<'_>> {
        self.fds.get(at)?.as_ref().map(AsFd::as_fd)
    }

    pub fn take(&mut self, at: usize) -> Option<OwnedFd> {
        self.fds.get_mut(at)?.take()
    }
}

pub fn send(
    socket: BorrowedFd<'_>,
    message: &Message,
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), Errno> {
    if fds.len() > FDS_MAX {
        return Err(Errno::TOOMANYREFS);
    }
    let (bytes, len) = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOMANYREFS);
    }
    let text = bytes.get(..len).unwrap_or(&bytes);
    // A record of SEQPACKET goes whole or not at all.
    rustix::io::retry_on_intr(|| {
        sendmsg(socket, &[IoSlice::new(text)], &mut control, flags | SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Ok(None): the other side is gone. EBADMSG: what came was no message; its descriptors are closed. A message whose descriptors
/// found no room says so (`Fds::complete`): it is answered like any other.
pub fn receive(socket: BorrowedFd<'_>, flags: RecvFlags) -> Result<Option<(Message, Fds)>, Errno> {
    let mut bytes = [0; MESSAGE_MAX + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags | RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Fds::new();
    let mut overflow = Ok(());
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            for fd in rights {
                overflow = overflow.and(fds.push(fd));
            }
        }
    }
    if got.bytes == 0 && fds.is_empty() {
        return Ok(None);
    }
    overflow?;
    fds.truncated = got.flags.contains(ReturnFlags::CTRUNC);
    let message = bytes.get(..got.bytes).and_then(Message::decode).ok_or(Errno::BADMSG)?;
    Ok(Some((message, fds)))
}
