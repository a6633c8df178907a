//! Files of procfs that only root may read. uid 0 of a container is that root, no map makes them nobody's, and a kernel may have
//! some that no list knows.

use std::mem::MaybeUninit;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

use crate::error::{Error, Result};

const PROC: &str = "/proc";
/// What is read of the folder at once. The kernel looks at each process whose number it tells, so it is asked for few.
const ROOM: usize = 4096;

/// Those at its top. Below it are those of processes, which are seen by their modes, and what the default spec masks by name.
pub fn root_only() -> Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, PROC, flags, Mode::empty()).map_err(failed("open", PROC))?;
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut entries = RawDir::new(&folder, &mut room);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(failed("getdents64", PROC))?;
        let name = entry.file_name().to_string_lossy();
        // The processes: behind all others (fs/proc/root.c, proc_root_readdir).
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            break;
        }
        if entry.file_type() == FileType::RegularFile && is_closed(folder.as_fd(), &name)? {
            found.push(format!("{PROC}/{name}"));
        }
    }
    found.sort();
    Ok(found)
}

/// One that is gone by now, as with its module, is none.
fn is_closed(folder: impl AsFd, name: &str) -> Result<bool> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(!Mode::from_raw_mode(found.st_mode).contains(Mode::ROTH)),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(failed("fstatat", &format!("{PROC}/{name}"))(e)),
    }
}

fn failed(call: &'static str, path: &str) -> impl FnOnce(Errno) -> Error {
    let what = format!("cannot see what of {path} only root may read");
    move |e| Error::new(what).call(call, e)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn they_are_all_that_the_whole_folder_has() {
        let mut all: Vec<String> = fs::read_dir(PROC)
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter(|entry| entry.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o004 == 0))
            .map(|entry| entry.path().display().to_string())
            .collect();
        all.sort();
        assert!(!all.is_empty(), "this kernel keeps nothing for root");
        assert_eq!(root_only().unwrap(), all);
    }
}
