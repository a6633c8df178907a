//! `sampan spec`: a config.json to begin with: the default container of `run --rootfs` and of sampand, with a terminal.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use sampan_plan::Spec;

use super::{Error, Result, doing, json as text};

pub fn run(bundle: &Path, rootless: bool) -> Result<()> {
    if rootless {
        return Err(Error::Asked(
            "spec --rootless: not supported yet; write linux.uidMappings by hand".into(),
        ));
    }
    let path = bundle.join("config.json");
    let mut config =
        serde_json::to_value(default()).map_err(|e| Error::Asked(format!("cannot write JSON: {e}")))?;
    // Ours leaves out what is absent; other readers want it there.
    config["process"]["user"] = serde_json::json!({ "uid": 0, "gid": 0 });
    let content = text(&config)?;
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    match file.and_then(|mut f| f.write_all(content.as_bytes())) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::Asked(format!(
            "{} exists; remove it first, or name another folder by --bundle",
            path.display()
        ))),
        Err(e) => Err(doing(format!("cannot write {}", path.display()))(e)),
    }
}

/// A shell on a terminal, in a rootfs beside it.
pub fn default() -> Spec<'static> {
    let mut spec = sampan_plan::default::spec();
    spec.hostname = Some("sampan".into());
    if let Some(process) = &mut spec.process {
        process.terminal = true;
        process.env.push("TERM=xterm".into());
        super::run::clamp(&mut process.rlimits);
    }
    spec
}
