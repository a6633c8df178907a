//! `init = true`: the first process of the container is ours (`core/init`), and starts the service's program.
//!
//! Each launch writes the program anew into a file of the service's own, which is mounted below the container's own /dev: no root
//! needs a place for it, and whoever could change that file would change what runs in this container and nowhere else.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::leaves::{push, set};
use super::{Error, Facts};
use sampan_config::plain;
use sampan_init::{MOUNT_OPTIONS, PATH};

/// Where a service's copy is on the host, whether it has one or not.
pub fn folder(run_dir: &Path, service: &str) -> PathBuf {
    run_dir.join("init").join(service)
}

/// A new file: the one of the life before may still run.
pub fn write(service: &str, folder: &Path) -> Result<PathBuf, Error> {
    let path = folder.join("sampan-init");
    let written = || -> std::io::Result<()> {
        if let Err(error) = std::fs::remove_dir_all(folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = File::options().write(true).create_new(true).mode(0o500).open(&path)?;
        file.write_all(sampan_init::PROGRAM)?;
        // Whatever the umask is: the service's user executes it.
        file.set_permissions(Permissions::from_mode(0o555))
    };
    let wrong = |error: std::io::Error| Error::new(service, "init", "write").path(&path).why(plain(&error));
    written().map_err(wrong)?;
    Ok(path)
}

pub fn add(spec: &mut Value, facts: &Facts) {
    let (Some(program), Some(args)) = (&facts.init, spec.pointer("/process/args").and_then(Value::as_array))
    else {
        return;
    };
    let args: Vec<Value> = [json!(PATH)].into_iter().chain(args.iter().cloned()).collect();
    set(spec, "/process/args", args.into());
    let mount = json!({ "destination": PATH, "type": "bind", "source": program, "options": MOUNT_OPTIONS });
    push(spec, "/mounts", mount);
}
