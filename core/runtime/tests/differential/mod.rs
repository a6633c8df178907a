//! The same bundle under `sampan` and under `crun`: the same observations from inside, line by line.
//!
//! ```text
//!   cases.rs  bundles ──► sampan ──► observer's report ─┐
//!                    └──► crun   ──► observer's report ─┴─► lines that differ ──► intended.rs has each, or the test fails
//!                    └──► runc   (a third witness, asked only about lines that differ)
//! ```
//! crun 1.8 refuses a host with v1 hierarchies beside cgroup v2: all run in a mount namespace where v2 is hidden.
//! `SAMPAN_SAME=CASE` runs one case alone, `SAMPAN_SAME_SHOW=1` prints every line that differs.

mod cases;
mod intended;
mod report;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{IoSliceMut, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sampan_testkit::{Bundle, need, observer};

use cases::{Case, How};
use report::Report;

#[test]
fn a_container_sees_the_same_under_crun() {
    if !need::root() || !need::busybox() {
        return;
    }
    let observer = match observer(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(path) => path,
        Err(why) => {
            need::need(&format!("a static observer: {why}"), false);
            return;
        }
    };
    let program = |name: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).map(|p| p.join(name)).find(|p| p.is_file())
    };
    let Some(crun) = program("crun") else {
        need::need("crun (apt-get install crun)", false);
        return;
    };
    hide_unified();
    let sampan = Runtime { name: "sampan", program: crate::sampan::program().into() };
    let crun = Runtime { name: "crun", program: crun };
    let runc = program("runc").map(|program| Runtime { name: "runc", program });
    let first = cases::CASES.first().unwrap();
    if let Err(why) = observe(first, &crun, &observer) {
        need::need(&format!("a crun that runs here: {why}"), false);
        return;
    }

    let alone = std::env::var("SAMPAN_SAME").ok();
    let show = std::env::var_os("SAMPAN_SAME_SHOW").is_some();
    let queue: Mutex<Vec<&Case>> = Mutex::new(
        cases::CASES.iter().rev().filter(|c| alone.as_deref().is_none_or(|a| a == c.name)).collect(),
    );
    let (bad, met) = (Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()));
    std::thread::scope(|threads| {
        // Without a cgroup namespace a container of cgroup v2 sees all groups, its neighbours' too: one at a time.
        let v1 = Path::new("/sys/fs/cgroup/memory").exists();
        for _ in 0..if v1 { 2 } else { 1 } {
            threads.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().pop() else { return };
                    let reports = [&sampan, &crun].map(|r| observe(case, r, &observer));
                    let [Ok(ours), Ok(theirs)] = &reports else {
                        let said = |r: &Result<Report, String>| {
                            r.as_ref().err().cloned().unwrap_or("runs".to_owned())
                        };
                        let line = format!(
                            "{}: sampan: {}\n    crun: {}",
                            case.name,
                            said(&reports[0]),
                            said(&reports[1])
                        );
                        bad.lock().unwrap().push(line);
                        continue;
                    };
                    let differing = ours.differing(theirs);
                    let mut witness = None;
                    for (key, our, their) in &differing {
                        let known = intended::find(case.name, key, our, their);
                        met.lock().unwrap().extend(known);
                        if known.is_some() && !show {
                            continue;
                        }
                        let third =
                            witness.get_or_insert_with(|| runc.as_ref().map(|r| observe(case, r, &observer)));
                        let third = match third {
                            Some(Ok(r)) => r.get(key).unwrap_or("-").to_owned(),
                            Some(Err(why)) => why.clone(),
                            None => "not here".to_owned(),
                        };
                        let line = format!(
                            "{}: {key}\n  sampan: {our}\n    crun: {their}\n    runc: {third}",
                            case.name
                        );
                        match known {
                            Some(_) => eprintln!("intended: {line}"),
                            None => bad.lock().unwrap().push(line),
                        }
                    }
                }
            });
        }
    });
    let mut bad = bad.into_inner().unwrap();
    let met = met.into_inner().unwrap();
    if alone.is_none() {
        let unmet = intended::INTENDED.iter().enumerate().filter(|(i, d)| !d.here && !met.contains(i));
        bad.extend(
            unmet.map(|(_, d)| {
                format!("no longer differs, so take it out: {} {} ({})", d.cases, d.key, d.why)
            }),
        );
    }
    assert!(bad.is_empty(), "{} differences\n{}", bad.len(), bad.join("\n"));
}

struct Runtime {
    name: &'static str,
    program: PathBuf,
}

/// For this thread and what it starts: v1 alone, where cgroup v2 stands beside it.
fn hide_unified() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let unified = "/sys/fs/cgroup/unified";
    if fs::read_to_string("/proc/thread-self/mounts")
        .unwrap()
        .lines()
        .any(|l| l.split(' ').nth(1) == Some(unified))
    {
        umount2(unified, MntFlags::MNT_DETACH).unwrap();
        // crun and runc make their group all the same, in whatever folder is there.
        mount(Some("none"), unified, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    }
}

/// One container under one runtime, on a bundle of its own, removed whatever happens.
struct Stage<'a> {
    runtime: &'a Runtime,
    bundle: Bundle,
    root: PathBuf,
    id: String,
    report: Report,
}

fn observe(case: &Case, runtime: &Runtime, observer: &Path) -> Result<Report, String> {
    let mut bundle = Bundle::new("same").map_err(|e| e.to_string())?;
    fs::copy(observer, bundle.rootfs().join("observe")).unwrap();
    fs::copy(observer, bundle.path().join("observe")).unwrap();
    fs::create_dir(bundle.path().join("hooks")).unwrap();
    let verb = if case.how == How::Life { "wait" } else { "all" };
    bundle.args(&["/observe", verb]);
    let others = cases::Others::new();
    (case.change)(&mut bundle, &others);
    if runtime.name != "sampan" {
        // crun 1.8 and runc 1.1 know no time namespace.
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "time");
        bundle.config["linux"].as_object_mut().unwrap().remove("timeOffsets");
    }
    bundle.write().unwrap();
    let root = bundle.path().join("state");
    let word: String = case.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let id = format!("same{}-{word}", std::process::id());
    let mut s = Stage { runtime, bundle, root, id, report: Report::default() };
    s.report.names(s.bundle.path(), &s.id, &cases::joined(&others));
    let before = tree(&s.bundle.rootfs());
    match case.how {
        How::Run => s.run(),
        How::Life => s.life(case)?,
        How::Fails(words) => s.fails(words),
    }
    s.left(&before);
    Ok(std::mem::take(&mut s.report))
}

impl Stage<'_> {
    fn command(&self, args: &[&str]) -> Command {
        // As under nohup, and with a descriptor of the caller's that is not meant for anybody.
        let mut c = Command::new("/bin/sh");
        c.args(["-c", "trap '' USR1; exec \"$0\" \"$@\" 9</dev/zero"]).arg(&self.runtime.program);
        c.arg("--root").arg(&self.root).args(args).current_dir(self.bundle.path());
        // Not /dev/null: crun and runc give what they find there to the container's user.
        let (empty, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        c.stdin(empty);
        // What a shell may have set must not decide.
        c.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("XDG_RUNTIME_DIR", "/run");
        c
    }

    /// Exit code, output, error.
    fn verb(&self, args: &[&str]) -> (i32, String, String) {
        crate::sampan::run(&mut self.command(args))
    }

    fn dir(&self) -> String {
        self.bundle.path().to_str().unwrap().to_owned()
    }

    fn run(&mut self) {
        let (dir, id) = (self.dir(), self.id.clone());
        let (code, out, err) = self.verb(&["run", "--bundle", &dir, &id]);
        self.report.line("run: exit code", code);
        self.report.line("run: stderr", err);
        self.report.text("", &out);
    }

    fn fails(&mut self, words: &str) {
        let (dir, id) = (self.dir(), self.id.clone());
        let (code, out, err) = self.verb(&["run", "--bundle", &dir, &id]);
        self.report.line("run: exit code", code);
        self.report.line("run: stdout", out);
        let said = err.to_lowercase().contains(words);
        self.report.line(&format!("run: says {words:?}"), if said { "yes".to_owned() } else { err });
    }

    /// Every verb, a container's whole life long, and processes added to it.
    fn life(&mut self, case: &Case) -> Result<(), String> {
        let (dir, id) = (self.dir(), self.id.clone());
        let pid_file = format!("{dir}/pid");
        let terminal = self.bundle.config.pointer("/process/terminal").is_some_and(|t| t == true);
        let socket = terminal.then(|| Console::new(&self.bundle.path().join("console")));
        let mut args = vec!["create", "--bundle", &dir, "--pid-file", &pid_file];
        let console = format!("{dir}/console");
        if terminal {
            args.extend(["--console-socket", &console]);
        }
        args.push(&id);
        let output = capture();
        let status = self
            .command(&args)
            .stdout(output.try_clone().unwrap())
            .stderr(output.try_clone().unwrap())
            .status();
        let code = status.unwrap().code();
        if code != Some(0) {
            return Err(format!("create: {code:?}: {}", text(&output)));
        }
        let master = socket.map(Console::accept);
        self.state("created");
        let pid = fs::read_to_string(&pid_file).unwrap_or_default();
        let (_, state, _) = self.verb(&["state", &id]);
        let state: serde_json::Value = serde_json::from_str(&state).unwrap_or_default();
        self.report.line("pid file is state's pid", state["pid"].as_u64() == pid.parse().ok());
        self.report
            .line("created: group", fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default());
        let (code, out, err) = self.verb(&["start", &id]);
        self.report.line("start", format!("{code} {out}{err}"));
        let said = match &master {
            Some(master) => until_end(|| master.read()),
            None => until_end(|| text(&output)),
        }?;
        self.report.text("", &said);
        self.state("running");
        for (n, (flags, program)) in case.execs.iter().enumerate() {
            self.exec(n, flags, program);
        }
        let (code, out, err) = self.verb(&["start", &id]);
        self.report.line("second start: fails", code != 0 && out.is_empty() && !err.is_empty());
        let (code, ..) = self.verb(&["delete", &id]);
        self.report.line("delete while running: fails", code != 0);
        let (code, out, err) = self.verb(&["kill", &id, "KILL"]);
        self.report.line("kill", format!("{code} {out}{err}"));
        let ends = Instant::now() + Duration::from_secs(5);
        while !self.verb(&["state", &id]).1.contains("stopped") && Instant::now() < ends {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.state("stopped");
        let (code, ..) = self.verb(&["kill", &id, "KILL"]);
        self.report.line("kill when stopped: exit code", code);
        let (code, out, err) = self.verb(&["delete", &id]);
        self.report.line("delete", format!("{code} {out}{err}"));
        let (code, out, err) = self.verb(&["state", &id]);
        self.report.line(
            "state when deleted",
            format!("{code} {out} says no: {}", err.contains("not exist") || err.contains("No such file")),
        );
        Ok(())
    }

    fn state(&mut self, when: &str) {
        let (code, out, err) = self.verb(&["state", &self.id]);
        self.report.line(&format!("state {when}: exit code"), format!("{code} {err}"));
        let state: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        self.report.state(&format!("state {when}"), &state);
    }

    fn exec(&mut self, n: usize, flags: &[&str], program: &[&str]) {
        let id = self.id.clone();
        let tty = flags.contains(&"--tty").then(|| Console::new(&self.bundle.path().join("exec-console")));
        let console = format!("{}/exec-console", self.dir());
        let mut args = vec!["exec"];
        args.extend(flags);
        if tty.is_some() {
            args.extend(["--console-socket", &console, "--detach"]);
        }
        args.push(&id);
        args.extend(program);
        let (code, out, err) = self.verb(&args);
        let prefix = format!("exec {n} [{}]: ", flags.join(" "));
        self.report.line(&format!("{prefix}exit code"), code);
        // A failing one says so in the runtime's own words.
        self.report
            .line(&format!("{prefix}stderr"), if code == 0 { err } else { (!err.is_empty()).to_string() });
        let out = match tty.map(Console::accept) {
            Some(master) => until_end(|| master.read()).unwrap_or_else(|e| e),
            None => out,
        };
        self.report.text(&prefix, &out);
    }

    /// What hooks wrote, and what is still there.
    fn left(&mut self, before: &[String]) {
        let hooks = fs::read_to_string(self.bundle.path().join("hooks/report")).unwrap_or_default();
        self.report.hooks(&hooks);
        let after = tree(&self.bundle.rootfs());
        let new: Vec<&str> = after.iter().filter(|p| !before.contains(p)).map(String::as_str).collect();
        self.report.line("left in the root file system", new.join(", "));
        self.report.line(
            "left in --root",
            fs::read_dir(&self.root)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" "),
        );
        let groups: Vec<String> = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path().join(&self.id))
            .filter(|p| p.exists() && !p.starts_with("/sys/fs/cgroup/unified"))
            .map(|p| p.display().to_string())
            .collect();
        self.report.line("left of groups", groups.join(" "));
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
        self.report.line(
            "left of mounts",
            mounts.lines().filter(|l| l.contains(&self.dir())).collect::<Vec<_>>().join(" "),
        );
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if self.root.join(&self.id).exists() {
            let _ = self.verb(&["delete", "--force", &self.id]);
        }
    }
}

/// Every path below, with kind and mode.
fn tree(root: &Path) -> Vec<String> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(m) = entry.metadata() else { continue };
            let kind = if m.is_dir() {
                "folder"
            } else if m.is_file() {
                "file"
            } else {
                "other"
            };
            let path = entry.path();
            found.push(format!(
                "{} {kind} {:o} {}:{}",
                path.strip_prefix(root).unwrap().display(),
                m.permissions().mode() & 0o7777,
                m.uid(),
                m.gid()
            ));
            if m.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The socket that a terminal's master is sent to.
struct Console(UnixListener);

/// Set not to block.
struct Master(File, std::cell::RefCell<String>);

impl Console {
    fn new(path: &Path) -> Console {
        let _ = fs::remove_file(path);
        Console(UnixListener::bind(path).unwrap())
    }

    fn accept(self) -> Master {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
        use std::os::fd::AsRawFd;
        let (stream, _) = self.0.accept().unwrap();
        let (mut name, mut space) = ([0u8; 256], nix::cmsg_space!([i32; 1]));
        let mut parts = [IoSliceMut::new(&mut name)];
        let got = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .unwrap();
        let fd = got.cmsgs().unwrap().find_map(|c| match c {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        // SAFETY: just received, so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd.unwrap()) };
        rustix::io::ioctl_fionbio(&fd, true).unwrap();
        Master(fd.into(), std::cell::RefCell::default())
    }
}

impl Master {
    /// All that came so far.
    fn read(&self) -> String {
        let mut bytes = [0u8; 65536];
        while let Ok(n @ 1..) = (&self.0).read(&mut bytes) {
            self.1.borrow_mut().push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
        self.1.borrow().replace("\r\n", "\n")
    }
}

fn until_end(read: impl Fn() -> String) -> Result<String, String> {
    let ends = Instant::now() + Duration::from_secs(20);
    loop {
        let text = read();
        if text.ends_with("end = of the report\n") {
            return Ok(text);
        }
        if Instant::now() > ends {
            return Err(format!("the report has no end: {text}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn capture() -> File {
    rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
}

/// All that was written, without moving where it is written next.
fn text(file: &File) -> String {
    let mut bytes = vec![0; file.metadata().map_or(0, |m| m.len() as usize)];
    let read = file.read_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}
