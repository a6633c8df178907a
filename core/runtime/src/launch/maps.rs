//! Id maps of a new user namespace, written from the one above it.
//!
//! With privileges straight into /proc/PID, in one write each; without, one line with our own id is allowed there, and
//! anything more goes through newuidmap(1) and newgidmap(1), which check /etc/subuid and /etc/subgid.

use std::process::Command;

use sampan_plan::spec::IdMapping;

use crate::error::{Errno, Error, Result};

/// The kernel takes no more (user_namespaces(7)).
const LINES_MAX: usize = 340;

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct Maps<'m> {
    pub uids: &'m [IdMapping],
    pub gids: &'m [IdMapping],
    /// setgroups must be denied before an unprivileged gid map.
    pub deny_setgroups: bool,
    /// The part of the config whose `uidMappings` and `gidMappings` they are.
    pub field: &'m str,
}

pub fn write(pid: i32, maps: &Maps<'_>) -> Result<()> {
    let [uids, gids] = ["uidMappings", "gidMappings"].map(|name| format!("{}.{name}", maps.field));
    if maps.deny_setgroups {
        put(pid, "setgroups", "deny", &gids)?;
    }
    let both = [
        Map { file: "uid_map", helper: "newuidmap", lines: maps.uids, field: &uids },
        Map { file: "gid_map", helper: "newgidmap", lines: maps.gids, field: &gids },
    ];
    both.iter().try_for_each(|map| map.write(pid, maps.deny_setgroups))
}

/// One of the two.
struct Map<'m> {
    /// In /proc/PID.
    file: &'static str,
    /// The program that writes it for users without privileges.
    helper: &'static str,
    lines: &'m [IdMapping],
    field: &'m str,
}

impl Map<'_> {
    fn write(&self, pid: i32, unprivileged: bool) -> Result<()> {
        let n = self.lines.len();
        if n > LINES_MAX {
            let problem = format!("holds {n} mappings; the kernel takes {LINES_MAX}");
            return Err(Error::new(problem).field(self.field));
        }
        if unprivileged && (n > 1 || self.lines.iter().any(|line| line.size > 1)) {
            return self.by_helper(pid);
        }
        let line = |m: &IdMapping| format!("{} {} {}\n", m.container_id, m.host_id, m.size);
        put(pid, self.file, &self.lines.iter().map(line).collect::<String>(), self.field)
    }

    fn by_helper(&self, pid: i32) -> Result<()> {
        let Map { helper, field, .. } = self;
        let mut command = Command::new(helper);
        command.arg(pid.to_string());
        for m in self.lines {
            command.args([m.container_id.to_string(), m.host_id.to_string(), m.size.to_string()]);
        }
        let output = command.output().map_err(|e| {
            Error::new(format!("cannot run {helper}: {e}")).field(*field).likely("install the package uidmap")
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::new(format!("{helper}: {said}"))
            .field(*field)
            .likely("/etc/subuid and /etc/subgid must grant you these ranges"))
    }
}

fn put(pid: i32, file: &str, text: &str, field: &str) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/{file}"), text).map_err(|e| {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        let likely = match errno {
            Errno::PERM => {
                "without privileges only one line with your own id is allowed; newuidmap does more"
            }
            Errno::INVAL => "two mappings overlap, or a size is 0",
            _ => "",
        };
        Error::new(format!("cannot write {:?} to {file}", text.trim()))
            .field(field)
            .call("write", errno)
            .likely(likely)
    })
}
