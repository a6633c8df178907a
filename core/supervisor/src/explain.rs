//! Why a service is as it is, in words for people: what `sampanctl why` says before it shows the chain of transitions.
//!
//! Pure: from the service's machine, its config and its last records. How a life ended is read off the records alone, so that
//! it is told the same by the next worker.
use crate::clock;
use sampan_api::Transition;
use sampan_config::schema;
use sampan_service::exit::SignalName;
use sampan_service::time::Span;
use sampan_service::{Exit, Failure, Health, Ms, Rest, State, Status, WaitFor};
use std::time::Duration;

const A_MOMENT: Duration = Duration::from_millis(20);

/// What is known of a service.
#[derive(Debug)]
pub struct Known<'k> {
    pub config: &'k schema::Service,
    pub state: &'k State,
    /// How many lives it has had.
    pub generation: u64,
    pub now: Ms,
    pub starts_by_itself: bool,
    /// Its last transitions, oldest first.
    pub chain: &'k [Transition],
    /// What the last health check said.
    pub last_check: Option<&'k str>,
    /// The state of the service that it waits for.
    pub awaited: Option<String>,
    /// When it begins by time.
    pub next_run: Option<String>,
}

/// One or two sentences without a line end.
pub fn explain(known: &Known<'_>) -> String {
    let name = &known.config.name;
    let last = last_end(known);
    let before = last.as_ref().map(|end| format!(" The run before {end}.")).unwrap_or_default();
    let ended = last.clone().unwrap_or_else(|| "has ended".into());
    match known.state {
        State::Stopped { why: Rest::Finished } => {
            format!("{name} is done: its last run {ended}.{}", comes(known))
        }
        State::Stopped { why: Rest::Scheduled } if known.next_run.is_none() => {
            format!(
                "{name} does not run by itself any more: its `schedule` does not come again. `sampanctl start {name}` starts it now."
            )
        }
        State::Stopped { why: Rest::Scheduled } => {
            format!(
                "{name} waits for its time (schedule).{} `sampanctl start {name}` starts it now.",
                comes(known)
            )
        }
        State::Stopped { .. } if known.generation == 0 => never_started(known),
        State::Stopped { why: Rest::Shutdown } => format!("{name} is stopped because sampand ends."),
        State::Stopped { why: Rest::Down(_) } => {
            format!("{name} is stopped: its last run {ended}.{}", starts(known))
        }
        State::Waiting { on, .. } => format!("{name} {}.{before}", waits(on, known.awaited.as_deref())),
        State::Creating { .. } | State::Created { .. } => format!("{name} is being started.{before}"),
        State::Starting { since, health, .. } => {
            format!(
                "{name} has run for {} and is not ready yet{}.{before}",
                ago(known, *since),
                check(known, *health)
            )
        }
        State::Running { since, health, adopted, .. } => {
            let adopted = if *adopted { " (this sampand found it running)" } else { "" };
            format!("{name} has run for {}{adopted}{}.{before}", ago(known, *since), check(known, *health))
        }
        State::Stopping { since, why, .. } => {
            format!("{name} has been stopping for {}: it {}.", ago(known, *since), stopped(&why.to_string()))
        }
        State::Lingering { .. } => format!("{name}: its last run {ended}; what it left is being removed."),
        State::Backoff { until, attempt, .. } => format!(
            "{name}: its last run {ended}. It starts again in {}, attempt {attempt}.",
            Span(until.since(known.now))
        ),
        State::Failed { why } => format!("{name} has failed{}. {}", failed(why, last), again(known)),
    }
}

fn ago(known: &Known<'_>, since: Ms) -> String {
    Span(known.now.since(since)).to_string()
}

fn comes(known: &Known<'_>) -> String {
    known.next_run.as_ref().map(|at| format!(" Its next run is at {at}.")).unwrap_or_default()
}

fn never_started(known: &Known<'_>) -> String {
    let name = &known.config.name;
    if known.config.of.is_some() {
        return format!("{name} was stopped before it started.");
    }
    let because = match (known.config.autostart, known.starts_by_itself) {
        (false, _) => "autostart = false",
        (true, false) => "none of its profiles is active",
        (true, true) => "nobody has asked for it",
    };
    format!("{name} was never started: {because}. `sampanctl start {name}` starts it.")
}

fn waits(on: &WaitFor, awaited: Option<&str>) -> String {
    match on {
        WaitFor::Dependency { service, condition } => {
            let awaited = awaited.map(|state| format!(", which is {state}")).unwrap_or_default();
            let until = match condition.word() {
                "completed_successfully" => "has ended successfully".to_owned(),
                "started" => "has started".to_owned(),
                word => format!("is {word}"),
            };
            format!("waits until {service} {until} (depends_on){awaited}")
        }
        WaitFor::Plugin(plugin) => format!("waits for plugin {plugin}, which it cannot do without"),
        WaitFor::StartSlot => "waits for its turn: others are being started (max_parallel_starts)".into(),
        WaitFor::Storm => {
            "waits because services restart too often on this host (supervisor.restart_storm)".into()
        }
        WaitFor::Turn => "waits for its turn".into(),
    }
}

fn check(known: &Known<'_>, health: Health) -> String {
    let said = known.last_check.map(one_line).filter(|said| !said.is_empty());
    match (health, said) {
        (Health::None, _) => String::new(),
        (Health::Healthy, _) => " and is healthy".into(),
        (Health::Starting, Some(said)) => format!("; its health check says so far: {said:?}"),
        (Health::Starting, None) => "; its health check has not answered yet".into(),
        (Health::Unhealthy, Some(said)) => format!(" and is unhealthy: its check says {said:?}"),
        (Health::Unhealthy, None) => " and is unhealthy".into(),
    }
}

fn failed(why: &Failure, last: Option<String>) -> String {
    let last = last.map(|last| format!(": its last run {last}")).unwrap_or_default();
    match why {
        Failure::Attempts(n) => {
            let times = if *n == 1 { "once".to_owned() } else { format!("{n} times in a row") };
            format!(" after it was started again {times} (restart.max_attempts){last}")
        }
        Failure::Problem(problem) => format!(": it could not be started: {}", one_line(&problem.to_string())),
        Failure::Exit(_) | Failure::Unhealthy | Failure::StartTimeout | Failure::Oom => last,
    }
}

/// How it is started by hand; a one-off runs once.
fn starts(known: &Known<'_>) -> String {
    match known.config.of {
        Some(_) => String::new(),
        None => format!(" `sampanctl start {}` starts it.", known.config.name),
    }
}

fn again(known: &Known<'_>) -> String {
    let name = &known.config.name;
    match known.state {
        _ if known.config.of.is_some() => "It is run once, and not again.".into(),
        State::Failed { why: Failure::Problem(sampan_service::Problem::Config(_)) } => {
            "Mend the config, then `sampanctl apply`.".into()
        }
        _ => format!("`sampanctl start {name}` tries again; `sampanctl logs {name}` has what it said."),
    }
}

/// How the last life ended, as what follows "its last run".
fn last_end(known: &Known<'_>) -> Option<String> {
    let chain = known.chain;
    let ends = |record: &Transition| {
        record.from != record.to && (record.to == "lingering" || record.cause.starts_with("exit "))
    };
    let at = chain.iter().rposition(ends)?;
    let record = chain.get(at)?;
    let same_life = chain.get(..at)?.iter().rev().take_while(|before| before.generation == record.generation);
    let stop = same_life.clone().find(|before| before.to == "stopping" && before.from != "stopping");
    let by_hand = same_life.clone().find_map(|before| before.cause.strip_suffix(" by hand"));
    let cause = record.cause.strip_prefix("sampand came back: ").unwrap_or(&record.cause);
    let time = &record.time;
    let exit = cause.strip_prefix("exit ").and_then(Exit::parse);
    Some(match (stop, exit) {
        (Some(stop), exit) => {
            let took = took(stop, record);
            let how = exit.map(|exit| after_stop(known.config, exit, took)).unwrap_or_default();
            format!("{}{how}, at {time}", stopped(&stop.cause))
        }
        (None, Some(exit)) => format!("{}, at {time}", by_itself(known.config, exit, by_hand)),
        (None, None) => format!("did not begin ({}), at {time}", one_line(cause)),
    })
}

/// What a stop was for.
fn stopped(cause: &str) -> String {
    if let Some(said) = cause.strip_prefix("unhealthy: ") {
        return format!("was stopped because its health check failed: {:?}", one_line(said));
    }
    match cause {
        "start timed out" | "time is up" => {
            "was stopped because it was not ready within start_timeout".into()
        }
        "the config changed" => "was stopped because its config had changed".into(),
        "sampand stops" => "was stopped because sampand ended".into(),
        "removed from the config" => "was stopped because it is not in the config any more".into(),
        "stopped by hand" | "restarted by hand" => format!("was {cause}"),
        cause => format!("was stopped ({})", one_line(cause)),
    }
}

/// Between two records.
fn took(from: &Transition, to: &Transition) -> Option<Duration> {
    clock::parse_rfc3339(&to.time)?.duration_since(clock::parse_rfc3339(&from.time)?).ok()
}

/// How it went in the end. Not everything that is killed had its time: a stop_signal may be SIGKILL, and so may on_failure.
fn after_stop(config: &schema::Service, exit: Exit, took: Option<Duration>) -> String {
    let grace = config.stop_grace_period;
    match exit.status {
        // A record has its time a moment later than what it tells.
        Status::Signal(libc::SIGKILL) if took.is_some_and(|took| took + A_MOMENT >= grace) => {
            format!(", did not end within {} and was killed", Span(grace))
        }
        Status::Signal(libc::SIGKILL) => " and was killed".into(),
        Status::Signal(_) | Status::Unknown => String::new(),
        Status::Code(code) => format!(" and ended with exit code {code}"),
    }
}

fn by_itself(config: &schema::Service, exit: Exit, by_hand: Option<&str>) -> String {
    match exit.status {
        Status::Signal(_) if exit.oom => match config.resources.memory {
            Some(limit) => format!(
                "was killed by the kernel: it needed more memory than resources.memory = {} allows",
                sampan_config::units::show_size(limit)
            ),
            None => "was killed by the kernel because the host ran out of memory".into(),
        },
        Status::Signal(signal) => {
            let name = SignalName(signal).to_string();
            match signal {
                _ if by_hand == Some(name.as_str()) => format!("was ended by {name} of `sampanctl kill`"),
                libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP => {
                    format!("was ended by {name}, which sampand had not sent")
                }
                _ => format!("was ended by {name}"),
            }
        }
        Status::Code(code) if exit.oom => {
            format!("ended with exit code {code}, after the kernel had killed a process of it for its memory")
        }
        Status::Code(code) => format!("ended by itself with exit code {code}"),
        Status::Unknown => "ended while nobody could ask the kernel how".into(),
    }
}

/// Of what may have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
