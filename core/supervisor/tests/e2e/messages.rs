//! What sampand tells people: once, where it belongs, with the line of config.toml.
use super::died::kill_the_worker;
use super::world::{program, run};
use super::{LIVE, World};
use std::process::Command;

/// The lines in which sampand says this.
fn lines<'s>(said: &'s str, what: &str) -> Vec<&'s str> {
    said.lines().filter(|line| line.contains(what)).collect()
}

/// The line of config.toml that holds `text`.
fn line_of(world: &World, text: &str) -> usize {
    let config = std::fs::read_to_string(world.config()).unwrap();
    config.lines().position(|line| line.contains(text)).unwrap() + 1
}

#[test]
fn what_does_not_go_away_by_itself_is_failed_told_once_and_has_its_line() {
    let mut world = world!(
        "[services.who]\n{LIVE}user = \"nobody-knows-me\"\n[services.where]\n{LIVE}working_dir = \"/bin/sleep\"\n\
         [services.loops]\ncommand = [\"/no/such/program\"]\n[services.over]\n{LIVE}volumes = [\"/proc:/bin/sleep/x\"]\n\
         [services.lacks]\n{LIVE}volumes = [\"/proc:/nowhere\"]\n"
    );
    world.start();
    let cases = [
        ("who", "user", "user = \"nobody", "no user nobody-knows-me"),
        ("where", "working_dir", "working_dir = ", "cannot change to directory"),
        ("over", "volumes", "volumes = ", "cannot rbind"),
        ("lacks", "volumes", "volumes = [\"/proc:/nowhere", "it has no /nowhere, and is read-only"),
    ];
    for (name, key, written, why) in cases {
        world.until_state(name, "failed");
        // A thread of its own writes it.
        world.until("it is told", |world| world.said().contains(&format!("services.{name}.{key}")));
        let said = world.said();
        assert_eq!(lines(&said, why).len(), 1, "{name}: {said}");
        let place = format!("config.toml:{}: services.{name}.{key}", line_of(&world, written));
        assert_eq!(lines(&said, &place).len(), 1, "{place}: {said}");
        assert!(said.contains(&format!("ERROR {name}: failed")), "{said}");
        assert_eq!(world.inspect(name).status.generation, 1, "tried once");
    }
    assert!(!world.dir().join("rootfs/nowhere").exists(), "nothing is made in the root");
    // What may come by itself is tried again, and says its line too.
    world.until("it is tried again", |world| world.inspect("loops").status.generation > 2);
    let place = format!("config.toml:{}: services.loops.command", line_of(&world, "/no/such/program"));
    world.until("its line is told", |world| world.said().contains(&place));
    assert!(!world.said().contains("\\n"), "{}", world.said());
}

#[test]
fn what_the_host_does_not_give_is_told_once() {
    let mut world = world!("[services.a]\n{LIVE}[services.b]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.until_state("b", "running");
    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    world.ok(&["restart", "a"]);
    let said = world.said();
    let told = lines(&said, "open files: at most");
    let limited = sampan_bundle::host_warnings().iter().any(|warning| warning.contains("open files"));
    assert_eq!(told.len(), usize::from(limited), "{said}");
}

#[test]
fn several_services_are_stopped_at_once() {
    let slow =
        "command = [\"/bin/sh\", \"-c\", \"trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.05; done\"]\n";
    let mut world = world!("[services.a]\n{slow}[services.b]\n{slow}[services.c]\n{slow}");
    world.start();
    let names = ["a", "b", "c"];
    names.iter().for_each(|name| world.until_state(name, "running"));
    let out = world.ok(&["stop", "c", "a", "b"]);
    let order: Vec<usize> = ["c ", "a ", "b "].iter().map(|name| out.find(name).expect(&out)).collect();
    assert!(order.is_sorted(), "said as they were named: {out}");
    let last_asked = names.iter().map(|name| world.place(name, "stopping")).max();
    let first_gone = names.iter().map(|name| world.place(name, "stopped")).min();
    assert!(last_asked < first_gone, "{:#?}", world.events());
}

/// What a start would only find out when it comes to it.
#[test]
fn check_finds_what_no_launch_can_work_with() {
    let world = world!("");
    let empty = world.dir().join("empty.json");
    std::fs::write(&empty, "").unwrap();
    let cases = [
        ("user = \"nobody-knows-me\"\n", "services.a.user: cannot find the user", true),
        ("user = \"1000\"\n", "", true),
        (
            "security.seccomp_profile = \"empty.json\"\n",
            "services.a.security.seccomp_profile: cannot read",
            true,
        ),
        (
            "security.seccomp_profile = \"none.json\"\n",
            "services.a.security.seccomp_profile: cannot read",
            true,
        ),
        ("volumes = [\"/proc:/nowhere\"]\n", "services.a.volumes: cannot use the rootfs", true),
        ("bundle = \"none\"\n", "services.a.bundle: cannot read", false),
        ("[plugins.nosuch]\n", "plugins.nosuch: no plugin at", true),
        ("[plugins.nosuch]\nenabled = false\n", "", true),
        ("volumes = [{ source = \"./made\", target = \"/mnt\", create = true }]\n", "", true),
        ("environment = { A = \"a\\u0000b\" }\n", "services.a.environment.A: a NUL byte", true),
    ];
    for (text, expected, live) in cases {
        world.configure(&format!("[services.a]\n{}{text}", if live { LIVE } else { "" }));
        let ran = run(Command::new(program("sampand")).arg("--check").arg("--config").arg(world.config()));
        if expected.is_empty() {
            assert_eq!((ran.code, ran.out.contains("no errors")), (0, true), "{text}: {ran:?}");
        } else {
            assert_eq!(ran.code, 2, "{text}: {ran:?}");
            assert!(ran.out.contains(expected) && ran.out.contains("config.toml:"), "{text}: {ran:?}");
        }
    }
    assert!(!world.dir().join("made").exists(), "a check makes nothing");
}

/// To a file of an installation: by whoever builds, without a config, a run folder or rights.
#[test]
fn the_schema_of_the_config_is_printed() {
    let ran = run(Command::new(program("sampand")).arg("--schema").env_clear());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(ran.out, sampan_config::json_schema::text());
    let both = run(Command::new(program("sampand")).args(["--schema", "--check"]));
    assert_eq!(both.code, 2, "{both:?}");
}

/// As the launch would say it, but before it.
#[test]
fn a_check_reads_a_bundle_as_its_launch_would() {
    let world = world!("[services.a]\nbundle = \"b\"\n");
    let folder = world.dir().join("b");
    std::fs::create_dir_all(folder.join("rootfs")).unwrap();
    let file = folder.join("config.json");
    let check = |spec: &str| {
        std::fs::write(&file, spec).unwrap();
        run(Command::new(program("sampand")).arg("--check").arg("--config").arg(world.config()))
    };
    let spec = |more: &str| {
        let process = r#""process": { "args": ["/x"], "cwd": "/", "user": { "uid": 0, "gid": 0 } }"#;
        let linux = r#""linux": { "namespaces": [{ "type": "mount" }] }"#;
        format!(r#"{{ "ociVersion": "1.2.0", "root": {{ "path": "rootfs" }}, {process}, {linux}{more} }}"#)
    };
    let good = check(&spec(""));
    assert_eq!((good.code, good.out.contains("no errors")), (0, true), "{good:?}");
    for (text, expected) in [
        (spec("").replace(r#"["/x"]"#, "5"), "process.args: "),
        (spec("").replace(r#""cwd": "/""#, r#""cwd": "x""#), "process.cwd: "),
        (spec("").replace("\"mount\"", "\"nosuch\""), "linux.namespaces[0].type: "),
        (
            spec(
                r#", "mounts": [{ "destination": "/a", "type": "tmpfs" }, { "destination": "/b", "type": 5 }]"#,
            ),
            "mounts[1].type: ",
        ),
        (spec("").replace("1.2.0", "7.0.0"), "ociVersion: "),
        ("{".to_owned(), ""),
        (spec(&" ".repeat(5 << 20)), ""),
    ] {
        let ran = check(&text);
        let place = format!("{}: {expected}", file.display());
        let at = text.get(..200).unwrap_or(&text);
        assert_eq!(ran.code, 2, "{at}: {ran:?}");
        assert!(ran.out.contains("services.a.bundle: ") && ran.out.contains(&place), "{at}: {ran:?}");
        assert!(ran.out.contains("config.toml:"), "with its line: {ran:?}");
    }
}

#[test]
fn top_is_not_stop() {
    let said = |verb: &str| run(Command::new(program("sampanctl")).arg(verb)).err;
    assert!(!said("top").contains("'stop'"), "{}", said("top"));
    assert!(said("sto").contains("'stop'") && said("statu").contains("'status'"), "{}", said("sto"));
}

#[test]
fn the_longest_turn_is_shown_and_turns_are_counted() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let turns = || -> sampan_api::Loop { world.patiently(|| world.get("/v1/loop")) };
    let before = turns();
    assert!(before.longest.took_us > 0 && before.longest.took_us >= before.longest_of_last_minute.took_us);
    assert!(!before.longest.first.is_empty() && before.longest_of_last_minute.took_us > 0, "{before:?}");
    world.ok(&["restart", "a"]);
    let after = turns();
    assert!(after.turns > before.turns + 3, "{before:?} {after:?}");
    assert!(after.longest.took_us >= before.longest.took_us);
    let shown = world.ok(&["status"]);
    assert!(shown.starts_with("sampand: ") && shown.contains(" turns of its loop, the longest "), "{shown}");
    assert!(!world.ok(&["status", "a"]).contains("turns of its loop"));
}
