//! What an apply does not change.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, Plugin, Supervisor};

/// What holds from one start of sampand to the next, whatever is applied (`Applies::Supervisor` in the key table).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lasting {
    run_dir: PathBuf,
    state_dir: PathBuf,
    socket: PathBuf,
    plugin_dir: PathBuf,
    cgroup_parent: Option<String>,
    plugins: BTreeMap<String, Plugin>,
}

impl Config {
    pub fn lasting(&self) -> Lasting {
        let Supervisor { run_dir, state_dir, socket, plugin_dir, cgroup_parent, .. } =
            self.supervisor.clone();
        Lasting { run_dir, state_dir, socket, plugin_dir, cgroup_parent, plugins: self.plugins.clone() }
    }

    /// What lasts is as sampand's start had it.
    pub fn go_on_as(&mut self, started: Lasting) {
        let Lasting { run_dir, state_dir, socket, plugin_dir, cgroup_parent, plugins } = started;
        let others = self.supervisor.clone();
        self.supervisor = Supervisor { run_dir, state_dir, socket, plugin_dir, cgroup_parent, ..others };
        self.plugins = plugins;
    }
}
