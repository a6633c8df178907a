//! docker, and the containerd below it, with `sampan` as their runtime: both ask through containerd's shim and go-runc.
//!
//! No network: the image is podman.rs's. The daemon is the test's own, with all its folders, and ends with it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use sampan_testkit::world::mountinfo;
use sampan_testkit::{Folder, World, need};

use crate::podman::image;
use crate::sampan::{program, run};
use crate::world::appears;

struct Docker {
    dir: PathBuf,
    daemon: Child,
}

impl Docker {
    /// `None`, and why on stderr, where there is no docker to test with.
    fn new() -> Option<Docker> {
        Docker::with(&serde_json::json!({}))
    }

    /// With more in daemon.json.
    fn with(more: &serde_json::Value) -> Option<Docker> {
        let programs = ["dockerd", "docker", "containerd", "ctr", "busybox", "tar"];
        if !need::root() || !need::programs(&programs, "docker.io containerd busybox-static") {
            return None;
        }
        let dir = std::env::temp_dir().join(format!("sampan-docker-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        image(&dir);
        let at = |name: &str| dir.join(name).display().to_string();
        let mut config = serde_json::json!({
            "runtimes": { "sampan": { "path": program() } }, "default-runtime": "sampan",
            "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false, "storage-driver": "vfs",
            "data-root": at("data"), "exec-root": at("exec"), "pidfile": at("pid"),
            "hosts": [format!("unix://{}", at("sock"))],
            "cgroup-parent": format!("/{}", dir.file_name().unwrap().to_str().unwrap()),
            // More needs CAP_SYS_RESOURCE.
            "default-ulimits": { "nofile": { "Name": "nofile", "Soft": 1024, "Hard": 1024 } },
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fs::write(dir.join("daemon.json"), config.to_string()).unwrap();
        // With id maps ctr asks for the runtime by this name, whatever --runc-binary says.
        fs::create_dir_all(dir.join("bin")).unwrap();
        std::os::unix::fs::symlink(program(), dir.join("bin/runc")).unwrap();
        let path = format!("{}:{}", at("bin"), std::env::var("PATH").unwrap());
        let log = File::create(dir.join("log")).unwrap();
        let daemon = Command::new("dockerd")
            .env("PATH", path)
            .arg("--config-file")
            .arg(dir.join("daemon.json"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut docker = Docker { dir, daemon };
        let end = Instant::now() + Duration::from_secs(60);
        while docker.docker(&["version"]).0 != 0 {
            if docker.daemon.try_wait().unwrap().is_some() || Instant::now() > end {
                let log = fs::read_to_string(docker.dir.join("log")).unwrap_or_default();
                need::need(
                    &format!("a dockerd that runs here: {}", log.lines().last().unwrap_or("no word")),
                    false,
                );
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        docker.ok(&["import", &docker.dir.join("image.tar").display().to_string(), "box"]);
        Some(docker)
    }

    fn docker(&self, args: &[&str]) -> (i32, String, String) {
        let socket = format!("unix://{}", self.dir.join("sock").display());
        run(Command::new("docker").env("DOCKER_CONFIG", &self.dir).args(["-H", &socket]).args(args))
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.docker(args);
        assert_eq!(code, 0, "docker {args:?}: {err}");
        out
    }

    /// containerd's own client, at dockerd's containerd: one that it starts, or the one that runs here already.
    fn ctr(&self, args: &[&str]) -> (i32, String, String) {
        let own = self.dir.join("exec/containerd/containerd.sock");
        let socket = if own.exists() { own } else { "/run/containerd/containerd.sock".into() };
        run(Command::new("ctr").arg("-a").arg(socket).args(["-n", "test"]).args(args))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.docker(&["ps", "-aq"]).1;
        for container in all.split_whitespace() {
            let _ = self.docker(&["rm", "-f", container]);
        }
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
        for at in fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines() {
            let at = at.split(' ').nth(1).unwrap_or_default();
            if Path::new(at).starts_with(&self.dir) {
                let _ = Command::new("umount").args(["-l", at]).status();
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
        // Like podman it leaves the parent that it was given, with any runtime.
        let parent = self.dir.file_name().unwrap_or_default();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(parent));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(parent));
    }
}

#[test]
fn docker_and_containerd_work_as_with_runc() {
    let Some(docker) = Docker::new() else { return };
    programs_and_their_codes(&docker);
    a_life(&docker);
    by_containerd(&docker);
}

fn programs_and_their_codes(docker: &Docker) {
    let all = "grep CapEff /proc/self/status | cut -f2";
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap().trim();
    let started = |args: &[&str]| docker.docker(&[&["run", "--rm", "--network", "none"], args].concat());
    for (args, code, out) in [
        (&["box", "echo", "hello"][..], 0, "hello"),
        (&["box", "sh", "-c", "exit 42"], 42, ""),
        (&["--user", "65534:65534", "box", "id", "-u"], 0, "65534"),
        (&["--init", "box", "sh", "-c", "echo $$"], 0, "2"),
        (&["--read-only", "--tmpfs", "/t", "box", "sh", "-c", "touch /t/x && touch /x || echo no"], 0, "no"),
        (&["--cap-drop", "ALL", "box", "sh", "-c", all], 0, "0000000000000000"),
        (&["--ulimit", "nofile=100:200", "box", "sh", "-c", "ulimit -n"], 0, "100"),
        (&["--sysctl", "net.core.somaxconn=99", "box", "cat", "/proc/sys/net/core/somaxconn"], 0, "99"),
        (&["--memory", "16m", "box", "sh", "-c", "x=a; while :; do x=$x$x; done"], 137, ""),
        (&["-t", "box", "sh", "-c", "test -t 0 && test -t 1 && echo terminal"], 0, "terminal"),
        (&["box", "/nosuch"], 127, ""),
        (&["box", "/etc"], 126, ""),
    ] {
        let (got, stdout, err) = started(args);
        assert_eq!((got, stdout.trim()), (code, out), "{args:?}: {err}");
    }
    // The kernel may know newer ones than this docker.
    let (code, granted, err) = started(&["--privileged", "box", "sh", "-c", all]);
    let bits = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap();
    assert_eq!(code, 0, "{err}");
    assert!(bits(&granted) != 0 && bits(&granted) & !bits(own) == 0, "{granted} of {own}");
}

fn a_life(docker: &Docker) {
    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.1; done";
    let limits = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    docker.ok(&[
        &["run", "-d", "--name", "life", "--network", "none"],
        &limits[..],
        &["box", "sh", "-c", script],
    ]
    .concat());
    assert_eq!(docker.docker(&["exec", "life", "sh", "-c", "exit 5"]).0, 5);
    assert_eq!(
        docker.ok(&["exec", "-u", "1:1", "-w", "/bin", "-e", "X=1", "life", "sh", "-c", "echo $X $PWD"]),
        "1 /bin\n"
    );
    assert!(docker.ok(&["top", "life"]).contains("trap"));
    assert!(docker.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "life"]).contains("64MiB"));
    let state = || docker.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life"]);
    docker.ok(&["pause", "life"]);
    assert_eq!(state(), "paused 0\n");
    docker.ok(&["unpause", "life"]);
    docker.ok(&["update", "--memory", "32m", "--memory-swap", "64m", "life"]);
    docker.ok(&["stop", "-t", "5", "life"]);
    assert_eq!(state(), "exited 7\n");
    assert_eq!(docker.ok(&["logs", "life"]), "up\nbye\n");
    docker.ok(&["start", "life"]);
    docker.ok(&["restart", "-t", "5", "life"]);
    docker.ok(&["kill", "life"]);
    assert_eq!(docker.ok(&["wait", "life"]), "137\n");
    docker.ok(&["rm", "life"]);
    assert_eq!(docker.ok(&["ps", "-aq"]), "");
}

fn by_containerd(docker: &Docker) {
    let root = docker.dir.join("root");
    fs::create_dir(&root).unwrap();
    let unpacked =
        Command::new("tar").arg("-xf").arg(docker.dir.join("image.tar")).arg("-C").arg(&root).status();
    assert!(unpacked.unwrap().success());
    let started = |flag, id, script| {
        let root = root.to_str().unwrap();
        let runtime = program();
        docker.ctr(&["run", flag, "--runc-binary", runtime, "--rootfs", root, id, "/bin/sh", "-c", script])
    };
    let (code, out, err) = started("--rm", "c1", "echo hi; exit 3");
    assert_eq!((code, out.as_str()), (3, "hi\n"), "{err}");
    let ok = |args: &[&str]| {
        let (code, out, err) = docker.ctr(args);
        assert_eq!(code, 0, "ctr {args:?}: {err}");
        out
    };
    assert_eq!(started("-d", "c2", "trap 'exit 9' TERM; while :; do sleep 0.1; done").0, 0);
    assert_eq!(docker.ctr(&["task", "exec", "--exec-id", "e", "c2", "/bin/sh", "-c", "exit 4"]).0, 4);
    for verb in ["ps", "pause", "resume", "metrics"] {
        ok(&["task", verb, "c2"]);
    }
    ok(&["task", "kill", "-s", "TERM", "c2"]);
    let end = Instant::now() + Duration::from_secs(10);
    while !ok(&["task", "ls"]).contains("STOPPED") {
        assert!(Instant::now() < end, "c2 does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, _, said) = docker.ctr(&["task", "rm", "c2"]);
    assert!(said.contains("code 9"), "{said}");
    ok(&["container", "rm", "c2"]);
}

/// A daemon on a host whose `/` is shared, and what a container of it has mounted on the host through its volume.
fn mounted_on_the_host(more: &serde_json::Value, propagation: &str) -> Option<bool> {
    let docker = Docker::with(more)?;
    let volume = docker.dir.join("volume");
    fs::create_dir_all(volume.join("inside")).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let bind = format!("{}:/vol:{propagation}", volume.display());
    let script = "mount -t tmpfs evil /vol/inside && touch /vol/mounted; sleep 60";
    docker.ok(&[
        "run",
        "-d",
        "--name",
        "mounts",
        "--network",
        "none",
        "--cap-add",
        "SYS_ADMIN",
        "-v",
        &bind,
        "box",
        "sh",
        "-c",
        script,
    ]);
    appears(&volume.join("mounted"));
    let at = format!(" {} ", volume.join("inside").display());
    let seen = mountinfo().unwrap().contains(&at);
    if seen {
        assert!(Command::new("umount").arg(volume.join("inside")).status().unwrap().success());
    }
    Some(seen)
}

/// The range of ids that a daemon with `userns-remap` gives to its containers, in this test's mounts alone.
fn remapped() -> serde_json::Value {
    let folder = Folder::new().with("subid", "nobody:100000:65536\nnogroup:100000:65536\n");
    for over in ["/etc/subuid", "/etc/subgid"] {
        assert!(
            Command::new("mount")
                .arg("--bind")
                .arg(folder.path("subid"))
                .arg(over)
                .status()
                .unwrap()
                .success()
        );
    }
    serde_json::json!({ "userns-remap": "nobody:nogroup" })
}

/// Where `/` is shared, as on each host with systemd.
fn on_a_shared_host() -> bool {
    need::root() && World { shared: true, user_namespace: false }.enter().is_ok()
}

#[test]
fn a_volume_reaches_the_host_only_if_it_is_shared_and_no_user_namespace_is_there() {
    if !on_a_shared_host() {
        return;
    }
    let plain = serde_json::json!({});
    let Some(shared) = mounted_on_the_host(&plain, "rshared") else { return };
    assert!(shared, "-v a:b:rshared");
    assert_eq!(mounted_on_the_host(&plain, "shared"), Some(true), "-v a:b:shared");
    assert_eq!(mounted_on_the_host(&plain, "rprivate"), Some(false));
    assert_eq!(mounted_on_the_host(&remapped(), "rshared"), Some(false), "userns-remap");
}

#[test]
fn containerds_client_maps_ids_and_leaves_no_mount_on_a_shared_host() {
    if !on_a_shared_host() {
        return;
    }
    let Some(docker) = Docker::new() else { return };
    let image = docker.dir.join("saved.tar").display().to_string();
    docker.ok(&["save", "-o", &image, "box"]);
    let ctr = |args: &[&str]| {
        let (code, out, err) = docker.ctr(args);
        assert_eq!(code, 0, "ctr {args:?}: {err}");
        out
    };
    ctr(&["image", "import", "--snapshotter", "native", &image]);
    let before = mountinfo().unwrap();
    let map = "0:100000:65536";
    let run = ["run", "--rm", "--snapshotter", "native", "--uidmap", map, "--gidmap", map];
    let out = ctr(&[&run[..], &["docker.io/library/box:latest", "m1", "cat", "/proc/self/uid_map"]].concat());
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(mountinfo().unwrap(), before);
}
