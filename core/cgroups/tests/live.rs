//! Real groups on this machine, as root. Each test has groups of its own below /sampan-test-PID-N.

use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sampan_cgroups::{Cgroup, Hierarchies, Place, limits};
use sampan_plan::spec::{Cpu, Memory, Pids, Resources};

/// A group that is emptied and removed whatever happens.
struct Scratch(Cgroup<'static>);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.kill(Duration::from_secs(5));
        if let Err(e) = self.0.remove() {
            eprintln!("left behind: {e}");
        }
    }
}

impl std::ops::Deref for Scratch {
    type Target = Cgroup<'static>;
    fn deref(&self) -> &Cgroup<'static> {
        &self.0
    }
}

fn place() -> Place {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Place::Absolute(format!("sampan-test-{}-{n}", std::process::id()))
}

fn scratch() -> Option<Scratch> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to make control groups");
        return None;
    }
    let hierarchies = Hierarchies::detect().expect("this machine has control groups");
    Some(Scratch(Cgroup::create(hierarchies, &place()).unwrap()))
}

fn sleeper(group: &Cgroup<'_>) -> Child {
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    group.add(child.id() as i32).unwrap();
    child
}

fn all_limits() -> Resources<'static> {
    Resources {
        memory: Some(Memory { limit: Some(64 << 20), swap: Some(96 << 20), ..Memory::default() }),
        cpu: Some(Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(100_000),
            burst: Some(10_000),
            cpus: Some("0".into()),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: Some(50) }),
        ..Resources::default()
    }
}

/// Reads a file of the group in whichever hierarchy has it.
fn value(group: &Cgroup<'_>, file: &str) -> String {
    let found = group
        .paths()
        .into_iter()
        .find_map(|(_, path)| std::fs::read_to_string(format!("{path}/{file}")).ok());
    found.unwrap_or_else(|| panic!("no {file} in {group}")).trim().to_owned()
}

#[test]
fn a_container_gets_its_limits_and_leaves_nothing() {
    let Some(group) = scratch() else { return };
    let layout = group.hierarchies().layout();
    group.apply(&limits(&all_limits(), &layout).unwrap()).unwrap();
    assert_eq!(value(&group, "pids.max"), "50");
    assert_eq!(value(&group, "cpuset.cpus"), "0");
    if layout.v1.iter().any(|c| c == "memory") {
        assert_eq!(value(&group, "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(value(&group, "memory.memsw.limit_in_bytes"), (96 << 20).to_string());
        assert_eq!(value(&group, "cpu.cfs_quota_us"), "50000");
        assert!(value(&group, "devices.list").contains("c 1:3 rwm"));
        assert!(!value(&group, "devices.list").contains("a *:*"));
    }
    let mut child = sleeper(&group);
    assert_eq!(group.procs().unwrap(), [child.id() as i32]);
    assert!(!group.is_empty().unwrap());
    group.kill(Duration::from_secs(5)).unwrap();
    assert!(group.is_empty().unwrap(), "a zombie is not in it any more");
    group.remove().unwrap();
    child.wait().unwrap();
    for (_, path) in group.paths() {
        assert!(!std::path::Path::new(&path).exists(), "{path} is left");
    }
}

#[test]
fn a_child_joins_v1_by_tasks_and_v2_by_clone() {
    let Some(group) = scratch() else { return };
    let mut tasks = group.tasks_fds().unwrap();
    // A shell stands in for the child: it inherits one descriptor and writes to it itself.
    for task in &mut tasks {
        rustix::io::fcntl_setfd(&*task, rustix::io::FdFlags::empty()).unwrap();
    }
    let joins: Vec<String> = tasks.iter().map(|t| format!("echo 0 >&{}", t.as_raw_fd())).collect();
    let script = format!("{}; cat /proc/self/cgroup", joins.join("; "));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    std::io::stderr().write_all(&output.stderr).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let folder = group.location();
    for line in text.lines().filter(|l| !l.starts_with("0::")) {
        assert!(line.ends_with(&folder), "{line} is not {folder}");
    }
    if let Some(fd) = group.v2_fd().unwrap() {
        assert!(rustix::fs::fstat(&fd).is_ok());
    }
}
