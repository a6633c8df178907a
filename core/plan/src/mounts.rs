//! config.json's mounts: options become attributes, propagation and what the file system itself is told.
//!
//! Each mount is one step of the child, in the order of the config.  A bind changes exactly the flags that its
//! options name, set or cleared; everything else stays as the source has it.

use crate::build::Build;
use crate::error::Error;
use crate::host::{Cgroup, Host, Version};
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
use sampan_child::step::{Base, List, Propagation, Source, Step, Text, mount as flag};
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

    fn sysfs_is_somebody_elses(&self) -> bool {
        self.namespaces.sysfs_is_somebody_elses(self.host.joined_users.as_ref())
    }

    /// The path as the container sees it; none for the root itself, and none where all of the host is the root.
    fn below_root(&self, path: &str) -> Option<String> {
        let root = clean(self.root);
        let below =
            clean(path).strip_prefix(root.as_str()).filter(|below| below.starts_with('/'))?.to_owned();
        self.host.root.is_none().then_some(below)
    }
}

/// One entry of the config's mounts, on its way to steps.
pub struct MountBuilder<'m, 'c> {
    context: &'m MountContext<'c>,
    entry: &'m Mount<'m>,
    /// `mounts[3]`
    field: String,
    target: String,
    asked: MountOptions<'m>,
    bind: bool,
}

impl<'m, 'c> MountBuilder<'m, 'c> {
    pub fn new(
        entry: &'m Mount<'m>,
        index: usize,
        context: &'m MountContext<'c>,
    ) -> Result<MountBuilder<'m, 'c>, Error> {
        let field = format!("mounts[{index}]");
        if entry.destination.is_empty() {
            return Err(Error::new(format!("{field}.destination"), "must not be empty"));
        }
        let target = clean(&entry.destination);
        let mut asked = options(entry.options.iter().map(|o| o.as_str()), &field)?;
        let kind = entry.kind.as_deref().unwrap_or_default();
        let bind = asked.bind || kind == "bind" || kind == "rbind";
        asked.recursive |= bind && kind == "rbind";
        asked.idmap = idmap::of_mount(entry, asked.ids, bind, context.users, context.host, &field)?;
        if defence::on(Defence::ProcMountsChecked) {
            let kind = if bind { "bind" } else { kind };
            asked.on_proc = check_proc(&target, kind, entry.source.as_deref(), &field)?;
        }
        if target == "/" {
            return Err(Error::new(
                format!("{field}.destination"),
                "\"/\" is the root itself: see root.path",
            ));
        }
        Ok(MountBuilder { context, entry, field, target, asked, bind })
    }

    /// The entry's steps. `join_groups`: the child's, before the first mount that needs to know its groups.
    pub fn steps(
        mut self,
        b: &mut Build,
        made: &mut MountOutcome,
        join_groups: &mut dyn FnMut(&mut Build),
    ) -> Result<(), Error> {
        let source = self.entry.source.as_deref().filter(|s| !s.is_empty());
        if self.bind {
            let source = source.ok_or_else(|| self.error("source", "a bind needs a source"))?;
            if self.target == "/dev" {
                made.dev = Dev::Bound;
            }
            return self.bind(b, &from_bundle(source, &self.context.options.bundle));
        }
        match self.entry.kind.as_deref().unwrap_or_default() {
            "" => Err(self.error("type", "is missing, and the options do not say bind")),
            "cgroup" | "cgroup2" => {
                join_groups(b);
                self.cgroup(b)
            }
            "sysfs" if self.context.sysfs_is_somebody_elses() => {
                // It belongs to the owner of the network namespace: EPERM here, so the host's is shown.
                self.asked.recursive = true;
                self.bind(b, "/sys")
            }
            kind => {
                self.asked.data.extend(labels::mount(kind, &self.context.linux.mount_label));
                if self.asked.copy_up {
                    // What is copied counts as the container's memory.
                    join_groups(b);
                }
                self.file_system(b, kind, source, made)
            }
        }
    }

    fn error(&self, key: &str, problem: &str) -> Error {
        Error::new(format!("{}.{key}", self.field), problem)
    }

    fn on_proc(&self) -> u32 {
        if self.asked.on_proc { flag::ON_PROC } else { 0 }
    }

    fn at(&self, b: &mut Build) -> Result<Text, Error> {
        b.text(&self.target, &format!("{}.destination", self.field))
    }

    fn bind(&self, b: &mut Build, source: &str) -> Result<(), Error> {
        let MountOptions { recursive, propagation, set, clear, .. } = self.asked;
        let part = Part {
            path: source,
            recursive,
            follow: !self.asked.source_nofollow,
            propagation,
            idmap: self.asked.idmap.as_ref(),
            field: &format!("{}.source", self.field),
        };
        let from = self.context.source(b, part)?;
        let target = self.at(b)?;
        let mut flags = self.on_proc() | if recursive { flag::RECURSIVE } else { 0 };
        if self.asked.source_nofollow {
            flags |= flag::NO_FOLLOW_SOURCE;
        }
        if self.changes_all() && set | clear == 0 {
            let (set, clear) = (self.asked.set_recursive, self.asked.clear_recursive);
            flags |= flag::ATTRIBUTES_RECURSIVE;
            b.step(&self.field, Step::Bind { from, target, set, clear, propagation, flags });
            return Ok(());
        }
        b.step(&self.field, Step::Bind { from, target, set, clear, propagation, flags });
        self.change_all(b, target);
        Ok(())
    }

    /// The options name attributes of the mounts below it too.
    fn changes_all(&self) -> bool {
        self.asked.set_recursive | self.asked.clear_recursive != 0
    }

    fn change_all(&self, b: &mut Build, target: Text) {
        if self.changes_all() {
            let (set, clear) = (self.asked.set_recursive, self.asked.clear_recursive);
            let flags = flag::ATTRIBUTES_RECURSIVE;
            b.step(&self.field, Step::Attributes { target, set, clear, flags });
        }
    }

    fn file_system(
        &self,
        b: &mut Build,
        kind: &str,
        source: Option<&str>,
        made: &mut MountOutcome,
    ) -> Result<(), Error> {
        let is_dev = self.target == "/dev";
        let mut flags = self.file_system_flags(kind)?;
        let mut attributes = self.asked.set;
        if is_dev {
            made.dev = Dev::Mounted;
        }
        if (is_dev || self.asked.copy_up) && attributes & MOUNT_ATTR_RDONLY != 0 {
            attributes &= !MOUNT_ATTR_RDONLY;
            made.read_only_later.push((self.target.clone(), self.field.clone()));
        }
        let mut data: Vec<(&str, Option<&str>)> = Vec::with_capacity(self.asked.data.len() + 2);
        data.extend(source.map(|source| ("source", Some(source))));
        // A file system on a device must know; for those of the kernel's own the mount's flag says it all.
        if attributes & MOUNT_ATTR_RDONLY != 0
            && !matches!(kind, "tmpfs" | "proc" | "sysfs" | "mqueue" | "devpts")
        {
            data.push(("ro", None));
        }
        data.extend(self.asked.data.iter().copied());
        let form = Form::of(&data, &self.field)?;
        if form == Form::String {
            flags |= flag::OPTION_STRING;
        }
        let data = file_system_options(b, &data, form, &self.field)?;
        let kind = b.text(kind, &format!("{}.type", self.field))?;
        let target = self.at(b)?;
        let propagation = self.asked.propagation;
        b.step(&self.field, Step::Mount { kind, target, data, attributes, propagation, flags });
        self.change_all(b, target);
        Ok(())
    }

    fn file_system_flags(&self, kind: &str) -> Result<u32, Error> {
        let mut flags = self.on_proc();
        if self.target == "/dev" {
            flags |= flag::IS_DEV;
        }
        if matches!(kind, "proc" | "sysfs") {
            flags |= flag::NO_SYMLINKS;
        }
        if self.asked.copy_up {
            if kind != "tmpfs" {
                return Err(self.error("options", "\"tmpcopyup\" is for tmpfs alone"));
            }
            flags |= flag::COPY_UP;
        }
        if kind == "tmpfs" && !self.asked.data.iter().any(|(name, _)| *name == "mode") {
            flags |= flag::COVERED_MODE;
        }
        Ok(flags)
    }

    fn cgroup(mut self, b: &mut Build) -> Result<(), Error> {
        for (name, _) in &self.asked.data {
            b.warnings.push(format!(
                "{}.options: {name:?} is ignored: a cgroup mount takes no options but a bind's",
                self.field
            ));
        }
        let groups = &self.context.host.cgroups;
        if groups.iter().any(|g| g.version == Version::V1) {
            return self.cgroup_v1(b, groups);
        }
        if self.context.namespaces.has(CLONE_NEWCGROUP) {
            return self.cgroup_v2(b);
        }
        // What is mounted on it cannot be left out there (mount_namespaces(7), locked mounts).
        self.asked.recursive |= self.context.host.in_user_namespace;
        let mounted = groups.iter().find(|g| g.version == Version::V2);
        self.bind(b, mounted.map_or("/sys/fs/cgroup", |g| g.mount.as_str()))
    }

    /// The file system itself where a cgroup namespace makes its root ours; else the host's is shown, since mounting it anew
    /// from the initial namespace would reset the host's own mount options.
    fn cgroup_v2(&self, b: &mut Build) -> Result<(), Error> {
        let kind = b.table.own("cgroup2");
        let target = b.text(&self.target, &self.field)?;
        let data = file_system_options(b, &[("source", Some("cgroup"))], Form::Single, &self.field)?;
        let (attributes, propagation) = (self.asked.set, self.asked.propagation);
        b.step(&self.field, Step::Mount { kind, target, data, attributes, propagation, flags: 0 });
        Ok(())
    }

    /// A tmpfs with one bind per hierarchy, and links for hierarchies of several controllers.
    fn cgroup_v1(&self, b: &mut Build, groups: &[Cgroup]) -> Result<(), Error> {
        let (field, propagation) = (self.field.as_str(), self.asked.propagation);
        let kind = b.table.own("tmpfs");
        let at = b.text(&self.target, field)?;
        let mut data = vec![("source", Some("tmpfs")), ("mode", Some("755"))];
        data.extend(labels::mount("tmpfs", &self.context.linux.mount_label));
        let data = file_system_options(b, &data, Form::Single, field)?;
        let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        b.step(field, Step::Mount { kind, target: at, data, attributes, propagation, flags: 0 });
        for group in groups {
            let from = Source::Path(b.text(&group.folder(), field)?);
            let target = b.text(&format!("{}/{}", self.target, group.name()), field)?;
            // What all of them have is set by one call, at the end.
            let set = self.asked.set & !(attributes | MOUNT_ATTR_RDONLY);
            let flags = flag::IS_FOLDER;
            b.step(field, Step::Bind { from, target, set, clear: 0, propagation: None, flags });
        }
        for group in groups.iter().filter(|g| g.version == Version::V1 && g.name().contains(',')) {
            let to = b.text(group.name(), field)?;
            for controller in group.name().split(',') {
                let path = format!("{}/{controller}", self.target);
                let path = b.text(path.trim_start_matches('/'), field)?;
                b.step(field, Step::Link { base: Base::Root, path, to });
            }
        }
        let set = attributes | self.asked.set & MOUNT_ATTR_RDONLY;
        let flags = flag::ATTRIBUTES_RECURSIVE;
        b.step(field, Step::Attributes { target: at, set, clear: 0, flags });
        Ok(())
    }
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
