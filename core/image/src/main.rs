//! sampan-image: images from registries and archives into a store, and from there as roots.
mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(&cli::args::Args::parse())
}
