//! Man pages and shell completions of sampanctl, sampand and sampan-image, from the types that parse their command lines,
//! and config.toml(5) from the tables of its keys.
//! `manual FOLDER` lays them out as an installation's `share`. An example, so that the programs carry none of it;
//! `sampan` has a table of its own and prints its page itself (`sampan generate man`).

#[allow(dead_code)] // parsed into, never read here
#[path = "../src/moment.rs"]
mod moment;
#[path = "manual/names.rs"]
mod names;
#[allow(dead_code)]
#[path = "../src/keys.rs"]
mod keys;
#[allow(dead_code)]
#[path = "../src/printable.rs"]
mod printable;
#[allow(dead_code)]
#[path = "../src/format.rs"]
mod format;
#[allow(dead_code)]
#[path = "../src/args.rs"]
mod sampanctl;
#[allow(dead_code)]
#[path = "../../supervisor/src/args.rs"]
mod sampand;
#[allow(dead_code)]
#[path = "../../image/src/cli/args.rs"]
mod sampan_image;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use sampan_config::manual::escape;
use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: manual FOLDER")?;
    let folder = Path::new(&folder);
    program(sampanctl::Args::command(), 1, SAMPANCTL, folder)?;
    program(sampand::Args::command(), 8, SAMPAND, folder)?;
    program(sampan_image::Args::command(), 1, SAMPAN_IMAGE, folder)?;
    let pages = folder.join("man/man5");
    fs::create_dir_all(&pages)?;
    fs::write(pages.join("config.toml.5"), sampan_config::manual::page(env!("CARGO_PKG_VERSION")))?;
    Ok(())
}

/// What no type tells, at the end of a page.
struct More {
    /// A command, and what it is for.
    examples: &'static [(&'static str, &'static str)],
    exit_status: &'static [(&'static str, &'static str)],
    files: &'static [(&'static str, &'static str)],
    see_also: &'static [(&'static str, u8)],
}

const SAMPANCTL: More = More {
    examples: &[
        ("sampanctl ps", "what runs, since when, and how well"),
        ("sampanctl ps --format '{{.name}} {{.pid}}'", "for a script: the names are those of `--json`"),
        ("sampanctl why web", "why it is as it is: who or what ended it, what it waits for"),
        ("sampanctl logs -f web db", "what two services write, from now on"),
        ("sampanctl exec web sh -c 'ls /'", "a program beside the service, in its container"),
        (
            "sampanctl attach shell",
            "what a service with tty and stdin_open shows, and typing to it; ctrl-p ctrl-q leaves it",
        ),
        ("sampanctl cp web:/etc/hosts .", "a file out of a container that runs"),
        ("sampanctl start --wait backup", "runs a job, and ends with its exit code"),
        ("sampanctl apply --dry-run", "what a change of config.toml would do, and why"),
    ],
    exit_status: &[
        ("0", "as asked"),
        ("1", "failed, or not all of it has come true"),
        ("2", "usage, or a config with mistakes"),
        ("3", "no sampand answers"),
        ("4", "up --wait: not all are healthy"),
        (
            "of the program",
            "exec, start --wait and wait end as the program did, or with 128 and the signal that ended it",
        ),
    ],
    files: &[
        ("/run/sampan/sampand.sock", "where sampand listens; --socket and SAMPAN_SOCKET name another place"),
        ("/usr/local/share/doc/sampan/docs/api.md", "what is said there: HTTP, for clients of your own"),
    ],
    see_also: &[("sampand", 8), ("config.toml", 5), ("sampan-image", 1), ("sampan", 8)],
};

const SAMPAND: More = More {
    examples: &[
        ("sampand --check --config config.toml", "all mistakes of a config; nothing is started"),
        ("sampand --config config.toml", "runs its services in the foreground; SIGINT stops them in order"),
        (
            "sampand --detach",
            "the same in the background, by /etc/sampan/config.toml; sampanctl down ends it",
        ),
        ("sampand --schema > config.schema.json", "for the editor"),
    ],
    exit_status: &[
        (
            "0",
            "ended as asked, everything stopped or left running as on_exit says; a config without mistakes",
        ),
        ("1", "it could not begin, or something could not be stopped"),
        ("2", "usage, or a config with mistakes: nothing was started"),
    ],
    files: &[
        ("/etc/sampan/config.toml", "read where no --config names another"),
        ("/run/sampan", "run_dir: containers, the socket, what was applied last"),
        ("/run/sampan/sampand.sock", "the control socket"),
        (
            "/var/lib/sampan",
            "state_dir: logs, named volumes, images, and of a sampand in the background sampand.log",
        ),
        ("/usr/local/lib/sampan/plugins", "plugins, beside the folder of the program"),
    ],
    see_also: &[("config.toml", 5), ("sampanctl", 1), ("sampan", 8), ("sampan-image", 1), ("systemctl", 1)],
};

const SAMPAN_IMAGE: More = More {
    examples: &[
        ("sampan-image pull docker.io/library/nginx:1.27", "gets an image and unpacks it"),
        ("sampan-image import nginx.tar", "the same from an archive of docker save, skopeo or buildah"),
        ("sampan-image list", "what is here"),
    ],
    exit_status: &[
        ("0", "as asked"),
        ("1", "failed"),
        ("2", "usage"),
        ("3", "no such image"),
        ("4", "the registry refuses"),
        ("5", "the registry or the way to it failed: another time may do"),
    ],
    files: &[("/var/lib/sampan/images", "the store, unless --store or SAMPAN_IMAGES names another")],
    see_also: &[("sampand", 8), ("sampan", 8), ("config.toml", 5)],
};

impl More {
    fn roff(&self) -> String {
        let list = |title: &str, entries: &[(&str, &str)]| {
            let entry = |(name, text): &(&str, &str)| format!(".TP\n.B {}\n{}\n", escape(name), escape(text));
            format!(".SH {title}\n{}", entries.iter().map(entry).collect::<String>())
        };
        let pages: Vec<String> = self
            .see_also
            .iter()
            .map(|(name, section)| format!("\\fB{}\\fR({section})", escape(name)))
            .collect();
        format!(
            "{}{}{}.SH SEE ALSO\n{}\n",
            list("EXIT STATUS", self.exit_status),
            list("EXAMPLES", self.examples),
            list("FILES", self.files),
            pages.join(", ")
        )
    }
}

fn program(command: Command, section: u8, more: More, folder: &Path) -> Result<(), Box<dyn Error>> {
    let name = command.get_name().to_owned();
    for (example, _) in more.examples {
        let words = sampan_config::words::split(example.split(" > ").next().unwrap_or(example))?;
        command.clone().try_get_matches_from(words).map_err(|why| format!("{example}: {why}"))?;
    }
    let pages = folder.join(format!("man/man{section}"));
    fs::create_dir_all(&pages)?;
    fs::write(
        pages.join(format!("{name}.{section}")),
        [page(command.clone(), section)?, more.roff().into_bytes()].concat(),
    )?;
    let command = if name == "sampanctl" { names::shown(&command) } else { command };
    for (shell, place) in [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Zsh, format!("zsh/site-functions/_{name}")),
        (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish")),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), &name, &mut script);
        if name == "sampanctl" {
            script = names::complete(shell, &command, &String::from_utf8(script)?)?.into_bytes();
        }
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
    for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    #[derive(Clone, Copy)]
    enum Named {
        /// To be typed as it stands.
        Whole,
        /// A sentence may name a verb without what it is about.
        Verb,
    }

    /// Every command of these programs that a page shows, in a block or in a sentence, is one that they take.
    #[test]
    fn every_command_in_the_documents_parses() -> Result<(), Box<dyn Error>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut pages = vec![root.join("README.md")];
        for entry in fs::read_dir(root.join("docs"))? {
            pages.push(entry?.path());
        }
        let (mut wrong, mut commands) = (Vec::new(), 0);
        for page in pages.iter().filter(|page| page.extension().is_some_and(|end| end == "md")) {
            let text = fs::read_to_string(page)?;
            let shown = blocks(&text).map(|line| (line, Named::Whole));
            for (line, named) in shown.chain(in_sentences(&text).map(|line| (line, Named::Verb))) {
                let line = line.trim_start_matches("# ").trim_start_matches("$ ").trim_start_matches("sudo ");
                // Up to what the shell does with it.
                let end =
                    [" #", " |", " >", " &", " ;", ";", " <"].iter().filter_map(|mark| line.find(mark)).min();
                let line = line.get(..end.unwrap_or(line.len())).unwrap_or(line).trim_end();
                let program = match line.split(' ').next() {
                    Some("sampanctl") => sampanctl::Args::command(),
                    Some("sampand") => sampand::Args::command(),
                    Some("sampan-image") => sampan_image::Args::command(),
                    _ => continue,
                };
                commands += 1;
                let words = sampan_config::words::split(line);
                let taken = words.and_then(|words| {
                    let answer = program.try_get_matches_from(words).map(drop);
                    answer.or_else(|why| match (why.kind(), named) {
                        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => Ok(()),
                        (ErrorKind::MissingRequiredArgument, Named::Verb) => Ok(()),
                        _ => Err(why.to_string()),
                    })
                });
                if let Err(why) = taken {
                    wrong.push(format!("{}: {line}: {why}", page.display()));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(commands > 10, "{commands} commands");
        Ok(())
    }

    /// The lines between fences that are for a shell: after its prompt, where what it answers is shown too.
    fn blocks(text: &str) -> impl Iterator<Item = &str> {
        let fenced = text.split("\n```").skip(1).step_by(2);
        fenced.flat_map(|block| {
            let console = block.strip_prefix("console\n");
            let shell = console.or_else(|| block.strip_prefix("sh\n")).or_else(|| block.strip_prefix('\n'));
            let lines = shell.unwrap_or_default().lines();
            lines.filter(move |line| console.is_none() || line.starts_with("# "))
        })
    }

    /// What stands between backticks, but for shorthand: `logs [NAME..]`, `a|b`.
    fn in_sentences(text: &str) -> impl Iterator<Item = &str> {
        let is_command =
            |code: &&str| code.contains(' ') && !code.contains(['[', '|', '{', '\n']) && !code.contains("..");
        text.split("\n```")
            .step_by(2)
            .flat_map(|prose| prose.split('`').skip(1).step_by(2))
            .filter(is_command)
    }
}
