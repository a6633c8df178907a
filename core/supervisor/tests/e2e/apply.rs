//! A changed config, by `apply` and by SIGHUP.
use super::LIVE;

#[test]
fn each_change_does_what_the_reference_says() {
    let mut world = world!(
        "[services.same]\n{LIVE}[services.gone]\n{LIVE}[services.live]\n{LIVE}[services.again]\n{LIVE}"
    );
    world.start();
    for name in ["same", "gone", "live", "again"] {
        world.until_state(name, "running");
    }
    let (same, live, again) = (world.pid("same"), world.pid("live"), world.pid("again"));
    world.configure(&format!(
        "[services.same]\n{LIVE}[services.new]\n{LIVE}[services.live]\n{LIVE}restart.delay = \"7s\"\n\
         [services.again]\n{LIVE}environment = {{ NEW = \"1\" }}\n"
    ));
    let said = world.ok(&["apply"]);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "again: restart environment.NEW",
            "gone: removed",
            "live: live restart.delay",
            "new: new",
            "same: nothing"
        ]
    );
    world.until("gone is gone", |world| world.services().iter().all(|service| service.name != "gone"));
    assert_eq!(world.processes("gone"), Vec::<i32>::new());
    world.until_state("new", "running");
    world.until("again lives again", |world| {
        let status = world.inspect("again").status;
        status.generation == 2 && status.state == "running"
    });
    assert_ne!(world.pid("again"), again);
    assert!(world.ok(&["exec", "again", "env"]).contains("NEW=1"));
    assert_eq!((world.pid("same"), world.pid("live")), (same, live));
    world.ok(&["kill", "live"]);
    world.until_state("live", "backoff");
    assert!(world.inspect("live").status.text.contains("s left"), "seven seconds hold: it is still waiting");
}

#[test]
fn a_config_with_errors_changes_nothing() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    world.configure("[services.b]\ncommand = [\"/bin/true\"]\nrestart = \"allways\"\n");
    let ran = world.ctl(&["apply"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("nothing changed") && ran.err.contains("allways"), "{ran:?}");
    assert_eq!(world.ctl(&["up"]).code, 2);
    world.signal(libc::SIGHUP);
    world.until("SIGHUP is answered in the log", |world| world.said().contains("nothing changed"));
    let names: Vec<String> = world.services().into_iter().map(|service| service.name).collect();
    assert_eq!((names, world.pid("a")), (vec!["a".to_owned()], a));
}

#[test]
fn sighup_applies() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.configure(&format!("[services.b]\n{LIVE}"));
    world.signal(libc::SIGHUP);
    world.until("only b is left", |world| {
        let all = world.services();
        all.len() == 1 && all[0].name == "b" && all[0].state == "running"
    });
}
