//! The plans of a process that makes a mount in place of a part of the host's own root that takes no id map: of a folder an overlay,
//! as nobody; of a file a copy.

use crate::build::Build;
use crate::error::Error;
use crate::ids;
use crate::order::finish;
use crate::plan::{Parent, Plan};
use crate::slots::SlotSource;
use sampan_child::step::{Numbers, Propagation, Slot, Source, Step, user};
use sampan_child::sys::uapi::CLONE_NEWNS;

const FIELD: &str = "root.path";

/// The kernel's overflow uid and gid: whom no file belongs to on purpose.
const NOBODY: u32 = 65_534;

/// Its slots are the report, the folder's tree, and a socket for the overlay's mount.
pub fn overlay(path: &str) -> Result<Plan<'static>, Error> {
    let (mut build, to) = on_lower(path)?;
    let b = &mut build;
    let (uid, gid, groups) = (NOBODY, NOBODY, Numbers::default());
    b.step(FIELD, Step::User { uid, gid, groups, flags: user::KEEP_CAPS });
    // For mount(2) alone. It says nothing about whose files may be read.
    let (effective, permitted) = (ids::CAP_SYS_ADMIN, ids::CAP_SYS_ADMIN);
    b.step(FIELD, Step::Caps { effective, permitted, inheritable: 0 });
    b.step(FIELD, Step::Overlay { to });
    Ok(finish(b, Parent::default()))
}

/// The same for a file: `path` is a folder that has nothing but it, as `name`, and the mount is that of the file.
pub fn file(path: &str, name: &str) -> Result<Plan<'static>, Error> {
    let (mut build, to) = on_lower(path)?;
    let path = build.table.own(&format!("/lower/{name}"));
    build.step(FIELD, Step::SendMount { path, to });
    Ok(finish(&mut build, Parent::default()))
}

/// In a mount namespace and a root of its own, with the tree at /lower; and the socket.
fn on_lower(path: &str) -> Result<(Build, Slot), Error> {
    let mut build = Build::default();
    let b = &mut build;
    b.slot(SlotSource::Report);
    let host = Propagation::RPrivate;
    let tree = SlotSource::Tree {
        path: path.to_owned(),
        recursive: false,
        follow: true,
        propagation: host,
        idmap: None,
        field: FIELD.to_owned(),
    };
    let from = Source::Tree(b.slot(tree));
    let to = b.slot(SlotSource::Console);
    b.step(FIELD, Step::Close { first: 0, keep: Numbers::default() });
    b.step(FIELD, Step::Unshare { kinds: CLONE_NEWNS });
    let data = b.table.list(["smode", "0755"], FIELD)?;
    b.step(FIELD, Step::EmptyRoot { data, host });
    for path in ["/lower", "/empty"] {
        let path = b.table.own(path);
        b.step(FIELD, Step::Folder { path });
    }
    let target = b.table.own("/lower");
    b.step(FIELD, Step::Bind { from, target, set: 0, clear: 0, propagation: None, flags: 0 });
    Ok((build, to))
}
