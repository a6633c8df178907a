#![forbid(unsafe_code)]
//! The program and its working directory, looked up inside the container.

use crate::context::Context;
use crate::defence::{self, Defence};
use crate::step::cwd as flag;
use crate::sys::{self, Call, Fault, Result, uapi};
use crate::targets;

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

/// The directory is looked up below the root and never through /proc/PID/fd or its like, and entered by its descriptor; one
/// outside of the root has no path from it, which getcwd tells (CVE-2024-21626).  Our own directory is the root by now: the
/// pivot and the join both end there.
pub(crate) fn cwd(c: &mut Context<'_>, path: &[u8], flags: u32) -> Result<()> {
    if c.cwd_done {
        return Ok(());
    }
    if !defence::on(Defence::CwdInRoot) {
        return sys::chdir(path);
    }
    let opened = match flags & flag::CREATE != 0 {
        true => targets::target_in(uapi::AT_FDCWD, path, true, false).map(|at| at.fd),
        false => sys::openat2(uapi::AT_FDCWD, path, uapi::O_PATH | uapi::O_DIRECTORY, 0, targets::INSIDE),
    };
    let entered = opened.and_then(|directory| {
        let entered = sys::fchdir(directory);
        sys::close(directory);
        entered
    });
    match entered {
        Err(Fault { errno: uapi::EACCES, .. }) if flags & flag::TRY != 0 => return Ok(()),
        other => other?,
    }
    if !sys::cwd_is_inside()? {
        return Err(Fault::new(Call::getcwd, uapi::EXDEV));
    }
    c.cwd_done = true;
    Ok(())
}
