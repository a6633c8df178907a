//! Hostile and odd layers: what becomes of each.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sampan_testkit::need;
use tar::EntryType;

use crate::made::{Layer, TestStore, gzip, header};

/// Refused, with these words, and nothing of it stays.
fn refused(what: &str, layers: Vec<Layer>, words: &str) {
    let store = TestStore::new();
    let layers: Vec<_> = layers.into_iter().map(Layer::bytes).collect();
    let said = store.layers(&layers).unwrap_err().to_string();
    assert!(said.contains(words), "{what}: {said}");
    assert!(store.store.find("test:1").is_err(), "{what}: it has a name");
    let left: Vec<_> = store.rubbish().into_iter().filter(|name| !name.starts_with("blob-")).collect();
    assert!(left.is_empty(), "{what}: {left:?}");
}

fn new() -> Layer {
    Layer::default()
}

#[test]
fn what_leads_out_of_the_layer_or_means_nothing_refuses_it() {
    let outside = std::env::temp_dir().join("sampan-image-outside");
    let out = outside.to_str().unwrap();
    for (what, layer, words) in [
        ("dots", new().file("../x", ""), "../x: its name leads out"),
        ("dots inside", new().file("a/../../x", ""), "leads out"),
        ("absolute dots", new().file("/../x", ""), "leads out"),
        ("a hard link out", new().hard("x", "../../etc/passwd"), "leads out"),
        (
            "a hard link to the host",
            new().hard("x", "/etc/passwd"),
            "hard link to /etc/passwd, which is not in the layer",
        ),
        ("below a link that leads nowhere", new().link("etc", out).file("etc/x", ""), "etc is no folder"),
        ("below a link to itself", new().link("a", "a").file("a/x", ""), "a is no folder"),
        ("below a file", new().file("a", "").file("a/x", ""), "a is no folder"),
        ("a hard link to a folder", new().folder("a/").hard("b", "a"), "hard link to a folder"),
        ("a hard link to the root", new().hard("b", "."), "layer's root"),
        ("the root a file", new().file("./", "x").file(".", "x"), "root must be a folder"),
        ("an empty link", new().link("a", ""), "leads nowhere"),
        ("an unknown kind", new().member(header(EntryType::new(b'Q'), "a", 0), &[]), "type 'Q'"),
        (
            "a size of nonsense",
            new().pax(&[("size", b"9223372036854775808")]).file("a", ""),
            "beyond all bounds",
        ),
        ("a size beyond the end", new().pax(&[("size", b"1000000")]).file("a", "x"), "ends in the middle"),
        (
            "a uid of nonsense",
            new().pax(&[("uid", b"4294967296")]).file("a", ""),
            "uid 4294967296 is too large",
        ),
        ("a NUL", new().pax(&[("path", b"a\0b")]).file("a", ""), "NUL"),
        ("records of nonsense", new().member(header(EntryType::XHeader, "p", 4), b"99 x"), "cannot be read"),
        (
            "endless records",
            new().with(header(EntryType::XHeader, "p", 2 << 20), &vec![b' '; 2 << 20], |_| ()),
            "PAX records of 2097152 bytes",
        ),
        ("an endless name", new().pax(&[("path", &[b'a'; 5000])]).file("a", ""), "more than 4,095 bytes"),
        ("a long part", new().pax(&[("path", &[b'a'; 300])]).file("a", ""), "longer than 255"),
    ] {
        refused(what, vec![layer], words);
    }
    let whiteouts = [".wh.", ".wh..", ".wh..."];
    for name in whiteouts {
        refused(name, vec![new().file("a", ""), new().file(name, "")], "whiteout of nothing");
    }
    let below = vec![new().file("a", ""), new().file(".wh.a", ""), new().hard("b", "a")];
    refused("a hard link to what is hidden", below, "which no layer has");
    assert!(!outside.exists());
}

#[test]
fn archives_that_are_none_are_refused() {
    let noise: Vec<u8> = (0..2048u32).map(|n| (n * 7 % 251) as u8).collect();
    for (what, bytes, words) in [
        ("noise", noise, "checksum"),
        ("cut off", new().file("a", &"x".repeat(2000)).bytes()[..1024].to_vec(), "ends in the middle"),
        ("half a header", vec![1; 100], "middle of a header"),
        ("xz", b"\xfd7zXZ\0rest".to_vec(), "packed with xz"),
        ("bzip2", b"BZh9rest".to_vec(), "packed with bzip2"),
    ] {
        let store = TestStore::new();
        let layout = crate::made::layout("test:1", &[bytes], <[u8]>::to_vec);
        let said = store.import_as(&layout.folder.0, None).unwrap_err().to_string();
        assert!(said.contains(words), "{what}: {said}");
    }
    // Cut off within what packs it.
    let store = TestStore::new();
    let layout = crate::made::layout("test:1", &[new().file("a", "x").bytes()], |b| {
        let mut packed = gzip(b);
        packed.truncate(packed.len() - 9);
        packed
    });
    assert!(store.import_as(&layout.folder.0, None).is_err());
}

#[test]
fn links_are_made_as_they_are_and_lookups_stay_in_the_layer() {
    let store = TestStore::new();
    let layer = new()
        .link("host", "/etc")
        .link("up", "../../../../etc/passwd")
        .folder("etc/")
        .file("host/inside", "in the layer\n")
        .file("/absolute", "a")
        .file("a/b/c/deep", "d");
    let path = store.layer(layer).unwrap();
    assert_eq!(fs::read_link(path.join("host")).unwrap(), Path::new("/etc"));
    assert_eq!(fs::read_link(path.join("up")).unwrap(), Path::new("../../../../etc/passwd"));
    assert_eq!(fs::read_to_string(path.join("etc/inside")).unwrap(), "in the layer\n");
    assert!(!Path::new("/etc/inside").exists());
    assert_eq!(fs::read_to_string(path.join("absolute")).unwrap(), "a");
    assert_eq!(fs::metadata(path.join("a/b")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_member_takes_the_place_of_an_earlier_one() {
    let store = TestStore::new();
    let layer = new()
        .folder("etc/")
        .file("etc/x", "old")
        .link("etc", "/outside")
        .folder("etc/")
        .file("etc/y", "new")
        .file("a", "first")
        .hard("b", "a")
        .file("a", "second")
        .folder("deep/")
        .file("deep/x/y/z", "")
        .file("deep", "flat");
    let path = store.layer(layer).unwrap();
    assert!(!path.join("etc/x").exists() && path.join("etc/y").exists());
    // What a hard link leads to is not written through it.
    assert_eq!(fs::read_to_string(path.join("b")).unwrap(), "first");
    assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "second");
    assert_eq!(fs::read_to_string(path.join("deep")).unwrap(), "flat");
}

#[test]
fn owner_mode_time_and_capabilities_are_kept() {
    if !need::root() {
        return;
    }
    let store = TestStore::new();
    let cap: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = new()
        .with(header(EntryType::Regular, "su", 0), &[], |h| {
            h.set_mode(0o4755);
            h.set_uid(7);
            h.set_gid(8);
        })
        .pax(&[
            ("SCHILY.xattr.security.capability", cap),
            ("SCHILY.xattr.user.note", b"x"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("mtime", b"1500000000.25"),
        ])
        .file("ping", "")
        .folder("tmp/")
        .file("tmp/x", "")
        .with(header(EntryType::Directory, "tmp/", 0), &[], |h| h.set_mode(0o1777))
        .file("tmp/y", "");
    let path = store.layer(layer).unwrap();
    let su = fs::metadata(path.join("su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()), (0o4755, 7, 8, 1_000_000_000));
    let ping = path.join("ping");
    assert_eq!(fs::metadata(&ping).unwrap().mtime_nsec(), 250_000_000);
    let xattr = |name: &str| {
        let mut value = [0; 64];
        rustix::fs::getxattr(&ping, name, &mut value).map(|n| value[..n].to_vec())
    };
    assert_eq!(xattr("security.capability").unwrap(), cap);
    assert_eq!(xattr("user.note").unwrap(), b"x");
    assert!(xattr("trusted.overlay.opaque").is_err() && xattr("user.overlay.redirect").is_err());
    assert!(store.notes.0.lock().unwrap().iter().any(|n| n.contains("2 extended attributes left out")));
    // A folder's time is its own, whatever was put into it since.
    let tmp = fs::metadata(path.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 1_000_000_000));
}

#[test]
fn devices_are_left_out_and_told() {
    let store = TestStore::new();
    let layer = new()
        .with(header(EntryType::Block, "sda", 0), &[], |h| {
            h.set_device_major(8).unwrap();
            h.set_device_minor(0).unwrap();
        })
        .with(header(EntryType::Char, "whiteout", 0), &[], |_| ())
        .member(header(EntryType::Fifo, "pipe", 0), &[])
        .file("x", "");
    let path = store.layer(layer).unwrap();
    assert!(!path.join("sda").exists() && !path.join("whiteout").exists() && path.join("x").exists());
    assert!(fs::metadata(path.join("pipe")).unwrap().file_type().is_fifo());
    assert!(store.notes.0.lock().unwrap().iter().any(|n| n.contains("2 devices left out")));
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    rustix::fs::getxattr(path, "user.overlay.opaque", &mut [0u8; 4]).is_ok()
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_of_their_own_layer() {
    let store = TestStore::new();
    let below = new().folder("d/").file("d/old", "").file("gone", "").folder("again/").file("again/old", "");
    let above = new()
        .file(".wh.gone", "")
        .folder("d/")
        .file("d/.wh..wh..opq", "")
        .file("d/new", "")
        .file("kept", "mine")
        .file(".wh.kept", "")
        .file(".wh.again", "")
        .folder("again/")
        .file(".wh.file", "")
        .file("file", "back")
        .file(".wh.implied", "")
        .file("implied/x", "")
        .file(".wh..wh.plnk", "");
    let paths = store.layers(&[below.bytes(), above.bytes()]).unwrap();
    let top = &paths[1];
    assert!(is_whiteout(&top.join("gone")) && is_opaque(&top.join("d")) && top.join("d/new").exists());
    assert_eq!(fs::read_to_string(top.join("kept")).unwrap(), "mine");
    assert!(is_opaque(&top.join("again")) && is_opaque(&top.join("implied")));
    assert_eq!(fs::read_to_string(top.join("file")).unwrap(), "back");
    assert_eq!(fs::read_dir(top).unwrap().count(), 6);
    // There is nothing below the lowest.
    let lowest = store.layers(&[new().file(".wh.x", "").file("y", "").bytes()]).unwrap();
    assert!(!is_whiteout(&lowest[0].join("x")));
}

#[test]
fn hard_links_to_lower_layers_are_copies_and_folders_on_the_way_look_as_below() {
    let store = TestStore::new();
    let lowest = new().with(header(EntryType::Regular, "bin/tool", 4), b"tool", |h| h.set_mode(0o4711)).with(
        header(EntryType::Directory, "tmp/", 0),
        &[],
        |h| h.set_mode(0o1777),
    );
    let middle = new().file("other", "").link("ln", "bin/tool");
    let top = new().hard("copy", "bin/tool").hard("copy2", "copy").hard("ln2", "ln").file("tmp/x", "");
    let paths = store.layers(&[lowest.bytes(), middle.bytes(), top.bytes()]).unwrap();
    let copy = fs::metadata(paths[2].join("copy")).unwrap();
    assert_eq!((copy.mode() & 0o7777, copy.size(), copy.nlink()), (0o4711, 4, 2));
    assert_eq!(fs::read_link(paths[2].join("ln2")).unwrap(), Path::new("bin/tool"));
    let tmp = fs::metadata(paths[2].join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 1_000_000_000));
}

#[test]
fn what_waits_for_the_layers_below_is_bounded_in_bytes_too() {
    let refused = |links: usize| {
        let store = TestStore::new();
        let part = |letter: &str| vec![letter.repeat(250); 8].join("/");
        let target = part("t");
        let mut top = new();
        for link in 0..links {
            let path = format!("{}/{link}", part("p"));
            top =
                top.pax(&[("path", path.as_bytes()), ("linkpath", target.as_bytes())]).hard("short", "short");
        }
        store.layers(&[new().file("x", "").bytes(), top.bytes()]).unwrap_err().to_string()
    };
    // 4 KB each: some are refused since there is no such file below, more before that is looked at.
    let (few, many) = (refused(10), refused(5_000));
    assert!(!few.contains("too many"), "{few}");
    assert!(many.contains("too many of its hard links and folders"), "{many}");
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let store = TestStore::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let target = "t".repeat(300);
    let gnu = format!("{long}-gnu\0");
    let layer = new()
        .pax(&[("path", long.as_bytes())])
        .file("short", "pax")
        .member(header(EntryType::GNULongName, "././@LongLink", gnu.len() as u64), gnu.as_bytes())
        .file("short", "gnu")
        .pax(&[("linkpath", target.as_bytes())])
        .link("ln", "short");
    let path = store.layer(layer).unwrap();
    assert_eq!(fs::read_to_string(path.join(&long)).unwrap(), "pax");
    assert_eq!(fs::read_to_string(path.join(format!("{long}-gnu"))).unwrap(), "gnu");
    assert_eq!(fs::read_link(path.join("ln")).unwrap(), Path::new(&target));
}

#[test]
fn files_with_holes_keep_them() {
    let folder = sampan_testkit::Folder::new();
    let file = folder.path("f");
    let f = fs::File::create(&file).unwrap();
    use std::os::unix::fs::FileExt;
    for at in 0..9u64 {
        f.write_all_at(format!("piece {at}").as_bytes(), at << 20).unwrap();
    }
    f.set_len(64 << 20).unwrap();
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for format in formats {
        let mut tar = std::process::Command::new("tar");
        let out =
            tar.args(format).args(["-cS", "-C"]).arg(&folder.0).args(["-f", "-", "f"]).output().unwrap();
        assert!(out.status.success() && out.stdout.len() < 1 << 20);
        let store = TestStore::new();
        let path = store.layers(&[out.stdout]).unwrap().remove(0).join("f");
        assert_eq!(fs::read(&path).unwrap(), fs::read(&file).unwrap(), "{format:?}");
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20, "{format:?}");
    }
    for (map, words) in [
        ("0,4,2,4", "goes back"),
        ("0,99", "another size"),
        ("18446744073709551615,8", "beyond all bounds"),
        ("0,x", "cannot be read"),
        ("0", "odd"),
    ] {
        let layer = new()
            .pax(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"100")])
            .file("f", "12345678");
        refused(map, vec![layer], words);
    }
}

#[test]
fn bombs_are_refused_before_the_disk_is_full() {
    let mut store = TestStore::new();
    store.limits = sampan_image::Limits { bytes: 1 << 20, entries: 10, ..store.limits };
    let large = new().file("a", &"x".repeat(700 << 10)).file("b", &"x".repeat(700 << 10));
    let said = store.layer(large).unwrap_err().to_string();
    assert!(said.contains("--max-size"), "{said}");
    let many = (0..11).fold(new(), |layer, n| layer.file(&n.to_string(), ""));
    assert!(store.layer(many).unwrap_err().to_string().contains("more than 10 files"));
    // A hole is no data.
    let layer =
        new().pax(&[("GNU.sparse.map", &b"0,1"[..]), ("GNU.sparse.size", b"1000000000")]).file("f", "x");
    store.layer(layer).unwrap();
}

/// A blob that is listed many times is unpacked many times.
#[test]
fn layers_that_are_small_by_themselves_are_refused_together() {
    let mut store = TestStore::new();
    store.limits.bytes = 1 << 20;
    let one = || new().file("a", &"x".repeat(100 << 10)).bytes();
    store.layers(&vec![one(); 9]).unwrap();
    let said =
        store.layers(&vec![new().file("b", &"x".repeat(100 << 10)).bytes(); 30]).unwrap_err().to_string();
    assert!(said.contains("the image is refused") && said.contains("--max-size"), "{said}");
    assert!(store.count("layers") < 20);
    let mut store = TestStore::new();
    store.limits.entries = 10;
    store.layers(&vec![new().file("a", "").bytes(); 10]).unwrap();
    let said = store.layers(&vec![new().file("b", "").bytes(); 11]).unwrap_err().to_string();
    assert!(said.contains("the image is refused") && said.contains("--max-entries"), "{said}");
}

#[test]
fn a_copy_of_what_is_below_costs_its_data_and_keeps_its_holes() {
    let mut store = TestStore::new();
    store.limits.bytes = 1 << 20;
    // Data in the middle and at the end of a hole, and none at all.
    let holes = |map: &[u8], size: &[u8], name: &str, data: &str| {
        new().pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", size)]).file(name, data)
    };
    for (map, size, data) in [
        ("100000000,4,299999999,1", "300000000", "text."),
        ("0,1", "300000000", "x"),
        ("0,0", "300000000", ""),
    ] {
        let below = holes(map.as_bytes(), size.as_bytes(), "a", data).bytes();
        let layers = store.layers(&[below, new().hard("b", "a").bytes()]).unwrap();
        let (old, new) = (layers[0].join("a"), layers[1].join("b"));
        let copy = fs::metadata(&new).unwrap();
        assert_eq!(copy.len(), 300_000_000);
        assert!(copy.blocks() * 512 < 1 << 20, "{map}: {} blocks", copy.blocks());
        let cmp = std::process::Command::new("cmp").args([old, new]).status().unwrap();
        assert!(cmp.success(), "{map}");
    }
    let below = new().file("a", &"x".repeat(300 << 10)).bytes();
    store.layers(&[below.clone(), new().hard("b", "a").hard("c", "a").bytes()]).unwrap();
    let often = new().hard("d", "a").hard("e", "a").hard("f", "a").hard("g", "a");
    let said = store.layers(&[below, often.bytes()]).unwrap_err().to_string();
    assert!(said.contains("--max-size"), "{said}");
}

#[test]
fn what_unpacks_to_more_than_so_many_times_its_size_is_refused() {
    let mut store = TestStore::new();
    store.limits.ratio = 100;
    let zeros = vec![0; 300 << 20];
    let layer = new().with(header(EntryType::Regular, "zeros", zeros.len() as u64), &zeros, |_| ());
    let said = store.layer(layer).unwrap_err().to_string();
    assert!(said.contains("more than 100 times its size (if that is meant: --max-ratio)"), "{said}");
}

#[test]
fn a_hundred_thousand_files_take_a_moment() {
    let store = TestStore::new();
    let layer = (0..100_000).fold(new(), |layer, n| layer.file(&format!("{}/{n}", n % 100), "x"));
    let path = store.layer(layer).unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 100);
    assert!(path.join("99/99999").exists());
}

type Pack<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

#[test]
fn gzip_in_pieces_zstd_and_plain_are_read() {
    let layer = new().file("a", &"text".repeat(10_000)).bytes();
    let pieces = |bytes: &[u8]| bytes.chunks(10_000).flat_map(gzip).collect::<Vec<u8>>();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let packs: [Pack<'_>; 3] = [&pieces, &zstd, &|bytes| bytes.to_vec()];
    for pack in packs {
        let store = TestStore::new();
        let layout = crate::made::layout("test:1", std::slice::from_ref(&layer), pack);
        store.import_as(&layout.folder.0, None).unwrap();
        let image = store.store.find("test:1").unwrap();
        assert!(store.store.layers(&image).unwrap()[0].join("a").exists());
    }
}
