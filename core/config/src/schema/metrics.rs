//! `supervisor.metrics`: an address, or the path of a socket.
use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsAt {
    Address(SocketAddr),
    /// A Unix socket at this path.
    Socket(PathBuf),
}

impl Display for MetricsAt {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAt::Address(address) => address.fmt(f),
            MetricsAt::Socket(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for MetricsAt {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
