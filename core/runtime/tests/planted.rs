//! Another user of the host plants files where `sampan` reads and writes: nothing of his is believed, nothing waits.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use sampan_runtime::store::state::State;
use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::sampan::Root;

const NOBODY: u32 = 65534;

/// A container's folder as we would have written it, whose poststop hook makes the file `ran` beside the root.
fn with_hook(root: &Root) {
    let folder = sampan_runtime::store::dir::Root::new(Some(root.path())).unwrap().create("c").unwrap();
    let mut state = State::creating("c", "/bundle".into());
    let ran = ran(root);
    state.hooks.poststop = vec![sampan_hooks::Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-c".into(), format!("echo > {ran}")],
        env: vec!["PATH=/usr/bin:/bin".into()],
        timeout: None,
    }];
    state.save(&folder).unwrap();
}

fn ran(root: &Root) -> String {
    root.path().with_extension("ran").display().to_string()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// `delete --force` and every other verb refuse the container that `plant` made, say why, and run no hook of it.
fn refused(name: &str, says: &str, plant: impl Fn(&Path)) {
    let root = Root::new(name);
    with_hook(&root);
    plant(root.path());
    for verb in [&["delete", "--force", "c"][..], &["delete", "c"], &["state", "c"], &["kill", "c"]] {
        let (code, err) = root.err(verb);
        assert!(code == 1 && err.contains(says), "{name}: {verb:?}: {code}, {err}");
    }
    assert!(!fs::exists(ran(&root)).unwrap(), "{name}: its hook ran");
}

#[test]
fn state_that_another_user_can_have_written_is_refused() {
    if !need::root() {
        return;
    }
    let nobody = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    refused("trust-root", "belongs to user 65534", |root| nobody(root));
    refused("trust-folder", "belongs to user 65534", |root| nobody(&root.join("c")));
    refused("trust-file", "belongs to user 65534", |root| nobody(&root.join("c/state.json")));
    refused("trust-root-mode", "everybody may write to it (mode 0777)", |root| mode(root, 0o777));
    refused("trust-root-sticky", "everybody may write to it (mode 1777)", |root| mode(root, 0o1777));
    refused("trust-folder-mode", "everybody may write to it (mode 0707)", |root| {
        mode(&root.join("c"), 0o707)
    });
    refused("trust-file-mode", "everybody may write to it (mode 0666)", |root| {
        mode(&root.join("c/state.json"), 0o666);
    });
    refused("trust-file-link", "symbolic link", |root| {
        fs::rename(root.join("c/state.json"), root.join("c/real")).unwrap();
        symlink("real", root.join("c/state.json")).unwrap();
    });
    refused("trust-file-fifo", "a FIFO, not a regular file", |root| {
        fs::remove_file(root.join("c/state.json")).unwrap();
        let fifo = root.join("c/state.json");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    });
}

#[test]
fn a_state_root_below_a_folder_that_others_can_write_is_refused() {
    if !need::root() {
        return;
    }
    let above = Root::new("trust-above");
    for (name, plant) in [
        ("everybody may write to it (mode 0777)", (|dir| mode(dir, 0o777)) as fn(&Path)),
        ("belongs to user 65534", |dir| chown(dir, Some(NOBODY), None).unwrap()),
    ] {
        let dir = above.path().join("dir");
        fs::create_dir(&dir).unwrap();
        plant(&dir);
        let root = dir.join("root");
        fs::create_dir(&root).unwrap();
        let (code, err) = above.err(["--root", root.to_str().unwrap(), "list"]);
        assert!(code == 1 && err.contains(name), "{code}: {err}");
        fs::remove_dir_all(&dir).unwrap();
    }
    // A link is as good as who made it.
    fs::create_dir(above.path().join("real")).unwrap();
    let link = above.path().join("link");
    symlink("real", &link).unwrap();
    assert_eq!(above.err(["--root", link.to_str().unwrap(), "list"]), (0, String::new()));
    std::os::unix::fs::lchown(&link, Some(NOBODY), None).unwrap();
    let (code, err) = above.err(["--root", link.to_str().unwrap(), "list"]);
    assert!(code == 1 && err.contains("belongs to user 65534"), "{code}: {err}");
    fs::remove_file(&link).unwrap();
}

#[test]
fn folders_are_made_with_their_mode_whatever_the_umask() {
    if !need::root() || !need::busybox() {
        return;
    }
    for umask in ["0", "022", "077"] {
        let top = Root::new("umask");
        let bundle = Bundle::new("umask").unwrap();
        bundle.write().unwrap();
        let root = top.path().join("above/root");
        let id = &format!("t{}-umask{umask}", std::process::id());
        let args = ["--root", root.to_str().unwrap(), "create", "-b", bundle.path().to_str().unwrap(), id];
        assert_eq!(top.after(&format!("umask {umask}"), args).0, 0);
        let of = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let container = root.join(id);
        let found = [root.parent().unwrap(), &root, &container].map(of);
        assert_eq!(found, [0o711, 0o700, 0o700], "umask {umask}");
        let files = ["state.json", "config.json", "start", "report", "plan"].map(|f| of(&container.join(f)));
        assert_eq!(files, [0o600; 5], "umask {umask}");
        top.ok(["--root", root.to_str().unwrap(), "delete", "--force", id]);
        fs::remove_dir_all(root.parent().unwrap()).unwrap();
    }
}

/// In a folder where others write, such as /tmp: his FIFO is not waited for, his link leads us nowhere.
#[test]
fn a_pid_file_goes_through_nothing_that_is_there_already() {
    if !need::root() || !need::busybox() {
        return;
    }
    for plant in ["mkfifo $f", "ln -s $d/victim $f", "echo his > $f"] {
        let root = Root::new("pidfile");
        let bundle = Bundle::new("pidfile").unwrap();
        bundle.write().unwrap();
        let dir = bundle.path().join("pids");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("victim"), "precious").unwrap();
        let id = &format!("t{}-pidfile", std::process::id());
        let pid_file = dir.join("pid");
        let (d, bundle_dir) = (dir.display(), bundle.path().to_str().unwrap());
        // What a temporary file may be called, with the pid in it; and the pid file itself.
        let before = format!("d={d}; for f in $d/.pid.$$ $d/.pid.$$.0 $d/.pid.$$.1 $d/pid; do {plant}; done");
        let args = ["create", "-b", bundle_dir, "--pid-file", pid_file.to_str().unwrap(), id];
        let (code, _, err) = root.after(&before, args);
        assert_eq!((code, err.as_str()), (0, ""), "{plant}");
        assert!(fs::symlink_metadata(&pid_file).unwrap().is_file(), "{plant}");
        assert!(fs::read_to_string(&pid_file).unwrap().parse::<i32>().is_ok(), "{plant}");
        assert_eq!(fs::read_to_string(dir.join("victim")).unwrap(), "precious", "{plant}");
        root.ok(["delete", "--force", id]);
    }
}

#[test]
fn a_fifo_where_a_file_is_expected_is_an_error_at_once() {
    if !need::root() || !need::busybox() {
        return;
    }
    let root = Root::new("fifos");
    let mut bundle = Bundle::new("fifos").unwrap();
    bundle.args(&["sleep", "60"]);
    bundle.write().unwrap();
    let (dir, id) = (bundle.path().to_str().unwrap(), &format!("t{}-fifos", std::process::id()));
    root.ok(["run", "-d", "-b", dir, id]);
    let fifo = bundle.path().join("fifo");
    let fifo = fifo.to_str().unwrap();
    let socket = bundle.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for (file, kind) in [(fifo, "a FIFO"), ("/dev/zero", "a device"), (dir, "a folder")] {
        for (args, code) in [
            (&["create", "-b", dir, "--config", file, "other"][..], 1),
            (&["exec", "--process", file, id], 255),
            (&["update", "--resources", file, id], 1),
        ] {
            let (got, _, err) = root.after("true", args);
            let says = format!("{kind}, not a regular file");
            assert!(got == code && err.contains(&says), "{args:?}: {got}, {err}");
        }
    }
    let (got, err) = root.err(["create", "-b", dir, "--config", socket.to_str().unwrap(), "other"]);
    assert!(got == 1 && err.contains("ENXIO"), "{err}");
    let config = bundle.path().join("config.json");
    fs::remove_file(&config).unwrap();
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for verb in ["create", "run"] {
        let (code, _, err) = root.after("true", [verb, "-b", dir, "other"]);
        assert!(code == 1 && err.contains("a FIFO, not a regular file"), "{verb}: {code}, {err}");
    }
    root.ok(["delete", "--force", id]);
}

#[test]
fn a_console_socket_that_nobody_serves_is_an_error_and_leaves_nothing() {
    if !need::root() || !need::busybox() {
        return;
    }
    let root = Root::new("backlog");
    let mut bundle = Bundle::new("backlog").unwrap();
    bundle.set("/process/terminal", json!(true));
    bundle.write().unwrap();
    let path = bundle.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    // The queue of a listener holds one more than its backlog.
    let _in_queue = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let id = &format!("t{}-backlog", std::process::id());
    let args =
        ["create", "-b", bundle.path().to_str().unwrap(), "--console-socket", path.to_str().unwrap(), id];
    let (code, _, err) = root.after("true", args);
    assert!(code == 1 && err.contains("its queue has been full for 2 s"), "{code}: {err}");
    assert_eq!(root.ok(["list", "-q"]), "");
    assert_eq!(crate::lifecycle::leftovers(id), [""; 0]);
}
