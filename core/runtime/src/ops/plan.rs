//! `sampan plan BUNDLE`: every step that starting it would take, and the field each comes from. Nothing is done.

use sampan_plan::{Plan, render};

use super::create::{self, Config, Options};
use super::{Result, json, print};
use crate::error::Error;

pub fn run(o: &Options, as_json: bool) -> Result<()> {
    let config = Config::read(o)?;
    let spec = config.spec()?;
    let (host, options) = create::facts(o, &config, &spec)?;
    let plan = Plan::compile(&spec, &host, &options).map_err(Error::from)?;
    if as_json {
        return print(&json(&render::json(&plan))?);
    }
    print(&render::text(&plan))
}
