//! `sampan ns [ID|PID]...`: the namespaces of containers and processes, and who shares them.
//!
//! A namespace is known by its inode. For each target and kind: *host* (that of PID 1, or ours if we may not ask), *own* (nobody else's here), or
//! *shared with* these containers. Without arguments: all containers that run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use serde::Serialize;

use super::{Error, Result, doing, find};
use crate::error::{Errno, Kind};
use crate::kernel::pidfd;
use crate::store::dir::Root;

/// The names in /proc/PID/ns, as in lsns and nsenter.
pub const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The container's id, or the pid as it was given.
    pub target: String,
    pub pid: i32,
    pub namespaces: Vec<Namespace>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub inode: u64,
    /// It is that of PID 1.
    pub host: bool,
    /// Other targets and containers in it.
    pub shared_with: Vec<String>,
}

type Inodes = BTreeMap<&'static str, u64>;

pub fn look(root: &Root, targets: &[String]) -> Result<Vec<Target>> {
    let containers = running(root)?;
    let mut asked: Vec<(String, i32, Inodes)> = Vec::new();
    if targets.is_empty() {
        asked.clone_from(&containers);
    }
    for target in targets {
        match containers.iter().find(|(id, ..)| id == target) {
            Some(container) => asked.push(container.clone()),
            None => {
                let (pid, _) = process(root, target)?;
                asked.push((
                    target.clone(),
                    pid,
                    inodes(pid).map_err(doing(format!("{target}: cannot look at its namespaces")))?,
                ));
            }
        }
    }
    // HookOutputs a container PID 1 may not be ours to look at; then the host is where we are.
    let host = inodes(1).or_else(|_| inodes(std::process::id() as i32)).unwrap_or_default();
    let mut others = containers;
    for a in &asked {
        if !others.iter().any(|(name, pid, _)| *name == a.0 && *pid == a.1) {
            others.push(a.clone());
        }
    }
    Ok(asked.iter().map(|(name, pid, own)| target(name, *pid, own, &host, &others)).collect())
}

fn target(name: &str, pid: i32, own: &Inodes, host: &Inodes, others: &[(String, i32, Inodes)]) -> Target {
    let namespaces = own.iter().map(|(kind, inode)| Namespace {
        kind,
        inode: *inode,
        host: host.get(kind) == Some(inode),
        shared_with: others
            .iter()
            .filter(|(other, p, theirs)| (other != name || *p != pid) && theirs.get(kind) == Some(inode))
            .map(|(other, ..)| other.clone())
            .collect(),
    });
    Target { target: name.into(), pid, namespaces: namespaces.collect() }
}

fn running(root: &Root) -> Result<Vec<(String, i32, Inodes)>> {
    let mut found = Vec::new();
    let ids = match root.ids() {
        // Where no container was ever made there is none; processes have namespaces all the same.
        Err(e) if e.errno == Some(Errno::NOENT) => Vec::new(),
        ids => ids?,
    };
    for id in ids {
        let Ok((_, state)) = find(root, &id) else { continue };
        let (Ok(Some(_)), Some(init)) = (state.init(), state.init) else { continue };
        // It may end at any moment; then it is not running.
        if let Ok(inodes) = inodes(init.pid) {
            found.push((id, init.pid, inodes));
        }
    }
    Ok(found)
}

/// The process that an ID or PID names: its number, and the pidfd by which we know that it is that one. A container named like
/// a number comes first.
pub fn process(root: &Root, target: &str) -> Result<(i32, OwnedFd)> {
    match find(root, target) {
        Ok((_, state)) => {
            let alive = state.init().map_err(doing(format!("{target}: cannot find its process")))?;
            match (alive, state.init) {
                (Some(pidfd), Some(init)) => Ok((init.pid, pidfd)),
                _ => Err(super::state_error(target, "container not running")),
            }
        }
        Err(e) if matches!(e.kind, Kind::Missing | Kind::BadId) => match target.parse::<i32>() {
            Ok(pid) => match pidfd::open(pid) {
                Ok(Some(pidfd)) => Ok((pid, pidfd)),
                Ok(None) => {
                    Err(Error::new(format!("{target}: no such process, and no container of that name")))
                }
                Err(e) => Err(doing(format!("{target}: cannot look at the process"))(e)),
            },
            Err(_) => Err(e),
        },
        Err(e) => Err(e),
    }
}

/// Kind to inode, for what this kernel has.
pub fn inodes(pid: i32) -> io::Result<Inodes> {
    let mut found = Inodes::new();
    for kind in KINDS {
        match fs::metadata(format!("/proc/{pid}/ns/{kind}")) {
            Ok(meta) => {
                found.insert(kind, meta.ino());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && fs::exists(format!("/proc/{pid}/ns/mnt"))? => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}
