//! Names and passwords, from where docker and podman keep them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::documents::or_default;
use crate::error::{Error, Kind, Result};
use crate::reference::Reference;

/// docker's own name for its registry.
const DOCKER: &str = "https://index.docker.io/v1/";
/// What a helper says for "by a token".
const TOKEN: &str = "<token>";
const FILE_BYTES: u64 = 4 << 20;

#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// To be changed for an access token.
    IdentityToken(String),
}

/// Never with the secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "{user}:.."),
            Credentials::IdentityToken(_) => f.write_str("a token"),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    #[serde(deserialize_with = "or_default")]
    auths: BTreeMap<String, Auth>,
    #[serde(deserialize_with = "or_default")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FromHelper {
    username: String,
    secret: String,
}

/// Where they are looked for, in this order.
#[must_use]
pub fn files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let uid = rustix::process::geteuid().as_raw();
    let run = variable("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json"));
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or(home.as_ref().map(|home| home.join(".config")));
    let docker = variable("DOCKER_CONFIG").or(home.map(|home| home.join(".docker")));
    let run_containers = PathBuf::from(format!("/run/containers/{uid}/auth.json"));
    [
        run,
        Some(run_containers),
        config.map(|d| d.join("containers/auth.json")),
        docker.map(|d| d.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// For an image of this registry; none is no error.
pub fn find(files: &[PathBuf], host: &str, reference: &Reference) -> Result<Option<Credentials>> {
    for path in files {
        let Some(file) = read(path)? else { continue };
        // Of a registry that is asked in another's place only what is its own.
        let names = if host == reference.domain() { keys(reference) } else { vec![host.to_owned()] };
        for name in names {
            if let Some(helper) = file.cred_helpers.get(&name)
                && let Some(found) = ask(helper, &name)?
            {
                return Ok(Some(found));
            }
            if let Some(found) = file.auths.get(&name).and_then(|auth| auth.credentials()) {
                return Ok(Some(found));
            }
        }
        if !file.creds_store.is_empty() {
            let server = if host == "docker.io" { DOCKER } else { host };
            if let Some(found) = ask(&file.creds_store, server)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The most exact first: podman keeps some for a part of a registry.
fn keys(reference: &Reference) -> Vec<String> {
    let full = format!("{}/{}", reference.domain(), reference.path());
    let mut keys: Vec<String> = Vec::new();
    let mut rest = full.as_str();
    while let Some((shorter, _)) = rest.rsplit_once('/') {
        keys.push(rest.to_owned());
        rest = shorter;
    }
    keys.push(rest.to_owned());
    keys.push(format!("https://{rest}"));
    if rest == "docker.io" {
        keys.extend(["index.docker.io".to_owned(), DOCKER.to_owned()]);
    }
    keys
}

fn read(path: &Path) -> Result<Option<AuthFile>> {
    use std::io::{ErrorKind, Read};
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(Error::io("read the credentials in", path, e)),
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES)
        .read_to_end(&mut text)
        .map_err(|e| Error::io("read the credentials in", path, e))?;
    let wrong = |e| Error::new(Kind::Host, format!("cannot read the credentials in {}", path.display()), e);
    serde_json::from_slice(&text).map(Some).map_err(wrong)
}

impl Auth {
    fn credentials(&self) -> Option<Credentials> {
        if !self.identitytoken.is_empty() {
            return Some(Credentials::IdentityToken(self.identitytoken.clone()));
        }
        let text = String::from_utf8(STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        // docker once padded them.
        let (user, password) = (user.to_owned(), password.trim_end_matches('\0').to_owned());
        Some(Credentials::Password { user, password })
    }
}

/// `docker-credential-NAME get`: what it knows of this server.
fn ask(helper: &str, server: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| {
        let hint = "docker's and podman's files say which helper is asked (credHelpers, credsStore)";
        Error::new(Kind::Host, format!("cannot ask {program} for credentials"), why).hint(hint)
    };
    if helper.contains('/') {
        return Err(failed("a helper is a program of the PATH".into()));
    }
    let child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|e| failed(e.to_string()))?;
    // It may end without reading.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(server.as_bytes()));
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Ok(None); // that is how it says that it knows none
    }
    let found: FromHelper = serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))?;
    Ok(Some(match found.username == TOKEN {
        true => Credentials::IdentityToken(found.secret),
        false => Credentials::Password { user: found.username, password: found.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_entry_counts_and_a_mirror_gets_its_own_alone() {
        let folder = sampan_testkit::Folder::new();
        let path = folder.path("credentials");
        let auth = |text: &str| STANDARD.encode(text);
        let text = format!(
            r#"{{"auths": {{"a.example": {{"auth": "{}"}}, "a.example/team": {{"auth": "{}"}}, "{DOCKER}": {{"auth": "{}"}},
                "b.example": {{"identitytoken": "t"}}, "empty.example": {{}}}}, "credHelpers": null}}"#,
            auth("u:p"),
            auth("team:with:colon"),
            auth("docker:p"),
        );
        std::fs::write(&path, text).unwrap();
        let files = [PathBuf::from("/nonexistent/file"), path];
        let password = |user: &str, password: &str| {
            Some(Credentials::Password { user: user.into(), password: password.into() })
        };
        let find = |host: &str, name: &str| find(&files, host, &Reference::parse(name).unwrap()).unwrap();
        assert_eq!(find("a.example", "a.example/x"), password("u", "p"));
        assert_eq!(find("a.example", "a.example/team/x"), password("team", "with:colon"));
        assert_eq!(find("docker.io", "nginx"), password("docker", "p"));
        assert_eq!(find("b.example", "b.example/x"), Some(Credentials::IdentityToken("t".into())));
        assert_eq!(find("empty.example", "empty.example/x"), None);
        assert_eq!(find("mirror.example", "a.example/x"), None);
    }
}
