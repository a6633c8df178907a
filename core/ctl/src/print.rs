//! Replies as people read them: tables that fit the terminal, one line a transition.
use sampan_api::{Applied, Inspect, Loop, PluginStatus, Status, Transition, Turn, Version};
use std::io::IsTerminal;

/// The terminal's width; as wide as it takes where there is none.
fn width() -> usize {
    let out = std::io::stdout();
    match out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out)) {
        Some(Ok(size)) if size.ws_col > 0 => size.ws_col.into(),
        _ => usize::MAX,
    }
}

/// Columns as wide as their widest cell; the last but one gives way first where the terminal is too narrow.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    fit(head, rows, width())
}

fn fit(head: &[&str], rows: &[Vec<String>], width: usize) -> String {
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
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(&widths) {
            line.push_str(&cut(cell, *widest));
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
    table(&["NAME", "STATE", "HEALTH", "RESTARTS", "LAST-EXIT", "PORTS"], &rows)
}

/// `systemctl status`, for one service.
pub fn status(service: &Inspect, why: &[Transition]) -> String {
    let s = &service.status;
    let mut out = format!("{}: {}\n", s.name, s.text);
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
    for transition in why.iter().rev().take(5).rev() {
        out.push_str(&format!("  {}", self::transition(transition)));
    }
    out
}

pub fn transition(t: &Transition) -> String {
    if t.from == t.to {
        return format!("{} {} {} (g{}) {}\n", t.time, t.service, t.to, t.generation, t.cause);
    }
    format!("{} {} {} -> {} (g{}) {}\n", t.time, t.service, t.from, t.to, t.generation, t.cause)
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
            fit(&["NAME", "STATE"], &rows(), 80),
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
            fit(&["NAME", "STATE"], &rows(), 24),
            "NAME      STATE\nweb       running 3m\ndatabase  waiting for s…\n"
        );
    }
}
