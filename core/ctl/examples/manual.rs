//! Man pages and shell completions of sampanctl and sampand, from the types that parse their command lines.
//! `manual FOLDER` lays them out as an installation's `share`. An example, so that the programs carry none of it;
//! `sampan` has a table of its own and prints its page itself (`sampan generate man`).

#[allow(dead_code)] // parsed into, never read here
#[path = "../src/moment.rs"]
mod moment;
#[allow(dead_code)]
#[path = "../src/args.rs"]
mod sampanctl;
#[allow(dead_code)]
#[path = "../../supervisor/src/args.rs"]
mod sampand;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: manual FOLDER")?;
    let folder = Path::new(&folder);
    program(sampanctl::Args::command(), 1, folder)?;
    program(sampand::Args::command(), 8, folder)
}

fn program(command: Command, section: u8, folder: &Path) -> Result<(), Box<dyn Error>> {
    let name = command.get_name().to_owned();
    let pages = folder.join(format!("man/man{section}"));
    fs::create_dir_all(&pages)?;
    fs::write(pages.join(format!("{name}.{section}")), page(command.clone(), section)?)?;
    for (shell, place) in [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Zsh, format!("zsh/site-functions/_{name}")),
        (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish")),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), &name, &mut script);
        let file = folder.join(place);
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(file, script)?;
    }
    Ok(())
}

/// One page for the whole program: a section per command, as deep as they go.
fn page(command: Command, section: u8) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let page = clap_mangen::Man::new(command.clone()).section(section.to_string()).manual("Sampan");
    let mut roff = Vec::new();
    page.render_title(&mut roff)?;
    page.render_name_section(&mut roff)?;
    page.render_synopsis_section(&mut roff)?;
    page.render_description_section(&mut roff)?;
    page.render_options_section(&mut roff)?;
    if command.has_subcommands() {
        roff.extend_from_slice(b".SH COMMANDS\n");
    }
    commands(&command, &mut roff)?;
    Ok(roff)
}

fn commands(command: &Command, roff: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    for one in command.get_subcommands() {
        if one.has_subcommands() {
            commands(one, roff)?;
            continue;
        }
        // What every command takes is said once, above.
        let one = one.clone().mut_args(|arg| if is_global(&arg) { arg.hide(true) } else { arg });
        let usage = one.clone().override_help("").render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replace('-', "\\-");
        let about = one.get_about().map(ToString::to_string).unwrap_or_default();
        roff.extend_from_slice(format!(".SS {usage}\n{about}.\n").as_bytes());
        // Operands are in the usage line; roff's preamble and the heading were written once as well.
        let one = one.mut_args(|arg| if arg.is_positional() { arg.hide(true) } else { arg });
        let mut options = Vec::new();
        clap_mangen::Man::new(one).render_options_section(&mut options)?;
        let options = String::from_utf8(options)?;
        for line in
            options.lines().filter(|l| ![".SH OPTIONS", ".ie ", ".el "].iter().any(|w| l.starts_with(w)))
        {
            roff.extend_from_slice(format!("{line}\n").as_bytes());
        }
    }
    Ok(())
}

fn is_global(arg: &clap::Arg) -> bool {
    arg.is_global_set() || matches!(arg.get_id().as_str(), "help" | "version")
}
