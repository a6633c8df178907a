//! A process of the host as a plan: OCI hooks, probes and lifecycle commands that the supervisor starts.
//!
//! No namespace, no root, no mount: just a short image, so that whoever clones has one way to start anything.
//!
//! Whoever clones the container starts its hooks too, `sampan` itself or the keel. So a hook outlives its worker with its pipe, its
//! deadline and its exit code, and the next worker waits for it (docs/hooks.md).

use crate::build::Build;
use crate::error::Error;
use crate::order::finish;
use crate::plan::{Parent, Plan};
use crate::process::PATH;
use crate::slots::SlotSource;
use sampan_child::step::{Filter, Numbers, Step};

/// What to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostProcess<'a> {
    /// The program's file; empty: `argv[0]`, which without a slash is looked for in PATH.
    pub program: &'a str,
    /// All of it, `argv[0]` too.
    pub argv: Vec<&'a str>,
    /// The whole environment, `NAME=VALUE` each.
    pub env: Vec<&'a str>,
    /// Where it starts; empty: `/`.
    pub cwd: &'a str,
    /// User and group, where they are not ours; its other groups are dropped then.
    pub user: Option<(u32, u32)>,
    /// None: that of whoever clones.
    pub umask: Option<u32>,
    /// All that it starts ends with it, in whatever group or session that is. What is cloned is then its overseer.
    pub overseen: bool,
}

/// The plan. Its slots are stdin, stdout and stderr, and the report.
pub fn host<'a>(p: &HostProcess<'a>) -> Result<Plan<'a>, Error> {
    let first = p.argv.first().copied().unwrap_or_default();
    let name = if p.program.is_empty() { first } else { p.program };
    if name.is_empty() {
        return Err(Error::new("argv", "must name a program"));
    }
    let b = &mut Build::default();
    b.slot(SlotSource::Report);
    b.step("", Step::Close { first: 3, keep: Numbers::default() });
    b.step("", Step::Signals {});
    if p.overseen {
        // Out of reach of our terminal, and of a hook that signals its own group.
        b.step("", Step::ProcessGroup {});
        b.step("", Step::Oversee {});
        b.step("", Step::Signals {});
    }
    // No session: under runc and crun hooks lead none either.
    b.step("", Step::ProcessGroup {});
    for to in 0..3 {
        let from = b.slot(SlotSource::Stdio(to));
        b.step("", Step::Stdio { from, to });
    }
    if let Some(mask) = p.umask {
        b.step("", Step::Umask { mask });
    }
    if let Some((uid, gid)) = p.user {
        let groups = Numbers::default();
        b.step("user", Step::User { uid, gid, groups, flags: 0 });
    }
    let path = b.text(if p.cwd.is_empty() { "/" } else { p.cwd }, "cwd")?;
    b.step("cwd", Step::Chdir { path });
    b.step("", Step::CloseOnExec { first: 3 });
    let in_env = p.env.iter().rev().find_map(|v| v.strip_prefix("PATH="));
    let candidates: Vec<String> = match name.contains('/') {
        true => vec![name.to_owned()],
        false => in_env.unwrap_or(PATH).split(':').map(|dir| format!("{dir}/{name}")).collect(),
    };
    let candidates = b.table.list(candidates.iter().map(String::as_str), "argv[0]")?;
    let argv = b.table.list(p.argv.iter().copied(), "argv")?;
    let env = b.table.list(p.env.iter().copied(), "env")?;
    b.step("argv[0]", Step::Find { candidates });
    b.step("argv", Step::Exec { argv, env, filter: Filter::default() });
    Ok(finish(b, Parent { program: Some(name), ..Parent::default() }))
}
