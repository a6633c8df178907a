//! Another user of the host, and files of his where `sampan` looks for its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Mode;
use sampan_runtime::store::dir::Root;
use sampan_runtime::store::state::State;

use sampan_testkit::Bundle;
use serde_json::json;

use super::Outcome;
use super::host::{Host, SECRET};
use super::runtime::Runtime;

const NOBODY: u32 = 65534;

/// The config of a container, secrets in its environment included, as the state root keeps it.
pub fn state_read_by_another_user(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("state-read").unwrap();
    bundle.add("/process/env", json!(format!("PASSWORD={SECRET}")));
    // The runtime makes the folder. An attack before this one may have left something in it, if the runtime did not clean up.
    fs::remove_dir_all(runtime.state()).unwrap();
    let before = rustix::process::umask(Mode::empty());
    let created = runtime.create(&bundle);
    rustix::process::umask(before);
    if let Err(ran) = created {
        return Outcome::Repelled(ran.said());
    }
    let read = format!("cat {0}/* {0}/*/*", runtime.state().display());
    let theirs = as_nobody(&read);
    if theirs.contains(SECRET) {
        return Outcome::Worked("the container's environment was read".into());
    }
    Outcome::Repelled(theirs.lines().next().unwrap_or("nothing").into())
}

/// He knows the name of the pid file that root is to write in a folder of his, and has a link there.
pub fn pid_file_through_a_link(runtime: &Runtime) -> Outcome {
    let host = Host::new();
    let bundle = Bundle::new("pid-file").unwrap();
    let theirs = bundle.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    let link = theirs.join("pid");
    symlink(host.path().join("secret"), &link).unwrap();
    for path in [&theirs, &link] {
        lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let ran = runtime.run_with(&["--pid-file", link.to_str().unwrap()], &bundle, |_| {});
    host.verdict(&ran)
}

fn as_nobody(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).uid(NOBODY).gid(NOBODY).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

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
