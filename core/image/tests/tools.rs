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
