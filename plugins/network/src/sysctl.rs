//! Settings below /proc/sys.

use std::fs;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::uio::{pread, pwrite};

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

/// Settings of one folder; those that are not there are as wanted. The folder is looked up once: a name below /proc/sys/net is one of as
/// many as there are network namespaces, and the kernel compares them one by one.
pub fn set_all(folder: &str, settings: &[(&str, &str)]) -> Result<()> {
    let path = format!("/proc/sys/{folder}");
    let folder =
        match open(path.as_str(), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(()),
            opened => opened.map_err(|errno| failed(&format!("cannot open {path}"), errno))?,
        };
    for (name, value) in settings {
        match openat(&folder, *name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(()),
            file => file.and_then(|file| set(&file, value)),
        }
        .map_err(|errno| failed(&format!("cannot write {value} to {path}/{name}"), errno))?;
    }
    Ok(())
}

fn set(file: &OwnedFd, value: &str) -> nix::Result<()> {
    let mut now = [0; 64];
    let read = pread(file, &mut now, 0)?;
    let now = now.get(..read).unwrap_or_default();
    if now.trim_ascii() != value.as_bytes() {
        pwrite(file, value.as_bytes(), 0)?;
    }
    Ok(())
}
