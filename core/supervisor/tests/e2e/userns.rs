//! Services with users of their own (`security.userns`): on roots of each kind, with volumes, secrets, exec, health checks and
//! networks, over restarts.
use super::died::kill_the_worker;
use super::images::{import, there};
use super::names::world_of_its_own;
use super::world::program;
use super::{LIVE, World};
use sampan_testkit::need;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

/// The host's /etc/subuid and /etc/subgid, as this test and all that it starts see them.
pub fn subids(world: &World, text: &str) {
    sampan_testkit::World { shared: false, user_namespace: false }.enter().unwrap();
    let file = world.dir().join("subids");
    fs::write(&file, text).unwrap();
    for at in ["/etc/subuid", "/etc/subgid"] {
        let mounted = Command::new("mount").arg("--bind").arg(&file).arg(at).status().unwrap();
        assert!(mounted.success());
    }
}

pub fn ready() -> bool {
    need::root() && need::no_user_namespace()
}

/// What a shell inside prints.
fn inside(world: &World, service: &str, line: &str) -> String {
    world.ok(&["exec", service, "/bin/sh", "-c", line])
}

/// The host's id of root inside.
pub fn first(world: &World, service: &str) -> u32 {
    let pid = world.pid(service);
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let fields: Vec<u32> = map.split_whitespace().map(|field| field.parse().unwrap()).collect();
    assert_eq!((fields[0], fields[2]), (0, 65_536), "{map}");
    fields[1]
}

#[test]
fn a_service_on_a_root_of_any_kind_has_ids_of_its_own_and_keeps_them() {
    let sleeps = "security.userns = \"auto\"\n";
    let mut world = world!("");
    if !ready() {
        return;
    }
    subids(&world, "sampan:1000000:262144\n");
    let dir = world.dir().display();
    world.configure(&format!(
        "[services.ro]\n{LIVE}{sleeps}user = \"33:33\"\nhealthcheck.test = [\"CMD\", \"/bin/sh\", \"-c\", \"id -u | grep -qx 33\"]\n\
         healthcheck.interval = \"100ms\"\nvolumes = [\"{dir}/data:/data\"]\nhooks.poststart = [{{ path = \"/bin/true\" }}]\n\
         [services.rw]\n{LIVE}{sleeps}rootfs = {{ path = \"{dir}/rootfs\", mode = \"rw\" }}\n\
         [services.scratch]\n{LIVE}{sleeps}rootfs = {{ path = \"{dir}/rootfs\", mode = \"scratch\" }}\ntmpfs = [\"/mnt\"]\n\
         [services.host]\ncommand = [\"sleep\", \"100000\"]\nstop_signal = \"SIGKILL\"\n{sleeps}rootfs = \"host\"\n"
    ));
    let data = world.dir().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(33), Some(33)).unwrap();
    world.start();
    let mut seen = Vec::new();
    for service in ["ro", "rw", "scratch", "host"] {
        world.until_state(service, "running");
        seen.push(first(&world, service));
        assert!(world.processes(service).contains(&world.pid(service)));
    }
    let mut ranges = seen.clone();
    ranges.sort_unstable();
    assert_eq!(ranges, [1_000_000, 1_065_536, 1_131_072, 1_196_608], "{}", world.said());
    // Owners are those that they are on disk.
    assert_eq!(
        inside(&world, "ro", "id -u; stat -c %u /bin/busybox /data; echo x >/data/made"),
        "33\n0\n33\n"
    );
    assert_eq!(fs::metadata(data.join("made")).unwrap().uid(), 33);
    assert_eq!(inside(&world, "rw", "echo x >/etc/made; stat -c %u /etc/made"), "0\n");
    assert_eq!(fs::metadata(world.dir().join("rootfs/etc/made")).unwrap().uid(), 0);
    assert_eq!(
        inside(
            &world,
            "scratch",
            "echo x >/etc/other; echo x >/mnt/x; stat -c %u /etc/other /mnt/x /bin/busybox"
        ),
        "0\n0\n0\n"
    );
    assert!(!world.dir().join("rootfs/etc/other").exists());
    assert_eq!(inside(&world, "host", "stat -c %u /usr/bin; id -u"), "65534\n0\n");
    world.until("it is healthy", |world| world.inspect("ro").status.health == "healthy");
    assert!(world.ok(&["top", "ro"]).contains("sleep"));
    assert_eq!(fs::metadata(format!("/proc/{}", world.pid("ro"))).unwrap().uid(), seen[0] + 33);

    kill_the_worker(&world);
    for (service, ids) in ["ro", "rw", "scratch", "host"].into_iter().zip(seen) {
        world.ok(&["restart", service]);
        world.until_state(service, "running");
        assert_eq!(first(&world, service), ids);
    }
    // Removed, it gives them back.
    world.configure("");
    world.ok(&["apply"]);
    let folder = world.dir().join("state/userns");
    world.until("nobody has ids", |_| fs::read_dir(&folder).unwrap().count() == 0);
}

#[test]
fn what_is_copied_into_a_service_is_its_roots_on_mounts_of_each_kind() {
    let mut world = world!("");
    if !ready() {
        return;
    }
    subids(&world, "sampan:1000000:131072\n");
    let dir = world.dir().to_owned();
    let shown = dir.display();
    let keys =
        format!("{LIVE}security.userns = \"auto\"\nvolumes = [\"{shown}/data:/data\"]\ntmpfs = [\"/tmp\"]\n");
    world.configure(&format!(
        "[services.rw]\n{keys}rootfs = {{ path = \"{shown}/rootfs\", mode = \"rw\" }}\n\
         [services.scratch]\n{keys}rootfs = {{ path = \"{shown}/rootfs\", mode = \"scratch\" }}\n"
    ));
    for folder in ["data/of33", "here/tree/inner"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    // Root inside may write there, whoever it belongs to.
    chown(dir.join("data/of33"), Some(33), Some(33)).unwrap();
    fs::write(dir.join("here/tree/inner/file"), "text").unwrap();
    std::os::unix::fs::symlink("inner/file", dir.join("here/tree/link")).unwrap();
    world.start();
    for service in ["rw", "scratch"] {
        world.until_state(service, "running");
        for to in ["/data", "/data/of33", "/etc", "/tmp"] {
            let tree = dir.join("here/tree");
            // A second time over what is there.
            for _ in 0..2 {
                assert_eq!(world.ok(&["cp", tree.to_str().unwrap(), &format!("{service}:{to}")]), "");
            }
            let line = format!(
                "cat {to}/tree/link; cd {to}/tree; stat -c ' %u:%g' . link inner/file; ls -a {to} | grep -c sampanctl"
            );
            let found = world.ctl(&["exec", service, "/bin/sh", "-c", &line]);
            assert_eq!(found.out, "text 0:0\n 0:0\n 0:0\n0\n", "{service}:{to} {found:?}");
        }
    }
    assert_eq!(fs::metadata(dir.join("data/of33/tree/inner/file")).unwrap().uid(), 0);
    world.ok(&["cp", "rw:/data/of33/tree", dir.join("back").to_str().unwrap()]);
    assert_eq!(fs::read_to_string(dir.join("back/link")).unwrap(), "text");
}

#[test]
fn where_there_are_fewer_ranges_than_services_one_is_shared_and_that_is_said() {
    let mut world = world!("");
    if !ready() {
        return;
    }
    subids(&world, "root:500000:65536\n");
    let keys = format!("{LIVE}security.userns = \"auto\"\n");
    world.configure(&format!("[services.a]\n{keys}[services.b]\n{keys}depends_on = [\"a\"]\n"));
    world.start();
    world.until_state("b", "running");
    assert_eq!((first(&world, "a"), first(&world, "b")), (500_000, 500_000));
    assert!(
        world.said().contains("it shares its ids with a: /etc/subuid and /etc/subgid have 1 ranges of 65536"),
        "{}",
        world.said()
    );
}

#[test]
fn what_cannot_be_is_told_with_what_to_do() {
    let mut world = world!("");
    if !ready() {
        return;
    }
    subids(&world, "somebody:500000:65536\n");
    let maps = "security.userns = { uid_map = [\"0:700000:100\"], gid_map = [\"0:700000:100\"] }\n";
    world.configure(&format!(
        "[services.none]\n{LIVE}security.userns = \"auto\"\nrestart = \"no\"\n\
         [services.user]\n{LIVE}{maps}user = \"5:300\"\nrestart = \"no\"\n\
         [services.maps]\n{LIVE}{maps}user = \"99:99\"\n"
    ));
    let ran = super::world::run(
        Command::new(program("sampand")).arg("--config").arg(world.config()).arg("--check"),
    );
    let none = "security.userns: cannot find ids in /etc/subuid: it gives neither sampan nor root 65536 ids in a row";
    let user = "services.user.user: cannot run as it: gid 300 has no id of the host";
    assert!(ran.code == 2 && ran.out.contains(user), "{ran:?}");
    assert!(ran.out.contains(none) && ran.out.contains("sampan:1000000:65536"), "{ran:?}");
    assert!(!world.dir().join("state/userns").exists(), "a check notes nothing");
    world.start();
    world.until_state("none", "failed");
    world.until_state("maps", "running");
    assert_eq!(inside(&world, "maps", "id -u"), "99\n");
    assert!(world.said().contains(none), "{}", world.said());
}

#[test]
fn what_an_image_has_written_is_kept_with_its_ids() {
    let mut world = world!("");
    if !ready() || !there() {
        return;
    }
    subids(&world, "sampan:1000000:65536\n");
    let keys = format!("image = \"app\"\npull = \"never\"\n{LIVE}");
    import(&world, "app", &json!({ "Volumes": { "/data": {} } }));
    world.configure(&format!("[services.web]\n{keys}security.userns = \"auto\"\nuser = \"www\"\n"));
    world.start();
    world.until_state("web", "running");
    let upper = world.dir().join("state/images/roots/web/upper");
    assert_eq!(
        world.ok(&["exec", "-u", "0", "web", "/bin/sh", "-c", "echo x >/made; touch /data/made; id -u"]),
        "0\n"
    );
    assert_eq!(fs::metadata(upper.join("made")).unwrap().uid(), 1_000_000);
    world.ok(&["restart", "web"]);
    world.until_state("web", "running");
    assert_eq!(
        inside(&world, "web", "cat /made; /bin/busybox stat -c %u / /made /data/made"),
        "x\n0\n0\n0\n"
    );
    // As other users it could not go on with what these have written.
    world.configure(&format!("[services.web]\n{keys}restart = \"no\"\n"));
    world.ok(&["apply"]);
    world.until_state("web", "failed");
    assert!(
        world.said().contains("belongs to other ids, since security.userns was another one"),
        "{}",
        world.said()
    );
    assert!(upper.join("made").exists());
}

#[test]
fn its_network_has_names_addresses_and_secrets_as_any_others() {
    let Some(mut world) = world_of_its_own("") else { return };
    if !ready() {
        return;
    }
    subids(&world, "sampan:1000000:131072\n");
    let run = world.dir().join("run");
    let _in_memory = super::world::Small::new(run, "16M");
    fs::create_dir_all(world.dir().join("rootfs/run")).unwrap();
    fs::write(world.dir().join("pass"), "hunter").unwrap();
    let keys = format!("{LIVE}network_mode = \"bridge\"\nsecurity.userns = \"auto\"\n");
    world.configure(&format!(
        "[secrets.one]\nfile = \"{}/pass\"\n[services.db]\n{keys}healthcheck.tcp = 80\nhealthcheck.interval = \"100ms\"\n\
         [services.web]\n{keys}user = \"33:33\"\nsecrets = [\"one\"]\n",
        world.dir().display()
    ));
    world.start();
    for service in ["db", "web"] {
        world.until_state(service, "running");
    }
    assert_eq!(
        inside(&world, "web", "cat /run/secrets/one; ls -ln /run/secrets/one | cut -c1-10").trim(),
        "hunter-r--------"
    );
    assert!(inside(&world, "web", "cat /etc/hosts /etc/hostname").contains("web"));
    assert!(inside(&world, "web", "/bin/busybox nslookup db").contains("10.144."));
    // The check is done from its network namespace.
    let mut listener = Command::new(program("sampanctl"));
    let listen = ["exec", "db", "/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/true"];
    let mut listener = listener.arg("--socket").arg(world.socket()).args(listen).spawn().unwrap();
    world.until("it is healthy", |world| world.inspect("db").status.health == "healthy");
    listener.kill().unwrap();
    listener.wait().unwrap();
    assert_eq!(inside(&world, "db", "cat /proc/sys/net/ipv4/ping_group_range"), "0\t65535\n");
}

/// Its output is a FIFO of the host's, which it can open again by its name.
#[test]
fn what_it_says_is_logged() {
    let world = world!("");
    if !ready() {
        return;
    }
    let mut world = world.installed(&["logging"]);
    subids(&world, "sampan:1000000:65536\n");
    world.configure(
        "[services.a]\nsecurity.userns = \"auto\"\nuser = \"33:33\"\nstop_signal = \"SIGKILL\"\n\
         command = [\"sh\", \"-c\", \"echo first; echo again >/dev/stdout; exec sleep 100000\"]\n",
    );
    world.start();
    world.until("both lines are there", |world| {
        let said = world.ok(&["logs", "a"]);
        said.contains("first") && said.contains("again")
    });
}

/// Whosever users they are: a network belongs to those of the service that has it.
#[test]
fn the_network_of_a_service_with_other_users_is_joined() {
    let mut world = world!("");
    if !ready() {
        return;
    }
    subids(&world, "sampan:1000000:131072\n");
    let auto = "security.userns = \"auto\"\n";
    world.configure(&format!(
        "[services.a]\n{LIVE}{auto}[services.b]\n{LIVE}network_mode = \"service:a\"\n\
         [services.c]\n{LIVE}{auto}network_mode = \"service:b\"\nuts = \"service:b\"\n"
    ));
    world.start();
    world.until_state("c", "running");
    let network = |service| fs::read_link(format!("/proc/{}/ns/net", world.pid(service))).unwrap();
    assert_eq!((network("b"), network("c")), (network("a"), network("a")));
    assert_eq!(inside(&world, "c", "grep -c : /proc/self/net/dev"), "1\n");
}
