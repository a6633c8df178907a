//! The descriptors of a service that clients may be attached to (`crate::relay`): made by whoever launches it, kept by the keel so
//! that the next worker goes on with them, and let go of at the end of the life.
//!
//! | key, after `io/SERVICE/` | what |
//! |---|---|
//! | `terminal` | the master of its terminal |
//! | `stdin` | where what is typed is written, if it has no terminal |
//! | `stdout.staged`, `stderr.staged` | pipes that hold what it has written until it is passed on; of a terminal the first one alone |
//! | `stdout.sink`, `stderr.sink` | the way to a plugin that keeps its log |
use super::stdio::{Output, Places, Stdio, append, key, make_fifo, open_fifo, opened};
use super::{Dirs, of_io};
use crate::relay::{Ends, Parts, Sink};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use sampan_api::attach::Stream;
use sampan_keel::{Keel, LoopKeel};
use sampan_service::Problem;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

const TERMINAL: &str = "terminal";
const STDIN: &str = "stdin";
const STREAMS: [(&str, Stream); 2] = [("stdout", Stream::Stdout), ("stderr", Stream::Stderr)];

/// What stands between a service and its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Relayed {
    Nothing,
    /// Its input stays open.
    Pipes,
    Terminal,
}

impl Relayed {
    /// By the container's config, in which plugins have had a say, and `stdin_open`.
    pub fn of(spec: &serde_json::Value, stdin_open: bool) -> Relayed {
        let terminal = spec.pointer("/process/terminal").and_then(serde_json::Value::as_bool);
        match (terminal, stdin_open) {
            (Some(true), _) => Relayed::Terminal,
            (_, true) => Relayed::Pipes,
            (_, false) => Relayed::Nothing,
        }
    }
}

fn staged(stream: &str) -> String {
    format!("{stream}.staged")
}

fn sink(stream: &str) -> String {
    format!("{stream}.sink")
}

/// What a container gets in the place of the ways to its log, which are kept.
pub fn between(
    relayed: Relayed,
    to: Output,
    keel: &Keel,
    places: Places<'_>,
    owner: (u32, u32),
    log: Stdio,
) -> Result<Stdio, Problem> {
    let Places { service, io, .. } = places;
    super::stdio::make_folder(io)?;
    let_go(keel, io, service);
    if to == Output::Plugin {
        // With no writer, whoever reads there would take it for its end.
        for ((stream, _), fd) in STREAMS.iter().zip([&log.output, &log.error]) {
            keep(keel, service, &sink(stream), fd)?;
        }
    }
    // A terminal has one stream.
    let streams = if relayed == Relayed::Terminal { &STREAMS[..1] } else { &STREAMS[..] };
    let mut theirs = Vec::new();
    for (stream, _) in streams {
        let name = staged(stream);
        let path = io.join(&name);
        // Nothing of a former life is passed on for this one.
        let _ = std::fs::remove_file(&path);
        make_fifo(&path)?;
        theirs.push(open_fifo(&path, OFlags::RDWR, Some(owner))?);
        keep(keel, service, &name, &open_fifo(&path, OFlags::RDWR | OFlags::NONBLOCK, None)?)?;
    }
    if let (Some(error), Some(output)) = (theirs.pop(), theirs.pop()) {
        let input = stdin(keel, places, owner)?;
        return Ok(Stdio { input, output, error, reads: log.reads });
    }
    // They are the terminal's, once the container has made it.
    let null = |flags| sampan_runtime::kernel::stdio::null(flags).map_err(of_io);
    Ok(Stdio { output: null(OFlags::WRONLY)?, error: null(OFlags::WRONLY)?, ..log })
}

/// A new pipe for its standard input, of which the keel has the other end.
fn stdin(keel: &Keel, places: Places<'_>, owner: (u32, u32)) -> Result<OwnedFd, Problem> {
    let path = places.io.join(STDIN);
    let _ = std::fs::remove_file(&path);
    make_fifo(&path)?;
    // In this order neither waits for the other (fifo(7)), and the service's is blocking after that.
    let theirs = open_fifo(&path, OFlags::RDONLY | OFlags::NONBLOCK, Some(owner))?;
    keep(keel, places.service, STDIN, &open_fifo(&path, OFlags::WRONLY | OFlags::NONBLOCK, None)?)?;
    set_nonblocking(&theirs, false).map_err(opened(&path))?;
    Ok(theirs)
}

/// The master of the terminal that a container has made.
pub fn keep_terminal(keel: &Keel, service: &str, master: &OwnedFd) -> Result<(), Problem> {
    set_nonblocking(master, true).map_err(of_io)?;
    keep(keel, service, TERMINAL, master)
}

fn set_nonblocking(fd: &OwnedFd, to: bool) -> rustix::io::Result<()> {
    let mut flags = fcntl_getfl(fd)?;
    flags.set(OFlags::NONBLOCK, to);
    fcntl_setfl(fd, flags)
}

fn keep(keel: &Keel, service: &str, name: &str, fd: &OwnedFd) -> Result<(), Problem> {
    keel.keep(&key(service, name), Some(fd.as_fd())).map_err(of_io)
}

/// Of a life that has just been made, or was found: what its relay is made of. None: nothing stands in between.
pub fn take(
    keel: &LoopKeel,
    dirs: &Dirs,
    service: &str,
    stdin_open: bool,
    has_log: bool,
) -> Result<Option<Parts>, Problem> {
    let folder = dirs.io(service);
    let terminal = keel.fetch(&key(service, TERMINAL)).map_err(of_io)?.map(Arc::new);
    let mut streams = Vec::new();
    for (name, stream) in STREAMS {
        let Some(staged) = again(keel, &folder, service, &staged(name))? else { break };
        let sink = match again(keel, &folder, service, &sink(name))? {
            Some(pipe) => Sink::Pipe(pipe),
            None if has_log => file(&dirs.logs(service), name)?,
            None => Sink::Nowhere,
        };
        streams.push(Ends { stream, staged, terminal: terminal.clone(), sink });
    }
    if streams.is_empty() {
        return Ok(None);
    }
    let input = match &terminal {
        _ if !stdin_open => None,
        Some(terminal) => Some(terminal.try_clone().map_err(of_io)?),
        None => keel.fetch(&key(service, STDIN)).map_err(of_io)?,
    };
    Ok(Some(Parts { streams, terminal, input }))
}

fn file(logs: &Path, stream: &str) -> Result<Sink, Problem> {
    let file = append(&logs.join(format!("{stream}.log")))?;
    Ok(Sink::File(Arc::new(File::from(file))))
}

/// The one that the keel has; else, if every process of sampand was killed at once, the one that stands in the run folder.
fn again(keel: &LoopKeel, folder: &Path, service: &str, name: &str) -> Result<Option<OwnedFd>, Problem> {
    if let Some(kept) = keel.fetch(&key(service, name)).map_err(of_io)? {
        return Ok(Some(kept));
    }
    // The way to a plugin has the name of its stream there.
    let path = folder.join(name.strip_suffix(".sink").unwrap_or(name));
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
        Ok(fd) => {
            keel.keep(&key(service, name), Some(fd.as_fd())).map_err(of_io)?;
            Ok(Some(fd))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(opened(&path)(error)),
    }
}

/// Whether a former life has left any: its end was not seen to.
pub fn are_left(folder: &Path) -> bool {
    STREAMS.iter().any(|(stream, _)| folder.join(staged(stream)).exists())
}

/// Lets go of all of them: the life is over. A terminal is hung up by that.
pub fn let_go(keel: &Keel, folder: &Path, service: &str) {
    for (stream, _) in STREAMS {
        let _ = std::fs::remove_file(folder.join(staged(stream)));
        for name in [staged(stream), sink(stream)] {
            let _ = keel.keep(&key(service, &name), None);
        }
    }
    let _ = std::fs::remove_file(folder.join(STDIN));
    for name in [TERMINAL, STDIN] {
        let _ = keel.keep(&key(service, name), None);
    }
}
