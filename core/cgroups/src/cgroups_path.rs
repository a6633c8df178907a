//! `linux.cgroupsPath` as the cgroupfs driver reads it: an absolute path starts at each hierarchy's mount, a relative one
//! at our own group. Text alone: `detect` finds out which group is our own.

use crate::error::{Doing, Error, Result};

/// Without a leading slash, empty components, `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupsPath {
    /// Below the mount of every hierarchy.
    Absolute(String),
    /// Next to our own group where v2 is the only version, since a v2 group that has processes of its own cannot enable
    /// controllers for groups below it. Else below our own group. runc does the same.
    Relative(String),
}

impl CgroupsPath {
    /// Without a path the groups are `/ID`, as with crun, so that /proc/self/cgroup need not be read.
    pub fn parse(cgroups_path: Option<&str>, id: &str) -> Result<CgroupsPath> {
        let text = match cgroups_path {
            Some(path) if !path.is_empty() => path,
            _ => return Ok(CgroupsPath::Absolute(clean(id)?)),
        };
        let cleaned = clean(text)?;
        if cleaned.is_empty() {
            let e = Error::new(Doing::Path, text).field("linux.cgroupsPath");
            return Err(e.problem("it names the root of the hierarchies, which cannot hold a container"));
        }
        Ok(if text.starts_with('/') {
            CgroupsPath::Absolute(cleaned)
        } else {
            CgroupsPath::Relative(cleaned)
        })
    }
}

/// Drops empty and `.` components. Refuses `..`: in a config it is a mistake or an attack.
pub(crate) fn clean(path: &str) -> Result<String> {
    let refuse = |problem: &str| {
        Err(Error::new(Doing::Path, path).field("linux.cgroupsPath").problem(problem.to_owned()))
    };
    let mut cleaned = String::with_capacity(path.len());
    for part in path.split('/') {
        match part {
            "" | "." => continue,
            ".." => return refuse("it must not contain \"..\""),
            _ if part.len() > 255 => return refuse("a component is longer than 255 bytes"),
            _ if part.contains(['\n', '\0']) => return refuse("it contains a line break or a NUL"),
            _ => {}
        }
        if !cleaned.is_empty() {
            cleaned.push('/');
        }
        cleaned.push_str(part);
    }
    Ok(cleaned)
}
