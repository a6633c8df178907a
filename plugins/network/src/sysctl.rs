//! Settings below /proc/sys.

use std::fs;

use nix::errno::Errno;

use crate::netlink::{Result, failed};

/// `path` below /proc/sys; of the network namespace of the calling thread where it is below `net`.
pub fn write(path: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{path}");
    fs::write(&path, value).map_err(|e| {
        failed(&format!("cannot write {value} to {path}"), Errno::from_raw(e.raw_os_error().unwrap_or(0)))
    })
}

/// None: there is no such setting.
pub fn read(path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|s| s.trim().to_owned())
}
