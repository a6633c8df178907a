//! Below which control group the services are: `cgroup_parent` of config.toml, and what `auto` is on this host.
//!
//! Where systemd is init the groups are in the holder's scope (`scope`). Below our own unit systemd would end them with the unit
//! (KillMode=mixed), or could not start the unit again while they are there (KillMode=process, before systemd 254); outside of all
//! units it takes controllers away that none of its units needs.
//!
//! Without systemd it is `/sampan`. What was found is written down in run_dir, so that a start that finds containers looks
//! where they are, whatever the host has become. The holder goes into its scope whatever is written there.
use crate::scope;
use sampan_cgroups::Hierarchies;
use sampan_config::schema::Supervisor;

/// Where there is no systemd.
const TOP: &str = "/sampan";
/// In run_dir.
const RECORD: &str = "cgroup_parent";

/// The group, absolute in each hierarchy. `holder` is the process that keeps the scope; it is in it when this returns.
pub fn find(config: &Supervisor, hierarchies: &Hierarchies, holder: Option<u32>) -> String {
    let scope = match holder.filter(|_| scope::is_wanted()) {
        Some(holder) => scope::place(&config.run_dir, hierarchies, holder)
            .inspect_err(|error| {
                tracing::warn!(
                    "no scope of systemd's: restarts of our unit lose output of services, whose control groups are where systemd may take controllers away: {error}"
                );
            })
            .ok(),
        None => None,
    };
    if let Some(parent) = &config.cgroup_parent {
        return parent.clone();
    }
    let recorded = std::fs::read_to_string(config.run_dir.join(RECORD)).ok();
    let found = parent(recorded.as_deref(), scope);
    // A worker that follows another finds it written: no start waits for the disk without need.
    if recorded.as_deref() != Some(found.as_str())
        && let Err(error) = sampan_journal::atomic::replace(&config.run_dir, RECORD, found.as_bytes())
    {
        tracing::warn!(
            "cannot write {RECORD} in run_dir, a sampand that follows may look elsewhere: {error}"
        );
    }
    found
}

/// Services stay where they were begun, until all of them have stopped.
fn parent(recorded: Option<&str>, scope: Option<String>) -> String {
    recorded.map(str::to_owned).or(scope).unwrap_or_else(|| TOP.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_stay_where_they_were_begun() {
        let scope = || Some("/system.slice/sampan.scope".to_owned());
        assert_eq!(parent(None, scope()), "/system.slice/sampan.scope");
        assert_eq!(parent(None, None), TOP);
        assert_eq!(parent(Some(TOP), scope()), TOP);
        assert_eq!(parent(Some("/system.slice/sampan.scope"), None), "/system.slice/sampan.scope");
    }
}
