//! Another user of the host, and files of his where `sampan` looks for its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use sampan_runtime::store::dir::Root;
use sampan_runtime::store::state::State;

use super::Outcome;
use super::host::Host;
use super::runtime::Runtime;

const NOBODY: u32 = 65534;

/// A state root that was made with umask 0: he makes a container's folder there, whose poststop hook root is to run.
pub fn state_planted_by_another_user(runtime: &Runtime) -> Outcome {
    if matches!(runtime.name, "runc" | "crun") {
        return Outcome::Lacks("a state of our form");
    }
    let host = Host::new();
    let folder = Root::new(Some(runtime.state())).unwrap().create("planted").unwrap();
    let mut state = State::creating("planted", "/bundle".into());
    let made = format!("echo > {}/made", host.path().display());
    state.hooks.poststop = vec![sampan_hooks::Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-c".into(), made],
        env: vec!["PATH=/usr/bin:/bin".into()],
        timeout: None,
    }];
    state.save(&folder).unwrap();
    for path in [folder.path().join("state.json"), folder.path().to_owned()] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    // It is locked as long as we have it.
    drop(folder);
    fs::set_permissions(runtime.state(), fs::Permissions::from_mode(0o777)).unwrap();
    let ran = runtime.ran(["delete", "--force", "planted"]);
    // So that what is left can be removed.
    fs::set_permissions(runtime.state(), fs::Permissions::from_mode(0o700)).unwrap();
    host.verdict(&ran)
}
