//! How a one-off ends, whoever ends before it, and that nothing is left.
use super::super::died::kill_the_worker;
use super::super::images::there;
use super::super::world::{kill, library};
use super::super::{LIVE, World};
use std::fs;
use std::io::Write;

/// Says when it has begun, and how its stop signal comes.
const POLITE: &str = "trap 'echo stopped; exit 3' USR1; echo began; while true; do sleep 0.05; done";

fn service() -> String {
    format!("[services.web]\n{LIVE}autostart = false\n")
}

#[test]
fn its_exit_code_is_that_of_docker_run() {
    let mut world =
        world!("{}[services.image]\nimage = \"no-such\"\npull = \"never\"\nautostart = false\n", service());
    world.start();
    fs::write(world.dir().join("rootfs/mnt/text"), "no program").unwrap();
    for (program, code) in [
        (&["sh", "-c", "exit 42"][..], 42),
        (&["no-such-program"], 127),
        (&["/no/such/program"], 127),
        (&["/mnt/text"], 126),
        (&["/mnt"], 126),
    ] {
        let ran = world.ctl(&[&["run", "--rm", "web"], program].concat());
        assert_eq!(ran.code, code, "{program:?}: {ran:?}");
        assert_eq!(ran.err.is_empty(), code != 126 && code != 127, "{program:?}: {ran:?}");
    }
    let refused = world.ctl(&["run", "wbe", "true"]);
    assert!(refused.code == 125 && refused.err.contains("did you mean `web`?"), "{refused:?}");
    for wrong in [&["run", "-w", "relative", "web", "true"][..], &["run", "--name", "No Name", "web", "true"]]
    {
        let refused = world.ctl(wrong);
        assert!(refused.code == 125 && !refused.err.is_empty(), "{refused:?}");
    }
    let taken = world.ctl(&["run", "--name", "image", "web", "true"]);
    assert!(taken.code == 125 && taken.err.contains("image"), "{taken:?}");
    if there() {
        let missing = world.ctl(&["run", "--rm", "image", "true"]);
        assert!(missing.code == 125 && missing.err.contains("no-such"), "{missing:?}");
    }
    world.until("nothing is left", |world| world.one_offs().is_empty());
    let nobody = World::new("").map(|world| world.ctl(&["run", "web", "true"]));
    assert!(nobody.is_some_and(|ran| ran.code == 125 && ran.err.contains("no sampand")));
}

#[test]
fn a_signal_to_the_client_stops_it_as_the_stop_signal_does() {
    let mut world =
        world!("[services.web]\ncommand = \"true\"\nautostart = false\nstop_signal = \"SIGUSR1\"\n");
    world.start();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let mut client = world.client(&["--rm", "web", "sh", "-c", POLITE]);
        assert_eq!(client.line(), "began\n");
        client.signal(signal);
        let ran = client.ended();
        assert_eq!((ran.code, ran.out.as_str()), (3, "stopped\n"), "{ran:?}");
    }
    // The second one has no patience.
    let deaf = "trap '' USR1; echo began; while true; do sleep 0.05; done";
    let mut client = world.client(&["--rm", "web", "sh", "-c", deaf]);
    assert_eq!(client.line(), "began\n");
    client.signal(libc::SIGINT);
    let name = world.the_one_off();
    world.until_state(&name, "stopping");
    client.signal(libc::SIGINT);
    assert_eq!(client.ended().code, 137);
    world.until_gone(&name);
}

#[test]
fn it_ends_with_its_client() {
    let logging = library("logging");
    let mut world = world!("[plugins.logging]\npath = \"{}\"\n{}", logging.display(), service());
    world.start();
    for rm in [&["--rm"][..], &[]] {
        let mut client = world.client(&[rm, &["web", "sh", "-c", "echo began; sleep 100000"]].concat());
        assert_eq!(client.line(), "began\n");
        let name = world.the_one_off();
        let pid = world.pid(&name);
        client.signal(libc::SIGKILL);
        client.ended();
        if rm.is_empty() {
            world.until_state(&name, "stopped");
            assert!(
                world.ok(&["why", &name]).contains("its client is gone"),
                "{}",
                world.ok(&["why", &name])
            );
        } else {
            world.until_gone(&name);
        }
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn it_outlives_a_worker_and_ends_with_a_client_that_ended_meanwhile() {
    let mut world = world!("{}", service());
    world.start();
    let mut client =
        world.client(&["--rm", "web", "sh", "-c", "echo began; read line; echo got $line; exit 5"]);
    assert_eq!(client.line(), "began\n");
    let name = world.the_one_off();
    let pid = world.pid(&name);
    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    assert_eq!((world.pid(&name), world.inspect(&name).status.one_off_of.as_deref()), (pid, Some("web")));
    client.input().write_all(b"this\n").unwrap();
    let ran = client.ended();
    assert_eq!((ran.code, ran.out.as_str()), (5, "got this\n"), "{ran:?} {}", world.said());
    world.until_gone(&name);

    let mut client = world.client(&["--rm", "web", "sh", "-c", "echo began; sleep 100000"]);
    assert_eq!(client.line(), "began\n");
    let name = world.the_one_off();
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGSTOP);
    client.signal(libc::SIGKILL);
    client.ended();
    kill(worker, libc::SIGKILL);
    world.until_gone(&name);
}

#[test]
fn it_is_not_run_twice_when_a_worker_dies_over_it() {
    let mut world = world!("");
    let dir = world.dir().display();
    world
        .configure(&format!("[services.web]\n{LIVE}autostart = false\nvolumes = [\"{dir}/shared:/data\"]\n"));
    fs::create_dir(world.dir().join("shared")).unwrap();
    world.start();
    for round in 0..8_u64 {
        let client = world.client(&["--rm", "web", "sh", "-c", "echo x >>/data/count; echo ran; exit 6"]);
        std::thread::sleep(std::time::Duration::from_millis(6 * round));
        kill_the_worker(&world);
        let ran = client.ended();
        assert_eq!((ran.code, ran.out.as_str()), (6, "ran\n"), "round {round}: {ran:?} {}", world.said());
        let count = fs::read_to_string(world.dir().join("shared/count")).unwrap();
        assert_eq!(count.lines().count() as u64, round + 1);
    }
    world.until("nothing is left", |world| world.one_offs().is_empty());
}

#[test]
fn the_keel_dies_and_the_next_sampand_goes_on_with_it() {
    let mut world = world!("{}", service());
    world.start();
    let mut client = world.client(&["--rm", "web", "sh", "-c", "echo began; sleep 100000"]);
    assert_eq!(client.line(), "began\n");
    let name = world.the_one_off();
    let pid = world.pid(&name);
    world.signal(libc::SIGKILL);
    world.ended();
    world.start();
    assert_eq!(world.pid(&name), pid);
    client.signal(libc::SIGKILL);
    client.ended();
    world.until_gone(&name);
}

#[test]
fn its_service_leaves_the_config_and_it_goes_on() {
    let mut world = world!("{}[services.db]\n{LIVE}", service());
    world.start();
    let mut client = world.client(&["--rm", "web", "sh", "-c", "echo began; cat; exit 9"]);
    assert_eq!(client.line(), "began\n");
    let name = world.the_one_off();
    let pid = world.pid(&name);
    world.configure(&format!("[services.db]\n{LIVE}"));
    let dry = world.ok(&["apply", "--dry-run"]);
    assert!(dry.contains("web") && !dry.contains(&name), "{dry}");
    let applied = world.ok(&["apply"]);
    assert!(!applied.contains(&name), "{applied}");
    world.until("the service is gone", |world| !world.services().iter().any(|status| status.name == "web"));
    assert_eq!(world.pid(&name), pid);
    // By what it began with, for the next worker as well.
    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    assert_eq!(world.pid(&name), pid);
    // A service may take its name.
    let mut other = world.client(&["--rm", "--name", "taken", "db", "sh", "-c", "echo began; sleep 100000"]);
    assert_eq!(other.line(), "began\n");
    world.configure(&format!("[services.db]\n{LIVE}[services.taken]\n{LIVE}"));
    world.ok(&["apply"]);
    assert_eq!(other.ended().code, 137);
    world.until("it is a service", |world| {
        let status = world.inspect("taken").status;
        status.state == "running" && status.one_off_of.is_none()
    });
    assert_eq!(client.ended().code, 9);
    world.until_gone(&name);
}

#[test]
fn detached_it_runs_on_its_own_and_can_be_asked_about() {
    let logging = library("logging");
    let mut world = world!("[plugins.logging]\npath = \"{}\"\n{}", logging.display(), service());
    world.start();
    let name = world.ok(&["run", "-d", "web", "sh", "-c", "echo said; sleep 0.2; exit 4"]);
    let name = name.trim();
    let waited = world.ctl(&["wait", "--condition", "done", name]);
    assert_eq!((waited.code, waited.out.as_str()), (4, "4\n"), "{waited:?}");
    world.until("its output is there", |world| world.ctl(&["logs", name]).out == "said\n");
    assert!(world.ok(&["why", name]).contains("exit code 4"));
    let missing = world.ctl(&["run", "-d", "--rm", "web", "no-such-program"]);
    assert_eq!((missing.code, missing.out.as_str()), (127, ""), "{missing:?}");

    let gone = world.ok(&["run", "-d", "--rm", "web", "sh", "-c", "echo said; sleep 0.2"]);
    world.until_gone(gone.trim());
    // The last ten stay.
    for _ in 0..10 {
        world.ok(&["run", "web", "true"]);
    }
    world.until_gone(name);
    assert_eq!(world.one_offs().len(), 10);
    // Another one may have the name of one that has ended.
    for code in [1, 2] {
        assert_eq!(
            world.ctl(&["run", "--name", "again", "web", "sh", "-c", &format!("exit {code}")]).code,
            code
        );
    }
    assert_eq!(world.inspect("again").status.exit_code, Some(2));
}

#[test]
fn it_ends_with_sampand_and_is_not_begun_again() {
    let mut world = world!("{}", service());
    world.start();
    let mut client = world.client(&["web", "sh", "-c", "echo began; sleep 100000"]);
    assert_eq!(client.line(), "began\n");
    world.ok(&["run", "-d", "--name", "done", "web", "true"]);
    world.interrupt();
    assert_eq!(client.ended().code, 137);
    let marks = world.dir().join("state/one-offs");
    assert_eq!(fs::read_dir(&marks).unwrap().count(), 0);
    // As after a reboot: what it had written to its root.
    fs::write(marks.join("lost-run-1"), "").unwrap();
    fs::create_dir_all(world.dir().join("state/logs/lost-run-1")).unwrap();
    world.start();
    world.until_gone("lost-run-1");
    assert_eq!(world.one_offs(), [""; 0]);
}
