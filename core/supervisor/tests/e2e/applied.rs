//! config.toml is broken, edited or without its files at the moment when a worker or sampand dies: what holds is what was applied.
use super::died::kill_the_worker;
use super::world::kill;
use super::{LIVE, World};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Says in `said` when it is asked to end, and takes its time.
const POLITE: &str = r#"command = ["/bin/sh", "-c", "trap 'echo asked >> /said/it; sleep 0.3; echo done >> /said/it; exit 0' TERM; while :; do sleep 0.05; done"]
"#;

/// What POLITE has said.
struct Said(std::path::PathBuf);

impl Said {
    fn new(world: &World) -> Said {
        let folder = world.dir().join("said");
        fs::create_dir(&folder).unwrap();
        Said(folder)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.0.join("it")).unwrap_or_default()
    }
}

/// POLITE with its folder; the root has a place for it.
fn polite(world: &World) -> String {
    let _ = fs::create_dir(world.dir().join("rootfs/said"));
    format!("{POLITE}volumes = [\"{}/said:/said\"]\n", world.dir().display())
}

pub(super) fn another_worker(world: &World) {
    let lives = |world: &World| world.get::<sampan_api::Version>("/v1/version").map(|v| v.worker_lives);
    let before = lives(world).unwrap();
    kill_the_worker(world);
    world.until("a worker is back", |world| lives(world).is_ok_and(|now| now > before));
}

/// Keel and worker die at once.
fn crash(world: &mut World) {
    let worker = world.worker();
    world.signal(libc::SIGKILL);
    if let Some(worker) = worker {
        kill(worker, libc::SIGKILL);
    }
    assert_eq!(world.ended(), None);
}

fn spoil(world: &World) {
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("{text}\n[[[ not toml\n")).unwrap();
}

#[test]
fn a_worker_follows_another_whatever_config_toml_says_by_now() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    spoil(&world);
    another_worker(&world);
    assert_eq!(world.pid("a"), a);
    fs::remove_file(world.config()).unwrap();
    another_worker(&world);
    assert_eq!(world.pid("a"), a);
    let ran = world.ctl(&["apply"]);
    assert_ne!(ran.code, 0, "apply reads the file: {ran:?}");
    // An edit that nobody applied is none.
    world.configure(&format!("[services.a]\n{LIVE}environment = {{ NEW = \"1\" }}\n[services.b]\n{LIVE}"));
    another_worker(&world);
    assert_eq!(world.pid("a"), a);
    assert!(!world.ok(&["config", "a"]).contains("NEW"), "{}", world.ok(&["config", "a"]));
    assert_eq!(world.services().len(), 1);
    world.ok(&["apply"]);
    world.until_state("b", "running");
    assert!(
        world.ok(&["config", "a"]).contains("environment.NEW = \"1\"  "),
        "{}",
        world.ok(&["config", "a"])
    );
}

#[test]
fn what_a_config_was_made_of_may_be_gone_when_a_worker_dies() {
    let mut world = world!("").env("SAMPAN_TEST_WORD", "spoken");
    let env = world.dir().join("web.env");
    fs::write(&env, "FROM_FILE=kept\n").unwrap();
    let data = world.dir().join("data");
    fs::create_dir(&data).unwrap();
    let part = world.dir().join("part.toml");
    fs::write(&part, format!("[services.part]\n{LIVE}")).unwrap();
    world.configure(&format!(
        "[services.a]\n{LIVE}env_file = \"{}\"\nenvironment = {{ WORD = \"${{SAMPAN_TEST_WORD}}\" }}\n\
         [services.b]\n{LIVE}volumes = [\"{}:/mnt\"]\n",
        env.display(),
        data.display()
    ));
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("include = [\"part*.toml\"]\n{text}")).unwrap();
    world.start();
    for name in ["a", "b", "part"] {
        world.until_state(name, "running");
    }
    let kept = world.ok(&["config"]);
    let pids = ["a", "b", "part"].map(|name| world.pid(name));
    fs::remove_file(&env).unwrap();
    fs::remove_file(&part).unwrap();
    fs::remove_dir(&data).unwrap();
    another_worker(&world);
    assert_eq!(["a", "b", "part"].map(|name| world.pid(name)), pids);
    assert_eq!(world.ok(&["config"]), kept, "with the same origins");
    world.ok(&["restart", "a"]);
    let environ = fs::read(format!("/proc/{}/environ", world.pid("a"))).unwrap();
    let environ = String::from_utf8_lossy(&environ).replace('\0', "\n");
    assert!(environ.contains("FROM_FILE=kept\n") && environ.contains("WORD=spoken\n"), "{environ}");
    let file = world.dir().join("run/applied.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600, "it may hold passwords");
}

#[test]
fn what_left_the_config_keeps_its_grace_over_a_worker_s_death() {
    let mut world = world!("[services.b]\n{LIVE}");
    let said = Said::new(&world);
    let (a, b) = (format!("[services.a]\n{}", polite(&world)), format!("[services.b]\n{LIVE}"));
    world.configure(&format!("{a}{b}"));
    world.start();
    world.until_state("a", "running");
    world.configure(&b);
    another_worker(&world);
    assert_eq!(world.inspect("a").status.state, "running", "nobody applied it");
    world.ok(&["apply"]);
    world.until("a is asked to end", |_| said.text().starts_with("asked"));
    another_worker(&world);
    world.until("a has ended as it likes", |_| said.text().contains("done"));
    world.until("a is no service any more", |world| world.services().len() == 1);
    let events = world.events();
    let last: Vec<_> = events.iter().filter(|event| event.service == "a").map(|event| &*event.to).collect();
    assert!(last.ends_with(&["stopping", "stopped"]) || last.ends_with(&["stopped"]), "{last:?}");
}

/// It ends by the config that it began with.
#[test]
fn a_life_that_is_being_replaced_ends_by_its_own_config_over_a_worker_s_death() {
    let mut world = world!("");
    let said = Said::new(&world);
    let service = polite(&world);
    let web = |more: &str| format!("[services.web]\n{service}{more}");
    world.configure(&web("environment = { V = \"1\" }\n"));
    world.start();
    world.until_state("web", "running");
    world.configure(&web(
        "environment = { V = \"2\" }\nstop_grace_period = \"0s\"\nstop_signal = \"SIGKILL\"\n",
    ));
    world.ok(&["apply"]);
    world.until("it is asked to end", |_| said.text().starts_with("asked"));
    another_worker(&world);
    world.until("it has ended as it likes", |_| said.text().contains("done"));
    world.until("it lives anew", |world| {
        let web = world.inspect("web").status;
        web.generation == 2 && web.state == "running"
    });
    let environ = fs::read(format!("/proc/{}/environ", world.pid("web"))).unwrap();
    assert!(String::from_utf8_lossy(&environ).contains("V=2\0"));
}

#[test]
fn a_start_beside_services_that_live_takes_the_applied_config_where_the_file_is_broken() {
    let mut world = world!("[services.a]\n{LIVE}[services.b]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.until_state("b", "running");
    let pids = ["a", "b"].map(|name| world.pid(name));
    crash(&mut world);
    spoil(&world);
    world.start();
    assert_eq!(["a", "b"].map(|name| world.pid(name)), pids);
    assert!(world.said().contains("not TOML"), "{}", world.said());
    assert!(world.said().contains("the config that was applied last holds"), "{}", world.said());
    another_worker(&world);
    assert_eq!(["a", "b"].map(|name| world.pid(name)), pids);
    world.configure(&format!("[services.a]\n{LIVE}"));
    world.ok(&["apply"]);
    world.until("b has left", |world| world.services().len() == 1);
    assert_eq!(world.pid("a"), pids[0]);
}

#[test]
fn a_start_without_services_that_live_needs_a_config_that_can_be_read() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    crash(&mut world);
    kill(a, libc::SIGKILL);
    world.until("a is gone", |world| world.processes("a").is_empty());
    let good = fs::read_to_string(world.config()).unwrap();
    spoil(&world);
    world.spawn();
    assert_eq!(world.ended(), Some(2), "{}", world.said());
    fs::write(world.config(), good).unwrap();
    world.start();
    world.until_state("a", "running");
}

#[test]
fn a_start_beside_services_that_live_applies_what_differs() {
    let mut world = world!("");
    let said = Said::new(&world);
    let same = format!("[services.same]\n{LIVE}");
    let edited = format!("[services.edited]\n{LIVE}");
    world.configure(&format!("{same}{edited}[services.gone]\n{}", polite(&world)));
    world.start();
    for name in ["same", "edited", "gone"] {
        world.until_state(name, "running");
    }
    let (pid, old) = (world.pid("same"), world.pid("edited"));
    crash(&mut world);
    world.configure(&format!("{same}{edited}environment = {{ NEW = \"1\" }}\n[services.fresh]\n{LIVE}"));
    world.start();
    world.until("what left has ended as it likes", |_| said.text().contains("done"));
    world.until("it is no service any more", |world| world.services().len() == 3);
    let place = |to: &str| world.place("gone", to);
    assert!(place("stopping") < place("stopped"), "on record: {:#?}", world.events());
    world.until("what was edited lives anew", |world| {
        let status = world.inspect("edited").status;
        status.state == "running" && status.generation == 2
    });
    world.until_state("fresh", "running");
    assert_ne!(world.pid("edited"), old);
    assert_eq!(world.pid("same"), pid);
    another_worker(&world);
    assert_eq!(world.pid("same"), pid);
    assert!(world.ok(&["config", "edited"]).contains("environment.NEW"));
}

#[test]
fn an_applied_config_that_cannot_be_read_is_told_and_the_file_holds() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    let file = world.dir().join("run/applied.json");
    for (text, why) in [("{", "is damaged"), ("{\"version\": 999}", "is of version 999")] {
        fs::write(&file, text).unwrap();
        another_worker(&world);
        assert_eq!(world.pid("a"), a);
        assert!(world.said().contains(why), "{}", world.said());
        crash(&mut world);
        world.start();
        assert_eq!(world.pid("a"), a);
        world.ok(&["apply"]);
    }
    // Mended by the apply.
    spoil(&world);
    another_worker(&world);
    assert_eq!(world.pid("a"), a);
}

#[test]
fn a_config_that_cannot_be_kept_is_not_applied() {
    let mut world = world!("[services.a]\n{LIVE}");
    let small = super::world::Small::new(world.dir().join("run"), "1M");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    let _ = fs::write(small.path().join("fill"), vec![0; 2 << 20]);
    world.configure(&format!("[services.a]\n{LIVE}environment = {{ NEW = \"1\" }}\n"));
    let ran = world.ctl(&["apply"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("applied.json") && ran.err.contains("nothing changed"), "{ran:?}");
    assert_eq!(world.pid("a"), a);
    fs::remove_file(small.path().join("fill")).unwrap();
    world.ok(&["apply"]);
    world.until("it lives anew", |world| world.inspect("a").status.generation == 2);
    assert_eq!(world.interrupt(), Some(0));
}

/// Its logs and groups cannot move, whoever dies after the start that found it.
#[test]
fn what_stays_for_a_service_that_lives_stays_for_every_worker() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    crash(&mut world);
    move_away(&world);
    world.start();
    for key in ["state_dir", "cgroup_parent"] {
        let told = format!("supervisor.{key}: services are left that an earlier sampand began");
        assert!(world.said().contains(&told), "{}", world.said());
    }
    another_worker(&world);
    another_worker(&world);
    assert_eq!(world.pid("a"), a);
    is_where_it_was(&world);
    // What cannot be read is written anew, with what holds.
    fs::write(world.dir().join("run/applied.json"), "{").unwrap();
    world.ok(&["apply"]);
    another_worker(&world);
    is_where_it_was(&world);
    assert_eq!(world.interrupt(), Some(0));
    world.start();
    world.until_state("a", "running");
    assert!(world.dir().join("other/logs/a").exists(), "nothing lived any more");
    assert!(world.processes("a").is_empty(), "its groups are elsewhere");
}

/// state_dir and cgroup_parent of config.toml are others.
fn move_away(world: &World) {
    let text = fs::read_to_string(world.config()).unwrap();
    let text = text.replace("/state\"", "/other\"");
    fs::write(world.config(), text.replace(world.group(), &format!("{}-other", world.group()))).unwrap();
}

fn is_where_it_was(world: &World) {
    world.ok(&["restart", "a"]);
    world.until_state("a", "running");
    assert_eq!(world.processes("a"), [world.pid("a")], "in the group of its first life");
    assert!(!world.dir().join("other/logs/a").exists(), "{}", world.said());
    let config = world.ok(&["config"]);
    assert!(config.contains("/state\"") && !config.contains("/other\""), "what holds is shown: {config}");
}

/// Both dead and between two lives: what ended is on record, and nothing of it stays behind.
#[test]
fn what_is_left_of_the_dead_is_taken_down_where_it_is() {
    let later = "restart = { delay = \"1h\", max_delay = \"1h\" }\n";
    let mut world = world!("[services.a]\n{LIVE}{later}[services.gone]\n{LIVE}{later}");
    world.start();
    for name in ["a", "gone"] {
        world.until_state(name, "running");
    }
    kill(world.pid("gone"), libc::SIGKILL);
    world.until_state("gone", "backoff");
    let a = world.pid("a");
    crash(&mut world);
    kill(a, libc::SIGKILL);
    world.until("it is gone", |world| world.processes("a").is_empty());
    world.configure(&format!("[services.a]\n{LIVE}environment = {{ NEW = \"1\" }}\n"));
    move_away(&world);
    world.start();
    world.until_state("a", "running");
    world.until("the other one has left", |world| world.services().len() == 1);
    is_where_it_was(&world);
    assert!(world.events().iter().any(|event| event.service == "a" && event.cause.contains("137 SIGKILL")));
}

#[test]
fn a_start_that_finds_nothing_has_nothing_to_apply() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.ok(&["stop", "a"]);
    crash(&mut world);
    world.configure(&format!("[services.b]\n{LIVE}"));
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), text.replace("/state\"", "/other\"")).unwrap();
    world.start();
    world.until_state("b", "running");
    assert_eq!(world.services().len(), 1);
    assert!(!world.said().contains("config applied"), "{}", world.said());
    assert!(world.dir().join("other/logs/b").exists(), "nothing had to stay: {}", world.said());
}

#[test]
fn a_start_that_cannot_keep_its_config_goes_on_by_the_one_before() {
    let mut world = world!("[services.a]\n{LIVE}");
    let small = super::world::Small::new(world.dir().join("run"), "1M");
    world.start();
    world.until_state("a", "running");
    let (a, config) = (world.pid("a"), world.ok(&["config", "a"]));
    assert!(config.contains("config.toml:"), "with its origins: {config}");
    crash(&mut world);
    let _ = fs::write(small.path().join("fill"), vec![0; 2 << 20]);
    world
        .configure(&format!("[services.b]\n{LIVE}\n\n[services.a]\n{LIVE}environment = {{ NEW = \"1\" }}\n"));
    world.start();
    assert!(world.said().contains("the config that was applied last holds"), "{}", world.said());
    assert_eq!((world.pid("a"), world.ok(&["config", "a"])), (a, config));
    fs::remove_file(small.path().join("fill")).unwrap();
    world.ok(&["apply"]);
    world.until_state("b", "running");
    assert_eq!(world.interrupt(), Some(0));
}
