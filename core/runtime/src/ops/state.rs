//! `sampan state ID`: the container and its status now.

use super::{Container, Result, find, status};
use crate::store::dir::Root;

pub fn run(root: &Root, id: &str) -> Result<Container> {
    let (folder, state) = find(root, id)?;
    Ok(Container { status: status(&folder, &state)?, state })
}
