//! The programs of `observe/`, built as static ones when a test first wants them.
//!
//! One file each and std alone, so rustc can do it in a second, whatever the tests themselves are linked with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The observer's path; `folder` is where it is kept. An error says what rustc said.
pub fn observer(folder: &Path) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("SAMPAN_OBSERVER") {
        return Ok(path.into());
    }
    built("observe", include_str!("../observe/main.rs"), folder)
}

/// The walker's, which prints what the kernel lets it open.
pub fn walker(folder: &Path) -> Result<PathBuf, String> {
    built("walk", include_str!("../observe/walk.rs"), folder)
}

fn built(name: &str, source_text: &str, folder: &Path) -> Result<PathBuf, String> {
    let crate_name = name;
    let name = format!("{name}-{:016x}", sum(source_text));
    let path = folder.join(&name);
    if path.exists() {
        return Ok(path);
    }
    let say = |e: std::io::Error| format!("{}: {e}", folder.display());
    fs::create_dir_all(folder).map_err(say)?;
    let (source, built) = (
        folder.join(format!("{name}-{}.rs", std::process::id())),
        // No extension: rustc puts another in its place for what it writes on the way, and two builds would share that.
        folder.join(format!("{name}-{}", std::process::id())),
    );
    fs::write(&source, source_text).map_err(say)?;
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(rustc)
        .args([
            "--edition",
            "2024",
            "--crate-name",
            crate_name,
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .arg("-o")
        .args([&built, &source])
        .output()
        .map_err(|e| format!("rustc: {e}"))?;
    let _ = fs::remove_file(&source);
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    // Whole or not at all: another test may build it at the same time.
    fs::rename(&built, &path).map_err(say)?;
    Ok(path)
}

/// FNV-1a.
fn sum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
