//! Whom an image runs as: the ids of `User`, by the image's own /etc/passwd and /etc/group.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::view::View;
use crate::error::{Error, Result};

/// Of /etc/passwd and /etc/group each.
const BYTES_MAX: u64 = 4 << 20;
const GROUPS_MAX: usize = 65_536;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    /// The further groups of a user.
    pub groups: Vec<u32>,
}

impl View {
    /// `user[:group]`, each a name or a number, as docker understands it: without a group it is the user's own, with his further
    /// ones. Empty is root.
    pub fn user(&self, text: &str) -> Result<Ids> {
        let wrong = |why: String| Error::bad(format!("cannot run as the image's user {text:?}"), why);
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let passwd = self.lines("/etc/passwd")?;
        let number = user.parse::<u32>().ok();
        let line =
            passwd.iter().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| match number {
                Some(uid) => fields.get(2).is_some_and(|field| field.parse() == Ok(uid)),
                None => fields.first() == Some(&user),
            });
        let id = |at: usize| line.as_ref().and_then(|fields| fields.get(at)?.parse::<u32>().ok());
        let uid = number.or(id(2)).ok_or_else(|| wrong(format!("no user {user} in its /etc/passwd")))?;
        let groups = self.lines("/etc/group")?;
        if let Some(group) = group.filter(|group| !group.is_empty()) {
            let found = groups.iter().map(|line| line.split(':').collect::<Vec<_>>());
            let named = || {
                found
                    .clone()
                    .find(|fields| fields.first() == Some(&group))
                    .and_then(|f| f.get(2)?.parse().ok())
            };
            let gid = group.parse().ok().or_else(named);
            let gid = gid.ok_or_else(|| wrong(format!("no group {group} in its /etc/group")))?;
            return Ok(Ids { uid, gid, groups: Vec::new() });
        }
        let name = line.as_ref().and_then(|fields| fields.first().copied()).unwrap_or_default();
        let is_member =
            |fields: &Vec<&str>| fields.get(3).is_some_and(|all| all.split(',').any(|one| one == name));
        let further = groups.iter().map(|line| line.split(':').collect::<Vec<_>>()).filter(is_member);
        let further = further.filter_map(|fields| fields.get(2)?.parse().ok()).take(GROUPS_MAX);
        Ok(Ids {
            uid,
            gid: id(3).unwrap_or(0),
            groups: if name.is_empty() { Vec::new() } else { further.collect() },
        })
    }

    fn lines(&self, path: &str) -> Result<Vec<String>> {
        let text = self.read(Path::new(path), BYTES_MAX)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }
}
