//! sampanctl: each verb is one request to sampand, printed. What is decided is decided there.
mod moment;

mod keys;

mod printable;

mod format;

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

mod attach;

mod one_off;

mod names;

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

/// What other programs call it, and what it is here.
const ELSEWHERE: [(&[&str], &str); 8] = [
    (&["list", "ls"], "`sampanctl ps` lists the services"),
    (&["daemon-reload"], "`sampanctl apply` reads the config again"),
    (&["log", "journal"], "`sampanctl logs` shows output, `sampanctl events` what happened"),
    (&["rm", "remove", "delete"], "take the service out of config.toml, then `sampanctl apply`"),
    (&["create", "enable"], "write the service into config.toml, then `sampanctl up`"),
    (&["disable"], "`sampanctl stop` holds over reboots"),
    (&["pull", "push", "images", "rmi", "build", "load", "save"], "images: `sampanctl image help`"),
    (&["volumes", "secrets", "networks"], "`sampanctl volume ls`, `secret ls`, `network ls`"),
];

/// People seldom miss the first letter: who types `top` does not mean `stop`.
fn without_strange_tips(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    let typed = error.get(ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
    if let Some((_, tip)) = ELSEWHERE.iter().find(|(words, _)| words.contains(&typed.as_str())) {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![(*tip).into()]));
        return error;
    }
    // Of several the nearest comes last.
    let nearest = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.last().cloned(),
        _ => None,
    };
    error.remove(ContextKind::SuggestedSubcommand);
    if let Some(nearest) = nearest.filter(|nearest| nearest.chars().next() == typed.chars().next()) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::String(nearest));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_verb_gets_the_right_one() {
        let said = |verb: &str| {
            without_strange_tips(Args::try_parse_from(["sampanctl", verb]).unwrap_err()).to_string()
        };
        for (verb, says) in [
            ("list", "tip: `sampanctl ps` lists the services"),
            ("daemon-reload", "tip: `sampanctl apply`"),
            ("rm", "tip: take the service out of config.toml"),
            ("pull", "tip: images: `sampanctl image help`"),
            ("strat", "a similar subcommand exists: 'start'"),
        ] {
            assert!(said(verb).contains(says), "{verb}: {}", said(verb));
        }
        assert!(!said("xyzzy").contains("tip"));
        let verbs: Vec<String> = <Args as clap::CommandFactory>::command()
            .get_subcommands()
            .map(|verb| verb.get_name().to_owned())
            .collect();
        let words = ELSEWHERE.iter().flat_map(|(words, _)| *words);
        words.for_each(|word| assert!(!verbs.iter().any(|verb| verb == word), "{word} is a verb"));
    }
}
