//! The plans of a process that makes a mount in place of a part of the host's own root that takes no id map: of a folder an overlay,
//! as nobody; of a file a copy.

use crate::build::Build;
use crate::error::Error;
use crate::ids;
use crate::order::finish;
use crate::plan::{Parent, Plan};
use crate::slots::SlotSource;
use sampan_child::step::{Numbers, Propagation, Slot, Source, Step, user};
use sampan_child::sys::uapi::{CLONE_NEWNS, MOUNT_ATTR_RDONLY};

const FIELD: &str = "root.path";

/// The kernel's overflow uid and gid: whom no file belongs to on purpose.
const NOBODY: u32 = 65_534;

/// Its slots are the report, the folder's tree, and a socket for the overlay's mount.
pub fn overlay(path: &str) -> Result<Plan<'static>, Error> {
    let (mut build, to) = in_a_root(&[(path, LOWER)], FIELD)?;
    let b = &mut build;
    // Without a layer to write to there must be two: an empty one is the second.
    let empty = b.table.own("/empty");
    b.step(FIELD, Step::Folder { path: empty });
    let (uid, gid, groups) = (NOBODY, NOBODY, Numbers::default());
    b.step(FIELD, Step::User { uid, gid, groups, flags: user::KEEP_CAPS });
    // For mount(2) alone. It says nothing about whose files may be read.
    let (effective, permitted) = (ids::CAP_SYS_ADMIN, ids::CAP_SYS_ADMIN);
    b.step(FIELD, Step::Caps { effective, permitted, inheritable: 0 });
    let data = b.table.list(["ssource", "overlay", "slowerdir", "lower:empty"], FIELD)?;
    b.step(FIELD, Step::Overlay { data, attributes: MOUNT_ATTR_RDONLY, to });
    Ok(finish(b, Parent::default()))
}

/// The same for a file: `path` is a folder that has nothing but it, as `name`, and the mount is that of the file.
pub fn file(path: &str, name: &str) -> Result<Plan<'static>, Error> {
    let (mut build, to) = in_a_root(&[(path, LOWER)], FIELD)?;
    let path = build.table.own(&format!("/lower/{name}"));
    build.step(FIELD, Step::SendMount { path, to });
    Ok(finish(&mut build, Parent::default()))
}

const LOWER: &str = "/lower";

/// In a mount namespace and a root of its own, an empty one but for the trees of these folders, each at its place; and the socket.
pub(crate) fn in_a_root(trees: &[(&str, &str)], field: &str) -> Result<(Build, Slot), Error> {
    let mut build = Build::default();
    let b = &mut build;
    b.slot(SlotSource::Report);
    let host = Propagation::RPrivate;
    let mut binds = Vec::new();
    for (path, at) in trees {
        let tree = SlotSource::Tree {
            path: (*path).to_owned(),
            recursive: false,
            follow: true,
            propagation: host,
            idmap: None,
            field: field.to_owned(),
        };
        binds.push((Source::Tree(b.slot(tree)), b.table.own(at)));
    }
    let to = b.slot(SlotSource::Console);
    b.step(field, Step::Close { first: 0, keep: Numbers::default() });
    b.step(field, Step::Unshare { kinds: CLONE_NEWNS });
    let data = b.table.list(["smode", "0755"], field)?;
    b.step(field, Step::EmptyRoot { data, host });
    for (from, target) in binds {
        b.step(field, Step::Folder { path: target });
        b.step(field, Step::Bind { from, target, set: 0, clear: 0, propagation: None, flags: 0 });
    }
    Ok((build, to))
}
