//! docs/config.md from the key table.

use crate::elsewhere::{self, Name};
use crate::keys::{Applies, Key, SECTIONS, Stage};

/// What config.toml(5) says, too.
pub const ABOUT: &str = "\
    A change applies: **live**; to **new** containers; by a **restart** of the service, in graph order; at **sampand**'s next start.\n\
    *Later*: known, and an error until it is built.\n\n\
    Whoever may write one of these files commands sampand. So config files, what they include, env files, seccomp profiles, bundles and\n\
    plugins are taken only if root, sampand's user or the user who called sudo owns them, and nobody else may write them or put others in\n\
    their place. Where the owner's private group may write there is a warning, and for a plugin an error.\n\n\
    The files are read when sampand starts, and on `sampanctl apply`, `sampanctl up` and SIGHUP. In between holds what was applied last, over any\n\
    crash: it is kept as `applied.json` in run_dir, open to sampand's user alone, because an env file may hold passwords. A start that finds\n\
    services alive applies what the files say else; if they have errors, what was applied last goes on to hold.\n\n\
    In every string `${V}` is a variable of sampand's environment, and must be set; `${V:-text}` is `text` where it is not set or empty;\n\
    `${V:?message}` is an error with that message then. `$$` is a `$`, so `$${V}` reaches a shell as `${V}`; a `$` before anything else stays. What an\n\
    env file says is taken as it is.\n";

pub fn title(section: &str) -> String {
    match section {
        "" => "Top level".to_string(),
        path => format!("[{}]", path.replace('*', "X")),
    }
}

pub fn markdown() -> String {
    let mut out = String::from(
        "# config.toml\n\n\
         Generated from `core/config/src/keys.rs`; `SAMPAN_WRITE_DOCS=1 cargo test -p sampan-config the_docs` writes it anew.\n\
         `sampanctl config` prints the resolved config, each key with where it was set; `sampand --check` finds every mistake at once.\n\n\
         Editors with a language server for TOML (taplo, Even Better TOML) complete and check these keys by a JSON Schema, if the first line of\n\
         the file names it: `#:schema file:///usr/local/share/sampan/config.schema.json`. `sampand --schema` prints it. It sees what stands in one\n\
         file; `--check` sees the rest.\n\n",
    );
    out.push_str(ABOUT);
    for (path, keys) in SECTIONS {
        let title = title(path);
        out.push_str(&format!(
            "\n## {title}\n\n| key | forms | default | applies | meaning |\n|---|---|---|---|---|\n"
        ));
        let (built, later): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| key.stage == Stage::Built);
        for key in built {
            out.push_str(&row(key));
        }
        if !later.is_empty() {
            let names: Vec<String> =
                later.iter().map(|key| format!("`{}`", key.path.replace('*', "X"))).collect();
            out.push_str(&format!("\nLater: {}.\n", names.join(", ")));
        }
    }
    out.push_str(&names_elsewhere());
    out
}

fn names_elsewhere() -> String {
    let mut out = String::from(
        "\n## Names elsewhere\n\n\
         What compose, Quadlet and systemd call each key. In brackets: how the value is written here, where it cannot stay as it is. An option\n\
         of Quadlet's column is one of podman run, for `PodmanArgs=`; what is in systemd's stands in the `[Service]` and `[Unit]` of a Quadlet\n\
         file too. Whoever writes one of these names into config.toml is told ours. Keys that nobody else has are left out.\n",
    );
    for (path, rows) in elsewhere::SECTIONS {
        let title = title(path);
        out.push_str(&format!("\n### {title}\n\n| key | compose | Quadlet | systemd |\n|---|---|---|---|\n"));
        for row in rows {
            let cells = row.columns().map(|(whose, names)| cell(whose, &names));
            if cells.iter().any(|cell| !cell.is_empty()) {
                out.push_str(&format!("| `{}` | {} |\n", row.key().replace('*', "X"), cells.join(" | ")));
            }
        }
    }
    out.push_str("\n### What has no key\n\n| whose | name | here |\n|---|---|---|\n");
    for (whose, name, here) in elsewhere::NOTHING {
        out.push_str(&format!("| {whose} | `{name}` | {here} |\n"));
    }
    out
}

fn cell(whose: &str, names: &[Name]) -> String {
    let one = |name: &Name| {
        // As each of them writes it.
        let equals = if whose == "compose" || name.name.starts_with("--") { "" } else { "=" };
        let written = if name.written.is_empty() { String::new() } else { format!(" ({})", name.written) };
        format!("`{}{equals}`{written}", name.name)
    };
    names.iter().map(one).collect::<Vec<_>>().join(", ").replace('|', "\\|")
}

fn row(key: &Key) -> String {
    let applies = match key.applies {
        Applies::Live => "live",
        Applies::NewContainers => "new",
        Applies::Restart => "restart",
        Applies::Supervisor => "sampand",
    };
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let path = key.path.replace('*', "X");
    let cells = [format!("`{path}`"), code(key.forms), code(key.default), applies.into(), key.meaning.into()];
    format!("| {} |\n", cells.map(|c| c.replace('|', "\\|")).join(" | "))
}
