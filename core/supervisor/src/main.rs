//! sampand: the supervisor. The process that is started becomes the keel; the worker it starts does the rest.
mod args;

use args::Args;
use clap::Parser;
use sampan_supervisor::source::Source;
use sampan_supervisor::{keel, worker_main};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

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
