//! Has a child come as far as executing its program? For a worker that finds it: nobody may have told the child to go on (then it
//! ends by itself, with a code that is not its program's), or it is just on its way.
//!
//! Until then its name and its program are the keel's. A program may give itself any name, so a name like the keel's says nothing
//! where the program is seen to be another.

use crate::client::Handle;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::time::Timespec;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// The keel's name in /proc/PID/comm, which a child has too until it executes its program.
pub const COMM: &core::ffi::CStr = c"sampand-keel";

/// Looks at children, all together for no longer than a limit.
#[derive(Debug)]
pub struct Executed {
    until: Instant,
    /// The keel's own program.
    program: Option<(u64, u64)>,
}

impl Executed {
    /// For this worker's keel.
    pub fn within(limit: Duration) -> Executed {
        let keel = rustix::process::getppid().map_or(0, |keel| keel.as_raw_nonzero().get());
        Executed { until: Instant::now() + limit, program: program_of(keel) }
    }

    /// Waits until that is clear, as long as there is time for any; a child that has ended but is not reaped answers too.
    pub fn by(&self, pid: i32, pidfd: BorrowedFd<'_>, handle: Option<&Handle>) -> bool {
        loop {
            let ended = PollFd::new(&pidfd, PollFlags::IN);
            let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            // First the end, then the name: in this order a program that executes and ends at once is seen.
            let ended = Instant::now() >= self.until || poll(&mut [ended], Some(&pause)) != Ok(0);
            let executed = has_its_own_name(pid) || self.has_its_own_program(pid, handle);
            if executed || ended {
                return executed;
            }
        }
    }

    /// The program of a keel before this one, whose child an orphan is, is not known any more.
    fn has_its_own_program(&self, pid: i32, handle: Option<&Handle>) -> bool {
        let (Some(keels), Some(Handle::Own(_))) = (self.program, handle) else { return false };
        program_of(pid).is_some_and(|own| own != keels)
    }
}

fn has_its_own_name(pid: i32) -> bool {
    let comm = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    !comm.is_empty() && comm.strip_suffix(b"\n") != Some(COMM.to_bytes())
}

/// None: we may not see it, or the process has ended.
fn program_of(pid: i32) -> Option<(u64, u64)> {
    let program = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((program.dev(), program.ino()))
}
