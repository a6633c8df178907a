//! The names of `linux.sysctl`: where each is below /proc/sys, and which namespace holds it.

use crate::spec::Spec;
use sampan_child::sys::uapi::*;

/// Its field in the config.
pub fn field(key: &str) -> String {
    format!("linux.sysctl[{key:?}]")
}

/// Below /proc/sys. The first separator decides; with dots, a slash stands for a dot in a name (eth0/1).
pub fn path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes().get(at) == Some(&b'/') => key.to_owned(),
        _ => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    }
}

/// Whose a sysctl is, if it is a namespace's at all.
pub fn namespace_of(path: &str, spec: &Spec<'_>) -> Option<(u32, &'static str)> {
    match path {
        "kernel/domainname" => return Some((CLONE_NEWUTS, "a uts")),
        "kernel/hostname" => return spec.hostname.is_none().then_some((CLONE_NEWUTS, "a uts")),
        _ => {}
    }
    let (first, rest) = path.split_once('/')?;
    match first {
        "net" => Some((CLONE_NEWNET, "a network")),
        "user" => Some((CLONE_NEWUSER, "a user")),
        "fs" => rest.starts_with("mqueue/").then_some((CLONE_NEWIPC, "an ipc")),
        "kernel" => {
            ["msg", "sem", "shm"].iter().any(|p| rest.starts_with(p)).then_some((CLONE_NEWIPC, "an ipc"))
        }
        _ => None,
    }
}
