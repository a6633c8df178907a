//! Compiles src/program.rs by itself: a program without libc, whatever else this build is for.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/program.rs");
    let var = |name: &str| std::env::var_os(name).unwrap_or_default();
    let out = PathBuf::from(var("OUT_DIR")).join("init");
    let mut rustc = Command::new(var("RUSTC"));
    rustc.arg("--target").arg(var("TARGET")).arg("-o").arg(&out).arg("src/program.rs");
    rustc.args(["--crate-name", "sampan_init", "--crate-type", "bin", "--edition", "2024"]);
    rustc.args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "-Crelocation-model=static"]);
    if var("CARGO_CFG_TARGET_ENV") == "musl" {
        // rustc would add libc's start to it.
        rustc.arg("-Clink-self-contained=no");
    }
    // Nothing unwinds.
    rustc.arg("-Cforce-unwind-tables=no");
    rustc.args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"]);
    rustc.args(["-Clink-arg=-Wl,--build-id=none", "-Clink-arg=-Wl,-z,noexecstack"]);
    // As cargo does, where it builds for another machine.
    if let Some(linker) = std::env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("-Clinker=");
        flag.push(linker);
        rustc.arg(flag);
    }
    match rustc.status() {
        Ok(status) if status.success() => {}
        other => panic!("cannot compile src/program.rs: {other:?}"),
    }
}
