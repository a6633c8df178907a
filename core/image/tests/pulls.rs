//! Whole programs that pull from Debian's docker-registry: killed at any moment, several at once, on a full disk.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sampan_testkit::{Folder, need};

use crate::crashes::{Small, check, image, tree};
use crate::made::{Layer, gzip, in_memory, layout};
use crate::registry::{Registry, ready};

/// That no packing makes smaller.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Three layers: many small files, much data, and what hides some of both.
fn layers() -> Vec<Vec<u8>> {
    let many = (0..150).fold(Layer::default().folder("etc/"), |layer, n| {
        layer.file(&format!("etc/{n}"), &n.to_string()).hard(&format!("etc/{n}.copy"), &format!("etc/{n}"))
    });
    let large = (0..4).fold(Layer::default().folder("srv/"), |layer, n| {
        let data = noise(n, 1 << 20);
        let header = crate::made::header(tar::EntryType::Regular, &format!("srv/{n}"), data.len() as u64);
        layer.member(header, &data)
    });
    let top = Layer::default().file("srv/.wh.1", "").folder("etc/").file("etc/.wh..wh..opq", "");
    vec![many.bytes(), large.bytes(), top.bytes()]
}

struct Place {
    registry: Registry,
    name: String,
    /// A store with the image, pulled undisturbed.
    good: Folder,
    took: Duration,
}

impl Place {
    fn new() -> Option<Place> {
        if !ready() {
            return None;
        }
        let registry = Registry::new(false, false);
        registry.push_made(&layout("x:1", &layers(), gzip), "app:1");
        let (name, good) = (format!("{}/app:1", registry.host), in_memory());
        let begun = Instant::now();
        let out = image(&good.path("store"), None, &["pull", &name]);
        assert!(out.status.success(), "{out:?}");
        Some(Place { took: begun.elapsed(), registry, name, good })
    }

    fn good(&self) -> std::path::PathBuf {
        self.good.path("store")
    }

    /// The image is in the store as in the good one, and nothing half-made is.
    fn whole(&self, path: &Path, what: &str) {
        check(path, &self.good(), what);
        assert_eq!(tree(&path.join("layers")), tree(&self.good().join("layers")), "{what}");
        assert_eq!(fs::read_dir(path.join("tmp")).unwrap().count(), 0, "{what}");
        let shown = image(path, None, &["inspect", &self.name]);
        assert!(shown.status.success(), "{what}: {shown:?}");
    }
}

fn begin(store: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sampan-image"));
    command
        .args(["--progress", "none", "--store"])
        .arg(store)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Somewhere in the time that an undisturbed pull took, and rather in its first half: the next one may be faster.
fn moment(took: Duration) -> Duration {
    took.mul_f64(((RandomState::new().hash_one(0) % 1000) as f64 / 1000.0).powi(2))
}

#[test]
fn a_pull_killed_at_any_moment_leaves_nothing_wrong_and_the_next_one_goes_on() {
    let Some(place) = Place::new() else { return };
    // Half of them begin from nothing; the others go on in one store until one of them comes to its end.
    let mut kept = in_memory();
    let (mut killed, mut ended) = (0, 0);
    for round in 0..200 {
        let fresh = in_memory();
        let path = if round % 2 == 0 { fresh.path("store") } else { kept.path("store") };
        let mut pull = begin(&path, &["pull", &place.name]);
        let after = moment(place.took);
        std::thread::sleep(after);
        let _ = pull.kill();
        let was_killed = !pull.wait().unwrap().success();
        let what = format!("round {round}, killed after {after:?} of {:?}", place.took);
        if path.join("oci-layout").exists() {
            check(&path, &place.good(), &what);
        }
        if round % 2 == 0 {
            let again = image(&path, None, &["pull", &place.name]);
            assert!(again.status.success(), "{what}: {again:?}");
            place.whole(&path, &what);
        } else if !was_killed {
            place.whole(&path, &what);
            kept = in_memory();
        }
        if was_killed {
            killed += 1
        } else {
            ended += 1
        }
        if killed >= 30 {
            let last = image(&kept.path("store"), None, &["pull", &place.name]);
            assert!(last.status.success(), "{last:?}");
            return place.whole(&kept.path("store"), "after all");
        }
    }
    panic!("{ended} of 200 came to their end before they were killed");
}

#[test]
fn processes_that_want_one_image_at_once_all_have_it() {
    let Some(place) = Place::new() else { return };
    let folder = in_memory();
    let archive = folder.path("image.tar").display().to_string();
    let out = image(&place.good(), None, &["export", &place.name, "-o", &archive]);
    assert!(out.status.success(), "{out:?}");
    for (round, args) in [["import", &archive], ["pull", &place.name]].iter().cycle().take(6).enumerate() {
        let path = folder.path(&format!("store{round}"));
        let all: Vec<_> = (0..3).map(|_| begin(&path, args)).collect();
        for one in all {
            let out = one.wait_with_output().unwrap();
            assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
        place.whole(&path, &format!("{args:?}"));
    }
    // One of two is killed: the other one does not need it.
    for round in 0..10 {
        let path = folder.path(&format!("killed{round}"));
        let (mut first, second) =
            (begin(&path, &["pull", &place.name]), begin(&path, &["pull", &place.name]));
        let after = moment(place.took);
        std::thread::sleep(after);
        let _ = first.kill();
        let _ = first.wait();
        let out = second.wait_with_output().unwrap();
        let what = format!("the first killed after {after:?} of {:?}", place.took);
        assert!(out.status.success(), "{what}: {}", String::from_utf8_lossy(&out.stderr));
        check(&path, &place.good(), &what);
        assert_eq!(tree(&path.join("layers")), tree(&place.good().join("layers")), "{what}");
    }
}

#[test]
fn a_pull_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let Some(place) = Place::new() else { return };
    if !need::root() {
        return;
    }
    // Too small for what is packed, for both, and for all but the last layer's folder.
    for size in ["1m", "5m", "8m"] {
        let disk = Small::new(size);
        let path = disk.0.path("store");
        let out = image(&path, None, &["pull", &place.name]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(1) && said.contains("No space left on device (make room there"),
            "{size}: {said}"
        );
        check(&path, &place.good(), size);
        disk.mount(&["-o", "remount,size=64m"]);
        let again = image(&path, None, &["pull", &place.name]);
        assert!(again.status.success(), "{size}: {again:?}");
        place.whole(&path, size);
    }
    drop(place.registry);
}
