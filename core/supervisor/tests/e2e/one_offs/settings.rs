//! What a one-off has of its service, and what it has not.
use super::super::LIVE;
use super::super::images::{import, there};
use super::super::names::world_of_its_own;
use super::super::world::Small;
use sampan_testkit::need;
use serde_json::json;
use std::fs;
use std::io::Write;

#[test]
fn it_has_the_settings_of_its_service_and_another_command() {
    let mut world = world!("");
    // Secrets must not be on a disk.
    let _in_memory = Small::new(world.dir().join("run"), "8M");
    let dir = world.dir().display();
    world.configure(&format!(
        "[secrets.key]\nfile = \"{dir}/key\"\n\
         [services.web]\ncommand = [\"sh\", \"-c\", \"echo own command\"]\nrestart = \"no\"\nautostart = false\n\
         user = \"33:33\"\nworking_dir = \"/mnt\"\nvolumes = [\"{dir}/shared:/data\"]\nsecrets = [\"key\"]\n\
         environment = {{ WHO = \"web\", WHAT = \"service\" }}\nresources.pids = 77\n\
         healthcheck.test = [\"CMD\", \"/bin/false\"]\nlifecycle.pre_start = [{{ command = [\"/bin/false\"], in = \"host\" }}]\n"
    ));
    fs::write(world.dir().join("key"), "secret").unwrap();
    fs::create_dir(world.dir().join("shared")).unwrap();
    fs::write(world.dir().join("shared/file"), "of the volume\n").unwrap();
    world.start();
    let line = "echo $WHO $WHAT; id -u; pwd; cat /data/file; ls /run/secrets; cat /proc/self/cgroup; echo wrong >&2; exit 7";
    let ran = world.ctl(&["run", "--rm", "web", "sh", "-c", line]);
    assert_eq!((ran.code, ran.err.as_str()), (7, "wrong\n"), "{ran:?} {}", world.said());
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.get(..4), Some(&["web service", "33", "/mnt", "of the volume"][..]), "{ran:?}");

    let line = "echo $WHO $WHAT $MORE; id -u; pwd";
    let options = ["-e", "WHAT=one-off", "--env", "MORE=x=y", "-u", "34", "-w", "/data"];
    let ran = world.ctl(&[&["run", "--rm"][..], &options, &["web", "sh", "-c", line]].concat());
    assert_eq!((ran.code, ran.out.as_str()), (0, "web one-off x=y\n34\n/data\n"), "{ran:?}");

    let ran = world.ctl(&["run", "--rm", "web"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "own command\n"), "{ran:?}");
    world.until("nothing is left", |world| world.one_offs().is_empty());
    assert_eq!(world.inspect("web").status.generation, 0, "the service itself was not touched");
}

#[test]
fn its_input_and_output_are_passed_on_byte_by_byte() {
    let mut world = world!("[services.web]\n{LIVE}autostart = false\n");
    world.start();
    let mut client = world.client(&["--rm", "-i", "web", "sh", "-c", "printf prompt:; cat; printf end"]);
    let mut prompt = [0; 7];
    std::io::Read::read_exact(&mut client.output, &mut prompt).unwrap();
    assert_eq!(&prompt, b"prompt:", "before there is a line");
    client.input().write_all(b"one\ntwo").unwrap();
    let ran = client.ended();
    assert_eq!((ran.code, ran.out.as_str()), (0, "one\ntwoend"), "{ran:?}");
    // More than a pipe holds.
    let ran = world.ctl(&["run", "--rm", "web", "sh", "-c", "head -c 3000000 /dev/zero"]);
    assert_eq!((ran.code, ran.out.len()), (0, 3_000_000));
    // Its user may open them again.
    let ran = world.ctl(&[
        "run",
        "--rm",
        "-u",
        "33",
        "web",
        "sh",
        "-c",
        "echo again >/dev/stdout; echo x >/dev/stderr",
    ]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "again\n", "x\n"), "{ran:?}");
}

#[test]
fn two_at_once_beside_their_service_which_keeps_its_own() {
    let mut world = world!("");
    let dir = world.dir().display();
    world.configure(&format!("[services.web]\n{LIVE}sockets = [{{ listen = \"unix:{dir}/web.sock\" }}]\n"));
    world.start();
    world.until_state("web", "running");
    let pid = world.pid("web");
    let line = "echo ${LISTEN_FDS-none}; cat";
    let mut clients = [(); 2].map(|()| world.client(&["web", "sh", "-c", line]));
    for client in &mut clients {
        assert_eq!(client.line(), "none\n");
    }
    let names = world.one_offs();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("web-run-")), "{names:?}");
    let status = world.inspect(&names[0]).status;
    assert_eq!((status.state.as_str(), status.one_off_of.as_deref()), ("running", Some("web")));
    assert_eq!(world.ok(&["exec", &names[1], "sh", "-c", "echo inside"]), "inside\n");
    for verb in ["start", "restart"] {
        let refused = world.ctl(&[verb, &names[0]]);
        assert!(refused.code == 1 && refused.err.contains("runs once"), "{refused:?}");
    }
    for client in clients {
        assert_eq!(client.ended().code, 0);
    }
    assert_eq!(world.pid("web"), pid, "the service ran on");
    // What has ended can be asked about.
    world.until_state(&names[0], "stopped");
    assert_eq!(world.inspect(&names[0]).status.exit_code, Some(0));
    assert!(world.ok(&["why", &names[0]]).contains("is done"), "{}", world.ok(&["why", &names[0]]));
}

#[test]
fn what_it_depends_on_comes_first_unless_it_is_to_do_without() {
    let mut world = world!(
        "[services.db]\ncommand = [\"sh\", \"-c\", \"sleep 0.3; echo up >/data/db; sleep 100000\"]\nstop_signal = \"SIGKILL\"\n\
         volumes = [\"{0}/data:/data\"]\nautostart = false\nhealthcheck = {{ test = [\"CMD\", \"cat\", \"/data/db\"], interval = \"50ms\" }}\n\
         [services.bad]\ncommand = [\"/bin/false\"]\nrestart = \"no\"\nautostart = false\n\
         [services.web]\n{LIVE}autostart = false\nvolumes = [\"{0}/data:/data\"]\ndepends_on.db.condition = \"service_healthy\"\n\
         depends_on.db.restart = true\n\
         [services.vain]\n{LIVE}autostart = false\ndepends_on.bad.condition = \"service_completed_successfully\"\n",
        "@DIR@"
    );
    let toml =
        fs::read_to_string(world.config()).unwrap().replace("@DIR@", &world.dir().display().to_string());
    fs::write(world.config(), toml).unwrap();
    fs::create_dir(world.dir().join("data")).unwrap();
    world.start();
    let ran = world.ctl(&["run", "--rm", "--no-deps", "web", "ls", "/data"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    assert_eq!(world.inspect("db").status.generation, 0);
    let ran = world.ctl(&["run", "--rm", "web", "cat", "/data/db"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "up\n"), "{ran:?} {}", world.said());
    assert_eq!(world.inspect("db").status.health, "healthy");
    // Restarted by hand, it does not have it run again.
    let mut client = world.client(&["--rm", "web", "sh", "-c", "echo x >>/data/count; echo began; cat"]);
    assert_eq!(client.line(), "began\n");
    world.ok(&["restart", "db"]);
    assert_eq!(client.ended().code, 0);
    assert_eq!(fs::read_to_string(world.dir().join("data/count")).unwrap(), "x\n");

    let ran = world.ctl(&["run", "vain", "echo", "never"]);
    assert_eq!((ran.code, ran.out.as_str()), (125, ""), "{ran:?}");
    assert!(ran.err.contains("bad"), "{ran:?}");
}

#[test]
fn it_has_the_ids_of_its_service_and_a_root_of_its_own() {
    let mut world = world!("");
    if !there() || !need::no_user_namespace() {
        return;
    }
    super::super::userns::subids(&world, "sampan:1000000:262144\n");
    world.configure(&format!(
        "[services.web]\n{LIVE}image = \"app\"\nread_only = false\npull = \"never\"\nsecurity.userns = \"auto\"\n"
    ));
    import(
        &world,
        "app",
        &json!({ "Volumes": { "/kept": {} }, "Healthcheck": { "Test": ["CMD", "false"] } }),
    );
    world.start();
    world.until_state("web", "running");
    let map = fs::read_to_string(format!("/proc/{}/uid_map", world.pid("web"))).unwrap();
    let line = "cat /proc/self/uid_map; echo x >/written; echo y >/kept/file";
    let ran = world.ctl(&["run", "--rm", "--name", "mine", "web", "sh", "-c", line]);
    assert_eq!((ran.code, ran.out.as_str()), (0, map.as_str()), "{ran:?}");
    world.until_gone("mine");
    let seen = world.ok(&["exec", "web", "sh", "-c", "cat /kept/file; cat /written || echo none"]);
    assert_eq!(seen, "y\nnone\n");
    let volumes: Vec<_> = fs::read_dir(world.dir().join("state/volumes")).unwrap().flatten().collect();
    assert_eq!(volumes.len(), 1, "{volumes:?}");
    let ids: Vec<_> = fs::read_dir(world.dir().join("state/userns")).unwrap().flatten().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    // Its service leaves, and its ids stay as long as it has them.
    let mut client = world.client(&["--rm", "--name", "last", "web", "sh", "-c", "echo began; cat"]);
    assert_eq!(client.line(), "began\n");
    world.configure("");
    world.ok(&["apply"]);
    world.until("the service is gone", |world| !world.services().iter().any(|status| status.name == "web"));
    assert_eq!(fs::read_dir(world.dir().join("state/userns")).unwrap().count(), 1);
    assert_eq!(client.ended().code, 0);
    world.until_gone("last");
    world.until("its ids are free", |world| {
        fs::read_dir(world.dir().join("state/userns")).unwrap().count() == 0
    });
}

#[test]
fn it_reaches_what_it_depends_on_by_name_and_takes_no_name_of_its_service() {
    const LIVES: &str = "network_mode = \"bridge\"\nstop_signal = \"SIGKILL\"\n";
    let toml = format!(
        "[networks.default]\nsubnet = \"10.144.0.0/24\"\n[services.db]\n{LIVES}command = [\"sh\", \"-c\", \"while true; do echo hello | /bin/busybox nc -l -p 5432; done\"]\n\
         [services.web]\n{LIVES}command = [\"sleep\", \"100000\"]\ndepends_on = [\"db\"]\nports = [\"127.0.0.1:18080:80\"]\n\
         networks = [{{ name = \"default\", aliases = [\"front\"], ipv4_address = \"10.144.0.77\" }}]\n"
    );
    let Some(mut world) = world_of_its_own(&toml) else { return };
    world.start();
    world.until_state("web", "running");
    let ran = world.ctl(&[
        "run",
        "--rm",
        "web",
        "sh",
        "-c",
        "/bin/busybox nc -w 5 db 5432 </dev/null; /bin/busybox nslookup front; /bin/busybox ip addr",
    ]);
    assert!(ran.code == 0 && ran.out.starts_with("hello\n"), "{ran:?} {}", world.said());
    assert_eq!(ran.out.matches("10.144.0.77").count(), 1, "the alias leads to the service alone: {ran:?}");
    // The service has the port.
    let taken = world.ctl(&["run", "--rm", "--service-ports", "web", "true"]);
    assert!(taken.code == 125 && taken.err.contains("18080"), "{taken:?}");
    world.ok(&["stop", "web"]);
    let mut client = world.client(&["--rm", "--service-ports", "web", "sh", "-c", "echo began; cat"]);
    assert_eq!(client.line(), "began\n");
    assert_eq!(world.inspect(&world.the_one_off()).status.ports, ["127.0.0.1:18080->80/tcp"]);
    assert_eq!(client.ended().code, 0);
}
