//! What verbs found out, as text: JSON in the shapes that clients of runc read, tables for people.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::launch::trace::Cost;
use crate::ops;
use crate::ops::ns::Target;
use crate::store::state::Document;

/// Prints to stdout; a reader that has gone away is no error of ours.
pub fn print(text: &str) -> ops::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(ops::doing("cannot write to stdout")(e)),
        _ => Ok(()),
    }
}

/// Any value as one line of JSON, its fields in the order in which the type has them.
pub fn json_line(value: &impl serde::Serialize) -> ops::Result<String> {
    let text =
        serde_json::to_string(value).map_err(|e| ops::Error::new(format!("cannot write JSON: {e}")))?;
    Ok(text + "\n")
}

/// The same of a list, as Go writes it: an empty one is `null`.
pub fn json_list<T: serde::Serialize>(list: &[T]) -> ops::Result<String> {
    json_line(&(!list.is_empty()).then_some(list))
}

/// Any value as indented JSON with a line end.
pub fn json(value: &impl serde::Serialize) -> ops::Result<String> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| ops::Error::new(format!("cannot write JSON: {e}")))?;
    text.push('\n');
    Ok(text)
}

pub fn lines(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

/// As runc's, from Go's tabwriter: columns of 12 at least, three blanks behind the longest cell, none behind the last.
pub fn containers(rows: &[Document<'_>]) -> String {
    const COLUMN_MIN: usize = 12;
    const GAP: usize = 3;
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let cells = |r: &Document<'_>| {
        let bundle = r.bundle.display().to_string();
        [r.id.into(), r.pid.to_string(), r.status.into(), bundle, r.created.into(), r.owner.clone()]
    };
    let lines: Vec<[String; 6]> = [head].into_iter().chain(rows.iter().map(cells)).collect();
    let widest = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(|column| COLUMN_MIN.max(widest(column) + GAP)).collect();
    let mut out = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(out, "{cell:width$}");
        }
        let _ = writeln!(out, "{}", line[5]);
    }
    out
}

/// Each target with the namespaces it is in, and whose they are.
pub fn namespaces(found: &[Target]) -> String {
    if found.is_empty() {
        return "no container is running; `sampan ns PID` shows a process's namespaces\n".into();
    }
    let mut out = String::new();
    for t in found {
        let same = t.target == t.pid.to_string();
        let _ =
            if same { writeln!(out, "pid {}", t.pid) } else { writeln!(out, "{}  pid {}", t.target, t.pid) };
        for n in &t.namespaces {
            let mut whose = if n.host { "host".to_owned() } else { "own".to_owned() };
            if !n.shared_with.is_empty() {
                let with = n.shared_with.join(", ");
                whose = if n.host { format!("host, as {with}") } else { format!("shared with {with}") };
            }
            let _ = writeln!(out, "  {:6}  {:<10}  {whose}", n.kind, n.inode);
        }
    }
    out
}

/// One line a step, in microseconds, and the sum without what was spent on others.
pub fn costs(costs: &[Cost]) -> String {
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let mut out = String::new();
    for cost in costs {
        out += &format!("{:>3} {:>9.1} us  {}\n", cost.number, us(cost.nanoseconds), cost.words);
    }
    let own = costs.iter().filter(|cost| !cost.is_others).map(|cost| cost.nanoseconds).sum();
    out + &format!("    {:>9.1} us  all steps, without waiting\n", us(own))
}
