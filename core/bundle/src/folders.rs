//! Folders of the host that a service's volumes are: made where they are missing, and never on the disk below a mount that is
//! not there yet.

use std::fs::{read_to_string, remove_dir};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::fs::{CWD, Gid, Mode, RenameFlags, Uid, chmodat, chownat, mkdirat, renameat_with};
use rustix::io::Errno;
use sampan_runtime::kernel::trust::make_folders;
use serde::{Deserialize, Serialize};

/// A folder to make if it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Make {
    pub path: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Make {
    /// What is there is left as it is. The folder has its owner before it has its name: whoever is killed in between leaves none
    /// that is half made.
    pub fn make(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        let parent = self.path.parent().ok_or(Errno::EXIST)?;
        let name = self.path.file_name().ok_or(Errno::EXIST)?;
        make_folders(parent, Mode::from_raw_mode(0o755))?;
        let new = parent.join(format!(".{}.new", name.to_string_lossy()));
        match mkdirat(CWD, &new, Mode::from_raw_mode(0o700)) {
            // Of somebody who was killed: empty, or not ours.
            Err(Errno::EXIST) => {
                remove_dir(&new)?;
                mkdirat(CWD, &new, Mode::from_raw_mode(0o700))?;
            }
            other => other?,
        }
        chownat(
            CWD,
            &new,
            Some(Uid::from_raw(self.uid)),
            Some(Gid::from_raw(self.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        chmodat(CWD, &new, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        match renameat_with(CWD, &new, CWD, &self.path, RenameFlags::NOREPLACE) {
            // Another service's launch was faster.
            Err(Errno::EXIST) => remove_dir(&new),
            other => Ok(other?),
        }
    }
}

/// The mount point above `path` that /etc/fstab names and where nothing is mounted yet: what is written below it would land on
/// the disk under it, and be hidden once it is mounted (systemd's RequiresMountsFor).
pub fn missing_mount(path: &Path) -> Option<PathBuf> {
    let table = read_to_string("/etc/fstab").unwrap_or_default();
    let mounted = read_to_string("/proc/self/mountinfo").unwrap_or_default();
    missing_in(path, &table, &mounted)
}

fn missing_in(path: &Path, table: &str, mounted: &str) -> Option<PathBuf> {
    let lines = table.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let points = lines.filter_map(|line| line.split_whitespace().nth(1)).map(unescaped);
    let above =
        points.filter(|point| point != Path::new("/") && point.is_absolute() && path.starts_with(point));
    let deepest = above.max_by_key(|point| point.components().count())?;
    let is_mounted =
        mounted.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| unescaped(at) == deepest);
    (!is_mounted).then_some(deepest)
}

/// Both tables write a space as `\040`.
fn unescaped(text: &str) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, octal.and_then(|digits| u8::from_str_radix(digits, 8).ok())) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &after[3..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# comment /srv\nUUID=1 / ext4 defaults 0 1\n/dev/sdb /srv ext4 noauto 0 2\n\
        /dev/sdc /srv/a\\040b xfs defaults 0 2\n/dev/sdd none swap sw 0 0\n";
    const MOUNTED: &str = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:2 / /srv rw - ext4 /dev/sdb rw\n";

    #[track_caller]
    fn check(path: &str, mounted: &str, missing: Option<&str>) {
        assert_eq!(missing_in(Path::new(path), TABLE, mounted).as_deref(), missing.map(Path::new), "{path}");
    }

    #[test]
    fn the_nearest_mount_point_of_fstab_must_be_mounted() {
        check("/srv/x", MOUNTED, None);
        check("/srv", MOUNTED, None);
        check("/srv/x", "", Some("/srv"));
        check("/srv/a b/c", MOUNTED, Some("/srv/a b"));
        check("/srvx", "", None);
        check("/home/x", "", None);
    }
}
