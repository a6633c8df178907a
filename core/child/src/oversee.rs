#![forbid(unsafe_code)]
//! The overseer of a hook: waits for its child, and where that fails, or is to end, ends all that it has started.
//!
//! ```text
//!   subreaper -> fork: the child goes on     here: SIGCHLD: reap; it failed, or SIGTERM: kill all children until there is none
//! ```
//! A process group does not hold what calls setpgid or setsid.  But whoever loses its parent becomes the child of the nearest
//! subreaper (prctl(2)), so all that the child started, and whatever that started, comes to us in the end.  It needs no control
//! group, and nothing stays of it.  A child of ours that we have not reaped keeps its number, so none is mistaken for another.
//!
//! A control group for each hook would do that too, but not on v1 nor for users, and one with a daemon left in it would stay for ever.

use crate::sys::{self, Ended, Result, signal, uapi};

/// Returns in the child alone.
pub(crate) fn go_on_in_child() -> Result<()> {
    sys::become_subreaper()?;
    sys::block(signal::CHILD | signal::TERM)?;
    let Some(child) = sys::fork()? else { return Ok(()) };
    // Its report must end when it executes its program, and its pipes when it does.
    let _ = sys::close_between(0, u32::MAX);
    match see_out(child) {
        Ended::Exited(0) => sys::exit(0),
        ended => {
            end_children();
            match ended {
                Ended::Exited(code) => sys::exit(code),
                Ended::Killed(signal) => sys::end_by(signal),
            }
        }
    }
}

/// Until the child has ended, or somebody asks for its end.
fn see_out(child: u32) -> Ended {
    loop {
        while let Ok(Some((pid, ended))) = sys::reap_any() {
            if pid == child {
                return ended;
            }
        }
        match sys::take(signal::CHILD | signal::TERM) {
            Ok(signal::CHILD) => {}
            _ => return Ended::Killed(15),
        }
    }
}

/// How long what was killed may take to be dead. What hangs in the kernel takes longer, and nobody may wait for it: it runs no
/// further than to its end.
const DEAD_WITHIN_NS: u64 = 2_000_000_000;

fn end_children() {
    let until = sys::clock_monotonic_ns().wrapping_add(DEAD_WITHIN_NS);
    loop {
        kill_children();
        let mut left_theirs = false;
        loop {
            match sys::reap_any() {
                // Its children are ours now.
                Ok(Some(_)) => left_theirs = true,
                Ok(None) => break,
                Err(_) => return,
            }
        }
        let left = until.saturating_sub(sys::clock_monotonic_ns());
        if left == 0 {
            return;
        }
        if !left_theirs {
            let _ = sys::take_within(signal::CHILD, left);
        }
    }
}

/// By procfs, where each process names its parent: not every kernel has a list of children there.
fn kill_children() {
    let Ok(proc) = sys::openat(uapi::AT_FDCWD, b"/proc\0", uapi::O_RDONLY | uapi::O_DIRECTORY, 0) else {
        return;
    };
    let own = sys::getpid();
    let mut entries = [0u8; 4096];
    while let Ok(length @ 1..) = sys::getdents(proc, &mut entries) {
        let mut rest = entries.get(..length).unwrap_or(&[]);
        // struct linux_dirent64: the length of the entry is at 16, its name at 19.
        while let Some([low, high]) = rest.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([*low, *high]));
            let name = rest.get(19..length).unwrap_or(&[]);
            if let Some(pid) = number(name).filter(|pid| Some(own) == parent_of(proc, name) && *pid != own) {
                sys::kill_child(pid);
            }
            rest = rest.get(length.max(1)..).unwrap_or(&[]);
        }
    }
    sys::close(proc);
}

/// The digits at the start of a text, unless there are none.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.split(|byte| !byte.is_ascii_digit()).next().filter(|digits| !digits.is_empty())?;
    digits
        .iter()
        .try_fold(0u32, |n, digit| n.checked_mul(10)?.checked_add(u32::from(digit.wrapping_sub(b'0'))))
}

/// The fourth field of /proc/PID/stat. The second is a name in parentheses, in which anything may stand.
fn parent_of(proc: sys::Fd, name: &[u8]) -> Option<u32> {
    let mut path = [0u8; 32];
    let digits = name.split(|byte| *byte == 0).next()?;
    for (place, byte) in path.iter_mut().zip(digits.iter().chain(b"/stat\0")) {
        *place = *byte;
    }
    let file = sys::openat(proc, path.get(..digits.len().checked_add(6)?)?, uapi::O_RDONLY, 0).ok()?;
    let mut stat = [0u8; 512];
    let read = sys::read(file, &mut stat);
    sys::close(file);
    let text = stat.get(..read.ok()?)?;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    // `) S 123 `
    number(text.get(end.checked_add(4)?..)?)
}
