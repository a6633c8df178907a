//! What an image says of itself comes into errors and warnings, and those onto terminals.
use super::LIVE;
use super::images::{import, there};
use serde_json::json;

/// The title of a terminal, and a colour.
const ESC: &str = "\u{1b}]0;owned\u{7}\u{1b}[31m";

#[test]
fn nothing_that_an_image_says_does_anything_to_a_terminal() {
    let service = |name: &str, keys: &str| {
        format!("[services.{name}]\nimage = \"{name}\"\npull = \"never\"\nrestart.policy = \"no\"\n{keys}")
    };
    let mut world = world!(
        "{}{}{}{}{}",
        service("program", ""),
        service("dir", LIVE),
        service("user", LIVE),
        service("volume", LIVE),
        service("file", LIVE)
    );
    if !there() {
        return;
    }
    import(&world, "program", &json!({ "Entrypoint": [format!("/bin/{ESC}x")] }));
    import(&world, "dir", &json!({ "WorkingDir": format!("/etc/passwd/{ESC}") }));
    import(&world, "user", &json!({ "User": format!("a{ESC}") }));
    import(&world, "volume", &json!({ "Volumes": { format!("/a{ESC}"): {} } }));
    import(&world, "file", &json!({ "Volumes": { format!("/bin/sh/{ESC}"): {} } }));
    world.start();
    let all = ["program", "dir", "user", "volume", "file"];
    for name in all {
        world.until_state(name, if name == "volume" { "running" } else { "failed" });
    }
    let verbs = ["start", "why", "inspect", "status", "top", "stop"];
    let of_each = all.iter().flat_map(|name| verbs.map(|verb| vec![verb, *name]));
    let of_all = [&["ps"][..], &["events", "--no-follow"], &["volume", "ls"], &["status"], &["down"]];
    let (mut harmful, mut harmless) = (Vec::new(), String::new());
    let is_harmful = |line: &&str| line.contains(|c: char| c.is_control() && c != '\t');
    for verb in of_each.chain(of_all.map(<[_]>::to_vec)) {
        let ran = world.ctl(&verb);
        let shown = format!("{}\n{}", ran.out, ran.err);
        harmful.extend(shown.lines().filter(is_harmful).map(|line| format!("{verb:?}: {line:?}")));
        harmless += &shown;
    }
    harmful.extend(world.said().lines().filter(is_harmful).map(|line| format!("sampand: {line:?}")));
    assert!(harmful.is_empty(), "{harmful:#?}");
    assert!(harmless.contains("]0;owned"), "{harmless}");
}
