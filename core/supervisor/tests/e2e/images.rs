//! Services from images: what the image says counts, over a worker that dies; what is written is kept until another image.
use super::died::kill_the_worker;
use super::world::{program, run};
use super::{LIVE, World};
use sampan_testkit::{bundle::BUSYBOX, image, need};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

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

pub fn import(world: &World, name: &str, config: &Value) {
    let archive = archive(world, name, config);
    store(world, &["import", archive.to_str().unwrap()]);
}

pub fn there() -> bool {
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
    assert_eq!(world.inspect("web").status.exit_code, Some(0), "{}", world.said());
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
    let check = |script: &str| json!({ "Healthcheck": { "Test": ["CMD-SHELL", script], "Interval": 100_000_000u64 } });
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
    assert!(ran.code == 2 && ran.out.contains("nothing was pulled or imported"), "{ran:?}");
    import(&world, "app", &json!({ "Cmd": ["/bin/sh"], "Volumes": { "/data": {} } }));
    let ran = checked(&world);
    assert!(ran.code == 0 && ran.out.contains("its image keeps /data in a volume"), "{ran:?}");
    assert!(!world.dir().join("state/volumes").exists());
    // What is not here may be got.
    world.configure("[services.web]\nimage = \"other\"");
    let ran = checked(&world);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_new_volume_has_what_the_image_has_and_keeps_what_becomes_of_it() {
    let service = |name| {
        format!(
            "[services.{name}]\nimage = \"app\"\npull = \"never\"\n{LIVE}volumes = [\"data:/etc\", \"none:/none:nocopy\"]\n"
        )
    };
    let mut world = world!("[volumes.data]\n[volumes.none]\n{}{}", service("web"), service("other"));
    if !there() {
        return;
    }
    import(&world, "app", &json!({ "Volumes": { "/bin": {} } }));
    world.start();
    world.until_state("web", "running");
    world.until_state("other", "running");
    let volume = |path: &str| world.dir().join("state/volumes").join(path);
    assert!(volume("data/passwd").exists() && volume("web+bin/busybox").exists());
    assert_eq!(fs::read_dir(volume("none")).unwrap().count(), 0);
    let names = fs::read_dir(volume("")).unwrap().map(|entry| entry.unwrap().file_name());
    let hidden: Vec<_> = names.filter(|name| name.display().to_string().starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
    fs::remove_file(volume("data/passwd")).unwrap();
    world.ok(&["restart", "web"]);
    world.until_state("web", "running");
    assert!(!volume("data/passwd").exists());
}

/// A registry on loopback with all that is in a store, under the name `app`. It waits in the middle of a layer until it may go on.
struct Registry {
    port: u16,
    blobs_asked: Arc<AtomicU32>,
    may_go_on: Arc<AtomicBool>,
    is_there: Arc<AtomicBool>,
}

impl Registry {
    fn new(store: PathBuf) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = Registry {
            port,
            blobs_asked: Arc::default(),
            may_go_on: Arc::default(),
            is_there: Arc::default(),
        };
        let (asked, go, there) =
            (registry.blobs_asked.clone(), registry.may_go_on.clone(), registry.is_there.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (store, asked, go, there) = (store.clone(), asked.clone(), go.clone(), there.clone());
                std::thread::spawn(move || answer(stream, &store, &asked, &go, &there));
            }
        });
        registry
    }

    fn reference(&self) -> String {
        format!("127.0.0.1:{}/app", self.port)
    }
}

fn answer(stream: TcpStream, store: &Path, asked: &AtomicU32, go: &AtomicBool, there: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
            header.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let index: Value = serde_json::from_slice(&fs::read(store.join("index.json")).unwrap()).unwrap();
        let digest = path.rsplit('/').next().unwrap_or_default();
        let digest =
            if digest == "latest" { index["manifests"][0]["digest"].as_str().unwrap() } else { digest };
        let blob = fs::read(store.join("blobs").join(digest.replacen(':', "/", 1)));
        let is_layer = path.contains("/blobs/") && blob.as_ref().is_ok_and(|blob| blob.len() > 100_000);
        let (status, body) = match (path, blob) {
            _ if !there.load(SeqCst) => ("404 Not Found", Vec::new()),
            ("/v2/", _) => ("200 OK", Vec::new()),
            (_, Ok(blob)) => ("200 OK", blob),
            (_, Err(_)) => ("404 Not Found", Vec::new()),
        };
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let (first, rest) = body.split_at(if is_layer { body.len() / 2 } else { 0 });
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(first)).is_err() {
            return;
        }
        if is_layer {
            asked.fetch_add(1, SeqCst);
            while !go.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if stream.write_all(rest).is_err() {
            return;
        }
    }
}

/// The image `app` in a registry that waits.
fn registry(world: &World) -> Registry {
    let archive =
        archive(world, "app", &json!({ "Cmd": ["/bin/sh", "-c", "sleep 100000"], "StopSignal": "SIGKILL" }));
    let store = world.dir().join("registry");
    let mut command = Command::new(program("sampan-image"));
    let ran = run(command.arg("--store").arg(&store).arg("import").arg(&archive));
    assert_eq!(ran.code, 0, "{ran:?}");
    Registry::new(store)
}

fn text(world: &World, name: &str) -> String {
    world.inspect(name).status.text
}

#[test]
fn an_image_that_is_missing_is_got_once_for_all_and_holds_up_nobody() {
    let mut world = world!("");
    if !there() {
        return;
    }
    let registry = registry(&world);
    registry.is_there.store(true, SeqCst);
    let reference = registry.reference();
    world.configure(&format!(
        "max_parallel_starts = 1\n---\n[services.a]\nimage = \"{reference}\"\n[services.b]\nimage = \"{reference}\"\n\
         [services.z]\n{LIVE}"
    ));
    world.start();
    world.until_state("z", "running");
    for name in ["a", "b"] {
        let begins = format!("waiting image {reference} ");
        world.until("it says how far it is", |world| text(world, name).starts_with(&begins));
        assert!(text(&world, name).ends_with(" %"), "{}", text(&world, name));
    }
    world.until("the registry is asked", |_| registry.blobs_asked.load(SeqCst) == 1);
    // The worker dies with the pull, and the next begins it anew, from where it was.
    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    world.until("it goes on", |world| text(world, "a").starts_with("waiting image"));
    // One that is not wanted any more is not waited for.
    world.ok(&["stop", "b"]);
    assert_eq!(world.inspect("b").status.state, "stopped");
    world.until("somebody asks", |_| registry.blobs_asked.load(SeqCst) == 2);
    registry.may_go_on.store(true, SeqCst);
    world.until_state("a", "running");
    world.ok(&["start", "b"]);
    world.until_state("b", "running");
    let digest = |name| world.inspect(name).image.unwrap().digest;
    assert_eq!(digest("a"), digest("b"));
    assert_eq!(registry.blobs_asked.load(SeqCst), 2, "one pull for each worker");
}

#[test]
fn an_image_that_cannot_be_got_is_a_failure_with_its_reason_and_tried_again() {
    let mut world = world!("");
    if !there() {
        return;
    }
    let registry = registry(&world);
    registry.may_go_on.store(true, SeqCst);
    let reference = registry.reference();
    world.configure(&format!(
        "[services.a]\nimage = \"{reference}\"\nrestart = {{ policy = \"always\", max_delay = \"200ms\" }}\n\
         [services.b]\nimage = \"{reference}\"\nrestart = \"no\"\n[services.c]\nimage = \"{reference}\"\npull = \"always\"\n"
    ));
    world.start();
    world.until_state("b", "failed");
    let why = world.ok(&["why", "b"]);
    assert!(why.contains(&format!("cannot pull {reference}")), "{why}");
    world.until("it is tried again", |world| world.inspect("a").attempt >= 2);
    registry.is_there.store(true, SeqCst);
    world.until_state("a", "running");
    world.until_state("c", "running");
    // Without an answer what is here runs.
    registry.is_there.store(false, SeqCst);
    world.ok(&["restart", "c"]);
    world.until_state("c", "running");
    assert!(world.said().contains("what is here of it runs"), "{}", world.said());
}

/// The processes of `sampan-image` that a keel holds, also those that have ended.
fn pulls_of(keel: i32) -> usize {
    let children = fs::read_to_string(format!("/proc/{keel}/task/{keel}/children")).unwrap_or_default();
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    children.split_whitespace().filter(|pid| name(pid).trim_end() == "sampan-image").count()
}

#[test]
fn a_pull_given_up_while_it_is_begun_leaves_nothing() {
    let mut world = world!("");
    if !there() {
        return;
    }
    let registry = registry(&world);
    registry.is_there.store(true, SeqCst);
    world.configure(&format!("[services.a]\nimage = \"{}\"\nautostart = false\n", registry.reference()));
    world.start();
    world.until("it is known", |world| world.inspect("a").status.state == "stopped");
    // It clones nothing before it goes on.
    world.signal(libc::SIGSTOP);
    world.ok(&["start", "a", "-d"]);
    world.until("it is begun", |world| text(world, "a").starts_with("waiting image"));
    // The look for the image has its time, then the keel is asked.
    std::thread::sleep(Duration::from_millis(300));
    world.ok(&["stop", "a"]);
    world.signal(libc::SIGCONT);
    // What comes after it at the keel: the clone is done by then.
    world.until("the keel answers", |world| world.ctl(&["version"]).code == 0);
    std::thread::sleep(Duration::from_millis(300));
    world.until("what was begun is gone", |world| pulls_of(world.keel()) == 0);
    assert_eq!(world.inspect("a").status.state, "stopped");
    registry.may_go_on.store(true, SeqCst);
}

#[test]
fn a_sampand_that_leaves_its_containers_takes_its_pulls_along() {
    let mut world = world!("");
    if !there() {
        return;
    }
    let registry = registry(&world);
    registry.is_there.store(true, SeqCst);
    world
        .configure(&format!("on_exit = \"keep\"\n---\n[services.a]\nimage = \"{}\"\n", registry.reference()));
    world.start();
    world.until("the registry is asked", |_| registry.blobs_asked.load(SeqCst) == 1);
    let begun = Instant::now();
    world.signal(libc::SIGTERM);
    assert_eq!(world.ended(), Some(0), "{}", world.said());
    assert!(begun.elapsed() < Duration::from_millis(1500), "it waited in vain: {:?}", begun.elapsed());
    registry.may_go_on.store(true, SeqCst);
    assert!(!world.leftovers().iter().any(|left| left.contains("sampan-image")), "{:?}", world.leftovers());
    // The next one goes on.
    world.start();
    world.until_state("a", "running");
    world.signal(libc::SIGINT);
    assert_eq!(world.ended(), Some(0), "{}", world.said());
}
