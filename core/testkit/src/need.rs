//! What a test needs of its machine.

use crate::World;

/// Says why the test does not run, and whether it may.
pub fn need(what: &str, there: bool) -> bool {
    if !there {
        eprintln!("SKIPPED: needs {what}");
    }
    there
}

/// Effective uid 0, with CAP_SYS_ADMIN: namespaces, mounts, cgroups.
pub fn root() -> bool {
    need("root with CAP_SYS_ADMIN", nix::unistd::geteuid().is_root() && has_cap(21))
}

/// Busybox, linked statically: a container's whole user space.
pub fn busybox() -> bool {
    need(
        "/bin/busybox, statically linked (apt-get install busybox-static)",
        std::path::Path::new(crate::bundle::BUSYBOX).exists(),
    )
}

/// A program in PATH.
pub fn program(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    need(&format!("{name} (apt-get install {name})"), found)
}

/// For what only a container without a user namespace can do.
pub fn no_user_namespace() -> bool {
    need("a world without a user namespace", !World::asked().is_some_and(|world| world.user_namespace))
}

/// Programs in PATH; `packages` is what brings them.
pub fn programs(names: &[&str], packages: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&paths).any(|folder| folder.join(name).is_file());
    names.iter().all(|name| need(&format!("{name} (apt-get install {packages})"), found(name)))
}

/// Is this capability in our effective set?
pub fn has_cap(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap_or("0").trim();
    u64::from_str_radix(bits, 16).unwrap_or(0) >> number & 1 == 1
}
