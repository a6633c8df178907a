//! A runtime under attack: this one, this one with a defence off, or another.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use sampan_child::defence::Defence;
use sampan_testkit::Bundle;

use super::terminal;
use crate::sampan;

/// No attack needs longer. A runtime that hangs is ended, and what it left is removed with its root folder.
const SECONDS_MAX: &str = "15";

/// crun 1.8 refuses a host with v1 hierarchies beside cgroup v2.
const WITHOUT_V2: &str = "umount --lazy /sys/fs/cgroup/unified 2> /dev/null; exec \"$@\"";

pub struct Runtime {
    pub name: &'static str,
    pub program: PathBuf,
    /// The same, where no attacker has been: to remove containers with.
    intact: PathBuf,
    off: Option<Defence>,
    /// `--root`.
    state: PathBuf,
}

/// A runtime's command that has ended.
#[derive(Debug, Default)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// In one line, for the table.
    pub fn said(&self) -> String {
        let said = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
        format!("exit {}: {line}", self.code)
    }
}

impl Runtime {
    pub fn sampan() -> Runtime {
        Runtime::new("sampan", crate::sampan::program().into(), None)
    }

    /// `program` was built with the feature `weaken`.
    pub fn weakened(program: &OsStr, off: Defence) -> Runtime {
        Runtime::new("weakened", program.into(), Some(off))
    }

    /// Another runtime, where it is installed.
    pub fn other(name: &'static str) -> Option<Runtime> {
        let path = std::env::var_os("PATH")?;
        let program = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())?;
        Some(Runtime::new(name, program, None))
    }

    fn new(name: &'static str, program: PathBuf, off: Option<Defence>) -> Runtime {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let state = std::env::temp_dir().join(format!("sampan-attack-{}-{number}", std::process::id()));
        fs::create_dir_all(&state).unwrap();
        Runtime { name, intact: program.clone(), program, off, state }
    }

    /// The same runtime from a copy of its program, which an attacker may try to write to.
    pub fn copied_to(&self, folder: &Path) -> Runtime {
        let copy = folder.join(self.name);
        fs::copy(&self.program, &copy).unwrap();
        let mut runtime = Runtime::new(self.name, copy, self.off);
        runtime.intact.clone_from(&self.intact);
        runtime
    }

    /// The folder of `--root`.
    pub fn state(&self) -> &Path {
        &self.state
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command_of(&self.program, args)
    }

    fn command_of<S: AsRef<OsStr>>(&self, program: &Path, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", SECONDS_MAX]);
        if self.name == "crun" {
            command.args(["unshare", "--mount", "sh", "-c", WITHOUT_V2, "sh"]);
        }
        command.arg(program).arg("--root").arg(&self.state);
        command.args(args).stdin(Stdio::null());
        if let Some(off) = self.off {
            command.env("SAMPAN_WEAKEN", off.name());
        }
        command
    }

    pub fn ran<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        ended(&mut self.command(args))
    }

    fn remove(&self, id: &OsStr) {
        ended(&mut self.command_of(&self.intact, [OsStr::new("delete"), OsStr::new("--force"), id]));
    }

    /// Runs the bundle's container to its end.
    pub fn run(&self, bundle: &Bundle) -> Ran {
        self.ran(words(&["run"], bundle))
    }

    /// The same with flags, and a command that is changed: its standard input, say.
    pub fn run_with(&self, flags: &[&str], bundle: &Bundle, change: impl FnOnce(&mut Command)) -> Ran {
        let verb: Vec<&str> = ["run"].into_iter().chain(flags.iter().copied()).collect();
        let mut command = self.command(words(&verb, bundle));
        change(&mut command);
        ended(&mut command)
    }

    /// Starts it and leaves it running.
    pub fn start<'a>(&'a self, bundle: &Bundle) -> Result<Running<'a>, Ran> {
        self.leave(&["run", "-d"], bundle)
    }

    /// Creates it and does not start it.
    pub fn create<'a>(&'a self, bundle: &Bundle) -> Result<Running<'a>, Ran> {
        self.leave(&["create"], bundle)
    }

    fn leave<'a>(&'a self, verb: &[&str], bundle: &Bundle) -> Result<Running<'a>, Ran> {
        let ran = self.ran(words(verb, bundle));
        if ran.code == 0 { Ok(Running { runtime: self, id: id(bundle) }) } else { Err(ran) }
    }

    /// Runs it with a terminal; `out` is what appeared there.
    pub fn run_in_terminal(&self, bundle: &Bundle) -> Ran {
        let socket = bundle.path().join("console");
        let listener = terminal::Listener::new(&socket);
        let flags = ["run", "-d", "--console-socket", socket.to_str().unwrap()];
        let mut ran = self.ran(words(&flags, bundle));
        let _running = Running { runtime: self, id: id(bundle) };
        if let Some(master) = listener.master() {
            ran.out = terminal::text(&master);
        }
        ran
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.state).into_iter().flatten().flatten() {
            self.remove(&entry.file_name());
        }
        let _ = fs::remove_dir_all(&self.state);
    }
}

/// A container that is there until this is dropped.
pub struct Running<'r> {
    runtime: &'r Runtime,
    pub id: String,
}

impl Running<'_> {
    /// Its first process, as the host counts.
    pub fn pid(&self) -> u64 {
        let state: serde_json::Value =
            serde_json::from_str(&self.runtime.ran(["state", &self.id]).out).unwrap();
        state["pid"].as_u64().unwrap()
    }

    pub fn exec_command(&self, flags: &[&str], program: &[&str]) -> Command {
        let words = ["exec"].iter().chain(flags).copied().chain([self.id.as_str()]);
        self.runtime.command(words.chain(program.iter().copied()))
    }

    pub fn exec(&self, flags: &[&str], program: &[&str]) -> Ran {
        ended(&mut self.exec_command(flags, program))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.runtime.remove(OsStr::new(&self.id));
    }
}

/// Bundles have names of their own, and so have their containers.
fn id(bundle: &Bundle) -> String {
    bundle.path().file_name().unwrap().to_str().unwrap().to_owned()
}

fn words(verb: &[&str], bundle: &Bundle) -> Vec<OsString> {
    let mut words: Vec<OsString> = verb.iter().map(OsString::from).collect();
    words.extend(["--bundle".into(), bundle.path().into(), id(bundle).into()]);
    bundle.write().unwrap();
    words
}

fn ended(command: &mut Command) -> Ran {
    let (code, out, err) = sampan::run(command);
    Ran { code, out, err }
}

/// A pipe that takes no more: who writes to it waits.
pub fn full_pipe() -> (File, OwnedFd) {
    use rustix::pipe::{PipeFlags, pipe_with};
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    rustix::io::ioctl_fionbio(&write, true).unwrap();
    while rustix::io::write(&write, &[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&write, false).unwrap();
    (read.into(), write)
}
