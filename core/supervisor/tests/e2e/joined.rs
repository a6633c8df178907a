//! Services in namespaces of another one (`network_mode = "service:X"`, `pid`, `ipc`, `uts`, `cgroup`): they start after it, see what it
//! sees, and stop and start with it.
use super::died::kill_the_worker;
use super::names::world_of_its_own;
use super::world::kill;
use super::{LIVE, World};
use std::fs;

/// Restarts soon.
const QUICK: &str = "restart = { delay = \"10ms\", max_delay = \"10ms\" }\n";
const KINDS: [(&str, &str); 5] =
    [("network_mode", "net"), ("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup")];

/// Which namespace a service's main process is in.
fn namespace(world: &World, service: &str, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{}/ns/{kind}", world.pid(service))).unwrap();
    link.to_string_lossy().into_owned()
}

fn together(world: &World, kinds: &[(&str, &str)]) {
    for (key, kind) in kinds {
        assert_eq!(namespace(world, "with", kind), namespace(world, "db", kind), "{key}");
    }
}

/// Both are in another life than these.
fn both_after(world: &World, db: u64, with: u64) {
    world.until("both live again", |world| {
        let lives = |name, was| {
            let status = world.inspect(name).status;
            status.generation > was && status.state == "running"
        };
        lives("db", db) && lives("with", with)
    });
}

fn generation(world: &World, service: &str) -> u64 {
    world.inspect(service).status.generation
}

#[test]
fn each_kind_is_the_other_services_over_its_restarts_and_a_dead_worker() {
    let keys: String = KINDS.iter().map(|(key, _)| format!("{key} = \"service:db\"\n")).collect();
    // By name it would be first.
    let mut world =
        world!("[services.db]\n{LIVE}{QUICK}hostname = \"other\"\n[services.with]\n{LIVE}{QUICK}{keys}");
    world.start();
    world.until_state("with", "running");
    assert!(world.place("db", "running") < world.place("with", "creating"));
    together(&world, &KINDS);
    let shown = world.ok(&["exec", "with", "/bin/sh", "-c", "hostname; cat /proc/1/cmdline | tr '\\0' ' '"]);
    assert_eq!(shown, "other\n/bin/sleep 100000 ");
    // Nothing that leads anywhere came along.
    let fds = fs::read_dir(format!("/proc/{}/fd", world.pid("with"))).unwrap().count();
    assert_eq!(fds, 3);
    for round in 0..3 {
        let (db, with) = (generation(&world, "db"), generation(&world, "with"));
        match round {
            0 => kill(world.pid("db"), libc::SIGKILL),
            1 => drop(world.ok(&["restart", "db"])),
            _ => {
                kill_the_worker(&world);
                kill(world.pid("db"), libc::SIGKILL);
            }
        }
        both_after(&world, db, with);
        together(&world, &KINDS);
    }
    // It ends alone.
    let db = generation(&world, "db");
    world.ok(&["restart", "with"]);
    world.until_state("with", "running");
    together(&world, &KINDS);
    assert_eq!(generation(&world, "db"), db);
    world.ok(&["stop", "db"]);
    world.until_state("with", "waiting");
    world.ok(&["start", "db"]);
    world.until_state("with", "running");
    together(&world, &KINDS);
}

/// The other one is up no more while this one is being made.
#[test]
fn what_is_launched_into_a_namespace_that_goes_is_launched_again() {
    let slow = "hooks.prestart = [{ path = \"/bin/sleep\", args = [\"sleep\", \"0.3\"] }]\n";
    let mut world = world!(
        "[services.db]\n{LIVE}{QUICK}[services.with]\n{LIVE}{QUICK}{slow}network_mode = \"service:db\"\n"
    );
    world.start();
    for _ in 0..3 {
        world.until("it is being made", |world| {
            matches!(world.inspect("with").status.state.as_str(), "creating" | "created")
        });
        let db = generation(&world, "db");
        kill(world.pid("db"), libc::SIGKILL);
        world.until("the other one is back", |world| generation(world, "db") > db);
    }
    world.until_state("with", "running");
    together(&world, &[("network_mode", "net")]);
}

#[test]
fn who_has_the_others_network_has_its_names() {
    let bridge = format!("{LIVE}{QUICK}network_mode = \"bridge\"\n");
    let toml = format!(
        "[services.db]\n{bridge}extra_hosts = [\"printer:192.0.2.7\"]\n[services.peer]\n{bridge}\n\
         [services.with]\n{LIVE}{QUICK}network_mode = \"service:db\"\n\
         [services.third]\n{LIVE}{QUICK}network_mode = \"service:with\"\n"
    );
    let Some(mut world) = world_of_its_own(&toml) else { return };
    world.start();
    for service in ["peer", "third"] {
        world.until_state(service, "running");
    }
    for _ in 0..2 {
        together(&world, &[("network_mode", "net")]);
        for service in ["with", "third"] {
            let sees = |line: &str| world.ok(&["exec", service, "/bin/sh", "-c", line]);
            let hosts = sees("cat /etc/hosts");
            assert!(hosts.contains("192.0.2.7\tprinter") && hosts.contains("\tdb"), "{hosts}");
            assert_eq!(sees("cat /etc/hostname; hostname"), "db\ndb\n");
            assert!(sees("/bin/busybox nslookup peer").contains("10.144."));
            assert!(sees("/bin/busybox ip addr show eth0").contains("10.144."));
        }
        let (db, with) = (generation(&world, "db"), generation(&world, "with"));
        kill(world.pid("db"), libc::SIGKILL);
        both_after(&world, db, with);
        world.until_state("third", "running");
    }
}
