//! Memory that outlives this process: a sealed memfd that the keel keeps, mapped. First words, each of them stored as a whole, then bytes.
#![allow(unsafe_code)]
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::pipe::SpliceFlags;

/// What may be seen in the words.
///
/// # Safety
/// Atomics alone, `repr(C)`, none of them wider than 8 bytes.
pub unsafe trait Words {}

// SAFETY: that is what it is.
unsafe impl Words for AtomicU64 {}

pub struct Memory {
    fd: OwnedFd,
    map: *mut u8,
    /// Where the bytes begin.
    words: usize,
    size: usize,
}

// SAFETY: the mapping is this value's own, and moves with it.
unsafe impl Send for Memory {}

impl Memory {
    pub fn create(name: &str, words: usize, size: usize) -> io::Result<Memory> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, size as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
        Memory::map(fd, words, size)
    }

    /// That of an earlier worker. None: it is not of this kind.
    pub fn adopt(fd: OwnedFd, words: usize, size: usize) -> io::Result<Option<Memory>> {
        // Without the seal a truncation by somebody else would be SIGBUS for us.
        let sealed = rustix::fs::fcntl_get_seals(&fd)?.contains(SealFlags::SHRINK | SealFlags::GROW);
        if !sealed || rustix::fs::fstat(&fd)?.st_size != size as i64 {
            return Ok(None);
        }
        Memory::map(fd, words, size).map(Some)
    }

    fn map(fd: OwnedFd, words: usize, size: usize) -> io::Result<Memory> {
        // SAFETY: a new mapping, nobody else's memory. The file keeps its size (sealed), so no access raises SIGBUS.
        let map = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &fd,
                0,
            )?
        };
        Ok(Memory { fd, map: map.cast(), words, size })
    }

    /// For the keel: it must share the open file, not open it anew.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn words<T: Words>(&self, at: usize) -> &T {
        assert!(at.is_multiple_of(8) && at + size_of::<T>() <= self.words);
        // SAFETY: inside of the mapping, aligned (a page and a multiple of 8), atomics, valid for any bits; no slice is of these bytes.
        unsafe { &*self.map.add(at).cast() }
    }

    pub fn bytes(&self, at: usize, len: usize) -> &[u8] {
        self.check(at, len);
        // SAFETY: inside of the mapping; what writes there needs `&mut self`. Only one worker lives at a time.
        unsafe { std::slice::from_raw_parts(self.map.add(at), len) }
    }

    fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        self.check(at, len);
        // SAFETY: as in `bytes`, and `&mut self`: no other slice exists.
        unsafe { std::slice::from_raw_parts_mut(self.map.add(at), len) }
    }

    fn check(&self, at: usize, len: usize) {
        assert!(at >= self.words && len <= self.size && at <= self.size - len);
    }

    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.bytes_mut(at, bytes.len()).copy_from_slice(bytes);
    }

    pub fn copy(&mut self, from: usize, to: usize, len: usize) {
        self.check(from, len);
        self.check(to, len);
        // SAFETY: both are inside of the mapping, and `&mut self`: no slice of any of them exists.
        unsafe { std::ptr::copy(self.map.add(from), self.map.add(to), len) };
    }

    /// The position of the open file, which the keel shares: a new process finds it where this one has left it.
    pub fn position(&self) -> io::Result<usize> {
        Ok(rustix::fs::tell(&self.fd)? as usize)
    }

    pub fn seek(&mut self, to: usize) -> io::Result<()> {
        rustix::fs::seek(&self.fd, SeekFrom::Start(to as u64))?;
        Ok(())
    }

    /// Only to give memory back: nothing depends on it.
    pub fn forget(&mut self, at: usize, len: usize) {
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(&self.fd, punch, at as u64, len as u64);
    }
}

/// Takes what there is off the pipe, `most` bytes at most, to where the position of `file` is, and moves that in the same call: 0 at its
/// end, `Errno::AGAIN` if it is empty.
pub fn take(pipe: BorrowedFd<'_>, file: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    match rustix::pipe::splice(pipe, None, file, None, most, flags) {
        // A terminal's master, not a pipe. A crash between the two calls loses this one read of it.
        Err(Errno::INVAL) => {
            let mut bytes = vec![0; most];
            let taken = match rustix::io::read(pipe, &mut bytes) {
                // The last process of a terminal has left it.
                Err(Errno::IO) => 0,
                read => read?,
            };
            rustix::io::write(file, &bytes[..taken])
        }
        taken => taken,
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, once; no slice outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.map.cast(), self.size) };
    }
}
