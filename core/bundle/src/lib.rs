//! A service of config.toml as an ordinary OCI bundle: the only hand-over to the runtime, so that `sampan plan` and
//! `sampan run` work on any service's bundle.
//!
//! `look` reads what a service's own paths hold: it may hang with a dead mount, and can be done elsewhere. `build` starts from
//! the default spec (or from the named bundle's own config.json) and puts the service's keys on top, one leaf after the other
//! (`leaves.rs`). Plugins then adjust the JSON, and `write` puts it in `run_dir/bundles/SERVICE/`. What is looked up in the
//! rootfs (users, folders) is opened inside it (`root.rs`).

#![forbid(unsafe_code)]

mod dev;
mod error;
mod fill;
mod folders;
pub mod image;
mod init;
mod joined;
mod leaves;
mod limits;
mod look;
mod mounts;
pub mod notify;
mod resources;
mod rights;
mod root;
mod secrets;
mod users;
pub mod userns;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sampan_plan::seccomp::{Arch, docker};
use sampan_plan::spec::Str;
use serde_json::{Value, json};

use sampan_config::schema::{Image, RootMode, Rootfs, SeccompProfile, Service, Source};
use sampan_runtime::kernel::trust;

pub use error::Error;
pub use fill::remove_half_filled;
pub use joined::Joined;
pub use limits::{host_text, warnings as host_warnings};
pub use look::{Facts, Look, look};
pub use resources::live as live_resources;

/// What a bundle is made of.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub service: &'a Service,
    /// Resolved: `/sampan`, or our delegated unit.
    pub cgroup_parent: &'a str,
    /// Those in whose namespaces it is to be. Without them it has its own.
    pub joined: &'a [Joined],
    /// Names of the descriptors that were kept for it (`fd_store_max`): it has them behind its sockets.
    pub stored: &'a [String],
}

/// config.json before plugins adjust it.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    pub spec: Value,
    /// Of /etc/hosts and its like, those that neither the service nor its bundle mounts something over, and that can be mounted over.
    pub network_files: Vec<String>,
    /// What could not be had as asked, for the log.
    pub warnings: Vec<String>,
}

/// What `build` would make, or find wrong, as things are now. `look` is the service's; it changes nothing.
pub fn check(service: &Service, look: &Look) -> Result<Built, Error> {
    let facts = self::look(look, &|_| ())?;
    build(&Request { service, cgroup_parent: "/", joined: &[], stored: &[] }, &facts)
}

/// `facts`: of the service's own paths, as they are now.
pub fn build(request: &Request<'_>, facts: &Facts) -> Result<Built, Error> {
    let with_image;
    let service = match &facts.image {
        None => request.service,
        Some(image) => {
            with_image = image.below(request.service)?;
            &with_image
        }
    };
    let mut warnings = facts.warnings.clone();
    let mut spec = match &service.source {
        Source::Bundle(folder) => existing(service, folder, facts)?,
        Source::Rootfs(Rootfs { mode, .. }) | Source::Image(Image { mode, .. }) => {
            fresh(service, *mode, facts)?
        }
    };
    let bundle = matches!(service.source, Source::Bundle(_));
    let asked = |key: &str| !bundle || service.sets(key);
    leaves::process(&mut spec, service, facts, &asked);
    leaves::descriptors(&mut spec, service, request.stored);
    leaves::capabilities(&mut spec, service, &asked);
    warnings.extend(resources::add(&mut spec, service, facts, resources::Kernel::of_host(), &asked));
    leaves::hooks(&mut spec, service);
    mounts::add(&mut spec, service, facts, &asked);
    notify::add(&mut spec, service, facts);
    init::add(&mut spec, facts);
    mounts::have_targets(&spec, service, facts)?;
    rights::add(&mut spec, service, facts, request.joined, &asked);
    userns::add(&mut spec, service, facts, asked("security.userns"))?;
    if asked("security.seccomp_profile") {
        seccomp(&mut spec, service, facts)?;
    }
    if !bundle || service.sets("ulimits") {
        limits::add(&mut spec, service, bundle);
    }
    leaves::set(&mut spec, "/linux/cgroupsPath", json!(cgroups_path(request.cgroup_parent, &service.name)));
    leaves::set(&mut spec, "/annotations/org.sampan.service", json!(service.name));
    let network_files = mounts::not_covered(&spec, &facts.network_files);
    let network_files = joined::names(&mut spec, service, request.joined, network_files);
    Ok(Built { spec, network_files, warnings })
}

/// Where a service's bundle is, whether it exists or not. One life follows the other in it.
pub fn folder(run_dir: &Path, service: &str) -> PathBuf {
    bundles(run_dir).join(service)
}

/// One of each service that has a life, or is about to have the next.
pub fn bundles(run_dir: &Path) -> PathBuf {
    run_dir.join("bundles")
}

/// What stands in config.json: for people, too.
pub fn text(spec: &Value) -> String {
    format!("{spec:#}\n")
}

/// Writes config.json, whose text is that of the spec; gives the bundle's folder.
pub fn write(run_dir: &Path, service: &str, spec: &Value, text: &str) -> Result<PathBuf, Error> {
    let folder = folder(run_dir, service);
    let wrong = |doing, path: &Path, e: std::io::Error| Error::new(service, "", doing).path(path).because(&e);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(trust::closed(0o700).as_raw_mode())
        .create(&folder)
        .map_err(|e| wrong("make the bundle's folder", &folder, e))?;
    if spec.pointer("/root/path").and_then(Value::as_str) == Some(look::BELOW_THE_BUNDLE) {
        let root = folder.join(look::BELOW_THE_BUNDLE);
        std::fs::create_dir(&root)
            .or_else(|e| if e.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })
            .map_err(|e| wrong("make the folder for the root", &root, e))?;
    }
    let path = folder.join("config.json");
    // Whoever reads it while it is replaced (`sampan plan`) sees one or the other; it does not outlive the boot.
    let new = folder.join(".config.json");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(|e| wrong("write", &path, e))?;
    Ok(folder)
}

/// Removes a service's bundle and secrets, and its copy of init; what is not there is no error.
pub fn remove(run_dir: &Path, service: &str) -> Result<(), Error> {
    for folder in
        [secrets::folder(run_dir, service), init::folder(run_dir, service), folder(run_dir, service)]
    {
        match std::fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::new(service, "", "remove").path(&folder).because(&e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where a service's control groups are, below each hierarchy's root.
pub fn cgroups_path(parent: &str, service: &str) -> String {
    format!("{}/{service}", parent.trim_end_matches('/'))
}

/// The default spec on a rootfs.
fn fresh(service: &Service, mode: RootMode, facts: &Facts) -> Result<Value, Error> {
    let mut spec = sampan_plan::default::spec();
    let path = if facts.is_host { Path::new("/") } else { &facts.root };
    // What an image lacks for mounts is made in memory; in a root of somebody's nothing is made.
    let readonly = facts.image.is_some() && mode == RootMode::Ro;
    spec.root = Some(sampan_plan::spec::Root { path: path.to_string_lossy().into_owned().into(), readonly });
    match mode {
        RootMode::Ro if facts.image.is_some() => {}
        RootMode::Ro => sampan_plan::default::ro_rootfs(&mut spec),
        RootMode::Scratch => sampan_plan::default::scratch_rootfs(&mut spec),
        RootMode::Rw => {}
    }
    if let Some(image) = &facts.image {
        image.annotate(&mut spec.annotations);
    }
    sampan_plan::default::temporary(&mut spec, |path| {
        facts.folders.iter().any(|folder| folder == path) && !mounts::covers(service, path)
    });
    serde_json::to_value(&spec)
        .map_err(|e| Error::new(&service.name, "", "make the default spec").why(e.to_string()))
}

/// The named bundle's config.json, kept as JSON so that nothing in it is lost; its rootfs made absolute.
fn existing(service: &Service, folder: &Path, facts: &Facts) -> Result<Value, Error> {
    let path = folder.join("config.json");
    let wrong = |why: String| Error::new(&service.name, "bundle", "read").path(&path).why(why);
    let text = facts.config.as_deref().unwrap_or_default();
    let mut spec: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    if !spec.is_object() {
        return Err(wrong("not an object".into()));
    }
    leaves::set(&mut spec, "/root/path", json!(facts.root));
    Ok(spec)
}

fn seccomp(spec: &mut Value, service: &Service, facts: &Facts) -> Result<(), Error> {
    let profile = match &service.security.seccomp_profile {
        SeccompProfile::Unconfined => None,
        SeccompProfile::Default => Some(resolved(spec, service, None)?),
        SeccompProfile::Path(path) => {
            let text = facts.profile.as_deref().unwrap_or_default();
            Some(resolved(spec, service, Some((path, text)))?)
        }
    };
    match (profile, spec.pointer_mut("/linux").and_then(Value::as_object_mut)) {
        (Some(profile), _) => leaves::set(spec, "/linux/seccomp", profile),
        (None, Some(linux)) => drop(linux.remove("seccomp")),
        (None, None) => {}
    }
    Ok(())
}

/// A profile in OCI's form: what docker's form makes depend on the capabilities, the kernel and the architecture is decided.
fn resolved(spec: &Value, service: &Service, profile: Option<(&Path, &str)>) -> Result<Value, Error> {
    let wrong = |why: String| {
        let error = Error::new(&service.name, "security.seccomp_profile", "read the profile").why(why);
        match profile {
            Some((path, _)) => error.path(path),
            None => error,
        }
    };
    let native =
        Arch::native().ok_or_else(|| wrong("this architecture has no table of system calls".into()))?;
    let bounding: Vec<Str<'_>> = spec
        .pointer("/process/capabilities/bounding")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).map(Str::from).collect())
        .unwrap_or_default();
    let facts = docker::Facts { bounding: &bounding, kernel: sampan_runtime::kernel::host::kernel(), native };
    let value = match profile {
        None => docker::default_profile(&facts).map(serde_json::to_value),
        Some((_, text)) => docker::profile(text, &facts).map(serde_json::to_value),
    };
    value.map_err(|error| wrong(error.to_string()))?.map_err(|error| wrong(error.to_string()))
}
