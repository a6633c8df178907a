//! What services share: volumes, secrets, networks.
use serde::{Deserialize, Serialize};

/// A named volume, or a folder in the place where they are. Its size is for whoever asks to find out: it may be of any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Volume {
    pub name: String,
    pub path: String,
    /// `config`: of `[volumes]`; `image`: the image of a service names it; `left`: neither, any more.
    pub kind: String,
    /// Those that have it, whether they run or not.
    pub services: Vec<String>,
}

/// A secret of `[secrets]`: where it comes from, never what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Secret {
    pub name: String,
    /// `file`, `environment` or `command`.
    pub kind: String,
    /// The file's path, the variable's name, or the program's path without its arguments.
    pub from: String,
    /// Those that have it.
    pub services: Vec<String>,
}

/// A network of `[networks]`, and what the network plugin says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Network {
    pub name: String,
    pub internal: bool,
    /// Somebody is in it, so it is there.
    pub up: bool,
    /// The interface of the host.
    pub bridge: Option<String>,
    /// As `10.144.0.0/20`; none where nobody has been in it yet.
    pub subnet: Option<String>,
    pub gateway: Option<String>,
    pub ipv6_prefix: Option<String>,
    /// Services that the config puts there.
    pub services: Vec<String>,
    /// Services that are there now.
    pub members: Vec<Member>,
}

/// A service in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Member {
    pub service: String,
    /// As the service sees it.
    pub interface: String,
    pub address: Option<String>,
    pub ipv6_address: Option<String>,
    pub mac: Option<String>,
}
