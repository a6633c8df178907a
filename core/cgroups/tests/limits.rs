//! resources -> files, for v1 and for v2, in order.

use sampan_cgroups::{Layout, Limits};
use sampan_plan::spec::Resources;

fn v1() -> Layout {
    let names =
        ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls"];
    Layout { v1: names.map(str::to_owned).to_vec(), ..Layout::default() }
}

fn hybrid() -> Layout {
    let v1: Vec<String> = v1().v1.into_iter().filter(|c| c != "hugetlb").collect();
    Layout { v1, v2: vec!["hugetlb".to_owned()], unified: true }
}

fn v2() -> Layout {
    let names = ["cpu", "cpuset", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    Layout { v2: names.map(str::to_owned).to_vec(), unified: true, ..Layout::default() }
}

fn lines(json: &str, layout: &Layout) -> String {
    match Limits::of_update(&Resources::parse(json).unwrap(), layout) {
        Ok(limits) => show(&limits),
        Err(e) => format!("{e}"),
    }
}

fn show(limits: &Limits) -> String {
    let writes = limits.writes.iter().map(|w| w.to_string());
    writes.chain(limits.warnings.iter().map(|w| format!("warning: {w}"))).collect::<Vec<_>>().join("; ")
}

#[track_caller]
fn check(json: &str, on_v1: &str, on_v2: &str) {
    assert_eq!(lines(json, &v1()), on_v1, "v1");
    assert_eq!(lines(json, &v2()), on_v2, "v2");
}

#[test]
fn nothing_asked_is_nothing_written() {
    check("{}", "", "");
    check(r#"{"memory":{},"cpu":{},"pids":{},"blockIO":{}}"#, "", "");
    check(r#"{"memory":{"limit":0,"swap":0},"cpu":{"shares":0,"quota":0,"period":0,"cpus":""}}"#, "", "");
}

#[test]
fn memory_and_swap_are_one_sum_on_v1_and_two_amounts_on_v2() {
    check(
        r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#,
        "memory.limit_in_bytes = 100; memory.memsw.limit_in_bytes = 150; memory.soft_limit_in_bytes = 50",
        "memory.swap.max = 50; memory.max = 100; memory.low = 50",
    );
    check(
        r#"{"memory":{"limit":100,"swap":100}}"#,
        "memory.limit_in_bytes = 100; memory.memsw.limit_in_bytes = 100",
        "memory.swap.max = 0; memory.max = 100",
    );
}

#[test]
fn unlimited_memory_is_unlimited_swap() {
    check(
        r#"{"memory":{"limit":-1}}"#,
        "memory.limit_in_bytes = -1; memory.memsw.limit_in_bytes = -1",
        "memory.swap.max = max; memory.max = max",
    );
    check(
        r#"{"memory":{"limit":100,"swap":-1}}"#,
        "memory.limit_in_bytes = 100; memory.memsw.limit_in_bytes = -1",
        "memory.swap.max = max; memory.max = 100",
    );
}

#[test]
fn swap_that_cannot_be_is_named() {
    let got = lines(r#"{"memory":{"limit":100,"swap":50}}"#, &v2());
    assert_eq!(
        got,
        "linux.resources.memory.swap: 50 is not a usable value: memory.swap counts memory and swap together, so it \
         cannot be less than memory.limit"
    );
    assert!(lines(r#"{"memory":{"swap":50}}"#, &v2()).contains("needs a memory.limit"));
}

#[test]
fn what_v2_dropped_is_a_warning() {
    check(
        r#"{"memory":{"swappiness":10,"disableOOMKiller":true}}"#,
        "memory.swappiness = 10; memory.oom_control = 1",
        "warning: linux.resources.memory.swappiness does nothing: cgroups v2 has no such control; \
         warning: linux.resources.memory.disableOOMKiller does nothing: cgroups v2 has no such control",
    );
    let kernel = "linux.resources.memory.kernel does nothing";
    assert!(lines(r#"{"memory":{"kernel":5}}"#, &v1()).contains(kernel));
    assert!(lines(r#"{"memory":{"kernel":5}}"#, &v2()).contains(kernel));
}

#[test]
fn cpu_time() {
    check(
        r#"{"cpu":{"shares":1024,"quota":50000,"period":200000,"burst":1000}}"#,
        "cpu.shares = 1024; cpu.cfs_period_us = 200000; cpu.cfs_quota_us = 50000; cpu.cfs_burst_us = 1000",
        "cpu.weight = 100; cpu.max = 50000 200000; cpu.max.burst = 1000",
    );
    check(r#"{"cpu":{"quota":-1}}"#, "cpu.cfs_quota_us = -1", "cpu.max = max 100000");
    check(r#"{"cpu":{"period":50000}}"#, "cpu.cfs_period_us = 50000", "cpu.max = max 50000");
}

#[test]
fn an_idle_group_has_no_weight() {
    check(r#"{"cpu":{"idle":1,"shares":2}}"#, "cpu.idle = 1", "cpu.idle = 1");
    check(r#"{"cpu":{"idle":0,"shares":2}}"#, "cpu.idle = 0; cpu.shares = 2", "cpu.idle = 0; cpu.weight = 1");
}

#[test]
fn realtime_is_v1_only() {
    check(
        r#"{"cpu":{"realtimePeriod":1000,"realtimeRuntime":500}}"#,
        "cpu.rt_period_us = 1000; cpu.rt_runtime_us = 500",
        "linux.resources.cpu.realtimeRuntime: not available on this machine: cgroups v2 has no realtime scheduling groups",
    );
}

#[test]
fn cpusets_and_pids() {
    let same = "cpuset.cpus = 0-1; cpuset.mems = 0; pids.max = 9";
    check(r#"{"cpu":{"cpus":"0-1","mems":"0"},"pids":{"limit":9}}"#, same, same);
    check(r#"{"pids":{"limit":-1}}"#, "pids.max = max", "pids.max = max");
    // A limit since 1.3 of the specification.
    check(r#"{"pids":{"limit":0}}"#, "pids.max = 1", "pids.max = 1");
}

#[test]
fn huge_pages_reserve_first_and_go_where_their_controller_is() {
    let json = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#;
    let v2 = "hugetlb.2MB.rsvd.max = 4096; hugetlb.2MB.max = 4096";
    check(json, "hugetlb.2MB.rsvd.limit_in_bytes = 4096; hugetlb.2MB.limit_in_bytes = 4096", v2);
    assert_eq!(lines(json, &hybrid()), v2);
    let sly = r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#;
    assert!(lines(sly, &v1()).starts_with("linux.resources.hugepageLimits[0].pageSize"));
}

#[test]
fn block_devices() {
    check(
        r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":100}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1000}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
        "blkio.bfq.weight = 500; blkio.bfq.weight_device = 8:0 100; blkio.throttle.read_bps_device = 8:0 1000; \
         blkio.throttle.write_iops_device = 8:0 0",
        "io.bfq.weight = 500; io.bfq.weight = 8:0 100; io.max = 8:0 rbps=1000; io.max = 8:0 wiops=max",
    );
    assert!(lines(r#"{"blockIO":{"weight":5}}"#, &v1()).contains("weights go from 10 to 1000"));
}

#[test]
fn unified_is_written_line_by_line() {
    let json = r#"{"unified":{"memory.high":"100","io.max":"8:0 rbps=1\n8:16 rbps=2\n"}}"#;
    assert_eq!(lines(json, &v2()), "io.max = 8:0 rbps=1; io.max = 8:16 rbps=2; memory.high = 100");
    assert_eq!(
        lines(json, &v1()),
        "linux.resources.unified[\"io.max\"]: not available on this machine: no cgroup2 hierarchy is mounted"
    );
    assert_eq!(
        lines(r#"{"unified":{"memory.high":"100"}}"#, &hybrid()),
        "linux.resources.unified[\"memory.high\"]: not available on this machine: on this machine the memory \
         controller is on cgroups v1"
    );
    for sly in ["../x", "cgroup.procs", ""] {
        let json = format!(r#"{{"unified":{{"{sly}":"1"}}}}"#);
        assert!(lines(&json, &v2()).contains("not a usable value"), "{sly}");
    }
}

#[test]
fn a_controller_that_is_nowhere_is_an_error_that_names_it() {
    let bare = Layout { unified: true, ..Layout::default() };
    for (json, field) in [
        (r#"{"memory":{"limit":1}}"#, "linux.resources.memory: "),
        (r#"{"cpu":{"quota":1}}"#, "linux.resources.cpu: "),
        (r#"{"cpu":{"cpus":"0"}}"#, "linux.resources.cpu.cpus: "),
        (r#"{"pids":{"limit":1}}"#, "linux.resources.pids.limit: "),
        (r#"{"network":{"classID":1}}"#, "linux.resources.network.classID: "),
    ] {
        let got = lines(json, &bare);
        assert!(got.starts_with(field) && got.contains("on no mounted hierarchy"), "{got}");
    }
}

#[test]
fn errors_do_not_speak_the_words_that_clients_match() {
    // podman: 126 and 127; containerd: "gone".
    let bare = Layout::default();
    for json in [
        r#"{"memory":{"limit":1}}"#,
        r#"{"unified":{"a/b":"1"}}"#,
        r#"{"devices":[{"allow":true,"type":"x"}]}"#,
    ] {
        let text =
            Limits::new(&Resources::parse(json).unwrap(), &bare).unwrap_err().to_string().to_lowercase();
        for word in ["not permitted", "permission denied", "no such file", "does not exist", "not found"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}
