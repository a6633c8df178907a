//! Devices of the host: one, or all below a folder.

use std::path::Path;

use rustix::fs::{FileType, Stat, major, minor, stat};
use sampan_config::plain;

use super::look::Node;

/// Folders of /dev that are mounts of their own or sockets, as docker leaves them out.
const NOT_DEVICES: [&str; 4] = ["/dev/fd", "/dev/mqueue", "/dev/pts", "/dev/shm"];
/// Every container has its own of these.
const OWN: [&str; 8] = [
    "/dev/console",
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];
/// /dev of a large host has a few thousand.
const NODES_MAX: usize = 16 << 10;
const DEPTH_MAX: usize = 8;

/// The device at `path`, or those in the folder there; links are followed to the named one, and not below it.
pub fn nodes(path: &Path) -> Result<Vec<Node>, String> {
    let stat = stat(path).map_err(|error| plain(&error.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let mut found = Vec::new();
            collect(path, 0, &mut found)?;
            found.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(found)
        }
        _ => match node(path, &stat) {
            Some(node) => Ok(vec![node]),
            None => Err("it is neither a device nor a folder of devices".into()),
        },
    }
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<Node>) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {}", folder.display(), plain(&error));
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let is = |names: &[&str]| names.iter().any(|name| path == Path::new(name));
        // What goes away while we look is not there.
        let Ok(stat) = rustix::fs::lstat(&path) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth < DEPTH_MAX && !is(&NOT_DEVICES) => {
                collect(&path, depth + 1, found)?
            }
            _ if is(&OWN) => {}
            _ => found.extend(node(&path, &stat)),
        }
        if found.len() > NODES_MAX {
            return Err(format!("more than {NODES_MAX} devices"));
        }
    }
    Ok(())
}

fn node(path: &Path, stat: &Stat) -> Option<Node> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        _ => return None,
    };
    Some(Node {
        path: path.to_path_buf(),
        kind,
        major: major(stat.st_rdev),
        minor: minor(stat.st_rdev),
        mode: stat.st_mode & 0o777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    })
}
