//! sampanctl: each verb is one request to sampand, printed. What is decided is decided there.
mod moment;

mod args;

mod client;

mod print;

mod follow;

mod ask;

mod waits;

mod streams;

mod looks;

mod stores;

mod signals;

mod copy;

mod verbs;

use args::Args;
use ask::{FAILED, complain};
use clap::Parser;
use client::Error;
use std::io;
use std::process::ExitCode;

const USAGE: u8 = 2;
const NO_SUPERVISOR: u8 = 3;

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| without_strange_tips(error).exit());
    match verbs::run(&args) {
        Ok(code) => ExitCode::from(code),
        // The reader of our output has gone: nothing to say, nobody to say it to.
        Err(Error::Broken(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(match error {
                Error::NoSupervisor { .. } | Error::Dead { .. } => NO_SUPERVISOR,
                Error::Refused(failure) if failure.code == "config" || failure.code == "usage" => USAGE,
                Error::Forbidden { .. }
                | Error::Refused(_)
                | Error::Broken(_)
                | Error::Here(_)
                | Error::Stopped { .. } => FAILED,
            })
        }
    }
}

/// People seldom miss the first letter: who types `top` does not mean `stop`.
fn without_strange_tips(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let initial = |value: Option<&ContextValue>| match value {
        Some(ContextValue::String(text)) => text.chars().next(),
        Some(ContextValue::Strings(texts)) => texts.first().and_then(|text| text.chars().next()),
        _ => None,
    };
    if initial(error.get(ContextKind::InvalidSubcommand))
        != initial(error.get(ContextKind::SuggestedSubcommand))
    {
        error.remove(ContextKind::SuggestedSubcommand);
    }
    error
}
