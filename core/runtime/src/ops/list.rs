//! `sampan list`: every container of the root. One that vanishes meanwhile is left out; one that cannot be read does not
//! hide the rest.

use super::{Container, Error, Result, state};
use crate::error::Kind;
use crate::store::dir::Root;

#[derive(Debug, Default)]
pub struct Listing {
    pub containers: Vec<Container>,
    pub unreadable: Vec<Error>,
}

/// Their names, for `list --quiet`: nothing is read for them, and one whose state cannot be read is named too.
pub fn ids(root: &Root) -> Result<Vec<String>> {
    root.ids_of_containers()
}

pub fn run(root: &Root) -> Result<Listing> {
    let mut found = Listing::default();
    for id in root.ids()? {
        match state::run(root, &id) {
            Ok(container) => found.containers.push(container),
            Err(e) if e.kind == Kind::Missing => {}
            Err(e) => found.unreadable.push(e),
        }
    }
    Ok(found)
}
