#![forbid(unsafe_code)]
//! Users, groups and capabilities.

use crate::sys::{self, Fault, Result, uapi};

/// Root of the user namespace just made. Its own groups are those of another namespace: let go of them,
/// unless setgroups is denied there.
pub(crate) fn become_root(setgroups: bool) -> Result<()> {
    if setgroups {
        sys::setgroups(&[])?;
    }
    sys::setresgid(0)?;
    sys::setresuid(0)
}

/// Groups first and the uid last: each needs the rights that the next one takes.
pub(crate) fn become_user(uid: u32, gid: u32, groups: Option<&[u8]>, keep_caps: bool) -> Result<()> {
    if keep_caps {
        sys::keep_capabilities()?;
    }
    if let Some(groups) = groups {
        sys::setgroups(groups)?;
    }
    sys::setresgid(gid)?;
    sys::setresuid(uid)
}

/// Drops from the bounding set what is not kept. The kernel's last capability ends the loop by EINVAL.
pub(crate) fn bound(keep: u64) -> Result<()> {
    let mut cap = 0u32;
    while cap < 64 {
        if keep >> cap & 1 == 0 {
            match sys::drop_from_bounding_set(cap) {
                Err(Fault { errno: uapi::EINVAL, .. }) => break,
                other => other?,
            }
        }
        cap = cap.wrapping_add(1);
    }
    Ok(())
}

/// Exactly these; they must be permitted and inheritable already.
pub(crate) fn ambient(raise: u64) -> Result<()> {
    sys::clear_ambient()?;
    let mut cap = 0u32;
    while cap < 64 {
        if raise >> cap & 1 == 1 {
            sys::raise_ambient(cap)?;
        }
        cap = cap.wrapping_add(1);
    }
    Ok(())
}
