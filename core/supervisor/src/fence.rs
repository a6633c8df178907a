#![allow(unsafe_code)]
//! The worker's own unsafe calls: what the standard library and tokio leave to their caller's word.
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A block of this size (a plugin's file) is a mapping of its own, gone when freed. Left alone, glibc raises the bound to the
/// largest block that was freed.
const MAPPED_FROM_BYTES: i32 = 1 << 20;

/// Free bytes at the heap's end that are kept: as many as restarts in a row take and give back. `trim_heap` takes no account of it.
const FREE_BYTES: i32 = 4 << 20;

/// A heap for a process that stays (mallopt(3)): one arena for all threads, since the pool's come and go and theirs would stay,
/// and bounds that do not grow.
pub fn small_heap() {
    for (option, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_TRIM_THRESHOLD, FREE_BYTES),
    ] {
        // SAFETY: mallopt takes two integers and touches no memory of ours; no other thread runs yet.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Gives the kernel back the heap's pages on which nothing is left (malloc_trim(3)).
pub fn trim_heap() {
    // SAFETY: it takes the allocator's own lock and touches free memory alone.
    unsafe { libc::malloc_trim(0) };
}

/// Few have more: 64 KiB is NGROUPS_MAX.
const GROUPS_AT_FIRST: usize = 64;

/// The supplementary groups that the peer of a Unix socket had when it connected (SO_PEERGROUPS, unix(7)).
pub fn peer_groups(socket: impl AsFd) -> std::io::Result<Vec<u32>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut groups = vec![0_u32; GROUPS_AT_FIRST];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(&*groups)).map_err(std::io::Error::other)?;
        // SAFETY: the kernel writes at most `bytes` bytes, which is what `groups` has, and any bits are a u32; `bytes` is ours.
        let result = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        match result {
            0 => {
                groups.truncate(count);
                return Ok(groups);
            }
            _ => {
                let error = std::io::Error::last_os_error();
                // It has said how much room it needs.
                if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
                    return Err(error);
                }
                groups.resize(count, 0);
            }
        }
    }
}

/// The process that was the peer of a Unix socket when it connected (SO_PEERPIDFD, Linux 6.5). None: this kernel does not know that,
/// or the process has been reaped.
pub fn peer_pidfd(socket: impl AsFd) -> Option<OwnedFd> {
    let (mut fd, mut bytes): (RawFd, _) = (-1, size_of::<RawFd>() as libc::socklen_t);
    // SAFETY: the kernel writes one int into `fd`, whose size `bytes` says; both live until after the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut bytes,
        )
    };
    // SAFETY: the call has succeeded, so `fd` is a descriptor that it has opened for us alone.
    (result == 0 && fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A datagram, and who has sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeked {
    /// Of the buffer.
    pub bytes: usize,
    /// It is longer than the buffer.
    pub is_cut: bool,
    /// Descriptors came with it.
    pub carries: bool,
    /// The sender's number here (SCM_CREDENTIALS, unix(7)); 0: it has none, or the socket does not ask who sends.
    pub pid: i32,
}

/// Looks at the next datagram, which stays in the queue with the descriptors that came with it: none of them is opened here.
/// rustix cannot say that a sender has no number, and nix says nothing of a message whose descriptors had no room.
pub fn peek(socket: impl AsFd, into: &mut [u8]) -> std::io::Result<Peeked> {
    // There is room for the credentials alone.
    let (peeked, _none, is_short) = peek_into::<CREDENTIALS_SPACE>(socket, into)?;
    Ok(Peeked { carries: is_short, ..peeked })
}

/// Looks at the next datagram, which stays in the queue, with descriptors of our own for those that came with it. True: not all of
/// them could be had.
pub fn peek_fds(socket: impl AsFd, into: &mut [u8]) -> std::io::Result<(Peeked, Vec<OwnedFd>, bool)> {
    peek_into::<{ CREDENTIALS_SPACE + RIGHTS_SPACE }>(socket, into)
}

fn peek_into<const SPACE: usize>(
    socket: impl AsFd,
    into: &mut [u8],
) -> std::io::Result<(Peeked, Vec<OwnedFd>, bool)> {
    #[repr(align(8))]
    struct Room<const SPACE: usize>([u8; SPACE]);
    let mut room = Room([0; SPACE]);
    let mut buffer = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: a msghdr of zeros is one without name, buffers and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut buffer;
    message.msg_iovlen = 1;
    message.msg_control = room.0.as_mut_ptr().cast();
    message.msg_controllen = SPACE as _;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the kernel writes no more than these buffers have room for; they live until after the call.
    let bytes = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let Ok(bytes) = usize::try_from(bytes) else { return Err(std::io::Error::last_os_error()) };
    let (mut pid, mut fds) = (0, Vec::new());
    // SAFETY: the kernel has written `msg_controllen` bytes of control data into `room`, which is aligned for it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give a head that is within that data, or none.
    while let Some(head) = unsafe { next.as_ref() } {
        // SAFETY: it points behind the head, to the data of this one.
        let data = unsafe { libc::CMSG_DATA(head) };
        match (head.cmsg_level, head.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if head.cmsg_len >= CREDENTIALS_LEN => {
                // SAFETY: by its length the whole ucred is there; any bits are one.
                pid = unsafe { data.cast::<libc::ucred>().read_unaligned() }.pid;
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                let count = head.cmsg_len.saturating_sub(RIGHTS_HEAD) / size_of::<RawFd>();
                fds.extend((0..count).map(|at| {
                    // SAFETY: by its length so many ints are there; each is a descriptor that the kernel has opened for us alone.
                    unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(at).read_unaligned()) }
                }));
            }
            _ => {}
        }
        // SAFETY: as of CMSG_FIRSTHDR; `head` is one of this message's.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, head) };
    }
    let has = |flag| message.msg_flags & flag != 0;
    let is_short = has(libc::MSG_CTRUNC);
    let carries = is_short || !fds.is_empty();
    Ok((Peeked { bytes, is_cut: has(libc::MSG_TRUNC), carries, pid }, fds, is_short))
}

/// Whether two of our descriptors are one open file (KCMP_FILE, kcmp(2)). A kernel that does not say so has two of them.
pub fn is_same_file(one: impl AsFd, other: impl AsFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let us = std::process::id();
    let (one, other) = (one.as_fd().as_raw_fd(), other.as_fd().as_raw_fd());
    // SAFETY: it takes five integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_kcmp, us, us, KCMP_FILE, one, other) == 0 }
}

/// The kernel sends no more with one message (SCM_MAX_FD).
const RIGHTS_MAX: usize = 253;
// SAFETY: the two do arithmetic with a length, and nothing else.
const CREDENTIALS_SPACE: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;
// SAFETY: as above.
const CREDENTIALS_LEN: usize = unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) } as usize;

// SAFETY: as above.
const RIGHTS_SPACE: usize = unsafe { libc::CMSG_SPACE((RIGHTS_MAX * size_of::<RawFd>()) as u32) } as usize;
// SAFETY: as above.
const RIGHTS_HEAD: usize = unsafe { libc::CMSG_LEN(0) } as usize;

/// A descriptor that nobody can close while it is shared.
#[derive(Debug, Clone)]
pub struct Held(Arc<OwnedFd>);

impl From<OwnedFd> for Held {
    fn from(fd: OwnedFd) -> Held {
        Held(Arc::new(fd))
    }
}

impl From<Arc<OwnedFd>> for Held {
    fn from(fd: Arc<OwnedFd>) -> Held {
        Held(fd)
    }
}

impl AsRawFd for Held {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl std::ops::Deref for Held {
    type Target = OwnedFd;
    fn deref(&self) -> &OwnedFd {
        &self.0
    }
}

/// Registers a descriptor with the loop, to be told when it can be read.
pub fn readable(fd: impl Into<Held>) -> std::io::Result<AsyncFd<Held>> {
    // SAFETY: a `Held` is open for as long as it lives, its descriptor never changes, and the AsyncFd owns one.
    unsafe { AsyncFd::register_with_interest(fd.into(), Interest::READABLE) }.map_err(Into::into)
}

/// Registers a descriptor with the loop, to be told when it has room.
pub fn writable(fd: impl Into<Held>) -> std::io::Result<AsyncFd<Held>> {
    // SAFETY: as of `readable`.
    unsafe { AsyncFd::register_with_interest(fd.into(), Interest::WRITABLE) }.map_err(Into::into)
}
