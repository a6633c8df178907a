//! `linux.seccomp` -> the instructions that the kernel loads. Being built.

use crate::error::Error;
use crate::spec::Seccomp;

/// One instruction each, as `struct sock_filter` lies in memory.
pub fn compile(_profile: &Seccomp<'_>) -> Result<Vec<u64>, Error> {
    Err(Error::unsupported("linux.seccomp"))
}

/// SECCOMP_FILTER_FLAG_ bits. Absent flags: SPEC_ALLOW, as runc adds it.
pub fn flags(_profile: &Seccomp<'_>) -> Result<u32, Error> {
    Err(Error::unsupported("linux.seccomp"))
}
