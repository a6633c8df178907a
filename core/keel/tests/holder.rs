//! A keel that dies at each of its steps in turn: the next one gets from the holder all that the first has answered for.

use crate::keel::{Folder, Sampand, kill, scripted, soon};
use std::path::Path;
use std::process::Command;

/// In the environment of a sampand of one test.
const MARK: &str = "SAMPAN_TEST_FOLDER";

fn sampand(folder: &Folder, variable: Option<(&str, u32)>) -> Option<Sampand> {
    let mut command = Command::new(scripted());
    command.env(MARK, &folder.0);
    if let Some((variable, at)) = variable {
        command.env(variable, at.to_string());
    }
    let mut sampand = Sampand::from(&mut command);
    sampand.line_or_end().map(|line| {
        // One that dies before it says a word has been followed by now.
        sampand.workers = u32::from(line.starts_with("worker 1 "));
        assert!(line.starts_with("worker "), "{line}");
        sampand
    })
}

/// The answer, from whichever worker: one that dies is asked again. None: the keel has died.
fn ask(sampand: &mut Sampand, command: &str) -> Option<String> {
    loop {
        sampand.say(command);
        let line = sampand.line_or_end()?;
        if line.starts_with("error the keel is gone") {
            return None;
        }
        if !line.starts_with("worker ") {
            return Some(line);
        }
        sampand.workers += 1;
    }
}

fn claim(folder: &Folder) -> String {
    let path = |name: &str| folder.0.join(name).display().to_string();
    format!("claim {} {} {}", path("run"), path("state"), path("groups"))
}

/// Holders that were started by this test and run.
fn holders(folder: &Folder) -> Vec<i32> {
    let mark = format!("{MARK}={}", folder.0.display()).into_bytes();
    let is_ours = |process: &Path| {
        let read = |name: &str| std::fs::read(process.join(name)).unwrap_or_default();
        read("comm") == b"sampand-holder\n"
            && read("environ").split(|byte| *byte == 0).any(|entry| entry == mark)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let pid = |process: std::path::PathBuf| process.file_name()?.to_str()?.parse().ok();
    processes.filter(|process| is_ours(process)).filter_map(pid).collect()
}

/// Also after a failure nothing of a test stays.
struct KillHolders<'f>(&'f Folder);

impl Drop for KillHolders<'_> {
    fn drop(&mut self) {
        holders(self.0).into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
    }
}

/// How many of the steps a keel has answered, in order: a child that ends, one that runs, a descriptor and another in its place,
/// one that goes again.
#[derive(Default)]
struct Progress {
    steps: usize,
}

const STEPS: [&str; 5] =
    ["launch web exit 37", "launch stays exec sleep 1000", "keep key one", "keep key two", "keep other text"];

fn run_steps(sampand: &mut Sampand, folder: &Folder) -> Progress {
    let mut answered = Progress::default();
    if ask(sampand, &claim(folder)).is_some() {
        while answered.steps < STEPS.len() && ask(sampand, STEPS[answered.steps]).is_some() {
            answered.steps += 1;
        }
    }
    if answered.steps == STEPS.len() && ask(sampand, "drop other").is_some() {
        answered.steps += 1;
    }
    answered
}

/// All that was answered for is there, once; the step that was asked last may have been done or not.
fn check(sampand: &mut Sampand, folder: &Folder, answered: &Progress, at: u32) {
    let (children, keys) = sampand.list();
    let asked = answered.steps + 1;
    for (n, tag) in ["web", "stays"].into_iter().enumerate() {
        let there = children.contains_key(tag);
        assert!(there || answered.steps <= n, "point {at}: {tag} was answered for and is lost: {children:?}");
        assert!(!there || asked > n, "point {at}: {tag} was not asked for: {children:?}");
    }
    if answered.steps > 0 {
        let exit = ask(sampand, "wait web").unwrap();
        let known = ["orphan Code(37)", "code 37"].contains(&exit.as_str());
        assert!(known || exit == "orphan Unknown" && !tells_exits(), "point {at}: {exit}");
    }
    let key = ask(sampand, "fetch key").unwrap();
    let expected: &[&str] = match answered.steps {
        0..2 => &["nothing"],
        2 => &["nothing", "one"],
        3 => &["one", "two"],
        _ => &["two"],
    };
    assert!(expected.contains(&key.as_str()), "point {at}: {key}");
    let other = keys.contains("other");
    assert!(other || answered.steps != 5 || asked > 5, "point {at}: a kept descriptor is lost");
    assert!(!other || answered.steps < 6, "point {at}: a dropped descriptor is back");
    soon(&format!("point {at}: one holds"), || holders(folder).len() == 1);
}

fn tells_exits() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (6, 15)
}

fn leave(mut sampand: Sampand, folder: &Folder, at: u32) {
    assert_eq!(ask(&mut sampand, "kill-all").as_deref(), Some("killed"));
    sampand.say("exit 0");
    assert_eq!(sampand.line_or_end(), None);
    assert_eq!(holders(folder), Vec::<i32>::new(), "point {at}: nothing is left");
}

#[test]
fn a_keel_that_dies_at_any_step_loses_nothing() {
    for at in 1.. {
        let folder = Folder::new(&format!("steps-{at}"));
        let _holders = KillHolders(&folder);
        let mut answered = Progress::default();
        let mut died = true;
        if let Some(mut first) = sampand(&folder, Some(("SAMPAN_CRASH_KEEL_AT", at))) {
            answered = run_steps(&mut first, &folder);
            died = answered.steps <= STEPS.len();
            first.die();
        }
        let mut second = sampand(&folder, None).unwrap();
        let claimed = ask(&mut second, &claim(&folder)).unwrap();
        assert!(claimed.starts_with("claimed false"), "point {at}: {claimed}");
        check(&mut second, &folder, &answered, at);
        leave(second, &folder, at);
        if !died {
            assert!(at > 40, "only {at} steps");
            return;
        }
    }
}

/// Keel and worker are killed, and who takes over dies at any step of that, as keel or as worker.
#[test]
fn who_takes_over_may_die_at_any_step_too() {
    for variable in ["SAMPAN_CRASH_KEEL_AT", "SAMPAN_CRASH_AT"] {
        for at in 1.. {
            let folder = Folder::new(&format!("takes-{at}"));
            let _holders = KillHolders(&folder);
            let mut first = sampand(&folder, None).unwrap();
            let answered = run_steps(&mut first, &folder);
            first.die();
            let mut done = false;
            if let Some(mut second) = sampand(&folder, Some((variable, at))) {
                let answered =
                    ask(&mut second, &claim(&folder)).is_some() && ask(&mut second, "what").is_some();
                done = answered && second.workers == 0;
                second.die();
            }
            let mut third = sampand(&folder, None).unwrap();
            assert_eq!(ask(&mut third, &claim(&folder)).as_deref(), Some("claimed false taken over"), "{at}");
            check(&mut third, &folder, &answered, at);
            leave(third, &folder, at);
            if done {
                assert!(at > 15, "only {at} steps");
                break;
            }
        }
    }
}

/// The worker has to know: it puts the holder into its control group. What a worker has not heard, the next one hears.
#[test]
fn the_worker_is_told_of_another_holder() {
    let folder = Folder::new("another");
    let _holders = KillHolders(&folder);
    let mut sampand = sampand(&folder, None).unwrap();
    assert_eq!(sampand.ask("holder"), "none");
    assert!(sampand.ask(&claim(&folder)).starts_with("claimed"));
    let first: i32 = sampand.ask("holder").parse().unwrap();
    kill(first, libc::SIGKILL);
    assert_eq!(sampand.line(), "Holder");
    let second: i32 = sampand.ask("holder").parse().unwrap();
    assert_ne!(second, first);
    soon("it is the one that holds", || holders(&folder) == [second]);

    let worker: i32 = sampand.ask("worker").parse().unwrap();
    kill(worker, libc::SIGSTOP);
    kill(second, libc::SIGKILL);
    soon("another one", || holders(&folder).iter().any(|pid| *pid != second));
    kill(worker, libc::SIGKILL);
    let mut lines = [sampand.line(), sampand.line()];
    lines.sort();
    assert_eq!(lines[0], "Holder");
    assert!(lines[1].starts_with("worker 1 "), "{lines:?}");
    leave(sampand, &folder, 0);
}
