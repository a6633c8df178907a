//! `sampan spec`: a config.json to begin with: runc's template, or with `--secure` the default container of `run --rootfs`
//! and of sampand. Both have a terminal.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use sampan_plan::Spec;
use sampan_plan::spec::{Capabilities, DeviceRule, Namespace, Resources, Rlimit, Str};
use serde_json::Value;

use super::{Error, Result, doing};
use crate::store::state::CONFIG;

pub fn document(rootless: bool, is_secure: bool) -> Result<Value> {
    if rootless {
        return Err(Error::new("spec --rootless: not supported yet; write linux.uidMappings by hand"));
    }
    let spec = if is_secure { secure() } else { runcs() };
    let mut config = serde_json::to_value(spec).map_err(|e| Error::new(format!("cannot write JSON: {e}")))?;
    // Ours leaves out what is absent; other readers want it there.
    config["process"]["user"] = serde_json::json!({ "uid": 0, "gid": 0 });
    Ok(config)
}

/// Into the bundle, where there is no config.json yet.
pub fn write(bundle: &Path, config: &str) -> Result<()> {
    let path = bundle.join(CONFIG);
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    match file.and_then(|mut f| f.write_all(config.as_bytes())) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::new(format!(
            "{} exists; remove it first, or name another folder by --bundle",
            path.display()
        ))),
        Err(e) => Err(doing(format!("cannot write {}", path.display()))(e)),
    }
}

/// A shell on a terminal, in a rootfs beside it: what `sampan run --rootfs` and sampand begin with.
fn secure() -> Spec<'static> {
    let mut spec = sampan_plan::default::spec();
    spec.hostname = Some("sampan".into());
    if let Some(process) = &mut spec.process {
        process.terminal = true;
        process.env.push("TERM=xterm".into());
        super::run::clamp(&mut process.rlimits);
    }
    spec
}

/// What `runc spec` writes, but for the name: three capabilities, no sysctl (a user namespace may not set every one), and
/// a cgroup namespace only where all is v2. Tools and tutorials change this template.
fn runcs() -> Spec<'static> {
    let mut spec = secure();
    if let Some(process) = &mut spec.process {
        let few = || ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"].map(Str::from).to_vec();
        process.capabilities = Some(Capabilities {
            bounding: few(),
            effective: few(),
            permitted: few(),
            ..Capabilities::default()
        });
        process.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 1024, hard: 1024 }];
    }
    if let Some(proc) = spec.mounts.first_mut() {
        proc.options.clear();
    }
    let mut kinds = vec!["pid", "network", "ipc", "uts", "mount"];
    if sampan_cgroups::Hierarchies::detect().is_ok_and(|found| found.is_v2_only()) {
        kinds.push("cgroup");
    }
    spec.linux.namespaces =
        kinds.into_iter().map(|kind| Namespace { kind: kind.into(), path: None }).collect();
    spec.linux.sysctl.clear();
    let deny = DeviceRule { access: Some("rwm".into()), ..DeviceRule::default() };
    spec.linux.resources = Some(Resources { devices: vec![deny], ..Resources::default() });
    spec
}
