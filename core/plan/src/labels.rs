//! What security modules call the process and its files: AppArmor's profile, SELinux's labels.
//!
//! The kernel judges them. A profile that is not loaded and a module that is not on are errors of the step, since a container
//! must not run less confined than its config says.

use crate::build::Build;
use crate::error::Error;
use crate::spec::{Process, Str};
use sampan_child::step::Step;

fn given<'s>(label: &'s Option<Str<'_>>) -> Option<&'s str> {
    label.as_deref().filter(|label| !label.is_empty())
}

/// They hold from the next execve on, so hooks that are to run without them come before. Also before no_new_privs, under
/// which a confined process may only narrow its profile, and while the /proc that we see is the host's.
pub fn process(b: &mut Build, p: &Process<'_>, new_keyring: bool) -> Result<(), Error> {
    if let Some(profile) = given(&p.apparmor_profile) {
        let field = "process.apparmorProfile";
        let command = b.text(&format!("exec {profile}"), field)?;
        // Without AppArmor nothing is confined.
        let may_be_off = u32::from(profile == "unconfined");
        b.step(field, Step::AppArmor { command, may_be_off });
    }
    let Some(label) = given(&p.selinux_label) else { return Ok(()) };
    selinux(b, "exec", label)?;
    // With the label of its maker, which is ours, the process could not use its keyring.
    if new_keyring { selinux(b, "keycreate", label) } else { Ok(()) }
}

fn selinux(b: &mut Build, attribute: &str, label: &str) -> Result<(), Error> {
    let field = "process.selinuxLabel";
    let (attribute, label) = (b.table.own(&format!("thread-self/attr/{attribute}")), b.text(label, field)?);
    b.step(field, Step::Selinux { attribute, label });
    Ok(())
}

/// The label of all files of a new file system, as its option. Those of the kernel's own views have fixed ones.
pub fn mount<'l>(kind: &str, label: &'l Option<Str<'_>>) -> Option<(&'static str, Option<&'l str>)> {
    let takes = !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup2");
    given(label).filter(|_| takes).map(|label| ("context", Some(label)))
}
