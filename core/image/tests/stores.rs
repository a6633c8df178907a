//! The store: names, digests, what is removed and what stays.

use std::fs;
use std::time::{Duration, Instant};

use sampan_image::store::{ChainId, Claim};
use sampan_image::{Digest, Store};

use crate::made::{Layer, TestStore, gzip, layout};

fn one(text: &str) -> Vec<u8> {
    Layer::default().file("file", text).bytes()
}

#[test]
fn an_image_is_found_by_name_digest_and_first_digits() {
    let store = TestStore::new();
    let made = layout("localhost/app:v1", &[one("a"), one("b")], gzip);
    let imported = store.import_as(&made.folder.0, None).unwrap();
    assert_eq!(imported[0].digest, made.manifest);
    let image = store.store.find("localhost/app:v1").unwrap();
    assert_eq!(image.document.config.command(), ["/bin/sh"]);
    assert_eq!(store.store.layers(&image).unwrap().len(), 2);
    let hex = made.manifest.hex();
    for text in [
        made.manifest.as_str(),
        &hex[..12],
        image.id().as_str(),
        &image.id().hex()[..8],
        &format!("localhost/app@{}", made.manifest),
    ] {
        assert_eq!(store.store.find(text).unwrap().digest, made.manifest, "{text}");
    }
    for text in ["app:v1", "localhost/app", "zz", &hex[..3]] {
        let said = store.store.find(text).unwrap_err().to_string();
        assert!(said.contains("there is no image"), "{said}");
    }
}

#[test]
fn a_name_moves_and_prune_removes_what_nothing_leads_to() {
    let store = TestStore::new();
    let first = layout("localhost/app:v1", &[one("base"), one("first")], gzip);
    let second = layout("localhost/app:v1", &[one("base"), one("second")], gzip);
    store.import_as(&first.folder.0, None).unwrap();
    store.import_as(&second.folder.0, None).unwrap();
    assert_eq!(store.store.find("localhost/app:v1").unwrap().digest, second.manifest);
    assert_eq!((store.count("layers"), store.count("blobs/sha256")), (3, 7));
    let alone = store.store.alone(Duration::ZERO).unwrap();
    // A container runs the first.
    let kept = store.store.prune(&alone, std::slice::from_ref(&first.manifest)).unwrap();
    assert_eq!((kept.layers, kept.blobs), (0, 0));
    let pruned = store.store.prune(&alone, &[]).unwrap();
    assert_eq!((pruned.layers, pruned.blobs), (1, 3));
    assert!(pruned.bytes > 0);
    assert_eq!(store.store.layers(&store.store.find("localhost/app:v1").unwrap()).unwrap().len(), 2);
    assert!(
        store.store.untag("localhost/app:v1").unwrap() && !store.store.untag("localhost/app:v1").unwrap()
    );
    assert_eq!(store.store.prune(&alone, &[]).unwrap().layers, 2);
    assert_eq!((store.count("layers"), store.count("blobs/sha256"), store.count("tmp")), (0, 0, 0));
}

/// `pull = "always"` moves a name on while the container of the older image runs.
#[test]
fn what_a_service_runs_is_not_pruned_whatever_its_name_means_now() {
    let store = TestStore::new();
    let first = layout("localhost/app:v1", &[one("base"), one("first")], gzip);
    let second = layout("localhost/app:v1", &[one("base"), one("second")], gzip);
    store.import_as(&first.folder.0, None).unwrap();
    let writer = store.store.writer().unwrap();
    store.store.note_use(&writer, "web", &first.manifest).unwrap();
    // Of a service whose image somebody took out of the store by hand.
    store.store.note_use(&writer, "gone", &second.manifest).unwrap();
    drop(writer);
    store.import_as(&second.folder.0, None).unwrap();
    store.store.forget_use("gone").unwrap();
    let prune = || store.store.prune(&store.store.alone(Duration::ZERO).unwrap(), &[]).unwrap().layers;
    assert_eq!((prune(), store.store.used_by("web")), (0, Some(first.manifest.clone())));
    let writer = store.store.writer().unwrap();
    store.store.note_use(&writer, "web", &second.manifest).unwrap();
    drop(writer);
    assert_eq!(prune(), 1);
}

#[test]
fn nothing_is_removed_while_somebody_adds() {
    let store = TestStore::new();
    let writer = store.store.writer().unwrap();
    let said = store.store.alone(Duration::from_millis(150)).unwrap_err().to_string();
    assert!(said.contains("is being pulled or imported"), "{said}");
    let _second = store.store.writer().unwrap();
    drop(writer);
}

#[test]
fn what_dead_writers_left_goes_with_the_next_that_is_alone() {
    let store = TestStore::new();
    for name in ["unpack-abc-1-0", "new-1-1", "old-1-1"] {
        fs::create_dir_all(store.store.path().join("tmp").join(name).join("x")).unwrap();
    }
    drop(store.store.writer().unwrap());
    assert!(store.rubbish().is_empty());
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn blobs_that_are_not_what_they_say_are_refused() {
    let damage: [(&str, Damage, &str); 3] = [
        ("another byte", |b| b[20] ^= 1, ""),
        ("a byte less", |b| b.truncate(b.len() - 1), "bytes, and the manifest says"),
        ("a byte more", |b| b.push(0), "bytes, and the manifest says"),
    ];
    for (what, change, words) in damage {
        let store = TestStore::new();
        let layer = one("text");
        let made = layout("test:1", std::slice::from_ref(&layer), gzip);
        let path = made.folder.path("blobs/sha256").join(Digest::of(&gzip(&layer)).hex());
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let said = store.import_as(&made.folder.0, None).unwrap_err().to_string();
        assert!(said.contains(words), "{what}: {said}");
        assert_eq!((store.count("layers"), store.store.names().unwrap().len()), (0, 0));
    }
    // The right bytes, but unpacked they are not what the config says.
    let store = TestStore::new();
    let made = layout("test:1", &[one("text")], |_| gzip(&one("other")));
    let said = store.import_as(&made.folder.0, None).unwrap_err().to_string();
    assert!(said.contains("the image's config says"), "{said}");
    assert_eq!(store.count("layers"), 0);
}

#[test]
fn a_half_of_an_earlier_try_is_gone_on_with_and_a_damaged_one_is_not_believed() {
    let layer =
        Layer::default().file("file", &(0..50_000).map(|n| n.to_string()).collect::<String>()).bytes();
    let packed = gzip(&layer);
    let digest = Digest::of(&packed);
    for damage in [false, true] {
        let mut store = TestStore::new();
        // What was unpacked in vain does not count.
        store.limits.bytes = layer.len() as u64 + 100;
        let mut half = packed[..packed.len() / 2].to_vec();
        if damage {
            half[1000] ^= 0x55;
        }
        fs::write(store.store.path().join(format!("tmp/blob-sha256-{}", digest.hex())), half).unwrap();
        let path = store.layers(std::slice::from_ref(&layer)).unwrap().remove(0);
        assert!(path.join("file").exists());
        let again = store.notes.0.lock().unwrap().iter().any(|note| note.contains("from the beginning"));
        assert_eq!(again, damage);
    }
}

#[test]
fn two_at_once_make_one() {
    let store = TestStore::new();
    let layers: Vec<_> = (0..12).map(|n| one(&n.to_string().repeat(50_000))).collect();
    let made = layout("test:1", &layers, gzip);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| store.import_as(&made.folder.0, None).unwrap());
        }
    });
    assert_eq!((store.count("layers"), store.count("blobs/sha256")), (12, 14));
    assert!(store.rubbish().is_empty(), "{:?}", store.rubbish());
    assert_eq!(store.store.layers(&store.store.find("test:1").unwrap()).unwrap().len(), 12);
}

#[test]
fn who_waits_for_the_layers_below_holds_no_blob_that_they_need() {
    let store = TestStore::new();
    // Of its folders the layers below are asked what they look like.
    let layer = Layer::default().file("on/the/way", "x").bytes();
    let made = layout("test:1", &[layer.clone(), layer.clone()], gzip);
    let chain = ChainId::of(&[Digest::of(&layer)]);
    let lowest = store.store.layer(&chain[0], &|| ()).unwrap();
    assert!(matches!(lowest, Claim::Ours(_)));
    std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel();
        let (store, made) = (&store, &made);
        scope.spawn(move || done.send(store.import_as(&made.folder.0, None)));
        // The upper one gets what both are made of, and has nothing to do then but wait.
        let end = Instant::now() + Duration::from_secs(20);
        while !store.store.has_blob(&Digest::of(&gzip(&layer))) {
            if Instant::now() > end {
                eprintln!("the blob is not there, and who waits holds it");
                std::process::exit(1);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(lowest);
        is_done.recv().unwrap().unwrap();
    });
    assert_eq!((store.count("layers"), store.count("blobs/sha256")), (2, 3));
}

#[test]
fn an_export_comes_in_again_from_a_pipe_packed_or_not() {
    let store = TestStore::new();
    let made = layout("localhost/app:v1", &[one("a"), one("b")], gzip);
    store.import_as(&made.folder.0, None).unwrap();
    let image = store.store.find("localhost/app:v1").unwrap();
    let mut archive = Vec::new();
    sampan_image::export::export(&store.store, &image, &mut archive).unwrap();
    for bytes in [archive.clone(), gzip(&archive)] {
        let other = TestStore::new();
        let folder = sampan_testkit::Folder::new();
        fs::write(folder.path("a.tar"), bytes).unwrap();
        let imported = other.import_as(&folder.path("a.tar"), None).unwrap();
        assert_eq!(
            (imported[0].digest.clone(), imported[0].names[0].as_str()),
            (made.manifest.clone(), "localhost/app:v1")
        );
        assert!(other.rubbish().is_empty());
    }
}

#[test]
fn a_store_is_closed_to_others_and_reading_makes_none() {
    use std::os::unix::fs::MetadataExt;
    let folder = sampan_testkit::Folder::new();
    let path = folder.path("a/store");
    assert!(Store::read(&path).unwrap_err().to_string().contains("there is no store of images"));
    assert!(!path.exists());
    Store::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    Store::read(&path).unwrap();
}

/// `nginx@sha256:..` is what a registry gave for that digest. An archive can say anything.
#[test]
fn a_name_with_a_digest_comes_from_a_registry_alone() {
    let pinned = format!("nginx@sha256:{}", "a".repeat(64));
    let layer = one("somebody else's");
    let config = serde_json::json!({"os": "linux", "rootfs": {"diff_ids": [Digest::of(&layer)]}}).to_string();
    let saved = |tags: &[&str]| {
        let manifest =
            serde_json::json!([{"Config": "config.json", "RepoTags": tags, "Layers": ["layer.tar"]}]);
        let layer = String::from_utf8(layer.clone()).unwrap();
        let archive = Layer::default().file("config.json", &config).file("layer.tar", &layer);
        sampan_testkit::Folder::new().with(
            "a.tar",
            &String::from_utf8(archive.file("manifest.json", &manifest.to_string()).bytes()).unwrap(),
        )
    };
    let oci = layout(&pinned, std::slice::from_ref(&layer), gzip);
    let docker = saved(&[&pinned]);
    for path in [oci.folder.0.clone(), docker.path("a.tar")] {
        let store = TestStore::new();
        let said = store.import_as(&path, None).unwrap_err().to_string();
        assert!(said.contains("--name NAME gives it one"), "{said}");
        let said = store.import_as(&path, Some(&pinned)).unwrap_err();
        assert!(said.to_string().contains("`sampan-image pull`"), "{said}");
        assert_eq!(said.kind(), sampan_image::Kind::Usage);
        assert!(store.store.find(&pinned).is_err() && store.store.names().unwrap().is_empty());
    }
    // A name that cannot be is told before an archive is read.
    let said = TestStore::new().import_as(std::path::Path::new("/dev/zero"), Some(&pinned)).unwrap_err();
    assert_eq!(said.kind(), sampan_image::Kind::Usage);
    // Its other names hold.
    let store = TestStore::new();
    let imported = store.import_as(&saved(&[&pinned, "app:1"]).path("a.tar"), None).unwrap();
    assert_eq!(imported[0].names, ["docker.io/library/app:1"]);
}
