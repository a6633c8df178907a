//! `linux.rootfsPropagation`: what the host's mounts and the container's root exchange.

use crate::error::Error;
use crate::spec::Linux;
use crate::suggest::nearest;
use sampan_child::step::Propagation;

/// linux.rootfsPropagation, as config-linux.md has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootPropagation {
    /// Of the host's mounts in the container's namespace, and so of all that is cloned from them there.
    pub host: Propagation,
    /// Of the container's root, once it is `/`; None: as it was cloned.
    pub root: Option<Propagation>,
}

impl RootPropagation {
    pub fn parse(linux: &Linux<'_>) -> Result<RootPropagation, Error> {
        use Propagation::*;
        let name = linux.rootfs_propagation.as_deref().filter(|name| !name.is_empty()).unwrap_or("rslave");
        let Some(asked) = Propagation::named(name) else {
            let known = Propagation::ALL.map(|(known, _)| known);
            let hint = nearest(name, known).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
            let problem = format!("no propagation is called {name:?}{hint}");
            return Err(Error::new("linux.rootfsPropagation", problem));
        };
        let host = match asked {
            Slave | RSlave | Shared | RShared => RSlave,
            Private | RPrivate | Unbindable | RUnbindable => RPrivate,
        };
        let root = (!matches!(asked, Slave | RSlave)).then_some(asked);
        Ok(RootPropagation { host, root })
    }

    /// A mount that asks to be shared stays a peer of the host's, as with runc.
    pub fn keeps_peers(&self) -> bool {
        self.root.is_some_and(Propagation::is_shared)
    }
}
