//! The root around the mounts: devices, masked and read-only paths, sysctls.

use crate::build::Build;
use crate::error::Error;
use crate::host::{Host, HostRoot};
use crate::idmap;
use crate::layers::Layers;
use crate::mounts::{Dev, MountContext, MountOutcome, Part};
use crate::namespaces::Namespaces;
use crate::path::clean;
use crate::scratch::{self, RootMode};
use crate::spec::{Device, Linux, Spec, Str};
use crate::sysctl;
use sampan_child::step::{Base, Source, Step, Text, mount as flag};
use sampan_child::sys::uapi::*;
use std::collections::BTreeSet;

/// config-linux.md, "Default Devices".
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// One node to make.
struct Node {
    path: String,
    mode: u32,
    major: u32,
    minor: u32,
    uid: u32,
    gid: u32,
    field: String,
}

/// The root of a bundle, as it is, read-only from here on, or with a tmpfs on top; attached at `at`, a path of the host.
pub fn root(
    b: &mut Build,
    path: &str,
    at: &str,
    mode: RootMode,
    layers: Option<Layers>,
    spec: &Spec<'_>,
    context: &MountContext<'_>,
) -> Result<(), Error> {
    let mode = layers.as_ref().map_or(mode, |layers| layers.mode(mode));
    // overlayfs looks past what is mounted below.
    let (recursive, field) = (mode != RootMode::Scratch, "root.path");
    let idmap = match layers {
        Some(_) => None,
        None => idmap::of_root(spec, context.users, recursive, context.host)?,
    };
    let part = Part { path, recursive, follow: true, propagation: None, idmap: idmap.as_ref(), field };
    let (host, own_users) = (context.propagation.host, context.namespaces.own_users());
    let from = match layers {
        Some(layers) => {
            let users = (&context.linux.uid_mappings[..], &context.linux.gid_mappings[..]);
            Source::Tree(b.slot(layers.slot(users, own_users, context.host)?))
        }
        None => context.source(b, part)?,
    };
    let at = b.text(at, field)?;
    if mode == RootMode::Scratch {
        return scratch::root(b, from, at, host, own_users);
    }
    b.step(field, Step::Root { from, at, host });
    if mode == RootMode::NeverWritten {
        read_only(b);
    }
    Ok(())
}

pub fn read_only(b: &mut Build) {
    b.step("root.readonly", Step::RootAttributes { set: MOUNT_ATTR_RDONLY });
}

/// Device nodes and the links beside them. On a /dev that is a bind there is nothing of ours to make but what the
/// config names. In a user namespace mknod is EPERM: the host's nodes are bound instead.
pub fn devices(
    b: &mut Build,
    linux: &Linux<'_>,
    namespaces: &Namespaces,
    made: &MountOutcome,
    host: &Host,
) -> Result<(), Error> {
    let mut nodes = Vec::new();
    for (index, device) in linux.devices.iter().enumerate() {
        nodes.push(node(device, format!("linux.devices[{index}]"))?);
    }
    if made.dev != Dev::Bound {
        for (path, major, minor) in DEFAULT {
            if !nodes.iter().any(|n| n.path == path) {
                let (mode, field) = (S_IFCHR | 0o666, String::new());
                nodes.push(Node { path: path.to_owned(), mode, major, minor, uid: 0, gid: 0, field });
            }
        }
    }
    if made.dev != Dev::Mounted {
        b.step("", Step::OpenDev {});
    }
    for n in &nodes {
        if namespaces.own_users() || host.in_user_namespace {
            let path = b.text(&n.path, &n.field)?;
            let flags = flag::IS_DEVICE;
            // Read-only: the files are the host's own, and an id map may make root inside their owner.
            let set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
            let from = Source::Path(path);
            b.step(&n.field, Step::Bind { from, target: path, set, clear: 0, propagation: None, flags });
            continue;
        }
        let (base, below) = split(&n.path);
        let path = b.text(below, &n.field)?;
        let device = n.minor & 0xff | (n.major & 0xfff) << 8 | (n.minor & !0xff) << 12;
        b.step(&n.field, Step::Node { base, path, mode: n.mode, device, uid: n.uid, gid: n.gid });
    }
    if made.dev == Dev::Bound {
        return Ok(());
    }
    let mut links = vec![
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    if host.kcore {
        links.push(("core", "/proc/kcore"));
    }
    for (path, to) in links {
        let (path, to) = (b.table.own(path), b.table.own(to));
        b.step("", Step::Link { base: Base::Dev, path, to });
    }
    Ok(())
}

fn split(path: &str) -> (Base, &str) {
    match path.strip_prefix("/dev/") {
        Some(below) => (Base::Dev, below),
        None => (Base::Root, path.trim_start_matches('/')),
    }
}

fn node(d: &Device<'_>, field: String) -> Result<Node, Error> {
    let kind = match d.kind.as_str() {
        "c" | "u" => S_IFCHR,
        "b" => S_IFBLK,
        "p" => S_IFIFO,
        other => {
            return Err(Error::new(
                format!("{field}.type"),
                format!("{other:?} is none of \"c\", \"b\", \"u\", \"p\""),
            ));
        }
    };
    if !d.path.starts_with('/') {
        return Err(Error::new(
            format!("{field}.path"),
            format!("{:?} is not an absolute path", d.path.as_str()),
        ));
    }
    let number = |value: Option<i64>, name: &str, max: i64| match value {
        _ if kind == S_IFIFO => Ok(0),
        Some(n) if (0..=max).contains(&n) => Ok(n as u32),
        Some(n) => Err(Error::new(format!("{field}.{name}"), format!("{n} is not from 0 to {max}"))),
        None => Err(Error::new(format!("{field}.{name}"), "is missing")),
    };
    let (major, minor) = (number(d.major, "major", 0xfff)?, number(d.minor, "minor", 0xfffff)?);
    // runc takes the type bits too, if they are there.
    let mode = kind | d.file_mode.unwrap_or(0o666) & 0o7777;
    Ok(Node {
        path: clean(&d.path),
        mode,
        major,
        minor,
        uid: d.uid.unwrap_or(0),
        gid: d.gid.unwrap_or(0),
        field,
    })
}

/// Paths are looked up inside the root, a relative one from its top, as in runc; one that is not there is no error. One that
/// is named twice is masked once.
pub fn masks(b: &mut Build, linux: &Linux<'_>, shown: Option<&HostRoot>) -> Result<(), Error> {
    each_once(b, "linux.maskedPaths", &linux.masked_paths, |path| Step::Mask { path })?;
    let is_new = |path: &&String| !linux.masked_paths.iter().any(|masked| masked.as_str() == path.as_str());
    for path in shown.iter().flat_map(|root| &root.closed).filter(is_new) {
        let path = b.text(path, "root.path")?;
        b.step("root.path", Step::Mask { path });
    }
    each_once(b, "linux.readonlyPaths", &linux.readonly_paths, |path| Step::ReadOnly { path })
}

fn each_once(b: &mut Build, list: &str, paths: &[Str<'_>], step: impl Fn(Text) -> Step) -> Result<(), Error> {
    let mut done = BTreeSet::new();
    for (index, path) in paths.iter().enumerate() {
        let field = format!("{list}[{index}]");
        if path.is_empty() {
            return Err(Error::new(field, "must not be empty"));
        }
        let path = clean(&format!("/{}", path.as_str()));
        let text = b.text(&path, &field)?;
        if done.insert(path) {
            b.step(field, step(text));
        }
    }
    Ok(())
}

/// Only what a namespace of the container's own holds: anything else would change the host.
pub fn sysctls(b: &mut Build, spec: &Spec<'_>, namespaces: &Namespaces) -> Result<(), Error> {
    for (key, value) in &spec.linux.sysctl {
        let (field, path) = (sysctl::field(key), sysctl::path(key));
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::new(field, "is not a name below /proc/sys"));
        }
        let (kind, owner) = sysctl::namespace_of(&path, spec)
            .ok_or_else(|| Error::new(&field, "belongs to no namespace, so setting it would change the host"))
            .map_err(|e| match path.as_str() {
                "kernel/hostname" => Error::new(&field, "conflicts with hostname: set that alone"),
                _ => e,
            })?;
        if !namespaces.has(kind) {
            let problem =
                format!("needs {owner} namespace of its own in linux.namespaces: it would change the host");
            return Err(Error::new(field, problem));
        }
        let path = b.text(&format!("sys/{path}"), &field)?;
        let value = b.text(value, &field)?;
        b.step(field, Step::Sysctl { path, value });
    }
    Ok(())
}
