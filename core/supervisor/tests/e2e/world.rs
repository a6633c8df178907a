//! A sampand for one test, and what is asked of it. Dropped, it is stopped as by Ctrl-C and everything of it must be gone:
//! processes (they carry the test's name in their environment or cgroup), cgroups, mounts, the run folder.
use sampan_api as api;
use sampan_testkit::{Bundle, need};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The machine may be busy; nothing here waits so long unless something is wrong.
pub const LONG: Duration = Duration::from_secs(60);
/// Runs until it is killed, as one process.
pub const LIVE: &str = "command = [\"/bin/sleep\", \"100000\"]\nstop_signal = \"SIGKILL\"\n";
/// In the environment of keel and worker.
pub const MARK: &str = "SAMPAN_TEST_WORLD";

pub struct World {
    bundle: Bundle,
    /// Of `cgroup_parent`, without its slash.
    group: String,
    env: Vec<(String, String)>,
    keel: Option<Child>,
    /// The folder of its programs.
    bin: PathBuf,
    umask: &'static str,
    /// So many seconds is the time since boot ahead of the host's, in a time namespace of sampand's own.
    ahead: u32,
    open_files: Option<u32>,
    /// Of the command line.
    profiles: Vec<String>,
}

/// A program's end.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl World {
    /// Not started yet. `toml` is everything below `[defaults]`; a part of it before a line `---` belongs to `[supervisor]`.
    pub fn new(toml: &str) -> Option<World> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let there = need::root()
            && need::busybox()
            && ["sampanctl", "sampan"].iter().all(|name| {
                let path = program(name);
                need::need(&format!("{} (cargo build --workspace)", path.display()), path.exists())
            });
        if !there {
            return None;
        }
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let group = format!("sampan-e2e-{}-{n}", std::process::id());
        let bin = program("sampand").parent().unwrap().to_owned();
        let bundle = Bundle::new("e2e").unwrap();
        let (env, umask) = (Vec::new(), "022");
        let (keel, open_files, profiles) = (None, None, Vec::new());
        let world = World { bundle, group, env, keel, bin, umask, ahead: 0, open_files, profiles };
        fs::create_dir(world.dir().join("plugins")).unwrap();
        // For volumes: nothing is made in the root of a service.
        ["data", "mnt", "out"]
            .iter()
            .for_each(|name| fs::create_dir(world.dir().join("rootfs").join(name)).unwrap());
        world.configure(toml);
        Some(world)
    }

    /// Of the running kernel.
    pub fn kernel() -> (u32, u32) {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut parts = release.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    pub fn configure(&self, toml: &str) {
        let (supervisor, rest) = toml.split_once("---\n").unwrap_or(("", toml));
        let dir = self.dir().display();
        let plugins =
            if self.is_installed() { String::new() } else { format!("plugin_dir = \"{dir}/plugins\"\n") };
        let text = format!(
            "[supervisor]\nrun_dir = \"{dir}/run\"\nstate_dir = \"{dir}/state\"\ncgroup_parent = \"/{}\"\n\
             {plugins}{supervisor}\n\
             [defaults]\nrootfs = \"{dir}/rootfs\"\nnetwork_mode = \"none\"\nstop_grace_period = \"5s\"\n\n{rest}",
            self.group
        );
        fs::write(self.config(), text).unwrap();
    }

    /// A copy of the programs and of these plugins, laid out as `make install` does it; the config names no plugin_dir.
    pub fn installed(mut self, plugins: &[&str]) -> World {
        let prefix = self.dir().join("installed");
        self.bin = prefix.join("bin");
        fs::create_dir_all(&self.bin).unwrap();
        for name in ["sampan", "sampand", "sampanctl"] {
            fs::copy(program(name), self.bin.join(name)).unwrap();
        }
        let folder = prefix.join("lib/sampan/plugins");
        fs::create_dir_all(&folder).unwrap();
        for name in plugins {
            fs::copy(library(name), folder.join(format!("lib{name}.so"))).unwrap();
        }
        self
    }

    fn is_installed(&self) -> bool {
        self.bin.starts_with(self.dir())
    }

    pub fn env(mut self, name: &str, value: &str) -> World {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn dir(&self) -> &Path {
        self.bundle.path()
    }
    /// That sampand is started with.
    pub fn umask(mut self, umask: &'static str) -> World {
        self.umask = umask;
        self
    }

    /// Of the next sampand.
    pub fn profiles(&mut self, names: &[&str]) {
        self.profiles = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// The limit that sampand is started with.
    pub fn open_files(mut self, limit: u32) -> World {
        self.open_files = Some(limit);
        self
    }

    /// Of the next sampand. 0: the test's own time namespace.
    pub fn ahead(&mut self, seconds: u32) {
        self.ahead = seconds;
    }

    /// Of `cgroup_parent`, without its slash.
    pub fn group(&self) -> &str {
        &self.group
    }
    pub fn bin(&self) -> &Path {
        &self.bin
    }
    pub fn config(&self) -> PathBuf {
        self.dir().join("config.toml")
    }
    pub fn socket(&self) -> PathBuf {
        self.dir().join("run/sampand.sock")
    }
    pub fn containers(&self) -> PathBuf {
        self.dir().join("run/containers")
    }

    /// Starts a sampand and waits until it answers.
    pub fn start(&mut self) -> &mut World {
        self.spawn();
        let end = Instant::now() + LONG;
        while self.get::<api::Version>("/v1/version").is_err() {
            let ended = self.keel.as_mut().and_then(|keel| keel.try_wait().unwrap());
            let late = Instant::now() > end;
            assert!(
                ended.is_none() && !late,
                "sampand does not start ({ended:?}); it said:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    pub fn spawn(&mut self) {
        assert!(self.keel.is_none(), "one sampand at a time");
        let out = fs::File::options().create(true).append(true).open(self.dir().join("out")).unwrap();
        let inside = match self.ahead {
            0 => String::new(),
            seconds => format!("unshare --time --boottime {seconds} --"),
        };
        let limit = self.open_files.map(|limit| format!("ulimit -n {limit};")).unwrap_or_default();
        let mut sampand = Command::new("sh");
        sampand
            .args(["-c", &format!("umask {}; {limit} exec {inside} \"$0\" \"$@\"", self.umask)])
            .arg(self.bin.join("sampand"))
            .arg("--config")
            .arg(self.config())
            .args(self.profiles.iter().map(|name| format!("--profile={name}")))
            .env(MARK, self.dir())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        self.keel = Some(sampand.spawn().unwrap());
    }

    /// All that sampand has said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.dir().join("out")).unwrap_or_default()
    }

    pub fn keel(&self) -> i32 {
        self.keel.as_ref().expect("sampand runs").id().try_into().unwrap()
    }

    /// The keel's child that is a sampand itself; none between two.
    pub fn worker(&self) -> Option<i32> {
        let keel = self.keel();
        let children = fs::read_to_string(format!("/proc/{keel}/task/{keel}/children")).unwrap();
        let is_worker = |pid: &i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(b"worker")
        };
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_worker)
    }

    /// Who holds the keel's descriptors beside it, or after it.
    pub fn holder(&self) -> Option<i32> {
        self.marked()
            .find(|process| {
                fs::read(process.join("comm")).is_ok_and(|comm| comm == b"sampand-holder\n")
                    && !is_dead(process)
            })?
            .file_name()?
            .to_str()?
            .parse()
            .ok()
    }

    /// The folders in /proc of the processes that were started with our name in their environment.
    fn marked(&self) -> impl Iterator<Item = PathBuf> {
        let mark = format!("{MARK}={}", self.dir().display()).into_bytes();
        folders(Path::new("/proc")).into_iter().filter(move |process| {
            let environ = fs::read(process.join("environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry == mark)
        })
    }

    pub fn signal(&self, signal: i32) {
        kill(self.keel(), signal);
    }

    /// It has been started, and is no zombie.
    pub fn keel_lives(&self) -> bool {
        !is_dead(&Path::new("/proc").join(self.keel().to_string()))
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> bool {
        let ended = self.keel.as_mut().is_none_or(|keel| keel.try_wait().unwrap().is_some());
        if ended {
            self.keel = None;
        }
        ended
    }

    /// Waits for sampand's end.
    pub fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            if let Some(status) = self.keel.as_mut().expect("sampand runs").try_wait().unwrap() {
                self.keel = None;
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("sampand does not end; it said:\n{}", self.said());
    }

    /// As Ctrl-C; returns the exit code.
    pub fn interrupt(&mut self) -> Option<i32> {
        self.signal(libc::SIGINT);
        self.ended()
    }

    pub fn ctl(&self, args: &[&str]) -> Ran {
        let mut ctl = Command::new(self.bin.join("sampanctl"));
        let env = self.env.iter().map(|(name, value)| (name, value));
        run(ctl.envs(env).arg("--socket").arg(self.socket()).args(args))
    }

    /// What must go well, and its output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.ctl(args);
        assert_eq!(ran.code, 0, "sampanctl {args:?}: {ran:?}\nsampand said:\n{}", self.said());
        ran.out
    }

    /// `sampan` on sampand's containers.
    pub fn sampan(&self, args: &[&str]) -> Ran {
        run(Command::new(self.bin.join("sampan")).arg("--root").arg(self.containers()).args(args))
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> std::io::Result<T> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(LONG))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: sampand\r\nConnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body)
            .map_err(|error| std::io::Error::other(format!("{path}: {error} in {reply:?}")))
    }

    /// One service; also while a worker is being replaced.
    pub fn inspect(&self, name: &str) -> api::Inspect {
        self.patiently(|| self.get(&format!("/v1/services/{name}")))
    }

    pub fn services(&self) -> Vec<api::Status> {
        self.patiently(|| self.get("/v1/services"))
    }

    pub fn patiently<T>(&self, ask: impl Fn() -> std::io::Result<T>) -> T {
        let end = Instant::now() + LONG;
        loop {
            match ask() {
                Ok(answer) => return answer,
                Err(error) if Instant::now() > end => panic!("{error}; sampand said:\n{}", self.said()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    pub fn pid(&self, name: &str) -> i32 {
        self.inspect(name).status.pid.unwrap_or_else(|| panic!("{name} has no process:\n{}", self.said()))
    }

    /// All transitions since sampand's run folder was made, oldest first.
    pub fn events(&self) -> Vec<api::Transition> {
        let lines = self.ok(&["--json", "events"]);
        serde_json::Deserializer::from_str(&lines).into_iter().map(Result::unwrap).collect()
    }

    /// Where in the transitions `service` first came to `state`.
    #[track_caller]
    pub fn place(&self, service: &str, state: &str) -> usize {
        let events = self.events();
        events
            .iter()
            .position(|event| event.service == service && event.to == state)
            .unwrap_or_else(|| panic!("{service} never came to {state}: {events:#?}"))
    }

    #[track_caller]
    pub fn until(&self, what: &str, mut is: impl FnMut(&World) -> bool) {
        let end = Instant::now() + LONG;
        while !is(self) {
            assert!(Instant::now() < end, "not so: {what}; sampand said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub fn until_state(&self, name: &str, state: &str) {
        let mut last = String::new();
        let end = Instant::now() + LONG;
        while last != state {
            assert!(Instant::now() < end, "{name} is {last}, not {state}; sampand said:\n{}", self.said());
            last = self.inspect(name).status.state;
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The processes in a service's cgroup, as the kernel counts them.
    pub fn processes(&self, service: &str) -> Vec<i32> {
        let mut found: Vec<i32> = hierarchies()
            .iter()
            .filter_map(|root| {
                fs::read_to_string(root.join(&self.group).join(service).join("cgroup.procs")).ok()
            })
            .flat_map(|procs| procs.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Sampand's cgroup and those below it, in every hierarchy.
    pub fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut next: Vec<PathBuf> =
            hierarchies().iter().map(|root| root.join(&self.group)).filter(|path| path.is_dir()).collect();
        while let Some(group) = next.pop() {
            next.extend(folders(&group));
            found.push(group);
        }
        found
    }

    /// What is left of sampand and its services, in words.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.groups().iter().map(|group| format!("cgroup {}", group.display())).collect();
        let mark = format!("{MARK}={}", self.dir().display());
        for process in folders(Path::new("/proc")) {
            let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
            let marked = read("environ").split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes());
            let grouped = String::from_utf8_lossy(&read("cgroup")).contains(&format!("/{}/", self.group));
            let dead = String::from_utf8_lossy(&read("stat")).contains(") Z ");
            if (marked || grouped)
                && !dead
                && process.file_name() != Some(std::process::id().to_string().as_ref())
            {
                let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
                left.push(format!("process {} {command}", process.display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir().display().to_string();
        left.extend(mounts.lines().filter(|line| line.contains(&dir)).map(|line| format!("mount {line}")));
        if self.dir().join("run").exists() {
            left.push(format!("run folder with {:?}", folders_and_files(&self.dir().join("run"))));
        }
        left
    }

    /// After a test that failed: ends and removes by force.
    fn scrub(&mut self) {
        if let Some(mut keel) = self.keel.take() {
            for worker in self.worker_of(&keel) {
                kill(worker, libc::SIGKILL);
            }
            let _ = keel.kill();
            let _ = keel.wait();
        }
        for process in self.marked() {
            let pid = process.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            pid.into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
        }
        for _ in 0..100 {
            let groups = self.groups();
            for group in groups.iter().rev() {
                let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                for pid in procs.lines().filter_map(|pid| pid.parse().ok()) {
                    kill(pid, libc::SIGKILL);
                }
                let _ = fs::remove_dir(group);
            }
            if groups.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn worker_of(&self, keel: &Child) -> Vec<i32> {
        let keel = keel.id();
        let children = fs::read_to_string(format!("/proc/{keel}/task/{keel}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return self.scrub();
        }
        let mut code = Some(0);
        if self.keel.is_some() {
            code = self.interrupt();
        }
        let mut left = self.leftovers();
        // A process that was killed last may still be on its way out.
        for _ in 0..100 {
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            left = self.leftovers();
        }
        let said = self.said();
        self.scrub();
        assert_eq!((code, left), (Some(0), Vec::new()), "sampand's end; it said:\n{said}");
    }
}

/// A program of this workspace, built beside this test.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_sampand")).with_file_name(name)
}

/// A plugin of this workspace.
pub fn library(name: &str) -> PathBuf {
    program(&format!("lib{name}.so"))
}

pub fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: plain numbers; the pid is a child of ours or was just read from a cgroup of ours.
    unsafe { libc::kill(pid, signal) };
}

/// A file system in memory that goes with its test.
pub struct Small(PathBuf);

impl Small {
    /// `size` as tmpfs takes it.
    pub fn new(at: PathBuf, size: &str) -> Small {
        fs::create_dir(&at).unwrap();
        fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let options = format!("size={size},mode=700");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at));
        assert_eq!(mounted.code, 0, "{mounted:?}");
        Small(at)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
        let _ = fs::remove_dir(&self.0);
    }
}

/// Numbers that differ from run to run; the seed is printed, `SAMPAN_TEST_SEED` repeats it.
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let seed = std::env::var("SAMPAN_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(u64::from(now.subsec_nanos()) | 1);
        eprintln!("SAMPAN_TEST_SEED={seed}");
        Random(seed)
    }

    /// Never 0.
    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// xorshift64 (Marsaglia 2003).
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

pub fn is_dead(process: &Path) -> bool {
    fs::read_to_string(process.join("stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// Where cgroup hierarchies may be mounted: v2 alone, or one folder each.
fn hierarchies() -> Vec<PathBuf> {
    let all = Path::new("/sys/fs/cgroup");
    let mut roots = folders(all);
    roots.push(all.to_path_buf());
    roots
}

fn folders(path: &Path) -> Vec<PathBuf> {
    folders_and_files(path).into_iter().filter(|path| path.is_dir()).collect()
}

fn folders_and_files(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
