//! Plugins of this workspace, built for the tests.
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cdylib of this workspace, built by the cargo that runs the tests: once a run, whichever test comes first.
pub fn rust(package: &str, library: &str) -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = tmp.parent().unwrap();
    let stamp =
        std::fs::File::options().read(true).write(true).create(true).truncate(false).open(tmp.join(package));
    let mut stamp = stamp.unwrap();
    rustix::fs::flock(&stamp, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_default();
    let mut built_in = String::new();
    stamp.read_to_string(&mut built_in).unwrap();
    if run.is_empty() || built_in != run {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--offline", "--package", package, "--target-dir"])
            .arg(target)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .status()
            .unwrap();
        assert!(built.success(), "cargo build -p {package}");
        stamp.set_len(0).unwrap();
        stamp.rewind().unwrap();
        stamp.write_all(run.as_bytes()).unwrap();
    }
    target.join("debug").join(format!("lib{library}.so"))
}
