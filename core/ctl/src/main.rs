//! sampanctl: each verb is one request to sampand, printed. What is decided is decided there.
mod args;
mod client;
mod follow;
mod print;
mod waits;

use args::{Args, PluginVerb, Verb};
use clap::Parser;
use client::Error;
use follow::Shown;
use sampan_api as api;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NO_SUPERVISOR: u8 = 3;
const NOT_HEALTHY: u8 = 4;

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| without_strange_tips(error).exit());
    match run(&args) {
        Ok(code) => ExitCode::from(code),
        // The reader of our output has gone: nothing to say, nobody to say it to.
        Err(Error::Broken(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(match error {
                Error::NoSupervisor { .. } | Error::Dead { .. } => NO_SUPERVISOR,
                Error::Refused(failure) if failure.code == "config" || failure.code == "usage" => USAGE,
                Error::Forbidden { .. } | Error::Refused(_) | Error::Broken(_) | Error::Stopped { .. } => {
                    FAILED
                }
            })
        }
    }
}

fn run(args: &Args) -> Result<u8, Error> {
    let ask = Ask(args);
    match &args.verb {
        Verb::Up { services, wait, timeout } => {
            let timeout_ms = timeout.map(|seconds| seconds.saturating_mul(1000));
            let up = api::Up { services: services.clone(), wait: *wait, timeout_ms };
            let done: api::Done = ask.show("POST", "/v1/up", Some(&to_json(&up)), print_done)?;
            return Ok(if *wait && !done.complete { NOT_HEALTHY } else { 0 });
        }
        Verb::Down => {
            let done = ask.show::<api::Done>("POST", "/v1/down", None, |_| String::new())?;
            if !done.complete {
                complain("not all is stopped; what sampand said last tells what is left, and why");
                return Ok(FAILED);
            }
        }
        Verb::Ps { quiet } => {
            let names = |all: &Vec<api::Status>| all.iter().map(|s| format!("{}\n", s.name)).collect();
            let print = |all: &Vec<api::Status>| if *quiet { names(all) } else { print::services(all) };
            ask.show("GET", "/v1/services", None, print)?;
        }
        Verb::Status { services } => status(&ask, services)?,
        Verb::Inspect { service } => {
            let path = of(service, "");
            out(pretty(&client::text(&mut ask.send("GET", &path, None)?)?).as_bytes())?;
        }
        Verb::Start { services, detach } => return each(&ask, services, "start", *detach),
        Verb::Stop { services, detach } => return all_at_once(&ask, services, "stop", *detach),
        Verb::Restart { services, detach } => return each(&ask, services, "restart", *detach),
        Verb::Kill { service, signal } => {
            let body = to_json(&api::Kill { signal: signal.clone() });
            ask.show::<api::Done>("POST", &of(service, "/kill"), Some(&body), |_| String::new())?;
        }
        Verb::Logs { services, follow, tail, timestamps } => {
            let mut query: Vec<String> =
                services.iter().map(|name| format!("service={}", client::quoted(name))).collect();
            query.push(format!("follow={follow}"));
            let mut shown = Shown::default();
            let mut stream = |again: bool| {
                let mut query = query.clone();
                // Later from the start: what has been shown is known.
                query
                    .extend(tail.filter(|_| !again || shown.is_empty()).map(|lines| format!("tail={lines}")));
                let body = ask.send("GET", &format!("/v1/logs?{}", query.join("&")), None)?;
                shown.begin_anew();
                logs(body, &mut shown, services.len() == 1, *timestamps, args.json)
            };
            if *follow { follow::over_deaths(stream)? } else { stream(false)? }
        }
        Verb::Events { follow, since } => {
            // What has been, unless only what comes is asked for.
            let mut next = since.or((!follow).then_some(1));
            let mut stream = |_| {
                let since = next.map(|seq| format!("&since={seq}")).unwrap_or_default();
                let body = ask.send("GET", &format!("/v1/events?follow={follow}{since}"), None)?;
                events(body, &mut next, args.json)
            };
            if *follow { follow::over_deaths(stream)? } else { stream(false)? }
        }
        Verb::Why { service } => {
            let print = |all: &Vec<api::Transition>| all.iter().map(print::transition).collect();
            ask.show("GET", &of(service, "/why"), None, print)?;
        }
        Verb::Exec { service, command, tty } => return exec(&ask, service, command, *tty),
        Verb::Apply => {
            ask.show("POST", "/v1/apply", None, print::applied)?;
        }
        Verb::Config { service } => {
            let service =
                service.as_ref().map(|name| format!("&service={}", client::quoted(name))).unwrap_or_default();
            let path = format!("/v1/config?json={}{service}", args.json);
            out(client::text(&mut ask.send("GET", &path, None)?)?.as_bytes())?;
        }
        Verb::Plugin(PluginVerb::List) => {
            ask.show("GET", "/v1/plugins", None, |all: &Vec<api::PluginStatus>| print::plugins(all))?;
        }
        Verb::Plugin(PluginVerb::Reset { name }) => {
            let path = format!("/v1/plugins/{}/reset", client::quoted(name));
            ask.show("POST", &path, None, |done: &api::PluginReset| format!("{}\n", done.text))?;
        }
        Verb::Plugin(PluginVerb::Call { name, request }) => {
            let mut body =
                ask.send("POST", &format!("/v1/plugins/{}/control", client::quoted(name)), Some(request))?;
            copy(&mut body)?;
        }
        Verb::Version => {
            let own = env!("CARGO_PKG_VERSION");
            let print = |v: &api::Version| {
                format!(
                    "sampanctl {own}\nsampand   {} (keel {}, worker {}, started {} time{})\n",
                    v.version,
                    v.keel_pid,
                    v.worker_pid,
                    v.worker_lives,
                    if v.worker_lives == 1 { "" } else { "s" }
                )
            };
            ask.show("GET", "/v1/version", None, print)?;
        }
    }
    Ok(0)
}

/// The way to sampand, and how its replies are shown.
struct Ask<'a>(&'a Args);

impl Ask<'_> {
    fn send(&self, method: &str, path: &str, body: Option<&str>) -> Result<client::Body, Error> {
        client::send(&self.0.socket, method, path, body)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        parse(&client::text(&mut self.send("GET", path, None)?)?)
    }

    /// Prints a reply, as JSON if that is asked for, and gives it back.
    fn show<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        print: impl Fn(&T) -> String,
    ) -> Result<T, Error> {
        self.print(&client::text(&mut self.send(method, path, body)?)?, print)
    }

    fn print<T: DeserializeOwned>(&self, text: &str, print: impl Fn(&T) -> String) -> Result<T, Error> {
        let value = parse(text)?;
        out(if self.0.json { pretty(text) } else { print(&value) }.as_bytes())?;
        Ok(value)
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Broken(io::Error::new(io::ErrorKind::InvalidData, error)))
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn pretty(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => format!("{value:#}\n"),
        Err(_) => text.to_owned(),
    }
}

fn of(service: &str, verb: &str) -> String {
    format!("/v1/services/{}{verb}", client::quoted(service))
}

fn print_done(done: &api::Done) -> String {
    print::services(&done.services)
}

/// A verb for each service in turn; what failed, or has not come true, is said, and the rest goes on.
fn each(ask: &Ask<'_>, services: &[String], verb: &str, detach: bool) -> Result<u8, Error> {
    let mut code = 0;
    for service in services {
        let answer = waits::told(&ask.0.socket, service, || act(&ask.0.socket, service, verb, detach));
        code = code.max(tell(ask, service, verb, detach, answer)?);
    }
    Ok(code)
}

/// As `each`, asked for all at once: one that takes its time holds up no other. The answers come in the order of the names.
fn all_at_once(ask: &Ask<'_>, services: &[String], verb: &str, detach: bool) -> Result<u8, Error> {
    let socket = &ask.0.socket;
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
        let mut code = 0;
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
        Ok(_) => Ok(0),
        Err(Error::Refused(failure)) => {
            complain(&Error::Refused(failure).to_string());
            Ok(FAILED)
        }
        Err(error) => Err(error),
    }
}

/// People seldom miss the first letter: who types `top` does not mean `stop`.
fn without_strange_tips(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let initial = |value: Option<&ContextValue>| match value {
        Some(ContextValue::String(text)) => text.chars().next(),
        Some(ContextValue::Strings(texts)) => texts.first().and_then(|text| text.chars().next()),
        _ => None,
    };
    if initial(error.get(ContextKind::InvalidSubcommand))
        != initial(error.get(ContextKind::SuggestedSubcommand))
    {
        error.remove(ContextKind::SuggestedSubcommand);
    }
    error
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "sampanctl: {text}");
}

fn status(ask: &Ask<'_>, services: &[String]) -> Result<(), Error> {
    let all: Vec<api::Status> = ask.get("/v1/services")?;
    let names =
        if services.is_empty() { all.into_iter().map(|s| s.name).collect() } else { services.to_vec() };
    let mut values = Vec::new();
    for name in names {
        let inspect: api::Inspect = ask.get(&of(&name, ""))?;
        let why: Vec<api::Transition> = ask.get(&of(&name, "/why"))?;
        if ask.0.json {
            values.push(serde_json::json!({ "service": inspect, "why": why }));
        } else {
            out(print::status(&inspect, &why).as_bytes())?;
        }
    }
    if ask.0.json { out(format!("{:#}\n", serde_json::Value::from(values)).as_bytes()) } else { Ok(()) }
}

/// `SERVICE TIME STREAM F|P TEXT` -> what was asked to be seen of it. stdout and stderr stay apart, and a text comes out byte
/// by byte as it went in; JSON knows no bytes, so there what is no UTF-8 is replaced.
fn logs(body: client::Body, seen: &mut Shown, one: bool, timestamps: bool, json: bool) -> Result<(), Error> {
    let mut reader = BufReader::new(body);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let whole = line.strip_suffix(b"\n").unwrap_or(&line);
        let fields: Vec<&[u8]> = whole.splitn(5, |byte| *byte == b' ').collect();
        let [service, time, stream, tag, text] = fields.as_slice() else { continue };
        if !seen.is_new(service, stream, time) {
            continue;
        }
        let partial = *tag == b"P";
        if json {
            let [service, time, stream, text] =
                [service, time, stream, text].map(|field| String::from_utf8_lossy(field));
            let value = serde_json::json!({
                "service": service, "time": time, "stream": stream, "partial": partial, "text": text,
            });
            out(format!("{value}\n").as_bytes())?;
            continue;
        }
        let mut shown = Vec::with_capacity(line.len());
        if !one {
            shown.extend_from_slice(service);
            shown.extend_from_slice(b" | ");
        }
        if timestamps {
            shown.extend_from_slice(time);
            shown.push(b' ');
        }
        shown.extend_from_slice(text);
        if !partial || !one {
            shown.push(b'\n');
        }
        match *stream {
            b"stderr" => io::stderr().lock().write_all(&shown)?,
            _ => out(&shown)?,
        }
    }
}

fn events(body: client::Body, next: &mut Option<u64>, json: bool) -> Result<(), Error> {
    for line in BufReader::new(body).lines() {
        let line = line?;
        let transition = serde_json::from_str::<api::Transition>(&line);
        if let Ok(transition) = &transition {
            *next = Some(transition.seq + 1);
        }
        match transition {
            Ok(transition) if !json => out(print::transition(&transition).as_bytes())?,
            _ => out(format!("{line}\n").as_bytes())?,
        }
    }
    Ok(())
}

/// Becomes `sampan exec`: terminal, signals and exit code are the runtime's own.
fn exec(ask: &Ask<'_>, service: &str, command: &[String], tty: bool) -> Result<u8, Error> {
    let inspect: api::Inspect = ask.get(&of(service, ""))?;
    if inspect.status.pid.is_none() {
        complain(&format!("{service} is not running: {}", inspect.status.text));
        return Ok(FAILED);
    }
    let version: api::Version = ask.get("/v1/version")?;
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("sampan")));
    let sampan = beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("sampan"));
    let mut program = Command::new(&sampan);
    program.arg("--root").arg(&version.containers).arg("exec");
    if tty || io::stdin().is_terminal() && io::stdout().is_terminal() {
        program.arg("--tty");
    }
    program.arg(&inspect.container_id).args(command);
    let error = program.exec();
    Err(Error::Broken(io::Error::new(error.kind(), format!("cannot run {}: {error}", sampan.display()))))
}

fn out(text: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()?;
    Ok(())
}

fn copy(body: &mut client::Body) -> Result<(), Error> {
    let mut buffer = [0; 64 * 1024];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(()),
            count => io::stdout().lock().write_all(buffer.get(..count).unwrap_or_default())?,
        }
    }
}
