//! `volumes`, `tmpfs`, `environment`, `env_file`.

use std::collections::BTreeMap;

use super::{Field, Fields, Named, Value};
use crate::diagnostic::Diagnostic;
use crate::near::nearest;
use crate::schema::{NamedVolume, Relabel, Tmpfs, Volume, VolumeSource};
use crate::source::Spot;
use crate::{env_file, units};

/// `named`: those of `[volumes]`.
pub fn volumes(f: &Field<'_>, named: &Named<NamedVolume>) -> Option<Vec<Volume>> {
    let mut seen: BTreeMap<String, Spot> = BTreeMap::new();
    let mut volumes = Vec::new();
    for item in f.items()? {
        let volume = match &item.node.value {
            Value::Text(_) => short_volume(&item, named),
            Value::Table(_) => long_volume(&item, named),
            _ => item.expected("a string \"SRC:DST[:ro]\" or a table"),
        };
        let Some(volume) = volume else { continue };
        if let Some(first) = seen.insert(volume.target.clone(), item.node.at.clone()) {
            let wrong = format!("two volumes on {}", volume.target);
            let error =
                Diagnostic::error(&item.path, &item.node.at, wrong, "the second would hide the first");
            item.cx.errors.borrow_mut().push(error.also(&first, "first here"));
        }
        if let VolumeSource::Path(path) = &volume.source
            && !volume.create
            && !item.cx.asked.exists(path, &item.path)
        {
            let hint = "make it, or write { source, target, create = true }";
            item.wrong(format!("{} does not exist", path.display()), hint);
        }
        volumes.push(volume);
    }
    Some(volumes)
}

fn short_volume(f: &Field<'_>, named: &Named<NamedVolume>) -> Option<Volume> {
    let text = f.text()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => {
            f.wrong("not a volume", "as \"SRC:DST\" or \"SRC:DST:ro\"");
            return None;
        }
    };
    let source = volume_source(f, source, named)?;
    let create = matches!(source, VolumeSource::Named(..));
    let target = target_path(f, target)?;
    let mut volume = Volume {
        source,
        target,
        read_only: false,
        options: Vec::new(),
        create,
        nocopy: false,
        selinux: None,
    };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => volume.read_only = true,
            "rw" => {}
            "z" => volume.selinux = Some(Relabel::Shared),
            "Z" => volume.selinux = Some(Relabel::Private),
            "nocopy" => volume.nocopy = is_named(f, &volume.source),
            other => volume.options.push(mount_option(f, other)?),
        }
    }
    Some(volume)
}

fn long_volume(f: &Field<'_>, named: &Named<NamedVolume>) -> Option<Volume> {
    const LABELS: &[(&str, Relabel)] = &[("z", Relabel::Shared), ("Z", Relabel::Private)];
    let t = f.fields();
    t.only(&["type", "source", "target", "read_only", "options", "create", "nocopy", "selinux"], &[]);
    let kind = t.or("type", |f| f.word("type", &[("bind", "bind"), ("volume", "volume")], &["tmpfs"]), "");
    for name in ["source", "target"] {
        if t.get(name).is_none() {
            t.missing(name, "as { source = \"./data\", target = \"/data\" }");
        }
    }
    let source = t.get("source").and_then(|f| volume_source(&f, &f.nonempty()?, named));
    let target = t.get("target").and_then(|f| target_path(&f, &f.nonempty()?));
    let source = source?;
    match (kind, &source) {
        ("bind", VolumeSource::Named(name, _)) => {
            f.wrong(format!("`{name}` is a named volume"), "for a folder begin it with ./ or /");
        }
        ("volume", VolumeSource::Path(_)) => f.wrong("a volume of this type has a name", "write its name"),
        _ => {}
    }
    let nocopy = t.or("nocopy", |f| f.boolean().map(|no| no && is_named(f, &source)), false);
    let is_named = matches!(source, VolumeSource::Named(..));
    Some(Volume {
        source,
        target: target?,
        read_only: t.or("read_only", Field::boolean, false),
        options: t.or("options", |f| f.list(|f| mount_option(f, &f.nonempty()?)), Vec::new()),
        create: t.or("create", Field::boolean, false) || is_named,
        nocopy,
        selinux: t.or("selinux", |f| f.word("label", LABELS, &[]).map(Some), None),
    })
}

fn volume_source(f: &Field<'_>, text: &str, named: &Named<NamedVolume>) -> Option<VolumeSource> {
    if text.starts_with(['/', '.', '~']) {
        return f.host_path_of(text).map(VolumeSource::Path);
    }
    let volume = named.find(f, text, &format!("for a folder write \"./{text}\""))?;
    Some(VolumeSource::Named(text.to_owned(), volume))
}

/// What `nocopy` is said of: nothing is copied into a folder of the host.
fn is_named(f: &Field<'_>, source: &VolumeSource) -> bool {
    let is_named = matches!(source, VolumeSource::Named(..));
    if !is_named {
        f.wrong("nocopy of a folder of the host", "drop it: only named volumes are filled from an image");
    }
    is_named
}

fn target_path(f: &Field<'_>, text: &str) -> Option<String> {
    let path = f.inside_path_of(text)?;
    if path == "/" {
        f.wrong("a volume on /", "that is what rootfs is for");
        return None;
    }
    Some(path)
}

/// What mount(8) knows of bind mounts.
const OPTIONS: [&str; 26] = [
    "rbind",
    "bind",
    "rprivate",
    "private",
    "rshared",
    "shared",
    "rslave",
    "slave",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "rro",
    "nosymfollow",
];

fn mount_option(f: &Field<'_>, text: &str) -> Option<String> {
    if OPTIONS.contains(&text) {
        return Some(text.to_string());
    }
    let hint = match nearest(text, OPTIONS) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "as ro, noexec, rslave".into(),
    };
    f.wrong(format!("no such mount option: `{text}`"), hint);
    None
}

pub fn tmpfs(f: &Field<'_>) -> Option<Vec<Tmpfs>> {
    match &f.node.value {
        Value::Text(_) => Some(one_tmpfs(f).into_iter().collect()),
        _ => f.list(one_tmpfs),
    }
}

fn one_tmpfs(f: &Field<'_>) -> Option<Tmpfs> {
    let text = f.text()?;
    let (target, options) = text.split_once(':').unwrap_or((&text, ""));
    let mut tmpfs = Tmpfs { target: target_path(f, target)?, size: None, mode: None, options: Vec::new() };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => match units::parse_size(size) {
                Ok(size) => tmpfs.size = Some(size),
                Err(why) => f.wrong(why, "as size=64M"),
            },
            Some(("mode", mode)) => match units::parse_mode(mode) {
                Some(mode) => tmpfs.mode = Some(mode),
                None => f.wrong(format!("`{mode}` is not a mode"), "octal, as mode=1777"),
            },
            Some(("uid" | "gid" | "nr_inodes", n)) if n.parse::<u32>().is_ok() => {
                tmpfs.options.push(option.into())
            }
            Some((name, _)) => {
                f.wrong(format!("no such tmpfs option: `{name}`"), "size, mode, uid, gid, nr_inodes")
            }
            None => tmpfs.options.extend(mount_option(f, option)),
        }
    }
    Some(tmpfs)
}

/// env_file's, in order, then environment's own on top.
pub fn environment(t: &Fields<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if let Some(f) = t.get("env_file") {
        let files = match &f.node.value {
            Value::Array(_) => f.items().unwrap_or_default(),
            _ => vec![f],
        };
        for file in files {
            read_env_file(&file, &mut all);
        }
    }
    for (name, field) in t.table("environment", "a table or an array").entries() {
        if !env_file::is_name(name) {
            field.wrong("not a variable's name", "no `=`, no space");
            continue;
        }
        let value = match &field.node.value {
            Value::Text(_) => field.text(),
            Value::Integer(n) => Some(n.to_string()),
            Value::Float(_) => Some(field.node.at.text().to_string()),
            Value::Bool(b) => Some(b.to_string()),
            _ => field.expected("a string"),
        };
        all.extend(value.map(|v| (name.to_string(), v)));
    }
    all
}

fn read_env_file(f: &Field<'_>, all: &mut BTreeMap<String, String>) {
    let (path, required) = match &f.node.value {
        Value::Table(_) => {
            let t = f.fields();
            t.only(&["path", "required"], &[]);
            if t.get("path").is_none() {
                t.missing("path", "as { path = \"web.env\", required = false }");
            }
            (t.get("path").and_then(|f| f.host_path()), t.or("required", Field::boolean, true))
        }
        _ => (f.host_path(), true),
    };
    let Some(path) = path else { return };
    if !required && !f.cx.asked.exists(&path, &f.path) {
        return;
    }
    let hint =
        if f.cx.asked.exists(&path, &f.path) { "" } else { "make it, or write { path, required = false }" };
    let Some(text) = f.text_file(&path, hint) else { return };
    match env_file::parse(&text) {
        Ok(entries) => all.extend(entries.into_iter().map(|e| (e.name, e.value))),
        // The line itself is not shown: it may be a password, and this may end in a log.
        Err((line, why)) => f.wrong(format!("{}:{line}: {why}", path.display()), "lines are K=V"),
    }
}
