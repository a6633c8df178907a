//! An image as `docker save` writes it, of folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// Writes `NAME.tar` into `folder`: each of `layers` is a folder, the lowest first.
pub fn archive(folder: &Path, name: &str, config: &Value, layers: &[&Path]) -> io::Result<PathBuf> {
    let work = folder.join(format!("{name}.image"));
    fs::create_dir_all(&work)?;
    let mut names = Vec::new();
    let mut diff_ids = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        let file = format!("layer{n}.tar");
        let mut tar = Command::new("tar");
        tar.args(["--sparse", "--xattrs", "--xattrs-include=*", "-C"])
            .arg(layer)
            .arg("-cf")
            .arg(work.join(&file))
            .arg(".");
        output(&mut tar)?;
        let sum = output(Command::new("sha256sum").arg(work.join(&file)))?;
        diff_ids.push(format!("sha256:{}", sum.split(' ').next().unwrap_or_default()));
        names.push(file);
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let document = json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    fs::write(work.join("config.json"), document.to_string())?;
    let tag = format!("{name}:latest");
    let manifest = json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": names }]);
    fs::write(work.join("manifest.json"), manifest.to_string())?;
    let archive = folder.join(format!("{name}.tar"));
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&work).arg("-cf").arg(&archive).args(["manifest.json", "config.json"]).args(&names);
    output(&mut tar)?;
    fs::remove_dir_all(&work)?;
    Ok(archive)
}

fn output(command: &mut Command) -> io::Result<String> {
    let done = command.output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        return Err(io::Error::other(format!("{command:?}: {said}")));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
