//! Secrets of a service: in its container while it runs, and in nothing that sampand keeps or says.
use super::died::kill_the_worker;
use super::world::Small;
use std::path::Path;

/// Every file below, as text.
fn contents(folder: &Path, but: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if path == but {
            continue;
        } else if kind.is_dir() {
            all += &contents(&path, but);
        } else if kind.is_file() {
            all += &String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default());
        }
    }
    all
}

#[test]
fn a_secret_is_told_to_its_service_and_to_nobody_else() {
    let world = world!("");
    let dir = world.dir().to_owned();
    let run = dir.join("run");
    let in_memory = Small::new(run.clone(), "8M");
    std::fs::create_dir_all(dir.join("rootfs/run")).unwrap();
    std::fs::create_dir_all(dir.join("shared")).unwrap();
    std::os::unix::fs::chown(dir.join("shared"), Some(33), Some(33)).unwrap();
    std::fs::write(dir.join("pass"), "hunter-one").unwrap();
    let mut world = world.env("DB_PASSWORD", "hunter-two");
    world.configure(&format!(
        "[secrets.one]\nfile = \"{0}/pass\"\n[secrets.two]\nenvironment = \"DB_PASSWORD\"\n\
         [services.a]\nuser = \"33:33\"\nstop_signal = \"SIGKILL\"\nvolumes = [\"{0}/shared:/out\"]\nsecrets = [\"one\", \"two\"]\n\
         command = [\"sh\", \"-c\", \"cat /run/secrets/one /run/secrets/two > /out/seen; exec sleep 1000\"]\n",
        dir.display()
    ));
    world.start();
    world.until_state("a", "running");
    world.until("it has read them", |_| {
        std::fs::read_to_string(dir.join("shared/seen")).is_ok_and(|text| text == "hunter-onehunter-two")
    });
    let told = |target: &str| {
        let mounts = world.inspect("a").mounts;
        mounts.into_iter().find(|mount| mount.target == target).expect("it is a mount of it")
    };
    let (volume, secret) = (told("/out"), told("/run/secrets/one"));
    assert_eq!((volume.kind.as_str(), volume.read_only), ("volume", false));
    assert_eq!((secret.kind.as_str(), secret.source.as_str(), secret.read_only), ("secret", "one", true));
    let secrets = run.join("secrets");
    let kept = contents(&run, &secrets) + &contents(&dir.join("state"), &secrets);
    let said = world.ok(&["inspect", "a"])
        + &world.ok(&["config"])
        + &world.ok(&["events", "--json"])
        + &world.said();
    assert!(!kept.contains("hunter") && !said.contains("hunter"), "{said}");
    // A new one, at the next start.
    kill_the_worker(&world);
    std::fs::write(dir.join("pass"), "hunter-three").unwrap();
    world.ok(&["restart", "a"]);
    world.until("it has read the new one", |_| {
        std::fs::read_to_string(dir.join("shared/seen")).is_ok_and(|text| text.starts_with("hunter-three"))
    });
    world.ok(&["stop", "a"]);
    world.until("they are gone", |_| !secrets.join("a").exists());
    // One that is not there holds the start up, and is named.
    std::fs::remove_file(dir.join("pass")).unwrap();
    let ran = world.ctl(&["start", "a"]);
    let why = world.ok(&["why", "a"]);
    assert!(ran.code != 0 || why.contains("pass"), "{ran:?} {why}");
    assert!((ran.err + &why).contains(&format!("cannot read {}/pass: no such file", dir.display())), "{why}");
    world.ok(&["down"]);
    assert_eq!(world.ended(), Some(0));
    assert!(!secrets.exists());
    drop(in_memory);
}
