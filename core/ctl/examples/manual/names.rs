//! Shell completions that know what there is: on top of what clap makes of the types, which knows verbs and options alone, names come from
//! `sampanctl names` where a verb takes some.
use clap::{Arg, Command};
use clap_complete::Shell;
use std::error::Error;

/// A verb, and what it is told.
struct Named {
    /// As typed, with `|` between what means the same: `volume rm|volume remove`.
    verbs: Vec<String>,
    /// Of `sampanctl names`.
    kind: &'static str,
    /// It takes one, and what follows is something else.
    is_single: bool,
    /// Its options that have a value.
    valued: Vec<String>,
}

impl Named {
    /// Words of the verb itself.
    fn depth(&self) -> usize {
        self.verbs.first().map_or(0, |verb| verb.split(' ').count())
    }
}

/// What these begin cannot be a one-off, which runs once.
const BEGIN: [&str; 4] = ["up", "start", "restart", "run"];

/// sampanctl as people know it: clap completes what is hidden as well.
pub fn shown(command: &Command) -> Command {
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let version = env!("CARGO_PKG_VERSION");
    Command::new("sampanctl").version(version).args(command.get_arguments()).subcommands(verbs)
}

pub fn complete(shell: Shell, command: &Command, script: &str) -> Result<String, Box<dyn Error>> {
    let mut command = command.clone();
    command.build();
    let mut named = Vec::new();
    find(&command, &[String::new()], &mut named);
    match shell {
        Shell::Bash => Ok(bash(script, &named)),
        Shell::Zsh => zsh(script, &command, &named),
        Shell::Fish => Ok(fish(script, &named)),
        other => Err(format!("no names for {other}").into()),
    }
}

fn find(command: &Command, above: &[String], named: &mut Vec<Named>) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let words = std::iter::once(verb.get_name()).chain(verb.get_visible_aliases());
        let verbs: Vec<String> = words
            .flat_map(|word| above.iter().map(move |above| format!("{above} {word}").trim_start().to_owned()))
            .collect();
        let kind = verb.get_positionals().next().and_then(|first| kind(first, &verbs));
        if let Some((kind, first)) = kind {
            let is_single = first.get_num_args().is_none_or(|number| number.max_values() <= 1);
            named.push(Named { kind, is_single, valued: valued(verb), verbs: verbs.clone() });
        }
        find(verb, &verbs, named);
    }
}

fn kind<'a>(first: &'a Arg, verbs: &[String]) -> Option<(&'static str, &'a Arg)> {
    let kind = match first.get_id().as_str() {
        "services" | "service" if verbs.iter().any(|verb| BEGIN.contains(&verb.as_str())) => "services",
        "services" | "service" => "all",
        "volumes" => "volumes",
        "networks" => "networks",
        "name" if verbs.iter().any(|verb| verb.starts_with("plugin ")) => "plugins",
        _ => return None,
    };
    Some((kind, first))
}

fn valued(verb: &Command) -> Vec<String> {
    let options = verb.get_opts().filter(|option| option.get_action().takes_values());
    options
        .flat_map(|option| {
            let short = option.get_short().map(|short| format!("-{short}"));
            short.into_iter().chain(option.get_long().map(|long| format!("--{long}")))
        })
        .collect()
}

/// After clap's own function, which knows no names.
fn bash(script: &str, named: &[Named]) -> String {
    let case = |one: &Named| {
        let verbs: Vec<String> = one.verbs.iter().map(|verb| format!("\"{verb}\"")).collect();
        let most = if one.is_single { 1 } else { 1000 };
        format!(
            "                {}) kind={} most={most} valued=\" {} \" ;;\n",
            verbs.join("|"),
            one.kind,
            one.valued.join(" ")
        )
    };
    let cases: String = named.iter().map(case).collect();
    format!(
        r#"{script}
_sampanctl_with_names() {{
    _sampanctl "$@"
    local cur="${{COMP_WORDS[COMP_CWORD]}}" verb="" kind="" valued=" --socket " most=0 operands=0 socket=() word i
    [[ $cur == -* || $cur == "=" ]] && return
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${{COMP_WORDS[i]}}"
        if [[ $word == -* ]]; then
            if [[ $valued == *" $word "* ]]; then
                [[ ${{COMP_WORDS[i + 1]-}} == "=" ]] && ((i++))
                ((++i >= COMP_CWORD)) && return
                [[ $word == --socket ]] && socket=(--socket "${{COMP_WORDS[i]}}")
            fi
        elif [[ -n $kind ]]; then
            ((operands++))
        else
            verb="${{verb:+$verb }}$word"
            case "$verb" in
{cases}            esac
        fi
    done
    [[ -z $kind ]] && return
    COMPREPLY=()
    ((operands < most)) || return
    COMPREPLY=($(compgen -W "$(sampanctl "${{socket[@]}}" names "$kind" 2>/dev/null)" -- "$cur"))
}}
complete -F _sampanctl_with_names -o bashdefault -o default sampanctl
"#
    )
}

/// clap's script completes operands as files.
fn zsh(script: &str, command: &Command, named: &[Named]) -> Result<String, Box<dyn Error>> {
    const FILES: &str = ":_default' \\";
    let (mut lines, mut replaced) = (Vec::new(), 0);
    let mut verb = Vec::<String>::new();
    for line in script.lines() {
        let text = line.trim();
        // `(start)` begins a verb's part, and one of a verb's own verbs is within it.
        let word = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        if let Some(word) = word.filter(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')) {
            let above = verb.first().and_then(|first| command.find_subcommand(first));
            let is_below = above.is_some_and(|above| above.find_subcommand(word).is_some());
            verb.truncate(usize::from(is_below));
            verb.push(word.to_owned());
        }
        let typed = verb.join(" ");
        let here = named.iter().find(|one| one.verbs.contains(&typed));
        let is_first = ["'*::service", "':service", "'::service", "'*::volumes", "'*::networks", "':name"]
            .iter()
            .any(|operand| text.starts_with(operand));
        match here.filter(|_| is_first && text.ends_with(FILES)) {
            Some(one) => {
                replaced += 1;
                let line = line.strip_suffix(FILES).unwrap_or(line);
                lines.push(format!("{line}:_sampanctl_{}' \\", one.kind));
            }
            None => lines.push(line.to_owned()),
        }
    }
    let wanted: usize = named.iter().map(|one| one.verbs.len()).sum();
    if replaced < named.len() || replaced > wanted {
        return Err(format!("zsh: {replaced} operands for {} verbs that take names", named.len()).into());
    }
    let kinds = ["services", "all", "volumes", "networks", "plugins"];
    let functions = kinds.map(|kind| format!("_sampanctl_{kind}() {{ _sampanctl_names {kind} }}\n"));
    let common = "_sampanctl_names() {\n    local -a names\n    names=(${(f)\"$(sampanctl names $1 2>/dev/null)\"})\n    compadd -a names\n}\n";
    // A colon ends what a value is called, and clap lets it stand.
    let of_verb = |verb: &Command| {
        let names = verb.get_opts().filter_map(Arg::get_value_names).flatten();
        names.map(ToString::to_string).filter(|name| name.contains(':')).collect::<Vec<_>>()
    };
    let script = command.get_subcommands().flat_map(of_verb).fold(lines.join("\n"), |script, name| {
        script.replace(&format!(":{name}:"), &format!(":{}:", name.replace(':', "\\:")))
    });
    let (head, rest) = script.split_once("\n\n").ok_or("zsh: no head")?;
    Ok(format!("{head}\n\n{common}{}\n{rest}\n", functions.concat()))
}

fn fish(script: &str, named: &[Named]) -> String {
    let line = |one: &Named| {
        let condition = match one.verbs.iter().map(|verb| verb.split_once(' ')).collect::<Option<Vec<_>>>() {
            None => format!("__fish_sampanctl_using_subcommand {}", one.verbs.join(" ")),
            Some(pairs) => {
                let first = pairs.first().map_or("", |(first, _)| first);
                let second: Vec<&str> = pairs.iter().map(|(_, second)| *second).collect();
                format!(
                    "__fish_sampanctl_using_subcommand {first}; and __fish_seen_subcommand_from {}",
                    second.join(" ")
                )
            }
        };
        let single = match one.is_single {
            true => format!("; and __sampanctl_is_first {} {}", one.depth(), one.valued.join(" ")),
            false => String::new(),
        };
        format!(
            "complete -c sampanctl -n \"{condition}{single}\" -f -a \"(__sampanctl_names {})\"\n",
            one.kind
        )
    };
    let lines: String = named.iter().map(line).collect();
    format!(
        r#"{script}
function __sampanctl_names
    set -l words (commandline -opc)
    if set -l at (contains -i -- --socket $words)
        sampanctl --socket $words[(math $at + 1)] names $argv[1] 2>/dev/null
    else
        sampanctl names $argv[1] 2>/dev/null
    end
end
function __sampanctl_is_first
    set -l depth $argv[1]
    set -l valued $argv[2..]
    set -l is_value 0
    set -l count 0
    for word in (commandline -opc)[2..]
        if test $is_value = 1
            set is_value 0
        else if contains -- $word $valued
            set is_value 1
        else if not string match -q -- '-*' $word
            set count (math $count + 1)
        end
    end
    test $count -le $depth
end
{lines}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use sampan_testkit::Folder;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command as Process;

    /// The scripts, and a `sampanctl` that says which names there are and notes what else it is told.
    fn laid_out() -> Result<Folder, Box<dyn Error>> {
        let owner = Folder::new();
        let folder = &owner.0;
        let (bin, functions) = (folder.join("bin"), folder.join("functions"));
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(&functions)?;
        for (shell, at) in [
            (Shell::Bash, folder.join("bash")),
            (Shell::Zsh, functions.join("_sampanctl")),
            (Shell::Fish, folder.join("fish")),
        ] {
            let mut script = Vec::new();
            let command = shown(&crate::sampanctl::Args::command());
            clap_complete::generate(shell, &mut command.clone(), "sampanctl", &mut script);
            fs::write(at, complete(shell, &command, &String::from_utf8(script)?)?)?;
        }
        let program = bin.join("sampanctl");
        fs::write(
            &program,
            format!(
                "#!/bin/sh\ncase \"$*\" in\n\"names services\") printf 'web\\nworker\\ndb\\n' ;;\n\
                 \"names all\") printf 'web\\nworker\\ndb\\nweb-run-1\\n' ;;\n\"names volumes\") echo data ;;\n\
                 \"--socket /elsewhere names all\") echo else ;;\nnames*) exit 1 ;;\n*) echo \"$*\" >>{}/told ;;\nesac\n",
                folder.display()
            ),
        )?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(owner)
    }

    /// What is offered for the last of these words, in order.
    fn of_bash(folder: &Path, words: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
        let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_LINE=\"$*\"; COMP_POINT=${#COMP_LINE}\n\
                      _sampanctl_with_names sampanctl \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"\n\
                      printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = Process::new("bash");
        bash.args(["--norc", "-c", script, "bash"]).arg(folder.join("bash")).args(words);
        offered(bash, folder)
    }

    fn of_fish(folder: &Path, words: &[&str]) -> Result<Vec<String>, Box<dyn Error>> {
        let mut fish = Process::new("fish");
        fish.args(["--no-config", "-c", "source $argv[1]; complete -C \"$argv[2]\""]);
        fish.arg(folder.join("fish")).arg(words.join(" "));
        offered(fish, folder)
    }

    fn offered(mut shell: Process, folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
        let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH")?);
        let ran = shell.env("PATH", path).env("HOME", folder).output()?;
        let text = String::from_utf8(ran.stdout)?;
        // Behind a tab fish says what a word is for.
        let words = text.lines().filter_map(|line| line.split('\t').next()).filter(|word| !word.is_empty());
        let mut words: Vec<String> = words.map(str::to_owned).collect();
        words.sort();
        Ok(words)
    }

    const TYPED: [(&str, &[&str]); 11] = [
        ("sampanctl stop w", &["web", "web-run-1", "worker"]),
        ("sampanctl start w", &["web", "worker"]),
        ("sampanctl stop web d", &["db"]),
        ("sampanctl --socket /elsewhere stop e", &["else"]),
        ("sampanctl logs -n 5 d", &["db"]),
        ("sampanctl exec d", &["db"]),
        ("sampanctl exec -u 33 d", &["db"]),
        ("sampanctl run --rm -e A=b wor", &["worker"]),
        ("sampanctl volume rm d", &["data"]),
        ("sampanctl network inspect x", &[]),
        ("sampanctl wait --condition h", &["healthy"]),
    ];

    #[test]
    fn bash_and_fish_complete_names_where_a_verb_takes_them() -> Result<(), Box<dyn Error>> {
        let owner = laid_out()?;
        let folder = &owner.0;
        for (typed, names) in TYPED {
            let words: Vec<&str> = typed.split(' ').collect();
            assert_eq!(of_bash(folder, &words)?, names, "bash: {typed}");
            assert_eq!(of_fish(folder, &words)?, names, "fish: {typed}");
        }
        // Verbs and options are completed as before, and the verb for shells is none for people.
        for of in [of_bash, of_fish] {
            let verbs = of(folder, &["sampanctl", "st"])?;
            assert!(
                ["start", "stop", "status"].iter().all(|verb| verbs.iter().any(|v| v == verb)),
                "{verbs:?}"
            );
            assert_eq!(of(folder, &["sampanctl", "nam"])?, [""; 0]);
            assert!(of(folder, &["sampanctl", "stop", "--d"])?.contains(&"--detach".to_owned()));
            assert!(
                !of(folder, &["sampanctl", "exec", "web", "d"])?.contains(&"db".to_owned()),
                "a program, no name"
            );
        }
        Ok(())
    }

    /// At a terminal: each line is typed up to where the tab comes, and then entered.
    #[test]
    fn zsh_completes_names_where_a_verb_takes_them() -> Result<(), Box<dyn Error>> {
        let owner = laid_out()?;
        let folder = &owner.0;
        let script = r#"
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "fpath=($1/functions \$fpath); path=($1/bin \$path); autoload -Uz compinit; compinit -u -D; print begun-\$((1 + 1))"
shown=
until [[ $shown == *begun-2* ]]; do zpty -r z line || exit 1; shown+=$line; done
shift
for typed in "$@"; do
    zpty -n -w z "$typed"$'\t'
    sleep 1
    zpty -n -w z $'\r'
    sleep 0.3
done
zpty -d z
"#;
        let lines = [
            "sampanctl stop d",
            "sampanctl start web d",
            "sampanctl exec -u 33 d",
            "sampanctl run --rm d",
            "sampanctl volume rm d",
            "sampanctl why web-",
        ];
        let mut zsh = Process::new("zsh");
        zsh.args(["-f", "-c", script, "zsh"]).arg(folder).args(lines).env("HOME", folder).env("TERM", "dumb");
        let ran = zsh.output()?;
        let told = fs::read_to_string(folder.join("told")).unwrap_or_default();
        let told: Vec<&str> = told.lines().map(str::trim_end).collect();
        let wanted =
            ["stop db", "start web db", "exec -u 33 db", "run --rm db", "volume rm data", "why web-run-1"];
        assert_eq!(told, wanted, "{ran:?}");
        Ok(())
    }
}
