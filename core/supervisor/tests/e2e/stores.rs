//! Volumes, secrets and networks, as a client sees them.
use super::LIVE;
use super::fuse::Dead;
use sampan_api as api;
use std::fs;

#[test]
fn volumes_are_listed_and_go_only_when_nobody_has_them() {
    let mut world = world!(
        r#"[volumes.data]
[volumes.spare]
[volumes.elsewhere]
path = "DIR/elsewhere"
[services.web]
{LIVE}
volumes = ["data:/data"]
[services.rests]
{LIVE}
autostart = false
volumes = ["data:/data"]
"#
    );
    let dir = world.dir().to_owned();
    let with_dir = |text: String| text.replace("DIR", dir.to_str().unwrap());
    fs::write(world.config(), with_dir(fs::read_to_string(world.config()).unwrap())).unwrap();
    world.start();
    world.until_state("web", "running");
    let folder = dir.join("state/volumes");
    fs::write(folder.join("data/file"), vec![1; 300_000]).unwrap();
    fs::create_dir(dir.join("elsewhere")).unwrap();
    for name in ["spare", "old", "web+srv", "gone+srv"] {
        fs::create_dir_all(folder.join(name).join("some/where")).unwrap();
    }

    let all: Vec<api::Volume> = world.get("/v1/volumes").unwrap();
    let told: Vec<(&str, &str, String)> =
        all.iter().map(|v| (v.name.as_str(), v.kind.as_str(), v.services.join(" "))).collect();
    let is = |name, kind, services: &str| (name, kind, services.to_owned());
    assert_eq!(
        told,
        [
            is("data", "config", "rests web"),
            is("elsewhere", "config", ""),
            is("gone+srv", "left", ""),
            is("old", "left", ""),
            is("spare", "config", ""),
            is("web+srv", "image", "web"),
        ]
    );
    let table = world.ok(&["volume", "ls"]);
    let row = table.lines().find(|line| line.starts_with("data ")).unwrap_or_else(|| panic!("{table}"));
    let columns: Vec<&str> = row.split_whitespace().collect();
    let path = folder.join("data").display().to_string();
    assert_eq!((columns[1], &columns[3..]), ("config", &["rests,", "web", path.as_str()][..]), "{table}");
    assert!(columns[2].ends_with('K') && columns[2] >= "293K", "{table}");
    let json: serde_json::Value = serde_json::from_str(&world.ok(&["--json", "volume", "ls"])).unwrap();
    assert!(json[0]["size_bytes"].as_u64().unwrap() >= 300_000, "{json}");

    let rm = |names: &[&str]| world.ctl(&[&["volume", "rm"], names].concat());
    let used = rm(&["data", "web+srv", "spare"]);
    assert_eq!((used.code, used.out.as_str()), (1, "spare\n"), "what can go goes: {used:?}");
    assert!(used.err.contains("volume data is used by rests, web; take it out of config.toml"), "{used:?}");
    assert!(used.err.contains("volume web+srv is used by web"), "{used:?}");
    let elsewhere = rm(&["elsewhere"]);
    assert!(elsewhere.code == 1 && elsewhere.err.contains("remove what is there yourself"), "{elsewhere:?}");
    let near = rm(&["dat"]);
    assert!(near.code == 1 && near.err.contains("no volume \"dat\"; did you mean `data`?"), "{near:?}");
    for name in ["..", ".", "../../elsewhere", "data/file", ""] {
        assert_ne!(rm(&[name]).code, 0, "{name:?}");
    }
    assert_eq!(rm(&["old", "gone+srv"]).code, 0);
    let left = || {
        let mut left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        left
    };
    assert_eq!(left(), ["data", "web+srv"]);
    assert_eq!(fs::read(folder.join("data/file")).unwrap().len(), 300_000);

    // Nobody's once the config has it nowhere and nobody lives by it.
    world.configure(&format!(
        "[volumes.data]\n[services.web]\n{LIVE}[services.rests]\n{LIVE}autostart = false\n"
    ));
    assert_eq!(rm(&["data"]).code, 1, "as long as that is not applied");
    world.ok(&["apply"]);
    world.until("it goes", |_| rm(&["data"]).code == 0);
    assert_eq!(left(), ["web+srv"]);
    assert!(
        world.ok(&["volume", "ls"]).lines().any(|line| line.starts_with("data ")),
        "the config still names it"
    );
}

#[test]
fn secrets_are_listed_without_what_they_are() {
    let mut world = world!(
        r#"[secrets.password]
environment = "SECRET_OF_TEST"
[secrets.key]
file = "FILE"
[secrets.token]
command = ["/bin/echo", "hunter3"]
[services.web]
{LIVE}
secrets = ["password", "token"]
"#
    )
    .env("SECRET_OF_TEST", "hunter2");
    let file = world.dir().join("key");
    fs::write(&file, "hunter4").unwrap();
    let text = fs::read_to_string(world.config()).unwrap().replace("FILE", file.to_str().unwrap());
    fs::write(world.config(), text).unwrap();
    world.start();
    let table = world.ok(&["secret", "ls"]);
    let json = world.ok(&["--json", "secret", "ls"]);
    assert!(!table.contains("hunter") && !json.contains("hunter"), "{table}{json}");
    let all: Vec<api::Secret> = serde_json::from_str(&json).unwrap();
    let told: Vec<[&str; 3]> =
        all.iter().map(|s| [s.name.as_str(), s.kind.as_str(), s.from.as_str()]).collect();
    assert_eq!(
        told,
        [
            ["key", "file", file.to_str().unwrap()],
            ["password", "environment", "SECRET_OF_TEST"],
            ["token", "command", "/bin/echo"],
        ]
    );
    assert_eq!(all[1].services, ["web"]);
    assert!(table.starts_with("NAME") && table.contains("password  environment  SECRET_OF_TEST"), "{table}");
}

#[test]
fn networks_are_listed_with_and_without_their_plugin() {
    let toml = r#"[networks.back]
internal = true
[services.web]
command = ["sleep", "100000"]
autostart = false
network_mode = "bridge"
networks = ["default", "back"]
[services.alone]
command = ["sleep", "100000"]
autostart = false
"#;
    let mut world = world!("{toml}");
    world.start();
    let all: Vec<api::Network> = world.get("/v1/networks").unwrap();
    let told: Vec<(&str, bool, bool)> = all.iter().map(|n| (n.name.as_str(), n.internal, n.up)).collect();
    assert_eq!(told, [("back", true, false), ("default", false, false)]);
    assert!(all.iter().all(|network| network.services == ["web"] && network.members.is_empty()));
    let table = world.ok(&["network", "ls"]);
    assert!(table.contains("back     down, internal  -"), "{table}");
    let one: api::Network = serde_json::from_str(&world.ok(&["network", "inspect", "back"])).unwrap();
    assert_eq!(one.name, "back");
    let none = world.ctl(&["network", "inspect", "bakc"]);
    assert!(none.code == 1 && none.err.contains("did you mean `back`?"), "{none:?}");
}

/// A look at such a path never ends. It is no thread's of the worker, and every path but that one is known again when it is gone.
#[test]
fn a_dead_mount_under_a_volume_holds_nobody_up() {
    let mut world = world!("");
    let at = world.dir().join("dead");
    world.configure(&format!(
        "[volumes.spare]\n[services.web]\n{LIVE}[services.rests]\n{LIVE}autostart = false\nvolumes = [\"{}/data:/data\"]\n",
        at.display()
    ));
    fs::create_dir_all(at.join("data")).unwrap();
    world.start();
    world.until_state("web", "running");
    fs::create_dir_all(world.dir().join("state/volumes/spare")).unwrap();
    let Some(dead) = Dead::mount(&at, true) else { return };
    for _ in 0..2 {
        let all: Vec<api::Volume> = world.get("/v1/volumes").unwrap();
        assert_eq!(all.iter().map(|volume| &*volume.name).collect::<Vec<_>>(), ["spare"]);
    }
    let refused = world.ctl(&["volume", "rm", "spare"]);
    assert!(refused.code == 1 && refused.err.contains("an earlier look hangs in the kernel"), "{refused:?}");
    assert!(refused.err.contains(&*at.join("data").to_string_lossy()), "{refused:?}");
    world.ok(&["restart", "web"]);
    drop(dead);
    world.until("the volume can go", |world| world.ctl(&["volume", "rm", "spare"]).code == 0);
}
