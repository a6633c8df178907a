//! Text made from the table: --help, the man page, completions for bash, zsh and fish.
//! Nothing here knows a verb or a flag by name, so nothing here can lag behind.

use std::fmt::Write;

use super::table::{Flag, GLOBAL, Row, Takes, VERBS};

/// `sampan --help`.
pub fn overview() -> String {
    let mut out = String::from(
        "sampan: an OCI container runtime\n\nUsage: sampan [FLAG]... COMMAND [FLAG]... [ARG]...\n\nCommands:\n",
    );
    let width = VERBS.iter().map(|v| v.name.len()).max().unwrap_or(0);
    for v in VERBS {
        let _ = writeln!(out, "  {:width$}  {}", v.name, v.help);
    }
    out.push_str("\nFlags:\n");
    flags(&mut out, GLOBAL);
    out.push_str("\n`sampan COMMAND --help` has a command's flags.\n");
    out.push_str("A container without a bundle: sampan run --rootfs host -- sh\n");
    out
}

/// `sampan VERB --help`.
pub fn of(verb: &Row) -> String {
    let mut out = format!("sampan {}: {}\n\nUsage: sampan {}", verb.name, verb.help, verb.name);
    if !verb.flags.is_empty() {
        out.push_str(" [FLAG]...");
    }
    if !verb.operands.is_empty() {
        let _ = write!(out, " {}", verb.operands);
    }
    out.push('\n');
    if !verb.flags.is_empty() {
        out.push_str("\nFlags:\n");
        flags(&mut out, verb.flags);
    }
    out
}

fn flags(out: &mut String, flags: &[Flag]) {
    let width = flags.iter().map(|f| spelled(f).len()).max().unwrap_or(0);
    for f in flags {
        let _ = writeln!(out, "  {:width$}  {}", spelled(f), f.help);
    }
}

fn spelled(f: &Flag) -> String {
    let short = f.short.map_or("    ".into(), |c| format!("-{c}, "));
    match f.takes {
        Takes::Nothing => format!("{short}--{}", f.long),
        Takes::Value(name) => format!("{short}--{} {name}", f.long),
        Takes::Maybe(name) => format!("{short}--{}[={name}]", f.long),
    }
}

/// A command, and what it is for.
const EXAMPLES: &[(&str, &str)] = &[
    ("sampan run --rootfs host -- sh", "a container of this machine's own programs"),
    ("sampan run --bundle /srv/hello hello", "a container of a bundle, until it ends"),
    ("sampan plan /srv/hello", "every step that starting it takes; nothing is started"),
    ("sampan exec -t web sh", "a program beside the container's own"),
    ("sampan enter -n --target web ip addr", "a program of this machine in the container's network"),
    ("sampan list", "which containers there are; sampand's are among them"),
    ("sampan delete --force web", "kills what runs in it, and removes all that was made for it"),
];

/// sampan(8) in roff.
pub fn man() -> String {
    let mut out = format!(
        ".TH SAMPAN 8 \"\" \"sampan {}\" \"System Administration\"\n.SH NAME\nsampan \\- OCI container runtime\n\
         .SH SYNOPSIS\n.B sampan\n[\\fIFLAG\\fR]... \\fICOMMAND\\fR [\\fIFLAG\\fR]... [\\fIARG\\fR]...\n.SH FLAGS\n",
        env!("CARGO_PKG_VERSION")
    );
    man_flags(&mut out, GLOBAL);
    out.push_str(".SH COMMANDS\n");
    for v in VERBS {
        let _ = writeln!(out, ".SS sampan {} {}\n{}.", v.name, roff(v.operands), roff(v.help));
        man_flags(&mut out, v.flags);
    }
    out.push_str(
        ".SH EXIT STATUS\nrun and exec: the program's own, or 128 and the signal that ended it; exec that cannot start: \
         255. All others: 0, or 1 on an error.\n.SH EXAMPLES\n",
    );
    for (command, what) in EXAMPLES {
        let _ = writeln!(out, ".TP\n.B {}\n{}", roff(command), roff(what));
    }
    out.push_str(
        ".SH FILES\n.TP\n/run/sampan/containers/\\fIID\\fR/state.json\na container's state; --root names another folder than \
         /run/sampan/containers\n.TP\n\\fIBUNDLE\\fR/config.json\nwhat the container is, as the OCI runtime specification says\n\
         .SH SEE ALSO\n.BR sampand (8),\n.BR sampan-image (1),\n.BR nsenter (1),\n.BR namespaces (7),\n.BR cgroups (7)\n",
    );
    out
}

fn man_flags(out: &mut String, flags: &[Flag]) {
    for f in flags {
        let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", roff(spelled(f).trim_start()), roff(f.help));
    }
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

pub fn bash() -> String {
    let mut out = String::from(
        "_sampan() {\n  local cur=${COMP_WORDS[COMP_CWORD]} verb= i\n  for ((i = 1; i < COMP_CWORD; i++)); do\n    \
         case ${COMP_WORDS[i]} in\n",
    );
    let with_value: Vec<_> = GLOBAL
        .iter()
        .filter(|f| matches!(f.takes, Takes::Value(_)))
        .map(|f| format!("--{}", f.long))
        .collect();
    let _ = writeln!(out, "      {}) ((i++)) ;;", with_value.join("|"));
    out.push_str(
        "      -*) ;;\n      *) verb=${COMP_WORDS[i]}; break ;;\n    esac\n  done\n  case $verb in\n",
    );
    let _ = writeln!(out, "    '') COMPREPLY=($(compgen -W '{} {}' -- \"$cur\")) ;;", names(), longs(GLOBAL));
    for v in VERBS {
        let ids = if takes_id(v) { " $(sampan list -q 2>/dev/null)" } else { "" };
        let _ = writeln!(
            out,
            "    {}) COMPREPLY=($(compgen -W \"{}{ids}\" -- \"$cur\")) ;;",
            v.name,
            longs(v.flags)
        );
    }
    out.push_str("  esac\n}\ncomplete -o default -F _sampan sampan\n");
    out
}

pub fn zsh() -> String {
    let mut out = String::from("#compdef sampan\n_sampan() {\n  local -a verbs\n  verbs=(\n");
    for v in VERBS {
        let _ = writeln!(out, "    '{}:{}'", v.name, quoted(v.help));
    }
    out.push_str("  )\n  _arguments -C \\\n");
    zsh_flags(&mut out, GLOBAL);
    out.push_str("    '1: :{_describe command verbs}' '*:: :->rest'\n  case $words[1] in\n");
    for v in VERBS {
        let _ = writeln!(out, "    {}) _arguments \\", v.name);
        zsh_flags(&mut out, v.flags);
        let rest = if takes_id(v) { "'*: :($(sampan list -q 2>/dev/null))'" } else { "'*: :_files'" };
        let _ = writeln!(out, "      {rest} ;;");
    }
    out.push_str("  esac\n}\n_sampan \"$@\"\n");
    out
}

fn zsh_flags(out: &mut String, flags: &[Flag]) {
    for f in flags {
        let after = match f.takes {
            Takes::Nothing => String::new(),
            Takes::Value(name) => format!(":{name}:_files"),
            Takes::Maybe(name) => format!("::{name}:_files"),
        };
        let help = quoted(f.help);
        let _ = writeln!(out, "      '--{}[{help}]{after}' \\", f.long);
        if let Some(c) = f.short {
            let _ = writeln!(out, "      '-{c}[{help}]{after}' \\");
        }
    }
}

pub fn fish() -> String {
    let mut out = String::from("complete -c sampan -f\n");
    for f in GLOBAL {
        fish_flag(&mut out, "-n __fish_use_subcommand", f);
    }
    for v in VERBS {
        let _ = writeln!(
            out,
            "complete -c sampan -n __fish_use_subcommand -a {} -d '{}'",
            v.name,
            v.help.replace('\'', "\\'")
        );
        let seen = format!("-n '__fish_seen_subcommand_from {}'", v.name);
        for f in v.flags {
            fish_flag(&mut out, &seen, f);
        }
        if takes_id(v) {
            let _ = writeln!(out, "complete -c sampan {seen} -a '(sampan list -q 2>/dev/null)'");
        }
    }
    out
}

fn fish_flag(out: &mut String, when: &str, f: &Flag) {
    let short = f.short.map_or(String::new(), |c| format!(" -s {c}"));
    let takes = if matches!(f.takes, Takes::Value(_)) { " -r -F" } else { "" };
    let _ = writeln!(
        out,
        "complete -c sampan {when}{short} -l {}{takes} -d '{}'",
        f.long,
        f.help.replace('\'', "\\'")
    );
}

fn takes_id(v: &Row) -> bool {
    v.operands.contains("ID")
}

fn names() -> String {
    VERBS.iter().map(|v| v.name).collect::<Vec<_>>().join(" ")
}

fn longs(flags: &[Flag]) -> String {
    flags.iter().map(|f| format!("--{}", f.long)).collect::<Vec<_>>().join(" ")
}

fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_is_of_a_verb_with_such_flags() {
        for (example, _) in EXAMPLES {
            let mut words = example.split(' ').skip(1);
            let verb = words.next().unwrap();
            let row = VERBS
                .iter()
                .find(|row| row.name == verb)
                .unwrap_or_else(|| panic!("{example}: no such verb"));
            for flag in words.take_while(|word| *word != "--").filter(|word| word.starts_with('-')) {
                let known = row
                    .flags
                    .iter()
                    .any(|known| spelled(known).split([',', ' ', '=']).any(|word| word == flag));
                assert!(known, "{example}: {verb} has no {flag}");
            }
        }
    }
}
