//! docker's and podman's form of a profile, made an OCI one; and docker's default profile, from which sampand starts.
//!
//! The form is the OCI one plus `archMap` in place of `architectures` and, per rule, what must or must not be so
//! (`includes`, `excludes`) of the capabilities in the bounding set, the native architecture and the kernel. A plain
//! OCI profile comes out as it went in. A misspelt field is an error here: it must not become an empty profile.

use super::arch::Arch;
use crate::error::Error;
use crate::spec::{Seccomp, SeccompArg, SeccompRule, Str};
use serde::{Deserialize, Deserializer};

/// github.com/moby/profiles, seccomp/default.json, as it is there.
const DEFAULT: &str = include_str!("docker-default.json");

/// What rules may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// `CAP_CHOWN` and so on: what the process can ever have.
    pub bounding: &'f [Str<'f>],
    /// Major and minor version.
    pub kernel: (u32, u32),
    pub native: Arch,
}

/// docker's default profile.
pub fn default_profile(facts: &Facts<'_>) -> Result<Seccomp<'static>, Error> {
    profile(DEFAULT, facts)
}

/// Reads a profile of either form.
pub fn profile<'a>(text: &'a str, facts: &Facts<'_>) -> Result<Seccomp<'a>, Error> {
    let form: Form<'a> = serde_json::from_str(text).map_err(|plain| Error::new("profile", plain))?;
    if !form.architectures.is_empty() && !form.arch_map.is_empty() {
        return Err(Error::new("archMap", "both architectures and archMap are given; write one"));
    }
    let mut architectures = form.architectures;
    for entry in form.arch_map.into_iter().filter(|e| e.architecture.as_str() == facts.native.name()) {
        architectures.push(entry.architecture);
        architectures.extend(entry.sub_architectures);
    }
    if form.default_errno.is_some() && form.default_errno_ret.is_none() {
        return Err(Error::new("defaultErrno", "is a name; write defaultErrnoRet and the number"));
    }
    let mut syscalls = Vec::new();
    for (index, rule) in form.syscalls.into_iter().enumerate() {
        let field = |leaf: &str| format!("syscalls[{index}].{leaf}");
        if rule.errno.is_some() && rule.errno_ret.is_none() {
            return Err(Error::new(field("errno"), "is a name; write errnoRet and the number"));
        }
        if rule.name.is_some() && !rule.names.is_empty() {
            return Err(Error::new(field("name"), "both name and names are given; write one"));
        }
        let included = rule.includes.all(facts, &field("includes"))?;
        let excluded = rule.excludes.any(facts, &field("excludes"))?;
        if included && !excluded {
            syscalls.push(SeccompRule {
                names: rule.name.into_iter().chain(rule.names).collect(),
                action: rule.action,
                errno_ret: rule.errno_ret,
                args: rule.args,
            });
        }
    }
    Ok(Seccomp {
        default_action: form.default_action,
        default_errno_ret: form.default_errno_ret,
        architectures,
        flags: form.flags,
        listener_path: form.listener_path,
        listener_metadata: form.listener_metadata,
        syscalls,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Form<'a> {
    default_action: Str<'a>,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    /// podman's, beside the number.
    #[serde(default)]
    default_errno: Option<Str<'a>>,
    #[serde(default, deserialize_with = "nullable")]
    architectures: Vec<Str<'a>>,
    #[serde(default, deserialize_with = "nullable")]
    arch_map: Vec<ArchMap<'a>>,
    #[serde(default)]
    flags: Option<Vec<Str<'a>>>,
    #[serde(default)]
    listener_path: Option<Str<'a>>,
    #[serde(default)]
    listener_metadata: Option<Str<'a>>,
    #[serde(default, deserialize_with = "nullable")]
    syscalls: Vec<Rule<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct ArchMap<'a> {
    architecture: Str<'a>,
    #[serde(default, deserialize_with = "nullable")]
    sub_architectures: Vec<Str<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Rule<'a> {
    #[serde(default)]
    name: Option<Str<'a>>,
    #[serde(default, deserialize_with = "nullable")]
    names: Vec<Str<'a>>,
    action: Str<'a>,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    errno: Option<Str<'a>>,
    #[serde(default, deserialize_with = "nullable")]
    args: Vec<SeccompArg<'a>>,
    #[serde(default, rename = "comment")]
    _comment: serde::de::IgnoredAny,
    #[serde(default, deserialize_with = "nullable")]
    includes: When<'a>,
    #[serde(default, deserialize_with = "nullable")]
    excludes: When<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct When<'a> {
    #[serde(deserialize_with = "nullable")]
    caps: Vec<Str<'a>>,
    #[serde(deserialize_with = "nullable")]
    arches: Vec<Str<'a>>,
    min_kernel: Option<Str<'a>>,
}

impl When<'_> {
    /// Every capability, one of the architectures, and the kernel.
    fn all(&self, facts: &Facts<'_>, field: &str) -> Result<bool, Error> {
        let caps = self.caps.iter().all(|c| facts.bounding.contains(c));
        let arch = self.arches.is_empty() || self.arches.iter().any(|a| a.as_str() == facts.native.go());
        Ok(caps && arch && self.kernel(facts, field)?.unwrap_or(true))
    }

    fn any(&self, facts: &Facts<'_>, field: &str) -> Result<bool, Error> {
        let caps = self.caps.iter().any(|c| facts.bounding.contains(c));
        let arch = self.arches.iter().any(|a| a.as_str() == facts.native.go());
        Ok(caps || arch || self.kernel(facts, field)?.unwrap_or(false))
    }

    /// Whether the kernel is as new as asked.
    fn kernel(&self, facts: &Facts<'_>, field: &str) -> Result<Option<bool>, Error> {
        let Some(text) = &self.min_kernel else { return Ok(None) };
        let parts = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let min: (u32, u32) = parts
            .ok_or_else(|| Error::new(format!("{field}.minKernel"), format!("{text:?} is not as \"4.8\"")))?;
        Ok(Some(facts.kernel >= min))
    }
}

/// `null` is the same as absent.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}
