//! A page's commands: what stands in its blocks for a shell.

/// One command, and what the page shows below it.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Of the page, from 1.
    pub line: usize,
    /// As it stands, with the lines of a here-document.
    pub command: String,
    /// None where the page shows none: a block of ```` ```sh ```` is commands alone.
    pub shown: Option<Vec<String>>,
}

/// In ```` ```console ```` a command follows a prompt, and the lines below it are its output; in ```` ```sh ```` each line is one.
pub fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, fence)) = lines.next() {
        let console = match fence {
            "```console" => true,
            "```sh" => false,
            _ => {
                if fence.starts_with("```") {
                    lines.find(|(_, line)| *line == "```");
                }
                continue;
            }
        };
        while let Some((at, line)) = lines.next().filter(|(_, line)| *line != "```") {
            let command = match console {
                true => line.strip_prefix("# "),
                false => Some(line).filter(|line| !line.trim().is_empty() && !line.starts_with('#')),
            };
            match (command, steps.last_mut().and_then(|step| step.shown.as_mut())) {
                (Some(command), _) => {
                    let mut command = command.to_owned();
                    if let Some(end) = here_document(&command) {
                        for (_, line) in lines.by_ref() {
                            command = format!("{command}\n{line}");
                            if line == end {
                                break;
                            }
                        }
                    }
                    steps.push(Step { line: at + 1, command, shown: console.then(Vec::new) });
                }
                (None, Some(shown)) if console => shown.push(line.to_owned()),
                (None, _) => {}
            }
        }
    }
    steps
}

/// The word that ends it: of `<<'.'`, the dot.
fn here_document(command: &str) -> Option<String> {
    let (_, word) = command.split_once("<<'")?;
    Some(word.split_once('\'')?.0.to_owned())
}

/// Lines in blocks that no language is said of, and that look like commands: nothing runs them.
pub fn unmarked(text: &str) -> Vec<String> {
    let programs =
        ["sampan", "sampand", "sampanctl", "sampan-image", "make", "curl", "systemctl", "podman", "docker"];
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(fence) = lines.by_ref().find(|line| line.starts_with("```")) {
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let word = line.trim_start_matches("# ").split(' ').next().unwrap_or_default();
            if fence == "```" && programs.contains(&word) {
                found.push(line.to_owned());
            }
        }
    }
    found
}

#[test]
fn commands_and_what_they_show() {
    let text = "prose\n\n```console\n# cat > a <<'.'\none\n.\n# ls\na\n```\n```toml\n# no\n```\n```sh\nmake  # it\n\n# why\nls\n```\n";
    let step = |line, command: &str, shown: Option<&[&str]>| Step {
        line,
        command: command.to_owned(),
        shown: shown.map(|lines| lines.iter().map(|&line| line.to_owned()).collect()),
    };
    let wanted = [
        step(4, "cat > a <<'.'\none\n.", Some(&[])),
        step(7, "ls", Some(&["a"])),
        step(14, "make  # it", None),
        step(17, "ls", None),
    ];
    assert_eq!(steps(text), wanted);
}

#[test]
fn what_nothing_runs_is_found() {
    let text = "```\nmake install\nerror: x\n```\n```sh\nmake\n```\n```\n# sampanctl ps\n```\n";
    assert_eq!(unmarked(text), ["make install", "# sampanctl ps"]);
}
