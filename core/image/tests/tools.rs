//! Archives of others, and ours for others: skopeo writes and reads as docker and podman do.

use std::path::Path;
use std::process::Command;

use sampan_testkit::{Folder, need};

use crate::made::{Layer, TestStore, gzip, layout};

fn skopeo(from: &str, to: &str) {
    let out = Command::new("skopeo").args(["copy", "--insecure-policy", from, to]).output().unwrap();
    assert!(out.status.success(), "{from} {to}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn archives_of_docker_and_podman_come_in_and_ours_go_out() {
    if !need::program("skopeo") {
        return;
    }
    let layers = [Layer::default().file("a", "1").bytes(), Layer::default().file("b", "2").bytes()];
    let made = layout("x:1", &layers, gzip);
    let folder = Folder::new();
    let at = |name: &str| folder.path(name).display().to_string();
    for kind in ["docker-archive", "oci-archive", "oci"] {
        let path = at(kind);
        skopeo(&format!("oci:{}:x:1", made.folder.0.display()), &format!("{kind}:{path}:localhost/app:1"));
        let store = TestStore::new();
        let imported = store.import_as(Path::new(&path), None).unwrap();
        assert_eq!(imported[0].names, ["localhost/app:1"], "{kind}");
        let image = store.store.find("localhost/app:1").unwrap();
        let unpacked = store.store.layers(&image).unwrap();
        assert!(unpacked[0].join("a").exists() && unpacked[1].join("b").exists(), "{kind}");
        assert!(store.rubbish().is_empty(), "{kind}: {:?}", store.rubbish());
        let out = at(&format!("{kind}.out"));
        let file = std::fs::File::create(&out).unwrap();
        sampan_image::export::export(&store.store, &image, file).unwrap();
        for (reader, name) in [("docker-archive", ""), ("oci-archive", ":localhost/app:1")] {
            skopeo(&format!("{reader}:{out}{name}"), &format!("dir:{}", at(&format!("{kind}.{reader}"))));
        }
    }
}

/// What buildah makes of nothing, in the three forms in which it hands images on, and its own store of blobs in none.
#[test]
fn images_that_buildah_builds_come_in() {
    if !need::root() || !need::program("buildah") {
        return;
    }
    let folder = Folder::new().with("hello", "hello\n").with("second", "second\n");
    let at = |name: &str| folder.path(name).display().to_string();
    let buildah = |args: &[&str]| {
        let out = Command::new("buildah")
            .args(["--root", &at("root"), "--runroot", &at("runroot"), "--storage-driver", "vfs"])
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "buildah {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let first = buildah(&["from", "scratch"]);
    buildah(&["copy", &first, &at("hello"), "/etc/hello"]);
    buildah(&["config", "--cmd", "/bin/tool", "--user", "7:8", "--env", "A=b c", &first]);
    buildah(&["commit", &first, "localhost/base:1"]);
    let second = buildah(&["from", "--pull-never", "localhost/base:1"]);
    buildah(&["copy", &second, &at("second"), "/etc/second"]);
    buildah(&["commit", &second, "localhost/app:1"]);
    for (kind, format) in [("docker-archive", "v2s2"), ("oci-archive", "oci"), ("oci", "oci")] {
        let path = at(kind);
        buildah(&["push", "--format", format, "localhost/app:1", &format!("{kind}:{path}:localhost/app:1")]);
        let store = TestStore::new();
        store.import_as(Path::new(&path), None).unwrap();
        let image = store.store.find("localhost/app:1").unwrap();
        let layers = store.store.layers(&image).unwrap();
        assert!(layers[0].join("etc/hello").exists() && layers[1].join("etc/second").exists(), "{kind}");
        let config = &image.document.config;
        assert_eq!((config.command(), config.user.as_str()), (vec!["/bin/tool".to_owned()], "7:8"), "{kind}");
    }
    buildah(&["rm", "--all"]);
}
