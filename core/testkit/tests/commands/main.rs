//! Every command that a page shows in a block is run as it stands, in order, and answers as shown; `table` has the exceptions.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod page;
mod session;
mod shape;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sampan_testkit::need;

use page::Step;
use session::Session;
use table::{How, ONLY_LOOK, TABLE};

/// So long what only looks is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where cargo puts programs: above this test's own.
fn programs() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned()
}

fn pages() -> Vec<String> {
    let docs = fs::read_dir(workspace().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".md"));
    ["README.md", "CONTRIBUTING.md"]
        .into_iter()
        .map(str::to_owned)
        .chain(docs.map(|name| format!("docs/{name}")))
        .collect()
}

fn text(page: &str) -> String {
    fs::read_to_string(workspace().join(page)).unwrap()
}

/// Without the comment that a page puts behind it.
fn bare(command: &str) -> &str {
    command.split_once("  #").map_or(command, |(command, _)| command).trim_end()
}

fn how(page: &str, step: &Step) -> Option<&'static How> {
    TABLE.iter().find(|(on, command, _)| *on == page && *command == bare(&step.command)).map(|(.., how)| how)
}

fn can_run() -> bool {
    let built = [
        "sampan",
        "sampand",
        "sampanctl",
        "sampan-image",
        "web",
        "libnetwork.so",
        "liblogging.so",
        "libcgroups.so",
    ];
    need::root()
        && need::programs(
            &["make", "curl", "unshare", "ip", "ps", "cc"],
            "make curl util-linux iproute2 procps gcc",
        )
        && built.iter().all(|name| {
            let path = programs().join(name);
            need::need(&format!("{} (cargo build --workspace)", path.display()), path.exists())
        })
}

/// Runs the commands of a page; nothing of what they make is left.
fn paste(page: &str, session: &mut Session) {
    for step in page::steps(&text(page)) {
        let place = format!("{page}:{}: {}", step.line, step.command);
        match how(page, &step) {
            // .ci/test lists it.
            Some(How::NotRun(why)) => eprintln!("SKIPPED command: {place}: {why}"),
            Some(How::Terminal) => session.in_terminal(bare(&step.command)),
            None if bare(&step.command).ends_with(" &") => {
                assert_eq!(session.in_background(bare(&step.command)), (Vec::new(), 0), "{place}");
            }
            None => answers(&place, &step, session),
        }
    }
    session.interrupt();
}

/// What comes is what is shown. What shows nothing must go well; what fails has to say so on the page.
fn answers(place: &str, step: &Step, session: &mut Session) {
    let end = Instant::now() + PATIENCE;
    // As a person must: one sampand at a time has /run/sampan.
    if step.command.starts_with("sampand ") && !step.command.contains("--check") {
        session.interrupt();
    }
    loop {
        let (said, code) = session.run(&step.command);
        let is_as_shown = match &step.shown {
            None => code == 0,
            Some(shown) => {
                let tells = shown.iter().any(|line| !shape::is_gap(line));
                shape::is_alike(shown, &said) && (code == 0 || tells)
            }
        };
        if is_as_shown {
            return;
        }
        let may_change = ONLY_LOOK.iter().any(|look| step.command.starts_with(look)) && Instant::now() < end;
        let shown = step.shown.as_deref().unwrap_or_default().join("\n");
        assert!(
            may_change,
            "{place}\nexit code {code}; it says\n{}\nand not\n{shown}\nthe second terminal:\n{}",
            said.join("\n"),
            session.terminal_said()
        );
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Another sampand of the same machine, and what must stay as it is: its processes, and that of its service.
const OTHER: &str = r#"cat > /etc/sampan/other.toml <<'.'
[supervisor]
run_dir = "/run/other"
state_dir = "/var/lib/sampan/other"
cgroup_parent = "/other"
[services.sleep]
rootfs = "host"
command = ["sleep", "100000"]
network_mode = "none"
.
target/dist/bin/sampand -d -c /etc/sampan/other.toml"#;
const OTHERS_STATE: &str = "target/dist/bin/sampanctl --socket /run/other/sampand.sock version; target/dist/bin/sampanctl --socket /run/other/sampand.sock --json ps | grep -E '\"(pid|restarts|state)\"'";

#[test]
fn the_readme_is_pasted_on_a_machine_with_another_sampand() {
    if !can_run() {
        return;
    }
    let mut session = Session::new(&workspace(), &programs());
    let started = session.run(OTHER);
    assert_eq!(started.1, 0, "{started:?}");
    session.run("for n in $(seq 100); do target/dist/bin/sampanctl --socket /run/other/sampand.sock ps | grep -q running && break; sleep 0.1; done");
    let before = session.run(OTHERS_STATE);
    assert_eq!(before.1, 0, "{before:?}");
    assert!(before.0.iter().any(|line| line.contains("running")), "{before:?}");
    paste("README.md", &mut session);
    assert_eq!(session.run(OTHERS_STATE), before);
    let asked = session.background_said();
    assert!(
        asked.matches('.').count() > 3 && !asked.contains('X'),
        "requests while the worker was killed: {asked}"
    );
}

/// A page for itself.
macro_rules! pasted {
    ($($test:ident: $page:literal,)*) => {
        const PASTED: &[&str] = &["README.md", $($page),*];
        $(#[test]
        fn $test() {
            if can_run() {
                paste($page, &mut Session::new(&workspace(), &programs()));
            }
        })*
    };
}

pasted! {
    api: "docs/api.md",
    images: "docs/images.md",
    install: "docs/install.md",
    metrics: "docs/metrics.md",
    performance: "docs/performance.md",
    plugins: "docs/plugins.md",
    systemd: "docs/systemd.md",
    testing: "docs/testing.md",
    tour: "docs/tour.md",
}

#[test]
fn every_page_with_commands_is_pasted() {
    let with: Vec<String> = pages().into_iter().filter(|page| !page::steps(&text(page)).is_empty()).collect();
    let left_out: Vec<&String> = with.iter().filter(|page| !PASTED.contains(&page.as_str())).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
    assert!(with.len() >= PASTED.len(), "{with:?}");
}

#[test]
fn no_command_is_in_a_block_that_nothing_runs() {
    let found: Vec<String> = pages()
        .iter()
        .flat_map(|page| page::unmarked(&text(page)).into_iter().map(move |line| format!("{page}: {line}")))
        .collect();
    assert!(found.is_empty(), "say ```console or ```sh: {found:#?}");
}

#[test]
fn each_exception_is_of_a_command_that_is_there() {
    for (page, command, _) in TABLE {
        let there = page::steps(&text(page)).iter().any(|step| bare(&step.command) == *command);
        assert!(there, "{page} has no command {command}");
    }
}
