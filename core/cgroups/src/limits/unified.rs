//! `linux.resources.unified`: files of the v2 group by their own names.

use sampan_plan::host::Version;

use super::{IfMissing, Limits, Write};
use crate::detect::Layout;
use crate::error::{Doing, Error, Result};

pub(super) fn limit(file: &str, value: &str, layout: &Layout, limits: &mut Limits) -> Result<()> {
    let field = format!("linux.resources.unified[{file:?}]");
    let refuse = |doing, problem: &str| Err(Error::new(doing, file).field(field.clone()).problem(problem));
    if file.is_empty() || file.contains('/') || file.contains('\0') {
        return refuse(Doing::Value, "the key must be the name of one file of the group");
    }
    if matches!(file, "cgroup.procs" | "cgroup.threads" | "cgroup.kill" | "cgroup.freeze") {
        return refuse(Doing::Value, "that file moves, ends or stops processes; it is no resource");
    }
    if !layout.unified {
        return refuse(Doing::Unavailable, "no cgroup2 hierarchy is mounted");
    }
    let controller = file.split('.').next().unwrap_or_default();
    if layout.version(controller) == Some(Version::V1) {
        let problem = format!("on this machine the {controller} controller is on cgroups v1");
        return refuse(Doing::Unavailable, &problem);
    }
    // A file of a controller that we do not know is written too: new kernels have new ones. One write per line, because a
    // write to a file with a line per device sets one device.
    for line in value.lines().filter(|l| !l.is_empty()) {
        limits.writes.push(Write {
            version: Version::V2,
            controller: controller.to_owned().into(),
            file: file.to_owned().into(),
            value: line.to_owned(),
            field: field.clone(),
            if_missing: IfMissing::Refuse,
        });
    }
    Ok(())
}
