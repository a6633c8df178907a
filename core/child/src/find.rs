#![forbid(unsafe_code)]
//! The program and its working directory, looked up inside the container.

use crate::sys::{self, Call, Fault, Result, uapi};

/// The first candidate that is a regular file we may execute. "Not allowed" outranks "not there", as in
/// execvp: the first says more.
pub(crate) fn program<'a>(candidates: impl Iterator<Item = &'a [u8]>) -> Result<&'a [u8]> {
    let mut worst = Fault::new(Call::statx, uapi::ENOENT);
    for path in candidates {
        let found = sys::stat(uapi::AT_FDCWD, path, true).and_then(|stat| {
            if stat.kind() != uapi::S_IFREG {
                return Err(Fault::new(Call::execve, uapi::EACCES));
            }
            sys::executable(uapi::AT_FDCWD, path)
        });
        match found {
            Ok(()) => return Ok(path),
            Err(Fault { errno: uapi::ENOENT | uapi::ENOTDIR, .. }) => {}
            Err(fault) => worst = fault,
        }
    }
    Err(worst)
}

/// chdir, after making what is not there, and the check against a leaked descriptor (CVE-2024-21626): a
/// directory outside the root has no path from it.
pub(crate) fn cwd(path: &[u8], create: bool) -> Result<()> {
    match sys::chdir(path) {
        Err(Fault { errno: uapi::ENOENT, .. }) if create => {
            make_all(path)?;
            sys::chdir(path)?;
        }
        other => other?,
    }
    if sys::cwd_is_inside()? { Ok(()) } else { Err(Fault::new(Call::getcwd, uapi::EXDEV)) }
}

/// mkdir -p, from the root of this process: after the pivot that is the container's.
fn make_all(path: &[u8]) -> Result<()> {
    let mut prefix = [0u8; 4096];
    for (at, byte) in path.iter().enumerate() {
        if at > 0 && matches!(byte, b'/' | 0) {
            match sys::mkdirat(uapi::AT_FDCWD, prefix.get(..at.wrapping_add(1)).unwrap_or(&[]), 0o755) {
                Err(Fault { errno: uapi::EEXIST, .. }) => {}
                other => other?,
            }
        }
        match prefix.get_mut(at) {
            Some(place) => *place = *byte,
            None => return Err(Fault::new(Call::mkdirat, uapi::ENAMETOOLONG)),
        }
    }
    Ok(())
}
