//! `lifecycle` and `on`: commands around a service's life.
use super::died::kill_the_worker;
use super::{LIVE, World};
use std::time::{Duration, Instant};

const KEYS: [&str; 8] = [
    "lifecycle.pre_start",
    "lifecycle.post_start",
    "lifecycle.pre_stop",
    "lifecycle.post_stop",
    "on.exit",
    "on.failure",
    "on.oom",
    "on.health",
];

/// `key = [{ a shell's script, more }]`.
fn step(key: &str, script: &str, more: &str) -> String {
    format!("{key} = [{{ command = [\"/bin/sh\", \"-c\", '''{script}''']{more} }}]\n")
}

const ON_HOST: &str = ", in = \"host\"";

fn file(world: &World) -> String {
    world.dir().join("steps").display().to_string()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn each_step_has_its_place_in_a_life() {
    let mut world = world!("");
    let file = file(&world);
    let facts = "$SAMPAN_SERVICE/$SAMPAN_EVENT/$SAMPAN_EXIT_CODE$SAMPAN_SIGNAL/$SAMPAN_HEALTH";
    let lists = KEYS.map(|key| {
        let place =
            if key.starts_with("lifecycle.p") && !key.contains("pre_start") && !key.contains("post_stop") {
                ON_HOST
            } else {
                ""
            };
        step(key, &format!("echo {facts} >> {file}"), place)
    });
    world.configure(&format!("[services.a]\n{LIVE}restart = \"no\"\n{}", lists.concat()));
    world.start();
    world.until_state("a", "running");
    world.until("post_start has run", |_| read(&file).contains("post_start"));
    world.ok(&["stop", "a"]);
    world.until("on.exit has run", |_| read(&file).contains("/exit/"));
    world.until_state("a", "stopped");
    let ran = read(&file);
    let place = |event: &str| ran.lines().position(|line| line.contains(event)).unwrap_or(usize::MAX);
    let order = ["a/pre_start//", "a/post_start//", "a/pre_stop//", "a/post_stop//"].map(place);
    assert!(order.is_sorted() && order[3] < usize::MAX, "{ran}");
    assert!(ran.lines().any(|line| line == "a/exit/SIGKILL/"), "{ran}");
    assert_eq!(ran.lines().count(), 5, "no failure, no oom, no health: {ran}");
}

#[test]
fn a_pre_start_that_fails_is_a_failed_start_and_says_why() {
    let mut world = world!("");
    let file = file(&world);
    let fails = step("lifecycle.pre_start", "echo no disk today >&2; exit 5", "");
    let after = step("lifecycle.post_stop", &format!("echo post_stop >> {file}"), "");
    let failed = step("on.failure", &format!("echo $SAMPAN_EVENT >> {file}"), "");
    world.configure(&format!(
        "[services.a]\n{LIVE}restart = {{ max_attempts = 2, delay = \"10ms\" }}\n{fails}{after}{failed}\
         [services.missing]\n{LIVE}restart = \"no\"\nlifecycle.pre_start = [{{ command = [\"/no/such\"] }}]\n\
         [services.late]\n{LIVE}restart = \"no\"\n{}",
        step("lifecycle.pre_start", "setsid sleep 98765 & sleep 98765", ", timeout = \"300ms\"")
    ));
    world.start();
    for name in ["a", "missing", "late"] {
        world.until_state(name, "failed");
    }
    for (name, text) in [
        ("a", "/bin/sh: exit 5: no disk today"),
        ("missing", "/no/such: No such file"),
        ("late", "not over in 300ms"),
    ] {
        let why = world.ok(&["why", name]);
        assert!(why.contains("pre_start") && why.contains(text), "{why}");
    }
    world.until("on.failure has run", |_| read(&file).contains("failure"));
    let ran = read(&file);
    assert_eq!(ran.matches("post_stop").count(), 3, "after each life: {ran}");
    assert_eq!(ran.matches("failure").count(), 1, "{ran}");
    world.until("what ran too long is gone", |_| !is_there("98765"));
}

/// A process with this word in its command line.
fn is_there(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()))
}

#[test]
fn steps_in_the_container_run_there_as_its_user_or_another() {
    let mut world = world!("");
    let out = world.dir().join("shared");
    std::fs::create_dir(&out).unwrap();
    std::fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let script = "echo $(id -u):$(id -g) $K >> /out/ran";
    world.configure(&format!(
        "[services.a]\n{LIVE}user = \"1234:1234\"\nenvironment.K = \"v\"\nvolumes = [\"{}:/out\"]\n{}{}",
        out.display(),
        step("lifecycle.post_start", script, ""),
        step("lifecycle.pre_stop", script, ", user = \"4321:1\""),
    ));
    world.start();
    world.until_state("a", "running");
    let file = out.join("ran").display().to_string();
    world.until("post_start has run", |_| read(&file) == "1234:1234 v\n");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    world.ok(&["stop", "a"]);
    assert_eq!(read(&file), "1234:1234 v\n4321:1 v\n", "{}", world.said());
}

#[test]
fn a_step_holds_up_no_stop_and_no_end() {
    let long = "sleep 87654 & setsid sleep 87654 & wait";
    let mut world = world!("");
    let lists = [
        step("lifecycle.post_start", long, ON_HOST),
        step("lifecycle.pre_stop", long, ON_HOST),
        step("on.exit", long, ""),
    ];
    world.configure(&format!(
        "[services.a]\n{LIVE}stop_grace_period = \"300ms\"\n{}[services.b]\n{LIVE}",
        lists.concat()
    ));
    world.start();
    world.until_state("a", "running");
    world.until("post_start runs", |_| is_there("87654"));
    let begun = Instant::now();
    world.ok(&["stop", "a"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(world.said().contains("lifecycle.pre_stop: not over in stop_grace_period"), "{}", world.said());
    // on.exit goes on, and what runs is not held up by it.
    world.until("on.exit runs", |_| is_there("87654"));
    assert_eq!(world.inspect("b").status.state, "running");
    assert_eq!(world.interrupt(), Some(0));
    assert!(!is_there("87654"), "sampand has ended");
    assert!(
        world.said().contains("sampand ends: lists of `on` not over in 5s, killed: 1\n"),
        "{}",
        world.said()
    );
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn what_follows_from_the_last_that_ends_is_done_before_sampand_ends() {
    for how in ["down", "SIGINT"] {
        let mut world = world!("");
        let file = file(&world);
        let services: String = (0..12)
            .map(|n| {
                let list = step("on.exit", &format!("sleep 0.2; echo $SAMPAN_SERVICE >> {file}"), "");
                format!("[services.s{n}]\n{LIVE}{list}")
            })
            .collect();
        world.configure(&services);
        world.start();
        (0..12).for_each(|n| world.until_state(&format!("s{n}"), "running"));
        match how {
            "down" => drop(world.ok(&["down"])),
            _ => world.signal(libc::SIGINT),
        }
        assert_eq!(world.ended(), Some(0));
        assert_eq!(read(&file).lines().count(), 12, "{how}: {}", world.said());
        assert!(!world.said().contains("not over in"), "{}", world.said());
    }
}

#[test]
fn what_a_dead_worker_left_of_a_step_is_ended_and_the_gate_is_tried_again() {
    let mut world = world!("");
    let file = file(&world);
    world.configure(&format!(
        "[services.a]\n{LIVE}{}",
        step(
            "lifecycle.pre_start",
            &format!("echo x >> {file}; test $(wc -l < {file}) = 2 || sleep 76543"),
            ""
        )
    ));
    world.start();
    world.until("it runs", |_| is_there("76543"));
    kill_the_worker(&world);
    world.until_state("a", "running");
    assert_eq!(read(&file), "x\nx\n");
    world.until("the one before is gone", |_| !is_there("76543"));
}

#[test]
fn more_steps_than_run_at_once_wait_for_their_turn() {
    let mut world = world!("");
    let file = file(&world);
    let list = step("on.exit", &format!("echo $SAMPAN_SERVICE $SAMPAN_EXIT_CODE >> {file}; sleep 0.1"), "");
    let services: String = (0..20)
        .map(|n| {
            format!(
                "[services.s{n}]\ncommand = [\"/bin/sh\", \"-c\", \"exit {n}\"]\nrestart = \"no\"\n{list}"
            )
        })
        .collect();
    world.configure(&services);
    world.start();
    world.until("all have run", |_| read(&file).lines().count() == 20);
    let mut ran: Vec<String> = read(&file).lines().map(str::to_owned).collect();
    ran.sort();
    let mut all: Vec<String> = (0..20).map(|n| format!("s{n} {n}")).collect();
    all.sort();
    assert_eq!(ran, all);
}

#[test]
fn health_and_memory_are_events_too() {
    let mut world = world!("");
    let file = file(&world);
    let script = format!("echo $SAMPAN_SERVICE $SAMPAN_EVENT $SAMPAN_HEALTH$SAMPAN_SIGNAL >> {file}");
    world.configure(&format!(
        "[services.a]\n{LIVE}volumes = [\"{}/mnt:/mnt\"]\nhealthcheck = {{ test = [\"CMD\", \"/bin/test\", \"-e\", \"/mnt/well\"], \
         interval = \"50ms\", start_interval = \"50ms\", start_period = \"0s\", retries = 1, on_failure = \"none\" }}\n{}\
         [services.big]\ncommand = [\"/bin/tail\", \"/dev/zero\"]\nrestart = \"no\"\nresources = {{ memory = \"16M\", memory_swap = 0 }}\n{}",
        world.dir().display(),
        step("on.health", &script, ""),
        step("on.oom", &script, ""),
    ));
    std::fs::create_dir(world.dir().join("mnt")).unwrap();
    world.start();
    world.until("it is told that a is not well", |_| read(&file).contains("a health unhealthy\n"));
    std::fs::write(world.dir().join("mnt/well"), "").unwrap();
    world.until("it is told that a is well", |_| read(&file).contains("a health healthy\n"));
    world.until("big is told of its end", |_| read(&file).contains("big oom SIGKILL\n"));
}
