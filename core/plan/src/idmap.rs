//! Id maps of mounts: whom the owner of a file is shown as (config.md, Mounts: uidMappings, gidMappings; mount_setattr(2)).
//!
//! A line of such a map reads like one of a user namespace: `containerID` is the owner on disk, `hostID` the host's id that
//! he becomes on this mount.  An owner without a line is nobody's: his files show as 65534, and neither root nor a capability
//! has a say over them.

use crate::build::Build;
use crate::error::Error;
use crate::host::Host;
use crate::slots::{Gate, IdMap, SlotSource};
use crate::spec::{IdMapping, Mount, Spec};
use sampan_child::step::{Numbers, Step};
use sampan_child::sys::uapi::CLONE_NEWUSER;

/// Of config.json, which has no field for it: the root shows the files of the host's root as those of the container's, through
/// the map of its user namespace. A root of layers does so unasked.
pub const ROOT_ANNOTATION: &str = "org.sampan.rootfs.idmap";
pub const USERS: &str = "users";

/// What the options of a mount say of its ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdMapOption {
    #[default]
    Nothing,
    /// `idmap`: this mount alone.
    One,
    /// `ridmap`: the mounts below it too.
    Recursive,
}

/// The map that a mount asks for: its own, or with `idmap` and `ridmap` alone that of the container's user namespace.
/// The refusals are runc's, word by word.
pub fn of_mount(
    m: &Mount<'_>,
    asked: IdMapOption,
    bind: bool,
    users: (&[IdMapping], &[IdMapping]),
    host: &Host,
    field: &str,
) -> Result<Option<IdMap>, Error> {
    let own = !(m.uid_mappings.is_empty() && m.gid_mappings.is_empty());
    if !own && asked == IdMapOption::Nothing {
        return Ok(None);
    }
    let (uids, gids) = match own {
        true => (m.uid_mappings.as_slice(), m.gid_mappings.as_slice()),
        false => users,
    };
    let refused = |problem| Err(Error::new(field, problem));
    if !bind {
        return refused("id-mapped mounts are only supported for bind-mounts");
    }
    if !host.privileged || host.in_user_namespace {
        return refused(
            "id-mapped mounts are not supported for rootless containers: the kernel leaves them to the host's root",
        );
    }
    if uids.is_empty() || gids.is_empty() {
        return refused("id-mapped mounts must have both uid and gid mappings specified");
    }
    Ok(Some(IdMap {
        uids: uids.to_vec(),
        gids: gids.to_vec(),
        recursive: asked == IdMapOption::Recursive,
        field: field.to_owned(),
    }))
}

/// The map that the root asks for.
pub fn of_root(
    spec: &Spec<'_>,
    users: (&[IdMapping], &[IdMapping]),
    recursive: bool,
    host: &Host,
) -> Result<Option<IdMap>, Error> {
    let Some((_, value)) = spec.annotations.iter().find(|(key, _)| key.as_str() == ROOT_ANNOTATION) else {
        return Ok(None);
    };
    let field = format!("annotations[{ROOT_ANNOTATION:?}]");
    if value.as_str() != USERS {
        return Err(Error::new(field, format!("{:?} is not {USERS:?}", value.as_str())));
    }
    if !host.privileged || host.in_user_namespace {
        return Err(Error::new(field, "the kernel leaves id-mapped mounts to the host's root"));
    }
    let (uids, gids) = (users.0.to_vec(), users.1.to_vec());
    if uids.is_empty() || gids.is_empty() {
        return Err(Error::new(
            field,
            "needs a user namespace, and both linux.uidMappings and linux.gidMappings",
        ));
    }
    Ok(Some(IdMap { uids, gids, recursive, field }))
}

/// The image of a process that is born in a new user namespace and waits there: whoever cloned it writes the map, takes the
/// namespace by /proc/PID/ns/user, and closes the gate, at which the process ends.  Its one slot is the gate.
pub fn holder() -> Vec<u8> {
    let b = &mut Build { clone_flags: CLONE_NEWUSER.into(), ..Build::default() };
    let from = b.slot(SlotSource::Gate(Gate::Maps));
    b.step("", Step::Close { first: 0, keep: Numbers::default() });
    b.step("", Step::Wait { from });
    b.image()
}
