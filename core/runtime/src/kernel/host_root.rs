//! What of the host's own root a container on it is shown: the facts behind sampan_plan::host_root.
//!
//! It is known by device and inode, so that `/etc/..`, a link to `/` and /proc/self/root are what they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sampan_plan::host::{HostRoot, Resolver};
use sampan_plan::host_root::is_at_or_below;

use crate::error::{Errno, Error, Result};
use crate::kernel::procfs;

/// Folders of the host's `/` that are shown, where it has them: what is installed, and how it is set up. Those that are links
/// to one another stay links.
const FOLDERS: [&str; 9] = ["bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr"];
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// systemd-resolved(8): the file with its own address, and the one with the servers that it asks.
const STUB: &str = "/run/systemd/resolve/stub-resolv.conf";
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// Is this the root of the host, as we see it? One that is not there is not.
pub fn is_host_root(path: &Path) -> bool {
    let of = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    of(path).is_some_and(|found| of(Path::new("/")) == Some(found))
}

/// The facts, for a container whose root is the host's.
pub fn facts() -> Result<HostRoot> {
    let mut found = HostRoot { resolver: resolver(), ..HostRoot::default() };
    for entry in fs::read_dir("/").map_err(|e| failed("/", &e))? {
        let entry = entry.map_err(|e| failed("/", &e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_shown(&name) {
            continue;
        }
        match fs::read_link(entry.path()) {
            Ok(to) => found.links.push((name, to.display().to_string())),
            Err(_) => found.folders.push(format!("/{name}")),
        }
    }
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|e| failed("/proc/self/mountinfo", &e))?;
    let is_below = |path: &String| found.folders.iter().any(|folder| is_at_or_below(path, folder));
    let below: Vec<String> = mounts.lines().filter_map(mount_point).filter(is_below).collect();
    found.folders.extend(below.into_iter().filter(|path| others_reach(Path::new(path))));
    found.closed = procfs::root_only()?;
    // The outer before the inner; of mounts on one place the uppermost is seen.
    found.folders.sort();
    found.folders.dedup();
    found.links.sort();
    Ok(found)
}

fn failed(path: &str, e: &std::io::Error) -> Error {
    let errno = Errno::from_io_error(e).unwrap_or(Errno::IO);
    Error::new(format!("cannot read {path}")).field("root.path").call("open", errno)
}

fn is_shown(name: &str) -> bool {
    FOLDERS.contains(&name)
}

/// Field 5 of a line of mountinfo (proc(5)), with its octal escapes undone.
fn mount_point(line: &str) -> Option<String> {
    let field = line.split(' ').nth(4)?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.filter(|_| *first == b'\\').and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Whether somebody without rights finds it: who is inside does not either, so what he cannot reach needs no mount.
fn others_reach(path: &Path) -> bool {
    let searchable = |folder: &Path| {
        fs::symlink_metadata(folder).is_ok_and(|m| m.is_dir() && m.permissions().mode() & 0o001 != 0)
    };
    fs::symlink_metadata(path).is_ok() && path.ancestors().skip(1).all(searchable)
}

fn resolver() -> Option<Resolver> {
    let link = fs::read_link(RESOLV_CONF).ok()?;
    let link = PathBuf::from(sampan_plan::path::clean(Path::new("/etc").join(link).to_str()?));
    let file = fs::canonicalize(RESOLV_CONF).ok()?;
    let first = link.components().nth(1)?.as_os_str().to_str()?.to_owned();
    if is_shown(&first) {
        return None;
    }
    let upstream = (file == Path::new(STUB) && Path::new(UPSTREAM).is_file()).then(|| UPSTREAM.to_owned());
    Some(Resolver { link: link.to_str()?.to_owned(), file: file.to_str()?.to_owned(), upstream })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_known_by_whatever_name() {
        for path in ["/", "/etc/..", "/proc/self/root", "/proc/self/root/usr/.."] {
            assert!(is_host_root(Path::new(path)), "{path}");
        }
        for path in ["/etc", "/no/such/folder", "/dev"] {
            assert!(!is_host_root(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_mount_point_is_read_as_proc_writes_it() {
        let line = r"36 35 98:0 / /usr/a\040b\134c rw,noatime master:1 - ext4 /dev/root rw";
        assert_eq!(mount_point(line).as_deref(), Some(r"/usr/a b\c"));
        assert_eq!(mount_point("36 35"), None);
    }
}
