//! A root of layers: the annotations of a bundle, read-only, with an upper folder, scratch, in a user namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::sampan::{Root, run};

fn ready() -> bool {
    need::root() && need::busybox()
}

struct Image {
    bundle: Bundle,
    layers: Vec<PathBuf>,
}

/// Busybox below, and above it `more` layers: the highest hides /etc/passwd and has /etc/new.
fn image(name: &str, more: usize) -> Image {
    let bundle = Bundle::new(name).unwrap();
    let at = |n: usize| bundle.path().join(format!("layer{n}"));
    fs::rename(bundle.rootfs(), at(0)).unwrap();
    fs::create_dir(bundle.rootfs()).unwrap();
    for n in 1..=more {
        fs::create_dir_all(at(n).join("etc")).unwrap();
        fs::write(at(n).join("etc/new"), format!("{n}\n")).unwrap();
    }
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, at(more).join("etc/passwd"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let layers = (0..=more).map(at).collect();
    let mut image = Image { bundle, layers };
    image.annotate("org.sampan.rootfs.layers", &json!(image.layers).to_string());
    image
}

impl Image {
    fn annotate(&mut self, name: &str, value: &str) {
        let mut all = self.bundle.config.get("annotations").cloned().unwrap_or(json!({}));
        all[name] = json!(value);
        self.bundle.set("/annotations", all);
    }

    fn run(&mut self, script: &str) -> (i32, String, String) {
        self.bundle.script(script);
        self.bundle.write().unwrap();
        let path = self.bundle.path();
        let id = path.file_name().unwrap().to_str().unwrap().to_owned();
        run(&mut Root::new(&id).command(["run", "-b", path.to_str().unwrap(), &id]))
    }

    fn prints(&mut self, script: &str, expected: &str) {
        let (code, out, err) = self.run(script);
        assert_eq!((code, out.trim(), err.as_str()), (0, expected, ""));
        assert!(
            !fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains(self.bundle.path().to_str().unwrap())
        );
        assert_eq!(fs::read_dir(self.bundle.rootfs()).unwrap().count(), 0);
    }
}

#[test]
fn read_only_it_shows_the_highest_and_cannot_be_written_to() {
    if !ready() {
        return;
    }
    let mut image = image("layers-ro", 2);
    image.bundle.set("/root/readonly", json!(true));
    image.annotate("org.sampan.rootfs.mode", "ro");
    image.prints("cat /etc/new; ls /etc; touch /x 2>/dev/null || echo closed", "2\nnew\nclosed");
    // What is missing for a mount is made in memory, unless nothing may be made at all.
    let mut mounted = self::image("layers-ro-mount", 1);
    mounted.bundle.set("/root/readonly", json!(true));
    let mount = json!({ "destination": "/some/where", "type": "tmpfs", "source": "tmpfs" });
    mounted.bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    mounted.prints("touch /some/where/x && ls /some/where; touch /x 2>/dev/null || echo closed", "x\nclosed");
    assert!(mounted.layers.iter().all(|layer| !layer.join("some").exists()));
    // As many as an image may have.
    let mut many = self::image("layers-many", 200);
    many.bundle.set("/root/readonly", json!(true));
    many.prints("cat /etc/new", "200");
}

#[test]
fn what_is_written_stays_in_the_upper_folder_and_layers_are_as_they_were() {
    if !ready() {
        return;
    }
    let mut image = image("layers-rw", 1);
    let upper = image.bundle.path().join("kept");
    fs::create_dir_all(upper.join("upper")).unwrap();
    fs::create_dir_all(upper.join("work")).unwrap();
    image.bundle.set("/root/readonly", json!(false));
    image.annotate("org.sampan.rootfs.upper", upper.to_str().unwrap());
    image.prints("echo more >>/etc/new; cat /etc/new; echo x >/x", "1\nmore");
    image.prints("cat /etc/new /x", "1\nmore\nx");
    assert_eq!(fs::read_to_string(image.layers[1].join("etc/new")).unwrap(), "1\n");
}

#[test]
fn scratch_keeps_nothing() {
    if !ready() {
        return;
    }
    let mut image = image("layers-scratch", 1);
    image.bundle.set("/root/readonly", json!(false));
    image.annotate("org.sampan.rootfs.mode", "scratch");
    for _ in 0..2 {
        image.prints("echo more >>/etc/new; cat /etc/new; ls /etc; echo x >/x", "1\nmore\nnew");
    }
}

#[test]
fn in_a_user_namespace_roots_files_are_its_roots() {
    if !ready() || !need::no_user_namespace() {
        return;
    }
    for mode in ["ro", "rw", "scratch"] {
        let mut image = image(&format!("layers-userns-{mode}"), 1);
        image.bundle.user_namespace(100_000, 65536);
        image.bundle.set("/root/readonly", json!(mode == "ro"));
        if mode != "rw" {
            image.annotate("org.sampan.rootfs.mode", mode);
            image.prints("stat -c '%u %g' /etc/new /; cat /etc/new", "0 0\n0 0\n1");
            continue;
        }
        let upper = image.bundle.path().join("kept");
        fs::create_dir_all(upper.join("upper")).unwrap();
        fs::create_dir_all(upper.join("work")).unwrap();
        std::os::unix::fs::chown(upper.join("upper"), Some(100_000), Some(100_000)).unwrap();
        image.annotate("org.sampan.rootfs.upper", upper.to_str().unwrap());
        image.prints("echo more >>/etc/new; cat /etc/new; stat -c %u /etc/new; echo x >/x", "1\nmore\n0");
        // On disk with the host's ids.
        assert_eq!(fs::metadata(upper.join("upper/etc/new")).unwrap().uid(), 100_000);
    }
}

#[test]
fn what_makes_no_root_says_why() {
    let mut base = image("layers-wrong", 1);
    base.bundle.set("/root/readonly", json!(true));
    for (annotations, words) in [
        (json!({"org.sampan.rootfs.layers": "/a"}), "is no JSON array of paths"),
        (json!({"org.sampan.rootfs.layers": "[]"}), "has 0 layers"),
        (json!({"org.sampan.rootfs.layers": "[\"a\"]"}), "\"a\" is not an absolute path"),
        (json!({"org.sampan.rootfs.upper": "/a"}), "needs \"org.sampan.rootfs.layers\""),
        (
            json!({"org.sampan.rootfs.layers": "[\"/a\"]", "org.sampan.rootfs.upper": "/b"}),
            "root.readonly must be false",
        ),
        (
            json!({"org.sampan.rootfs.layers": "[\"/nonexistent\",\"/proc\"]"}),
            "cannot open the layer /nonexistent",
        ),
    ] {
        base.bundle.set("/annotations", annotations);
        let (code, _, err) = base.run("true");
        assert!(code == 1 && err.contains(words), "{err}");
    }
    base.bundle.set("/root/readonly", json!(false));
    base.bundle.set("/annotations", json!({"org.sampan.rootfs.layers": "[\"/a\"]"}));
    assert!(base.run("true").2.contains("must be true for a root of layers"));
}
