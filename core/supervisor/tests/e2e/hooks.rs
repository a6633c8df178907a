//! OCI hooks of all six kinds, in the spec's order, and what a failing one means.
use super::died::kill_the_worker;
use super::world::LONG;
use super::{LIVE, World};
use std::time::{Duration, Instant};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that writes its kind and the status it reads on stdin into `file`.
fn hook(kind: &str, file: &str) -> String {
    let script =
        format!("read state; echo {kind} $(echo $state | grep -o 'status...[a-z]*' | tr -dc a-z:) >> {file}");
    format!("hooks.{kind} = [{{ path = \"/bin/sh\", args = [\"sh\", \"-c\", '''{script}'''] }}]\n")
}

#[test]
fn all_kinds_run_in_order() {
    let mut world = world!("");
    let out = world.dir().join("shared");
    std::fs::create_dir(&out).unwrap();
    let file = format!("{}/hooks", out.display());
    let mut service = format!("[services.a]\n{LIVE}volumes = [\"{}:/out\"]\n", out.display());
    for kind in ["poststop", "poststart", "createContainer", "createRuntime", "prestart"] {
        service += &hook(kind, &file);
    }
    // It alone sees the container's files.
    service += &hook("startContainer", "/out/hooks");
    world.configure(&service);
    world.start();
    world.until_state("a", "running");
    world.ok(&["stop", "a"]);
    let ran = std::fs::read_to_string(&file).unwrap();
    let kinds: Vec<&str> = ran.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(
        kinds,
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "{ran}"
    );
    // runtime-spec, runtime.md "Lifecycle": the state a hook is given.
    assert!(ran.contains("poststart status:running") && ran.contains("poststop status:stopped"), "{ran}");
}

#[test]
fn a_failing_create_runtime_hook_keeps_the_service_down_and_says_why() {
    let mut world = world!("");
    let file = world.dir().join("hooks");
    world.configure(&format!(
        "[services.a]\n{LIVE}restart = {{ max_attempts = 2, delay = \"10ms\" }}\n{}{}\
         [services.b]\n{LIVE}",
        "hooks.createRuntime = [{ path = \"/bin/sh\", args = [\"sh\", \"-c\", \"echo no disk today >&2; exit 5\"] }]\n",
        hook("poststop", &file.display().to_string())
    ));
    world.start();
    world.until_state("b", "running");
    world.until_state("a", "failed");
    let why = world.ok(&["why", "a"]);
    assert!(why.contains("createRuntime hook") && why.contains("no disk today"), "{why}");
    assert!(world.ok(&["ps"]).contains("failed 2 attempts"), "{}", world.ok(&["ps"]));
    assert_eq!(world.processes("a"), Vec::<i32>::new());
    let ran = std::fs::read_to_string(&file).unwrap();
    assert_eq!(ran.lines().filter(|line| line.starts_with("poststop")).count(), 3, "once a life: {ran}");
}

#[test]
fn a_poststop_hook_that_fails_after_a_failed_launch_is_a_warning() {
    let fails = |kind: &str, code: u8| {
        format!("hooks.{kind} = [{{ path = \"/bin/sh\", args = [\"sh\", \"-c\", \"exit {code}\"] }}]\n")
    };
    let hooks = fails("createRuntime", 5) + &fails("poststop", 6);
    let mut world = world!("[services.a]\n{LIVE}restart = \"no\"\n{hooks}");
    world.start();
    world.until_state("a", "failed");
    let why = world.ok(&["why", "a"]);
    assert!(
        why.contains("createRuntime") && !why.contains("poststop"),
        "the first failure is the cause: {why}"
    );
    let said = world.said();
    assert!(said.lines().any(|line| line.contains("WARN") && line.contains("poststop")), "{said}");
}

#[test]
fn a_hook_that_hangs_meets_its_timeout() {
    let mut world = world!(
        "[services.a]\n{LIVE}restart = \"no\"\n\
         hooks.createRuntime = [{{ path = \"/bin/sleep\", args = [\"sleep\", \"1000\"], timeout = 1 }}]\n"
    );
    world.start();
    world.until_state("a", "failed");
    let why = world.ok(&["why", "a"]);
    assert!(why.contains("createRuntime hook") && why.contains("1 s"), "{why}");
}

/// A world with one service `a` that has this hook for each of these kinds; `{kind}` in the script is its kind. All kinds see
/// the folder `shared` as `$OUT`.
fn with_hooks(kinds: &[&str], script: &str, keys: &str, plugin: bool) -> Option<World> {
    let world = World::new("")?;
    let out = world.dir().join("shared");
    std::fs::create_dir(&out).unwrap();
    let mut toml = String::new();
    if plugin {
        toml += &format!("[plugins.logging]\npath = \"{}\"\n", super::world::library("logging").display());
    }
    toml += &format!("[services.a]\n{LIVE}volumes = [\"{}:/out\"]\n{keys}", out.display());
    for kind in kinds {
        let out = if *kind == "startContainer" { "/out".into() } else { out.display().to_string() };
        let script = format!("OUT={out}; {}", script.replace("{kind}", kind));
        toml += &format!(
            "hooks.{kind} = [{{ path = \"/bin/sh\", args = [\"sh\", \"-c\", \'\'\'{script}\'\'\'], env = [\"PATH=/usr/bin:/bin\"], timeout = 20 }}]\n"
        );
    }
    world.configure(&toml);
    Some(world)
}

/// The lines of hooks in the log of `a`, whoever keeps it.
fn logged(world: &World, plugin: bool) -> String {
    if plugin {
        // Lines of stderr go to stderr.
        return world.ctl(&["logs", "a", "--tail", "100000"]).err;
    }
    std::fs::read_to_string(world.dir().join("state/logs/a/stderr.log")).unwrap_or_default()
}

fn shared(world: &World, file: &str) -> String {
    std::fs::read_to_string(world.dir().join("shared").join(file)).unwrap_or_default()
}

#[test]
fn what_hooks_print_is_in_the_services_log() {
    for plugin in [false, true] {
        let script = "echo {kind}-out; echo {kind}-err >&2; printf {kind}-part";
        let Some(mut world) = with_hooks(&KINDS, script, "", plugin) else { return };
        world.start();
        world.until_state("a", "running");
        world.ok(&["stop", "a"]);
        world.until("the last line", |world| logged(world, plugin).contains("poststop-part"));
        let text = logged(&world, plugin);
        let mut rest = text.as_str();
        for kind in KINDS {
            for what in ["out", "err", "part"] {
                let line = format!("{kind} hook /bin/sh: {kind}-{what}\n");
                let at =
                    rest.find(&line).unwrap_or_else(|| panic!("no {line:?} where it belongs in\n{text}"));
                rest = &rest[at + line.len()..];
            }
        }
        if plugin {
            world.until("the view", |world| {
                world.said().contains("a ! createRuntime hook /bin/sh: createRuntime-out")
            });
        }
    }
}

#[test]
fn what_a_failing_hook_printed_is_in_the_log_and_in_the_reason() {
    for plugin in [false, true] {
        for kind in &KINDS[..5] {
            let Some(mut world) = with_hooks(&[kind], "echo no luck; exit 5", "restart = \"no\"\n", plugin)
            else {
                return;
            };
            world.start();
            world.until_state("a", "failed");
            let line = format!("{kind} hook /bin/sh: no luck");
            world.until(&line, |world| logged(world, plugin).contains(&line));
            // That a container was killed for its poststart hook is told by its end.
            let why = world.ok(&["why", "a"]) + &world.said();
            assert!(why.contains("no luck"), "{kind}: {why}");
            assert_eq!(world.processes("a"), Vec::<i32>::new());
        }
    }
}

#[test]
fn ten_megabytes_of_a_hook_hold_nothing_up() {
    for plugin in [false, true] {
        let script = "yes 0123456789 | head -c 10000000; echo {kind} >> $OUT/ran";
        let Some(mut world) = with_hooks(&KINDS, script, "", plugin) else { return };
        world.start();
        world.until_state("a", "running");
        world.ok(&["stop", "a"]);
        assert_eq!(shared(&world, "ran").lines().collect::<Vec<_>>(), KINDS);
        world.until("the poststop hook's lines", |world| logged(world, plugin).contains("poststop hook"));
        let text = logged(&world, plugin);
        assert!(text.len() < 6 * 100_000, "{}", text.len());
        assert!(
            text.contains("prestart hook /bin/sh: (") && text.contains("bytes more, not logged)"),
            "{text}"
        );
    }
}

#[test]
fn a_daemon_that_a_hook_leaves_holds_nothing_up() {
    let kinds = ["createRuntime", "createContainer", "poststart", "poststop"];
    let Some(mut world) = with_hooks(&kinds, "sleep 30 & echo $! >> $OUT/pids", "", false) else { return };
    let begin = Instant::now();
    world.start();
    world.until_state("a", "running");
    world.ok(&["stop", "a"]);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    for pid in shared(&world, "pids").lines() {
        // Those that ran in the container's group went with it.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid.parse().unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
}

/// The first hook takes a while and prints at its end; meanwhile the worker is killed.
const SLOW: &str = "echo {kind}-begin >> $OUT/ran; test -e $OUT/flag || { touch $OUT/flag; sleep 1.5; }; \
                    echo slept; echo {kind}-end >> $OUT/ran";

/// Kills the worker in the first hook that runs.
fn kill_in_the_hook(world: &World) {
    let end = Instant::now() + LONG;
    while !world.dir().join("shared/flag").exists() {
        assert!(Instant::now() < end, "no hook runs:\n{}", world.said());
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_the_worker(world);
}

#[test]
fn a_hook_before_the_start_outlives_its_worker_and_the_launch_is_done_again() {
    for (kind, plugin) in [("prestart", false), ("createRuntime", true)] {
        let Some(mut world) = with_hooks(&[kind, "poststop"], SLOW, "", plugin) else { return };
        world.start();
        kill_in_the_hook(&world);
        world.until_state("a", "running");
        let ran: Vec<String> = shared(&world, "ran").lines().map(str::to_owned).collect();
        let [begin, end] = ["begin", "end"].map(|what| format!("{kind}-{what}"));
        // It came to its end; only then what it had set up was taken down, and set up again.
        let whole = [&begin, &end, "poststop-begin", "poststop-end", &begin, &end];
        assert_eq!(ran, whole, "{}", world.said());
        let slept = format!("{kind} hook /bin/sh: slept");
        world.until("both have printed", |world| logged(world, plugin).matches(&slept).count() == 2);
    }
}

#[test]
fn a_hook_in_the_container_goes_with_its_worker_and_the_launch_is_done_again() {
    for kind in ["createContainer", "startContainer"] {
        let Some(mut world) = with_hooks(&[kind, "poststop"], SLOW, "", false) else { return };
        world.start();
        kill_in_the_hook(&world);
        world.until("a new life", |world| {
            let status = world.inspect("a").status;
            status.state == "running" && world.worker().is_some()
        });
        std::thread::sleep(Duration::from_secs(2));
        world.until_state("a", "running");
        let ran = shared(&world, "ran");
        assert!(ran.trim_end().ends_with(&format!("{kind}-end")), "{kind}: {ran}");
        assert_eq!(world.processes("a"), [world.pid("a")], "{kind}");
    }
}

#[test]
fn poststart_hooks_are_gone_on_with_by_the_next_worker() {
    let Some(mut world) = with_hooks(&["poststart"], SLOW, "", false) else { return };
    let config = std::fs::read_to_string(world.config()).unwrap();
    // A second one.
    let (before, hook) = config.rsplit_once("hooks.poststart = [").unwrap();
    let hook = hook.trim_end().trim_end_matches(']');
    std::fs::write(world.config(), format!("{before}hooks.poststart = [{hook}, {hook}]\n")).unwrap();
    world.start();
    kill_in_the_hook(&world);
    world.until("both have ended", |world| shared(world, "ran").matches("poststart-end").count() == 2);
    world.until_state("a", "running");
    assert_eq!(world.inspect("a").status.generation, 1);
    assert_eq!(shared(&world, "ran").lines().count(), 4, "each once: {}", shared(&world, "ran"));
    world
        .until("both have printed", |world| logged(world, false).matches("hook /bin/sh: slept").count() == 2);
}

#[test]
fn a_poststart_hook_that_fails_under_the_next_worker_is_fatal_as_under_any() {
    let script = "touch $OUT/flag; sleep 1; exit 3";
    let Some(mut world) = with_hooks(&["poststart"], script, "restart = \"no\"\n", false) else { return };
    world.start();
    kill_in_the_hook(&world);
    world.until_state("a", "failed");
    assert!(world.said().contains("exited with 3"), "{}", world.said());
}

#[test]
fn a_poststop_hook_outlives_its_worker_and_runs_once() {
    let Some(mut world) = with_hooks(&["poststop"], SLOW, "", false) else { return };
    world.start();
    world.until_state("a", "running");
    std::thread::scope(|scope| {
        // Its answer may go with the worker.
        scope.spawn(|| world.ctl(&["stop", "a"]));
        // The hook runs before the wish is on the disk; a stop that is neither there nor answered may be forgotten.
        let wishes = world.dir().join("state/desired.json");
        world.until("the stop is on the disk", |_| {
            std::fs::read_to_string(&wishes).is_ok_and(|text| text.contains("\"stopped\": true"))
        });
        kill_in_the_hook(&world);
    });
    world.until_state("a", "stopped");
    assert_eq!(shared(&world, "ran"), "poststop-begin\npoststop-end\n");
    world.until("it has printed", |world| logged(world, false).contains("poststop hook /bin/sh: slept"));
}

#[test]
fn a_hook_that_hangs_meets_its_timeout_under_the_next_worker_too() {
    let script = "read pid rest < /proc/self/stat; echo $pid >> $OUT/pids; touch $OUT/flag; sleep 1000";
    let Some(mut world) = with_hooks(&["createRuntime"], script, "restart = \"no\"\n", false) else { return };
    let text = std::fs::read_to_string(world.config()).unwrap();
    std::fs::write(world.config(), text.replace("timeout = 20", "timeout = 2")).unwrap();
    world.start();
    kill_in_the_hook(&world);
    let begin = Instant::now();
    let first = shared(&world, "pids").lines().next().unwrap().to_owned();
    world.until("it is gone", |_| !std::path::Path::new("/proc").join(&first).exists());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    world.until_state("a", "failed");
}
