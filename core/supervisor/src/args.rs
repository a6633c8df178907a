//! What people type to start `sampand`. `core/ctl/examples/manual.rs` makes its page and completions from this file.
use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use std::path::PathBuf;

/// Keeps the service containers of config.toml running.
///
/// SIGINT stops everything in reverse order of the dependencies and ends; a second one hurries. SIGTERM does the same, or leaves
/// the containers running where on_exit = "keep". SIGHUP reads the config again.
#[derive(Debug, Parser)]
#[command(name = "sampand", version, max_term_width = 100)]
pub struct Args {
    /// Config file; may be repeated, later ones win key by key [default: /etc/sampan/config.toml]
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Services of this profile start by themselves too; may be repeated
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub profile: Vec<String>,
    /// In the background: returns when sampand is ready, or says why it is not. Its own lines are in state_dir/sampand.log
    #[arg(short, long, conflicts_with_all = ["check", "schema"])]
    pub detach: bool,
    /// What --detach starts
    #[arg(long, hide = true)]
    pub background: bool,
    /// Only check the config: print all errors, exit 2 if there are any
    #[arg(long)]
    pub check: bool,
    /// Only print the JSON Schema of config.toml, for editors
    #[arg(long, conflicts_with = "check")]
    pub schema: bool,
    /// With --check: print as JSON
    #[arg(long, requires = "check")]
    pub json: bool,
}
