//! `sampan plan BUNDLE`: every step that starting it would take, and the field each comes from. Nothing is done.

use sampan_plan::Plan;

use super::Result;
use super::create::{self, Config, Options};
use crate::error::Error;

/// What `look` makes of the plan, which is a view of the config's text.
pub fn run<T>(o: &Options, look: impl FnOnce(&Plan<'_>) -> T) -> Result<T> {
    let config = Config::read(o)?;
    let spec = config.spec()?;
    let (host, options) = create::facts(o, &config, &spec)?;
    let plan = Plan::compile(&spec, &host, &options).map_err(Error::from)?;
    Ok(look(&plan))
}
