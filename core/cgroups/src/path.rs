//! `linux.cgroupsPath` -> where the groups go. Two readings of the same text: for the cgroupfs driver a path
//! (absolute = below each mount, relative = below our own group), for the systemd driver `slice:prefix:name`.
//! Pure text; which group is our own is asked in `detect`.

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

/// `cgroupsPath` as the systemd driver reads it: which scope or slice, and in which slice it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub slice: String,
    /// `prefix-name.scope`, or a slice when the name ends in `.slice`.
    pub name: String,
}

impl Unit {
    /// `slice:prefix:name`; an empty path is `:sampan:ID`. Rootless containers default to user.slice.
    pub fn parse(cgroups_path: Option<&str>, id: &str, rootless: bool) -> Result<Unit> {
        let default_slice = if rootless { "user.slice" } else { "system.slice" };
        let text = cgroups_path.unwrap_or_default();
        let refuse =
            |problem: String| Err(Error::new(Doing::Place, text).field("linux.cgroupsPath").problem(problem));
        if text.is_empty() {
            return Ok(Unit { slice: default_slice.to_owned(), name: format!("sampan-{id}.scope") });
        }
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return refuse("the systemd driver wants slice:prefix:name".to_owned());
        };
        if name.is_empty() || name.contains('/') || prefix.contains('/') {
            return refuse("the last part must be a name without \"/\"".to_owned());
        }
        let slice = if slice.is_empty() { default_slice } else { slice };
        if let Err(problem) = slice_folder(slice) {
            return refuse(problem);
        }
        let name = match (name.ends_with(".slice"), prefix) {
            (true, _) => name.to_owned(),
            (false, "") => format!("{name}.scope"),
            (false, prefix) => format!("{prefix}-{name}.scope"),
        };
        Ok(Unit { slice: slice.to_owned(), name })
    }

    /// Where systemd puts it, below the hierarchy's root (and below the user manager's group when rootless).
    pub fn folder(&self) -> String {
        // `parse` has checked the slice.
        let slice = slice_folder(&self.slice).unwrap_or_default();
        if slice.is_empty() { self.name.clone() } else { format!("{slice}/{}", self.name) }
    }
}

/// `a-b.slice` lives in `a.slice/a-b.slice` (systemd.slice(5)); `-.slice` is the root.
pub fn slice_folder(slice: &str) -> std::result::Result<String, String> {
    let Some(stem) = slice.strip_suffix(".slice") else {
        return Err(format!("{slice:?} is not the name of a slice: it must end in \".slice\""));
    };
    if stem == "-" {
        return Ok(String::new());
    }
    if stem.contains('/') || stem.split('-').any(str::is_empty) {
        return Err(format!("{slice:?} is not a valid slice: its parts are names joined by single dashes"));
    }
    let mut folder = String::new();
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        if !folder.is_empty() {
            folder.push('/');
        }
        folder.push_str(&stem[..at]);
        folder.push_str(".slice");
    }
    Ok(folder)
}
