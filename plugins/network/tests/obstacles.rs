//! Chains of others that drop what is forwarded: who is in the way is said, with the command that helps.

use std::time::Duration;

use network::Network;
use sampan_plugin::testing::Rig;
use sampan_testkit::need::need;
use serde_json::json;

use crate::plugin::{attach, create, status, web};
use crate::world::{Namespace, found, lan, on_a_fresh_host, run, soon};

const SOON: Duration = Duration::from_secs(5);

fn warnings(rig: &Rig) -> Vec<String> {
    rig.logs().into_iter().filter(|line| line.level == 2).map(|line| line.message).collect()
}

/// With `chains` on the host: our port cannot be reached, we are told why, and what we are told to run helps.
fn is_told_what_helps(before: &str, after: &str, command: &str) {
    let (before, after, command) = (before.to_owned(), after.to_owned(), command.to_owned());
    on_a_fresh_host(move || {
        let lan = lan();
        run(&before);
        let rig = Rig::new::<Network>(json!({})).unwrap();
        create(&rig, "web", web()).unwrap();
        let ns = Namespace::new();
        attach(&rig, "web", &ns).unwrap();
        ns.serve_tcp(80);
        run(&after);
        assert!(lan.cannot_reach("192.0.2.1:8080"), "there is nothing to be told");
        soon("a warning", SOON, || !warnings(&rig).is_empty());
        let said = warnings(&rig);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(status(&rig)["obstacles"], json!(said));
        let told = said[0].split_once("; run: ").unwrap().1;
        assert_eq!(told, command);
        run(told);
        assert!(lan.call("192.0.2.1:8080").is_some(), "{}", run("nft list ruleset"));
        soon("all is well", SOON, || status(&rig)["obstacles"] == json!([]));
        assert_eq!(warnings(&rig).len(), 1, "once");
    });
}

/// As docker leaves it on a host that was no router.
const DOCKER: &str = "nft -f - <<.
table ip filter {
    chain DOCKER-USER { }
    chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; ct state established,related accept; }
}
.";

const IN_DOCKERS_CHAIN: &str =
    "iptables -I DOCKER-USER -i sp-default -j ACCEPT && iptables -I DOCKER-USER -o sp-default -j ACCEPT";

#[test]
fn docker_that_was_there_before_us() {
    if need("iptables on nf_tables", found("iptables-nft")) {
        is_told_what_helps(DOCKER, "true", IN_DOCKERS_CHAIN);
    }
}

#[test]
fn docker_that_comes_later() {
    if need("iptables on nf_tables", found("iptables-nft")) {
        is_told_what_helps("true", DOCKER, IN_DOCKERS_CHAIN);
    }
}

#[test]
fn somebody_without_docker() {
    if need("iptables on nf_tables", found("iptables-nft")) {
        let command =
            "iptables -I FORWARD -i sp-default -j ACCEPT && iptables -I FORWARD -o sp-default -j ACCEPT";
        is_told_what_helps("iptables -P FORWARD DROP", "true", command);
    }
}

#[test]
fn a_firewall_of_ones_own() {
    let wall = "nft add table inet wall && nft 'add chain inet wall way { type filter hook forward priority 10; policy drop; }'";
    let command = "nft insert rule inet wall way iifname sp-default accept && nft insert rule inet wall way oifname sp-default accept";
    is_told_what_helps(wall, "true", command);
}

#[test]
fn a_firewall_that_knows_us_is_no_obstacle() {
    on_a_fresh_host(|| {
        run(
            "nft add table inet wall && nft 'add chain inet wall way { type filter hook forward priority 10; policy drop; }'",
        );
        run(
            "nft 'add rule inet wall way iifname \"sp-*\" accept' && nft 'add rule inet wall way oifname \"sp-*\" accept'",
        );
        let lan = lan();
        let rig = Rig::new::<Network>(json!({})).unwrap();
        create(&rig, "web", web()).unwrap();
        let ns = Namespace::new();
        attach(&rig, "web", &ns).unwrap();
        ns.serve_tcp(80);
        assert!(lan.call("192.0.2.1:8080").is_some());
        run(
            "nft add table inet other && nft 'add chain inet other way { type filter hook forward priority 10; policy drop; }'",
        );
        soon("a warning of the other one", SOON, || !warnings(&rig).is_empty());
        let said = warnings(&rig);
        assert!(said.len() == 1 && said[0].contains("chain way of table inet other"), "{said:?}");
    });
}
