//! `run`: a one-off in this terminal. Its standard streams are pipes of ours, whose other ends sampand fetches from us: what it
//! prints comes straight here, whoever of sampand dies. It ends with us; until then a signal to us stops it.
mod terminal;

use crate::args;
use crate::ask::{Ask, DONE, complain, of, out, to_json};
use crate::client::{self, Error};
use crate::waits;
use nix::sys::signal::{SigSet, Signal};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sampan_api as api;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;

/// As docker run: it was not started.
const NOT_STARTED: u8 = 125;
/// Of a name; with what stands behind it no longer than a label of DNS.
const SERVICE_BYTES_MAX: usize = 50;
/// More is read when this is passed on.
const PIECE_BYTES: usize = 64 * 1024;
/// That has come to us; 0: none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

pub fn run(ask: &Ask<'_>, with: &args::Run) -> Result<u8, Error> {
    let ran = match with.detach {
        true => detached(ask, with),
        false => {
            let ran = foreground(ask, with);
            // Also where sampand's answer broke off: nobody else puts our terminal back.
            terminal::leave();
            ran
        }
    };
    ran.or_else(|error| match error {
        // The reader of our output has gone.
        Error::Broken(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Error::Broken(error)),
        error => {
            complain(&error.to_string());
            Ok(NOT_STARTED)
        }
    })
}

fn detached(ask: &Ask<'_>, with: &args::Run) -> Result<u8, Error> {
    let run = asked(with, None, false);
    let path = of(&with.service, "/run");
    let text = waits::told(ask.socket(), &run.name, || post(ask.socket(), &path, &to_json(&run)))?;
    let done: api::Done = parse(&text)?;
    if let Some(code) = not_started(ask, &run.name, &done) {
        return Ok(code);
    }
    out(format!("{}\n", run.name).as_bytes())?;
    Ok(DONE)
}

fn foreground(ask: &Ask<'_>, with: &args::Run) -> Result<u8, Error> {
    let signals = heard().map_err(|error| Error::Here(format!("cannot take over signals: {error}")))?;
    let has_terminal = with.tty || !with.no_tty && io::stdin().is_terminal() && io::stdout().is_terminal();
    let failed = |error: io::Error| Error::Here(format!("no way for its input and output: {error}"));
    let streams = if has_terminal { Streams::of_terminal() } else { Streams::pipes() }.map_err(failed)?;
    let Streams { theirs, shown } = streams;
    let run = asked(with, Some(&theirs), has_terminal);
    stop_by_signal(signals, ask.socket().to_owned(), run.name.clone());
    let path = of(&with.service, "/run");
    let begun = waits::told(ask.socket(), &run.name, || post(ask.socket(), &path, &to_json(&run)));
    // It has them, or never will.
    drop(theirs);
    let begun: api::Done = parse(&begun?)?;
    if let Some(code) = not_started(ask, &run.name, &begun) {
        return Ok(code);
    }
    let path = of(&run.name, "/wait?condition=exited");
    let ended: api::Done = parse(&client::text(&mut ask.send("GET", &path, None)?)?)?;
    for shown in shown {
        let _ = shown.join();
    }
    terminal::leave();
    let status = ended.services.first();
    if let Some(code) = not_started(ask, &run.name, &ended) {
        return Ok(code);
    }
    match status.and_then(|status| status.exit_code) {
        Some(code) => Ok(u8::try_from(code).unwrap_or(NOT_STARTED)),
        None => {
            let text = status.map_or("gone", |status| &status.text);
            Err(Error::Here(format!("{}: its exit code is unknown: {text}", run.name)))
        }
    }
}

fn asked(with: &args::Run, theirs: Option<&Vec<OwnedFd>>, tty: bool) -> api::Run {
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.clone(), std::env::var(text).ok()?)),
    };
    let mut environment: BTreeMap<_, _> = with.env.iter().filter_map(variable).collect();
    if let (true, Ok(kind)) = (tty, std::env::var("TERM")) {
        environment.entry("TERM".to_owned()).or_insert(kind);
    }
    api::Run {
        name: with.name.clone().unwrap_or_else(|| name_for(&with.service)),
        command: with.command.clone(),
        environment,
        user: with.user.clone(),
        working_dir: with.workdir.clone(),
        no_deps: with.no_deps,
        service_ports: with.service_ports,
        remove: with.rm,
        tty,
        client: theirs.map(|theirs| api::Client {
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            stdio: theirs.iter().map(AsRawFd::as_raw_fd).collect(),
        }),
    }
}

/// What nobody else has: as compose calls it.
fn name_for(service: &str) -> String {
    let service: String = service.chars().take(SERVICE_BYTES_MAX).collect();
    let mut bytes = [0; 4];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    format!("{service}-run-{:08x}", u32::from_le_bytes(bytes))
}

/// What ends programs. From now on it is taken by whoever waits for it.
fn heard() -> nix::Result<SigSet> {
    let all = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH];
    let signals: SigSet = all.into_iter().collect();
    signals.thread_block()?;
    Ok(signals)
}

/// The first one stops it as its stop signal does, the second kills it, and after that we wait no longer.
fn stop_by_signal(signals: SigSet, socket: PathBuf, name: String) {
    std::thread::spawn(move || {
        let stop = to_json(&api::Act { detach: true });
        let kill = to_json(&api::Kill { signal: "SIGKILL".into() });
        for (verb, body) in [("/stop", stop), ("/kill", kill)] {
            if !ends(&signals) {
                return;
            }
            // It is not there yet, or nobody answers: it ends with us.
            if post(&socket, &of(&name, verb), &body).is_err() {
                leave();
            }
        }
        if ends(&signals) {
            leave();
        }
    });
}

/// Waits for a signal that is to end it; false: none will come.
fn ends(signals: &SigSet) -> bool {
    loop {
        match signals.wait() {
            Ok(Signal::SIGWINCH) => terminal::resize(),
            Ok(signal) => {
                SIGNAL.store(signal as i32, Ordering::Relaxed);
                return true;
            }
            Err(_) => return false,
        }
    }
}

fn leave() -> ! {
    terminal::leave();
    std::process::exit(i32::from(by_signal().unwrap_or(NOT_STARTED)))
}

/// How a shell tells of a program that was ended by the signal that came to us.
fn by_signal() -> Option<u8> {
    match SIGNAL.load(Ordering::Relaxed) {
        0 => None,
        signal => u8::try_from(128 + signal).ok(),
    }
}

/// The container's ends of its streams, and who shows what it prints.
struct Streams {
    theirs: Vec<OwnedFd>,
    shown: Vec<JoinHandle<()>>,
}

impl Streams {
    /// What comes is passed on until there is no more of it or nobody takes it.
    fn pipes() -> io::Result<Streams> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (input, to_input) = pipe()?;
        let (of_output, output) = pipe()?;
        let (of_error, error) = pipe()?;
        std::thread::spawn(move || copy(io::stdin().lock(), File::from(to_input)));
        let shown = vec![
            std::thread::spawn(move || copy(File::from(of_output), io::stdout().lock())),
            std::thread::spawn(move || copy(File::from(of_error), io::stderr())),
        ];
        Ok(Streams { theirs: vec![input, output, error], shown })
    }

    /// The terminal comes when the container has made it.
    fn of_terminal() -> io::Result<Streams> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
        let show = move || {
            let mut typing = None;
            // Another one, where a worker died before the program of the first was started.
            while let Some(master) = terminal::receive(&ours) {
                let Ok(held) = master.try_clone() else { return };
                if !terminal::begin(held) {
                    return;
                }
                typing
                    .get_or_insert_with(|| std::thread::spawn(|| copy(io::stdin().lock(), terminal::Typed)));
                copy(File::from(master), io::stdout().lock());
            }
        };
        Ok(Streams { theirs: vec![theirs], shown: vec![std::thread::spawn(show)] })
    }
}

/// At once: it may be a prompt.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let written = to.write_all(piece.get(..count).unwrap_or_default()).and_then(|()| to.flush());
        if written.is_err() {
            return;
        }
    }
}

/// The exit code of one that did not come to run its program, when it is told why; what still waits is stopped.
fn not_started(ask: &Ask<'_>, name: &str, done: &api::Done) -> Option<u8> {
    let Some(status) = done.services.first() else {
        complain(&format!("{name} is gone"));
        return Some(by_signal().unwrap_or(NOT_STARTED));
    };
    if let Some(code) = status.not_started {
        let why = ask.get::<api::Why>(&of(name, "/why")).map(|why| why.sentence);
        complain(&why.unwrap_or_else(|_| format!("{name}: {}", status.text)));
        return Some(code);
    }
    if done.complete || status.exit_code.is_some() {
        return None;
    }
    if status.wanted == "up" {
        complain(&format!("{name} cannot be started: {}", status.text));
        let stop = to_json(&api::Act { detach: false });
        if let Err(error) = post(ask.socket(), &of(name, "/stop"), &stop) {
            complain(&error.to_string());
        }
    }
    Some(by_signal().unwrap_or(NOT_STARTED))
}

fn post(socket: &Path, path: &str, body: &str) -> Result<String, Error> {
    client::text(&mut client::send(socket, "POST", path, Some(body))?)
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Broken(io::Error::new(io::ErrorKind::InvalidData, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_services_may_have() {
        let long = "a".repeat(63);
        for service in ["web", &long] {
            let (one, other) = (name_for(service), name_for(service));
            assert!(one.len() <= 63 && one.contains("-run-") && one.starts_with(&service[..3]), "{one}");
            assert_ne!(one, other);
        }
    }
}
