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
