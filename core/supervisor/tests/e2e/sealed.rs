//! A container cannot write to the program that starts it (CVE-2019-5736): not to sampand's file, by whichever way a process
//! of the keel gets into the container, nor to `sampan`'s.
use super::died::kill_the_worker;
use super::world::run;
use super::{LIVE, World};
use sampan_testkit::need;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// How a process of the host becomes one of the container.
const WAYS: [&str; 4] = ["main", "hook", "probe", "exec"];

/// Tries to write to the host's program until that works; a file in use cannot be written (ETXTBSY). What is no service's main
/// process leaves the attack to a process that nobody waits for.
const ATTACK: &str = r#"way=${1#/evil-}
case $way.$2 in
main.|*.go)
    echo > /out/$way.tries
    while ! { printf overwritten > /proc/self/fd/9; } 2> /out/$way.error; do sleep 0.02; done
    echo > /out/$way.overwrote
    sleep 100000 ;;
*)
    busybox setsid sh /attack $1 go < /dev/null > /dev/null 2>&1 &
    # It must be out of the caller's process group before the caller ends.
    while ! test -e /out/$way.tries; do sleep 0.01; done ;;
esac
"#;

/// A world whose one service has an image that attacks on every way.
fn hostile() -> Option<World> {
    if !need::need("x86_64 (the attacker's ELF interpreter)", cfg!(target_arch = "x86_64")) {
        return None;
    }
    let world = World::new("")?.installed(&[]);
    let (root, out) = (world.dir().join("rootfs"), world.dir().join("shared"));
    fs::create_dir(&out).unwrap();
    fs::create_dir(root.join("lib64")).unwrap();
    compile(&root.join("lib64/ld-linux-x86-64.so.2"));
    fs::write(root.join("attack"), ATTACK).unwrap();
    for way in WAYS {
        script(&root.join(format!("evil-{way}")), "#!/proc/self/exe\n");
    }
    world.configure(&format!(
        "on_exit = \"keep\"\n---\n[services.a]\ncommand = [\"/evil-main\"]\nstop_signal = \"SIGKILL\"\n\
         volumes = [\"{}:/out\"]\nhooks.startContainer = [{{ path = \"/evil-hook\" }}]\n\
         healthcheck = {{ test = [\"CMD\", \"/evil-probe\"], interval = \"100ms\" }}\n",
        out.display()
    ));
    Some(world)
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn compile(to: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/interpreter.c");
    let flags = ["-static", "-nostdlib", "-fno-stack-protector", "-fcf-protection=none", "-O1", "-o"];
    let built = run(Command::new("cc").args(flags).arg(to).arg(source));
    assert_eq!(built.code, 0, "{built:?}");
}

/// Starts the service, waits until it attacks on every way, and ends sampand, so that its file is in use no more. What the
/// attacks came to, a line each.
fn attacked(world: &mut World, end: impl FnOnce(&mut World)) -> Vec<String> {
    let out = world.dir().join("shared");
    let there = |name: String| out.join(name).exists();
    world.start();
    world.until_state("a", "running");
    world.ok(&["exec", "a", "/evil-exec"]);
    world.until("it attacks on every way", |_| WAYS.iter().all(|way| there(format!("{way}.tries"))));
    kill_the_worker(world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    end(world);
    let result = |way: &&str| {
        let error = fs::read_to_string(out.join(format!("{way}.error"))).unwrap_or_default();
        let result = if there(format!("{way}.overwrote")) { "overwritten" } else { error.trim() };
        let result = result.rsplit(": ").next().unwrap_or_default().to_owned();
        (!matches!(result.as_str(), "" | "Text file busy")).then(|| format!("{way}: {result}"))
    };
    let mut results = Vec::new();
    world.until("each attack has come to something", |_| {
        results = WAYS.iter().filter_map(result).collect();
        results.len() == WAYS.len()
    });
    results
}

/// SIGKILL ends the keel, and the kernel the worker with it.
fn killed(world: &mut World) {
    world.signal(libc::SIGKILL);
    assert_eq!(world.ended(), None);
}

#[test]
fn no_container_overwrites_sampand_after_its_keel_was_killed() {
    check(killed);
}

#[test]
fn no_container_overwrites_a_sampand_that_ended_and_kept_it() {
    check(|world| {
        world.signal(libc::SIGTERM);
        assert_eq!(world.ended(), Some(0));
    });
}

fn check(end: fn(&mut World)) {
    let Some(mut world) = hostile() else { return };
    let read = |world: &World| ["sampand", "sampan"].map(|name| fs::read(world.bin().join(name)).unwrap());
    let before = read(&world);
    let results = attacked(&mut world, end);
    assert_eq!(results, WAYS.map(|way| format!("{way}: Read-only file system")));
    assert!(read(&world) == before, "a program of the host was changed");
    world.start();
}

/// The attack is a real one: without the defence it works.
#[cfg(feature = "weaken")]
#[test]
fn without_the_seal_a_container_overwrites_sampand() {
    let Some(world) = hostile() else { return };
    let mut world = world.env("SAMPAN_WEAKEN", sampan_child::defence::Defence::SealedProgram.name());
    // The holder runs from that file, too, and outlives its keel.
    let results = attacked(&mut world, |world| {
        let holder = world.holder().expect("somebody holds the descriptors");
        killed(world);
        super::world::kill(holder, libc::SIGKILL);
    });
    assert_eq!(results, WAYS.map(|way| format!("{way}: overwritten")));
    assert_eq!(fs::read(world.bin().join("sampand")).unwrap(), b"overwritten");
    fs::copy(super::world::program("sampand"), world.bin().join("sampand")).unwrap();
    world.start();
}

/// Sealed, a process does not know any more which file it was started from.
#[test]
fn an_installed_sampand_finds_the_plugins_beside_it_also_after_its_worker_died() {
    let Some(world) = World::new("") else { return };
    let mut world = world.installed(&["logging"]);
    world.configure(&format!("[services.a]\n{LIVE}"));
    world.start();
    assert!(world.ok(&["plugin", "list"]).contains("logging"), "{}", world.said());
    kill_the_worker(&world);
    world.until("a worker is back", |world| {
        world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    assert!(world.ok(&["plugin", "list"]).contains("logging"), "{}", world.said());
}
