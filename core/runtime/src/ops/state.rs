//! `sampan state ID`: the OCI state as JSON.

use super::{Result, find, json, print, status};
use crate::store::dir::Root;

pub fn run(root: &Root, id: &str) -> Result<()> {
    let (folder, state) = find(root, id)?;
    print(&json(&state.document(status(&folder, &state)?))?)
}
