//! `security.userns`: whose ids a container's users have on the host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whether a container has users of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNamespace {
    /// Those of the host.
    None,
    /// A range of /etc/subuid and /etc/subgid.
    Auto,
    #[serde(untagged)]
    Maps(IdMaps),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    pub uid_map: Vec<IdRange>,
    pub gid_map: Vec<IdRange>,
}

/// `"INSIDE:HOST:SIZE"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub inside: u32,
    pub host: u32,
    pub size: u32,
}

impl IdRange {
    /// The host's id of one inside.
    pub fn to_host(self, inside: u32) -> Option<u32> {
        let n = inside.checked_sub(self.inside).filter(|n| *n < self.size)?;
        self.host.checked_add(n)
    }
}

impl IdMaps {
    /// The host's ids.
    pub fn uid(&self, inside: u32) -> Option<u32> {
        self.uid_map.iter().find_map(|range| range.to_host(inside))
    }

    pub fn gid(&self, inside: u32) -> Option<u32> {
        self.gid_map.iter().find_map(|range| range.to_host(inside))
    }
}

impl FromStr for IdRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<IdRange, &'static str> {
        let parts: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        let Some([inside, host, size]) = parts.as_deref() else { return Err("not three numbers") };
        let (inside, host, size) = (*inside, *host, *size);
        // 4294967295 is no id.
        let fits = |first: u32| u64::from(first) + u64::from(size) <= u64::from(u32::MAX);
        match size {
            0 => Err("a range of no ids"),
            _ if !(fits(inside) && fits(host)) => Err("it goes beyond 4294967294, the last id"),
            _ => Ok(IdRange { inside, host, size }),
        }
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.inside, self.host, self.size)
    }
}

impl Serialize for IdRange {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IdRange {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<IdRange, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
