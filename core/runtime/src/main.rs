//! `sampan`: see `sampan --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    // Codes are 0 to 255 by construction: exit(3) keeps eight bits.
    ExitCode::from(sampan_runtime::cli::verbs::main(&argv0, args) as u8)
}
