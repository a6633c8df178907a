//! Id maps on mounts. The kernel takes a map as the descriptor of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).
//!
//! ```text
//!   clone into a new user namespace -> write its maps -> open /proc/PID/ns/user -> close the gate: the child ends, reaped
//! ```
//! From then on the descriptor alone keeps the namespace: nobody is in it.  This process clones the child itself, not the spawner
//! of the launch: it lives for half a millisecond, and ends with us, because our end of its gate closes.
//!
//! That child is ours and not the keel's. sampand keeps the namespace for the host's root; others are made for each launch.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, open};
use sampan_plan::host_root::nobodys;
use sampan_plan::idmap::holder;
use sampan_plan::slots::IdMap;

use crate::error::{Errno, Error, Result};
use crate::launch::maps::{self, Maps};
use crate::launch::spawn::Direct;
use crate::launch::spawn::Spawn;

/// Of the one map by which the host's own root is shown: sampand's launches share it, because making one costs as much as a
/// launch.
static HOST_ROOT: OnceLock<OwnedFd> = OnceLock::new();

/// The user namespaces of a launch's maps: mounts with the same map share one.
#[derive(Debug, Default)]
pub struct UserNamespaces(Vec<(IdMap, OwnedFd)>);

impl UserNamespaces {
    /// Maps the ids of a detached tree, before anybody sees it.
    pub fn apply(&mut self, tree: BorrowedFd<'_>, path: &str, map: &IdMap) -> Result<()> {
        let namespace = self.of(map)?.as_raw_fd();
        sampan_child::sys::set_idmap(tree.as_raw_fd(), namespace, map.recursive).map_err(|fault| {
            let errno = Errno::from_raw_os_error(fault.errno.into());
            let likely = match errno {
                Errno::INVAL => UNSUPPORTED,
                Errno::PERM => "the file system there belongs to a user namespace, or is id-mapped already",
                _ => "",
            };
            Error::new(format!("cannot map the ids of {path}"))
                .field(map.field.as_str())
                .call(fault.call.name(), errno)
                .likely(likely)
        })
    }

    fn of(&mut self, map: &IdMap) -> Result<&OwnedFd> {
        if map.is_same_map(&nobodys()) {
            return match HOST_ROOT.get() {
                Some(namespace) => Ok(namespace),
                None => make(map).map(|namespace| HOST_ROOT.get_or_init(|| namespace)),
            };
        }
        let index = match self.0.iter().position(|(known, _)| known.is_same_map(map)) {
            Some(index) => index,
            None => {
                self.0.push((map.clone(), make(map)?));
                self.0.len() - 1
            }
        };
        self.0.get(index).map(|(_, namespace)| namespace).ok_or_else(|| Error::new("no user namespace"))
    }
}

const UNSUPPORTED: &str = "the file system there, or one mounted below it, supports no id-mapped mounts on this kernel \
                           (ext4, xfs: 5.12; btrfs: 5.15; tmpfs: 6.3; overlay, proc and sysfs: none)";

/// A user namespace with this map, and nobody in it.
fn make(map: &IdMap) -> Result<OwnedFd> {
    let failed = |call, errno: Errno| {
        Error::new("cannot make the user namespace of an id map").field(map.field.as_str()).call(call, errno)
    };
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed("pipe2", e))?;
    let child = Direct.spawn(&holder(), &[read.as_fd()]).map_err(|e| {
        failed("clone3", e.errno.unwrap_or(Errno::IO)).likely("see the sysctl user.max_user_namespaces")
    })?;
    let maps = Maps { uids: &map.uids, gids: &map.gids, deny_setgroups: false, field: &map.field };
    let opened = maps::write(child.pid, &maps).and_then(|()| {
        let path = format!("/proc/{}/ns/user", child.pid);
        open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| failed("open", e))
    });
    drop(write);
    Direct.reap(&child)?;
    opened
}
