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
    one(pid, "uid_map", maps.uids, &uids, "newuidmap", maps.deny_setgroups)?;
    one(pid, "gid_map", maps.gids, &gids, "newgidmap", maps.deny_setgroups)
}

fn one(
    pid: i32,
    file: &str,
    maps: &[IdMapping],
    field: &str,
    helper: &str,
    unprivileged: bool,
) -> Result<()> {
    if maps.len() > LINES_MAX {
        return Err(
            Error::new(format!("holds {} mappings; the kernel takes {LINES_MAX}", maps.len())).field(field)
        );
    }
    if unprivileged && (maps.len() > 1 || maps.iter().any(|m| m.size > 1)) {
        return by_helper(pid, maps, field, helper);
    }
    let text: String =
        maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect();
    put(pid, file, &text, field)
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

fn by_helper(pid: i32, maps: &[IdMapping], field: &str, helper: &str) -> Result<()> {
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for m in maps {
        command.args([m.container_id.to_string(), m.host_id.to_string(), m.size.to_string()]);
    }
    let output = command.output().map_err(|e| {
        Error::new(format!("cannot run {helper}: {e}")).field(field).likely("install the package uidmap")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(format!("{helper}: {said}"))
        .field(field)
        .likely("/etc/subuid and /etc/subgid must grant you these ranges"))
}
