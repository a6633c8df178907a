//! config.json's mounts: options become attributes, propagation and what the file system itself is told.
//!
//! Each mount is one step of the child, in the order of the config.  A bind changes exactly the flags that its
//! options name, set or cleared; everything else stays as the source has it.

use crate::build::Build;
use crate::error::Error;
use crate::host::{Host, Version};
use crate::idmap;
use crate::labels;
use crate::mount_options::{Form, MountOptions, options};
use crate::namespaces::Namespaces;
use crate::path::{clean, from_bundle};
use crate::plan::Options;
use crate::propagation::RootPropagation;
use crate::slots::{IdMap, SlotSource};
use crate::spec::{IdMapping, Linux, Mount};
use sampan_child::defence::{self, Defence};
use sampan_child::step::{List, Propagation, Source, Step, mount as flag};
use sampan_child::sys::uapi::*;

/// What the mounts of a config left for later steps to know.
#[derive(Debug, Default)]
pub struct MountOutcome {
    /// A file system of our own is on /dev; None: /dev is the root's. A bind there is somebody else's.
    pub dev: Dev,
    /// Mounts that become read-only once they are filled.
    pub read_only_later: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dev {
    #[default]
    OfRoot,
    Mounted,
    Bound,
}

/// Facts that decide how a mount is made.
pub struct MountContext<'a> {
    pub linux: &'a Linux<'a>,
    pub host: &'a Host,
    pub options: &'a Options,
    pub namespaces: &'a Namespaces,
    /// The maps of the container's user namespace: uids, gids.
    pub users: (&'a [IdMapping], &'a [IdMapping]),
    pub propagation: RootPropagation,
    /// The root, as a path of the host.
    pub root: &'a str,
}

/// A part of the host's tree that is to be cloned.
#[derive(Clone, Copy, Debug)]
pub struct Part<'p> {
    pub path: &'p str,
    pub recursive: bool,
    pub follow: bool,
    /// As the config asks.
    pub propagation: Option<Propagation>,
    pub idmap: Option<&'p IdMap>,
    pub field: &'p str,
}

impl MountContext<'_> {
    /// Where a part is cloned, and what becomes of its peers there. What is below the root by the child, where it shows the
    /// mounts made before it. The host's by the child too, in a namespace that has no peers; by the parent
    /// what a new user namespace may not split off the host's mounts (a slave then: root in there must not mount on the
    /// host), what is to stay shared with the host, and what gets an id map, which is the host's root's to give.
    pub fn source(&self, b: &mut Build, part: Part<'_>) -> Result<Source, Error> {
        if let Some(inside) = self.below_root(part.path).filter(|_| part.idmap.is_none()) {
            return Ok(Source::Inside(b.text(&inside, part.field)?));
        }
        let own_users = self.namespaces.own_users();
        let stays_shared =
            part.propagation.filter(|asked| asked.is_shared() && self.propagation.keeps_peers());
        let propagation = match stays_shared {
            _ if own_users && self.host.privileged => self.propagation.host,
            Some(shared) if !own_users => shared,
            _ if part.idmap.is_some() => self.propagation.host,
            _ => return Ok(Source::Path(b.text(part.path, part.field)?)),
        };
        Ok(Source::Tree(b.slot(SlotSource::Tree {
            path: part.path.to_owned(),
            recursive: part.recursive,
            follow: part.follow,
            propagation,
            idmap: part.idmap.cloned(),
            field: part.field.to_owned(),
        })))
    }

    /// The path as the container sees it; none for the root itself, and none where all of the host is the root.
    fn below_root(&self, path: &str) -> Option<String> {
        let root = clean(self.root);
        let below =
            clean(path).strip_prefix(root.as_str()).filter(|below| below.starts_with('/'))?.to_owned();
        self.host.root.is_none().then_some(below)
    }
}

pub fn mount(
    b: &mut Build,
    m: &Mount<'_>,
    index: usize,
    context: &MountContext<'_>,
    made: &mut MountOutcome,
    join_groups: &mut dyn FnMut(&mut Build),
) -> Result<(), Error> {
    let field = format!("mounts[{index}]");
    if m.destination.is_empty() {
        return Err(Error::new(format!("{field}.destination"), "must not be empty"));
    }
    let target = clean(&m.destination);
    let mut asked = options(m.options.iter().map(|o| o.as_str()), &field)?;
    let kind = m.kind.as_deref().unwrap_or_default();
    let bind = asked.bind || kind == "bind" || kind == "rbind";
    let idmap = idmap::of_mount(m, asked.ids, bind, context.users, context.host, &field)?;
    if defence::on(Defence::ProcMountsChecked) {
        asked.on_proc = check_proc(&target, if bind { "bind" } else { kind }, m.source.as_deref(), &field)?;
    }
    if target == "/" {
        return Err(Error::new(format!("{field}.destination"), "\"/\" is the root itself: see root.path"));
    }
    if bind {
        let Some(source) = m.source.as_deref().filter(|s| !s.is_empty()) else {
            return Err(Error::new(format!("{field}.source"), "a bind needs a source"));
        };
        if target == "/dev" {
            made.dev = Dev::Bound;
        }
        let asked = MountOptions { recursive: asked.recursive || kind == "rbind", idmap, ..asked };
        return bind_step(b, &from_bundle(source, &context.options.bundle), &target, &asked, &field, context);
    }
    match kind {
        "" => Err(Error::new(format!("{field}.type"), "is missing, and the options do not say bind")),
        "cgroup" | "cgroup2" => {
            join_groups(b);
            cgroup(b, &target, &asked, &field, context)
        }
        "sysfs" if context.namespaces.sysfs_is_somebody_elses() => {
            // It belongs to the owner of the network namespace: EPERM here, so the host's is shown.
            let asked = MountOptions { recursive: true, data: Vec::new(), ..asked };
            bind_step(b, "/sys", &target, &asked, &field, context)
        }
        kind => {
            asked.data.extend(labels::mount(kind, &context.linux.mount_label));
            if asked.copy_up {
                // What is copied counts as the container's memory.
                join_groups(b);
            }
            file_system(b, kind, m.source.as_deref(), &target, &asked, &field, made)
        }
    }
}

fn on_proc(asked: &MountOptions<'_>) -> u32 {
    if asked.on_proc { flag::ON_PROC } else { 0 }
}

fn bind_step(
    b: &mut Build,
    source: &str,
    target: &str,
    asked: &MountOptions<'_>,
    field: &str,
    context: &MountContext<'_>,
) -> Result<(), Error> {
    let (recursive, propagation) = (asked.recursive, asked.propagation);
    let part = Part {
        path: source,
        recursive,
        follow: !asked.source_nofollow,
        propagation,
        idmap: asked.idmap.as_ref(),
        field: &format!("{field}.source"),
    };
    let from = context.source(b, part)?;
    let at = b.text(target, &format!("{field}.destination"))?;
    let mut flags = on_proc(asked) | if recursive { flag::RECURSIVE } else { 0 };
    if asked.source_nofollow {
        flags |= flag::NO_FOLLOW_SOURCE;
    }
    let whole_tree = asked.set_recursive | asked.clear_recursive != 0;
    let own = asked.set | asked.clear != 0;
    if whole_tree && !own {
        let (set, clear) = (asked.set_recursive, asked.clear_recursive);
        flags |= flag::ATTRIBUTES_RECURSIVE;
        b.step(field, Step::Bind { from, target: at, set, clear, propagation, flags });
        return Ok(());
    }
    b.step(field, Step::Bind { from, target: at, set: asked.set, clear: asked.clear, propagation, flags });
    if whole_tree {
        let (set, clear) = (asked.set_recursive, asked.clear_recursive);
        let flags = flag::ATTRIBUTES_RECURSIVE;
        b.step(field, Step::Attributes { target: at, set, clear, flags });
    }
    Ok(())
}

fn file_system(
    b: &mut Build,
    kind: &str,
    source: Option<&str>,
    target: &str,
    asked: &MountOptions<'_>,
    field: &str,
    made: &mut MountOutcome,
) -> Result<(), Error> {
    let is_dev = target == "/dev";
    let mut flags = on_proc(asked);
    let mut attributes = asked.set;
    if is_dev {
        flags |= flag::IS_DEV;
        made.dev = Dev::Mounted;
    }
    if matches!(kind, "proc" | "sysfs") {
        flags |= flag::NO_SYMLINKS;
    }
    if asked.copy_up {
        if kind != "tmpfs" {
            return Err(Error::new(format!("{field}.options"), "\"tmpcopyup\" is for tmpfs alone"));
        }
        flags |= flag::COPY_UP;
    }
    if kind == "tmpfs" && !asked.data.iter().any(|(name, _)| *name == "mode") {
        flags |= flag::COVERED_MODE;
    }
    if (is_dev || asked.copy_up) && attributes & MOUNT_ATTR_RDONLY != 0 {
        attributes &= !MOUNT_ATTR_RDONLY;
        made.read_only_later.push((target.to_owned(), field.to_owned()));
    }
    let mut data: Vec<(&str, Option<&str>)> = Vec::with_capacity(asked.data.len() + 2);
    if let Some(source) = source.filter(|s| !s.is_empty()) {
        data.push(("source", Some(source)));
    }
    // A file system on a device must know; for those of the kernel's own the mount's flag says it all.
    if attributes & MOUNT_ATTR_RDONLY != 0
        && !matches!(kind, "tmpfs" | "proc" | "sysfs" | "mqueue" | "devpts")
    {
        data.push(("ro", None));
    }
    data.extend(asked.data.iter().copied());
    let form = Form::of(&data, field)?;
    if form == Form::String {
        flags |= flag::OPTION_STRING;
    }
    let data = file_system_options(b, &data, form, field)?;
    let kind = b.text(kind, &format!("{field}.type"))?;
    let at = b.text(target, &format!("{field}.destination"))?;
    let propagation = asked.propagation;
    b.step(field, Step::Mount { kind, target: at, data, attributes, propagation, flags });
    if asked.set_recursive | asked.clear_recursive != 0 {
        let (set, clear) = (asked.set_recursive, asked.clear_recursive);
        b.step(field, Step::Attributes { target: at, set, clear, flags: flag::ATTRIBUTES_RECURSIVE });
    }
    Ok(())
}

/// The list form that the child reads: `fNAME`, or `sNAME` and the value.
fn file_system_options(
    b: &mut Build,
    data: &[(&str, Option<&str>)],
    form: Form,
    field: &str,
) -> Result<List, Error> {
    let mut strings = Vec::with_capacity(data.len() * 2);
    for (name, value) in data {
        match value {
            Some(value) => strings.extend([format!("s{name}"), form.value(value)]),
            None => strings.push(format!("f{name}")),
        }
    }
    b.table.list(strings.iter().map(String::as_str), &format!("{field}.options"))
}

/// v1: a tmpfs with one bind per hierarchy, and links for hierarchies of several controllers. v2: the file system itself
/// where a cgroup namespace makes its root ours; else the host's is shown, since mounting it anew from the initial
/// namespace would reset the host's own mount options.
fn cgroup(
    b: &mut Build,
    target: &str,
    asked: &MountOptions<'_>,
    field: &str,
    context: &MountContext<'_>,
) -> Result<(), Error> {
    for (name, _) in &asked.data {
        b.warnings.push(format!(
            "{field}.options: {name:?} is ignored: a cgroup mount takes no options but a bind's"
        ));
    }
    let groups = &context.host.cgroups;
    let v1: Vec<_> = groups.iter().filter(|g| g.version == Version::V1).collect();
    if v1.is_empty() {
        let v2_mount =
            groups.iter().find(|g| g.version == Version::V2).map_or("/sys/fs/cgroup", |g| g.mount.as_str());
        if !context.namespaces.has(CLONE_NEWCGROUP) {
            // What is mounted on it cannot be left out there (mount_namespaces(7), locked mounts).
            let recursive = asked.recursive || context.host.in_user_namespace;
            let asked = MountOptions { data: Vec::new(), recursive, ..asked.clone() };
            return bind_step(b, v2_mount, target, &asked, field, context);
        }
        let kind = b.table.own("cgroup2");
        let at = b.text(target, field)?;
        let data = file_system_options(b, &[("source", Some("cgroup"))], Form::Single, field)?;
        let (attributes, propagation) = (asked.set, asked.propagation);
        b.step(field, Step::Mount { kind, target: at, data, attributes, propagation, flags: 0 });
        return Ok(());
    }
    let read_only = asked.set & MOUNT_ATTR_RDONLY;
    let kind = b.table.own("tmpfs");
    let at = b.text(target, field)?;
    let mut data = vec![("source", Some("tmpfs")), ("mode", Some("755"))];
    data.extend(labels::mount("tmpfs", &context.linux.mount_label));
    let data = file_system_options(b, &data, Form::Single, field)?;
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let propagation = asked.propagation;
    b.step(field, Step::Mount { kind, target: at, data, attributes, propagation, flags: 0 });
    for group in groups {
        let from = Source::Path(b.text(&group.folder(), field)?);
        let at = b.text(&format!("{target}/{}", group.name()), field)?;
        let set = asked.set | attributes;
        b.step(field, Step::Bind { from, target: at, set, clear: 0, propagation: None, flags: 0 });
    }
    for group in v1.iter().filter(|g| g.name().contains(',')) {
        let to = b.text(group.name(), field)?;
        for controller in group.name().split(',') {
            let path = b.text(format!("{target}/{controller}").trim_start_matches('/'), field)?;
            b.step(field, Step::Link { base: sampan_child::step::Base::Root, path, to });
        }
    }
    if read_only != 0 {
        b.step(field, Step::Attributes { target: at, set: read_only, clear: 0, flags: 0 });
    }
    Ok(())
}

/// Whether the target is one of the few on procfs that may be covered without lying to whoever reads it (runc's list;
/// CVE-2019-16884). Others that turn out to be on procfs are refused by the child.
fn check_proc(target: &str, kind: &str, source: Option<&str>, field: &str) -> Result<bool, Error> {
    const ALLOWED: [&str; 11] = [
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
        "/proc/net/dev",
    ];
    let field = || format!("{field}.destination");
    if target == "/proc" && kind != "proc" && !(kind == "bind" && source == Some("/proc")) {
        return Err(Error::new(field(), format!("only procfs may be mounted on /proc, not {kind}")));
    }
    if target.starts_with("/proc/") && !ALLOWED.contains(&target) {
        return Err(Error::new(
            field(),
            format!("{target} is inside /proc, where nothing may be mounted but {}", ALLOWED.join(", ")),
        ));
    }
    Ok(target == "/proc" || ALLOWED.contains(&target))
}
