//! Launches that never end: a mount that does not answer, a hook or a plugin that hangs. Nobody else is held up, they meet
//! their `start_timeout`, and a shutdown ends.
use super::fuse::Dead;
use super::world::{program, run};
use super::{LIVE, World};
use sampan_testkit::plugin::C;
use sampan_testkit::{Folder, need};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the others can still do while these hang, with as many start slots as there are of those that hang.
fn the_others_live(world: &World) {
    world.until_state("good", "running");
    let first = world.pid("good");
    world.ok(&["restart", "good"]);
    assert_ne!(world.pid("good"), first);
    world.ok(&["stop", "good"]);
    world.until_state("good", "stopped");
    world.ok(&["start", "good"]);
    let other = world.pid("other");
    super::world::kill(other, libc::SIGKILL);
    world
        .until("other runs again", |world| world.inspect("other").status.pid.is_some_and(|pid| pid != other));
}

/// Two that hang before two that do not, and two slots. The latter come by their names after the former.
fn two_slots(hang: &str, more: &str) -> String {
    format!(
        "max_parallel_starts = 2\nshutdown_timeout = \"4s\"\n---\n{more}\n[services.bad1]\n{hang}\n[services.bad2]\n{hang}\n\
         [services.good]\n{LIVE}[services.other]\n{LIVE}"
    )
}

/// Starts sampand, whose services' mount dies then, and these services after that.
fn start_and_die(world: &mut World, takes: bool, services: &[&str]) -> Option<Dead> {
    let at = world.dir().join("dead");
    std::fs::create_dir_all(at.join("root")).unwrap();
    world.start();
    let dead = Dead::mount(&at, takes)?;
    for service in services {
        world.ok(&["start", "--detach", service]);
    }
    Some(dead)
}

#[test]
fn a_root_on_a_mount_that_never_answers_holds_nobody_up() {
    let mut world = world!("");
    let hang = format!("{LIVE}autostart = false\nrootfs = \"{}/dead/root\"", world.dir().display());
    world.configure(&two_slots(&hang, ""));
    let Some(dead) = start_and_die(&mut world, true, &["bad1", "bad2"]) else { return };
    the_others_live(&world);
    assert_eq!(world.inspect("bad1").status.state, "creating");
    let text = world.inspect("bad1").status.text;
    assert!(text.contains("a look at") && text.contains("dead/root"), "{text}");
    // In the kernel, where nothing ends it: that is said, and nobody waits for it.
    let stop = world.ctl(&["stop", "bad1"]);
    assert!(stop.code != 0 && stop.err.contains("cannot stop bad1"), "{stop:?}\n{}", world.said());
    let why = world.ok(&["why", "bad1"]);
    assert!(why.contains("hangs in the kernel") && why.contains("dead/root"), "{why}");
    the_others_live(&world);
    // A worker that follows this one looks at nothing of it.
    super::died::kill_the_worker(&world);
    the_others_live(&world);
    // Neither does the end of sampand wait for it.
    assert_eq!(world.interrupt(), Some(1));
    let said = world.said();
    assert!(said.contains("not all is stopped") && said.contains("bad2"), "{said}");
    // Where the mount is gone, what is left of them is cleaned up by the next.
    drop(dead);
    world.configure("");
    world.start();
}

/// As long as one look may take, and the words for one that takes longer.
fn says_it_hangs(text: &str) -> bool {
    text.contains("dead/root") && text.contains("of services.bad.") && text.contains("took longer than 5 s")
}

/// A config whose service `bad` names a dead mount.
fn and_bad(what: &str) -> String {
    format!(
        "[services.bad]\n{LIVE}autostart = false\n{what}\n[services.good]\n{LIVE}[services.other]\n{LIVE}"
    )
}

#[test]
fn a_config_that_names_a_dead_mount_is_refused_and_holds_nobody_up() {
    let cases =
        [(false, "rootfs = \"ROOT\""), (true, "volumes = [\"ROOT:/x\"]"), (true, "env_file = \"ROOT\"")];
    for (takes, bad) in cases {
        let mut world = world!("[services.good]\n{LIVE}[services.other]\n{LIVE}");
        let Some(dead) = start_and_die(&mut world, takes, &[]) else { return };
        let root = world.dir().join("dead/root").display().to_string();
        world.configure(&and_bad(&bad.replace("ROOT", &root)));
        std::thread::scope(|scope| {
            let apply = scope.spawn(|| world.ctl(&["apply"]));
            the_others_live(&world);
            let apply = apply.join().unwrap();
            assert!(apply.code != 0 && says_it_hangs(&apply.err), "{bad}: {apply:?}");
        });
        assert_eq!(world.interrupt(), Some(0));
        drop(dead);
    }
}

#[test]
fn neither_a_start_nor_a_reload_hangs_on_a_dead_mount() {
    let mut world = world!("on_exit = \"keep\"\n---\n[services.good]\n{LIVE}[services.other]\n{LIVE}");
    let Some(dead) = start_and_die(&mut world, true, &[]) else { return };
    world.until_state("good", "running");
    let good = world.pid("good");
    let root = world.dir().join("dead/root");
    let bad = and_bad(&format!("rootfs = \"{}\"", root.display()));
    world.configure(&format!("on_exit = \"keep\"\n---\n{bad}"));
    world.signal(libc::SIGHUP);
    world.until("it is said", |world| says_it_hangs(&world.said()));
    // Services live: they go on by the config that was applied last.
    world.signal(libc::SIGTERM);
    assert_eq!(world.ended(), Some(0));
    world.start();
    assert_eq!(world.pid("good"), good);
    assert_eq!(world.said().matches("took longer than 5 s").count(), 2, "{}", world.said());
    assert_eq!(world.interrupt(), Some(0));
    // None lives: there is nothing to go on with.
    world.spawn();
    assert_eq!(world.ended(), Some(2), "{}", world.said());
    assert_eq!(world.said().matches("took longer than 5 s").count(), 3, "{}", world.said());
    drop(dead);
}

#[test]
fn a_launch_meets_its_start_timeout_in_a_look_at_its_root() {
    let mut world = world!("");
    world.configure(&format!(
        "[services.a]\n{LIVE}autostart = false\nrootfs = \"{}/dead/root\"\nstart_timeout = \"1s\"\nrestart = {{ max_attempts = 1, delay = \"10ms\" }}\n",
        world.dir().display()
    ));
    let Some(_dead) = start_and_die(&mut world, false, &["a"]) else { return };
    world.until_state("a", "failed");
    let why = world.ok(&["why", "a"]);
    assert!(why.contains("ended after 1 s in a look at"), "{why}");
    assert!(!world.said().contains("hangs in the kernel"), "it could be killed: {}", world.said());
}

#[test]
fn a_container_that_hangs_in_the_kernel_holds_nobody_up() {
    let mut world = world!("");
    // It is the container's own process that looks: for its working directory.
    let hang = format!(
        "{LIVE}autostart = false\nvolumes = [\"{}/dead:/data\"]\nworking_dir = \"/data/x\"\nstart_timeout = \"2s\"\nstop_grace_period = \"1s\"",
        world.dir().display()
    );
    world.configure(&two_slots(&hang, ""));
    let Some(dead) = start_and_die(&mut world, true, &["bad1", "bad2"]) else { return };
    the_others_live(&world);
    world.until("its time is over", |world| world.ok(&["why", "bad1"]).contains("ended after 2 s"));
    the_others_live(&world);
    assert_eq!(world.interrupt(), Some(1));
    drop(dead);
    world.configure("");
    world.start();
}

#[test]
fn a_hook_that_hangs_holds_nobody_up_and_meets_the_start_timeout() {
    let hook = |kind: &str| {
        format!(
            "hooks.{kind} = [{{ path = \"/bin/sleep\", args = [\"sleep\", \"98765.4\"], timeout = 3600 }}]"
        )
    };
    for kind in ["prestart", "createRuntime", "createContainer", "poststart"] {
        let hang = format!("{LIVE}start_timeout = \"7s\"\nrestart = \"no\"\n{}", hook(kind));
        let mut world = world!("{}", two_slots(&hang, ""));
        world.start();
        the_others_live(&world);
        let text = world.inspect("bad1").status.text;
        assert!(
            kind == "createContainer" || text.contains(&format!("{kind} hook /bin/sleep")),
            "{kind}: {text}"
        );
        world.until_state("bad1", "failed");
        let text = world.inspect("bad1").status.text;
        assert_eq!(text, "failed start timed out", "{kind}: {}", world.ok(&["why", "bad1"]));
        world.until_state("bad2", "failed");
        let left = Command::new("pgrep").args(["-f", "sleep 98765.4"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{kind}: hooks that run on");
    }
}

#[test]
fn a_plugin_that_never_answers_holds_nobody_up() {
    if !need::need("cc", Command::new("cc").arg("--version").output().is_ok()) {
        return;
    }
    let dir = Folder::new();
    for event in ["CREATE", "ATTACH", "START"] {
        let call: &'static str = match event {
            "CREATE" => {
                "if (r->event == SP_EV_CREATE && (is(r, \"bad1\") || is(r, \"bad2\"))) return SP_PENDING; return SP_OK;"
            }
            "ATTACH" => {
                "if (r->event == SP_EV_ATTACH && (is(r, \"bad1\") || is(r, \"bad2\"))) return SP_PENDING; return SP_OK;"
            }
            _ => {
                "if (r->event == SP_EV_START && (is(r, \"bad1\") || is(r, \"bad2\"))) return SP_PENDING; return SP_OK;"
            }
        };
        let library = C::new("mute", call).build(&dir);
        let plugin = format!("[plugins.mute]\npath = \"{}\"\ntimeout = \"1m\"\n", library.display());
        let hang = format!("{LIVE}start_timeout = \"8s\"\nrestart = \"no\"");
        let mut world = world!("{}", two_slots(&hang, &plugin));
        world.start();
        the_others_live(&world);
        world.until_state("bad1", "failed");
        let text = world.inspect("bad1").status.text;
        assert_eq!(text, "failed start timed out", "{event}: {}", world.ok(&["why", "bad1"]));
        // It works for the others, and its silence about a launch that is over is not held against it.
        the_others_live(&world);
        assert!(world.ok(&["plugin", "list"]).contains("active"));
    }
}

#[test]
fn what_is_no_file_is_said_and_not_waited_for() {
    let mut world = world!("");
    let fifo = world.dir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let bundle = world.dir().join("pipes");
    std::fs::create_dir(&bundle).unwrap();
    nix::unistd::mkfifo(&bundle.join("config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    world.configure(&format!(
        "[services.root]\n{LIVE}rootfs = \"{fifo}\"\n\
         [services.bundle]\nbundle = \"{}\"\n[services.good]\n{LIVE}",
        bundle.display(),
        fifo = fifo.display()
    ));
    world.start();
    world.until_state("good", "running");
    for name in ["root", "bundle"] {
        world.until_state(name, "failed");
    }
}

#[test]
fn start_says_what_it_waits_for() {
    let mut world = world!(
        "[services.a]\n{LIVE}autostart = false\nstop_grace_period = \"100ms\"\n\
         hooks.createRuntime = [{{ path = \"/bin/sleep\", args = [\"sleep\", \"1000\"], timeout = 3600 }}]\n"
    );
    world.start();
    let said = world.dir().join("said");
    let mut start = Command::new(world.bin().join("sampanctl"))
        .arg("--socket")
        .arg(world.socket())
        .args(["start", "a"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    world.until("it says so", |_| {
        std::fs::read_to_string(&said).unwrap().contains("createRuntime hook /bin/sleep")
    });
    world.ok(&["stop", "a"]);
    start.wait().unwrap();
}

#[test]
fn launching_processes_are_there_while_something_starts_and_no_longer() {
    let mut world = world!("[services.a]\n{LIVE}[services.b]\n{LIVE}");
    world.start();
    let launching = |world: &World| {
        let keel = world.keel();
        let children = std::fs::read_to_string(format!("/proc/{keel}/task/{keel}/children")).unwrap();
        let is_one = |pid: &&str| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(b"launch")
        };
        children.split_whitespace().filter(is_one).count()
    };
    world.until_state("a", "running");
    world.until_state("b", "running");
    assert!(launching(&world) >= 1, "the one that launched them waits for more");
    world.until("none is left when nothing starts", |world| launching(world) == 0);
    for _ in 0..20 {
        world.ok(&["restart", "a"]);
    }
    assert!(launching(&world) <= 2, "one after the other, they are done by the same");
}

/// Neither a check nor a start waits for what never answers, also where whoever looked cannot be killed.
#[test]
fn what_looks_at_a_dead_mount_says_so_and_ends() {
    let mut world = world!("");
    let at = world.dir().join("dead");
    let Some(dead) = Dead::mount(&at, true) else { return };
    let service = format!("[services.a]\n{LIVE}");
    let cases = [
        (format!("{service}rootfs = \"{}/root\"\n", at.display()), "dead/root of services.a.rootfs"),
        (format!("[services.a]\nbundle = \"{}/b\"\n", at.display()), "dead/b of services.a.bundle"),
        (format!("{service}[plugins.x]\npath = \"{}/x.so\"\n", at.display()), "dead/x.so of plugins.x.path"),
    ];
    let seen = |text: &str, look: &str| text.contains(look) && text.contains("took longer than 5 s");
    for (text, look) in &cases {
        world.configure(text);
        for json in [None, Some("--json")] {
            let begin = Instant::now();
            let mut sampand = Command::new(program("sampand"));
            let ran = run(sampand.arg("--check").args(json).arg("--config").arg(world.config()));
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(seen(&ran.out, look), "{look}: {ran:?}");
            assert!(json.is_none() || serde_json::from_str::<serde_json::Value>(&ran.out).is_ok(), "{ran:?}");
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        }
    }
    let text = std::fs::read_to_string(world.config()).unwrap();
    std::fs::write(world.config(), text.replace("/plugins\"", "/dead/plugins\"")).unwrap();
    world.spawn();
    assert_eq!(world.ended(), Some(2), "{}", world.said());
    assert!(seen(&world.said(), "dead/plugins of supervisor.plugin_dir"), "{}", world.said());
    drop(dead);
}
