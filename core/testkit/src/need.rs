//! What a test needs of its machine.

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

/// Is this capability in our effective set?
pub fn has_cap(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap_or("0").trim();
    u64::from_str_radix(bits, 16).unwrap_or(0) >> number & 1 == 1
}
