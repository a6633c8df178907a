//! OCI hooks of all six kinds, in the spec's order, and what a failing one means.
use super::LIVE;

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
