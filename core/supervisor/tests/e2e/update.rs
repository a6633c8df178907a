//! `update`: limits of what runs.
use super::LIVE;
use sampan_api as api;

#[test]
fn limits_are_changed_until_the_next_life() {
    let mut world = world!(
        r#"[services.web]
{LIVE}
resources.memory = "64M"
resources.pids = 100
[services.rests]
{LIVE}
autostart = false
"#
    );
    world.start();
    world.until_state("web", "running");
    let limits = || {
        let one: Vec<api::Usage> = world.get("/v1/usage?service=web").unwrap();
        (one[0].memory_limit_bytes, one[0].processes_limit)
    };
    assert_eq!(limits(), (Some(64 << 20), Some(100)));
    let pid = world.pid("web");
    assert_eq!(world.ok(&["update", "web", "--memory", "96M"]), "");
    assert_eq!(limits(), (Some(96 << 20), Some(100)));
    assert_eq!(world.inspect("web").limits["memory"], "96M", "inspect has those that hold");
    world.ok(&["update", "web", "--pids", "200", "--cpus", "0.5"]);
    assert_eq!(limits(), (Some(96 << 20), Some(200)), "what was changed before stays");
    assert!(quota(&world).contains(&50_000), "{:?}", quota(&world));
    world.ok(&["update", "web", "--memory", "none", "--pids", "none"]);
    assert_eq!(limits(), (None, None));
    world.ok(&["update", "web", "--memory", "32M"]);
    assert_eq!(limits(), (Some(32 << 20), None));
    assert_eq!(world.pid("web"), pid, "it runs on");

    // An apply that changes nothing of them leaves them, a new life has the config's.
    world.ok(&["apply"]);
    assert_eq!(limits(), (Some(32 << 20), None));
    world.ok(&["restart", "web"]);
    assert_eq!(limits(), (Some(64 << 20), Some(100)));
    world.ok(&["update", "web", "--cpus", "2"]);
    assert_eq!(limits(), (Some(64 << 20), Some(100)), "what the life before had is over");
    // And so has an apply that changes one.
    world.ok(&["update", "web", "--memory", "96M"]);
    world.configure(&format!(
        "[services.web]\n{LIVE}resources.memory = \"64M\"\nresources.pids = 150\n[services.rests]\n{LIVE}autostart = false\n"
    ));
    world.ok(&["apply"]);
    world.until("the config's limits", |_| limits() == (Some(64 << 20), Some(150)));
    world.ok(&["update", "web", "--cpus", "1"]);
    assert_eq!(limits(), (Some(64 << 20), Some(150)));

    for (args, code, says) in [
        (vec!["web"], 2, "--memory"),
        (vec!["web", "--memory", "1K"], 2, "memory: \"1K\" is no limit; write 512K or more"),
        (vec!["web", "--cpus", "many"], 2, "cpus: \"many\" is no limit"),
        (vec!["rests", "--memory", "64M"], 1, "rests is not running; `sampanctl start rests`"),
        (vec!["wbe", "--memory", "64M"], 1, "did you mean `web`?"),
    ] {
        let ran = world.ctl(&[&["update"], &args[..]].concat());
        assert!(ran.code == code && ran.err.contains(says), "{args:?}: {ran:?}");
    }
    let both = world.ctl(&["update", "rests", "web", "--memory", "80M"]);
    assert_eq!((both.code, limits().0), (1, Some(80 << 20)), "what can be changed is: {both:?}");
}

/// CPU time in each 100 ms, in microseconds, as each hierarchy has it.
fn quota(world: &super::World) -> Vec<i64> {
    let files = world.groups().into_iter().filter(|group| group.ends_with("web"));
    let read = |group: std::path::PathBuf| {
        let text = ["cpu.max", "cpu.cfs_quota_us"]
            .iter()
            .find_map(|file| std::fs::read_to_string(group.join(file)).ok())?;
        text.split_whitespace().next()?.parse().ok()
    };
    files.filter_map(read).collect()
}
