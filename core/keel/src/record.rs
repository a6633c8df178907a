//! The run folder's record of who holds the descriptors: one line of text for each of at most two holders, the present one
//! and, while a new sampand takes over, the one before it. Each holder writes its own line, in its own place, first of all:
//! so there is none that nobody could find. Found means: pid, start time and the pidfd's inode agree; never a name.
//!
//! The holder writes it, not whoever clones it: a keel that dies in between would leave a holder that nobody can find. Until the
//! line is there the lock of the run folder says that somebody holds it. The worker takes over, not the keel: which run folder it is
//! stands in the config.

use rustix::fd::BorrowedFd;
use sampan_runtime::kernel::pidfd::{self, Identity};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// In the run folder.
pub const NAME: &str = "holder";
/// The boot that the rest is about stands first, on a line of this length.
const BOOT: usize = 64;
/// A holder's line.
const LINE: usize = 192;

/// A holder and its keel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The higher one is the later one.
    pub number: i32,
    pub holder: Identity,
    pub keel: Identity,
    /// The descriptor of the table's memory.
    pub table: i32,
}

/// A holder that lives.
#[derive(Debug)]
pub struct Living {
    pub entry: Entry,
    pub place: i32,
    pub pidfd: OwnedFd,
}

impl Entry {
    fn text(&self) -> String {
        let who = |id: &Identity| format!("{} {} {}", id.pid, id.start, id.inode.unwrap_or(0));
        format!("{} {} {} {}", self.number, who(&self.holder), who(&self.keel), self.table)
    }

    fn parse(line: &str) -> Option<Entry> {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let number = i32::try_from(next()?).ok()?;
        let mut who = || {
            let (pid, start, inode) = (i32::try_from(next()?).ok()?, next()?, next()?);
            Some(Identity { pid, start, inode: (inode != 0).then_some(inode) })
        };
        let (holder, keel) = (who()?, who()?);
        Some(Entry { number, holder, keel, table: i32::try_from(next()?).ok()? })
    }

    /// By the holder itself.
    pub fn write(&self, record: BorrowedFd<'_>, place: i32) -> io::Result<()> {
        let line = format!("{:<1$}\n", self.text(), LINE - 1);
        let at = BOOT + LINE * usize::from(place > 0);
        // Within one page, over what is there: a file system has it all or nothing of it, and needs no room for it.
        match rustix::io::pwrite(record, line.as_bytes(), at as u64)? {
            all if all == line.len() => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::WriteZero)),
        }
    }
}

/// Those that live, the latest first.
pub fn living(run_dir: &Path, boot: &str) -> Vec<Living> {
    let text = std::fs::read_to_string(run_dir.join(NAME)).unwrap_or_default();
    if text.get(..BOOT).is_none_or(|line| line.trim_end() != boot) {
        return Vec::new();
    }
    let line = |place: usize| text.get(BOOT + LINE * place..BOOT + LINE * (place + 1));
    let find = |place: i32| {
        let entry = Entry::parse(line(usize::from(place > 0))?)?;
        let pidfd = running(&entry.holder)?;
        Some(Living { entry, place, pidfd })
    };
    let mut found: Vec<Living> = (0..2).filter_map(find).collect();
    found.sort_by_key(|living| -living.entry.number);
    found
}

/// A pidfd for exactly this process, if it runs.
pub fn running(identity: &Identity) -> Option<OwnedFd> {
    use std::os::fd::AsFd;
    let pidfd = pidfd::find(identity).ok()??;
    (!pidfd::ended(pidfd.as_fd()).ok()?).then_some(pidfd)
}

/// The file, for a holder to write to: the one that is there if it is of this boot.
pub fn open(run_dir: &Path, boot: &str) -> io::Result<OwnedFd> {
    use std::os::unix::fs::FileExt;
    let mut options = std::fs::File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(run_dir.join(NAME))?;
    let mut line = [0; BOOT];
    let head = format!("{boot:<0$}\n", BOOT - 1);
    if file.read_at(&mut line, 0).ok() != Some(BOOT) || line != *head.as_bytes() {
        let empty = format!("{0:<1$}\n", "", LINE - 1);
        file.set_len(0)?;
        file.write_all_at(format!("{head}{empty}{empty}").as_bytes(), 0)?;
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_testkit::Folder;
    use std::os::fd::AsFd;

    fn entry(number: i32) -> Entry {
        let pid = std::process::id() as i32;
        let own = pidfd::identify(pid, pidfd::open(pid).unwrap().unwrap().as_fd()).unwrap();
        Entry { number, holder: own, keel: Identity { pid: 1, start: 2, inode: None }, table: 1030 }
    }

    #[test]
    fn the_latest_that_lives_comes_first_and_the_dead_and_other_boots_not_at_all() {
        let folder = Folder::new();
        let run = &folder.path("");
        assert!(living(run, "boot").is_empty());
        let record = open(run, "boot").unwrap();
        assert!(living(run, "boot").is_empty());
        entry(7).write(record.as_fd(), 0).unwrap();
        entry(8).write(record.as_fd(), 1).unwrap();
        let found: Vec<_> = living(run, "boot").iter().map(|l| (l.entry, l.place)).collect();
        assert_eq!(found, [(entry(8), 1), (entry(7), 0)]);
        // Opened again it keeps what it says.
        open(run, "boot").unwrap();
        assert_eq!(living(run, "boot").len(), 2);
        let other = Entry { holder: Identity { start: 1, inode: Some(1), ..entry(9).holder }, ..entry(9) };
        other.write(record.as_fd(), 0).unwrap();
        assert_eq!(living(run, "boot").len(), 1, "the same number, another process");
        assert!(living(run, "another").is_empty());
        open(run, "another").unwrap();
        assert!(living(run, "another").is_empty());
    }
}
