//! sampand's own lines in a file (`sampand -d`). The keel and each worker have that one file as their standard output, and none of them can
//! give another to the others: so what has become too long is copied to the file before it, and begins anew in its place.
use rustix::fs::{OFlags, fstat, ftruncate};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// In state_dir; what it was before, when it had become too long.
pub const LOG: &str = "sampand.log";
pub const OLD_LOG: &str = "sampand.log.1";
/// It begins anew where it is longer.
pub const BYTES_MAX: u64 = 8 * 1024 * 1024;
const NEW_OLD_LOG: &str = ".sampand.log.1.new";

/// After something was written to it. What to say of it: the lines before it are lost, if they cannot be kept.
pub fn keep_short(log: BorrowedFd<'_>, bytes_max: u64) -> Option<String> {
    let is_too_long = fstat(log).is_ok_and(|found| u64::try_from(found.st_size).is_ok_and(|n| n > bytes_max));
    if !is_too_long {
        return None;
    }
    let kept = match whose(log)? {
        Name::Ours(path) => copy(log, &path),
        Name::None => Ok(()),
    };
    let emptied = ftruncate(log, 0).map_err(io::Error::from);
    let error = kept.and(emptied).err()?;
    Some(format!("{LOG} became longer than {bytes_max} bytes, and what was in it is lost: {error}"))
}

enum Name {
    Ours(PathBuf),
    /// Removed: nobody reads it.
    None,
}

/// None: what has another name is somebody else's to keep short.
fn whose(log: BorrowedFd<'_>) -> Option<Name> {
    let path = fs::read_link(format!("/proc/self/fd/{}", log.as_raw_fd())).ok()?;
    match path.file_name()?.to_str()? {
        LOG => Some(Name::Ours(path)),
        name if name.ends_with(" (deleted)") => Some(Name::None),
        _ => None,
    }
}

fn copy(log: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let (new, old) = (path.with_file_name(NEW_OLD_LOG), path.with_file_name(OLD_LOG));
    // First: a full disk has room for this one then.
    for path in [&new, &old] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut from = File::open(format!("/proc/self/fd/{}", log.as_raw_fd()))?;
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut to = File::options().write(true).create_new(true).mode(0o600).custom_flags(flags).open(&new)?;
    let copied = io::copy(&mut from, &mut to).and_then(|_| fs::rename(&new, &old));
    if copied.is_err() {
        let _ = fs::remove_file(&new);
    }
    copied
}

/// Standard output, if it is that log.
pub fn keep_stdout_short() -> Option<String> {
    keep_short(io::stdout().as_fd(), BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_testkit::Folder;
    use std::io::Write;

    #[test]
    fn it_is_short_for_all_who_write_to_it_and_one_before_it_is_kept() {
        let kept = Folder::new();
        let path = kept.path(LOG);
        let open = || File::options().append(true).create(true).open(&path).unwrap();
        let (mut keel, mut worker) = (open(), open());
        let read = |name: &str| fs::read_to_string(kept.path(name)).unwrap();
        worker.write_all(b"0123456789").unwrap();
        assert_eq!(keep_short(worker.as_fd(), 10), None);
        assert_eq!((read(LOG), kept.path(OLD_LOG).exists()), ("0123456789".into(), false));
        for round in 0..3 {
            worker.write_all(format!("{round}worker----").as_bytes()).unwrap();
            assert_eq!(keep_short(worker.as_fd(), 10), None);
            keel.write_all(b"keel").unwrap();
            assert_eq!(read(LOG), "keel");
            let before = if round == 0 { "0123456789" } else { "keel" };
            assert_eq!(read(OLD_LOG), format!("{before}{round}worker----"));
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
        }
    }

    #[test]
    fn what_cannot_be_kept_is_told_and_what_has_another_name_stays() {
        let kept = Folder::new();
        let path = kept.path(LOG);
        let mut log = File::options().append(true).create(true).open(&path).unwrap();
        log.write_all(b"0123456789").unwrap();
        // No file can take its place.
        fs::create_dir(kept.path(OLD_LOG)).unwrap();
        let told = keep_short(log.as_fd(), 5).unwrap();
        assert!(told.contains("what was in it is lost: Is a directory"), "{told}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        log.write_all(b"0123456789").unwrap();
        fs::rename(&path, kept.path("mine")).unwrap();
        assert_eq!(keep_short(log.as_fd(), 5), None);
        assert_eq!(fs::metadata(kept.path("mine")).unwrap().len(), 10);
        fs::remove_file(kept.path("mine")).unwrap();
        assert_eq!(keep_short(log.as_fd(), 5), None);
        assert_eq!(fstat(&log).unwrap().st_size, 0);
    }
}
