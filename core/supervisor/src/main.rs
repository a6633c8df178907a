//! sampand: the supervisor. The process that is started becomes the keel; the worker it starts does the rest.
use clap::Parser;
use sampan_supervisor::source::Source;
use sampan_supervisor::{keel, worker_main};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the service containers of config.toml running.
///
/// SIGINT stops everything in reverse order of the dependencies and ends; a second one hurries. SIGTERM does the same, or leaves
/// the containers running where on_exit = "keep". SIGHUP reads the config again.
#[derive(Debug, Parser)]
#[command(name = "sampand", version, max_term_width = 100)]
struct Args {
    /// Config file; may be repeated, later ones win key by key [default: /etc/sampan/config.toml]
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Only check the config: print all errors, exit 2 if there are any
    #[arg(long)]
    check: bool,
    /// With --check: print as JSON
    #[arg(long, requires = "check")]
    json: bool,
}

fn main() -> ExitCode {
    // Before anything else is allocated or read: the keel stays small.
    let is_worker = std::env::args_os().nth(1).is_some_and(|first| first == "worker");
    if !is_worker {
        let args = Args::parse();
        if args.check {
            return check(args);
        }
    }
    let (keel, arguments) = match keel::enter() {
        Ok(entered) => entered,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sampand: {error}");
            return ExitCode::from(1);
        }
    };
    let args = Args::parse_from(arguments);
    ExitCode::from(worker_main::run(keel, Source::new(args.config)))
}

fn check(args: Args) -> ExitCode {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (text, code) = Source::new(args.config).check(colour, args.json);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    ExitCode::from(code)
}
