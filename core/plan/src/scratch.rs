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

/// The annotation that asks, and the one value that it may have.
pub const ANNOTATION: &str = "org.sampan.rootfs.mode";
pub const SCRATCH: &str = "scratch";

/// Whether the config asks for it. What a bundle says in `root.readonly` is not said a second time here.
pub fn asked(spec: &Spec<'_>) -> Result<bool, Error> {
    let Some((_, value)) = spec.annotations.iter().find(|(key, _)| key.as_str() == ANNOTATION) else {
        return Ok(false);
    };
    let field = format!("annotations[{ANNOTATION:?}]");
    match value.as_str() {
        SCRATCH if spec.root.as_ref().is_some_and(|r| r.readonly) => Err(Error::new(
            "root.readonly",
            format!("conflicts with {ANNOTATION} = {SCRATCH:?}: must be false"),
        )),
        SCRATCH => Ok(true),
        "ro" | "rw" => {
            Err(Error::new(field, format!("must be {SCRATCH:?}: for the rest there is root.readonly")))
        }
        other => {
            let hint = nearest(other, [SCRATCH]).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
            Err(Error::new(field, format!("{other:?} is not {SCRATCH:?}, the one value there is{hint}")))
        }
    }
}

/// In place of the step that takes the root as it is.
pub fn root(b: &mut Build, from: Source, at: Text, host: Propagation, new_user: bool) -> Result<(), Error> {
    // Reached by nobody but through the overlay, which asks for the rights of what lies below.
    let data = b.table.list(["smode", "0700"], "root.path")?;
    let flags = if new_user { flag::USER_XATTR } else { 0 };
    b.step("root.path", Step::Scratch { from, at, host, data, flags });
    Ok(())
}
