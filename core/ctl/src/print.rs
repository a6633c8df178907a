//! Replies as people read them: tables that fit the terminal, one line a transition.
use crate::printable;
use sampan_api::{
    Applied, Inspect, Loop, Needs, Network, PluginStatus, Process, Secret, Status, Transition, Turn, Usage,
    Version, Volume, Why,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;

/// The terminal's width; as wide as it takes where there is none.
fn width() -> usize {
    let out = std::io::stdout();
    match out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out)) {
        Some(Ok(size)) if size.ws_col > 0 => size.ws_col.into(),
        _ => usize::MAX,
    }
}

/// For terminals alone, and not where `NO_COLOR` says so (no-color.org).
fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns as wide as their widest cell; the last but one gives way first where the terminal is too narrow.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    fit(head, rows, width(), |_, _| None)
}

/// `paint` is asked for the colour (SGR) of a cell, by row and column.
fn fit(
    head: &[&str],
    rows: &[Vec<String>],
    width: usize,
    paint: impl Fn(usize, usize) -> Option<u8>,
) -> String {
    let count = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = head.iter().map(|name| count(name)).collect();
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(count(cell));
        }
    }
    // Narrow the widest column, down to something readable, until it fits.
    let needed = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    while needed(&widths) > width {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 8 => *widest -= 1,
            _ => break,
        }
    }
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    for (number, row) in std::iter::once(&head).chain(rows).enumerate() {
        let mut line = String::new();
        for (column, (cell, widest)) in row.iter().zip(&widths).enumerate() {
            match number.checked_sub(1).and_then(|row| paint(row, column)) {
                Some(colour) => line.push_str(&format!("\x1b[{colour}m{}\x1b[0m", cut(cell, *widest))),
                None => line.push_str(&cut(cell, *widest)),
            }
            line.push_str(&" ".repeat(2 + widest.saturating_sub(count(cell))));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

pub fn services(services: &[Status]) -> String {
    let rows: Vec<Vec<String>> = services
        .iter()
        .map(|s| {
            let exit = s.last_exit.clone().unwrap_or_else(|| "-".into());
            let ports = s.ports.join(", ");
            vec![s.name.clone(), s.text.clone(), s.health.clone(), s.restarts.to_string(), exit, ports]
        })
        .collect();
    let coloured = is_coloured();
    let paint = |row: usize, column: usize| {
        let status = services.get(row).filter(|_| coloured)?;
        match column {
            1 => colour(&status.state),
            2 => colour(&status.health),
            _ => None,
        }
    };
    fit(&["NAME", "STATE", "HEALTH", "RESTARTS", "LAST-EXIT", "PORTS"], &rows, width(), paint)
}

/// Green for what is well, red for what is not, yellow for what is on its way.
fn colour(word: &str) -> Option<u8> {
    match word {
        "running" | "healthy" => Some(32),
        "failed" | "unhealthy" => Some(31),
        "waiting" | "creating" | "created" | "starting" | "stopping" | "lingering" | "backoff" | "paused" => {
            Some(33)
        }
        _ => None,
    }
}

/// `systemctl status`, for one service.
pub fn status(service: &Inspect, why: &Why) -> String {
    let s = &service.status;
    let mut out = format!("{}: {}\n  {}\n", s.name, s.text, why.sentence);
    let mut line = |name: &str, value: &str| out.push_str(&format!("  {name:<10} {value}\n"));
    if s.health != "-" {
        line("health", &s.health);
    }
    if let Some(pid) = s.pid {
        line("pid", &pid.to_string());
    }
    if let Some(at) = &service.started_at {
        line("started", at);
    }
    line("wanted", &s.wanted);
    let totals = &service.totals;
    line("restarts", &format!("{} (in all {})", s.restarts, totals.restarts));
    match (&s.last_exit, &totals.last_exit) {
        (Some(exit), _) => line("last exit", exit),
        (None, Some(exit)) => line("last exit", &format!("{exit} (of an earlier run of sampand)")),
        (None, None) => {}
    }
    if !s.ports.is_empty() {
        line("ports", &s.ports.join(", "));
    }
    if let Some(result) = &service.last_check {
        line("last check", &format!("{} ({} ms)", result.output.trim(), result.took_ms));
    }
    let shown = why.chain.len().saturating_sub(5);
    for transition in why.chain.iter().skip(shown) {
        out.push_str(&format!("  {}", self::transition(transition)));
    }
    out
}

/// The sentence first, then what led to it.
pub fn why(why: &Why) -> String {
    let chain: String = why.chain.iter().map(transition).collect();
    let gap = if chain.is_empty() { "" } else { "\n" };
    format!("{}\n{gap}{chain}", why.sentence)
}

pub fn transition(t: &Transition) -> String {
    if t.from == t.to {
        return format!("{} {} {} (run {}) {}\n", t.time, t.service, t.to, t.generation, t.cause);
    }
    format!("{} {} {} -> {} (run {}) {}\n", t.time, t.service, t.from, t.to, t.generation, t.cause)
}

pub fn plugins(plugins: &[PluginStatus]) -> String {
    let rows: Vec<Vec<String>> = plugins
        .iter()
        .map(|p| {
            let state =
                if p.reason.is_empty() { p.state.clone() } else { format!("{}: {}", p.state, p.reason) };
            vec![
                p.name.clone(),
                p.version.clone(),
                state,
                p.calls.to_string(),
                p.errors.to_string(),
                p.path.clone(),
            ]
        })
        .collect();
    table(&["NAME", "VERSION", "STATE", "CALLS", "ERRORS", "PATH"], &rows)
}

/// `sampand: 812 turns of its loop, the longest 3.2 ms (request and 4 more), in the last minute 0.4 ms (gate)`.
pub fn turns(of: &Loop) -> String {
    let show = |turn: &Turn| {
        let more = match turn.messages.saturating_sub(1) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        match turn.first.as_str() {
            "" => "none".to_owned(),
            first => format!("{:.1} ms ({first}{more})", turn.took_us as f64 / 1000.0),
        }
    };
    format!(
        "sampand: {} turns of its loop, the longest {}, in the last minute {}\n",
        of.turns,
        show(&of.longest),
        show(&of.longest_of_last_minute)
    )
}

/// Of sampanctl and of sampand.
pub fn version(v: &Version) -> String {
    let (own, times) = (env!("CARGO_PKG_VERSION"), if v.worker_lives == 1 { "" } else { "s" });
    format!(
        "sampanctl {own}\nsampand   {} (keel {}, worker {}, started {} time{times})\n",
        v.version, v.keel_pid, v.worker_pid, v.worker_lives
    )
}

/// A line per service and per thing beside them: `web: restart ports`.
pub fn applied(done: &Applied) -> String {
    let line = |of: &str, what: &str, keys: &[String]| {
        format!("{of}: {what} {}", keys.join(", ")).trim_end().to_owned() + "\n"
    };
    let services = done.changes.iter().map(|change| line(&change.service, &change.what, &change.keys));
    let others = done.others.iter().map(|other| line(&other.of, &other.what, &other.keys));
    services.chain(others).collect()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

pub fn volumes(all: &[Volume], sizes: &[Option<u64>]) -> String {
    let row = |(v, size): (&Volume, &Option<u64>)| {
        let size = size.map_or("-".into(), bytes);
        vec![printable::line(&v.name), v.kind.clone(), size, listed(&v.services), printable::line(&v.path)]
    };
    let rows: Vec<_> = all.iter().zip(sizes).map(row).collect();
    table(&["NAME", "OF", "SIZE", "SERVICES", "PATH"], &rows)
}

pub fn secrets(all: &[Secret]) -> String {
    let row =
        |s: &Secret| vec![s.name.clone(), s.kind.clone(), printable::line(&s.from), listed(&s.services)];
    table(&["NAME", "KIND", "FROM", "SERVICES"], &all.iter().map(row).collect::<Vec<_>>())
}

pub fn networks(all: &[Network]) -> String {
    let row = |n: &Network| {
        let state = match (n.up, n.internal) {
            (true, false) => "up",
            (true, true) => "up, internal",
            (false, false) => "down",
            (false, true) => "down, internal",
        };
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        vec![n.name.clone(), state.into(), or_none(&n.subnet), or_none(&n.bridge), listed(&n.services)]
    };
    table(&["NAME", "STATE", "SUBNET", "BRIDGE", "SERVICES"], &all.iter().map(row).collect::<Vec<_>>())
}

pub fn processes(all: &[Process]) -> String {
    let row = |p: &Process| {
        vec![
            p.pid.to_string(),
            p.parent.to_string(),
            p.uid.to_string(),
            p.state.to_string(),
            seconds(p.cpu_ms),
            bytes(p.rss_bytes),
            printable::line(&p.command),
        ]
    };
    table(
        &["PID", "PARENT", "USER", "STATE", "CPU", "RSS", "COMMAND"],
        &all.iter().map(row).collect::<Vec<_>>(),
    )
}

fn seconds(ms: u64) -> String {
    match ms / 60_000 {
        0 => format!("{}.{:02}s", ms / 1000, ms % 1000 / 10),
        minutes => format!("{minutes}m{:02}s", ms / 1000 % 60),
    }
}

/// `512B`, `1.5K`, `16M`: of 1024 each.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if count < 1024 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let places = usize::from(value < 9.95);
    format!("{value:.places$}{}", UNITS.get(unit).copied().unwrap_or_default())
}

/// What was used between two looks; of what was there in the first look alone there is nothing to tell.
pub fn usage(before: &[Usage], now: &[Usage]) -> String {
    let before: BTreeMap<&str, &Usage> = before.iter().map(|one| (one.service.as_str(), one)).collect();
    let limit = |limit: Option<u64>, show: fn(u64) -> String| limit.map_or("-".into(), show);
    let row = |u: &Usage| {
        let cpu = before.get(u.service.as_str()).and_then(|b| cpu_percent(b, u));
        let both = |one: u64, other: u64| format!("{} / {}", bytes(one), bytes(other));
        vec![
            u.service.clone(),
            cpu.map_or("-".into(), |percent| format!("{percent:.1}%")),
            format!("{} / {}", bytes(u.memory_bytes), limit(u.memory_limit_bytes, bytes)),
            both(u.io_read_bytes, u.io_written_bytes),
            u.network.map_or("-".into(), |n| both(n.received_bytes, n.sent_bytes)),
            u.pressure.map_or("-".into(), |p| format!("{:.1} / {:.1} / {:.1}", p.cpu, p.memory, p.io)),
            format!("{} / {}", u.processes, limit(u.processes_limit, |count| count.to_string())),
        ]
    };
    let rows: Vec<_> = now.iter().map(row).collect();
    table(
        &["NAME", "CPU", "MEMORY / LIMIT", "READ / WRITTEN", "NET IN / OUT", "WAITS CPU / MEM / IO", "PIDS"],
        &rows,
    )
}

/// Of one CPU. None: its groups were made anew in between, or no time has passed.
fn cpu_percent(before: &Usage, now: &Usage) -> Option<f64> {
    let used = now.cpu_ns.checked_sub(before.cpu_ns)?;
    let passed = now.at_ms.checked_sub(before.at_ms).filter(|passed| *passed > 0)?;
    Some(used as f64 / (passed as f64 * 1e6) * 100.0)
}

/// A service a line, after all that it needs.
pub fn graph(all: &[Needs]) -> String {
    let of: BTreeMap<&str, &Needs> = all.iter().map(|one| (one.service.as_str(), one)).collect();
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // Without recursion: a chain may be as long as the config. What is seen a second time has all that it needs before it.
    let mut next: Vec<(&str, bool)> = of.keys().rev().map(|name| (*name, false)).collect();
    while let Some((name, its_needs_are_there)) = next.pop() {
        if its_needs_are_there {
            order.push(name);
        } else if seen.insert(name) {
            next.push((name, true));
            let needs = of.get(name).into_iter().flat_map(|one| one.needs.iter().rev());
            next.extend(needs.map(|need| (need.on.as_str(), false)));
        }
    }
    let row = |name: &&str| {
        let needs = of.get(name).into_iter().flat_map(|one| &one.needs);
        let needs: Vec<String> =
            needs.map(|need| format!("{} ({})", need.on, brief(&need.condition))).collect();
        vec![(*name).to_owned(), needs.join(", ")]
    };
    table(&["SERVICE", "NEEDS"], &order.iter().map(row).collect::<Vec<_>>())
}

/// For graphviz: an arrow from each service to what it needs. Names of services need no escapes.
pub fn dot(all: &[Needs]) -> String {
    let mut out = String::from("digraph services {\n");
    for one in all {
        out.push_str(&format!("  \"{}\";\n", one.service));
        for need in &one.needs {
            out.push_str(&format!(
                "  \"{}\" -> \"{}\" [label=\"{}\"];\n",
                one.service,
                need.on,
                brief(&need.condition)
            ));
        }
    }
    out + "}\n"
}

fn brief(condition: &str) -> &str {
    condition.trim_start_matches("service_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        vec![
            vec!["web".into(), "running 3m".into()],
            vec!["database".into(), "waiting for something long".into()],
        ]
    }

    #[test]
    fn columns_line_up() {
        assert_eq!(
            fit(&["NAME", "STATE"], &rows(), 80, |_, _| None),
            "NAME      STATE\nweb       running 3m\ndatabase  waiting for something long\n"
        );
    }

    #[test]
    fn turns_are_told_with_their_first_message() {
        let turn = |took_us, first: &str, messages| Turn { took_us, first: first.into(), messages };
        let of = Loop { turns: 8, longest: turn(3210, "request", 5), longest_of_last_minute: turn(0, "", 0) };
        assert_eq!(
            turns(&of),
            "sampand: 8 turns of its loop, the longest 3.2 ms (request and 4 more), in the last minute none\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_column() {
        assert_eq!(
            fit(&["NAME", "STATE"], &rows(), 24, |_, _| None),
            "NAME      STATE\nweb       running 3m\ndatabase  waiting for s…\n"
        );
    }

    #[test]
    fn colour_takes_no_room() {
        let green = |row, column| ((row, column) == (0, 1)).then_some(32);
        assert_eq!(
            fit(
                &["STATE", "NAME"],
                &[vec!["up".into(), "web".into()], vec!["down".into(), "database".into()]],
                80,
                green
            ),
            "STATE  NAME\nup     \x1b[32mweb\x1b[0m\ndown   database\n"
        );
        assert_eq!((colour("running"), colour("failed"), colour("stopped")), (Some(32), Some(31), None));
    }

    #[test]
    fn sizes_are_short() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (16 << 20, "16M"),
            (1 << 30, "1.0G"),
            ((1 << 20) - 1, "1.0M"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert!(bytes(u64::MAX).ends_with('P'));
        assert_eq!((seconds(1234), seconds(61_000)), ("1.23s".into(), "1m01s".into()));
    }

    #[test]
    fn use_is_what_came_between_two_looks() {
        let at = |at_ms, cpu_ns| Usage {
            service: "a".into(),
            at_ms,
            cpu_ns,
            memory_bytes: 1 << 20,
            memory_limit_bytes: None,
            processes: 2,
            processes_limit: Some(64),
            io_read_bytes: 0,
            io_written_bytes: 512,
            network: None,
            pressure: None,
        };
        let shown = usage(&[at(1000, 0)], &[at(3000, 1_000_000_000)]);
        let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row.join(" "), "a 50.0% 1.0M / - 0B / 512B - - 2 / 64");
        assert_eq!(cpu_percent(&at(1000, 5), &at(3000, 4)), None, "its groups are new");
        assert_eq!(cpu_percent(&at(1000, 5), &at(1000, 9)), None);
    }

    #[test]
    fn the_graph_has_what_is_needed_first() {
        let one = |service: &str, needs: &[&str]| Needs {
            service: service.into(),
            needs: needs
                .iter()
                .map(|on| sampan_api::Need { on: (*on).into(), condition: "service_started".into() })
                .collect(),
        };
        let all = [one("app", &["db", "cache"]), one("cache", &["db"]), one("db", &[])];
        assert_eq!(
            graph(&all),
            "SERVICE  NEEDS\ndb\ncache    db (started)\napp      db (started), cache (started)\n"
        );
        assert!(dot(&all).contains("  \"app\" -> \"db\" [label=\"started\"];\n"));
        let chain: Vec<Needs> =
            (0..20_000).map(|n| one(&format!("s{n:05}"), &[&format!("s{:05}", n + 1)])).collect();
        assert_eq!(graph(&chain).lines().nth(1), Some("s20000"));
    }
}
