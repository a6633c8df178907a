//! Which hierarchies this machine has: v1 (a folder for each hierarchy), hybrid (those and cgroup2 at `unified`, which may
//! have controllers too) or v2.
//!
//! /sys/fs/cgroup is looked at once per process, with getdents and fstatfs, because reading /proc/self/mountinfo would
//! cost 0.14 ms of a launch. /proc is read only for a relative cgroupsPath, which needs to know our own group.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{self, CWD, FileType, Mode, OFlags};
use sampan_plan::host::Version;

use crate::cgroups_path::{CgroupsPath, clean};
use crate::error::{Doing, Errno, Error, Result};
use crate::file::{Failed, read_at};

const BASE: &str = "/sys/fs/cgroup";
const CGROUP_SUPER_MAGIC: i64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// One mounted hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    pub version: Version,
    /// Where it is mounted.
    pub mount: String,
    /// None for `name=systemd`, and for v2 on a machine where v1 has them all.
    pub controllers: Vec<String>,
    root: OwnedFd,
}

impl Hierarchy {
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The same, with another folder as its root.
    pub(crate) fn rooted(&self, mount: String, root: OwnedFd) -> Hierarchy {
        Hierarchy { version: self.version, controllers: self.controllers.clone(), mount, root }
    }

    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// All hierarchies that are mounted: those of v1 first, then v2's.
#[derive(Debug)]
pub struct Hierarchies {
    list: Vec<Hierarchy>,
}

/// Which version has which controller. Nothing else about the machine decides what is written for a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    pub v1: Vec<String>,
    pub v2: Vec<String>,
    /// A v2 hierarchy is mounted, with or without controllers.
    pub unified: bool,
}

impl Layout {
    pub fn version(&self, controller: &str) -> Option<Version> {
        if self.v1.iter().any(|c| c == controller) {
            Some(Version::V1)
        } else if self.v2.iter().any(|c| c == controller) {
            Some(Version::V2)
        } else {
            None
        }
    }
}

impl Hierarchies {
    /// As if each of these were mounted where it is: what is done to their roots is done to these folders and to none that is
    /// made later under the same name.
    pub(crate) fn of_folders(folders: impl Iterator<Item = Result<Hierarchy>>) -> Result<Hierarchies> {
        Ok(Hierarchies { list: folders.collect::<Result<_>>()? })
    }

    /// This machine's, detected once per process.
    pub fn detect() -> Result<&'static Hierarchies> {
        static FOUND: OnceLock<Hierarchies> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let found = Hierarchies::detect_at(BASE)?;
        Ok(FOUND.get_or_init(|| found))
    }

    /// The hierarchies that are mounted at `base` or in it.
    pub fn detect_at(base: &str) -> Result<Hierarchies> {
        let failed = |call, errno| Error::new(Doing::Detect, base).call(call, errno);
        let root = fs::openat(CWD, base, FOLDER, Mode::empty()).map_err(|e| failed("openat", e))?;
        if magic(&root).map_err(|e| failed("fstatfs", e))? == CGROUP2_SUPER_MAGIC {
            let list = vec![unified(root, base.to_owned())?];
            return Ok(Hierarchies { list });
        }

        let names = folders_in(&root).map_err(|(call, e)| failed(call, e))?;
        let mut list = Vec::with_capacity(names.len());
        let mut v2 = None;
        for name in names {
            let mount = format!("{base}/{name}");
            let failed = |call, errno| Error::new(Doing::Detect, mount.as_str()).call(call, errno);
            let root = match fs::openat(&root, name.as_str(), FOLDER, Mode::empty()) {
                Ok(root) => root,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(failed("openat", e)),
            };
            match magic(&root).map_err(|e| failed("fstatfs", e))? {
                CGROUP_SUPER_MAGIC => list.push(Hierarchy {
                    version: Version::V1,
                    controllers: controllers_of_folder(&name),
                    mount,
                    root,
                }),
                CGROUP2_SUPER_MAGIC if v2.is_none() => v2 = Some(unified(root, mount)?),
                _ => {} // nothing is mounted on this folder
            }
        }
        if list.is_empty() && v2.is_none() {
            let e = Error::new(Doing::Detect, base).problem("no control group file system is mounted there");
            return Err(e.likely("mount it: mount -t cgroup2 none /sys/fs/cgroup"));
        }
        list.extend(v2);
        Ok(Hierarchies { list })
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Hierarchy> {
        self.list.iter()
    }

    pub fn v2(&self) -> Option<&Hierarchy> {
        self.list.last().filter(|h| h.version == Version::V2)
    }

    /// No v1 hierarchy is mounted: this is neither a v1 nor a hybrid machine.
    pub fn is_v2_only(&self) -> bool {
        self.list.iter().all(|h| h.version == Version::V2)
    }

    pub fn layout(&self) -> Layout {
        let mut layout = Layout { unified: self.v2().is_some(), ..Layout::default() };
        for hierarchy in &self.list {
            match hierarchy.version {
                Version::V1 => layout.v1.extend_from_slice(&hierarchy.controllers),
                Version::V2 => layout.v2.extend_from_slice(&hierarchy.controllers),
            }
        }
        layout
    }

    /// The path's group in each hierarchy, in the order of [`Hierarchies::iter`], without a leading slash.
    pub fn folders(&self, path: &CgroupsPath) -> Result<Vec<String>> {
        let below = match path {
            // openat would take a path with a leading slash for one of the host's.
            CgroupsPath::Absolute(path) => return Ok(vec![clean(path)?; self.list.len()]),
            CgroupsPath::Relative(path) => clean(path)?,
        };
        let own = self.own_folders()?;
        let folder = |(h, own): (&Hierarchy, String)| {
            let parent = match h.version {
                Version::V2 if self.is_v2_only() => own.rsplit_once('/').map_or("", |(up, _)| up),
                _ => own.as_str(),
            };
            if parent.is_empty() { below.clone() } else { format!("{parent}/{below}") }
        };
        Ok(self.list.iter().zip(own).map(folder).collect())
    }

    /// To ask which processes are in this group or below it. One hierarchy is enough: each process is in every one.
    pub fn members(&self, path: &CgroupsPath) -> Result<Members<'_>> {
        let at = self.list.len().saturating_sub(1);
        let folder = self.folders(path)?.into_iter().nth(at);
        let (Some(hierarchy), Some(folder)) = (self.list.get(at), folder) else {
            return Err(Error::new(Doing::Detect, "/proc/self/mountinfo").problem("no hierarchy"));
        };
        let mounts = read("/proc/self/mountinfo")?;
        let mount_root = mount_root(&mounts, &hierarchy.mount).unwrap_or("/").to_owned();
        Ok(Members { hierarchy, mount_root, folder })
    }

    /// Our own group in each hierarchy.
    fn own_folders(&self) -> Result<Vec<String>> {
        let groups = read("/proc/self/cgroup")?;
        let mounts = read("/proc/self/mountinfo")?;
        let folder = |h: &Hierarchy| {
            let path = own_group(&groups, h).unwrap_or("/");
            below_mount(path, mount_root(&mounts, &h.mount).unwrap_or("/")).to_owned()
        };
        Ok(self.list.iter().map(folder).collect())
    }
}

/// Whose processes are those of one group and of the groups below it.
#[derive(Debug)]
pub struct Members<'h> {
    hierarchy: &'h Hierarchy,
    mount_root: String,
    folder: String,
}

impl Members<'_> {
    /// By what its /proc/PID/cgroup says.
    pub fn has(&self, groups: &str) -> bool {
        let path = own_group(groups, self.hierarchy).map(|path| below_mount(path, &self.mount_root));
        let below = path.and_then(|path| path.strip_prefix(self.folder.as_str()));
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }
}

/// Sorted names.
fn folders_in(root: &OwnedFd) -> std::result::Result<Vec<String>, Failed> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listing = fs::openat(root, ".", flags, Mode::empty()).map_err(|e| ("openat", e))?;
    let mut names = Vec::new();
    for entry in fs::Dir::new(listing).map_err(|e| ("getdents64", e))? {
        let entry = entry.map_err(|e| ("getdents64", e))?;
        let name = entry.file_name().to_str().unwrap_or_default();
        // A link (`cpu` -> `cpu,cpuacct`) is another name of a folder that is listed itself.
        if entry.file_type() == FileType::Directory && !name.starts_with('.') {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn unified(root: OwnedFd, mount: String) -> Result<Hierarchy> {
    let path = format!("{mount}/cgroup.controllers");
    let text = match read_at(root.as_fd(), "cgroup.controllers") {
        Ok(text) => text,
        Err((call, errno)) => return Err(Error::new(Doing::Detect, path).call(call, errno)),
    };
    let controllers = text.split_ascii_whitespace().map(str::to_owned).collect();
    Ok(Hierarchy { version: Version::V2, mount, controllers, root })
}

fn magic(fd: &OwnedFd) -> rustix::io::Result<i64> {
    #[allow(clippy::unnecessary_cast)] // f_type's width differs by architecture
    fs::fstatfs(fd).map(|s| s.f_type as i64)
}

/// `cpu,cpuacct` -> both. A folder that is not named for a controller (systemd, elogind) is a named hierarchy.
fn controllers_of_folder(name: &str) -> Vec<String> {
    const KNOWN: [&str; 14] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
        "rdma",
        "misc",
    ];
    name.split(',').filter(|c| KNOWN.contains(c)).map(str::to_owned).collect()
}

/// The path after the second colon of `4:memory:/x` or, for v2, `0::/x`.
fn own_group<'t>(groups: &'t str, hierarchy: &Hierarchy) -> Option<&'t str> {
    let folder = hierarchy.mount.rsplit('/').next().unwrap_or_default();
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match hierarchy.version {
            Version::V2 => number == "0" && names.is_empty(),
            Version::V1 if hierarchy.controllers.is_empty() => names.strip_prefix("name=") == Some(folder),
            Version::V1 => names.split(',').any(|n| hierarchy.has(n)),
        };
        ours.then_some(path)
    })
}

/// Field 4 of the last mountinfo line for this mount point.
fn mount_root<'t>(mounts: &'t str, mount: &str) -> Option<&'t str> {
    mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let root = fields.next()?;
        (fields.next()? == mount).then_some(root)
    })
}

/// In a nested container the mount shows only a part of the tree, while /proc/self/cgroup has the whole path.
fn below_mount<'t>(path: &'t str, root: &str) -> &'t str {
    let rest = match path.strip_prefix(root.trim_end_matches('/')) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    };
    rest.trim_matches('/')
}

fn read(path: &str) -> Result<String> {
    read_at(CWD, path).map_err(|(call, errno)| Error::new(Doing::Detect, path).call(call, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(version: Version, mount: &str, controllers: &[&str]) -> Hierarchy {
        let root = fs::openat(CWD, "/", FOLDER, Mode::empty()).unwrap();
        let controllers = controllers.iter().map(|c| c.to_string()).collect();
        Hierarchy { version, mount: mount.to_owned(), controllers, root }
    }

    #[test]
    fn each_hierarchy_has_its_line() {
        let text = "9:name=systemd:/s\n4:memory:/m:with:colons\n2:cpu,cpuacct:/c\n0::/u\n";
        let own =
            |version, mount, controllers: &[&str]| own_group(text, &hierarchy(version, mount, controllers));
        assert_eq!(own(Version::V1, "/sys/fs/cgroup/systemd", &[]), Some("/s"));
        assert_eq!(own(Version::V1, "/sys/fs/cgroup/memory", &["memory"]), Some("/m:with:colons"));
        assert_eq!(own(Version::V1, "/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"]), Some("/c"));
        assert_eq!(own(Version::V2, "/sys/fs/cgroup/unified", &["hugetlb"]), Some("/u"));
        assert_eq!(own(Version::V1, "/sys/fs/cgroup/pids", &["pids"]), None);
    }

    #[test]
    fn a_group_has_the_processes_of_those_below_it() {
        let members = Members {
            hierarchy: &hierarchy(Version::V2, "/sys/fs/cgroup", &[]),
            mount_root: "/docker/abc".into(),
            folder: "sampan/web".into(),
        };
        for (groups, has) in [
            ("0::/docker/abc/sampan/web\n", true),
            ("4:memory:/x\n0::/docker/abc/sampan/web/init.scope\n", true),
            ("0::/docker/abc/sampan/web2\n", false),
            ("0::/docker/abc/sampan/evil/sampan/web\n", false),
            ("4:memory:/docker/abc/sampan/web\n0::/\n", false),
            ("0::/docker/abc/sampan\n", false),
            ("", false),
        ] {
            assert_eq!(members.has(groups), has, "{groups}");
        }
    }

    #[test]
    fn a_nested_container_sees_a_part_of_the_tree() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(mount_root(mounts, "/sys/fs/cgroup/memory"), Some("/docker/abc"));
        assert_eq!(mount_root(mounts, "/sys/fs/cgroup/pids"), None);
        assert_eq!(below_mount("/docker/abc/x", "/docker/abc"), "x");
        assert_eq!(below_mount("/docker/abc", "/docker/abc"), "");
        assert_eq!(below_mount("/docker/abcd", "/docker/abc"), "docker/abcd");
        assert_eq!(below_mount("/x/y", "/"), "x/y");
    }

    #[test]
    fn folders_name_their_controllers() {
        assert_eq!(controllers_of_folder("cpu,cpuacct"), ["cpu", "cpuacct"]);
        assert_eq!(controllers_of_folder("systemd"), [""; 0]);
    }
}
