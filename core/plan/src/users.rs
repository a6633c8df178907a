//! The ids of a user namespace that the config names by its path: those that it has, in runc's rules.

use crate::error::Error;
use crate::host::JoinedUsers;
use crate::spec::{IdMapping, Spec, to_host};

/// Its maps, uids and gids. containerd and CRI-O repeat them in the config; others than it has are an error.
pub fn joined<'j>(
    spec: &Spec<'_>,
    found: &'j JoinedUsers,
) -> Result<(&'j [IdMapping], &'j [IdMapping]), Error> {
    let linux = &spec.linux;
    for (asked, found, field) in [
        (&linux.uid_mappings, &found.uids, "linux.uidMappings"),
        (&linux.gid_mappings, &found.gids, "linux.gidMappings"),
    ] {
        if !asked.is_empty() && sorted(asked) != sorted(found) {
            return Err(Error::new(
                field,
                format!(
                    "differ from those of the user namespace that is joined ({}): leave them out",
                    found.iter().map(line).collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        if to_host(found, 0).is_none() || found.is_empty() {
            return Err(Error::new(
                "linux.namespaces",
                format!(
                    "0 has no id in the user namespace that is joined ({field} of it): a container needs its root"
                ),
            ));
        }
    }
    Ok((&found.uids, &found.gids))
}

fn line(map: &IdMapping) -> String {
    format!("{} {} {}", map.container_id, map.host_id, map.size)
}

fn sorted(maps: &[IdMapping]) -> Vec<(u32, u32, u32)> {
    let mut lines: Vec<_> = maps.iter().map(|map| (map.container_id, map.host_id, map.size)).collect();
    lines.sort_unstable();
    lines
}
