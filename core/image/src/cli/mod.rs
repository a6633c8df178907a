//! The command line.

pub mod args;
pub mod show;
mod verbs;

use std::process::ExitCode;

use args::Args;
use sampan_image::progress::Line;
use sampan_image::{Error, Kind};
use sampan_runtime::error::printable;
use show::Shown;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const DENIED: u8 = 4;
const TEMPORARY: u8 = 5;

pub fn run(args: &Args) -> ExitCode {
    let shown = Shown::new(args.progress);
    match verbs::run(args, &shown) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shown.end(&Line::Error { kind: error.kind(), text: error.to_string() });
            if !shown.is_json() {
                eprintln!("sampan-image: {}", printable(&error.to_string()));
            }
            ExitCode::from(code(&error))
        }
    }
}

fn code(error: &Error) -> u8 {
    match error.kind() {
        Kind::Usage => USAGE,
        Kind::NotFound => NOT_FOUND,
        Kind::Denied => DENIED,
        Kind::Temporary => TEMPORARY,
        Kind::BadImage | Kind::Host => FAILED,
    }
}
