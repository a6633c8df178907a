#![forbid(unsafe_code)]
//! The program and its working directory, looked up inside the container.

use crate::context::Context;
use crate::defence::{self, Defence};
use crate::step::cwd as flag;
use crate::sys::{self, Call, Fault, Fd, Result, uapi};
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

/// The sixth field of the passwd line with this uid; `/` where there is none, as runc has it.
pub(crate) fn home(c: &mut Context<'_>, uid: u32) {
    let mut text = [0u8; 16_384];
    let length = passwd().map_or(0, |file| {
        let read = sys::read(file, &mut text).unwrap_or(0);
        sys::close(file);
        read
    });
    let text = text.get(..length).unwrap_or(&[]);
    let found = text.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let is_ours = fields.nth(2).and_then(number) == Some(uid);
        fields.nth(2).filter(|home| is_ours && home.first() == Some(&b'/'))
    });
    let value = b"HOME=".iter().chain(found.unwrap_or(b"/")).chain(b"\0");
    c.home_length = 0;
    for (place, byte) in c.home.iter_mut().zip(value) {
        *place = *byte;
        c.home_length = c.home_length.wrapping_add(1);
    }
    if c.home.get(c.home_length.wrapping_sub(1)) != Some(&0) {
        c.home_length = 0; // longer than we hold: none is better than a part
    }
}

/// The image's passwd file, which may be anything: a FIFO would make us wait for a writer, a device has no end.
fn passwd() -> Result<Fd> {
    let waits = if defence::on(Defence::PasswdIsAFile) { uapi::O_NONBLOCK } else { 0 };
    let file = sys::openat(uapi::AT_FDCWD, b"/etc/passwd\0", uapi::O_RDONLY | waits, 0)?;
    if !sys::stat_fd(file).is_ok_and(|s| s.kind() == uapi::S_IFREG) && defence::on(Defence::PasswdIsAFile) {
        sys::close(file);
        return Err(Fault::new(Call::openat, uapi::EINVAL));
    }
    Ok(file)
}

fn number(digits: &[u8]) -> Option<u32> {
    let mut value = 0u32;
    if digits.is_empty() {
        return None;
    }
    for digit in digits {
        let one = digit.wrapping_sub(b'0');
        if one > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u32::from(one))?;
    }
    Some(value)
}
