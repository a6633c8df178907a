//! Which files are trusted (src/trust.rs). As root: the other user is one whose files are given to them.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Mode;
use sampan_runtime::kernel::trust::{self, Group};
use sampan_testkit::need;

/// Another local user, who owns nothing of ours.
const MALLORY: u32 = 4242;

/// A folder of ours with a file in it; gone when dropped.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        let path = tempfile();
        fs::create_dir(&path).unwrap();
        mode(&path, 0o755);
        let place = Place(path);
        fs::write(place.file(), "text").unwrap();
        mode(&place.file(), 0o644);
        place
    }

    fn file(&self) -> PathBuf {
        self.0.join("file")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tempfile() -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("sampan-trust-{}-{n}", std::process::id()))
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What reading `path` as text of ours says: its warning, or why it is refused.
fn read(path: &Path, group: Group) -> Result<Option<String>, String> {
    match trust::read(path, group, 1 << 20) {
        Ok((bytes, warning)) => {
            assert_eq!(bytes, b"text");
            Ok(warning.map(|warning| warning.to_string()))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[track_caller]
fn refused(path: &Path, expected: &str) {
    let error = read(path, Group::MayWriteIfPrivate).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_file_of_ours_is_read_also_through_links_and_parents() {
    let place = Place::new();
    symlink("../".to_owned() + place.0.file_name().unwrap().to_str().unwrap(), place.path("up")).unwrap();
    symlink("up/file", place.path("link")).unwrap();
    symlink(place.file(), place.path("absolute")).unwrap();
    for name in ["file", "link", "absolute", "up/file"] {
        assert_eq!(read(&place.path(name), Group::MayNotWrite), Ok(None), "{name}");
    }
}

#[test]
fn a_file_that_everybody_may_write_is_refused_with_the_command_that_mends_it() {
    let place = Place::new();
    mode(&place.file(), 0o646);
    let path = place.file();
    let path = path.display();
    refused(&place.file(), &format!("{path}: everybody may write to it (mode 0646); chmod o-w {path}"));
}

#[test]
fn a_private_group_may_write_text_but_not_code() {
    if !need::root() {
        return;
    }
    let place = Place::new();
    mode(&place.file(), 0o664);
    let warning = read(&place.file(), Group::MayWriteIfPrivate).unwrap().unwrap();
    assert!(warning.contains("its group 0 may write to it (mode 0664); chmod g-w "), "{warning}");
    assert_eq!(read(&place.file(), Group::MayNotWrite), Err(warning));
    chown(place.file(), Some(0), Some(MALLORY)).unwrap();
    refused(&place.file(), "its group 4242 may write to it");
}

#[test]
fn a_group_that_has_an_access_control_list_is_not_private() {
    if !need::root() || !need::need("setfacl (apt-get install acl)", Path::new("/usr/bin/setfacl").exists()) {
        return;
    }
    let place = Place::new();
    let set = Command::new("setfacl").args(["-m", &format!("u:{MALLORY}:rw")]).arg(place.file()).status();
    if !need::need("a temporary folder whose file system has access control lists", set.unwrap().success()) {
        return;
    }
    refused(&place.file(), "its group 0 may write to it");
}

#[test]
fn a_file_link_or_folder_of_another_user_is_refused() {
    if !need::root() {
        return;
    }
    let place = Place::new();
    symlink("file", place.path("link")).unwrap();
    std::os::unix::fs::lchown(place.path("link"), Some(MALLORY), None).unwrap();
    refused(&place.path("link"), "link: it belongs to user 4242, who is neither root nor us");
    fs::create_dir(place.path("theirs")).unwrap();
    fs::write(place.path("theirs/file"), "text").unwrap();
    chown(place.path("theirs"), Some(MALLORY), None).unwrap();
    refused(&place.path("theirs/file"), "theirs: it belongs to user 4242");
    chown(place.file(), Some(MALLORY), None).unwrap();
    refused(&place.file(), "file: it belongs to user 4242");
}

#[test]
fn a_folder_above_that_everybody_may_write_is_refused_unless_it_is_sticky() {
    let place = Place::new();
    fs::create_dir_all(place.path("a/b")).unwrap();
    fs::write(place.path("a/b/file"), "text").unwrap();
    mode(&place.path("a"), 0o777);
    refused(&place.path("a/b/file"), "a: everybody may write to it (mode 0777)");
    mode(&place.path("a"), 0o1777);
    assert_eq!(read(&place.path("a/b/file"), Group::MayNotWrite), Ok(None));
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_and_never_opened() {
    let place = Place::new();
    assert!(Command::new("mkfifo").arg(place.path("fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    for (path, what) in [
        (place.path("fifo"), "a FIFO, not a regular file"),
        (place.path("socket"), "a socket, not a regular file"),
        ("/dev/zero".into(), "a device, not a regular file"),
        (place.0.clone(), "a folder, not a regular file"),
    ] {
        refused(&path, what);
        // A socket cannot be opened at all (ENXIO).
        let error = trust::read_regular(&path, 1 << 20).unwrap_err().to_string();
        assert!(error.contains(what) || error.contains("no such device or address"), "{error}");
    }
}

#[test]
fn what_is_too_large_or_missing_or_goes_round_in_a_circle_is_an_error() {
    let place = Place::new();
    let error = trust::read(&place.file(), Group::MayNotWrite, 3).unwrap_err();
    assert_eq!(error.about(&place.file()), "larger than 0 MiB");
    let error = trust::read_regular(&place.file(), 3).unwrap_err();
    assert_eq!(error.about(&place.file()), "larger than 0 MiB");
    refused(&place.path("none"), "none: no such file or directory");
    refused(&place.path("none/x"), "none/x: no such file or directory");
    refused(&place.path("file/x"), "file/x: not a directory");
    symlink("round", place.path("round")).unwrap();
    refused(&place.path("round"), "too many levels of symbolic links");
}

#[test]
fn a_folder_is_looked_at_like_a_file() {
    let place = Place::new();
    trust::folder(&place.0, Group::MayNotWrite).unwrap();
    let error = trust::folder(&place.file(), Group::MayNotWrite).unwrap_err();
    assert!(error.to_string().contains("not a directory"), "{error}");
    mode(&place.0, 0o777);
    let error = trust::folder(&place.0, Group::MayWriteIfPrivate).unwrap_err();
    assert!(error.to_string().contains("everybody may write to it (mode 0777)"), "{error}");
}

/// In a process of its own: SUDO_UID is the process's.
#[test]
fn under_sudo_the_files_of_who_called_it_are_trusted_and_nobody_elses() {
    if !need::root() {
        return;
    }
    let place = Place::new();
    chown(&place.0, Some(MALLORY), Some(MALLORY)).unwrap();
    chown(place.file(), Some(MALLORY), Some(MALLORY)).unwrap();
    refused(&place.0.join("file"), "it belongs to user 4242");
    // SAFETY: nextest runs each test in a process of its own.
    unsafe { std::env::set_var("SUDO_UID", MALLORY.to_string()) };
    assert_eq!(read(&place.file(), Group::MayNotWrite), Ok(None));
    chown(place.file(), Some(MALLORY + 1), None).unwrap();
    refused(&place.file(), "it belongs to user 4243");
}

#[test]
fn folders_are_made_with_their_mode_whatever_the_umask() {
    let place = Place::new();
    for umask in [0, 0o22, 0o77] {
        let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        let made = trust::make_folders(&place.path(&format!("{umask}/b")), Mode::from(0o711));
        rustix::process::umask(old);
        made.unwrap();
        for name in [format!("{umask}"), format!("{umask}/b")] {
            let mode = fs::metadata(place.path(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o711, "{name}");
        }
    }
    trust::make_folders(&place.0, Mode::from(0o700)).unwrap();
    let error = trust::make_folders(&place.file(), Mode::from(0o700)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}
