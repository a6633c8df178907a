//! `init = true`: the first process is ours.
use super::World;
use std::fs;

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Its first process, and the programs below.
fn names(world: &World, service: &str) -> (String, Vec<String>) {
    let first = world.pid(service);
    let rest = world.processes(service).into_iter().filter(|pid| *pid != first).map(name).collect();
    (name(first), rest)
}

#[test]
fn it_starts_the_program_reaps_orphans_and_ends_as_the_program_does() {
    // A shell that waits for nobody leaves its orphans to the first process.
    let script = "trap 'exit 5' TERM; (sleep 0.01 & sleep 0.01 & sleep 0.01 &); echo $PPID > /out/parent; \
                  while :; do sleep 0.05; done";
    let mut world = world!(
        "[services.app]\ninit = true\nrestart = \"no\"\nuser = \"1000:1000\"\nread_only = true\n\
         command = [\"sh\", \"-c\", \"{script}\"]\ntmpfs = [\"/out:mode=1777\"]\n\
         [services.gone]\ninit = true\nrestart = \"no\"\ncommand = [\"/no/such\"]\n\
         [services.plain]\nrestart = \"no\"\ncommand = [\"sh\", \"-c\", \"exit 3\"]\ninit = true\n\
         [services.mapped]\ninit = true\ncommand = [\"sleep\", \"1000\"]\nstop_signal = \"SIGKILL\"\n\
         security.userns = {{ uid_map = [\"0:100000:65536\"], gid_map = [\"0:100000:65536\"] }}\n\
         [services.among]\ninit = true\npid = \"host\"\ncommand = [\"sleep\", \"1000\"]\n"
    );
    if !sampan_testkit::need::no_user_namespace() {
        return;
    }
    world.start();
    world.until_state("app", "running");
    world.until("the orphans are reaped", |world| {
        let (first, rest) = names(world, "app");
        let shells = rest.iter().filter(|name| *name == "sh").count();
        first == "sampan-init" && shells == 1 && rest.len() <= 2
    });
    assert_eq!(world.ok(&["exec", "app", "cat", "/out/parent"]).trim(), "1", "the program is its child");
    // Nothing of sampand is in it, and it cannot be changed from inside.
    let exe = fs::metadata(format!("/proc/{}/exe", world.pid("app"))).unwrap();
    assert!(exe.len() < 32 << 10, "{} bytes", exe.len());
    assert_ne!(world.ctl(&["exec", "-u", "0:0", "app", "sh", "-c", "echo > /dev/sampan-init"]).code, 0);
    assert_eq!(world.inspect("plain").status.last_exit.as_deref(), Some("3"));
    world.until_state("gone", "failed");
    assert_eq!(world.inspect("gone").status.last_exit.as_deref(), Some("127"));
    let said = fs::read_to_string(world.dir().join("state/logs/gone/stderr.log")).unwrap();
    assert_eq!(said, "sampan-init: cannot execute /no/such: not found\n");
    for service in ["mapped", "among"] {
        world.until_state(service, "running");
        assert_eq!(name(world.pid(service)), "sampan-init", "{service}");
        world.until(service, |world| names(world, service).1 == ["sleep"]);
    }
    // The stop signal reaches the program.
    world.ok(&["stop", "app"]);
    assert_eq!(world.inspect("app").status.last_exit.as_deref(), Some("5"));
    // Each life has a file of its own.
    world.ok(&["start", "app"]);
    world.until_state("app", "running");
    assert_eq!(name(world.pid("app")), "sampan-init");
    assert!(!world.dir().join("run/init/gone").exists(), "what rests keeps no copy");
}
