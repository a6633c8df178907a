//! `sampanctl cp`. The service is a stranger's: it may put anything anywhere in its own files, and change it while it is copied.
use super::World;
use super::world::{Ran, run};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const WEB: &str = "[services.web]\ncommand = [\"sleep\", \"100000\"]\nstop_signal = \"SIGKILL\"\ntmpfs = [\"/tmp\"]\nvolumes = [\"DIR/shared:/data\"]\n[services.rests]\ncommand = [\"sleep\", \"1\"]\nautostart = false\n";

/// With a service whose /data is the returned folder.
fn started() -> Option<(World, PathBuf)> {
    let mut world = World::new(WEB)?;
    let dir = world.dir().to_owned();
    let text = fs::read_to_string(world.config()).unwrap().replace("DIR", dir.to_str().unwrap());
    fs::write(world.config(), text).unwrap();
    fs::create_dir(dir.join("shared")).unwrap();
    world.start();
    world.until_state("web", "running");
    Some((world, dir.join("shared")))
}

fn cp(world: &World, from: &str, to: &Path) -> Ran {
    world.ctl(&["cp", from, to.to_str().unwrap()])
}

#[test]
fn files_and_folders_are_copied_into_a_service_and_back() {
    let Some((world, data)) = started() else { return };
    let here = world.dir().join("here");
    fs::create_dir_all(here.join("tree/inner")).unwrap();
    fs::write(here.join("tree/inner/file"), "text").unwrap();
    fs::set_permissions(here.join("tree/inner/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    symlink("inner/file", here.join("tree/link")).unwrap();
    symlink("/etc/passwd", here.join("tree/far")).unwrap();
    std::os::unix::fs::chown(here.join("tree/inner/file"), Some(7), Some(7)).unwrap();
    let tree = here.join("tree");
    let tree = tree.to_str().unwrap();

    // Into a folder that is there, under a new name, and what is in it alone.
    assert_eq!(world.ok(&["cp", tree, "web:/data"]), "");
    world.ok(&["cp", tree, "web:/data/new"]);
    world.ok(&["cp", &format!("{tree}/."), "web:/data/new/inner"]);
    for at in ["tree", "new", "new/inner"] {
        let file = data.join(at).join("inner/file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        let found = fs::metadata(&file).unwrap();
        assert_eq!(
            (found.mode() & 0o7777, found.uid(), found.gid()),
            (0o751, 0, 0),
            "not setuid, and root's"
        );
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(time(&file), time(&here.join("tree/inner/file")));
        assert_eq!(fs::read_link(data.join(at).join("far")).unwrap(), Path::new("/etc/passwd"));
    }
    let back = here.join("back");
    let told = world.ok(&["--json", "cp", "web:/data/tree", back.to_str().unwrap()]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told, serde_json::json!({ "files": 5, "bytes": 4, "failed": 0 }));
    assert_eq!(fs::read_to_string(back.join("link")).unwrap(), "text");
    assert!(fs::symlink_metadata(back.join("far")).unwrap().is_symlink());

    // A file over a file; a relative path is from the root on; its link leads inside.
    fs::write(here.join("new"), "longer than before").unwrap();
    world.ok(&["cp", here.join("new").to_str().unwrap(), "web:data/tree/inner/file"]);
    assert_eq!(fs::read_to_string(data.join("tree/inner/file")).unwrap(), "longer than before");
    world.ok(&["cp", "web:/data/tree/link", here.join("followed").to_str().unwrap()]);
    assert_eq!(fs::read_to_string(here.join("followed")).unwrap(), "longer than before");
    let ran = run(Command::new(world.bin().join("sampanctl"))
        .arg("--socket")
        .arg(world.socket())
        .args(["cp", "web:/data/tree", "."])
        .current_dir(&back));
    assert_eq!((ran.code, back.join("tree/inner/file").exists()), (0, true), "{ran:?}");
    // Its own /tmp, which no path of the host leads to.
    world.ok(&["cp", here.join("new").to_str().unwrap(), "web:/tmp"]);
    assert_eq!(world.ok(&["exec", "web", "cat", "/tmp/new"]), "longer than before");

    // Holes stay holes.
    let sparse = fs::File::create(data.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (1 << 40) - 3).unwrap();
    world.ok(&["cp", "web:/data/sparse", here.to_str().unwrap()]);
    let found = fs::metadata(here.join("sparse")).unwrap();
    assert_eq!((found.len(), found.blocks() < 1000), (1 << 40, true));

    for (args, says) in [
        (["web:/nowhere", "."], "cannot open web:/nowhere: No such file"),
        (["wbe:/etc", "."], "did you mean `web`?"),
        (["rests:/etc", "."], "rests is not running: never started; `sampanctl start rests` starts it"),
        ([tree, "web:/new"], "to web:/new: that is read-only"),
        ([tree, "web:/data/sparse"], "cannot copy a folder to web:/data/sparse"),
        (["web:/data/sparse", "/nowhere/x"], "cannot open the folder of /nowhere/x"),
        ([tree, "web:/data/no/where"], "cannot open the folder of web:/data/no/where"),
        ([here.join("new").to_str().unwrap(), "web:/data/absent/"], "Not a directory"),
        ([tree, tree], "write one as NAME:PATH"),
        (["web:/etc", "web:/tmp"], "copy to a place here first"),
    ] {
        let ran = world.ctl(&["cp", args[0], args[1]]);
        assert!(ran.code == 1 && ran.err.contains(says), "{args:?}: {ran:?}");
    }
}

/// The service may have what is copied.
#[test]
fn a_folder_is_not_copied_into_itself() {
    let Some((world, data)) = started() else { return };
    fs::create_dir(data.join("inner")).unwrap();
    fs::write(data.join("inner/file"), "text").unwrap();
    for (from, to, made) in [
        (data.to_str().unwrap(), "web:/data", data.join("shared")),
        ("web:/data", data.join("inner").to_str().unwrap(), data.join("inner/data")),
        ("web:/data/.", data.join("inner/new").to_str().unwrap(), data.join("inner/new")),
    ] {
        let ran = world.ctl(&["cp", from, to]);
        assert!(ran.code == 1 && ran.err.contains("into itself"), "{from} {to}: {ran:?}");
        assert_eq!(ran.err.lines().count(), 1, "once: {ran:?}");
        let copies = run(Command::new("find").arg(&made).args(["-name", "file"])).out;
        assert!(copies.lines().count() <= 1, "{from} {to}: {copies}");
        fs::remove_dir_all(made).unwrap();
    }
}

#[test]
fn what_a_service_has_put_there_leads_nowhere_else() {
    let Some((world, data)) = started() else { return };
    let outside = world.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "hunter2").unwrap();
    let secret = outside.join("secret");
    let here = world.dir().join("here");
    fs::create_dir(&here).unwrap();
    let file = here.join("file");
    fs::write(&file, "ours").unwrap();

    // Links of every kind, to read by.
    symlink(&secret, data.join("absolute")).unwrap();
    symlink(format!("../../../../../../../../../..{}", secret.display()), data.join("above")).unwrap();
    symlink(format!("/proc/1/root{}", secret.display()), data.join("by-proc")).unwrap();
    symlink("/proc/self/root", data.join("magic")).unwrap();
    symlink(&outside, data.join("folder")).unwrap();
    symlink("loop", data.join("loop")).unwrap();
    for name in ["absolute", "above", "by-proc", "magic/etc", "folder/secret", "loop"] {
        let ran = cp(&world, &format!("web:/data/{name}"), &here.join("got"));
        assert!(ran.code == 1 && !here.join("got").exists(), "{name}: {ran:?}");
    }
    for path in [format!("web:/../../../../../..{}", secret.display()), format!("web:{}", secret.display())] {
        assert_eq!(cp(&world, &path, &here.join("got")).code, 1, "{path}");
    }
    // And to write by: what is made is inside, if anything is.
    for name in ["folder", "folder/new", "absolute", "above", "magic/tmp"] {
        world.ctl(&["cp", file.to_str().unwrap(), &format!("web:/data/{name}")]);
    }
    let in_outside: Vec<_> =
        fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        (in_outside, fs::read_to_string(&secret).unwrap().as_str()),
        (vec!["secret".into()], "hunter2")
    );

    // What is no file of its own is not read, and not waited for.
    fs::create_dir(data.join("odd")).unwrap();
    for (name, kind) in
        [("fifo", FileType::Fifo), ("disk", FileType::BlockDevice), ("null", FileType::CharacterDevice)]
    {
        mknodat(
            CWD,
            data.join("odd").join(name),
            kind,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(data.join("odd/socket")).unwrap();
    fs::write(data.join("odd/plain"), "text").unwrap();
    fs::set_permissions(data.join("odd/plain"), fs::Permissions::from_mode(0o6755)).unwrap();
    std::os::unix::fs::chown(data.join("odd/plain"), Some(12345), Some(12345)).unwrap();
    fs::write(data.join("odd/\x1b[2J"), "").unwrap();
    fs::create_dir(data.join("odd/\x1b]0;x\x07")).unwrap();
    mknodat(CWD, data.join("odd/\x1b]0;x\x07/fifo\n"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let odd = cp(&world, "web:/data/odd", &here);
    assert_eq!(odd.code, 1);
    for says in [
        "odd/fifo is not copied: it is a FIFO",
        "odd/disk is not copied: it is a device",
        "odd/null is not copied",
        "odd/socket is not copied: it is a socket",
    ] {
        assert!(odd.err.contains(says), "{says}: {odd:?}");
    }
    assert!(!odd.err.contains(|c: char| c.is_control() && c != '\n'), "{odd:?}");
    assert_eq!(odd.err.lines().count(), 5, "a name is one line: {odd:?}");
    let plain = fs::metadata(here.join("odd/plain")).unwrap();
    assert_eq!(
        (plain.mode() & 0o7777, plain.uid()),
        (0o755, 0),
        "whoever copies has it, and it is not setuid"
    );
    let copied = fs::read_dir(here.join("odd")).unwrap().map(|entry| entry.unwrap().file_type().unwrap());
    assert!(
        copied.into_iter().all(|kind| !kind.is_fifo() && !kind.is_char_device() && !kind.is_block_device())
    );

    // What the kernel makes up.
    for path in ["web:/proc/1/environ", "web:/proc", "web:/proc/sys/kernel", "web:/sys/kernel"] {
        let ran = cp(&world, path, &here.join("got"));
        assert!(ran.code == 1 && ran.err.contains("the kernel's own"), "{path}: {ran:?}");
        let _ = fs::remove_dir_all(here.join("got"));
    }
    symlink("/proc/sys/kernel", data.join("tunables")).unwrap();
    fs::write(here.join("core_pattern"), "|/evil").unwrap();
    let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let ran = world.ctl(&["cp", here.join("core_pattern").to_str().unwrap(), "web:/data/tunables/"]);
    assert!(ran.code == 1 && ran.err.contains("the kernel's own proc"), "{ran:?}");
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
}

#[test]
fn folders_in_folders_without_end_and_names_that_are_there_are_told() {
    let Some((world, data)) = started() else { return };
    let here = world.dir().join("here");
    fs::create_dir(&here).unwrap();
    let mut deep = data.join("deep");
    for _ in 0..300 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let ran = cp(&world, "web:/data/deep", &here);
    assert!(ran.code == 1 && ran.err.contains("folders deep"), "{ran:?}");

    // A link that lies in the way here is nobody's to follow.
    let outside = world.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(data.join("tree/sub")).unwrap();
    fs::write(data.join("tree/sub/file"), "theirs").unwrap();
    fs::create_dir(here.join("tree")).unwrap();
    symlink(&outside, here.join("tree/sub")).unwrap();
    let ran = cp(&world, "web:/data/tree", &here);
    assert_eq!((ran.code, fs::read_dir(&outside).unwrap().count()), (1, 0), "{ran:?}");

    // Thousands that fail are counted.
    fs::create_dir(data.join("many")).unwrap();
    for n in 0..100 {
        mknodat(CWD, data.join(format!("many/{n}")), FileType::Fifo, Mode::RUSR, 0).unwrap();
    }
    let ran = cp(&world, "web:/data/many", &here);
    assert!(ran.code == 1 && ran.err.contains("80 more could not be copied"), "{ran:?}");
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_tree_that_changes_while_it_is_copied_leads_nowhere_else() {
    let Some((world, data)) = started() else { return };
    let outside = world.dir().join("outside");
    fs::create_dir_all(outside.join("inner")).unwrap();
    fs::write(outside.join("inner/file"), "hunter2").unwrap();
    let here = world.dir().join("here");
    fs::create_dir_all(here.join("in/inner")).unwrap();
    fs::write(here.join("in/inner/file"), "ours").unwrap();
    for name in ["tree", "to"] {
        fs::create_dir_all(data.join(name).join("inner")).unwrap();
    }
    fs::write(data.join("tree/inner/file"), "theirs").unwrap();
    symlink(outside.join("inner"), data.join("link")).unwrap();
    let (ends, mut copied) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A folder and a link to the host take each other's place, all the time.
            while !ends.load(Ordering::Relaxed) {
                for name in ["tree/inner", "to/inner"] {
                    for _ in 0..2 {
                        let (one, other) = (data.join(name), data.join("link"));
                        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                    }
                }
            }
        });
        // Whatever becomes of this thread, the other one ends.
        let _ends = Ends(&ends);
        for round in 0..40 {
            let got = here.join(format!("got{round}"));
            cp(&world, "web:/data/tree", &got);
            world.ctl(&["cp", here.join("in").to_str().unwrap(), "web:/data/to"]);
            world.ctl(&["cp", &format!("{}/.", here.join("in").display()), "web:/data/to"]);
            let text = fs::read_to_string(got.join("inner/file"));
            copied += u32::from(text.is_ok());
            let is_link = fs::symlink_metadata(got.join("inner")).is_ok_and(|found| found.is_symlink());
            assert!(is_link || text.map_or(true, |text| text == "theirs" || text == "ours"), "round {round}");
        }
    });
    assert_eq!(fs::read_to_string(outside.join("inner/file")).unwrap(), "hunter2");
    assert_eq!(fs::read_dir(outside.join("inner")).unwrap().count(), 1);
    assert!(copied > 0);
}
