//! Other users on the control socket: `supervisor.admin_group` and `read_group`.
use super::world::{Ran, run};
use super::{LIVE, World};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

const USER: u32 = 4242;
const ADMIN: u32 = 4300;
const READ: u32 = 4301;
const OTHER: u32 = 4302;

/// `sampanctl` as this user of that group and those supplementary ones.
fn ctl(world: &World, group: u32, more: &[u32], args: &[&str]) -> Ran {
    let mut ctl = Command::new("setpriv");
    ctl.arg(format!("--reuid={USER}")).arg(format!("--regid={group}"));
    if more.is_empty() {
        ctl.arg("--clear-groups");
    } else {
        let more: Vec<String> = more.iter().map(u32::to_string).collect();
        ctl.arg(format!("--groups={}", more.join(",")));
    }
    run(ctl.arg(world.bin().join("sampanctl")).arg("--socket").arg(world.socket()).args(args))
}

fn config(supervisor: &str) -> String {
    format!("{supervisor}---\n[services.a]\n{LIVE}environment = {{ PASSWORD = \"secret\" }}\n")
}

fn both() -> String {
    config(&format!("admin_group = \"{ADMIN}\"\nread_group = \"{READ}\"\n"))
}

const LOOKS: [&[&str]; 5] = [&["ps"], &["inspect", "a"], &["why", "a"], &["plugin", "list"], &["events"]];

#[test]
fn members_of_the_groups_may_command_and_look_and_nobody_else() {
    let mut world = world!("{}", both());
    world.start();
    world.until_state("a", "running");
    // As its own group, as the first of several and as the last of more than we ask for at first.
    let many: Vec<u32> = (5000..5200).collect();
    let last = |group: u32| [&many[..], &[group]].concat();
    world.until("its group may connect", |world| ctl(world, ADMIN, &[], &["ps"]).code == 0);
    for (own, more) in
        [(ADMIN, vec![]), (OTHER, vec![ADMIN, OTHER]), (OTHER, last(ADMIN)), (READ, vec![ADMIN])]
    {
        for args in LOOKS.iter().copied().chain([&["restart", "a"][..], &["apply"], &["config"]]) {
            let ran = ctl(&world, own, &more, args);
            assert_eq!(ran.code, 0, "{own} {more:?} {args:?}: {ran:?}");
        }
    }
    // With what a service may, as any user: that is to be root.
    let ran = ctl(&world, ADMIN, &[], &["run", "a", "true"]);
    assert!(ran.code == 125 && ran.err.contains("only root"), "{ran:?}");
    let noted = || std::fs::read_to_string(world.socket().with_file_name("requests")).unwrap();
    let before = noted();
    let generation = world.inspect("a").status.generation;
    for (own, more) in [(READ, vec![]), (OTHER, vec![READ]), (OTHER, last(READ))] {
        for args in LOOKS {
            let ran = ctl(&world, own, &more, args);
            assert_eq!(ran.code, 0, "{own} {more:?} {args:?}: {ran:?}");
        }
        for args in [
            &["restart", "a"][..],
            &["stop", "a"],
            &["kill", "a"],
            &["attach", "a"],
            &["up"],
            &["apply"],
            &["down"],
            &["config"],
        ] {
            let ran = ctl(&world, own, &more, args);
            assert_ne!(ran.code, 0, "{own} {more:?} {args:?}: {ran:?}");
            assert!(ran.err.contains("supervisor.read_group may look"), "{args:?}: {ran:?}");
            assert!(!ran.out.contains("secret"), "{args:?}: {ran:?}");
        }
    }
    assert_eq!(noted(), before, "who may not leaves no note");
    for (own, more) in [(OTHER, vec![]), (OTHER, many)] {
        for args in [&["ps"][..], &["stop", "a"]] {
            let ran = ctl(&world, own, &more, args);
            assert!(ran.code != 0 && ran.err.contains("permission denied"), "{own} {args:?}: {ran:?}");
        }
    }
    assert_eq!(world.inspect("a").status.generation, generation);
    for other in ["/v1/%63onfig", "/v1//config", "/v1/config/", "/v1/./config"] {
        let refused = world.get::<serde_json::Value>(other);
        assert_eq!(refused.unwrap()["code"], "no-such-path", "no other spelling of it: {other}");
    }
}

/// A worker that follows another, and a socket that is made again, let in whom the config says.
#[test]
fn groups_change_by_apply_and_hold_for_each_worker_and_socket() {
    let mut world = world!("{}", config(""));
    world.start();
    let mode = |world: &World| world.socket().metadata().unwrap().mode() & 0o777;
    let may = |world: &World, group: u32| ctl(world, group, &[], &["ps"]).code == 0;
    assert!(!may(&world, ADMIN) && !may(&world, READ) && mode(&world) == 0o600);
    world.configure(&both());
    world.ok(&["apply"]);
    world.until("both may", |world| may(world, ADMIN) && may(world, READ));
    super::died::kill_the_worker(&world);
    world.until("both may with the next worker", |world| may(world, ADMIN) && may(world, READ));
    std::fs::remove_file(world.socket()).unwrap();
    world.until("both may on the new socket", |world| may(world, ADMIN) && may(world, READ));
    world.configure(&config(&format!("read_group = \"{ADMIN}\"\n")));
    world.ok(&["apply"]);
    world.until("the other may not any more", |world| !may(world, READ));
    assert!(may(&world, ADMIN));
    assert_ne!(ctl(&world, ADMIN, &[], &["stop", "a"]).code, 0, "it may only look now");
    world.configure(&config(""));
    world.ok(&["apply"]);
    world.until("closed again", |world| mode(world) == 0o600);
    assert!(!may(&world, ADMIN) && !may(&world, READ));
}
