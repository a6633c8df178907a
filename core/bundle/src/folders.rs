//! Folders of the host that a service's volumes are: made where they are missing, and never on the disk below a mount that is
//! not there yet.

use std::ffi::OsString;
use std::fs::remove_dir;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Gid, Mode, OFlags, RenameFlags, Uid, fchmod, fchown, mkdirat, openat, renameat_with};
use rustix::io::Errno;
use sampan_runtime::kernel::trust::make_folders;
use serde::{Deserialize, Serialize};

/// A folder to make if it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Make {
    pub path: PathBuf,
    /// None: of the image's folder that it is filled from, or else 0, 0, 0755.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<u32>,
    /// The folder of the service's image whose content it begins with, where the image has that one.
    pub from: Option<String>,
}

impl Make {
    pub fn owner(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid.unwrap_or(0)), Gid::from_raw(self.gid.unwrap_or(0)))
    }

    pub fn mode(&self) -> Mode {
        Mode::from_raw_mode(self.mode.unwrap_or(0o755))
    }

    /// An empty one; what is there is left as it is. The folder has its owner before it has its name: whoever is killed in between leaves none
    /// that is half made.
    pub fn make(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        let parent = self.path.parent().ok_or(Errno::EXIST)?;
        self.path.file_name().ok_or(Errno::EXIST)?;
        make_folders(parent, Mode::from_raw_mode(0o755))?;
        // Of this launch alone: others may be making the same folder. Its own name may be as long as a name can be.
        let new = loop {
            let new = parent.join(format!(".{}.new", unique()));
            match mkdirat(CWD, &new, Mode::from_raw_mode(0o700)) {
                // Of somebody who had our number and was killed.
                Err(Errno::EXIST) => {}
                made => break made.map(|()| new)?,
            }
        };
        match self.finish(&new) {
            Ok(()) => Ok(()),
            // Another service's launch was faster.
            Err(Errno::EXIST) => remove_dir(&new),
            // Each try has a name of its own: none may stay.
            Err(e) => remove_dir(&new).and(Err(e.into())),
        }
    }

    fn finish(&self, new: &Path) -> rustix::io::Result<()> {
        // By descriptor: the parent may be another user's, who puts a link in its place.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(CWD, new, flags, Mode::empty())?;
        let (uid, gid) = self.owner();
        fchown(&made, Some(uid), Some(gid))?;
        fchmod(&made, self.mode())?;
        renameat_with(CWD, new, CWD, &self.path, RenameFlags::NOREPLACE)
    }
}

/// Of no other process, and of no other call of this one.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The mount point above `path` that /etc/fstab names and where nothing is mounted yet: what is written below it would land on
/// the disk under it, and be hidden once it is mounted (systemd's RequiresMountsFor).
pub fn missing_mount(path: &Path) -> Option<PathBuf> {
    // As bytes: any user may have mounted something, with FUSE, whose name is no UTF-8.
    let table = std::fs::read("/etc/fstab").unwrap_or_default();
    let mounted = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    missing_in(path, &table, &mounted)
}

fn missing_in(path: &Path, table: &[u8], mounted: &[u8]) -> Option<PathBuf> {
    let points = lines(table).filter(|line| !line.starts_with(b"#")).filter_map(|line| field(line, 1));
    let above =
        points.filter(|point| point != Path::new("/") && point.is_absolute() && path.starts_with(point));
    let deepest = above.max_by_key(|point| point.components().count())?;
    let is_mounted = lines(mounted).filter_map(|line| field(line, 4)).any(|at| at == deepest);
    (!is_mounted).then_some(deepest)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

/// A path of a table of mounts, which write a space as `\040`.
fn field(line: &[u8], number: usize) -> Option<PathBuf> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let mut rest = fields.nth(number)?;
    let mut out = Vec::with_capacity(rest.len());
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
    Some(OsString::from_vec(out).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# comment /srv\nUUID=1 / ext4 defaults 0 1\n/dev/sdb /srv ext4 noauto 0 2\n\
        /dev/sdc /srv/a\\040b xfs defaults 0 2\n/dev/sdd none swap sw 0 0\n";
    const MOUNTED: &str = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:2 / /srv rw - ext4 /dev/sdb rw\n";

    #[track_caller]
    fn check(path: &str, mounted: &str, missing: Option<&str>) {
        assert_eq!(
            missing_in(Path::new(path), TABLE.as_bytes(), mounted.as_bytes()).as_deref(),
            missing.map(Path::new),
            "{path}"
        );
    }

    #[test]
    fn the_nearest_mount_point_of_fstab_must_be_mounted() {
        check("/srv/x", MOUNTED, None);
        check("/srv", MOUNTED, None);
        check("/srv/x", "", Some("/srv"));
        check("/srv/a b/c", MOUNTED, Some("/srv/a b"));
        check("/srvx", "", None);
        check("/home/x", "", None);
        let mut any = b"9 1 0:9 / /home/\xff rw - fuse x rw\n".to_vec();
        any.extend_from_slice(MOUNTED.as_bytes());
        assert_eq!(missing_in(Path::new("/srv/x"), TABLE.as_bytes(), &any), None);
    }

    fn ours(path: &Path) -> Make {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Make { path: path.to_owned(), uid: Some(uid), gid: Some(gid), mode: Some(0o750), from: None }
    }

    /// As on a network's file system that lets nobody give files away.
    #[test]
    fn what_cannot_be_finished_leaves_nothing() {
        let folder = sampan_testkit::Folder::new();
        let path = folder.path("data");
        let make = Make { path: path.clone(), uid: Some(7), gid: Some(7), mode: Some(0o750), from: None };
        std::thread::spawn(move || {
            let mut sets = rustix::thread::capabilities(None).unwrap();
            sets.effective.remove(rustix::thread::CapabilitySet::CHOWN);
            rustix::thread::set_capabilities(None, sets).unwrap();
            assert_eq!(make.make().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        })
        .join()
        .unwrap();
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
    }

    #[test]
    fn a_name_may_be_as_long_as_it_can_be_and_what_a_killed_one_left_is_in_nobodys_way() {
        let folder = sampan_testkit::Folder::new();
        let path = folder.path(&"x".repeat(255));
        let next = unique();
        let (pid, number) = next.split_once('.').unwrap();
        let number: u32 = number.parse().unwrap();
        (number..number + 20)
            .for_each(|n| std::fs::create_dir(folder.path(&format!(".{pid}.{n}.new"))).unwrap());
        ours(&path).make().unwrap();
        assert!(path.is_dir());
    }

    /// Services that start together with one volume.
    #[test]
    fn many_who_make_one_folder_make_it_whole() {
        let folder = sampan_testkit::Folder::new();
        for round in 0..50 {
            let path = folder.path(&format!("{round}/data"));
            let make = ours(&path);
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..4).map(|_| scope.spawn(|| make.make())).collect();
                all.into_iter().for_each(|one| one.join().unwrap().unwrap());
            });
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o7777, 0o750);
            assert_eq!(std::fs::read_dir(folder.path(&round.to_string())).unwrap().count(), 1);
        }
    }
}
