//! sampand's containers are ordinary OCI containers: `sampan` sees them; and curl is a full client.
use super::LIVE;
use sampan_testkit::world::mountinfo;
use sampan_testkit::{Bundle, need};
use std::process::Command;

#[test]
fn sampan_sees_the_containers() {
    let mut world = world!("[services.a]\n{LIVE}[services.b]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.until_state("b", "running");
    let list = world.sampan(&["list"]);
    assert!(list.code == 0 && list.out.lines().count() == 3, "{list:?}");
    let ids = world.sampan(&["list", "-q"]);
    assert_eq!(ids.out, "a\nb\n", "{ids:?}");
    let state = world.sampan(&["state", "a"]);
    let state: serde_json::Value = serde_json::from_str(&state.out).unwrap_or_else(|_| panic!("{state:?}"));
    assert_eq!(
        (state["status"].as_str(), state["pid"].as_i64()),
        (Some("running"), Some(world.pid("a").into()))
    );
    let ran = world.sampan(&["exec", "a", "/bin/cat", "/proc/1/cmdline"]);
    assert_eq!(ran.out, "/bin/sleep\u{0}100000\u{0}", "{ran:?}");
    let ran = world.sampan(&["exec", "a", "/bin/sh", "-c", "exit 9"]);
    assert_eq!(ran.code, 9, "{ran:?}");
    // What another client does to a container is an exit like any other.
    let ran = world.sampan(&["kill", "b", "KILL"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    world.until("b is restarted", |world| world.inspect("b").status.generation == 2);
    let bundle = world.inspect("a").bundle.unwrap();
    let plan = super::world::run(Command::new(super::world::program("sampan")).args(["plan", &bundle]));
    assert!(plan.code == 0 && plan.out.contains("execute /bin/sleep 100000"), "{plan:?}");
}

/// Where `/` is shared, as on each host with systemd.
#[test]
fn a_bundle_with_a_user_namespace_leaves_no_mount_at_its_restarts() {
    if !need::root() || !need::busybox() {
        return;
    }
    sampan_testkit::World { shared: true, user_namespace: false }.enter().unwrap();
    let mut bundle = Bundle::new("mounts").unwrap();
    bundle.args(&["/bin/sleep", "100000"]).user_namespace(0, 65536);
    bundle.write().unwrap();
    let mut world =
        world!("[services.b]\nbundle = \"{}\"\nstop_signal = \"SIGKILL\"\n", bundle.path().display());
    let before = mountinfo().unwrap();
    world.start();
    world.until_state("b", "running");
    for generation in 2..5 {
        world.ok(&["restart", "b"]);
        world.until_state("b", "running");
        assert_eq!(world.inspect("b").status.generation, generation);
        assert_eq!(mountinfo().unwrap(), before);
    }
}

#[test]
fn a_limit_that_does_nothing_is_told_once_however_often_the_service_starts() {
    if !need::root() || !need::busybox() {
        return;
    }
    let mut bundle = Bundle::new("nothing").unwrap();
    bundle.args(&["/bin/sleep", "100000"]);
    bundle.set("/linux/resources/memory", serde_json::json!({"kernel": 1 << 30}));
    bundle.write().unwrap();
    let mut world =
        world!("[services.b]\nbundle = \"{}\"\nstop_signal = \"SIGKILL\"\n", bundle.path().display());
    world.start();
    world.until_state("b", "running");
    world.ok(&["restart", "b"]);
    world.until_state("b", "running");
    assert_eq!(world.inspect("b").status.generation, 2);
    assert_eq!(world.said().matches("memory.kernel does nothing").count(), 1, "{}", world.said());
}

/// Each life adds a line to a file of the root, and finds none of the life before.
const JOB: &str = "command = [\"/bin/sh\", \"-c\", \"echo life >>/etc/lives; exec sleep 100000\"]\n\
                   stop_signal = \"SIGKILL\"\n";

#[test]
fn a_scratch_root_is_new_with_every_life() {
    let mut world = world!(
        "[services.job]\nrootfs.mode = \"scratch\"\n{JOB}[services.job2]\nrootfs.mode = \"scratch\"\n{JOB}"
    );
    world.start();
    world.until_state("job", "running");
    world.until_state("job2", "running");
    let lives = |world: &super::World, name: &str| {
        let said = || world.ctl(&["exec", name, "cat", "/etc/lives"]).out;
        world.until("its file is there", |_| !said().is_empty());
        said()
    };
    assert_eq!((lives(&world, "job"), lives(&world, "job2")), ("life\n".into(), "life\n".into()));
    world.ok(&["exec", "job", "rm", "/etc/passwd"]);
    world.ok(&["restart", "job"]);
    world.until_state("job", "running");
    assert_eq!(world.inspect("job").status.generation, 2);
    assert_eq!(lives(&world, "job"), "life\n");
    assert!(world.ok(&["exec", "job", "cat", "/etc/passwd"]).starts_with("root:"));
    let below = std::fs::read_dir(world.dir().join("rootfs/etc")).unwrap();
    assert_eq!(below.map(|e| e.unwrap().file_name()).collect::<Vec<_>>(), ["passwd"]);
    // The bundle is the whole hand-over.
    let bundle = world.inspect("job").bundle.unwrap();
    let plan = super::world::run(Command::new(super::world::program("sampan")).args(["plan", &bundle]));
    assert!(plan.out.contains("as the root, a new tmpfs on top"), "{plan:?}");
}

#[test]
fn the_hosts_root_as_scratch_can_be_written_to_and_hides_what_it_hides() {
    let script = "echo x >/etc/sampan-e2e && cat /etc/sampan-e2e; cat /etc/shadow 2>/dev/null || echo hidden; ls /root /home | grep -v : | grep .; echo end";
    let mut world = world!(
        "[services.job]\nrootfs = {{ path = \"/\", mode = \"scratch\" }}\n\
         command = [\"/bin/sh\", \"-c\", \"{script}\"]\nrestart = \"no\"\n"
    );
    world.start();
    world.until_state("job", "stopped");
    let said = std::fs::read_to_string(world.dir().join("state/logs/job/stdout.log")).unwrap();
    assert_eq!(said, "x\nhidden\nend\n");
    assert!(!std::path::Path::new("/etc/sampan-e2e").exists());
}

#[test]
fn curl_is_a_client() {
    if !need::need("curl", Command::new("curl").arg("--version").output().is_ok()) {
        return;
    }
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let curl = |args: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "20", "-w", " %{http_code}", "--unix-socket"]).arg(world.socket()).args(args);
        super::world::run(curl.arg(format!("http://sampand{path}"))).out
    };
    let all = curl(&[], "/v1/services");
    assert!(all.contains("\"name\":\"a\"") && all.ends_with(" 200"), "{all}");
    let stopped = curl(&["-X", "POST"], "/v1/services/a/stop");
    assert!(stopped.contains("\"state\":\"stopped\"") && stopped.ends_with(" 200"), "{stopped}");
    let unknown = curl(&[], "/v1/services/b");
    assert!(unknown.contains("no-such-service") && unknown.ends_with(" 404"), "{unknown}");
    let wrong = curl(&["-d", "{"], "/v1/services/a/kill");
    assert!(wrong.contains("\"code\":\"usage\"") && wrong.ends_with(" 400"), "{wrong}");
}
