#![forbid(unsafe_code)]
//! Standard input, output and error, as the caller gave them and the process gets them.

use crate::defence::{self, Defence};
use crate::sys::{self, Fd, Result, uapi};

/// No device is ever given away, only what was made for this process; a file system that refuses is no reason to fail.
pub(crate) fn own(uid: u32) {
    for number in 0..3 {
        let ours = sys::stat_fd(number)
            .is_ok_and(|s| matches!(s.kind(), uapi::S_IFIFO | uapi::S_IFSOCK) && s.uid != uid)
            || !defence::on(Defence::StdioOfOthersStays);
        if ours {
            let _ = sys::fchownat(number, b"\0", uid, u32::MAX);
        }
    }
}

/// The host's null device, which callers give for want of anything better, is replaced by the container's own: through the
/// descriptor root inside could chmod and chown the host's.  As with runc; a container without one keeps what it was given.
pub(crate) fn reopen_null() -> Result<()> {
    if !defence::on(Defence::NullReopened) {
        return Ok(());
    }
    let mut own = None;
    for number in 0..3 {
        if !is_null(number) {
            continue;
        }
        if own.is_none() {
            own = container_null();
        }
        if let Some(null) = own {
            sys::dup_to(null, number)?;
        }
    }
    if let Some(null) = own {
        sys::close(null);
    }
    Ok(())
}

/// Found without a link, and looked at before it is opened and again before it is taken (CVE-2026-88265): to open another
/// device may be an act in itself.
fn container_null() -> Option<Fd> {
    if !sys::stat(uapi::AT_FDCWD, b"/dev/null\0", false).is_ok_and(|s| s.is_null_device()) {
        return None;
    }
    let how = uapi::RESOLVE_IN_ROOT | uapi::RESOLVE_NO_SYMLINKS;
    let flags = uapi::O_RDWR | uapi::O_NOCTTY | uapi::O_NONBLOCK;
    let null = sys::openat2(uapi::AT_FDCWD, b"/dev/null\0", flags, 0, how).ok()?;
    if is_null(null) {
        return Some(null);
    }
    sys::close(null);
    None
}

fn is_null(which: Fd) -> bool {
    sys::stat_fd(which).is_ok_and(|s| s.is_null_device())
}
