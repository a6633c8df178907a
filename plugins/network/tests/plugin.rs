//! The plugin through the C table, as sampand drives it.

use std::time::{Duration, Instant};

use network::Network;
use nix::sched::{CloneFlags, unshare};
use sampan_plugin::abi;
use sampan_plugin::testing::{Event, Rig};
use sampan_plugin::types::Role;
use serde_json::{Value, json};

use crate::world::{Namespace, call, nobody_answers, on_a_fresh_host, run, soon};

pub fn web() -> Value {
    json!({ "network_mode": "bridge", "networks": ["default"],
            "ports": [{ "published": 8080, "target": 80, "protocol": "tcp" }] })
}

pub fn create(rig: &Rig, service: &str, table: Value) -> sampan_plugin::Result<()> {
    rig.fire(Event::new(abi::EV_CREATE).of(service).body(json!({ "service": table, "attempt": 0 }))).map(drop)
}

pub fn attach(rig: &Rig, service: &str, ns: &Namespace) -> sampan_plugin::Result<()> {
    rig.fire(Event::new(abi::EV_ATTACH).of(service).fd(Role::Netns, ns.netns.try_clone().unwrap())).map(drop)
}

pub fn detach(rig: &Rig, service: &str, is_final: bool) {
    rig.fire(Event::new(abi::EV_DETACH).of(service).body(json!({ "final": is_final }))).unwrap();
}

pub fn status(rig: &Rig) -> Value {
    rig.fire(Event::new(abi::EV_CONTROL).body(json!({ "verb": "status" }))).unwrap().json
}

#[test]
fn a_service_from_create_to_the_last_detach() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({ "networks": { "default": {} } })).unwrap();
        rig.synchronize().unwrap();
        assert_eq!(run("ip -o link | wc -l"), "1\n", "nothing before it is needed");
        create(&rig, "web", web()).unwrap();
        let kept = ["dns/tcp/default", "dns/udp/default", "port/web/tcp/0.0.0.0/8080"];
        assert_eq!(rig.kept(), kept.map(|key| (String::new(), key.to_owned())));
        assert_eq!(rig.kv("", "network/default").unwrap(), json!({ "subnet": "10.144.0.0/20" }));
        let ns = Namespace::new();
        attach(&rig, "web", &ns).unwrap();
        ns.serve_tcp(80);
        assert!(call("127.0.0.1:8080").is_some());
        let status = status(&rig);
        assert_eq!(status["services"]["web"]["networks"][0]["address"], "10.144.0.2");
        assert_eq!(
            status["services"]["web"]["ports"][0],
            json!({ "protocol": "tcp", "host_ip": "0.0.0.0", "published": 8080, "target": 80 })
        );
        detach(&rig, "web", false);
        assert!(call("127.0.0.1:8080").is_some(), "a restart keeps what it has");
        attach(&rig, "web", &ns).unwrap();
        detach(&rig, "web", true);
        assert!(nobody_answers("127.0.0.1:8080"));
        assert!(rig.kept().is_empty());
        assert_eq!(run("nft list ruleset"), "");
        assert_eq!(run("cat /proc/sys/net/ipv4/ip_forward"), "0\n");
        soon("links removed", Duration::from_secs(2), || !run("ip -o link").contains("sp-default"));
        detach(&rig, "web", true);
        assert!(rig.logs().iter().all(|l| l.level > 2), "{:?}", rig.logs());
    });
}

#[test]
fn the_first_container_has_time_for_the_kernel_to_load_its_modules() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        create(&rig, "web", web()).unwrap();
        let before = rig.extended();
        assert!(before >= network::modules::WAIT_MAX);
        attach(&rig, "web", &Namespace::new()).unwrap();
        let asked = rig.extended();
        assert!(asked >= before + network::modules::WAIT_MAX);
        create(&rig, "next", json!({})).unwrap();
        attach(&rig, "next", &Namespace::new()).unwrap();
        assert_eq!(rig.extended(), asked, "only the first");
    });
}

#[test]
fn a_host_that_gives_no_more_time_refuses_nobody_his_network() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        rig.give_no_more_time();
        create(&rig, "web", web()).unwrap();
        attach(&rig, "web", &Namespace::new()).unwrap();
        assert_eq!(rig.extended(), Duration::ZERO);
    });
}

/// While the kernel lacks what one service needs, that service waits and no other does.
#[test]
fn what_the_kernel_lacks_keeps_no_other_service_waiting() {
    on_a_fresh_host(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        run("mount --make-rprivate /");
        let rig = Rig::new::<Network>(json!({})).unwrap();
        create(&rig, "web", web()).unwrap();
        // Of a setting that is not there the kernel says what it says where a module is not.
        run("ip link del sp-default && mount -t tmpfs none /proc/sys");
        let ns = Namespace::new();
        let event = Event::new(abi::EV_ATTACH).of("web").fd(Role::Netns, ns.netns.try_clone().unwrap());
        let begun = Instant::now();
        let web = rig.start(event).unwrap();
        let extended = rig.extended();
        create(&rig, "other", json!({ "network_mode": "host" })).unwrap();
        detach(&rig, "other", true);
        assert!(status(&rig)["services"]["web"].is_object());
        assert!(begun.elapsed() < Duration::from_secs(5) && !web.is_done());
        assert_eq!(rig.extended(), extended, "who has no bridge needs no module");
        run("umount /proc/sys");
        web.wait().unwrap();
        ns.serve_tcp(80);
        assert!(call("127.0.0.1:8080").is_some());
    });
}

#[test]
fn rules_that_were_flushed_are_back_by_themselves() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        create(&rig, "web", web()).unwrap();
        let ns = Namespace::new();
        attach(&rig, "web", &ns).unwrap();
        ns.serve_tcp(80);
        let before = run("nft list ruleset");
        for taken in [
            "nft flush ruleset",
            "nft delete element inet sampan published '{ tcp . 8080 }'",
            "nft flush chain inet sampan raw",
        ] {
            run(taken);
            soon(taken, Duration::from_secs(1), || run("nft list ruleset") == before);
        }
        assert!(call("127.0.0.1:8080").is_some());
    });
}

/// As sampand does for a container that lives, after a worker was killed.
fn replay(rig: &Rig, service: &str, ns: &Namespace) -> sampan_plugin::Result<()> {
    let event = Event::new(abi::EV_ATTACH).of(service).flags(abi::F_REPLAY);
    rig.fire(event.fd(Role::Netns, ns.netns.try_clone().unwrap())).map(drop)
}

#[test]
fn what_a_full_disk_refused_is_written_by_the_next_start() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        rig.fill_disk(true);
        create(&rig, "web", web()).unwrap_err();
        let held = rig.kept().len();
        // The service was told so and is started again, once there is room.
        rig.fill_disk(false);
        detach(&rig, "web", true);
        create(&rig, "web", web()).unwrap();
        let ns = Namespace::new();
        attach(&rig, "web", &ns).unwrap();
        ns.serve_tcp(80);
        assert!(call("127.0.0.1:8080").is_some());
        rig.close_and_reopen().unwrap();
        replay(&rig, "web", &ns).unwrap();
        assert_eq!(status(&rig)["services"]["web"]["networks"][0]["address"], "10.144.0.2");
        assert!(call("127.0.0.1:8080").is_some());
        assert!(run("ip -o link").contains("sp-default"));
        assert_eq!(held, 3, "what else there was to do was done: a port, and a name server by UDP and TCP");
    });
}

#[test]
fn a_service_whose_network_was_lost_is_prepared_when_its_attach_is_replayed() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        create(&rig, "web", web()).unwrap();
        let ns = Namespace::new();
        attach(&rig, "web", &ns).unwrap();
        rig.lose("", "network/default");
        rig.close_and_reopen().unwrap();
        replay(&rig, "web", &ns).unwrap();
        ns.serve_tcp(80);
        assert!(call("127.0.0.1:8080").is_some());
    });
}

#[test]
fn services_without_a_bridge_are_not_ours() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        for mode in ["none", "host"] {
            create(&rig, mode, json!({ "network_mode": mode, "networks": ["default"], "ports": [] }))
                .unwrap();
            let ns = Namespace::new();
            attach(&rig, mode, &ns).unwrap();
            assert_eq!(ns.run("ip -o link | wc -l"), "1\n");
            detach(&rig, mode, true);
        }
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn a_create_that_fails_leaves_nothing_after_its_detach() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        let _other = std::net::TcpListener::bind("127.0.0.1:9090").unwrap();
        let ports = json!([{ "published": 8080, "target": 80 }, { "published": 9090, "target": 80 }]);
        let said = create(&rig, "web", json!({ "ports": ports })).unwrap_err().to_string();
        assert!(said.starts_with("service web: port 9090/tcp of all addresses is in use by "), "{said}");
        detach(&rig, "web", true);
        assert!(rig.kept().is_empty());
        assert!(std::net::TcpListener::bind("127.0.0.1:8080").is_ok());
    });
}

#[test]
fn a_wrong_config_names_the_field() {
    let said = |config| Rig::new::<Network>(config).err().unwrap().to_string();
    println!("{}", said(json!({ "networks": { "a": { "subnet": "10.0.0.1/8" } } })));
    assert!(
        said(json!({ "networks": { "a": { "subnet": "10.0.0.1/8" } } }))
            .contains("did you mean \"10.0.0.0/8\"")
    );
    assert!(said(json!({ "publish_adress": "127.0.0.1" })).contains("publish_adress"));
}

#[test]
fn two_hundred_attachments() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        let spaces: Vec<Namespace> = (0..200).map(|_| Namespace::new()).collect();
        let (mut times, start) = (Vec::new(), Instant::now());
        for (i, ns) in spaces.iter().enumerate() {
            let name = format!("s{i}");
            let ports = json!([{ "published": 10_000 + i, "target": 80 }]);
            create(&rig, &name, json!({ "ports": ports })).unwrap();
            let begun = Instant::now();
            attach(&rig, &name, ns).unwrap();
            times.push(begun.elapsed());
        }
        let all = start.elapsed();
        times.sort();
        println!(
            "attach with a published port: median {:?}, p99 {:?}; 200 in {all:?}",
            times[100], times[198]
        );
        let begun = Instant::now();
        detach(&rig, "s0", true);
        println!("detach: {:?}", begun.elapsed());
        assert_eq!(run("nft list map inet sampan published").matches("tcp .").count(), 199);
    });
}
