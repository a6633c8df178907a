//! What layers are together: looked into, given places to mount on, mounted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use sampan_image::root::{Mode, Target, View, mount, mount_points, unmount};
use sampan_testkit::{Folder, need};
use tar::EntryType;

use crate::made::{Layer, TestStore, header, in_memory};

fn layers(store: &TestStore) -> Vec<PathBuf> {
    let base = Layer::default()
        .with(header(EntryType::Directory, "etc/", 0), &[], |h| h.set_mode(0o751))
        .file("etc/passwd", "old")
        .folder("run/")
        .link("var/run", "/run")
        .link("loop", "loop")
        .folder("hidden/")
        .file("hidden/x", "")
        .link("lib", "usr/lib")
        .file("usr/lib/a", "");
    let top = Layer::default()
        .file("etc/passwd", "new")
        .file(".wh.hidden", "")
        .folder("etc/conf/")
        .link("etc/link", "../var/run/../etc/passwd");
    store.layers(&[base.bytes(), top.bytes()]).unwrap()
}

#[test]
fn a_view_is_what_the_overlay_shows() {
    let store = TestStore::new();
    let view = View::new(&layers(&store));
    let read =
        |path: &str| view.read(Path::new(path), 100).unwrap().map(|text| String::from_utf8(text).unwrap());
    assert_eq!(read("/etc/passwd").as_deref(), Some("new"));
    assert_eq!(read("/etc/link").as_deref(), Some("new"));
    assert_eq!(read("/../../etc/passwd").as_deref(), Some("new"));
    assert_eq!((read("/hidden/x"), read("/etc"), read("/nowhere/at/all")), (None, None, None));
    let at = view.walk(Path::new("/var/run/app/sock")).unwrap();
    assert_eq!((at.path.as_path(), at.missing), (Path::new("run"), vec!["app".into(), "sock".into()]));
    assert!(view.walk(Path::new("/loop")).unwrap_err().to_string().contains("without end"));
    assert!(
        view.walk(Path::new("/etc/passwd/x")).unwrap_err().to_string().contains("/etc/passwd is no folder")
    );
}

#[test]
fn places_to_mount_on_are_made_where_the_image_has_none() {
    let store = TestStore::new();
    let layers = layers(&store);
    let top = in_memory();
    let folder = |path| Target { path: Path::new(path), is_folder: true };
    let file = |path| Target { path: Path::new(path), is_folder: false };
    let targets = [
        folder("/proc"),
        file("/etc/hosts"),
        file("/etc/passwd"),
        folder("/var/run/app"),
        folder("/run/app/x"),
        file("/lib/b"),
    ];
    mount_points(&top.0, &layers, &targets).unwrap();
    let at = |path: &str| fs::symlink_metadata(top.path(path));
    assert!(
        at("proc").unwrap().is_dir()
            && at("etc/hosts").unwrap().is_file()
            && at("run/app/x").unwrap().is_dir()
    );
    assert!(at("usr/lib/b").unwrap().is_file());
    // What is there is not covered, links least of all.
    assert!(at("etc/passwd").is_err() && at("var").is_err() && at("lib").is_err());
    assert_eq!(at("etc").unwrap().mode() & 0o7777, 0o751);
    let said = mount_points(&top.0, &layers, &[folder("/etc/passwd")]).unwrap_err().to_string();
    assert!(said.contains("it is a file, and a folder is mounted there"), "{said}");
}

#[test]
fn a_user_is_looked_up_in_the_image() {
    let store = TestStore::new();
    let layer = Layer::default()
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:34:::\nbroken\n")
        .file("etc/group", "root:x:0:\nlogs:x:4:mail,web\nteam:x:50:\n");
    let view = View::new(&[store.layer(layer).unwrap()]);
    for (text, uid, gid, groups) in [
        ("", 0, 0, vec![]),
        ("web", 33, 34, vec![4]),
        ("33", 33, 34, vec![4]),
        ("web:team", 33, 50, vec![]),
        ("web:7", 33, 7, vec![]),
        ("1000", 1000, 0, vec![]),
        ("1000:1001", 1000, 1001, vec![]),
    ] {
        let found = view.user(text).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (uid, gid, groups), "{text}");
    }
    assert!(view.user("nobody").unwrap_err().to_string().contains("no user nobody in its /etc/passwd"));
    assert!(view.user("web:nobody").unwrap_err().to_string().contains("no group nobody in its /etc/group"));
}

struct Mounted(Folder);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0.0);
    }
}

/// A stranger's setuid programs and devices do nothing for this host's users.
fn closed(place: &Mounted) {
    let flags = rustix::fs::statvfs(&place.0.0).unwrap().f_flag;
    assert!(flags.contains(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV), "{flags:?}");
}

#[test]
fn an_image_is_mounted_by_hand_in_each_mode() {
    if !need::root() {
        return;
    }
    let store = TestStore::new();
    let layers = layers(&store);
    let upper = in_memory();
    for (mode, writes) in
        [(Mode::ReadOnly, false), (Mode::Scratch, true), (Mode::Writable(upper.0.clone()), true)]
    {
        let place = Mounted(Folder::new());
        mount(&layers, &mode, &place.0.0).unwrap();
        assert_eq!(fs::read_to_string(place.0.path("etc/passwd")).unwrap(), "new");
        assert!(!place.0.path("hidden").exists() && place.0.path("lib/a").exists());
        assert_eq!(fs::metadata(place.0.path("etc")).unwrap().mode() & 0o7777, 0o751);
        assert_eq!(fs::write(place.0.path("x"), "x").is_ok(), writes, "{mode:?}");
        closed(&place);
        unmount(&place.0.0).unwrap();
        assert_eq!(fs::read_dir(&place.0.0).unwrap().count(), 0);
    }
    assert!(upper.path("upper/x").exists());
    // One layer is no overlay.
    let place = Mounted(Folder::new());
    mount(&layers[..1], &Mode::ReadOnly, &place.0.0).unwrap();
    assert!(fs::write(place.0.path("x"), "x").is_err() && place.0.path("hidden/x").exists());
    closed(&place);
}
