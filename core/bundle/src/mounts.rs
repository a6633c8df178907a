//! `volumes`, `tmpfs`, `shm_size` as mounts. Those of a bundle at the same place give way.

use std::path::Path;

use oci_spec::runtime as oci;
use serde_json::{Value, json};

use super::leaves::{set, to_json};
use super::{Error, Facts, notify, secrets};
use sampan_config::schema::{Service, Tmpfs, Volume};

pub fn add(spec: &mut Value, service: &Service, facts: &Facts, asked: &dyn Fn(&str) -> bool) {
    let mut ours: Vec<oci::Mount> = Vec::new();
    if asked("tmpfs") {
        ours.extend(service.tmpfs.iter().map(tmpfs));
    }
    if asked("volumes") {
        ours.extend(service.volumes.iter().map(|volume| bind(volume, facts)));
    }
    for (source, target) in facts.secrets.iter().flat_map(|folder| secrets::mounts(service, folder)) {
        ours.push(bound(&source, &target));
    }
    // The outer before the inner, whichever way they were written.
    ours.sort_by_key(|m| m.destination().components().count());
    let mut mounts = spec.pointer("/mounts").and_then(Value::as_array).cloned().unwrap_or_default();
    mounts.retain(|m| {
        let at = m["destination"].as_str().unwrap_or_default();
        !ours.iter().any(|o| o.destination().to_str() == Some(at))
    });
    if asked("shm_size") {
        for mount in mounts.iter_mut().filter(|m| m["destination"] == "/dev/shm") {
            let options = mount["options"].as_array().cloned().unwrap_or_default();
            let mut options: Vec<Value> = options
                .into_iter()
                .filter(|o| !o.as_str().unwrap_or_default().starts_with("size="))
                .collect();
            options.push(json!(format!("size={}", service.shm_size)));
            mount["options"] = options.into();
        }
    }
    mounts.extend(ours.iter().map(to_json));
    set(spec, "/mounts", mounts.into());
}

/// Of a root in which nothing is made: what is mounted and the working directory are there, or inside of an earlier mount.
pub fn have_targets(spec: &Value, service: &Service, facts: &Facts) -> Result<(), Error> {
    let mounts = spec.pointer("/mounts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let targets: Vec<&str> = mounts.iter().filter_map(|m| m["destination"].as_str()).collect();
    let in_root =
        |path: &str, before: &[&str]| !before.iter().any(|above| Path::new(path).starts_with(above));
    let first =
        targets.iter().enumerate().filter(|(n, path)| in_root(path, targets.get(..*n).unwrap_or(&[])));
    let mut lacking: Vec<(&str, &str)> = first.map(|(_, path)| (key_of(service, path), *path)).collect();
    if in_root(&service.working_dir, &targets) {
        lacking.push(("working_dir", &service.working_dir));
    }
    lacking.retain(|(_, path)| facts.lacks.iter().any(|lacks| lacks == path));
    let Some((key, path)) = lacking.first() else { return Ok(()) };
    let make = facts.root.join(path.trim_start_matches('/'));
    Err(Error::new(&service.name, key, "use the rootfs")
        .path(&facts.root)
        .why(format!("it has no {path}, and is read-only"))
        .hint(format!("make it (mkdir -p {}), or rootfs.mode = \"scratch\"", make.display())))
}

/// What in config.toml has something mounted at `path`.
fn key_of(service: &Service, path: &str) -> &'static str {
    match () {
        () if service.volumes.iter().any(|v| v.target == path) => "volumes",
        () if service.tmpfs.iter().any(|t| t.target == path) => "tmpfs",
        () if path == notify::FOLDER => "notify",
        () if secrets::mounts(service, Path::new("")).iter().any(|(_, target)| target == path) => "secrets",
        () => "rootfs.mode",
    }
}

/// Whether the service itself mounts something at `path`.
pub fn covers(service: &Service, path: &str) -> bool {
    service.volumes.iter().any(|v| v.target == path) || service.tmpfs.iter().any(|t| t.target == path)
}

/// Those of `paths` at which, and above which, the spec mounts nothing.
pub fn not_covered(spec: &Value, paths: &[String]) -> Vec<String> {
    let mounts = spec.pointer("/mounts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let covers = |path: &str, mount: &Value| {
        mount["destination"].as_str().is_some_and(|at| Path::new(path).starts_with(at))
    };
    paths.iter().filter(|path| !mounts.iter().any(|mount| covers(path, mount))).cloned().collect()
}

fn bind(volume: &Volume, facts: &Facts) -> oci::Mount {
    let mut options: Vec<String> = ["rbind", "rprivate", "nosuid", "nodev"].map(String::from).to_vec();
    if volume.read_only {
        // With all that is mounted below it: nobody means the top alone.
        options.push("rro".into());
    }
    for option in &volume.options {
        options.retain(|had| !excludes(had, option));
        options.push(option.clone());
    }
    if facts.users.as_ref().is_some_and(|users| users.maps(volume.source.path())) {
        options.push("ridmap".into());
    }
    let mut mount = oci::Mount::default();
    mount
        .set_destination(volume.target.clone().into())
        .set_typ(Some("bind".into()))
        .set_source(Some(volume.source.path().to_owned()))
        .set_options(Some(options));
    mount
}

/// A folder of ours, which the container can look into.
pub fn closed(source: &Path, target: &str) -> Value {
    to_json(&bound(source, target))
}

fn bound(source: &Path, target: &str) -> oci::Mount {
    let options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"].map(String::from).to_vec();
    let mut mount = oci::Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some("bind".into()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options));
    mount
}

/// Words for the same thing: of two the later stands.
fn excludes(a: &str, b: &str) -> bool {
    const SAME: [&[&str]; 7] = [
        &["rbind", "bind"],
        &["rprivate", "private", "rshared", "shared", "rslave", "slave"],
        &["nosuid", "suid"],
        &["nodev", "dev"],
        &["noexec", "exec"],
        &["ro", "rw", "rro"],
        &["noatime", "atime", "relatime", "strictatime"],
    ];
    a == b || SAME.iter().any(|group| group.contains(&a) && group.contains(&b))
}

fn tmpfs(tmpfs: &Tmpfs) -> oci::Mount {
    let mut options: Vec<String> = ["nosuid", "nodev"].map(String::from).to_vec();
    for option in &tmpfs.options {
        options.retain(|had| !excludes(had, option));
        options.push(option.clone());
    }
    // Without one it is that of the folder below.
    options.extend(tmpfs.mode.map(|mode| format!("mode={mode:04o}")));
    options.extend(tmpfs.size.map(|size| format!("size={size}")));
    let mut mount = oci::Mount::default();
    mount
        .set_destination(tmpfs.target.clone().into())
        .set_typ(Some("tmpfs".into()))
        .set_source(Some("tmpfs".into()))
        .set_options(Some(options));
    mount
}
