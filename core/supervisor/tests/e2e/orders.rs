//! Who is asked to end, and by whom: the keel alone is; what it was asked outlives the worker, and never the keel.
use super::world::kill;
use super::{LIVE, World};
use sampan_testkit::Folder;
use sampan_testkit::plugin::C;
use std::process::{Command, Stdio};

/// Takes its time when it is asked to end.
const SLOW: &str = r#"[services.slow]
command = ["/bin/sh", "-c", "trap 'sleep 1; exit 0' TERM; echo ready > /tmp/ready; sleep 100000 & wait"]
stop_grace_period = "50s"
read_only = false
"#;

fn begin(toml: &str) -> Option<World> {
    let mut world = World::new(toml)?;
    std::fs::create_dir_all(world.dir().join("rootfs/tmp")).unwrap();
    world.start();
    world.until_state("slow", "running");
    world.until("it listens", |world| world.dir().join("rootfs/tmp/ready").exists());
    Some(world)
}

/// KillMode=control-group and `kill 0` signal all of a group.
#[test]
fn keel_and_worker_are_both_signalled_and_that_is_one_order() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let Some(mut world) = begin(SLOW) else { return };
        let worker = world.worker().unwrap();
        for _ in 0..3 {
            kill(worker, signal);
        }
        kill(worker, libc::SIGHUP);
        world.signal(signal);
        kill(worker, signal);
        assert_eq!(world.ended(), Some(0));
        assert!(!world.said().contains("hurry: no more grace"), "{}", world.said());
    }
}

#[test]
fn a_second_signal_to_the_keel_is_hurry() {
    let Some(mut world) = begin(SLOW) else { return };
    world.signal(libc::SIGTERM);
    world.until("it stops", |world| world.said().contains("asked to stop"));
    world.signal(libc::SIGTERM);
    assert_eq!(world.ended(), Some(0));
    assert!(world.said().contains("hurry: no more grace"), "{}", world.said());
}

#[test]
fn a_shutdown_goes_on_under_the_next_worker_whoever_asked_for_it() {
    for by_client in [false, true] {
        let Some(mut world) = begin(SLOW) else { return };
        let mut client = by_client.then(|| {
            let mut ctl = Command::new(super::world::program("sampanctl"));
            ctl.arg("--socket").arg(world.socket()).arg("down");
            ctl.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        });
        if !by_client {
            world.signal(libc::SIGTERM);
        }
        world.until("it stops", |world| world.said().contains("is being stopped"));
        kill(world.worker().unwrap(), libc::SIGKILL);
        assert_eq!(world.ended(), Some(0), "by a client: {by_client}");
        let said = world.said();
        assert!(!said.contains("hurry: no more grace"), "{said}");
        if let Some(client) = &mut client {
            client.wait().unwrap();
        }
        // And it is over: the next one starts what is to run.
        let _ = std::fs::remove_file(world.dir().join("rootfs/tmp/ready"));
        world.start();
        world.until_state("slow", "running");
        world.until("it listens", |world| world.dir().join("rootfs/tmp/ready").exists());
    }
}

/// Whatever is to become of what runs, it begins nothing.
#[test]
fn one_that_is_asked_to_end_while_its_plugins_open_starts_nothing() {
    for on_exit in ["keep", "stop"] {
        let Some(world) = World::new("") else { return };
        let dir = Folder::new();
        let opening = dir.path("opening");
        let plugin = C {
            open: r#"{ int fd = open(getenv("OPENING"), O_CREAT | O_WRONLY, 0600); close(fd); usleep(1500000); return SP_OK; }"#,
            ..C::new("slow", "return SP_OK;")
        };
        let library = plugin.build(&dir);
        world.configure(&format!(
            "on_exit = \"{on_exit}\"\n---\n[plugins.slow]\npath = \"{}\"\n[services.a]\n{LIVE}[services.b]\n{LIVE}",
            library.display()
        ));
        let mut world = world.env("OPENING", opening.to_str().unwrap());
        world.spawn();
        world.until("its plugin opens", |_| opening.exists());
        world.signal(libc::SIGTERM);
        assert_eq!(world.ended(), Some(0), "{}", world.said());
        let said = world.said();
        assert!(!said.contains("-> "), "{on_exit}: a service has changed: {said}");
        world.start();
        world.until_state("a", "running");
        assert_eq!(world.inspect("a").status.generation, 1, "{on_exit}: its first life");
    }
}

#[test]
fn a_stopped_worker_is_noticed_and_said() {
    let Some(mut world) = World::new("") else { return };
    world.start();
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGSTOP);
    world.until("it is said", |world| {
        world.said().contains(&format!("the worker, process {worker}, was stopped by a signal"))
    });
    kill(worker, libc::SIGCONT);
    world.until("that too", |world| world.said().contains(&format!("process {worker}, goes on")));
}
