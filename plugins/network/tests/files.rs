//! /etc/hosts and its like, as the plugin gives them to services.

use std::fs;
use std::path::PathBuf;

use network::Network;
use sampan_plugin::abi;
use sampan_plugin::testing::{Event, Rig};
use serde_json::{Value, json};

use crate::host::{Host, nothing_is_left};
use crate::plugin::{attach, detach};
use crate::world::{Namespace, on_a_fresh_host};

const ALL: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// The answer to `create`.
fn create(rig: &Rig, service: &str, table: Value) -> Value {
    rig.fire(Event::new(abi::EV_CREATE).of(service).body(json!({ "service": table, "attempt": 0 })))
        .unwrap()
        .json
}

#[test]
fn they_are_mounted_read_only_where_the_root_can_have_them_and_go_with_the_service() {
    on_a_fresh_host(|| {
        let rig = Rig::new::<Network>(json!({})).unwrap();
        rig.synchronize().unwrap();
        let answer = create(
            &rig,
            "web",
            json!({ "hostname": "front", "network_files": ["/etc/hosts", "/etc/hostname"] }),
        );
        let mounts = answer["adjust"]["mounts"].as_object().unwrap();
        assert_eq!(mounts.keys().collect::<Vec<_>>(), ["/etc/hostname", "/etc/hosts"]);
        let options = json!(["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"]);
        assert_eq!(mounts["/etc/hosts"]["options"], options);
        let path = PathBuf::from(mounts["/etc/hostname"]["source"].as_str().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "front\n");
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o644, "whoever's umask this is");
        attach(&rig, "web", &Namespace::new()).unwrap();
        detach(&rig, "web", false);
        assert!(path.exists(), "a restart keeps them");
        // What says the same is the same file: whoever has it mounted sees no change.
        let inode = |path: &PathBuf| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&path);
        create(&rig, "web", json!({ "hostname": "front", "network_files": ALL }));
        assert_eq!(inode(&path), before);
        create(&rig, "web", json!({ "hostname": "back", "network_files": ALL }));
        assert_eq!(fs::read_to_string(&path).unwrap(), "back\n");
        detach(&rig, "web", true);
        assert!(!path.parent().unwrap().parent().unwrap().exists(), "nothing is left");
    });
}

fn of(host: &mut Host, name: &str, table: Value) -> Vec<(&'static str, String)> {
    let mut table = table;
    table["network_files"] = json!(ALL);
    host.run(|engine, effects| engine.prepare(name, &table, effects)).unwrap();
    host.engine().files(name, &table).unwrap()
}

fn text(files: &[(&'static str, String)], path: &str) -> String {
    files.iter().find(|(of, _)| *of == path).map(|(_, text)| text.clone()).unwrap_or_default()
}

#[test]
fn a_service_with_a_network_asks_its_gateway_and_keeps_the_hosts_search_domains() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({ "networks": { "back": { "internal": true }, "front": {} } }));
        fs::write(
            host.folder.path("resolv.conf"),
            "nameserver 127.0.0.53\nsearch corp.example\noptions edns0 ndots:3\n",
        )
        .unwrap();
        let table = json!({ "hostname": "database", "networks": ["back", "front"],
                            "extra_hosts": ["registry:192.0.2.7", "host.docker.internal:host-gateway", "six:2001:db8::1"] });
        let files = of(&mut host, "db", table);
        assert_eq!(
            text(&files, "/etc/resolv.conf"),
            "nameserver 10.144.16.1\nsearch corp.example\noptions edns0 ndots:0\n"
        );
        let hosts = text(&files, "/etc/hosts");
        // Where this machine has IPv6 there are lines of it, too.
        let lines: Vec<&str> = hosts.lines().filter(|line| !line.starts_with("fd")).collect();
        assert_eq!(lines[0], "127.0.0.1\tlocalhost");
        assert_eq!(
            lines[4..],
            [
                "10.144.0.2\tdatabase db",
                "10.144.16.2\tdatabase db",
                "192.0.2.7\tregistry",
                "10.144.16.1\thost.docker.internal",
                "2001:db8::1\tsix",
            ]
        );
        let own = of(
            &mut host,
            "own",
            json!({ "dns": ["192.0.2.1"], "dns_search": ["."], "dns_opt": ["timeout:1"], "networks": ["front"] }),
        );
        assert_eq!(
            text(&own, "/etc/resolv.conf"),
            "nameserver 10.144.16.1\noptions timeout:1\n",
            "names first, then its servers"
        );
    });
}

#[test]
fn on_the_hosts_network_it_is_the_hosts_but_for_what_the_service_says() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let conf = "# kept as it is\nnameserver 127.0.0.53\nsearch corp.example\noptions trust-ad\n";
        fs::write(host.folder.path("resolv.conf"), conf).unwrap();
        fs::write(host.folder.path("hosts"), "127.0.0.1 localhost\n192.0.2.9 printer\n").unwrap();
        let files = of(&mut host, "web", json!({ "network_mode": "host" }));
        assert_eq!(text(&files, "/etc/resolv.conf"), conf);
        assert_eq!(text(&files, "/etc/hosts"), "127.0.0.1 localhost\n192.0.2.9 printer\n127.0.0.1\tweb\n");
        let said =
            json!({ "network_mode": "host", "dns": ["192.0.2.1"], "extra_hosts": ["gw:host-gateway"] });
        let files = of(&mut host, "web", said);
        assert_eq!(
            text(&files, "/etc/resolv.conf"),
            "nameserver 192.0.2.1\nsearch corp.example\noptions trust-ad\n"
        );
        assert!(text(&files, "/etc/hosts").ends_with("127.0.0.1\tgw\n"));
        let files = of(&mut host, "alone", json!({ "network_mode": "none" }));
        assert!(text(&files, "/etc/hosts").ends_with("127.0.0.1\talone\n"));
        assert_eq!(files.len(), 2, "nobody to ask: {files:?}");
    });
}

#[test]
fn without_a_name_server_of_ours_the_world_is_asked_directly() {
    on_a_fresh_host(|| {
        let _other = std::net::UdpSocket::bind("0.0.0.0:53").unwrap();
        let mut host = Host::new(json!({}));
        fs::write(host.folder.path("resolv.conf"), "nameserver 127.0.0.53\nnameserver 192.0.2.1\n").unwrap();
        // At its first start already: nothing of the network is there yet.
        let files = of(&mut host, "web", json!({}));
        assert_eq!(text(&files, "/etc/resolv.conf"), "nameserver 192.0.2.1\noptions ndots:0\n");
        host.stop("web");
        nothing_is_left(&mut host);
    });
}
