//! A plugin that takes its time over `detach`: what comes meanwhile waits for it, and nothing that it is owed is lost.
use super::World;
use super::world::kill;
use sampan_testkit::plugin::C;
use sampan_testkit::{Folder, need};
use std::path::PathBuf;

/// Says when `detach` begins, and takes so long over it.
const SLOW: &str = r#"
trace("slow", r);
if (r->event == SP_EV_DETACH) { sleep(2); trace("over", r); }
return SP_OK;"#;

/// A sampand with that plugin, and the service `a`, whose first life has ended just now: the next is due after `delay`.
struct Slow {
    world: World,
    trace: PathBuf,
    /// The plugin's table.
    plugin: String,
    _dir: Folder,
}

impl Slow {
    fn new(delay: &str) -> Option<Slow> {
        if !need::programs(&["cc"], "gcc") {
            return None;
        }
        let dir = Folder::new();
        let plugin = format!("[plugins.slow]\npath = \"{}\"\n", C::new("slow", SLOW).build(&dir).display());
        let trace = dir.0.join("trace");
        let world = World::new("")?.env("TRACE", &trace.display().to_string());
        world.configure(&format!(
            "{plugin}[services.a]\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\nrestart = {{ delay = \"{delay}\", jitter = 0 }}\n"
        ));
        let mut slow = Slow { world, trace, plugin, _dir: dir };
        slow.world.start();
        slow.until("detach has begun", |seen| seen.iter().any(|event| event.starts_with("slow detach")));
        assert!(!slow.seen().iter().any(|event| event.starts_with("over")), "{:?}", slow.seen());
        Some(slow)
    }

    /// From the first `detach` on: who says it, the event, and what came with it.
    fn seen(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.trace).unwrap_or_default();
        let lines = text.lines().map(|line| line.replacen(" a ", " ", 1).trim().to_owned());
        lines.skip_while(|line| !line.starts_with("slow detach")).collect()
    }

    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&[String]) -> bool) {
        self.world.until(what, |_| is(&self.seen()));
    }

    fn is_nothing_left(&self) -> bool {
        let run = self.world.dir().join("run");
        !run.join("bundles/a").exists() && !self.world.groups().iter().any(|group| group.ends_with("/a"))
    }
}

const FIRST: [&str; 3] = [r#"slow detach {"final":false}"#, r#"over detach {"final":false}"#, "slow removed"];
const LAST: [&str; 2] = [r#"slow detach {"final":true}"#, r#"over detach {"final":true}"#];

#[test]
fn the_next_life_is_made_after_it_and_after_removed() {
    let Some(slow) = Slow::new("50ms") else { return };
    slow.until("the next life", |seen| seen.iter().any(|event| event.contains(" create")));
    assert_eq!(slow.seen()[..4], [&FIRST[..], &["slow create"]].concat());
}

#[test]
fn a_shutdown_waits_for_it_and_for_the_last_one() {
    let Some(mut slow) = Slow::new("60s") else { return };
    assert_eq!(slow.world.interrupt(), Some(0), "{}", slow.world.said());
    let seen = slow.seen();
    assert_eq!(seen, [&FIRST[..], &LAST, &["slow shutdown"]].concat(), "{}", slow.world.said());
    assert!(slow.is_nothing_left());
}

#[test]
fn a_service_that_leaves_the_config_meanwhile_has_the_last_one_and_goes() {
    let Some(slow) = Slow::new("60s") else { return };
    slow.world.configure(&slow.plugin);
    slow.world.ok(&["apply"]);
    slow.until("the last of it", |seen| seen.len() >= 5);
    assert_eq!(slow.seen()[..5], [&FIRST[..], &LAST].concat());
    slow.world.until("nothing is left", |_| slow.is_nothing_left());
}

/// What its plugins had not heard goes with the worker: the next one tells them who is there (`synchronize`), and then of the next life.
#[test]
fn a_worker_that_dies_over_it_leaves_the_next_life_to_the_next_worker() {
    let Some(slow) = Slow::new("4s") else { return };
    slow.world.until_state("a", "backoff");
    kill(slow.world.worker().unwrap(), libc::SIGKILL);
    slow.until("the next life", |seen| seen.iter().any(|event| event.contains(" create")));
    let seen = slow.seen();
    let of = |what: &str| seen.iter().position(|event| event.starts_with(what));
    assert!(of("slow synchronize").is_some() && of("slow synchronize") < of("slow create"), "{seen:?}");
    slow.world.until("it has had two lives", |world| world.inspect("a").status.generation == 2);
}
