//! `sampand --check`: the config, and beyond it what a launch would find. A start of sampand does not look for that: a service
//! that cannot run keeps no other from running, and what is missing may come before its turn.
//!
//! The looking is done by a process of its own (`sampand look`), as a start has it done by a launching process: one that hangs
//! in a dead mount is left there, and what it hangs in is the error.
use crate::life::job;
use crate::life::reading::{LOOK_MAX, look_at, took_too_long};
use crate::life::talk;
use crate::places::key_of;
use crate::source::{Files, Loading};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair, sockopt};
use sampan_bundle::{self as bundle, Look};
use sampan_config::schema::{Pull, Service, Source, Supervisor};
use sampan_config::{Diagnostic, Loaded, Tell};
use sampan_plan::{Plan, Spec};
use sampan_runtime::launch;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// The first argument of the process that looks.
pub const LOOK: &str = "look";

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    files: Files,
    colour: bool,
    json: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Doing(String),
    /// What to print, and the exit code.
    Done(String, u8),
}

/// What to print, and the exit code.
pub fn check(files: &Files, colour: bool, json: bool) -> (String, u8) {
    let unread =
        |why: &str, hint: &str| files.report(&Err(vec![Diagnostic::nowhere("", why, hint)]), colour, json);
    match ask(&Order { files: files.clone(), colour, json }) {
        Ok(Ok(done)) => done,
        Ok(Err((why, hint))) => unread(&why, hint),
        Err(error) => unread(&format!("cannot check the config: {error}"), ""),
    }
}

/// Text and exit code; or in what it hangs, with a hint.
type Done = Result<(String, u8), (String, &'static str)>;

fn ask(order: &Order) -> io::Result<Done> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut looks = Command::new("/proc/self/exe")
        .arg(LOOK)
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    talk::send(ours.as_fd(), order, "", &[], SendFlags::empty())?;
    sockopt::set_socket_timeout(&ours, sockopt::Timeout::Recv, Some(LOOK_MAX))?;
    let mut doing = "the start of the process that looks".to_owned();
    loop {
        match talk::receive(ours.as_fd(), RecvFlags::empty()) {
            Ok(Some((Said::Doing(what), ..))) => doing = what,
            Ok(Some((Said::Done(text, code), ..))) => return Ok(Ok((text, code))),
            Ok(None) => return Err(io::Error::other(format!("the process that looks ended in {doing}"))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // It may hang where nothing ends it: nobody waits for it.
                let _ = looks.kill();
                return Ok(Err(took_too_long(&doing)));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The process that looks, to its exit code.
pub fn look() -> u8 {
    let socket = rustix::stdio::stdin();
    if sockopt::socket_type(socket) != Ok(SocketType::SEQPACKET) {
        eprintln!("sampand look: only sampand itself starts this");
        return 1;
    }
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let say = |said: &Said| talk::send(socket, said, "", &[], SendFlags::empty()).is_ok();
    let Ok(Some((Order { files, colour, json }, ..))) = talk::receive(socket, RecvFlags::empty()) else {
        return 1;
    };
    let tell = |path: &Path, key: &str| {
        let _ = say(&Said::Doing(look_at(path, key)));
    };
    let (text, code) = files.report(&with_launches(files.load(&tell), &tell), colour, json);
    u8::from(!say(&Said::Done(text, code)))
}

/// With what cannot work as things are now.
fn with_launches(loading: Loading, tell: &Tell<'_>) -> Loading {
    let mut loaded = loading?;
    let (mut wrong, notes) = of_launches(&loaded, tell);
    loaded.warnings.extend(notes);
    if wrong.is_empty() {
        return Ok(loaded);
    }
    wrong.extend(loaded.warnings);
    sampan_config::diagnostic::sort(&mut wrong);
    Err(wrong)
}

/// Errors, and notes.
fn of_launches(loaded: &Loaded, tell: &Tell<'_>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    let mut wrong = |key: String, message: String, hint: &str| {
        found.push(match loaded.origins.spot(&key) {
            Some(at) => Diagnostic::error(&key, at, message, hint),
            None => Diagnostic::nowhere(&key, message, hint),
        });
    };
    for (name, service) in &loaded.config.services {
        match of_launch(service, &loaded.config.supervisor, tell) {
            Ok(said) => {
                let key = format!("services.{name}.image");
                let at = loaded.origins.spot(&key);
                let note =
                    |text| Some(Diagnostic::warning(&key, at?, text, "name one of its own in volumes"));
                notes.extend(said.into_iter().filter_map(note));
            }
            Err(Wrong { key, message, hint }) => {
                let dot = if key.is_empty() { "" } else { "." };
                wrong(format!("services.{name}{dot}{key}"), message, &hint);
            }
        }
    }
    for (name, plugin) in loaded.config.plugins.iter().filter(|(_, plugin)| plugin.enabled) {
        tell(&plugin.path, &format!("plugins.{name}"));
        if !plugin.path.exists() {
            let message = format!("no plugin at {}", plugin.path.display());
            let hint = "name its file with path = \"..\", put it into supervisor.plugin_dir, or write enabled = false";
            wrong(format!("plugins.{name}"), message, hint);
        }
    }
    (found, notes)
}

/// What is wrong with a service: its key, or "".
struct Wrong {
    key: String,
    message: String,
    hint: String,
}

/// As a launch would go about it (`job`), up to the plan, which changes nothing. What is to be known of its image.
fn of_launch(service: &Service, supervisor: &Supervisor, tell: &Tell<'_>) -> Result<Vec<String>, Wrong> {
    let look = Look::of(service, Path::new(""), &supervisor.state_dir).changing_nothing();
    let source = match service.source {
        Source::Rootfs(_) => "rootfs",
        Source::Bundle(_) => "bundle",
        Source::Image(_) => "image",
    };
    tell(look.at(), &format!("services.{}.{source}", service.name));
    let (spec, warnings) = match bundle::check(service, &look) {
        Ok(built) => (built.spec, built.warnings),
        // A warning of its own.
        Err(error) if error.key == "rootfs" => return Ok(Vec::new()),
        // A start gets it.
        Err(_) if !is_here(service, supervisor) => return Ok(Vec::new()),
        Err(error) => {
            let message = error.sentence();
            return Err(Wrong { key: error.key.to_owned(), message, hint: error.hint.into() });
        }
    };
    let text = spec.to_string();
    let of_spec = |field: &str, message: String| about(field, message, service, &spec);
    let of_plan = |error: sampan_plan::Error| of_spec(&error.field, error.problem);
    let parsed = Spec::parse(&text).map_err(of_plan)?;
    let folder = bundle::folder(&supervisor.run_dir, &service.name);
    let host = launch::host_facts(&parsed, &folder, &service.name, true)
        .map_err(|error| of_spec(&error.field, error.clone().field("").to_string()))?;
    Plan::compile(&parsed, &host, &job::options(&service.name, &folder)).map_err(of_plan)?;
    Ok(match service.source {
        Source::Image(_) => warnings,
        Source::Rootfs(_) | Source::Bundle(_) => Vec::new(),
    })
}

/// What can be looked into without getting it first.
fn is_here(service: &Service, supervisor: &Supervisor) -> bool {
    match &service.source {
        Source::Image(image) => {
            image.pull == Pull::Never
                || bundle::image::is_here(&supervisor.state_dir, &image.reference).unwrap_or(true)
        }
        Source::Rootfs(_) | Source::Bundle(_) => true,
    }
}

/// The key that made a field of the spec; of a bundle's own field, its file and the field.
fn about(field: &str, problem: String, service: &Service, spec: &serde_json::Value) -> Wrong {
    let key = key_of(field, service, spec);
    let (key, message) = match (&service.source, key) {
        (Source::Rootfs(_) | Source::Image(_), Some(key)) => (key, problem),
        (Source::Bundle(_), Some(key)) if service.sets(&key) => (key, problem),
        (Source::Bundle(folder), _) => {
            let file = folder.join("config.json");
            ("bundle".to_owned(), format!("{}: {}", file.display(), with(field, &problem)))
        }
        (Source::Rootfs(_) | Source::Image(_), None) => (String::new(), with(field, &problem)),
    };
    Wrong { key, message, hint: String::new() }
}

fn with(field: &str, problem: &str) -> String {
    if field.is_empty() { problem.to_owned() } else { format!("{field}: {problem}") }
}
