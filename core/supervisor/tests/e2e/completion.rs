//! What shells complete with: `sampanctl names`, quickly and without a word too many.
use super::world::kill;
use super::{LIVE, World};
use std::time::{Duration, Instant};

/// Nobody waits longer for a tab.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn names_are_told_at_once_or_not_at_all() {
    let mut world = world!(
        "[volumes.data]\n[networks.back]\n[services.web]\n{LIVE}volumes = [\"data:/data\"]\n[services.db]\n{LIVE}"
    );
    let nothing = |world: &World| {
        let begin = Instant::now();
        let ran = world.ctl(&["names", "all"]);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    };
    nothing(&world);
    world.start();
    world.until_state("web", "running");
    world.ok(&["run", "--name", "once", "web", "true"]);
    assert_eq!(world.ok(&["names", "services"]), "db\nweb\n");
    assert_eq!(world.ok(&["names", "all"]), "db\nonce\nweb\n");
    assert_eq!(world.ok(&["names", "volumes"]), "data\n");
    assert!(world.ok(&["names", "networks"]).contains("back\n"));
    assert_eq!(world.ok(&["names", "plugins"]), "");
    let is_names = |line: &str| line.split_whitespace().next() == Some("names");
    assert!(!world.ok(&["help"]).lines().any(is_names), "it is for shells");
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGSTOP);
    nothing(&world);
    kill(worker, libc::SIGCONT);
}
