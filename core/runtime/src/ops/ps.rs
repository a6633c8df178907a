//! `sampan ps ID`: the container's processes, by its cgroup: the lines of the host's `ps -ef`, or of `ps` with other
//! arguments, whose PID is one of them. Without a `ps` on this host, their pids alone.

use std::io;
use std::process::Command;

use super::{Error, Result, cgroup, doing, find, status};
use crate::store::dir::Root;
use crate::store::state::Status;

/// The pids of the container's processes.
pub fn run(root: &Root, id: &str) -> Result<Vec<i32>> {
    let (folder, state) = find(root, id)?;
    match status(&folder, &state)? {
        Status::Stopped => Ok(Vec::new()),
        _ => Ok(cgroup(&state)?.procs()?),
    }
}

/// The lines of `ps` that are theirs, below its header.
pub fn table(pids: &[i32], ps_args: &[String]) -> Result<Vec<String>> {
    let default = ["-ef".to_owned()];
    let args = if ps_args.is_empty() { &default } else { ps_args };
    let output = match Command::new("ps").args(args).output() {
        Err(e) if e.kind() == io::ErrorKind::NotFound && ps_args.is_empty() => {
            return Ok(["PID".to_owned()].into_iter().chain(pids.iter().map(i32::to_string)).collect());
        }
        output => output.map_err(doing("cannot run ps"))?,
    };
    if !output.status.success() {
        return Err(Error::new(format!("ps failed: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    filter(&String::from_utf8_lossy(&output.stdout), pids)
}

fn filter(table: &str, pids: &[i32]) -> Result<Vec<String>> {
    let header = table.lines().next().unwrap_or_default();
    let column = header.split_whitespace().position(|c| c == "PID");
    let column = column.ok_or_else(|| Error::new("ps printed no PID column; add -o pid or -f"))?;
    let pid = |line: &str| line.split_whitespace().nth(column)?.parse::<i32>().ok();
    let ours = table.lines().skip(1).filter(|line| pid(line).is_some_and(|pid| pids.contains(&pid)));
    Ok([header].into_iter().chain(ours).map(str::to_owned).collect())
}
