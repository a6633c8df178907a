//! What each verb asks for, and its exit code.
use crate::args::{self, Args, PluginVerb, Verb};
use crate::ask::{Ask, DONE, FAILED, complain, of, out, pass_on, to_json};
use crate::attach;
use crate::client::{self, Error};
use crate::copy;
use crate::format;
use crate::looks;
use crate::names;
use crate::one_off;
use crate::print;
use crate::signals;
use crate::stores;
use crate::streams::{Logs, show_events};
use crate::waits;
use sampan_api as api;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NOT_HEALTHY: u8 = 4;
/// What sampand has left to do when all is stopped takes some seconds at most.
const END: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);

pub fn run(args: &Args) -> Result<u8, Error> {
    let ask = &Ask::new(args);
    match &args.verb {
        Verb::Up(with) => return up(ask, with),
        Verb::Down => return down(ask),
        Verb::Ps { quiet, filter, watch } => looks::ps(ask, *quiet, filter, *watch)?,
        Verb::Status { services } => status(ask, services)?,
        Verb::Inspect { services } => {
            for service in services {
                let path = of(service, "");
                ask.value(&ask.get(&path)?)?;
            }
        }
        Verb::Port { service, port } => looks::port(ask, service, port.as_deref())?,
        Verb::Top { services } => looks::top(ask, services)?,
        Verb::Stats { services, no_stream } => looks::stats(ask, services, *no_stream)?,
        Verb::Wait { services, condition, timeout } => {
            return looks::wait(ask, services, *condition, *timeout);
        }
        Verb::Graph { dot } => looks::graph(ask, *dot)?,
        Verb::Start { services, wait: true, .. } => return start_and_wait(ask, services),
        Verb::Start { services, detach, .. } => return each(ask, services, "start", *detach),
        Verb::Stop { services, detach } => return all_at_once(ask, services, "stop", *detach),
        Verb::Restart { services, detach } => return each(ask, services, "restart", *detach),
        Verb::Kill { services, signal } => {
            let (services, signal) = signals::told_apart(services, signal.as_deref());
            return kill(ask, services, signal);
        }
        Verb::Update(with) => return update(ask, with),
        Verb::Pause { services } => return all_at_once(ask, services, "pause", false),
        Verb::Reload { services } => return all_at_once(ask, services, "reload", false),
        Verb::Unpause { services } => return all_at_once(ask, services, "unpause", false),
        Verb::Logs(which) => Logs::of(which).show(ask)?,
        Verb::Events { follow, since } => show_events(ask, *follow, since.as_ref())?,
        Verb::Why { services } => {
            for service in services {
                ask.show("GET", &of(service, "/why"), None, print::why)?;
            }
        }
        Verb::Exec(with) => return exec(ask, with),
        Verb::Attach(with) => return attach::attach(ask, with),
        Verb::Run(with) => return one_off::run(ask, with),
        Verb::Cp(with) => return copy::cp(ask, with),
        Verb::Apply { dry_run } => {
            let body = to_json(&api::Apply { dry_run: *dry_run });
            ask.show("POST", "/v1/apply", Some(&body), print::applied)?;
        }
        Verb::Config { service } => config(ask, service.as_deref())?,
        Verb::Plugin(verb) => plugin(ask, verb)?,
        Verb::Volume(verb) => return stores::volume(ask, verb),
        Verb::Secret(verb) => stores::secret(ask, verb)?,
        Verb::Network(verb) => stores::network(ask, verb)?,
        Verb::Image { args: with } => return image(args, with),
        Verb::Names { kind } => names::print(args, *kind),
        Verb::Version => drop(ask.show("GET", "/v1/version", None, print::version)?),
    }
    Ok(DONE)
}

fn up(ask: &Ask<'_>, with: &args::Up) -> Result<u8, Error> {
    let args::Up { services, wait, timeout, .. } = with;
    let wait = *wait;
    if with.detach
        && let Some(failed) = background(ask, &with.config, &with.profile)?
    {
        return Ok(failed);
    }
    let timeout_ms = timeout.map(|seconds| seconds.saturating_mul(1000));
    let up = api::Up { services: services.clone(), wait, timeout_ms };
    let done: api::Done = ask.show("POST", "/v1/up", Some(&to_json(&up)), print_done)?;
    Ok(if wait && !done.complete { NOT_HEALTHY } else { DONE })
}

/// Starts a sampand where there is none; its exit code if it does not come up, when it has said why.
fn background(ask: &Ask<'_>, config: &[PathBuf], profile: &[String]) -> Result<Option<u8>, Error> {
    match ask.get::<api::Version>("/v1/version") {
        Err(Error::NoSupervisor { .. } | Error::Dead { .. }) => {}
        Err(error) => return Err(error),
        Ok(_) => return Ok(None),
    }
    let path = beside_us("sampand");
    let mut sampand = Command::new(&path);
    sampand.arg("--detach");
    sampand.args(config.iter().flat_map(|file| [OsStr::new("--config"), file.as_os_str()]));
    sampand.args(profile.iter().flat_map(|name| ["--profile", name]));
    // What is printed on standard output is the services alone.
    let ran = sampand
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(|error| cannot_run(&path, &error))?;
    Ok((!ran.success()).then(|| ran.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)))
}

/// Returns when sampand has ended, so that the next one can be started at once.
fn down(ask: &Ask<'_>) -> Result<u8, Error> {
    let keel = ask.get::<api::Version>("/v1/version")?.keel_pid;
    let done = ask.show::<api::Done>("POST", "/v1/down", None, |_| String::new())?;
    let begin = Instant::now();
    while client::runs(keel) {
        if begin.elapsed() > END {
            complain(&format!("sampand, process {keel}, has stopped what it could, and has not ended since"));
            return Ok(FAILED);
        }
        std::thread::sleep(PAUSE);
    }
    if done.complete {
        return Ok(DONE);
    }
    complain("not all is stopped; what sampand said last tells what is left, and why");
    Ok(FAILED)
}

fn update(ask: &Ask<'_>, with: &args::Update) -> Result<u8, Error> {
    let args::Update { services, memory, cpus, pids } = with;
    let (memory, cpus, pids) = (memory.clone(), cpus.clone(), pids.clone());
    command(ask, services, "update", &to_json(&api::Update { memory, cpus, pids }))
}

/// Where one of the names is wrong nobody gets the signal: it may have been meant for one, not to be one.
fn kill(ask: &Ask<'_>, services: &[String], signal: &str) -> Result<u8, Error> {
    let several = services.len() > 1;
    for service in services.iter().filter(|_| several) {
        ask.get::<api::Inspect>(&of(service, "")).map_err(|error| {
            match (error, signals::meant(service)) {
                (Error::Refused(failure), Some(name)) => Error::Refused(api::Failure {
                    detail: Some(format!("  as a signal it is written in capitals: {name}; nobody got one")),
                    ..failure
                }),
                (error, _) => error,
            }
        })?;
    }
    command(ask, services, "kill", &to_json(&api::Kill { signal: signal.to_owned() }))
}

/// The same for each; what failed is said, and the rest goes on.
fn command(ask: &Ask<'_>, services: &[String], verb: &str, body: &str) -> Result<u8, Error> {
    let mut code = DONE;
    for service in services {
        let path = of(service, &format!("/{verb}"));
        match ask.show::<api::Done>("POST", &path, Some(body), |_| String::new()) {
            Err(Error::Refused(failure)) if failure.code != "usage" => {
                complain(&Error::Refused(failure).to_string());
                code = FAILED;
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(code)
}

fn config(ask: &Ask<'_>, service: Option<&str>) -> Result<(), Error> {
    let service = service.map(|name| format!("&service={}", client::quoted(name))).unwrap_or_default();
    if ask.wants_values() {
        return ask.value(&ask.get(&format!("/v1/config?json=true{service}"))?);
    }
    let path = format!("/v1/config?json=false{service}");
    out(client::text(&mut ask.send("GET", &path, None)?)?.as_bytes())
}

fn plugin(ask: &Ask<'_>, verb: &PluginVerb) -> Result<(), Error> {
    let at = |name: &str, what: &str| format!("/v1/plugins/{}/{what}", client::quoted(name));
    match verb {
        PluginVerb::List => {
            let print = |all: &Vec<api::PluginStatus>| print::plugins(all);
            ask.show("GET", "/v1/plugins", None, print).map(drop)
        }
        PluginVerb::Reset { name } => {
            let print = |done: &api::PluginReset| format!("{}\n", done.text);
            ask.show("POST", &at(name, "reset"), None, print).map(drop)
        }
        PluginVerb::Call { name, request } => {
            pass_on(&mut ask.send("POST", &at(name, "control"), Some(request))?)
        }
    }
}

fn print_done(done: &api::Done) -> String {
    print::services(&done.services)
}

/// Nothing is started where one of them is no job.
fn start_and_wait(ask: &Ask<'_>, services: &[String]) -> Result<u8, Error> {
    for service in services {
        ask.get::<api::Done>(&of(service, "/wait?condition=done&timeout_ms=0"))?;
    }
    let started = command(ask, services, "start", &to_json(&api::Act { detach: true }))?;
    let ended = looks::jobs(ask, services)?;
    Ok(if started == DONE { ended } else { started })
}

/// A verb for each service in turn; what failed, or has not come true, is said, and the rest goes on.
fn each(ask: &Ask<'_>, services: &[String], verb: &str, detach: bool) -> Result<u8, Error> {
    let mut code = DONE;
    for service in services {
        let answer = waits::told(ask.socket(), service, || act(ask.socket(), service, verb, detach));
        code = code.max(tell(ask, service, verb, detach, answer)?);
    }
    Ok(code)
}

/// As `each`, asked for all at once: one that takes its time holds up no other. The answers come in the order of the names.
fn all_at_once(ask: &Ask<'_>, services: &[String], verb: &str, detach: bool) -> Result<u8, Error> {
    let socket = ask.socket();
    std::thread::scope(|scope| {
        let asked: Vec<_> = services
            .iter()
            .map(|service| {
                (
                    service,
                    scope.spawn(move || waits::told(socket, service, || act(socket, service, verb, detach))),
                )
            })
            .collect();
        let mut code = DONE;
        for (service, answer) in asked {
            let broken = |_| Err(Error::Broken(io::Error::other("the thread that asked has ended")));
            code = code.max(tell(ask, service, verb, detach, answer.join().unwrap_or_else(broken))?);
        }
        Ok(code)
    })
}

fn act(socket: &Path, service: &str, verb: &str, detach: bool) -> Result<String, Error> {
    let body = to_json(&api::Act { detach });
    client::text(&mut client::send(socket, "POST", &of(service, &format!("/{verb}")), Some(&body))?)
}

/// What came of it, and the exit code for that.
fn tell(
    ask: &Ask<'_>,
    service: &str,
    verb: &str,
    detach: bool,
    answer: Result<String, Error>,
) -> Result<u8, Error> {
    match answer.and_then(|text| ask.print(&text, print_done)) {
        Ok(api::Done { complete, services }) if !complete && !detach => {
            let text = services.first().map_or("gone", |status| &status.text);
            complain(&format!("cannot {verb} {service}: {text}\n  see `sampanctl why {service}`"));
            Ok(FAILED)
        }
        Ok(_) => Ok(DONE),
        Err(Error::Refused(failure)) => {
            complain(&Error::Refused(failure).to_string());
            Ok(FAILED)
        }
        Err(error) => Err(error),
    }
}

fn status(ask: &Ask<'_>, services: &[String]) -> Result<(), Error> {
    if services.is_empty() && !ask.wants_values() {
        out(print::turns(&ask.get_to_show("/v1/loop")?).as_bytes())?;
    }
    let all: Vec<api::Status> = ask.get("/v1/services")?;
    let names =
        if services.is_empty() { all.into_iter().map(|s| s.name).collect() } else { services.to_vec() };
    let mut values = Vec::new();
    for name in names {
        let inspect: api::Inspect = ask.get_to_show(&of(&name, ""))?;
        let why: api::Why = ask.get_to_show(&of(&name, "/why"))?;
        if ask.wants_values() {
            values.push(serde_json::json!({ "service": inspect, "why": why }));
        } else {
            out(print::status(&inspect, &why).as_bytes())?;
        }
    }
    if ask.wants_values() { ask.value(&values.into()) } else { Ok(()) }
}

/// Becomes `sampan exec`: terminal, signals and exit code are the runtime's own.
fn exec(ask: &Ask<'_>, with: &args::Exec) -> Result<u8, Error> {
    let service = &with.service;
    let inspect: api::Inspect = ask.get(&of(service, ""))?;
    if inspect.status.pid.is_none() {
        complain(&format!("{service} is not running: {}", inspect.status.text));
        return Ok(FAILED);
    }
    let version: api::Version = ask.get("/v1/version")?;
    become_program("sampan", |program| {
        program.arg("--root").arg(&version.containers).arg("exec");
        if with.tty || io::stdin().is_terminal() && io::stdout().is_terminal() {
            program.arg("--tty");
        }
        program.args(with.env.iter().flat_map(|variable| ["--env", variable]));
        program.args(with.user.iter().flat_map(|user| ["--user", user]));
        program.args(with.workdir.iter().flat_map(|folder| ["--cwd", folder]));
        program.arg(&inspect.container_id).args(&with.command)
    })
}

/// Becomes `sampan-image`, which knows no templates: those are made of its JSON.
fn image(args: &Args, with: &[OsString]) -> Result<u8, Error> {
    const PROGRAM: &str = "sampan-image";
    let (with, named) = format::taken_out(with).map_err(Error::Here)?;
    let Some(format) = named.or_else(|| args.format.clone()) else {
        return become_program(PROGRAM, |program| program.args(with));
    };
    let path = beside_us(PROGRAM);
    let mut program = Command::new(&path);
    program.args(with).arg("--json").stderr(Stdio::inherit());
    let ran = program.output().map_err(|error| cannot_run(&path, &error))?;
    // Its own words stand above.
    if !ran.status.success() {
        return Ok(ran.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED));
    }
    for value in serde_json::Deserializer::from_slice(&ran.stdout).into_iter::<serde_json::Value>() {
        let value = value.map_err(|error| Error::Broken(error.into()))?;
        out(format.of(&value, true).map_err(Error::Here)?.as_bytes())?;
    }
    Ok(DONE)
}

fn become_program(name: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<u8, Error> {
    let path = beside_us(name);
    let error = arguments(&mut Command::new(&path)).exec();
    Err(cannot_run(&path, &error))
}

/// The program of our own installation, else the PATH's.
fn beside_us(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

fn cannot_run(path: &Path, error: &io::Error) -> Error {
    Error::Here(format!("cannot run {}: {error}", path.display()))
}
