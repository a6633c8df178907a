//! `sockets`: what is opened before a service and handed to it.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One of `sockets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Socket {
    pub listen: Listen,
    /// In LISTEN_FDNAMES.
    pub name: String,
}

/// Where connections or datagrams come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "tcp:{address}"),
            Listen::Udp(address) => write!(f, "udp:{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text says no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoListen {
    Kind,
    Address(AddrParseError),
    Port,
}

impl FromStr for Listen {
    type Err = NoListen;

    fn from_str(text: &str) -> Result<Listen, NoListen> {
        let address = |text: &str| match text.parse::<SocketAddr>() {
            // Another port at each start would be nobody's to find.
            Ok(address) if address.port() == 0 => Err(NoListen::Port),
            other => other.map_err(NoListen::Address),
        };
        match text.split_once(':') {
            Some(("tcp", rest)) => address(rest).map(Listen::Tcp),
            Some(("udp", rest)) => address(rest).map(Listen::Udp),
            Some(("unix", path)) => Ok(Listen::Unix(path.into())),
            _ => Err(NoListen::Kind),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Listen, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is no socket")))
    }
}
