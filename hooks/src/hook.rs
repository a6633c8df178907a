//! What a hook is: the fields of config.json, the six kinds, and the table of what each kind means.
//! Plain data; nothing here touches the system.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

/// One entry of a `hooks.KIND` list (config.md, "POSIX-platform Hooks").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute, in the runtime's namespace.
    pub path: String,
    /// argv, with `argv[0]`. Absent: the path alone.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Absent: the runtime's own, as under crun and runc; hooks without PATH find nothing.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// In seconds, above 0. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl Hook {
    pub fn limit(&self) -> Option<Duration> {
        self.timeout.filter(|s| *s > 0).map(Duration::from_secs)
    }

    /// The program's arguments, `argv[0]` first.
    pub fn argv(&self) -> Vec<&str> {
        match self.args.is_empty() {
            true => vec![&self.path],
            false => self.args.iter().map(String::as_str).collect(),
        }
    }
}

/// The `hooks` object of config.json.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    pub fn of(&self, kind: Kind) -> &[Hook] {
        match kind {
            Kind::Prestart => &self.prestart,
            Kind::CreateRuntime => &self.create_runtime,
            Kind::CreateContainer => &self.create_container,
            Kind::StartContainer => &self.start_container,
            Kind::Poststart => &self.poststart,
            Kind::Poststop => &self.poststop,
        }
    }

    pub fn is_empty(&self) -> bool {
        Kind::ALL.iter().all(|k| self.of(*k).is_empty())
    }
}

/// Go writes `null` for a list that was never made.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(d)?.unwrap_or_default())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

/// Whose namespaces a hook runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Runtime,
    Container,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The verb fails, the container is killed and destroyed, poststop hooks run.
    Abort,
    /// Reported; the remaining hooks run and the verb goes on.
    Warn,
}

impl Kind {
    /// In the order in which they run.
    pub const ALL: [Kind; 6] = [
        Kind::Prestart,
        Kind::CreateRuntime,
        Kind::CreateContainer,
        Kind::StartContainer,
        Kind::Poststart,
        Kind::Poststop,
    ];

    /// Its key in config.json.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    pub const fn place(self) -> Place {
        self.row().1
    }

    /// The `status` of the state on its stdin.
    pub const fn status(self) -> &'static str {
        self.row().2
    }

    pub const fn on_failure(self) -> OnFailure {
        self.row().3
    }

    /// config.md "POSIX-platform Hooks" and runtime.md "Lifecycle" as a table. A failing poststart is fatal since 1.3
    /// (runtime-spec#1262).
    const fn row(self) -> (&'static str, Place, &'static str, OnFailure) {
        use OnFailure::{Abort, Warn};
        use Place::{Container, Runtime};
        match self {
            Kind::Prestart => ("prestart", Runtime, "creating", Abort),
            Kind::CreateRuntime => ("createRuntime", Runtime, "creating", Abort),
            Kind::CreateContainer => ("createContainer", Container, "creating", Abort),
            Kind::StartContainer => ("startContainer", Container, "created", Abort),
            Kind::Poststart => ("poststart", Runtime, "running", Abort),
            Kind::Poststop => ("poststop", Runtime, "stopped", Warn),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
