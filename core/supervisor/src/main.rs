//! sampand: the supervisor. The process that is started becomes the keel; the worker it starts does the rest.
mod args;

use args::Args;
use clap::Parser;
use sampan_keel as keel;
use sampan_supervisor::check;
use sampan_supervisor::source::Source;
use sampan_supervisor::worker_main;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    sampan_runtime::weaken_if_asked();
    // What is over at once needs no keel. All else is the worker's to parse, and to refuse: the keel stays small.
    let mut words = std::env::args_os().skip(1);
    if words.any(|word| ["--check", "--help", "-h", "--version", "-V"].iter().any(|at_once| word == *at_once))
    {
        let args = Args::parse();
        if args.check {
            return say_check(args);
        }
    }
    match std::env::args_os().nth(1) {
        Some(word) if word == "launch" => return ExitCode::from(sampan_supervisor::life::job::run()),
        Some(word) if word == check::LOOK => return ExitCode::from(check::look()),
        _ => {}
    }
    let (keel, arguments) = match keel::enter() {
        Ok(entered) => entered,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sampand: {error}");
            return ExitCode::from(1);
        }
    };
    let args = Args::parse_from(arguments);
    ExitCode::from(worker_main::run(keel, Source::new(args.config, args.profile.into_iter().collect())))
}

fn say_check(args: Args) -> ExitCode {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let source = Source::new(args.config, args.profile.into_iter().collect());
    let (text, code) = check::check(source.files(), colour, args.json);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    ExitCode::from(code)
}
