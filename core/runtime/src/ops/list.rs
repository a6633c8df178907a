//! `sampan list`: every container of the root. One that vanishes meanwhile is left out; one that cannot be read is named
//! on stderr and the rest is still listed.

use std::fmt::Write;

use super::{Error, Result, find, json, print, status};
use crate::root::{self, Root};

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
            Err(Error::Root(root::Error::Missing { .. })) => {}
            Err(e) => eprintln!("sampan: {e}"),
        }
    }
    match format {
        Format::Quiet => print(&found.iter().fold(String::new(), |text, (_, state)| text + &state.id + "\n")),
        Format::Json => {
            print(&json(&found.iter().map(|(status, state)| state.document(*status)).collect::<Vec<_>>())?)
        }
        Format::Table => {
            let rows: Vec<_> = found.iter().map(|(status, state)| state.document(*status)).collect();
            let id_width = rows.iter().map(|r| r.id.len()).fold(2, usize::max);
            let bundle_width = rows.iter().map(|r| r.bundle.as_os_str().len()).fold(6, usize::max);
            let mut out = format!(
                "{:id_width$}  {:>7}  {:8}  {:bundle_width$}  {:30}  OWNER\n",
                "ID", "PID", "STATUS", "BUNDLE", "CREATED"
            );
            for r in &rows {
                let _ = writeln!(
                    out,
                    "{:id_width$}  {:>7}  {:8}  {:bundle_width$}  {:30}  {}",
                    r.id,
                    r.pid,
                    r.status,
                    r.bundle.display().to_string(),
                    r.created,
                    r.owner
                );
            }
            print(&out)
        }
    }
}
