//! Bytes that are handed on and stay as they are.
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// A memfd with these bytes that nobody can change any more.
pub fn sealed(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let memfd = rustix::fs::memfd_create(c"sampan-image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let done = rustix::io::retry_on_intr(|| rustix::io::write(&memfd, rest))?;
        rest = rest.get(done..).unwrap_or_default();
    }
    rustix::fs::fcntl_add_seals(
        &memfd,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(memfd)
}
