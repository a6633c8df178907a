//! An image's config: the facts that a bundle is made of where a service says nothing itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::documents::{Platform, or_default, parse};
use crate::error::{Error, Result};

/// What the image wants to be run as. Empty where it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`, `uid:gid`: names are of the image's own /etc/passwd.
    pub user: String,
    pub working_dir: String,
    pub stop_signal: String,
    pub healthcheck: Option<Healthcheck>,
    pub labels: BTreeMap<String, String>,
    /// Absolute paths, sorted.
    pub volumes: Vec<String>,
    /// `80/tcp`, sorted.
    pub exposed_ports: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", program, ..]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// In nanoseconds; 0: the default of whoever runs it.
    pub interval: u64,
    pub timeout: u64,
    pub start_period: u64,
    pub start_interval: u64,
    pub retries: u32,
}

/// The document: platform, layers, and the config in it.
#[derive(Debug, Clone)]
pub struct ConfigDocument {
    pub platform: Platform,
    pub created: String,
    /// Of the unpacked layers, lowest first.
    pub diff_ids: Vec<Digest>,
    pub config: ImageConfig,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    variant: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    created: String,
    #[serde(default, deserialize_with = "or_default")]
    config: RawConfig,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "list")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "list")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "or_default")]
    stop_signal: String,
    healthcheck: Option<RawHealthcheck>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawHealthcheck {
    #[serde(deserialize_with = "or_default")]
    test: Vec<String>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

/// A list of words; old images have one word by itself.
fn list<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Words>::deserialize(d)? {
        None => Vec::new(),
        Some(Words::One(word)) => vec![word],
        Some(Words::Many(words)) => words,
    })
}

impl ConfigDocument {
    pub fn parse(bytes: &[u8]) -> Result<ConfigDocument> {
        let raw: Raw = parse(bytes, "the image's config")?;
        let c = raw.config;
        let positive = |n: i64| u64::try_from(n).unwrap_or(0);
        let healthcheck = c.healthcheck.filter(|h| !h.test.is_empty()).map(|h| Healthcheck {
            test: h.test,
            interval: positive(h.interval),
            timeout: positive(h.timeout),
            start_period: positive(h.start_period),
            start_interval: positive(h.start_interval),
            retries: h.retries.try_into().unwrap_or(0),
        });
        let config = ImageConfig {
            entrypoint: c.entrypoint,
            cmd: c.cmd,
            env: c.env,
            user: c.user,
            working_dir: c.working_dir,
            stop_signal: c.stop_signal,
            healthcheck,
            labels: c.labels,
            volumes: c.volumes.into_keys().collect(),
            exposed_ports: c.exposed_ports.into_keys().collect(),
        };
        config.check()?;
        let platform = Platform { architecture: raw.architecture, os: raw.os, variant: raw.variant };
        Ok(ConfigDocument { platform, created: raw.created, diff_ids: raw.rootfs.diff_ids, config })
    }
}

impl ImageConfig {
    /// What the kernel could not take, or what no program could be given.
    fn check(&self) -> Result<()> {
        let wrong = |field: &str, why: &str| {
            Err(Error::bad("cannot use the image's config", format!("{field}: {why}")))
        };
        let lists = [("Entrypoint", &self.entrypoint), ("Cmd", &self.cmd), ("Env", &self.env)];
        for (field, words) in lists {
            if words.iter().any(|word| word.contains('\0')) {
                return wrong(field, "a word with a NUL in it");
            }
        }
        if self.env.iter().any(|v| !v.contains('=') || v.starts_with('=')) {
            return wrong("Env", "each must be NAME=value");
        }
        if !self.working_dir.is_empty() && !is_absolute(&self.working_dir) {
            return wrong("WorkingDir", "it must be an absolute path");
        }
        if let Some(volume) = self.volumes.iter().find(|v| !is_absolute(v)) {
            return wrong("Volumes", &format!("{volume:?} must be an absolute path without .."));
        }
        // Without a path its folder would have a name that is another's, of [volumes].
        if let Some(volume) = self.volumes.iter().find(|v| Path::new(v) == Path::new("/")) {
            return wrong("Volumes", &format!("{volume:?} is all of the container's root"));
        }
        Ok(())
    }

    /// The words that run: entrypoint and cmd. A service's own words come in their places.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_writes_is_read() {
        let text = br#"{"architecture":"amd64","os":"linux","created":null,"config":{"Entrypoint":null,"Cmd":"sh","Env":["PATH=/bin"],
            "User":"web","Labels":null,"Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT",
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000,"Retries":3}},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let document = ConfigDocument::parse(text).unwrap();
        let c = document.config;
        assert_eq!((c.command(), c.user.as_str()), (vec!["sh".to_owned()], "web"));
        assert_eq!((c.volumes, c.exposed_ports), (vec!["/data".into()], vec!["80/tcp".into()]));
        assert_eq!(c.healthcheck.map(|h| (h.interval, h.retries)), Some((5_000_000_000, 3)));
        assert!(document.diff_ids.is_empty());
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        for (config, why) in [
            (r#"{"Env":["PATH"]}"#, "NAME=value"),
            (r#"{"Cmd":["a\u0000b"]}"#, "NUL"),
            (r#"{"WorkingDir":"etc"}"#, "absolute"),
            (r#"{"Volumes":{"/a/../b":{}}}"#, "without .."),
            (r#"{"Volumes":{"/":{}}}"#, "all of the container's root"),
            (r#"{"Volumes":{"/.//":{}}}"#, "all of the container's root"),
        ] {
            let text = format!(r#"{{"config":{config},"rootfs":{{"diff_ids":[]}}}}"#);
            let said = ConfigDocument::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(why), "{config}: {said}");
        }
        assert!(ConfigDocument::parse(b"{}").unwrap_err().to_string().contains("rootfs"));
    }
}
