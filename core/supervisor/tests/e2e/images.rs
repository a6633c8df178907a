//! Services from images: what the image says counts, over a worker that dies; what is written is kept until another image.
use super::died::kill_the_worker;
use super::world::{program, run};
use super::{LIVE, World};
use sampan_testkit::{bundle::BUSYBOX, image, need};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Busybox with this config, as `docker save` writes it.
fn archive(world: &World, name: &str, config: &Value) -> PathBuf {
    let root = world.dir().join(format!("{name}.root"));
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    for tool in ["sh", "sleep", "cat", "touch", "kill"] {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(tool));
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n").unwrap();
    image::archive(world.dir(), name, config, &[&root]).unwrap()
}

fn store(world: &World, args: &[&str]) -> String {
    let mut command = Command::new(program("sampan-image"));
    let ran = run(command.arg("--store").arg(world.dir().join("state/images")).args(args));
    assert_eq!(ran.code, 0, "sampan-image {args:?}: {ran:?}");
    ran.out
}

fn import(world: &World, name: &str, config: &Value) {
    let archive = archive(world, name, config);
    store(world, &["import", archive.to_str().unwrap()]);
}

fn there() -> bool {
    let path = program("sampan-image");
    need::need(&format!("{} (cargo build --workspace)", path.display()), path.exists())
}

#[test]
fn a_service_from_an_image_is_led_as_the_image_says_over_a_dead_worker() {
    let mut world = world!("");
    if !there() {
        return;
    }
    // Ends by USR1 alone.
    let script = "trap 'exit 0' USR1; echo here > /state; sleep 100000 & wait; echo woken; wait";
    let config = json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": [script], "User": "www", "StopSignal": "SIGUSR1",
        "ExposedPorts": { "80/tcp": {} },
    });
    world.configure(
        "[services.web]\nimage = \"app\"\npull = \"never\"\nuser = \"0\"\nstop_grace_period = \"50s\"",
    );
    import(&world, "app", &config);
    world.start();
    world.until_state("web", "running");
    let pid = world.pid("web");
    let image = world.inspect("web").image.unwrap();
    assert_eq!((image.reference.as_str(), &image.exposed_ports[..]), ("app", &["80/tcp".to_owned()][..]));
    let known = store(&world, &["list", "--json"]);
    assert!(known.contains(&image.digest), "{known}");
    assert!(world.events().iter().any(|e| e.data.get("image") == Some(&json!(image.digest))));

    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    world.until_state("web", "running");
    let inspect = world.inspect("web");
    assert_eq!((inspect.status.pid, inspect.image), (Some(pid), Some(image)));
    // The image's signal, by the new worker: SIGTERM would do nothing for 50 s.
    world.ok(&["stop", "web"]);
    assert_eq!(world.inspect("web").exit_code, Some(0), "{}", world.said());
    assert_eq!(fs::read_to_string(world.dir().join("state/images/roots/web/upper/state")).unwrap(), "here\n");
}

#[test]
fn the_images_health_check_counts_and_a_new_image_begins_anew() {
    let mut world = world!(
        "[services.web]\nimage = \"app\"\npull = \"never\"\nnotify = \"healthy\"\n{LIVE}[services.next]\n{LIVE}depends_on.web.condition = \"service_healthy\"\n"
    );
    if !there() {
        return;
    }
    let check = |script: &str| json!({ "Healthcheck": { "Test": ["CMD-SHELL", script], "StartInterval": 100_000_000u64 } });
    import(&world, "app", &check("touch /checked; test -e /ok"));
    world.start();
    let checked = world.dir().join("state/images/roots/web/upper/checked");
    world.until("it is checked", |_| checked.exists());
    assert_eq!(world.inspect("web").status.state, "starting");
    let pid = world.pid("web");
    fs::write(format!("/proc/{pid}/root/ok"), "").unwrap();
    world.until_state("web", "running");
    world.until_state("next", "running");
    assert_eq!(world.inspect("web").status.health, "healthy");
    let first = world.inspect("web").image.unwrap().digest;

    // What is written stays over a restart.
    world.ok(&["restart", "web"]);
    world.until_state("web", "running");
    import(&world, "app", &check("true"));
    world.ok(&["restart", "web"]);
    world.until_state("web", "running");
    assert_ne!(world.inspect("web").image.unwrap().digest, first);
    assert!(!checked.exists());
    // Removed from the config, nothing of it is left.
    world.configure("");
    world.ok(&["apply"]);
    world.until("what it wrote is gone", |world| !world.dir().join("state/images/roots/web").exists());
}

#[test]
fn check_says_what_becomes_of_an_images_volumes() {
    let world = world!("[services.web]\nimage = \"app\"\npull = \"never\"");
    if !there() {
        return;
    }
    let checked = |world: &World| {
        run(Command::new(program("sampand")).arg("--config").arg(world.config()).arg("--check"))
    };
    let ran = checked(&world);
    assert!(ran.code == 2 && ran.out.contains("neither pulled nor imported"), "{ran:?}");
    import(&world, "app", &json!({ "Cmd": ["/bin/sh"], "Volumes": { "/data": {} } }));
    let ran = checked(&world);
    assert!(ran.code == 0 && ran.out.contains("its image keeps /data in a volume"), "{ran:?}");
    assert!(!world.dir().join("state/volumes").exists());
    // What is not here may be got.
    world.configure("[services.web]\nimage = \"other\"");
    let ran = checked(&world);
    assert_eq!(ran.code, 0, "{ran:?}");
}
