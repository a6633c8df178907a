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
    #[repr(align(8))]
    struct Room([u8; CREDENTIALS_SPACE]);
    let mut room = Room([0; CREDENTIALS_SPACE]);
    let mut buffer = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: a msghdr of zeros is one without name, buffers and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut buffer;
    message.msg_iovlen = 1;
    message.msg_control = room.0.as_mut_ptr().cast();
    message.msg_controllen = CREDENTIALS_SPACE as _;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the kernel writes no more than these buffers have room for; they live until after the call.
    let bytes = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let Ok(bytes) = usize::try_from(bytes) else { return Err(std::io::Error::last_os_error()) };
    let mut pid = 0;
    // SAFETY: the kernel has written `msg_controllen` bytes of control data into `room`, which is aligned for it.
    let head = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    if let Some(head) = head
        && (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
        && head.cmsg_len >= CREDENTIALS_LEN
    {
        // SAFETY: by its length the whole ucred is there; any bits are one.
        pid = unsafe { libc::CMSG_DATA(head).cast::<libc::ucred>().read_unaligned() }.pid;
    }
    let has = |flag| message.msg_flags & flag != 0;
    // There is room for the credentials alone.
    let carries = has(libc::MSG_CTRUNC);
    Ok(Peeked { bytes, is_cut: has(libc::MSG_TRUNC), carries, pid })
}

// SAFETY: the two do arithmetic with a length, and nothing else.
const CREDENTIALS_SPACE: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;
// SAFETY: as above.
const CREDENTIALS_LEN: usize = unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) } as usize;

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
