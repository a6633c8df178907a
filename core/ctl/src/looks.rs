//! Verbs that only look.
use crate::args::Condition;
use crate::ask::{Ask, DONE, FAILED, complain, of, out, query};
use crate::client::{self, Error};
use crate::print;
use sampan_api as api;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Between two looks at what services use.
const PAUSE: Duration = Duration::from_secs(1);
/// To the upper left, and nothing below it.
const CLEAR: &str = "\x1b[H\x1b[J";

pub fn ps(ask: &Ask<'_>, quiet: bool, filters: &[String], watch: bool) -> Result<(), Error> {
    let path = format!("/v1/services{}", query("filter", filters));
    let clear = if watch && !ask.wants_values() && io::stdout().is_terminal() { CLEAR } else { "" };
    let names = |all: &[api::Status]| all.iter().map(|s| format!("{}\n", s.name)).collect::<String>();
    let table = |all: &[api::Status]| if quiet { names(all) } else { print::services(all) };
    loop {
        ask.show("GET", &path, None, |all: &Vec<api::Status>| format!("{clear}{}", table(all)))?;
        if !watch {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

pub fn port(ask: &Ask<'_>, service: &str, port: Option<&str>) -> Result<(), Error> {
    let status = ask.get::<api::Inspect>(&of(service, ""))?.status;
    // `127.0.0.1:8080->80/tcp`
    let published: Vec<(&str, &str)> =
        status.ports.iter().filter_map(|port| port.split_once("->")).map(|(host, own)| (own, host)).collect();
    let wanted = port.map(|port| if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") });
    let shown: Vec<_> =
        published.iter().filter(|(own, _)| wanted.as_deref().is_none_or(|w| w == *own)).collect();
    if let (Some(wanted), true) = (&wanted, shown.is_empty()) {
        let all: Vec<&str> = published.iter().map(|(own, _)| *own).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        return Err(Error::Here(format!("{service} publishes no port {wanted}; it publishes: {all}")));
    }
    if ask.wants_values() {
        let all: Vec<_> =
            shown.iter().map(|(own, host)| serde_json::json!({ "port": own, "at": host })).collect();
        return ask.value(&all.into());
    }
    let line = |(own, host): &&(&str, &str)| match wanted {
        Some(_) => format!("{host}\n"),
        None => format!("{own} -> {host}\n"),
    };
    out(shown.iter().map(line).collect::<String>().as_bytes())
}

pub fn top(ask: &Ask<'_>, services: &[String]) -> Result<(), Error> {
    for service in services {
        let name = if services.len() == 1 { String::new() } else { format!("{service}:\n") };
        let print = |all: &Vec<api::Process>| format!("{name}{}", print::processes(all));
        ask.show("GET", &of(service, "/processes"), None, print)?;
    }
    Ok(())
}

pub fn stats(ask: &Ask<'_>, services: &[String], once: bool) -> Result<(), Error> {
    let path = format!("/v1/usage{}", query("service", services));
    let is_terminal = io::stdout().is_terminal();
    let mut before: Vec<api::Usage> = ask.get(&path)?;
    loop {
        if ask.wants_values() {
            ask.value_of_stream(&serde_json::json!(before))?;
            if once {
                return Ok(());
            }
        }
        std::thread::sleep(PAUSE);
        let now: Vec<api::Usage> = ask.get(&path)?;
        if !ask.wants_values() {
            let clear = if once || !is_terminal { "" } else { CLEAR };
            out(format!("{clear}{}", print::usage(&before, &now)).as_bytes())?;
        }
        if once {
            return Ok(());
        }
        before = now;
    }
}

/// Whose exit codes are printed where that is what is waited for.
pub fn wait(
    ask: &Ask<'_>,
    services: &[String],
    condition: Condition,
    timeout: Option<u64>,
) -> Result<u8, Error> {
    wait_for(ask, services, condition, timeout, |done| match (condition, done.services.first()) {
        (Condition::Exited | Condition::Done, Some(status)) if done.complete => {
            format!("{}\n", status.exit_code.map_or("unknown".into(), |code| code.to_string()))
        }
        _ => String::new(),
    })
}

/// Until they are done.
pub fn jobs(ask: &Ask<'_>, services: &[String]) -> Result<u8, Error> {
    wait_for(ask, services, Condition::Done, None, |_| String::new())
}

/// For all at once; the answers come in the order of the names.
fn wait_for(
    ask: &Ask<'_>,
    services: &[String],
    condition: Condition,
    timeout: Option<u64>,
    print: impl Fn(&api::Done) -> String,
) -> Result<u8, Error> {
    let socket = ask.socket();
    let limit =
        timeout.map(|seconds| format!("&timeout_ms={}", seconds.saturating_mul(1000))).unwrap_or_default();
    let asked: Vec<Result<String, Error>> = std::thread::scope(|scope| {
        let one = |service: &String| {
            let path = of(service, &format!("/wait?condition={}{limit}", name_of(condition)));
            scope.spawn(move || client::text(&mut client::send(socket, "GET", &path, None)?))
        };
        let threads: Vec<_> = services.iter().map(one).collect();
        let broken = |_| Err(Error::Broken(io::Error::other("the thread that asked has ended")));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(broken)).collect()
    });
    let mut code = DONE;
    for (service, answer) in services.iter().zip(asked) {
        let done = match answer.and_then(|text| ask.print(&text, &print)) {
            Err(Error::Refused(failure)) => {
                complain(&Error::Refused(failure).to_string());
                code = FAILED;
                continue;
            }
            answer => answer?,
        };
        let one = outcome(service, condition, &done).unwrap_or_else(|why| {
            complain(&why);
            FAILED
        });
        code = if code == DONE { one } else { code };
    }
    Ok(code)
}

/// With what to end for this service, or why it is not as it was to be.
fn outcome(service: &str, condition: Condition, done: &api::Done) -> Result<u8, String> {
    let status = done.services.first();
    if !done.complete {
        let text = status.map_or("gone", |status| &status.text);
        let condition = name_of(condition);
        return Err(format!("{service} is not {condition}: {text}\n  see `sampanctl why {service}`"));
    }
    if let (Condition::Done, Some(status)) = (condition, status.filter(|status| status.state == "failed"))
        && status.exit_code.is_none_or(|code| code == 0)
    {
        return Err(format!("{service} has failed: {}\n  see `sampanctl why {service}`", status.text));
    }
    match (condition, status.and_then(|status| status.exit_code)) {
        (Condition::Running | Condition::Healthy, _) => Ok(DONE),
        (Condition::Exited | Condition::Done, Some(exit)) => Ok(u8::try_from(exit).unwrap_or(FAILED)),
        // It has not run, or ended where nobody could ask the kernel for its status.
        (Condition::Exited | Condition::Done, None) => Err(format!(
            "{service}: its exit code is unknown: {}\n  see `sampanctl why {service}`",
            status.map_or("gone", |status| &status.text)
        )),
    }
}

fn name_of(condition: Condition) -> &'static str {
    match condition {
        Condition::Running => "running",
        Condition::Healthy => "healthy",
        Condition::Exited => "exited",
        Condition::Done => "done",
    }
}

pub fn graph(ask: &Ask<'_>, dot: bool) -> Result<(), Error> {
    let print = |all: &Vec<api::Needs>| if dot { print::dot(all) } else { print::graph(all) };
    ask.show("GET", "/v1/graph", None, print).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that has ended so.
    fn ended(exit_code: Option<i32>) -> api::Done {
        let status = serde_json::json!({
            "name": "job", "state": "stopped", "text": "stopped", "health": "-", "wanted": "down", "restarts": 0,
            "last_exit": exit_code.map(|code| code.to_string()), "pid": null, "ports": [], "generation": 1,
            "exit_code": exit_code,
        });
        api::Done { services: vec![serde_json::from_value(status).unwrap()], complete: true }
    }

    #[test]
    fn an_exit_code_that_nobody_knows_is_no_success() {
        let exited = |done: &api::Done| outcome("job", Condition::Exited, done);
        assert_eq!(exited(&ended(Some(0))), Ok(DONE));
        assert_eq!(exited(&ended(Some(7))), Ok(7));
        for unknown in [ended(None), api::Done { services: Vec::new(), complete: true }] {
            let why = exited(&unknown).unwrap_err();
            assert!(why.contains("job") && why.contains("unknown"), "{why}");
            // Whether it has been healthy does not hang on how it ended.
            assert_eq!(outcome("job", Condition::Healthy, &unknown), Ok(DONE));
        }
        let late = api::Done { complete: false, ..ended(None) };
        assert!(exited(&late).unwrap_err().contains("job is not exited: stopped"));
    }
}
