//! podman with `sampan` as its runtime: what users of podman see must be what they know.
//!
//! No network: the image is a tar with busybox in it. All of podman's folders are the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sampan_testkit::world::mountinfo;
use sampan_testkit::{World, need};

use crate::sampan::{program, run};
use crate::world::appears;

struct Podman {
    dir: PathBuf,
}

impl Podman {
    /// `None`, and why on stderr, where there is no podman to test with.
    fn new(name: &str) -> Option<Podman> {
        let programs = ["podman", "conmon", "busybox", "tar"];
        if !need::root() || !need::programs(&programs, "podman conmon busybox-static") {
            return None;
        }
        let dir = std::env::temp_dir().join(format!("sampan-podman-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        // Under the name crun podman reads the JSON log; others need runtime_supports_json.
        let conf = "[engine]\nlock_type = \"file\"\nruntime_supports_json = [\"sampan\"]\nruntime_supports_nocgroup = [\"sampan\"]\n";
        fs::write(dir.join("containers.conf"), conf).unwrap();
        let podman = Podman { dir };
        image(&podman.dir);
        let (code, _, err) =
            podman.podman(&["import", "-q", podman.dir.join("image.tar").to_str().unwrap(), "box"]);
        assert_eq!(code, 0, "{err}");
        Some(podman)
    }

    fn podman(&self, args: &[&str]) -> (i32, String, String) {
        let dir = |name: &str| self.dir.join(name).into_os_string();
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", self.dir.join("containers.conf"))
            .arg("--root")
            .arg(dir("root"))
            .arg("--runroot")
            .arg(dir("run"))
            .arg("--tmpdir")
            .arg(dir("tmp"))
            .args([
                "--storage-driver",
                "vfs",
                "--cgroup-manager",
                "cgroupfs",
                "--events-backend",
                "file",
                "--runtime",
            ])
            .arg(program())
            .args(args);
        run(&mut command)
    }

    /// `podman run` with what this machine needs: no network, and limits that may be set without CAP_SYS_RESOURCE.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let parent = format!("--cgroup-parent=/{}", self.name());
        let mut all =
            vec!["run", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
        all.push(&parent);
        all.extend(args);
        self.podman(&all)
    }

    fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.podman(args);
        assert_eq!(code, 0, "podman {args:?}: {err}");
        out
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.podman(&["rm", "-af", "-t", "0"]);
        // vfs and the rest are plain folders, but shm and the like may be mounted below.
        if let Ok(mounts) = fs::read_to_string("/proc/self/mounts") {
            for at in mounts
                .lines()
                .filter_map(|l| l.split(' ').nth(1))
                .filter(|at| Path::new(at).starts_with(&self.dir))
            {
                let _ = Command::new("umount").args(["-l", at]).status();
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
        // podman does not remove the parent that it was given, with any runtime.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for parent in [hierarchy.path().join(self.name()), Path::new("/sys/fs/cgroup").join(self.name())]
            {
                let _ = fs::remove_dir(parent.join("conmon"));
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

/// A root with busybox and its applets, as a tar.
pub fn image(dir: &Path) {
    let script = "mkdir -p r/bin r/etc r/tmp r/proc r/sys r/dev r/root && cp $(command -v busybox) r/bin/busybox \
        && for a in sh cat echo sleep true false id ls env hostname kill ps touch test mount stat trap grep; do ln -s busybox r/bin/$a; done \
        && echo root:x:0:0:root:/root:/bin/sh > r/etc/passwd && echo root:x:0: > r/etc/group && echo text > r/etc/text \
        && tar -C r -cf image.tar . && rm -r r";
    let (code, _, err) = run(Command::new("sh").args(["-c", script]).current_dir(dir));
    assert_eq!(code, 0, "{err}");
}

#[test]
fn a_program_runs_and_its_output_and_code_come_back() {
    let Some(podman) = Podman::new("run") else { return };
    for (args, code, out) in [
        (&["--rm", "box", "echo", "hello"][..], 0, "hello\n"),
        (&["--rm", "box", "sh", "-c", "exit 3"], 3, ""),
        (&["--rm", "--user", "65534:65534", "box", "id", "-u"], 0, "65534\n"),
        (&["--rm", "--hostname", "box1", "box", "hostname"], 0, "box1\n"),
        (&["--rm", "-e", "A=1", "box", "sh", "-c", "echo $A"], 0, "1\n"),
        (&["--rm", "--tmpfs", "/t:size=1m", "box", "sh", "-c", "touch /t/x && echo ok"], 0, "ok\n"),
        (&["--rm", "--read-only", "box", "touch", "/x"], 1, ""),
        (&["--rm", "--memory", "32m", "box", "echo", "limited"], 0, "limited\n"),
    ] {
        let (got, stdout, err) = podman.run(args);
        assert_eq!((got, stdout.as_str()), (code, out), "{args:?}: {err}");
    }
}

#[test]
fn a_program_that_cannot_run_is_126_or_127() {
    let Some(podman) = Podman::new("codes") else { return };
    for (program, code, says) in [
        ("/nosuch", 127, "no such file or directory"),
        ("nosuch", 127, "executable file not found"),
        ("/etc/text", 126, "permission denied"),
        ("/etc", 126, "permission denied"),
    ] {
        let (got, _, err) = podman.run(&["--rm", "box", program]);
        assert_eq!(got, code, "{program}: {err}");
        assert!(err.to_lowercase().contains(says), "{program}: {err}");
    }
}

#[test]
fn exec_kill_logs_and_rm_work_on_a_running_container() {
    let Some(podman) = Podman::new("life") else { return };
    let (code, _, err) = podman.run(&["-d", "--name", "c", "box", "sh", "-c", "echo started; exec sleep 60"]);
    assert_eq!(code, 0, "{err}");
    assert!(podman.ok(&["ps", "--format", "{{.Names}} {{.Status}}"]).starts_with("c Up"));
    assert_eq!(podman.ok(&["exec", "c", "hostname"]).trim().len(), 12);
    assert_eq!(podman.podman(&["exec", "c", "sh", "-c", "exit 5"]).0, 5);
    assert_eq!(podman.ok(&["exec", "-e", "B=2", "-w", "/tmp", "c", "sh", "-c", "echo $B $PWD"]), "2 /tmp\n");
    assert_eq!(podman.podman(&["exec", "c", "nosuch"]).0, 127);
    assert_eq!(podman.podman(&["exec", "c", "/etc/text"]).0, 126);
    podman.ok(&["kill", "-s", "KILL", "c"]);
    assert_eq!(podman.ok(&["wait", "c"]), "137\n");
    assert_eq!(podman.ok(&["logs", "c"]), "started\n");
    assert_eq!(podman.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "c"]), "exited 137\n");
    podman.ok(&["rm", "c"]);
    assert_eq!(podman.ok(&["ps", "-aq"]), "");
}

#[test]
fn stop_start_and_rm_force() {
    let Some(podman) = Podman::new("again") else { return };
    let (code, _, err) = podman.run(&[
        "-d",
        "--name",
        "c",
        "box",
        "sh",
        "-c",
        "trap 'exit 9' TERM; while :; do sleep 0.1; done",
    ]);
    assert_eq!(code, 0, "{err}");
    podman.ok(&["stop", "-t", "5", "c"]);
    assert_eq!(podman.ok(&["inspect", "-f", "{{.State.ExitCode}}", "c"]), "9\n");
    podman.ok(&["start", "c"]);
    assert_eq!(podman.ok(&["inspect", "-f", "{{.State.Status}}", "c"]), "running\n");
    podman.ok(&["rm", "-f", "-t", "0", "c"]);
    assert_eq!(podman.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_terminal_is_a_terminal() {
    let Some(podman) = Podman::new("tty") else { return };
    let (code, out, err) =
        podman.run(&["--rm", "-t", "box", "sh", "-c", "test -t 0 && test -t 1 && echo terminal"]);
    assert_eq!((code, out.trim()), (0, "terminal"), "{err}");
}

/// buildah names ambient capabilities without inheritable ones for each RUN step.
#[test]
fn a_build_with_a_run_step_works() {
    let Some(podman) = Podman::new("build") else { return };
    let containerfile = podman.dir.join("Containerfile");
    fs::write(
        &containerfile,
        "FROM localhost/box\nRUN echo built > /etc/text\nCMD [\"cat\", \"/etc/text\"]\n",
    )
    .unwrap();
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
    let mut build = vec!["build", "--network", "none", "--isolation", "oci", "-q", "-t", "built"];
    build.extend(limits);
    build.extend(["-f", containerfile.to_str().unwrap(), podman.dir.to_str().unwrap()]);
    podman.ok(&build);
    let (code, out, err) = podman.run(&["--rm", "localhost/built"]);
    assert_eq!((code, out.as_str()), (0, "built\n"), "{err}");
}

#[test]
fn a_shared_bind_reaches_a_shared_host_and_others_do_not() {
    if !need::root() {
        return;
    }
    World { shared: true, user_namespace: false }.enter().unwrap();
    let Some(podman) = Podman::new("shared") else { return };
    let volume = podman.dir.join("volume");
    fs::create_dir_all(volume.join("inside")).unwrap();
    let at = format!(" {} ", volume.join("inside").display());
    let script = "mount -t tmpfs evil /vol/inside && touch /vol/mounted; sleep 60";
    for (propagation, reaches) in
        [("rshared", true), ("shared", true), ("rslave", false), ("rprivate", false)]
    {
        let bind =
            format!("type=bind,source={},target=/vol,bind-propagation={propagation}", volume.display());
        let (code, id, err) =
            podman.run(&["-d", "--cap-add", "SYS_ADMIN", "--mount", &bind, "box", "sh", "-c", script]);
        assert_eq!(code, 0, "{propagation}: {err}");
        appears(&volume.join("mounted"));
        let seen = mountinfo().unwrap().contains(&at);
        podman.podman(&["rm", "-f", "-t", "0", id.trim()]);
        if seen {
            assert!(Command::new("umount").arg(volume.join("inside")).status().unwrap().success());
        }
        assert_eq!(seen, reaches, "{propagation}");
        fs::remove_file(volume.join("mounted")).unwrap();
    }
}
