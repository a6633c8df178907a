//! Who may do what on the control socket: by the uid and the groups of the caller, as the kernel has them of the moment when it
//! connected.
use crate::fence;
use crate::one_off::client::Connected;
use crate::request::Connection;
use axum::http::Method;
use sampan_config::schema::{Group, Supervisor};
use std::sync::Arc;
use tokio::net::UnixStream;

/// `supervisor.admin_group` and `read_group`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Groups {
    admin: Option<u32>,
    read: Option<u32>,
}

impl From<&Supervisor> for Groups {
    fn from(config: &Supervisor) -> Groups {
        let gid = |group: &Option<Group>| group.as_ref().map(|group| group.gid);
        Groups { admin: gid(&config.admin_group), read: gid(&config.read_group) }
    }
}

impl Groups {
    /// Each once, in order.
    pub fn all(self) -> Vec<u32> {
        let mut all: Vec<u32> = self.admin.into_iter().chain(self.read).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// What a caller may do: each may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    Nothing,
    Look,
    Command,
    /// Any program, as any user and with all that a service may: it is to command the host.
    Run,
}

/// What a request asks for. The config shows what the environment of services holds, which may be passwords. A path is compared as the
/// router does it: no other spelling, with a `%`, leads there.
pub fn needed(method: &Method, path: &str) -> Right {
    match *method {
        Method::GET if path != "/v1/config" => Right::Look,
        Method::POST if path.starts_with("/v1/services/") && path.ends_with("/run") => Right::Run,
        _ => Right::Command,
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// None: the kernel did not say.
    uid: Option<u32>,
    /// None where we do not see it.
    pub process: Option<Connected>,
    /// Its own and the supplementary ones.
    groups: Vec<u32>,
    connection: Connection,
}

impl Peer {
    pub fn of(socket: &UnixStream) -> Peer {
        let connection = Connection::default();
        let Ok(cred) = socket.peer_cred() else {
            return Peer { uid: None, process: None, groups: Vec::new(), connection };
        };
        let mut groups = fence::peer_groups(socket).unwrap_or_else(|error| {
            tracing::warn!(uid = cred.uid(), "cannot learn a caller's supplementary groups: {error}");
            Vec::new()
        });
        groups.push(cred.gid());
        let process = cred
            .pid()
            .filter(|pid| *pid > 0)
            .map(|pid| Connected { pid, pidfd: fence::peer_pidfd(socket).map(Arc::new) });
        Peer { uid: Some(cred.uid()), process, groups, connection }
    }

    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    pub fn right(&self, groups: Groups) -> Right {
        let own = rustix::process::geteuid().as_raw();
        let is_in = |group: Option<u32>| group.is_some_and(|group| self.groups.contains(&group));
        match self.uid {
            None => Right::Nothing,
            Some(uid) if uid == 0 || uid == own => Right::Run,
            Some(_) if is_in(groups.admin) => Right::Command,
            Some(_) if is_in(groups.read) => Right::Look,
            Some(_) => Right::Nothing,
        }
    }
}
