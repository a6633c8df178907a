//! `sampan ps ID`: the container's processes, by its cgroup: the lines of the host's `ps -ef`, or of `ps` with other
//! arguments, whose PID is one of them. Without a `ps` on this host, their pids alone.

use std::io;
use std::process::Command;

use super::{Error, Result, cgroup, doing, find, json_list, print, status};
use crate::store::dir::Root;
use crate::store::state::Status;

pub fn run(root: &Root, id: &str, as_json: bool, ps_args: &[String]) -> Result<()> {
    let (folder, state) = find(root, id)?;
    let pids = match status(&folder, &state)? {
        Status::Stopped => Vec::new(),
        _ => cgroup(&state)?.procs()?,
    };
    if as_json {
        return print(&json_list(&pids)?);
    }
    let default = ["-ef".to_owned()];
    let args = if ps_args.is_empty() { &default } else { ps_args };
    let output = match Command::new("ps").args(args).output() {
        Err(e) if e.kind() == io::ErrorKind::NotFound && ps_args.is_empty() => {
            return print(&pids.iter().fold("PID\n".to_owned(), |text, pid| text + &format!("{pid}\n")));
        }
        output => output.map_err(doing("cannot run ps"))?,
    };
    if !output.status.success() {
        return Err(Error::Asked(format!("ps failed: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    print(&filter(&String::from_utf8_lossy(&output.stdout), &pids)?)
}

/// The header, and the lines whose PID is the container's.
fn filter(table: &str, pids: &[i32]) -> Result<String> {
    let header = table.lines().next().unwrap_or_default();
    let column = header.split_whitespace().position(|c| c == "PID");
    let column = column.ok_or_else(|| Error::Asked("ps printed no PID column; add -o pid or -f".into()))?;
    let ours = |line: &&str| {
        line.split_whitespace()
            .nth(column)
            .and_then(|p| p.parse().ok())
            .is_some_and(|p: i32| pids.contains(&p))
    };
    let mut out = format!("{header}\n");
    for line in table.lines().skip(1).filter(ours) {
        out.push_str(line);
        out.push('\n');
    }
    Ok(out)
}
