//! An image's or a neighbour's /dev.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use sampan_testkit::Bundle;
use serde_json::{Value, json};

use super::Outcome;
use super::host::Host;
use super::runtime::Runtime;

/// The container's /dev is what the image has there.
fn without_dev_mount(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    bundle
}

/// The image's /dev is a link to a folder of the host, where device nodes and links would be made.
pub fn dev_is_a_link(runtime: &Runtime) -> Outcome {
    let host = Host::new();
    let bundle = without_dev_mount("dev-link");
    fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(host.path(), bundle.rootfs().join("dev")).unwrap();
    host.verdict(&runtime.run(&bundle))
}

/// /dev is a folder shared with a neighbour, who put a link at /dev/null: masks made of it would open what it points to.
/// The uts namespace is the container's own, so what a won attack writes is too.
pub fn mask_made_of_the_containers_null(runtime: &Runtime) -> Outcome {
    let name = "/proc/sys/kernel/hostname";
    let dev = Host::with(|path| symlink(name, path.join("null")).unwrap());
    let mut bundle = without_dev_mount("mask-null");
    bundle.add(
        "/mounts",
        json!({"destination": "/dev", "type": "bind", "source": dev.path(), "options": ["rbind"]}),
    );
    bundle.set("/linux/maskedPaths", json!(["/proc/timer_list"]));
    bundle.script(&format!("echo taken > /proc/timer_list; cat {name}"));
    let ran = runtime.run(&bundle);
    match ran.out.trim() {
        "taken" => Outcome::Worked("a masked path opened a read-only file of procfs for writing".into()),
        _ => Outcome::Repelled(ran.said()),
    }
}

/// Runs a command where another null device is the host's: its argument.
const WITH_NULL: &str = "mount --bind \"$1\" /dev/null && shift && exec \"$@\"";

/// Root of a container has the capabilities that docker gives, which are enough to chmod and chown what it finds; masks are
/// made of the host's null device.
pub fn null_of_the_host_taken_away(runtime: &Runtime) -> Outcome {
    let host = Host::with(|path| {
        mknodat(CWD, path.join("null"), FileType::CharacterDevice, Mode::from(0o666), makedev(1, 3)).unwrap();
        fs::set_permissions(path.join("null"), fs::Permissions::from_mode(0o666)).unwrap();
    });
    let mut bundle = Bundle::new("null-taken").unwrap();
    bundle.set("/linux/maskedPaths", json!(["/proc/version", "/proc/timer_list"]));
    let capabilities = json!(["CAP_CHOWN", "CAP_FOWNER"]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}"), capabilities.clone());
    }
    bundle.script("for mask in /proc/version /proc/timer_list; do chmod 600 $mask; chown 1000 $mask; done");
    host.verdict(&runtime.run_with(&[], &bundle, |command| {
        let mut outside = Command::new("unshare");
        outside.args(["--mount", "sh", "-c", WITH_NULL, "sh"]).arg(host.path().join("null"));
        outside.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        outside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        *command = outside;
    }))
}

/// A bundle with a terminal, on a /dev of the image's own.
fn with_terminal(name: &str) -> Bundle {
    let mut bundle = without_dev_mount(name);
    bundle.set("/process/terminal", Value::Bool(true));
    bundle.set("/process/args", json!(["stat", "-c", "%F", "/dev/console"]));
    bundle
}

fn devpts(destination: &str) -> Value {
    let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    json!({"destination": destination, "type": "devpts", "source": "devpts", "options": options})
}

/// The image's /dev/console is a link to where the host has no file yet.
pub fn console_is_a_link(runtime: &Runtime) -> Outcome {
    let host = Host::new();
    let mut bundle = with_terminal("console-link");
    bundle.add("/mounts", devpts("/dev/pts"));
    symlink(host.path().join("made"), bundle.rootfs().join("dev/console")).unwrap();
    host.verdict(&runtime.run_in_terminal(&bundle))
}

/// /dev/pts is a folder shared with a neighbour: its ptmx is true, but its first terminal is one that the neighbour
/// holds, who would read and type along.
pub fn terminal_of_a_neighbour(runtime: &Runtime) -> Outcome {
    let shared = Host::with(|path| {
        symlink("/own/ptmx", path.join("ptmx")).unwrap();
        symlink("/neighbours/0", path.join("0")).unwrap();
    });
    let Some(neighbour) = Neighbour::new() else { return Outcome::Lacks("a devpts of the test's own") };
    let mut bundle = with_terminal("pts-neighbour");
    for folder in ["own", "neighbours", "dev/pts"] {
        fs::create_dir_all(bundle.rootfs().join(folder)).unwrap();
    }
    bundle.add("/mounts", devpts("/own"));
    for (destination, source) in [("/neighbours", neighbour.path()), ("/dev/pts", shared.path())] {
        bundle.add(
            "/mounts",
            json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]}),
        );
    }
    bundle.script("echo typed by the user");
    let ran = runtime.run_in_terminal(&bundle);
    match neighbour.read() {
        text if text.contains("typed") => Outcome::Worked("the neighbour has the terminal".into()),
        _ => Outcome::Repelled(ran.said()),
    }
}

/// A devpts of the host's, and its first terminal open.
struct Neighbour {
    folder: Host,
    master: std::os::fd::OwnedFd,
}

impl Neighbour {
    fn new() -> Option<Neighbour> {
        use rustix::fs::{Mode, OFlags, open};
        let folder = Host::new();
        let path = folder.path();
        let mounted = Command::new("mount")
            .args(["-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts"])
            .arg(path)
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            return None;
        }
        let master = open(path.join("ptmx"), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let master = master.unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        Some(Neighbour { folder, master })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn read(&self) -> String {
        super::terminal::text(&self.master)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy".as_ref(), self.folder.path()]).status();
    }
}

/// The container's user is not root, and its standard input is a file of root's, as a shell's `<` gives it.
pub fn standard_input_given_away(runtime: &Runtime) -> Outcome {
    let host = Host::with(|path| {
        fs::write(path.join("input"), "").unwrap();
        fs::set_permissions(path.join("input"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    let mut bundle = Bundle::new("stdio").unwrap();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let input = File::open(host.path().join("input")).unwrap();
    host.verdict(&runtime.run_with(&[], &bundle, |command| _ = command.stdin(input)))
}

/// A caller without input gives the null device; here one of the attack's own, at another name.
pub fn null_given_as_standard_input(runtime: &Runtime) -> Outcome {
    let host = Host::with(|path| {
        let (mode, null) = (Mode::from(0o666), makedev(1, 3));
        mknodat(CWD, path.join("null"), FileType::CharacterDevice, mode, null).unwrap();
        fs::set_permissions(path.join("null"), fs::Permissions::from_mode(0o666)).unwrap();
    });
    let caps = json!(["CAP_CHOWN", "CAP_FOWNER"]);
    let mut bundle = Bundle::new("null-stdin").unwrap();
    bundle.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
    bundle.script("chmod 600 /proc/self/fd/0");
    let null = File::open(host.path().join("null")).unwrap();
    host.verdict(&runtime.run_with(&[], &bundle, |command| _ = command.stdin(null)))
}
