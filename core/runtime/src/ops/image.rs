//! `sampan run --image`: what `sampan-image` says of an image. It alone knows the store and asks registries.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use super::{Error, Result, doing};
use crate::kernel::argv;

const PROGRAM: &str = "sampan-image";
/// Its exit code for "there is no such image".
const NOT_FOUND: i32 = 3;

/// What a container is made of.
#[derive(Debug, Deserialize)]
pub struct Image {
    /// The lowest first.
    pub layers: Vec<String>,
    pub config: Config,
    pub user: Ids,
}

#[derive(Debug, Deserialize)]
pub struct Config {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
}

#[derive(Debug, Deserialize)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl Image {
    /// As it is in the store; pulled if it is not there.
    pub fn find(name: &str) -> Result<Image> {
        let mut found = ask("inspect", name, Stdio::piped())?;
        if found.status.code() == Some(NOT_FOUND) {
            // How far it is, for whoever waits.
            let pulled = ask("pull", name, Stdio::inherit())?;
            if !pulled.status.success() {
                return Err(Error::new(format!(
                    "--image {name}: it is not here, and {PROGRAM} cannot pull it"
                )));
            }
            found = ask("inspect", name, Stdio::piped())?;
        }
        if !found.status.success() {
            let said = String::from_utf8_lossy(&found.stderr);
            let said = said.trim().trim_start_matches("sampan-image: ");
            return Err(Error::new(format!("--image {name}: {said}")));
        }
        let image: Image = serde_json::from_slice(&found.stdout).map_err(|e| {
            Error::new(format!("--image {name}: cannot understand {PROGRAM}: {e}; is it of this version?"))
        })?;
        if image.layers.is_empty() {
            return Err(Error::new(format!(
                "--image {name}: it is not whole; `{PROGRAM} pull {name}` gets what is missing"
            )));
        }
        Ok(image)
    }

    /// What runs: the words given come in the place of the image's own, behind its entrypoint, as with docker.
    pub fn program(&self, given: &[String]) -> Vec<String> {
        let words = if given.is_empty() { &self.config.cmd[..] } else { given };
        self.config.entrypoint.iter().chain(words).cloned().collect()
    }
}

fn ask(verb: &str, name: &str, stderr: Stdio) -> Result<Output> {
    let mut command = Command::new(program());
    command.args([verb, "--", name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(doing(format!("--image: cannot start {PROGRAM}")))
}

/// That of our own installation, if we were started by a path, else the PATH's. What runs is a sealed copy of us, which has no
/// place (kernel/seal.rs).
fn program() -> PathBuf {
    let called =
        argv::words().into_iter().next().map(PathBuf::from).filter(|path| path.components().count() > 1);
    let ours = called.map(|path| path.with_file_name(PROGRAM));
    ours.filter(|path| path.is_file()).unwrap_or_else(|| PROGRAM.into())
}
