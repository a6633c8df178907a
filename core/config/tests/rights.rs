//! Rights and limits: what each key resolves to, and what is said about mistakes in it.

use std::path::Path;

use sampan_config::schema::*;

use super::Folder;
use super::mistakes::{check, said};
use super::resolve::{reloads, same, web};

#[test]
fn forms() {
    same("ulimits.nofile = 5", "ulimits = { nofile = \"5:5\" }");
    same("ulimits.nofile = { soft = 5, hard = -1 }", "ulimits = { nofile = \"5:unlimited\" }");
    same("devices = [\"/dev/kvm\"]", "devices = [\"/dev/kvm:/dev/kvm:rwm\"]");
    same("devices = [\"/dev/kvm:rw\"]", "devices = [\"/dev/kvm:/dev/kvm:rw\"]");
    same("sysctls.\"net/core/somaxconn\" = 5", "sysctls = { \"net.core.somaxconn\" = \"5\" }");
    same("labels = { a = 1, b = true }", "labels = { a = \"1\", b = \"true\" }");
    same("resources.memory = \"1M\"\nresources.memory_swap = \"none\"", "resources.memory = \"1M\"");
    same("domainname = \"none\"", "");
    same("pid = \"private\"", "");
}

#[test]
fn values() {
    let limits = web(
        "resources = { memory = \"64M\", memory_swap = 0, memory_high = \"48M\", memory_low = \"1M\", memory_min = \"2M\", cpuset = \"0-1,3\", io_weight = 7, \
         oom_policy = \"continue\", io_max = { \"/dev/sda\" = { rbps = \"10M\", wiops = 5 } }, unified = { \"memory.swap.high\" = \"1M\" } }",
    )
    .resources;
    assert_eq!((limits.memory_swap, limits.memory_high), (Some(0), Some(48 << 20)));
    assert_eq!((limits.memory_low, limits.memory_min, limits.io_weight), (1 << 20, 2 << 20, 7));
    assert_eq!(limits.cpuset.as_deref(), Some("0-1,3"));
    assert_eq!(limits.oom_policy, OomPolicy::Continue);
    let io = IoMax { rbps: Some(10 << 20), wiops: Some(5), ..IoMax::default() };
    assert_eq!(limits.io_max[Path::new("/dev/sda")], io);
    assert_eq!(limits.unified["memory.swap.high"], "1M");
    assert_eq!(web("").resources.oom_policy, OomPolicy::Kill);
    assert_eq!(web("oom_score_adj = -5").oom_score_adj, -5);
    assert_eq!(web("security.masked_paths = [\"default\", \"/x\"]").security.masked_paths, ["default", "/x"]);
}

/// `privileged` says what holds where the service does not.
#[test]
fn privileged_is_a_set_of_defaults() {
    let all = web("privileged = true");
    assert_eq!(all.cap_add, ["ALL"]);
    assert_eq!(all.security.seccomp_profile, SeccompProfile::Unconfined);
    assert!(all.security.masked_paths.is_empty() && all.security.readonly_paths.is_empty());
    assert!(all.security.no_new_privileges);
    let some = web("privileged = true\ncap_add = [\"KILL\"]\nsecurity.seccomp_profile = \"default\"");
    assert_eq!(some.cap_add, ["CAP_KILL"]);
    assert_eq!(some.security.seccomp_profile, SeccompProfile::Default);
}

/// What is said of `keys`, without the place.
#[track_caller]
fn one(keys: &str, expected: &str) {
    let said: Vec<String> =
        said(keys).iter().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect();
    assert_eq!(said, [expected], "\n{keys}");
}

#[test]
fn a_user_namespace_is_none_auto_or_maps() {
    same("security.userns = \"none\"", "");
    assert_eq!(web("security.userns = \"auto\"").security.userns, UserNamespace::Auto);
    let keys = "security.userns = { uid_map = [\"0:100000:65536\"], gid_map = [\"0:5:1\", \"1:100:9\"] }";
    let UserNamespace::Maps(maps) = web(keys).security.userns else { panic!("{keys}") };
    assert_eq!(
        (maps.uid(7), maps.uid(65_536), maps.gid(0), maps.gid(2)),
        (Some(100_007), None, Some(5), Some(101))
    );
}

#[test]
fn what_is_wrong_with_maps_is_said() {
    const FORM: &str = "[as \"INSIDE:HOST:SIZE\", \"0:100000:65536\"]";
    let map = |map: &str| format!("security.userns = {{ uid_map = [{map}], gid_map = [\"0:1:1\"] }}");
    for (ranges, expected) in [
        ("\"0:1\"", format!("not three numbers {FORM}")),
        ("\"0:1:0\"", format!("a range of no ids {FORM}")),
        ("\"0:4294967290:6\"", format!("it goes beyond 4294967294, the last id {FORM}")),
        ("\"1:2:3\"", "0 has no id [a container is set up by its root: begin with \"0:HOST:SIZE\"]".into()),
        ("\"0:5:5\", \"7:9:1\"", "0:5:5 and 7:9:1 overlap [each id stands for one]".into()),
        ("\"0:5:5\", \"4:100:1\"", "0:5:5 and 4:100:1 overlap [each id stands for one]".into()),
    ] {
        one(&map(ranges), &format!("services.web.security.userns.uid_map: {expected}"));
    }
    one(
        "security.userns = { uid_map = [\"0:1:1\"] }",
        "services.web.security.userns: gid_map is missing [as { uid_map = [\"0:100000:65536\"], gid_map = [\"0:100000:65536\"] }]",
    );
    one(
        "security.userns = \"host\"",
        "services.web.security.userns: no such user namespace [one of none, auto]",
    );
    one(
        "privileged = true\nsecurity.userns = \"auto\"",
        "services.web.security.userns: beside privileged [who owns the host's devices has its ids: drop one]",
    );
    one(
        "pid = \"host\"\nsecurity.userns = \"auto\"",
        "services.web.security.userns: beside pid = \"host\" [the kernel shows the host's processes to its own root: drop one]",
    );
}

/// A namespace is there while its service runs.
#[test]
fn who_joins_another_service_depends_on_it() {
    let text = "[services.db]\nrootfs = \"/\"\ncommand = [\"a\"]\n[services.web]\nrootfs = \"/\"\ncommand = [\"a\"]\n";
    let keys =
        "network_mode = \"service:db\"\nipc = \"service:db\"\ndepends_on.db.condition = \"service_ready\"\n";
    let folder = Folder::new().with("c.toml", &format!("{text}{keys}"));
    let config = reloads(&folder, &["c.toml"]);
    let web = &config.services["web"];
    assert_eq!(web.joins(), [("network_mode", "db"), ("ipc", "db")]);
    let need = Dependency { condition: Condition::Ready, required: true, restart: true, bind: true };
    assert_eq!(web.depends_on["db"], need);
    check(
        &format!("{text}pid = \"service:d\""),
        &["7:7 services.web.pid: no such service [did you mean `db`?]"],
    );
    check(
        &format!("{text}pid = \"service:db\"\n[services.db.depends_on.web]"),
        &["8:25 services: dependency cycle db -> web -> db [db waits for web]"],
    );
}

#[test]
fn what_the_other_service_says_is_not_said_again() {
    let own = "network_mode = \"service:web\"";
    one(own, "services.web.network_mode: names the service itself [a namespace of its own is the default]");
    one("pid = \"service:\"", "services.web.pid: no service is named [as \"service:db\"]");
    for keys in [
        "ports = [\"80:80\"]",
        "networks = [\"default\", \"back\"]",
        "dns = [\"192.0.2.1\"]",
        "dns_search = [\"a\"]",
        "dns_opt = [\"a\"]",
        "extra_hosts = [\"a:192.0.2.1\"]",
        "hostname = \"a\"",
    ] {
        let said = beside_db(&format!("network_mode = \"service:db\"\n{keys}"));
        let key = keys.split(' ').next().unwrap();
        let expected = format!(
            "services.web.{key}: beside network_mode = \"service:db\" [its network is that of db: write it there (services.db), or drop one]"
        );
        assert!(said.iter().any(|line| line.ends_with(&expected)), "{said:?}");
    }
    for (keys, expected) in [
        (
            "network_mode = \"service:db\"\nsysctls.\"net.core.somaxconn\" = 1",
            "net.core.somaxconn is that of db here [set it there]",
        ),
        (
            "uts = \"service:db\"\ndomainname = \"a\"",
            "beside uts = \"service:db\" [it would rename db: drop one]",
        ),
        (
            "pid = \"service:db\"\ndepends_on.db.required = false",
            "beside depends_on.db.required = false [without that service there is no namespace to be in: drop one]",
        ),
        (
            "pid = \"service:db\"\ndepends_on.db.bind = false",
            "beside depends_on.db.bind = false [a namespace ends with its service, and so does who is in it: drop one]",
        ),
        (
            "ipc = \"service:db\"\ndepends_on.db = { restart = false, bind = true }",
            "beside depends_on.db.restart = false [a namespace ends with its service, and so does who is in it: drop one]",
        ),
        (
            "ipc = \"service:db\"\nsecurity.userns = \"auto\"",
            "beside ipc = \"service:db\" [the kernel shows it to the root of those users alone to whom it belongs: drop one]",
        ),
    ] {
        let said = beside_db(keys);
        assert!(said.len() == 1 && said[0].ends_with(expected), "{said:?}");
    }
}

fn beside_db(keys: &str) -> Vec<String> {
    said(&format!("{keys}\nrootfs = \"/\"\ncommand = [\"a\"]\n[networks.back]\n[services.db]"))
}

#[test]
fn mistakes() {
    one("pid = \"hosts\"", "services.web.pid: no such mode [did you mean \"host\"? Else: private]");
    one(
        "hostname = \"a\"\nuts = \"host\"",
        "services.web.hostname: beside uts = \"host\" [it would rename the host: drop one]",
    );
    one(
        "sysctls.\"vm.swappiness\" = 1",
        "services.web.sysctls.\"vm.swappiness\": vm.swappiness is one of the whole host [a container may set net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*: set others with sysctl(8)]",
    );
    one(
        "network_mode = \"host\"\nsysctls.\"net.core.somaxconn\" = 1",
        "services.web.sysctls.\"net.core.somaxconn\": net.core.somaxconn is the host's here [drop it, or network_mode = \"host\"]",
    );
    one(
        "ulimits.nofiles = 1",
        "services.web.ulimits.nofiles: no such limit: `nofiles` [did you mean `nofile`?]",
    );
    one(
        "ulimits.nofile = \"9:5\"",
        "services.web.ulimits.nofile: 9:5: soft is above hard [as \"1024:4096\"]",
    );
    one(
        "ulimits.nofile = \"a\"",
        "services.web.ulimits.nofile: `a` is not a limit [a number, or \"unlimited\"]",
    );
    one("oom_score_adj = 1001", "services.web.oom_score_adj: 1001 is out of range [-1000 to 1000]");
    one(
        "devices = [\"nvidia.com/gpu=all\"]",
        "services.web.devices: CDI devices: known, but not built in this version [name the device's path, as \"/dev/ttyUSB0\"]",
    );
    one(
        "devices = [\"/dev/a:/dev/b:x\"]",
        "services.web.devices: `x` is no access [of the letters r, w and m]",
    );
    one(
        "annotations.\"org.sampan.x\" = \"1\"",
        "services.web.annotations.\"org.sampan.x\": org.sampan.x is Sampan's own [choose another prefix]",
    );
    one("resources.cpuset = \"3-1\"", "services.web.resources.cpuset: not a list of CPUs [as \"0-3,8\"]");
    one(
        "resources.memory_swap = \"1M\"",
        "services.web.resources.memory_swap: without resources.memory [limit the memory too: swap alone cannot be limited on cgroup v1]",
    );
    one(
        "resources.unified.\"memory.max\" = 1",
        "services.web.resources.unified.\"memory.max\": memory.max has a key of its own [write resources.memory]",
    );
    one(
        "resources.unified.\"cgroup.procs\" = 1",
        "services.web.resources.unified.\"cgroup.procs\": `cgroup.procs` is no limit [a file of a controller, as \"memory.swap.high\"]",
    );
    one(
        "resources.io_max.sda = {}",
        "services.web.resources.io_max.sda: a device's path begins with / [as io_max = { \"/dev/sda\" = { rbps = \"10M\" } }]",
    );
}
