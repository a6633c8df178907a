//! sampand: the supervisor. The process that is started becomes the keel; the worker it starts does the rest.
mod args;

use args::Args;
use clap::Parser;
use sampan_keel as keel;
use sampan_supervisor::source::Source;
use sampan_supervisor::view::Output;
use sampan_supervisor::{background, check, worker_main};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Whether these arguments may be for something else than a keel.
fn is_over_at_once(word: OsString) -> bool {
    let word = word.to_string_lossy();
    match word.strip_prefix('-') {
        Some(letters) if !letters.starts_with('-') => letters.contains(['h', 'V', 'd']),
        _ => ["--check", "--schema", "--help", "--version", "--detach"].contains(&&*word),
    }
}

fn main() -> ExitCode {
    sampan_runtime::weaken_if_asked();
    // What is over at once needs no keel. All else is the worker's to parse, and to refuse: the keel stays small.
    let mut words = std::env::args_os().skip(1);
    let first = std::env::args_os().nth(1).unwrap_or_default();
    if first == background::BACKGROUND {
        background::leave_terminal();
    } else if words.any(is_over_at_once) {
        let args = Args::parse();
        if args.check {
            return say_check(args);
        }
        if args.schema {
            let _ = std::io::stdout().write_all(sampan_config::json_schema::text().as_bytes());
            return ExitCode::SUCCESS;
        }
        if args.detach {
            return detach(args);
        }
    }
    match first.to_str() {
        Some("launch") => return ExitCode::from(sampan_supervisor::life::job::run()),
        Some(check::LOOK) => return ExitCode::from(check::look()),
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
    let output = if args.background { Output::File } else { Output::Foreground };
    ExitCode::from(worker_main::run(
        keel,
        Source::new(args.config, args.profile.into_iter().collect()),
        output,
    ))
}

/// With the same arguments, which have been parsed.
fn detach(args: Args) -> ExitCode {
    let mut arguments: Vec<OsString> = Vec::new();
    for file in &args.config {
        arguments.extend(["--config".into(), file.into()]);
    }
    for name in &args.profile {
        arguments.extend(["--profile".into(), name.into()]);
    }
    let source = Source::new(args.config, args.profile.into_iter().collect());
    match background::start(&source, arguments.into_iter()) {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failed) => {
            let _ = writeln!(std::io::stderr(), "{}", failed.text.trim_end());
            ExitCode::from(failed.code)
        }
    }
}

fn say_check(args: Args) -> ExitCode {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let source = Source::new(args.config, args.profile.into_iter().collect());
    let (text, code) = check::check(source.files(), colour, args.json);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    ExitCode::from(code)
}
