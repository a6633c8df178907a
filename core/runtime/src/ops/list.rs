//! `sampan list`: every container of the root. One that vanishes meanwhile is left out; one that cannot be read is named
//! on stderr and the rest is still listed.

use std::fmt::Write;

use super::{Error, Result, find, json_list, print, status};
use crate::store::dir::{self, Root};
use crate::store::state::Document;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    /// Ids alone.
    Quiet,
}

pub fn run(root: &Root, format: Format) -> Result<()> {
    let mut found = Vec::new();
    for id in root.ids()? {
        match find(root, &id).and_then(|(folder, state)| Ok((status(&folder, &state)?, state))) {
            Ok(container) => found.push(container),
            Err(Error::Root(dir::Error::Missing { .. })) => {}
            Err(e) => eprintln!("sampan: {e}"),
        }
    }
    let rows: Vec<_> = found.iter().map(|(status, state)| state.document(*status)).collect();
    match format {
        Format::Quiet => print(&rows.iter().fold(String::new(), |text, row| text + row.id + "\n")),
        Format::Json => print(&json_list(&rows)?),
        Format::Table => print(&table(&rows)),
    }
}

/// As runc's, from Go's tabwriter: columns of 12 at least, three blanks behind the longest cell, none behind the last.
fn table(rows: &[Document<'_>]) -> String {
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
