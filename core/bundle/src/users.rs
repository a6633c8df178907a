//! `user` by the rootfs' own /etc/passwd and /etc/group. Pure but for the text of the two.

use sampan_config::schema::{NameOrId, User};

#[derive(Debug, Clone, PartialEq, Eq)]
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
        (NameOrId::Name(name), Some(e)) => number(name, e[2])?,
        (NameOrId::Name(name), None) => return Err(format!("no user {name} in /etc/passwd")),
    };
    let gid = match (&user.group, &entry) {
        (Some(NameOrId::Id(id)), _) => *id,
        (Some(NameOrId::Name(name)), _) => match entries(group, 4).find(|e| e[0] == name) {
            Some(e) => number(name, e[2])?,
            None => return Err(format!("no group {name} in /etc/group")),
        },
        (None, Some(e)) => number(e[0], e[3])?,
        (None, None) => 0,
    };
    let listed =
        |e: &Vec<&str>| entry.as_ref().is_some_and(|user| e[3].split(',').any(|member| member == user[0]));
    let groups = match user.group {
        Some(_) => Vec::new(),
        None => {
            entries(group, 4).filter(listed).filter_map(|e| e[2].parse().ok()).filter(|g| *g != gid).collect()
        }
    };
    let home = entry.map(|e| e[5]).filter(|home| home.starts_with('/')).unwrap_or("/");
    Ok(Resolved { uid, gid, groups, home: home.to_string() })
}

fn number(name: &str, text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|n| *n != u32::MAX)
        .ok_or_else(|| format!("{name} has no number in /etc/passwd or /etc/group"))
}

/// Lines with at least `fields` parts; others are no entries.
fn entries(text: &str, fields: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(move |e| e.len() >= fields)
}
