//! `user` by the rootfs' own /etc/passwd and /etc/group. Pure but for the text of the two, which is the image's: what comes of
//! it is short, and no word of it is repeated but a home.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use sampan_config::schema::{NameOrId, User};

/// What a process can have, by the kernel (NGROUPS_MAX).
const GROUPS_MAX: usize = 65536;
/// What a path can have, by the kernel (PATH_MAX).
const HOME_BYTES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    pub uid: u32,
    pub gid: u32,
    /// The groups that list the user, unless a group was named.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Or which name is not there, and of which file.
pub fn resolve(user: &User, passwd: &str, group: &str) -> Result<Resolved, String> {
    let entry = entries(passwd, 7).find(|e| match &user.user {
        NameOrId::Name(name) => e[0] == name,
        NameOrId::Id(id) => e[2].parse() == Ok(*id),
    });
    let uid = match (&user.user, &entry) {
        (NameOrId::Id(id), _) => *id,
        (NameOrId::Name(_), Some(e)) => number(&user.user, e[2])?,
        (NameOrId::Name(name), None) => return Err(format!("no user {name} in /etc/passwd")),
    };
    let gid = match (&user.group, &entry) {
        (Some(named), _) => of_group(named, group)?,
        (None, Some(e)) => number(&user.user, e[3])?,
        (None, None) => 0,
    };
    let groups = match (&user.group, &entry) {
        (None, Some(e)) => groups_of(e[0], group, gid),
        (Some(_), _) | (None, None) => Vec::new(),
    };
    if groups.len() > GROUPS_MAX {
        return Err(format!("{} is in more groups than a process can have ({GROUPS_MAX})", user.user));
    }
    let home = entry.map(|e| e[5]).filter(|home| home.starts_with('/')).unwrap_or("/");
    if home.len() >= HOME_BYTES_MAX {
        return Err(format!("{}'s home is longer than a path can be ({HOME_BYTES_MAX} bytes)", user.user));
    }
    Ok(Resolved { uid, gid, groups, home: home.to_string() })
}

/// The numbers of groups; or which is not there.
pub fn groups(named: &[NameOrId], group: &str) -> Result<Vec<u32>, String> {
    named.iter().map(|named| of_group(named, group)).collect()
}

fn of_group(named: &NameOrId, group: &str) -> Result<u32, String> {
    match named {
        NameOrId::Id(id) => Ok(*id),
        NameOrId::Name(name) => match entries(group, 4).find(|e| e[0] == name) {
            Some(e) => number(named, e[2]),
            None => Err(format!("no group {name} in /etc/group")),
        },
    }
}

/// The groups that list `name`, each once and in the file's order, without `gid`.
fn groups_of(name: &str, group: &str, gid: u32) -> Vec<u32> {
    let lists = |e: &Vec<&str>| e[3].split(',').any(|member| member == name);
    let mut seen = BTreeSet::from([gid]);
    entries(group, 4)
        .filter(lists)
        .filter_map(|e| e[2].parse().ok())
        .filter(|gid| seen.insert(*gid))
        .collect()
}

fn number(asked: &NameOrId, text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|n| *n != u32::MAX)
        .ok_or_else(|| format!("{asked} has no number in /etc/passwd or /etc/group"))
}

/// Lines with at least `fields` parts; others are no entries.
fn entries(text: &str, fields: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(move |e| e.len() >= fields)
}
