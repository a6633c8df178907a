//! The words between the child and us: its reports, the bytes that open its gates, and what only we may write for it.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use sampan_child::report::{self, Report};

use crate::error::{Errno, Error, Result};

pub(super) fn open_gate(gate: &OwnedFd) -> Result<()> {
    loop {
        match rustix::io::write(gate, b"g") {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            // Its report says why it is gone.
            Err(Errno::PIPE) => return Ok(()),
            Err(e) => return Err(Error::new("cannot tell the container's process to go on").call("write", e)),
        }
    }
}

/// A report, and what the kernel says of the failure that it tells of.
#[derive(Debug)]
pub struct Told {
    pub report: Report,
    /// Line by line; mostly nothing.
    pub kernel: String,
}

/// More is nothing that the kernel has to say.
const SAID_MAX: usize = 4096;

/// None: the last writer is gone.
pub(super) fn next_report(from: &OwnedFd) -> Result<Option<Told>> {
    let mut said = Vec::new();
    while let Some(report) = one_report(from)? {
        match report {
            Report::Said { text } if said.len() < SAID_MAX => {
                said.extend(text.iter().take_while(|byte| **byte != 0));
            }
            Report::Said { .. } => {}
            report => return Ok(Some(Told { report, kernel: String::from_utf8_lossy(&said).into_owned() })),
        }
    }
    Ok(None)
}

fn one_report(from: &OwnedFd) -> Result<Option<Report>> {
    let mut bytes = [0u8; report::SIZE];
    let mut have = 0;
    while have < bytes.len() {
        let rest = bytes.get_mut(have..).unwrap_or_default();
        match rustix::io::read(from, rest) {
            Ok(0) => return Ok(None),
            Ok(n) => have += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_readable(from)?,
            Err(e) => return Err(Error::new("cannot read the container's report").call("read", e)),
        }
    }
    let decoded =
        Report::decode(bytes).ok_or_else(|| Error::new("the container's report cannot be understood"))?;
    Ok(Some(decoded))
}

pub(super) fn wait_readable(fd: &OwnedFd) -> Result<()> {
    loop {
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::new("cannot wait for the container's report").call("poll", e)),
        }
    }
}

pub(super) fn set_oom_score_adj(pid: i32, score: i32) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()).map_err(|e| {
        failed_io(&format!("cannot set oom_score_adj to {score}"), "write", &e)
            .field("process.oomScoreAdj")
            .likely("lowering it below our own needs CAP_SYS_RESOURCE")
    })
}

pub(super) fn failed_io(doing: &str, call: &'static str, e: &std::io::Error) -> Error {
    Error::new(doing).call(call, Errno::from_io_error(e).unwrap_or(Errno::IO))
}
