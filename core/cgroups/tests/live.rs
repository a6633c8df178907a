//! Real groups, as root: on this machine as it is, and, in a mount namespace of the test's own, with cgroup2 alone at
//! /sys/fs/cgroup. Each test has groups of its own below /sampan-test-PID-N and removes them whatever happens.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sampan_cgroups::error::Doing;
use sampan_cgroups::{Cgroup, CgroupsPath, Hierarchies, Limits};
use sampan_plan::host::Version;
use sampan_plan::spec::{Cpu, DeviceRule, Memory, Pids, Resources};
use sampan_testkit::need;

const SOON: Duration = Duration::from_secs(5);

struct Scratch(Cgroup<'static>);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.kill(SOON);
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

/// A killed child stays a zombie until dropped, as the keel leaves them.
struct Process(Child);

impl Process {
    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn place() -> CgroupsPath {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    CgroupsPath::Absolute(format!("sampan-test-{}-{n}", std::process::id()))
}

/// Runs the test with this machine's hierarchies, then with v2 alone.
fn everywhere(test: fn(&'static Hierarchies)) {
    if !need::root() {
        return;
    }
    let here = Hierarchies::detect().expect("this machine has control groups");
    test(here);
    if here.is_v2_only() {
        return;
    }
    // A mount namespace belongs to a thread, and so this one may have its own.
    let outcome = std::thread::scope(|scope| scope.spawn(|| v2_alone().map(test)).join());
    match outcome {
        Ok(ran) => drop(need::need("a mount namespace of the test's own with cgroup2 in it", ran.is_some())),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn v2_alone() -> Option<&'static Hierarchies> {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
    // SAFETY: only the mount namespace and the cwd of this thread are taken apart from the process.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.ok()?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).ok()?;
    unmount("/sys/fs/cgroup", UnmountFlags::DETACH).ok()?;
    mount("none", "/sys/fs/cgroup", "cgroup2", MountFlags::empty(), None).ok()?;
    let found = Hierarchies::detect_at("/sys/fs/cgroup").unwrap();
    assert!(found.is_v2_only());
    Some(Box::leak(Box::new(found)))
}

fn has(hierarchies: &Hierarchies, controller: &str) -> bool {
    need::need(&format!("the {controller} controller"), hierarchies.layout().version(controller).is_some())
}

fn scratch(hierarchies: &'static Hierarchies) -> Scratch {
    Scratch(Cgroup::create(hierarchies, &place()).unwrap())
}

fn spawn(group: &Cgroup<'_>, script: &str) -> Process {
    // Waits for a line before it runs, so that everything it starts is in the group.
    let script = format!("read go; {script}");
    let mut child = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    for (_, path) in group.paths() {
        fs::write(format!("{path}/cgroup.procs"), child.id().to_string()).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    Process(child)
}

/// A process that holds some hundred KiB and runs until it is ended.
fn holder(hierarchies: &Hierarchies, group: &Cgroup<'_>) -> Process {
    let process = spawn(group, "x=$(head -c 300000 /dev/zero | tr '\\0' x); while :; do :; done");
    let until = Instant::now() + SOON;
    while group.stats().unwrap().memory.usage.usage < 300_000
        && hierarchies.layout().version("memory").is_some()
    {
        assert!(Instant::now() < until, "it holds nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    process
}

/// All that this machine can limit.
fn all_limits(hierarchies: &Hierarchies) -> Resources<'static> {
    let layout = hierarchies.layout();
    let has = |controller| layout.version(controller).is_some();
    let cpus = has("cpuset").then(|| "0".into());
    let mut cpu = Cpu { cpus, ..Cpu::default() };
    if has("cpu") {
        (cpu.shares, cpu.quota, cpu.period, cpu.burst) =
            (Some(512), Some(50_000), Some(100_000), Some(10_000));
    }
    Resources {
        memory: has("memory").then(|| Memory { limit: Some(64 << 20), ..Memory::default() }),
        cpu: Some(cpu),
        pids: has("pids").then_some(Pids { limit: Some(50) }),
        ..Resources::default()
    }
}

/// A file of the group in whichever hierarchy has it.
fn value(group: &Cgroup<'_>, file: &str) -> Option<String> {
    let text =
        group.paths().into_iter().find_map(|(_, path)| fs::read_to_string(format!("{path}/{file}")).ok())?;
    Some(text.trim().to_owned())
}

#[track_caller]
fn expect(group: &Cgroup<'_>, pairs: &[(&str, &str)]) {
    for (file, wanted) in pairs {
        if let Some(found) = value(group, file) {
            assert_eq!(found, *wanted, "{file} of {group}");
        }
    }
}

fn left_of(group: &Cgroup<'_>) -> Vec<String> {
    group.paths().into_iter().map(|(_, path)| path).filter(|p| fs::exists(p).unwrap()).collect()
}

#[test]
fn a_container_gets_its_limits_and_leaves_nothing() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        group.apply(&Limits::new(&all_limits(hierarchies), &hierarchies.layout()).unwrap()).unwrap();
        let found = [
            ("pids.max", "50"),
            ("cpuset.cpus", "0"),
            ("memory.limit_in_bytes", "67108864"),
            ("memory.max", "67108864"),
            ("cpu.shares", "512"),
            ("cpu.weight", "59"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.max", "50000 100000"),
            ("cpu.cfs_burst_us", "10000"),
            ("cpu.max.burst", "10000"),
        ];
        expect(&group, &found);
        let process = spawn(&group, "sleep 60");
        assert!(group.procs().unwrap().contains(&process.pid()));
        assert!(!group.is_empty().unwrap());
        group.kill(SOON).unwrap();
        assert!(group.is_empty().unwrap(), "a zombie is not in it any more");
        group.remove().unwrap();
        assert_eq!(left_of(&group), [""; 0]);
    });
}

#[test]
fn clone3_gets_the_folder_of_the_v2_group() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        let folder = group.v2_fd().unwrap();
        assert_eq!(folder.is_some(), hierarchies.v2().is_some());
        let inode = folder.map(|folder| rustix::fs::fstat(folder).unwrap().st_ino);
        assert_eq!(inode, group.inode().unwrap().filter(|_| hierarchies.v2().is_some()));
    });
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        group.apply(&Limits::new(&Resources::default(), &hierarchies.layout()).unwrap()).unwrap();
        let try_both = "cat /dev/null && ! cat /dev/kmsg 2>/dev/null & wait $!";
        let mut process = spawn(&group, &format!("( {try_both} )"));
        assert!(process.0.wait().unwrap().success(), "null opens, kmsg does not");

        // An update replaces the rules; a hundred of them leave one program.
        let kmsg = DeviceRule {
            allow: true,
            kind: Some("c".into()),
            major: Some(1),
            minor: Some(11),
            access: Some("rw".into()),
        };
        for _ in 0..100 {
            group.update(&Resources { devices: vec![kmsg.clone()], ..Resources::default() }).unwrap();
        }
        let mut process = spawn(&group, "head -c0 /dev/kmsg");
        assert!(process.0.wait().unwrap().success(), "kmsg opens after the update");
        if hierarchies.is_v2_only() {
            let folder = group.v2_fd().unwrap().unwrap();
            assert_eq!(sampan_cgroups::devices::attached_programs(folder.as_fd()).unwrap(), 1);
        }
    });
}

#[test]
fn empty_groups_are_removed_at_once_and_others_left_as_they_are() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        let mut process = spawn(&group, "exec sleep 60");
        assert!(!group.remove_if_empty(), "somebody is in it");
        assert_eq!(group.procs().unwrap(), [process.pid()], "and still is");
        group.kill(SOON).unwrap();
        process.0.wait().unwrap();
        assert!(group.remove_if_empty());
        assert!(!group.exists());
        assert!(group.remove_if_empty(), "again is no error");

        let group = scratch(hierarchies);
        for (_, path) in group.paths() {
            fs::create_dir(format!("{path}/below")).unwrap();
        }
        assert!(!group.remove_if_empty(), "a group is below it");
        group.remove().unwrap();
    });
}

/// A kill that comes late: the group that was meant has gone, and another container is in one of the same name.
#[test]
fn a_late_kill_of_held_groups_does_not_reach_those_made_anew() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        let mut first = spawn(&group, "exec sleep 60");
        let held = group.hold().unwrap();
        assert_eq!(held.groups().procs().unwrap(), [first.pid()]);
        held.groups().kill(SOON).unwrap();
        assert_eq!(first.0.wait().unwrap().code(), None, "killed");
        let late = group.hold().unwrap();
        let identity = group.identity().unwrap();
        assert!(
            !group.hold_identified(&identity).unwrap().groups().paths().is_empty(),
            "they are still there"
        );
        group.remove().unwrap();

        let location = CgroupsPath::Absolute(group.location());
        let anew = Cgroup::create(hierarchies, &location).unwrap();
        let next = spawn(&anew, "exec sleep 60");
        let later = anew.hold_identified(&identity).unwrap();
        assert_eq!(later.groups().paths(), [], "those are gone");
        for held in [held, late, later] {
            held.groups().kill(SOON).unwrap();
            assert!(held.groups().is_empty().unwrap());
        }
        assert_eq!(anew.procs().unwrap(), [next.pid()], "the next life runs on");
        anew.kill(SOON).unwrap();
    });
}

#[test]
fn who_sits_in_one_v1_group_alone_is_found_when_the_others_are_gone() {
    everywhere(|hierarchies| {
        if hierarchies.is_v2_only() {
            return;
        }
        let group = scratch(hierarchies);
        let mut process = Process(Command::new("sleep").arg("60").spawn().unwrap());
        let (_, path) = group.paths().into_iter().find(|(name, _)| name == "cpu").unwrap();
        fs::write(format!("{path}/cgroup.procs"), process.pid().to_string()).unwrap();
        assert!(!group.remove_if_empty());
        group.kill(SOON).unwrap();
        assert_eq!(process.0.wait().unwrap().code(), None, "killed");
        group.remove().unwrap();
        assert!(!group.exists());
    });
}

#[test]
fn a_group_is_used_again_only_if_it_is_free() {
    everywhere(|hierarchies| {
        let place = place();
        let group = Scratch(Cgroup::create(hierarchies, &place).unwrap());
        assert!(group.is_new());
        assert!(!Cgroup::create(hierarchies, &place).unwrap().is_new());

        let process = spawn(&group, "sleep 60");
        let e = Cgroup::create(hierarchies, &place).unwrap_err();
        assert!(e.to_string().contains(&process.pid().to_string()), "{e}");
        group.kill(SOON).unwrap();

        group.freeze(SOON).unwrap();
        assert!(Cgroup::create(hierarchies, &place).unwrap_err().to_string().contains("frozen"));
        group.thaw(SOON).unwrap();
        Cgroup::create(hierarchies, &place).unwrap();
    });
}

#[test]
fn kept_groups_lose_the_groups_below_them() {
    everywhere(|hierarchies| {
        let place = place();
        let group = Scratch(Cgroup::create(hierarchies, &place).unwrap());
        for (_, path) in group.paths() {
            fs::create_dir_all(format!("{path}/made/inside")).unwrap();
        }
        assert!(Cgroup::reuse(hierarchies, &place).unwrap().1);
        assert!(group.paths().iter().all(|(_, path)| !fs::exists(format!("{path}/made")).unwrap()));
        spawn(&group, "true").0.wait().unwrap();
    });
}

#[test]
fn kept_groups_are_used_as_they_are_unless_one_is_missing() {
    everywhere(|hierarchies| {
        let place = place();
        let group = Scratch(Cgroup::create(hierarchies, &place).unwrap());
        group.apply(&Limits::new(&all_limits(hierarchies), &hierarchies.layout()).unwrap()).unwrap();
        assert!(Cgroup::reuse(hierarchies, &place).unwrap().1);

        let process = spawn(&group, "sleep 60");
        assert_eq!(Cgroup::reuse(hierarchies, &place).unwrap_err().doing, Doing::Occupied);
        assert_eq!(Cgroup::recreate(hierarchies, &place).unwrap_err().doing, Doing::Occupied);
        group.kill(SOON).unwrap();
        drop(process);

        group.freeze(SOON).unwrap();
        assert!(!Cgroup::reuse(hierarchies, &place).unwrap().1, "frozen, so made anew");
        expect(&group, &[("pids.max", "max"), ("memory.max", "max")]);
        group.apply(&Limits::new(&all_limits(hierarchies), &hierarchies.layout()).unwrap()).unwrap();
        Cgroup::recreate(hierarchies, &place).unwrap();
        expect(&group, &[("pids.max", "max"), ("memory.max", "max")]);
        fs::remove_dir(&group.paths()[0].1).unwrap();
        assert!(!Cgroup::reuse(hierarchies, &place).unwrap().1);
    });
}

#[test]
fn a_fork_bomb_ends_within_a_second() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        if hierarchies.layout().version("pids").is_some() {
            let pids = Resources { pids: Some(Pids { limit: Some(200) }), ..Resources::default() };
            group.apply(&Limits::new(&pids, &hierarchies.layout()).unwrap()).unwrap();
        }
        // Daemons in sessions of their own, each starting the next ones. Bounded, for hosts without a pids controller.
        let bomb = "n() { [ $1 = 0 ] && exec sleep 60; for i in 1 2 3; do (n $(($1-1)) &) 2>/dev/null; done; sleep 60; }";
        let _process = spawn(&group, &format!("{bomb}; n 4"));
        std::thread::sleep(Duration::from_millis(100));
        let since = Instant::now();
        group.kill(SOON).unwrap();
        let took = since.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert!(group.is_empty().unwrap());
        group.remove().unwrap();
        assert_eq!(left_of(&group), [""; 0]);
    });
}

#[test]
fn a_frozen_group_stands_still_and_can_be_killed() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        let process = spawn(&group, "while :; do :; done");
        group.freeze(SOON).unwrap();
        assert!(group.is_frozen().unwrap());
        let ticks = || fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
        let before = ticks();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(ticks(), before, "it used no CPU");
        group.thaw(SOON).unwrap();
        assert!(!group.is_frozen().unwrap());
        group.freeze(SOON).unwrap();
        group.kill(SOON).unwrap();
        assert!(group.is_empty().unwrap());
        group.thaw(SOON).unwrap();
    });
}

/// On a hybrid host others freeze by v1's freezer, which we do not use there.
#[test]
fn what_somebody_else_has_frozen_is_thawed_and_killed() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        let freeze = || {
            for (_, path) in group.paths() {
                for (file, value) in [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")] {
                    let file = format!("{path}/{file}");
                    if fs::exists(&file).unwrap() {
                        fs::write(file, value).unwrap();
                    }
                }
            }
        };
        let _process = spawn(&group, "while :; do :; done");
        freeze();
        assert!(group.is_frozen().unwrap());
        group.thaw(SOON).unwrap();
        assert!(!group.is_frozen().unwrap());
        freeze();
        group.kill(SOON).unwrap();
        assert!(group.is_empty().unwrap());
    });
}

/// A group above that v1 has frozen holds back what was killed, but the signal is there.
#[test]
fn a_kill_that_was_sent_is_no_failure_below_a_frozen_group() {
    everywhere(|hierarchies| {
        let CgroupsPath::Absolute(name) = place() else { unreachable!() };
        let make = |name: String| Cgroup::create(hierarchies, &CgroupsPath::Absolute(name)).unwrap();
        let (above, group) = (Scratch(make(name.clone())), Scratch(make(format!("{name}/below"))));
        let mut process = spawn(&group, "while :; do :; done");
        let set = |groups: &Cgroup<'_>, state: &str| {
            for (_, path) in groups.paths() {
                let file = format!("{path}/freezer.state");
                if fs::exists(&file).unwrap() {
                    fs::write(&file, state).unwrap();
                }
            }
        };
        set(&above, "FROZEN");
        set(&group, "FROZEN");
        let sent = group.kill_now();
        set(&above, "THAWED");
        sent.unwrap();
        assert_eq!(process.0.wait().unwrap().signal(), Some(9));
    });
}

#[test]
fn removing_a_group_in_use_says_by_whom() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        let process = spawn(&group, "sleep 60");
        let since = Instant::now();
        let e = group.remove().unwrap_err();
        assert!(since.elapsed() < Duration::from_secs(2));
        assert!(e.to_string().contains(&format!("{}", process.pid())), "{e}");
        assert!(e.to_string().contains("rmdir: EBUSY"), "{e}");
    });
}

#[test]
fn sub_groups_go_with_their_parent() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        for (_, path) in group.paths() {
            fs::create_dir_all(format!("{path}/a/b/c")).unwrap();
            fs::create_dir_all(format!("{path}/a/d")).unwrap();
        }
        group.remove().unwrap();
        assert_eq!(left_of(&group), [""; 0]);
        group.remove().unwrap(); // gone already is fine
    });
}

#[test]
fn a_group_is_found_again_by_its_location() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        let again = Cgroup::found(hierarchies, &group.location()).unwrap();
        assert_eq!(again.paths(), group.paths());
        assert!(again.exists());
    });
}

#[test]
fn a_relative_path_is_below_our_own_group() {
    everywhere(|hierarchies| {
        let name = format!("sampan-test-relative-{}", std::process::id());
        let group = Scratch(Cgroup::create(hierarchies, &CgroupsPath::Relative(name.clone())).unwrap());
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, own) = (parts.next().unwrap(), parts.next().unwrap());
            let path = group.paths().into_iter().find(|(controllers, _)| controllers == names);
            if let (Some((_, path)), false) = (path, names.is_empty()) {
                assert!(
                    path.ends_with(&format!("{}/{name}", own.trim_end_matches('/'))),
                    "{path} is not below {own}"
                );
            }
        }
        let again = Cgroup::found(hierarchies, &group.location()).unwrap();
        assert_eq!(again.paths(), group.paths());
    });
}

#[test]
fn an_oom_kill_is_counted() {
    everywhere(|hierarchies| {
        if !has(hierarchies, "memory") {
            return;
        }
        let group = scratch(hierarchies);
        // The shell, the fork, head and its buffer; then 64 MiB in one piece.
        let memory = Memory { limit: Some(16 << 20), swap: Some(16 << 20), ..Memory::default() };
        let resources = Resources { memory: Some(memory), ..Resources::default() };
        group.apply(&Limits::new(&resources, &hierarchies.layout()).unwrap()).unwrap();
        assert_eq!(group.oom_kills().unwrap(), Some(0));
        let mut process = spawn(&group, "head -c 67108864 /dev/zero | tail -c 67108864 >/dev/null; true");
        process.0.wait().unwrap();
        assert!(group.oom_kills().unwrap() >= Some(1));
    });
}

#[test]
fn statistics_count_what_was_used() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        let _process = holder(hierarchies, &group);
        std::thread::sleep(Duration::from_millis(100));
        let stats = group.stats().unwrap();
        let layout = hierarchies.layout();
        assert!(stats.cpu.usage.total > 10_000_000, "{:?}", stats.cpu.usage);
        if layout.version("memory").is_some() {
            assert!(stats.memory.usage.usage > 4096, "{:?}", stats.memory.usage);
        }
        if layout.version("pids").is_some() {
            assert!((1..=5).contains(&stats.pids.current), "{:?}", stats.pids);
        }
        let json = serde_json::to_value(&stats).unwrap();
        for name in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"]
        {
            assert!(json.get(name).is_some(), "{name}");
        }
        assert!(json["cpu"]["throttling"].get("throttledPeriods").is_some());
    });
}

#[test]
fn an_update_touches_only_what_is_given() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        group.apply(&Limits::new(&all_limits(hierarchies), &hierarchies.layout()).unwrap()).unwrap();
        if !has(hierarchies, "cpu") {
            return;
        }
        let _hog = spawn(&group, "while :; do :; done");
        let cpu = |cpu| Resources { cpu: Some(cpu), ..Resources::default() };
        group.update(&cpu(Cpu { quota: Some(20_000), ..Cpu::default() })).unwrap();
        expect(
            &group,
            &[("cpu.cfs_quota_us", "20000"), ("cpu.cfs_period_us", "100000"), ("cpu.max", "20000 100000")],
        );
        group.update(&cpu(Cpu { period: Some(50_000), ..Cpu::default() })).unwrap();
        expect(&group, &[("cpu.cfs_period_us", "50000"), ("cpu.max", "20000 50000"), ("cpu.shares", "512")]);
        // Burst above the old quota: the quota has to be first; below again: the burst.
        let more = Cpu { quota: Some(80_000), burst: Some(60_000), ..Cpu::default() };
        group.update(&cpu(more)).unwrap();
        group.update(&cpu(Cpu { quota: Some(20_000), burst: Some(1_000), ..Cpu::default() })).unwrap();
        expect(&group, &[("cpu.cfs_burst_us", "1000"), ("cpu.max.burst", "1000")]);
        expect(
            &group,
            &[("pids.max", "50"), ("memory.max", "67108864"), ("memory.limit_in_bytes", "67108864")],
        );
    });
}

#[test]
fn memory_goes_up_and_down_with_its_swap() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        if !has(hierarchies, "memory") {
            return;
        }
        for mib in [64_i64, 32, 128, 16] {
            let memory =
                Memory { limit: Some(mib << 20), swap: Some((mib << 20) + 4096), ..Memory::default() };
            group.update(&Resources { memory: Some(memory), ..Resources::default() }).unwrap();
            let (limit, both) = ((mib << 20).to_string(), ((mib << 20) + 4096).to_string());
            expect(&group, &[("memory.limit_in_bytes", &limit), ("memory.memsw.limit_in_bytes", &both)]);
            expect(&group, &[("memory.max", &limit), ("memory.swap.max", "4096")]);
        }
    });
}

#[test]
fn an_update_that_fails_changes_nothing() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        group.apply(&Limits::new(&all_limits(hierarchies), &hierarchies.layout()).unwrap()).unwrap();
        if !has(hierarchies, "cpuset") {
            return;
        }
        let memory = hierarchies
            .layout()
            .version("memory")
            .map(|_| Memory { limit: Some(32 << 20), ..Memory::default() });
        let bad = Resources {
            memory,
            cpu: Some(Cpu { quota: Some(10_000), cpus: Some("4000".into()), ..Cpu::default() }),
            ..Resources::default()
        };
        let e = group.update(&bad).unwrap_err();
        let text = e.to_string();
        assert!(
            text.starts_with("linux.resources.cpu.cpus: cannot set cpuset.cpus to \"4000\" in "),
            "{text}"
        );
        for word in ["not permitted", "permission denied", "No such file"] {
            assert!(!text.contains(word), "{text}");
        }
        expect(&group, &[("memory.max", "67108864"), ("memory.limit_in_bytes", "67108864")]);
        expect(&group, &[("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"), ("cpuset.cpus", "0")]);
    });
}

#[test]
fn a_limit_below_what_is_used_names_the_usage() {
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        if !has(hierarchies, "memory") {
            return;
        }
        let _process = holder(hierarchies, &group);
        let memory = Memory { limit: Some(4096), check_before_update: Some(true), ..Memory::default() };
        let e = group.update(&Resources { memory: Some(memory), ..Resources::default() }).unwrap_err();
        assert!(e.to_string().contains("bytes are in use"), "{e}");
        expect(&group, &[("memory.max", "max"), ("memory.limit_in_bytes", "9223372036854771712")]);
    });
}

#[test]
fn a_group_is_handed_over_to_a_user() {
    use std::os::unix::fs::MetadataExt;
    everywhere(|hierarchies| {
        let group = scratch(hierarchies);
        group.delegate(1000).unwrap();
        for (version, path) in group.host_facts().into_iter().map(|g| (g.version, g.folder())) {
            let owner = |file: &str| fs::metadata(format!("{path}/{file}")).map(|m| m.uid()).unwrap();
            let wanted = if version == Version::V2 { 1000 } else { 0 };
            assert_eq!((owner(""), owner("cgroup.procs")), (wanted, wanted), "{path}");
        }
    });
}
