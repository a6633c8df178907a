//! The plugin as sampand drives it: through its C table.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use cgroups::Cgroups;
use sampan_plugin::abi;
use sampan_plugin::prelude::*;
use sampan_plugin::testing::{Event, Rig};

fn rig() -> Rig {
    let config = json!({"defaults": {"memory": "64M"}, "services": {"web": {"cpuset": "0"}}});
    Rig::new::<Cgroups>(config).unwrap()
}

/// A process in groups of its own, wherever this machine counts memory and processes.
struct Service {
    child: Child,
    groups: Vec<PathBuf>,
}

impl Service {
    fn new() -> Option<Service> {
        let base = Path::new("/sys/fs/cgroup");
        let v2 = base.join("cgroup.controllers").exists();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("sampan-plugin-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let groups: Vec<PathBuf> = match v2 {
            true => vec![base.join(name)],
            false => ["pids", "memory"]
                .iter()
                .map(|c| base.join(c))
                .filter(|p| p.exists())
                .map(|p| p.join(&name))
                .collect(),
        };
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        for group in &groups {
            let made = fs::create_dir(group);
            if let Err(e) = made.and_then(|()| fs::write(group.join("cgroup.procs"), child.id().to_string()))
            {
                println!("skipped: cannot make a control group ({e}); root can");
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
        Some(Service { child, groups })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for group in &self.groups {
            let _ = fs::remove_dir(group);
        }
    }
}

#[test]
fn a_lifecycle_answers_with_limits() {
    let answer = rig().lifecycle("web").unwrap();
    let resources = &answer["adjust"]["resources"];
    assert_eq!(resources["memory.limit"], json!(64 << 20));
    assert_eq!(resources["cpu.cpus"], json!("0"));
    let nothing = Rig::new::<Cgroups>(json!({})).unwrap().lifecycle("web").unwrap();
    assert!(nothing["adjust"].is_null(), "{nothing}");
}

#[test]
fn a_config_that_cannot_be_is_refused_with_its_key() {
    let refused = |config| Rig::new::<Cgroups>(config).err().expect("it was opened").to_string();
    assert!(refused(json!({"slices": {}})).contains("slices: not supported yet"));
    assert!(refused(json!({"defaults": {"memori": "1M"}})).contains("memori"));
    assert!(refused(json!({"defaults": {"cpu_weight": 0}})).contains("defaults.cpu_weight"));
}

#[test]
fn stats_are_read_when_asked_for() {
    let Some(service) = Service::new() else { return };
    let pid = i32::try_from(service.child.id()).unwrap();
    let rig = rig();
    let ask = |request| rig.fire(Event::new(abi::EV_CONTROL).body(request));
    let made = rig.fire(Event::new(abi::EV_CREATE).of("web").body(json!({"service": {}}))).unwrap().json;
    assert_eq!(made["without"], json!(["exit"]), "a restart waits for no figures that nobody asked for");
    rig.fire(Event::new(abi::EV_ATTACH).of("web").pid(pid)).unwrap();
    let all = ask(json!({"verb": "stats"})).unwrap().json;
    assert_eq!(all["web"]["pids"], json!(1), "{all}");
    let none = ask(json!({"verb": "stats", "services": ["db-*"]})).unwrap().json;
    assert_eq!(none, json!({}));
    assert!(ask(json!({"verb": "frob"})).unwrap_err().to_string().contains("has no verb \"frob\""));

    rig.fire(Event::new(abi::EV_OOM).of("web").body(json!({"oom_kill": 1}))).unwrap();
    assert_eq!(rig.metric("oom_kills"), Some(1.0));

    // A new worker: attach is replayed, and the figures are there again.
    rig.crash_and_reopen().unwrap();
    rig.fire(Event::new(abi::EV_ATTACH).of("web").pid(pid).flags(abi::F_REPLAY)).unwrap();
    assert_eq!(ask(json!({"verb": "stats"})).unwrap().json["web"]["pids"], json!(1));
    rig.fire(Event::new(abi::EV_DETACH).of("web").body(json!({"final": true}))).unwrap();
    assert_eq!(ask(json!({"verb": "stats"})).unwrap().json, json!({}));
}

#[test]
fn where_metrics_are_measured_the_last_figures_are_those_of_the_exit() {
    let Some(service) = Service::new() else { return };
    let pid = i32::try_from(service.child.id()).unwrap();
    let rig = Rig::new::<Cgroups>(json!({"metrics_every_s": 3600})).unwrap();
    rig.fire(Event::new(abi::EV_CREATE).of("web").body(json!({"service": {}}))).unwrap();
    rig.fire(Event::new(abi::EV_ATTACH).of("web").pid(pid)).unwrap();
    rig.fire(Event::new(abi::EV_EXIT).of("web").pid(pid)).unwrap();
    assert_eq!(rig.metric("pids"), Some(1.0));
}

/// Its first process may leave for a group below, and after its end its number is anybody's.
#[test]
fn figures_are_of_the_groups_that_a_container_was_made_in() {
    let (Some(mut service), Some(stranger)) = (Service::new(), Service::new()) else { return };
    let pid = i32::try_from(service.child.id()).unwrap();
    let rig = rig();
    rig.fire(Event::new(abi::EV_CREATE).of("web").body(json!({"service": {}}))).unwrap();
    rig.fire(Event::new(abi::EV_ATTACH).of("web").pid(pid)).unwrap();
    // The process is in another group, as one would be that has its number.
    for group in &stranger.groups {
        fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let ask = || rig.fire(Event::new(abi::EV_CONTROL).body(json!({"verb": "stats"}))).unwrap().json;
    assert_eq!(ask()["web"]["pids"], json!(0), "{}", ask());
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    rig.fire(Event::new(abi::EV_EXIT).of("web").pid(pid)).unwrap();
    assert_eq!(ask()["web"]["pids"], json!(0));
    rig.fire(Event::new(abi::EV_DETACH).of("web").body(json!({"final": false}))).unwrap();
    assert_eq!(ask(), json!({}));
}
