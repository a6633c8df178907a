//! A root that may be written to and keeps nothing: overlayfs with a tmpfs on top.
//!
//! config.json has no field for it, so an annotation asks: the bundle stays the only hand-over.  Writes are charged to
//! the container's own memory limit; the tmpfs has the kernel's default size, half of the machine's memory.
//!
//! It replaces one step of the plan by another. Its layers are named from a working directory (`lower`, `upper`, `work` in the
//! tmpfs), so nothing needs escaping and the container's mountinfo shows no path of the host.

use crate::build::Build;
use crate::error::Error;
use crate::spec::Spec;
use crate::suggest::nearest;
use sampan_child::step::{Propagation, Source, Step, Text, scratch as flag};

/// The annotation that asks, and the values that it may have.
pub const ANNOTATION: &str = "org.sampan.rootfs.mode";
pub const SCRATCH: &str = "scratch";
pub const RO: &str = "ro";

/// How the root is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootMode {
    /// As `root.readonly` says, which every runtime means alike: what is missing for mounts is made, and then it is read-only.
    AsSpecified,
    /// `ro`: read-only before anything is mounted in it, so that a launch makes nothing there either.
    NeverWritten,
    Scratch,
}

/// What the config asks for.
pub fn asked(spec: &Spec<'_>) -> Result<RootMode, Error> {
    let Some((_, value)) = spec.annotations.iter().find(|(key, _)| key.as_str() == ANNOTATION) else {
        return Ok(RootMode::AsSpecified);
    };
    let field = format!("annotations[{ANNOTATION:?}]");
    let (mode, readonly) = match value.as_str() {
        SCRATCH => (RootMode::Scratch, false),
        RO => (RootMode::NeverWritten, true),
        "rw" => return Err(Error::new(field, "is not needed for a writable root: root.readonly = false")),
        other => {
            let hint =
                nearest(other, [SCRATCH, RO]).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
            return Err(Error::new(field, format!("{other:?} is neither {SCRATCH:?} nor {RO:?}{hint}")));
        }
    };
    if spec.root.as_ref().is_some_and(|root| root.readonly != readonly) {
        let why = format!("conflicts with {ANNOTATION} = {:?}: must be {readonly}", value.as_str());
        return Err(Error::new("root.readonly", why));
    }
    Ok(mode)
}

/// In place of the step that takes the root as it is.
pub fn root(b: &mut Build, from: Source, at: Text, host: Propagation, new_user: bool) -> Result<(), Error> {
    // Reached by nobody but through the overlay, which asks for the rights of what lies below.
    let data = b.table.list(["smode", "0700"], "root.path")?;
    let flags = if new_user { flag::USER_XATTR } else { 0 };
    b.step("root.path", Step::Scratch { from, at, host, data, flags });
    Ok(())
}
