//! The program: argv, environment, where it is looked for, and its working directory.

use crate::build::Build;
use crate::error::Error;
use crate::path::clean;
use crate::plan::Options;
use crate::slots::SlotSource;
use crate::spec::{Mount, Process};
use sampan_child::step::{Filter, List, Step, console, cwd};
use std::collections::BTreeMap;

/// Where a program is looked for when the container's environment has no PATH.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Compiled, so that the order of the steps stays in one place.
#[derive(Debug)]
pub struct Program {
    argv: List,
    pub env: List,
    candidates: List,
    has_home: bool,
}

pub fn program(b: &mut Build, process: &Process<'_>) -> Result<Program, Error> {
    let Some(name) = process.args.first().map(|a| a.as_str()) else {
        return Err(Error::new("process.args", "must name a program"));
    };
    if name.is_empty() {
        return Err(Error::new("process.args[0]", "must not be empty"));
    }
    let mut env = environment(process)?;
    let has_home = env.iter().any(|v| v.starts_with("HOME=") && *v != "HOME=");
    // An empty one counts as none, as with runc.
    env.retain(|v| *v != "HOME=");
    if process.terminal && !env.iter().any(|v| v.starts_with("TERM=")) {
        // What most terminals are, and what docker says.
        env.push("TERM=xterm");
    }
    let path = env.iter().rev().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(PATH);
    let candidates: Vec<String> = match name.contains('/') {
        true => vec![name.to_owned()],
        false => path
            .split(':')
            .map(|dir| if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") })
            .collect(),
    };
    Ok(Program {
        has_home,
        argv: b.table.list(process.args.iter().map(|a| a.as_str()), "process.args")?,
        env: b.table.list(env, "process.env")?,
        candidates: b.table.list(candidates.iter().map(String::as_str), "process.args[0]")?,
    })
}

/// NAME=VALUE each; of two with the same name the later one holds, in the place of the first.
fn environment<'p>(process: &'p Process<'_>) -> Result<Vec<&'p str>, Error> {
    let mut kept: Vec<&str> = Vec::with_capacity(process.env.len());
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, variable) in process.env.iter().enumerate() {
        let name = match variable.split_once('=') {
            Some(("", _)) | None => {
                let problem = format!("{:?} is not of the form NAME=VALUE", variable.as_str());
                return Err(Error::new(format!("process.env[{index}]"), problem));
            }
            Some((name, _)) => name,
        };
        let place = *places.entry(name).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(earlier) => *earlier = variable.as_str(),
            None => kept.push(variable.as_str()),
        }
    }
    Ok(kept)
}

/// The terminal that a process asks for becomes its stdio.
pub fn terminal(b: &mut Build, process: &Process<'_>, on_dev_console: bool, options: &Options) {
    if !process.terminal {
        return;
    }
    let to = b.slot(SlotSource::Console);
    let size = process.console_size.as_ref().map_or(0, |s| u32::from(s.height) | u32::from(s.width) << 16);
    let flags = if on_dev_console { console::ON_DEV_CONSOLE } else { 0 }
        | if options.relayed_terminal { console::PLAIN_NEWLINES } else { 0 };
    b.step("process.terminal", Step::Console { to, uid: process.user.uid, size, flags });
}

/// It is its session's: for the process that is to be the program, once that leads a session.
pub fn controlling_terminal(b: &mut Build, process: &Process<'_>) {
    if process.terminal {
        b.step("process.terminal", Step::ControllingTerminal {});
    }
}

/// As root, or with `again` as the user, who may be allowed where root is not.
pub fn working_directory(b: &mut Build, process: &Process<'_>, again: bool) -> Result<(), Error> {
    if !process.cwd.starts_with('/') {
        return Err(Error::new("process.cwd", format!("{:?} is not an absolute path", process.cwd.as_str())));
    }
    let path = b.text(&clean(&process.cwd), "process.cwd")?;
    let flags = if again { 0 } else { cwd::CREATE | if process.user.uid != 0 { cwd::TRY } else { 0 } };
    b.step("process.cwd", Step::Cwd { path, flags });
    Ok(())
}

/// Whether whoever enters the working directory may wait in the kernel for ever: it is on a volume, and the mount behind that may
/// be dead.
pub fn directory_may_hang(mounts: &[Mount<'_>], process: &Process<'_>) -> bool {
    const IN_MEMORY: [&str; 7] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];
    let cwd = format!("{}/", clean(&process.cwd));
    mounts.iter().any(|mount| {
        let is_bind = mount.options.iter().any(|option| ["bind", "rbind"].contains(&option.as_str()));
        let in_memory = mount.kind.as_deref().is_some_and(|kind| IN_MEMORY.contains(&kind));
        (is_bind || !in_memory) && cwd.starts_with(&format!("{}/", clean(&mount.destination)))
    })
}

impl Program {
    pub fn find(&self, b: &mut Build, process: &Process<'_>) {
        if !self.has_home {
            b.step("process.env", Step::Home { uid: process.user.uid });
        }
        b.step("process.args[0]", Step::Find { candidates: self.candidates });
    }
    pub fn exec(&self, b: &mut Build, filter: Filter) {
        b.step("process.args", Step::Exec { argv: self.argv, env: self.env, filter });
    }
}
