//! The entry point of `sampan` (src/entry.rs): x86_64 with glibc; anything else starts with libc as every program does.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(sampan_entry)");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    let known = is("CARGO_CFG_TARGET_OS", "linux")
        && (is("CARGO_CFG_TARGET_ENV", "gnu") || is("CARGO_CFG_TARGET_ENV", "musl"));
    if known && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-cfg=sampan_entry");
        println!("cargo::rustc-link-arg-bin=sampan=-Wl,-e,sampan_entry");
    }
}
