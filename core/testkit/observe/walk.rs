//! What somebody can reach: walks folders and prints one line for each thing that the kernel lets him open.
//!
//! `walk FOLDER...`: `d` a folder that he can list, `r` a file (or FIFO) that he can open for reading, `w` a FIFO that he can
//! open for writing, `s` a socket that he can connect to.  Files are opened, never read: reading has effects in sysfs.
//! Links are not followed, devices not opened, processes in /proc not looked into.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const O_NONBLOCK: i32 = 0o4000;
const O_NOFOLLOW: i32 = if cfg!(target_arch = "aarch64") { 0o100000 } else { 0o400000 };
const ENXIO: i32 = 6;

/// A read of `hot_add` makes a device, and each group shows the container itself.
const SKIPPED: [&str; 2] = ["/sys/class/zram-control", "/sys/fs/cgroup"];

fn main() {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut next: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    while let Some(folder) = next.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        say(&mut out, 'd', &folder);
        for path in entries.flatten().map(|entry| entry.path()) {
            look(&mut out, &path, &mut next);
        }
    }
    out.flush().expect("the output is written");
}

fn look(out: &mut impl Write, path: &Path, next: &mut Vec<PathBuf>) {
    let Ok(kind) = fs::symlink_metadata(path).map(|m| m.file_type()) else { return };
    let open = |write: bool| {
        let mut options = OpenOptions::new();
        options.read(!write).write(write).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(path)
    };
    if kind.is_dir() {
        let process = path.parent() == Some(Path::new("/proc"))
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(|c: char| c.is_ascii_digit()));
        if !process && !SKIPPED.iter().any(|skipped| path == Path::new(skipped)) {
            next.push(path.to_owned());
        }
    } else if kind.is_socket() && UnixStream::connect(path).is_ok() {
        say(out, 's', path);
    } else if kind.is_fifo() {
        if open(false).is_ok() {
            say(out, 'r', path);
        }
        // Without a reader that is ENXIO, once the rights were found good.
        if open(true).err().is_none_or(|e| e.raw_os_error() == Some(ENXIO)) {
            say(out, 'w', path);
        }
    } else if kind.is_file() && open(false).is_ok() {
        say(out, 'r', path);
    }
}

fn say(out: &mut impl Write, what: char, path: &Path) {
    writeln!(out, "{what} {}", path.display()).expect("the output is written");
}
