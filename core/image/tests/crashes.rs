//! Killed at every step, and a disk that is full: never a wrong layer, and the next run goes on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sampan_image::{Digest, Store};
use sampan_testkit::{Folder, need};
use tar::EntryType;

use crate::made::{Layer, gzip, header, in_memory, layout};

pub fn image(store: &Path, crash_at: Option<u32>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sampan-image"));
    command.args(["--progress", "none", "--store"]).arg(store).args(args);
    if let Some(at) = crash_at {
        command.env("SAMPAN_CRASH_AT", at.to_string());
    }
    command.output().unwrap()
}

/// Names, kinds, modes and contents of all below.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        found.insert(
            path.strip_prefix(folder).unwrap().to_owned(),
            (metadata.mode(), metadata.rdev(), content),
        );
    }
    found
}

/// What has a name is whole: blobs by their digests, layers as in `good`, images with all their layers.
pub fn check(path: &Path, good: &Path, what: &str) {
    for entry in fs::read_dir(path.join("blobs/sha256")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(Digest::of(&fs::read(entry.path()).unwrap()).hex(), name, "{what}");
    }
    for entry in fs::read_dir(path.join("layers")).unwrap().flatten() {
        let (ours, theirs) = (tree(&entry.path()), tree(&good.join("layers").join(entry.file_name())));
        assert_eq!(ours, theirs, "{what}: {:?}", entry.path());
    }
    let store = Store::read(path).unwrap();
    for name in store.names().unwrap() {
        store.layers(&store.find(&name.reference).unwrap()).unwrap();
    }
}

fn layers() -> Vec<Vec<u8>> {
    let base =
        Layer::default().folder("etc/").file("etc/passwd", "root").file("bin/tool", "tool").file("gone", "");
    let top = Layer::default().hard("copy", "bin/tool").file(".wh.gone", "").file("etc/new", "new");
    vec![base.bytes(), top.bytes()]
}

/// Counts up from the first step until one run comes to its end.
fn at_every_step(prepare: impl Fn(&Path), args: &[&str], after: impl Fn(&Path, u32)) -> u32 {
    for at in 1..200 {
        let folder = in_memory();
        let path = folder.path("store");
        prepare(&path);
        let out = image(&path, Some(at), args);
        if out.status.success() {
            after(&path, at);
            return at - 1;
        }
        assert_eq!(out.status.signal(), Some(9), "{at}: {out:?}");
        after(&path, at);
    }
    panic!("it never came to its end");
}

#[test]
fn an_import_killed_at_any_step_leaves_nothing_wrong_and_is_done_again() {
    let made = layout("localhost/app:1", &layers(), gzip);
    let (good, archive) = (in_memory(), Folder::new());
    let good_path = good.path("store");
    let from = made.folder.0.to_str().unwrap();
    assert!(image(&good_path, None, &["import", from]).status.success());
    let tar = archive.path("image.tar");
    let tar = tar.to_str().unwrap();
    assert!(image(&good_path, None, &["export", "localhost/app:1", "-o", tar]).status.success());
    for source in [from, tar] {
        let steps = at_every_step(
            |_| {},
            &["import", source],
            |path, at| {
                // Before the store was made there is nothing to look at.
                if path.join("oci-layout").exists() {
                    check(path, &good_path, &format!("{source} at {at}"));
                }
                let again = image(path, None, &["import", source]);
                assert!(again.status.success(), "{source} at {at}: {again:?}");
                check(path, &good_path, &format!("{source} again after {at}"));
                assert_eq!(tree(&path.join("layers")), tree(&good_path.join("layers")));
                assert_eq!(fs::read_dir(path.join("tmp")).unwrap().count(), 0, "{source} at {at}");
            },
        );
        assert!(steps > 20, "{steps} steps");
    }
}

#[test]
fn a_prune_killed_at_any_step_leaves_nothing_wrong() {
    let made = layout("localhost/app:1", &layers(), gzip);
    let other = layout("localhost/other:1", &layers()[..1], gzip);
    let good = in_memory();
    let good_path = good.path("store");
    let from = |layout: &crate::made::Layout| layout.folder.0.to_str().unwrap().to_owned();
    assert!(image(&good_path, None, &["import", &from(&made)]).status.success());
    let prepare = |path: &Path| {
        for layout in [&made, &other] {
            assert!(image(path, None, &["import", &from(layout)]).status.success());
        }
        assert!(image(path, None, &["rm", "localhost/app:1"]).status.success());
    };
    let steps = at_every_step(prepare, &["prune"], |path, at| {
        check(path, &good_path, &format!("at {at}"));
        assert!(image(path, None, &["prune"]).status.success());
        check(path, &good_path, &format!("again after {at}"));
        let count = |folder: &str| fs::read_dir(path.join(folder)).unwrap().count();
        assert_eq!((count("layers"), count("blobs/sha256"), count("tmp")), (1, 3, 0), "at {at}");
    });
    assert!(steps >= 4, "{steps} steps");
}

/// A file system of so many bytes, unmounted at the end.
pub struct Small(pub Folder);

impl Small {
    pub fn new(size: &str) -> Small {
        let folder = Folder::new();
        let small = Small(folder);
        small.mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
        small
    }

    pub fn mount(&self, options: &[&str]) {
        assert!(Command::new("mount").args(options).arg(&self.0.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0.0).status();
    }
}

#[test]
fn on_a_full_disk_it_says_so_and_goes_on_when_there_is_room() {
    if !need::root() {
        return;
    }
    let noise: String =
        (0..400_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).to_string()).collect();
    let made = layout("localhost/app:1", &[Layer::default().file("noise", &noise).bytes()], gzip);
    for size in ["1m", "4m", "5m"] {
        let disk = Small::new(size);
        let path = disk.0.path("store");
        let from = made.folder.0.to_str().unwrap();
        let out = image(&path, None, &["import", from]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            !out.status.success() && said.contains("No space left on device (make room there"),
            "{size}: {said}"
        );
        assert_eq!(fs::read_dir(path.join("layers")).unwrap().count(), 0);
        disk.mount(&["-o", "remount,size=64m"]);
        let again = image(&path, None, &["import", from]);
        assert!(again.status.success(), "{size}: {again:?}");
        assert_eq!(fs::read_dir(path.join("tmp")).unwrap().count(), 0);
    }
}

/// However large a layer is: the same address space, which is more than memory, does.
#[test]
fn a_layer_larger_than_the_memory_there_is_comes_in() {
    let mut state = 1u64;
    let noise: Vec<u8> = (0..40 << 20)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32).to_le_bytes()
        })
        .collect();
    let folder = in_memory();
    let layer =
        Layer::default().with(header(EntryType::Regular, "large", noise.len() as u64), &noise, |_| ());
    let made = layout("localhost/large:1", &[layer.bytes()], <[u8]>::to_vec);
    let store = folder.path("store");
    let limited = format!(
        "ulimit -v 250000; exec {} --progress none --store {} import {}",
        env!("CARGO_BIN_EXE_sampan-image"),
        store.display(),
        made.folder.0.display()
    );
    let out = Command::new("sh").args(["-c", &limited]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let store = Store::read(&store).unwrap();
    let layer = store.layers(&store.find("localhost/large:1").unwrap()).unwrap().remove(0);
    assert_eq!(fs::metadata(layer.join("large")).unwrap().len(), noise.len() as u64);
}
