//! The real sampand, its worker killed at each step boundary of a scenario in turn (`sampan_journal::crash`):
//! one service that runs, one that exits with 37 until it has failed. Whatever the moment: each ends up where it
//! would have without the crash, nothing runs twice, no exit code is lost, and Ctrl-C leaves nothing.

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Much more than it takes: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    folder: PathBuf,
    /// An argument of its own by which the service's processes are found.
    marker: String,
    cgroup: String,
    sampand: Child,
}

impl World {
    fn start(crash_at: u32) -> World {
        let id = format!("{}-{crash_at}", std::process::id());
        let folder = std::env::temp_dir().join(format!("sampan-crash-{id}"));
        std::fs::create_dir_all(folder.join("plugins")).unwrap();
        let marker = format!("98765.{}{crash_at:04}", std::process::id());
        let cgroup = format!("/sampan-crash-{id}");
        let config = format!(
            r#"
            version = 1
            [supervisor]
            run_dir = "{0}/run"
            state_dir = "{0}/state"
            plugin_dir = "{0}/plugins"
            cgroup_parent = "{cgroup}"
            [defaults]
            rootfs = "host"
            network_mode = "none"
            logging = "none"
            [services.web]
            command = ["sleep", "{marker}"]
            stop_grace_period = "100ms"
            [services.job]
            command = ["sh", "-c", "exit 37"]
            restart = {{ policy = "on-failure", max_attempts = 2, delay = "20ms", jitter = 0.0 }}
            "#,
            folder.display()
        );
        std::fs::write(folder.join("config.toml"), config).unwrap();
        let output = std::fs::File::create(folder.join("output")).unwrap();
        let sampand = Command::new(env!("CARGO_BIN_EXE_sampand"))
            .arg("--config")
            .arg(folder.join("config.toml"))
            .env("SAMPAN_CRASH_AT", crash_at.to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        World { folder, marker, cgroup, sampand }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }

    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("run/journal")).unwrap_or_default();
        text.lines().skip(1).filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn state(&self, service: &str) -> String {
        let records = self.records();
        let last = records.iter().rfind(|r| r["service"] == service);
        last.map_or_else(String::new, |r| r["to"].as_str().unwrap_or_default().to_owned())
    }

    /// Processes with the marker among their arguments, dead ones not counted.
    fn processes(&self) -> Vec<i32> {
        let argument = format!("{}\0", self.marker).into_bytes();
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(&argument))
            })
            .collect()
    }

    fn groups(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(|e| Some(e.ok()?.path()));
        let roots = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
        roots
            .map(|root| root.join(self.cgroup.trim_start_matches('/')))
            .filter(|path| path.exists())
            .collect()
    }

    fn until(&mut self, what: &str, is: impl Fn(&World) -> bool) -> Result<(), String> {
        let begin = Instant::now();
        while !is(self) {
            if let Ok(Some(status)) = self.sampand.try_wait() {
                return Err(format!("sampand ended ({status}) before {what}"));
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("not within {PATIENCE:?}: {what}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// By Ctrl-C; its exit code.
    fn end(&mut self) -> Result<Option<i32>, String> {
        let keel = nix::unistd::Pid::from_raw(self.sampand.id() as i32);
        nix::sys::signal::kill(keel, nix::sys::signal::Signal::SIGINT).map_err(|e| e.to_string())?;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.sampand.try_wait().map_err(|e| e.to_string())? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("SIGINT did not end it".into())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        let _ = self.sampand.kill();
        let _ = self.sampand.wait();
        for pid in self.processes() {
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
        for group in self.groups() {
            // Only what an error left; the folders of a group go by rmdir alone, the deepest first.
            let _ = Command::new("find")
                .arg(group)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                .status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What is wrong after a death at this boundary.
fn live_through(world: &mut World) -> Result<(), String> {
    world
        .until("web running and job failed", |w| w.state("web") == "running" && w.state("job") == "failed")?;
    let processes = world.processes();
    expect("processes of web", processes.len(), 1)?;
    let records = world.records();
    let numbers: Vec<u64> = records.iter().filter_map(|r| r["seq"].as_u64()).collect();
    expect("numbers in the journal", numbers, (1..=records.len() as u64).collect())?;
    for record in records.iter().filter(|r| r["service"] == "job") {
        let exit = record["data"]["last_exit"].as_str().unwrap_or("37");
        expect("last exit of job", exit, "37")?;
    }
    // Once it runs, no death of a worker disturbs it.
    let disturbed =
        records.iter().filter(|r| r["service"] == "web" && r["from"] == "running" && r["to"] != "running");
    expect("ends of web", disturbed.count(), 0)?;

    expect("exit code of sampand", world.end()?, Some(0))?;
    expect("processes left", world.processes(), vec![])?;
    expect("groups left", world.groups().len(), 0)?;
    expect("a run folder", world.folder.join("run").exists(), false)
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, is: T, should: T) -> Result<(), String> {
    if is == should { Ok(()) } else { Err(format!("{what}: {is:?}, not {should:?}")) }
}

/// None: the scenario has no such boundary. Else what was wrong.
fn crash_at(number: u32, loud: bool) -> Option<Result<(), String>> {
    let mut world = World::start(number);
    let outcome = live_through(&mut world);
    let output = world.output();
    if loud {
        eprintln!("{output}");
    }
    let point = output.lines().find_map(|line| line.strip_prefix("sampand: crash point "));
    match (point, outcome) {
        (Some(point), Err(problem)) => Some(Err(format!("{point}: {problem}\n{output}"))),
        (None, Err(problem)) => Some(Err(format!("without a crash: {problem}\n{output}"))),
        (Some(_), Ok(())) => Some(Ok(())),
        (None, Ok(())) => None,
    }
}

#[test]
fn the_worker_killed_at_each_step_boundary() {
    if !sampan_testkit::need::root() {
        return;
    }
    if let Some(number) = std::env::var("SAMPAN_TEST_CRASH_AT").ok().and_then(|at| at.parse().ok()) {
        return crash_at(number, true).expect("there is no such boundary").unwrap();
    }
    // Each takes half a second, mostly of waiting. By default every third, another third each time.
    let stride = std::env::var("SAMPAN_TEST_CRASH_STRIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let next = AtomicU32::new(1 + std::process::id() % stride);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| boundaries_from(&next, stride))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (count, tried) = (failures.len(), next.load(Ordering::Relaxed));
    let text = failures.join("\n");
    assert_eq!(count, 0, "of {tried}; SAMPAN_TEST_CRASH_AT=N tries one\n{text}");
    assert!(tried > 50, "only {tried} boundaries");
}

fn boundaries_from(next: &AtomicU32, stride: u32) -> Vec<String> {
    let outcomes = core::iter::from_fn(|| crash_at(next.fetch_add(stride, Ordering::Relaxed), false));
    outcomes.filter_map(Result::err).take(10).collect()
}
