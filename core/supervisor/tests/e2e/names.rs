//! Services with bridge networks, as people run them: they find each other by name on roots of every kind, from the first
//! instruction of their programs on, over restarts and over the death of a worker.
use super::World;
use super::world::kill;
use nix::sched::{CloneFlags, unshare};
use sampan_testkit::need::need;
use std::fs;
use std::process::Command;

/// In a network namespace of the test's own, which all that it starts is in, too.
pub fn world_of_its_own(toml: &str) -> Option<World> {
    let ip = Command::new("ip").arg("-V").output().is_ok();
    if !need("ip (iproute2)", ip) {
        return None;
    }
    let world = World::new(toml)?.installed(&["network"]);
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    world.configure(toml);
    for file in ["hosts", "hostname", "resolv.conf"] {
        let etc = world.dir().join("rootfs/etc");
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join(file), "").unwrap();
    }
    Some(world)
}

impl World {
    fn inside(&self, service: &str, line: &str) -> String {
        self.ok(&["exec", service, "/bin/sh", "-c", line])
    }

    /// What a service finds behind a name, by the C library or busybox.
    fn finds(&self, service: &str, name: &str) -> String {
        let ran = self.ctl(&["exec", service, "/bin/busybox", "nslookup", name]);
        if ran.code == 0 { ran.out } else { String::new() }
    }
}

#[test]
fn services_find_each_other_on_roots_of_all_kinds_from_their_first_instruction_on() {
    const LIVES: &str = "network_mode = \"bridge\"\nstop_signal = \"SIGKILL\"\nrestart.delay = \"10ms\"\n";
    // Its program ends at once where its own name leads nowhere.
    let first = "command = [\"/bin/sh\", \"-c\", \"/bin/busybox nslookup early.default && exec sleep 100000\"]\nrestart.max_attempts = 1\n";
    let sleeps = "command = [\"sleep\", \"100000\"]\n";
    let toml = format!(
        "[networks.back]\ninternal = true\n\
         [services.early]\n{LIVES}{first}\
         [services.web]\n{LIVES}{sleeps}rootfs = \"host\"\nhostname = \"front\"\n\
         [services.db]\n{LIVES}{sleeps}networks = [\"default\", {{ name = \"back\", aliases = [\"postgres\"] }}]\n\
         extra_hosts = [\"printer:192.0.2.7\"]\n\
         [services.own]\n{LIVES}{sleeps}volumes = [\"/etc/hostname:/etc/hosts:ro\"]\n"
    );
    let Some(mut world) = world_of_its_own(&toml) else { return };
    world.start();
    for service in ["early", "web", "db", "own"] {
        world.until_state(service, "running");
    }
    assert_eq!(world.inspect("early").status.restarts, 0, "{}", world.said());
    let hosts = world.inside("db", "cat /etc/hosts /etc/hostname");
    assert!(hosts.contains("192.0.2.7\tprinter") && hosts.ends_with("\ndb\n"), "{hosts}");
    assert!(world.inside("web", "cat /etc/resolv.conf").starts_with("nameserver 10."));
    assert!(
        world.inside("web", "getent hosts db").contains("db"),
        "{}",
        world.inside("web", "cat /etc/resolv.conf")
    );
    let refused = world.ctl(&["exec", "web", "/bin/sh", "-c", "echo x >>/etc/hosts"]);
    assert_ne!(refused.code, 0, "mounted read-only");
    assert!(!world.inside("own", "cat /etc/hosts").contains("localhost"), "its own volume stays");
    let found = world.finds("db", "front");
    assert!(found.contains("10.144."), "{found}");
    let own = world.inspect("web").addresses;
    assert!(own.iter().any(|address| found.contains(&address.to_string())), "{own:?} {found}");
    assert_eq!(world.finds("early", "postgres"), "", "it is not in that network");
    let back: sampan_api::Network = serde_json::from_str(&world.ok(&["network", "inspect", "back"])).unwrap();
    let there: Vec<&str> = back.members.iter().map(|member| member.service.as_str()).collect();
    assert_eq!((back.up, back.internal, there), (true, true, vec!["db"]), "{back:?}");
    let address = back.members[0].address.as_deref().unwrap();
    assert!(world.inside("db", "/bin/busybox ip address").contains(address), "{back:?}");
    let table = world.ok(&["network", "ls"]);
    assert!(table.contains("default  up ") && table.contains("up, internal"), "{table}");
    // Over the death of a worker, and over a restart.
    kill(world.worker().unwrap(), libc::SIGKILL);
    assert_eq!(world.finds("db", "front"), found);
    kill(world.pid("web"), libc::SIGKILL);
    world.until("it lives again", |world| {
        let status = world.inspect("web").status;
        status.restarts > 0 && status.state == "running"
    });
    assert_eq!(world.finds("db", "front"), found);
    world.ok(&["stop", "web"]);
    assert_eq!(world.finds("db", "front"), "", "nobody is called so any more");
}
