//! sampand's containers are ordinary OCI containers: `sampan` sees them; and curl is a full client.
use super::LIVE;
use sampan_testkit::need;
use std::process::Command;

#[test]
fn sampan_sees_the_containers() {
    let mut world = world!("[services.a]\n{LIVE}[services.b]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.until_state("b", "running");
    let list = world.sampan(&["list"]);
    assert!(list.code == 0 && list.out.lines().count() == 3, "{list:?}");
    let ids = world.sampan(&["list", "-q"]);
    assert_eq!(ids.out, "a\nb\n", "{ids:?}");
    let state = world.sampan(&["state", "a"]);
    let state: serde_json::Value = serde_json::from_str(&state.out).unwrap_or_else(|_| panic!("{state:?}"));
    assert_eq!(
        (state["status"].as_str(), state["pid"].as_i64()),
        (Some("running"), Some(world.pid("a").into()))
    );
    let ran = world.sampan(&["exec", "a", "/bin/cat", "/proc/1/cmdline"]);
    assert_eq!(ran.out, "/bin/sleep\u{0}100000\u{0}", "{ran:?}");
    let ran = world.sampan(&["exec", "a", "/bin/sh", "-c", "exit 9"]);
    assert_eq!(ran.code, 9, "{ran:?}");
    // What another client does to a container is an exit like any other.
    let ran = world.sampan(&["kill", "b", "KILL"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    world.until("b is restarted", |world| world.inspect("b").status.generation == 2);
    let bundle = world.inspect("a").bundle.unwrap();
    let plan = super::world::run(Command::new(super::world::program("sampan")).args(["plan", &bundle]));
    assert!(plan.code == 0 && plan.out.contains("execute /bin/sleep 100000"), "{plan:?}");
}

#[test]
fn curl_is_a_client() {
    if !need::need("curl", Command::new("curl").arg("--version").output().is_ok()) {
        return;
    }
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let curl = |args: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "20", "-w", " %{http_code}", "--unix-socket"]).arg(world.socket()).args(args);
        super::world::run(curl.arg(format!("http://sampand{path}"))).out
    };
    let all = curl(&[], "/v1/services");
    assert!(all.contains("\"name\":\"a\"") && all.ends_with(" 200"), "{all}");
    let stopped = curl(&["-X", "POST"], "/v1/services/a/stop");
    assert!(stopped.contains("\"state\":\"stopped\"") && stopped.ends_with(" 200"), "{stopped}");
    let unknown = curl(&[], "/v1/services/b");
    assert!(unknown.contains("no-such-service") && unknown.ends_with(" 404"), "{unknown}");
    let wrong = curl(&["-d", "{"], "/v1/services/a/kill");
    assert!(wrong.contains("\"code\":\"usage\"") && wrong.ends_with(" 400"), "{wrong}");
}
