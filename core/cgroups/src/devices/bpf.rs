//! bpf(2), for programs of type cgroup_device. This is the only `unsafe` of the crate.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};

const PROG_LOAD: i64 = 5;
const PROG_ATTACH: i64 = 8;
const PROG_DETACH: i64 = 9;
const PROG_GET_FD_BY_ID: i64 = 13;
const PROG_QUERY: i64 = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

/// union bpf_attr, larger than any kernel's so far: kernels 6.17 to 7.1 write to `query.revision` even when the
/// attribute passed is too short to hold it. Older ones accept a longer one if the rest is zero.
#[repr(C, align(8))]
struct Attr([u8; 256]);

impl Attr {
    fn new(words: &[(usize, u32)], longs: &[(usize, u64)]) -> Attr {
        let mut attr = Attr([0; 256]);
        for (at, word) in words {
            attr.0[*at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        for (at, long) in longs {
            attr.0[*at..at + 8].copy_from_slice(&long.to_ne_bytes());
        }
        attr
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// SAFETY: the caller keeps whatever the addresses in `self` point to alive, and writable for as many bytes as
    /// the lengths in `self` say, until this returns.
    unsafe fn call(&mut self, command: i64) -> Result<RawFd> {
        // SAFETY: `self` is 256 bytes of plain, writable memory, and its size is passed along.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if answer < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            return Err(Errno::from_raw_os_error(errno));
        }
        Ok(answer as RawFd)
    }
}

fn word(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}

pub fn load(code: &[u64]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let words = [(0, TYPE_CGROUP_DEVICE), (4, code.len() as u32), (68, ATTACH_CGROUP_DEVICE)];
    let longs = [(8, code.as_ptr() as u64), (16, license.as_ptr() as u64)];
    // SAFETY: `code` and `license` outlive the call and are only read; their lengths are right.
    let fd = unsafe { Attr::new(&words, &longs).call(PROG_LOAD) }?;
    // SAFETY: PROG_LOAD returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn attached(group: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let words = [(0, word(group)), (4, ATTACH_CGROUP_DEVICE), (24, ids.len() as u32)];
    let mut attr = Attr::new(&words, &[(16, ids.as_mut_ptr() as u64)]);
    // SAFETY: `ids` is writable for the 64 words that word 24 announces and outlives the call.
    unsafe { attr.call(PROG_QUERY) }?;
    Ok(ids.iter().copied().take(attr.word(24) as usize).collect())
}

pub fn by_id(id: u32) -> Result<OwnedFd> {
    // SAFETY: no addresses.
    let fd = unsafe { Attr::new(&[(0, id)], &[]).call(PROG_GET_FD_BY_ID) }?;
    // SAFETY: PROG_GET_FD_BY_ID returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn attach(group: BorrowedFd<'_>, new: &OwnedFd, instead: Option<&OwnedFd>) -> Result<()> {
    let flags = F_ALLOW_MULTI | if instead.is_some() { F_REPLACE } else { 0 };
    let words = [
        (0, word(group)),
        (4, word(new)),
        (8, ATTACH_CGROUP_DEVICE),
        (12, flags),
        (16, instead.map_or(0, word)),
    ];
    // SAFETY: no addresses.
    unsafe { Attr::new(&words, &[]).call(PROG_ATTACH) }.map(drop)
}

pub fn detach(group: BorrowedFd<'_>, program: &OwnedFd) -> Result<()> {
    let words = [(0, word(group)), (4, word(program)), (8, ATTACH_CGROUP_DEVICE)];
    // SAFETY: no addresses.
    unsafe { Attr::new(&words, &[]).call(PROG_DETACH) }.map(drop)
}
