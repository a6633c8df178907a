//! New volumes begin with what the image has: what is the same, what an image's author cannot have, what a kill leaves.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use rustix::fs::{CWD, Timespec, Timestamps, XattrFlags, lgetxattr, lsetxattr, utimensat};
use sampan_bundle as bundle;
use sampan_image::import::Import;
use sampan_image::progress::Silent;
use sampan_image::{Limits, Platform, Store};
use sampan_testkit::{Folder, need};
use serde_json::{Value, json};

fn ready() -> bool {
    need::root()
}

/// A service `web` of the image `app`, whose root is `root`.
fn folder(keys: &str) -> Folder {
    Folder::new()
        .with("config.toml", &format!("[supervisor]\nstate_dir = \"./var\"\n[services.web]\nimage = \"app\"\ncommand = [\"x\"]\n{keys}\n"))
        .with("root/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .with("root/data/file", "of the image")
        .with("root/data/sub/one", "1")
}

fn import(folder: &Folder, config: &Value) {
    let layers = [folder.path("root"), folder.path("high")];
    let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).filter(|path| path.exists()).collect();
    let archive = sampan_testkit::image::archive(&folder.0, "app", config, &layers).unwrap();
    let store = Store::open(&folder.path("var/images")).unwrap();
    let (limits, platform) = (Limits::default(), Platform::host());
    let import = Import { store: &store, limits, platform: &platform, progress: &Silent, name: None };
    import.path(&archive).unwrap();
}

fn looked(folder: &Folder, service: &str) -> Result<bundle::Facts, bundle::Error> {
    let config = super::config(folder, "config.toml");
    let look = bundle::Look::of(&config.services[service], &folder.path("run"), &folder.path("var"));
    bundle::look(&look, &|_| ())
}

/// Nothing is left beside the volumes, and no lock.
#[track_caller]
fn is_tidy(folder: &Folder, at: &str) {
    for place in [at, "var/filling"] {
        let names = fs::read_dir(folder.path(place)).into_iter().flatten().flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name().display().to_string()).collect();
        assert!(names.iter().all(|name| !name.starts_with('.')), "{place}: {names:?}");
        assert!(place == at || names.is_empty(), "{names:?}");
    }
}

const NAMED: &str = "volumes = [\"data:/data\"]\n[volumes.data]";

#[test]
fn a_new_named_volume_is_as_the_images_folder() {
    if !ready() {
        return;
    }
    let folder = folder(NAMED);
    let of = |path: &str| folder.path(&format!("root/data/{path}"));
    chown(of(""), Some(33), Some(34)).unwrap();
    chown(of("sub/one"), Some(5), Some(6)).unwrap();
    fs::set_permissions(of("sub/one"), Permissions::from_mode(0o4750)).unwrap();
    lsetxattr(of("sub/one"), "user.mine", b"here", XattrFlags::empty()).unwrap();
    // cap_net_raw=p, as the kernel keeps it.
    let capability = [&[0u8, 0, 0, 2, 0, 0x20][..], &[0; 14]].concat();
    lsetxattr(of("sub/one"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    fs::hard_link(of("file"), of("sub/again")).unwrap();
    // Another name of it lies elsewhere.
    fs::hard_link(of("sub/one"), folder.path("root/etc/one")).unwrap();
    symlink("/etc/passwd", of("link")).unwrap();
    nix::unistd::mkfifo(&of("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    let sparse = fs::File::create(of("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let at = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: at, last_modification: at };
    for path in ["sub/one", "sub"] {
        utimensat(CWD, of(path), &times, rustix::fs::AtFlags::empty()).unwrap();
    }
    fs::set_permissions(of(""), Permissions::from_mode(0o1770)).unwrap();
    // Of a layer above: one file is gone, one is another.
    let folder =
        folder.with("high/data/.wh.gone", "").with("high/data/other", "above").with("root/data/gone", "x");
    let same = |path: &str| fs::set_permissions(folder.path(path), Permissions::from_mode(0o1770)).unwrap();
    same("high/data");
    chown(folder.path("high/data"), Some(33), Some(34)).unwrap();
    import(&folder, &json!({}));

    looked(&folder, "web").unwrap();
    let made = |path: &str| folder.path(&format!("var/volumes/data/{path}"));
    let stat = |path: &str| fs::symlink_metadata(made(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let top = stat("");
    assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (33, 34, 0o1770));
    let one = stat("sub/one");
    assert_eq!((one.uid(), one.gid(), one.mode() & 0o7777, one.mtime()), (5, 6, 0o4750, 1_000_000_000));
    assert_eq!(one.nlink(), 1);
    let mut value = [0; 64];
    assert_eq!(lgetxattr(made("sub/one"), "user.mine", &mut value).unwrap(), 4);
    let length = lgetxattr(made("sub/one"), "security.capability", &mut value).unwrap();
    assert_eq!(value[..length], capability);
    assert_eq!(stat("sub").mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(made("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(stat("fifo").file_type().is_fifo() && stat("fifo").mode() & 0o7777 == 0o600);
    assert_eq!((stat("file").ino(), stat("file").nlink()), (stat("sub/again").ino(), 2));
    assert!(stat("sparse").len() == 64 << 20 && stat("sparse").blocks() < 64);
    assert_eq!(fs::read_to_string(made("other")).unwrap(), "above");
    assert_eq!(fs::read_to_string(made("sub/again")).unwrap(), "of the image");
    assert!(!made("gone").exists() && !made(".wh.gone").exists());
    is_tidy(&folder, "var/volumes");

    // What is there stays as it is: also where nothing is left in it.
    fs::remove_file(made("file")).unwrap();
    looked(&folder, "web").unwrap();
    assert!(!made("file").exists());
    fs::remove_dir_all(made("")).unwrap();
    fs::create_dir(made("")).unwrap();
    looked(&folder, "web").unwrap();
    assert_eq!(fs::read_dir(made("")).unwrap().count(), 0);
}

#[test]
fn only_a_new_volume_with_a_name_is_filled() {
    if !ready() {
        return;
    }
    let keys = "volumes = [\"data:/data:ro\", \"none:/data/none:nocopy\", \"file:/etc/passwd\", \"own:/data/sub\",\n\
                \"lacks:/lacks\", { source = \"./host\", target = \"/data/host\", create = true }]\n\
                [volumes.data]\nuid = 7\n[volumes.none]\n[volumes.file]\n[volumes.own]\nmode = \"0700\"\n[volumes.lacks]";
    let folder =
        folder(keys).with("root/data/none/x", "").with("root/data/host/x", "").with("root/vol/x", "v");
    import(&folder, &json!({ "Volumes": { "/vol/": {}, "/data": {} } }));
    looked(&folder, "web").unwrap();
    let names = |path: &str| {
        let all = fs::read_dir(folder.path(path)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut all: Vec<String> = all.map(|name| name.display().to_string()).collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(names("var/volumes"), "data file lacks none own web+vol");
    assert_eq!(names("var/volumes/data"), "file host none sub");
    assert_eq!((names("var/volumes/own"), names("var/volumes/web+vol")), ("one".into(), "x".into()));
    for empty in ["var/volumes/none", "var/volumes/file", "var/volumes/lacks", "host"] {
        assert_eq!(names(empty), "", "{empty}");
    }
    let stat = |path: &str| fs::metadata(folder.path(path)).unwrap();
    assert_eq!((stat("var/volumes/data").uid(), stat("var/volumes/data").gid()), (7, 0));
    assert_eq!(stat("var/volumes/own").mode() & 0o7777, 0o700);
    is_tidy(&folder, "var/volumes");
}

#[test]
fn an_image_cannot_have_what_is_outside_of_it() {
    if !ready() {
        return;
    }
    let keys = "volumes = [\"a:/a\", \"b:/b/inner\", \"c:/c\", \"d:/d\"]\n[volumes.a]\n[volumes.b]\n[volumes.c]\n[volumes.d]";
    let folder = folder(keys).with("secret/pass", "of the host").with("root/etc/own", "of the image");
    let outside = folder.path("secret");
    symlink(&outside, folder.path("root/a")).unwrap();
    symlink("../../../../../../../../../etc", folder.path("root/b")).unwrap();
    fs::create_dir(folder.path("root/etc/inner")).unwrap();
    symlink("../../../../..", folder.path("root/etc/inner/up")).unwrap();
    symlink("/proc/self/root", folder.path("root/c")).unwrap();
    symlink("d", folder.path("root/d")).unwrap();
    import(&folder, &json!({}));
    looked(&folder, "web").unwrap();
    let made = |path: &str| folder.path(&format!("var/volumes/{path}"));
    for empty in ["a", "c", "d"] {
        assert_eq!(fs::read_dir(made(empty)).unwrap().count(), 0, "{empty}");
    }
    assert_eq!(fs::read_link(made("b/up")).unwrap(), Path::new("../../../../.."));
    assert_eq!(fs::read_to_string(outside.join("pass")).unwrap(), "of the host");
}

/// Owners on disk are those that the container sees.
#[test]
fn in_a_user_namespace_owners_are_those_of_the_image_too() {
    if !(ready() && need::busybox()) {
        return;
    }
    let maps = "security.userns = { uid_map = [\"0:100000:65536\"], gid_map = [\"0:200000:65536\"] }";
    let script = "exec /bin/busybox stat -c %u:%g /data /data/sub/one";
    let folder = folder(&format!("network_mode = \"none\"\n{maps}\n{NAMED}"));
    let text = fs::read_to_string(folder.path("config.toml")).unwrap();
    let command = format!("command = [\"/bin/busybox\", \"sh\", \"-c\", \"{script}\"]");
    let folder = folder.with("config.toml", &text.replace("command = [\"x\"]", &command));
    fs::create_dir(folder.path("root/bin")).unwrap();
    fs::copy(sampan_testkit::bundle::BUSYBOX, folder.path("root/bin/busybox")).unwrap();
    chown(folder.path("root/data"), Some(33), Some(34)).unwrap();
    chown(folder.path("root/data/sub/one"), Some(5), Some(6)).unwrap();
    import(&folder, &json!({}));
    assert_eq!(super::real::run(&folder, "filled-userns"), ("33:34\n5:6\n".into(), 0));
    assert_eq!(fs::metadata(folder.path("var/volumes/data")).unwrap().uid(), 33);
}

#[test]
fn what_a_service_has_written_is_no_part_of_the_image() {
    if !ready() {
        return;
    }
    let folder = folder(NAMED);
    import(&folder, &json!({}));
    let upper = folder.path("var/images/roots/web/upper");
    looked(&folder, "web").unwrap();
    fs::create_dir_all(upper.join("data")).unwrap();
    fs::write(upper.join("data/written"), "").unwrap();
    symlink("/", upper.join("data/root")).unwrap();
    fs::remove_dir_all(folder.path("var/volumes/data")).unwrap();
    looked(&folder, "web").unwrap();
    assert!(folder.path("var/volumes/data/file").exists());
    assert!(!folder.path("var/volumes/data/written").exists());
}

#[test]
fn folders_without_end_are_refused_and_leave_nothing() {
    if !ready() {
        return;
    }
    let folder = folder(NAMED);
    fs::create_dir_all(folder.path(&format!("root/data/{}", "d/".repeat(300)))).unwrap();
    import(&folder, &json!({}));
    let error = looked(&folder, "web").unwrap_err().to_string();
    assert!(error.starts_with("web: volumes: cannot fill the volume "), "{error}");
    assert!(error.contains("in more than 256 folders") && error.contains(":/data:nocopy`"), "{error}");
    assert!(!folder.path("var/volumes/data").exists());
    is_tidy(&folder, "var");
}

#[test]
fn a_file_system_that_is_full_or_read_only_has_no_half_of_it() {
    if !(ready() && need::has_cap(21)) {
        return;
    }
    let folder = folder("volumes = [\"data:/data\"]\n[volumes.data]\npath = \"./disk/in/data\"");
    fs::write(folder.path("root/data/zz"), vec![1; 3 << 20]).unwrap();
    import(&folder, &json!({}));
    let disk = folder.path("disk");
    fs::create_dir(&disk).unwrap();
    let none: Option<&str> = None;
    let again =
        |flags, options: &str| mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some(options)).unwrap();
    again(MsFlags::empty(), "size=1m");
    let full = looked(&folder, "web").unwrap_err().to_string();
    let left = fs::read_dir(disk.join("in")).unwrap().count();
    mount(none, &disk, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
    let read_only = looked(&folder, "web").unwrap_err().to_string();
    again(MsFlags::MS_REMOUNT, "size=16m");
    let filled = looked(&folder, "web");
    let length = fs::metadata(disk.join("in/data/zz")).map(|file| file.len());
    umount2(&disk, MntFlags::MNT_DETACH).unwrap();
    assert!(
        full.contains("cannot fill the volume ") && full.contains("zz") && full.contains("No space left"),
        "{full}"
    );
    assert_eq!(left, 0);
    assert!(read_only.to_lowercase().contains("read-only file system"), "{read_only}");
    filled.unwrap();
    assert_eq!(length.unwrap(), 3 << 20);
    is_tidy(&folder, "disk");
}

/// A service of the same volume for each.
const MANY: usize = 4;

#[test]
fn of_several_one_copies_and_the_others_find_it_whole() {
    if !ready() {
        return;
    }
    let more: String = (0..MANY)
        .map(|n| format!("[services.s{n}]\nimage = \"app\"\ncommand = [\"x\"]\nvolumes = [\"data:/data\"]\n"))
        .collect();
    let folder = folder(&format!("{NAMED}\n{more}"));
    for n in 0..300 {
        fs::write(folder.path(&format!("root/data/{n}")), "x").unwrap();
    }
    import(&folder, &json!({}));
    for _ in 0..4 {
        std::thread::scope(|scope| {
            let of = |n: usize| {
                let folder = &folder;
                move || {
                    looked(folder, &format!("s{n}")).unwrap();
                    assert_eq!(fs::read_dir(folder.path("var/volumes/data")).unwrap().count(), 302);
                }
            };
            let all: Vec<_> = (0..MANY).map(|n| scope.spawn(of(n))).collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        });
        is_tidy(&folder, "var/volumes");
        fs::remove_dir_all(folder.path("var/volumes/data")).unwrap();
    }
}

/// Tells a process that it is the one to be killed, and where.
const CHILD: &str = "SAMPAN_TEST_FILLS";

#[test]
fn whoever_is_killed_leaves_all_or_nothing() {
    if !ready() {
        return;
    }
    if let Some(path) = std::env::var_os(CHILD) {
        let folder = std::mem::ManuallyDrop::new(Folder(path.into()));
        looked(&folder, "web").unwrap();
        return;
    }
    let folder = folder(NAMED);
    for n in 0..1_000 {
        fs::write(folder.path(&format!("root/data/{n}")), "x").unwrap();
    }
    import(&folder, &json!({}));
    let volume = folder.path("var/volumes/data");
    let whole = |volume: &Path| fs::read_dir(volume).unwrap().count() == 1_002;
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "filled::whoever_is_killed_leaves_all_or_nothing"]).env(CHILD, &folder.0);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    };
    // At each boundary, until one gets through.
    let mut died = 0;
    for at in 1.. {
        if child().env("SAMPAN_CRASH_AT", at.to_string()).status().unwrap().success() {
            break;
        }
        died += 1;
        assert!(!volume.exists() || whole(&volume), "{at}");
    }
    assert!(!cfg!(debug_assertions) || died >= 3, "{died}");
    assert!(whole(&volume));
    // And anywhere once it has begun.
    let mut halves = 0;
    let staging = || {
        let beside = fs::read_dir(folder.path("var/volumes")).into_iter().flatten().flatten();
        let mut beside = beside.map(|entry| entry.path());
        beside.find(|path| path.file_name().is_some_and(|name| name.display().to_string().starts_with('.')))
    };
    for wait in (0..12).map(|n| Duration::from_millis(n * 2)) {
        fs::remove_dir_all(&volume).unwrap_or_default();
        let _ = staging().map(fs::remove_dir_all);
        let mut killed = child().spawn().unwrap();
        while staging().is_none() && killed.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(300));
        }
        std::thread::sleep(wait);
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(!volume.exists() || whole(&volume), "{wait:?}");
        halves += usize::from(staging().is_some());
    }
    assert!(halves > 0, "none was killed in the middle");
    looked(&folder, "web").unwrap();
    assert!(whole(&volume));
    is_tidy(&folder, "var/volumes");
}
