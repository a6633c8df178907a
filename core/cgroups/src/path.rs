//! `linux.cgroupsPath` -> where the groups go, as the cgroupfs driver reads it: an absolute path starts at each
//! hierarchy's mount, a relative one at our own group. Pure text; which group is our own is asked in `detect`.

use crate::error::{Doing, Error, Result};

/// A cleaned `cgroupsPath` as the cgroupfs driver reads it, without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Below the mount of every hierarchy.
    Absolute(String),
    /// Below our own group: v1 directly below it; v2 beside it, since a v2 group that holds processes cannot hand
    /// controllers to its children (runc does the same).
    Relative(String),
}

impl Place {
    /// Without a path a container goes to `/ID`, as with crun: that needs no look at /proc/self/cgroup.
    pub fn parse(cgroups_path: Option<&str>, id: &str) -> Result<Place> {
        let text = match cgroups_path {
            Some(path) if !path.is_empty() => path,
            _ => return Ok(Place::Absolute(clean(id)?)),
        };
        let cleaned = clean(text)?;
        if cleaned.is_empty() {
            let e = Error::new(Doing::Place, text).field("linux.cgroupsPath");
            return Err(e.problem("it names the root of the hierarchies, which cannot hold a container"));
        }
        Ok(if text.starts_with('/') { Place::Absolute(cleaned) } else { Place::Relative(cleaned) })
    }
}

/// Drops empty and `.` components; refuses `..`, which in a config is a mistake or an attempt.
pub(crate) fn clean(path: &str) -> Result<String> {
    let refuse = |problem: &str| {
        Err(Error::new(Doing::Place, path).field("linux.cgroupsPath").problem(problem.to_owned()))
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
