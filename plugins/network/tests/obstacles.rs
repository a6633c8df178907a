//! Chains of others that drop what is forwarded: who is in the way is said, with the command that helps.

use std::time::Duration;

use network::Network;
use sampan_plugin::testing::Rig;
use sampan_testkit::need::need;
use serde_json::{Value, json};

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
        let (rig, _web) = started();
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

/// As docker leaves it on a host that was no router. What it accepts it accepts for its own bridge.
const DOCKER: &str = "nft -f - <<.
table ip filter {
    chain DOCKER { iifname != docker0 oifname docker0 counter drop; }
    chain DOCKER-ISOLATION-STAGE-1 { iifname docker0 oifname != docker0 counter jump DOCKER-ISOLATION-STAGE-2; counter return; }
    chain DOCKER-ISOLATION-STAGE-2 { oifname docker0 counter drop; counter return; }
    chain DOCKER-USER { counter return; }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        counter jump DOCKER-ISOLATION-STAGE-1
        oifname docker0 ct state established,related counter accept
        oifname docker0 counter jump DOCKER
        iifname docker0 oifname != docker0 counter accept
        iifname docker0 oifname docker0 counter accept
        ct state established,related accept
    }
    chain INPUT { type filter hook input priority filter; policy accept; iifname sp-default accept; }
}
.";

/// As firewalld writes it, where zone public lets `allow` through.
fn firewalld(allow: &str) -> String {
    format!(
        "nft -f - <<.
table inet firewalld {{
    chain filter_INPUT {{ type filter hook input priority filter + 10; policy accept; iifname sp-default accept; }}
    chain filter_FWD_trusted_pre {{ }}
    chain filter_FWD_trusted {{ jump filter_FWD_trusted_pre; accept; }}
    chain filter_FWD_public_pre {{ }}
    chain filter_FWD_public_log {{ ct state new log prefix public; }}
    chain filter_FWD_public_deny {{ }}
    chain filter_FWD_public_allow {{ {allow} }}
    chain filter_FWD_public_post {{ }}
    chain filter_FWD_public {{
        jump filter_FWD_public_pre
        jump filter_FWD_public_log
        jump filter_FWD_public_deny
        jump filter_FWD_public_allow
        jump filter_FWD_public_post
        reject with icmpx type admin-prohibited
    }}
    chain filter_FORWARD_ZONES {{ iifname lan0 goto filter_FWD_public; goto filter_FWD_public; }}
    chain filter_FORWARD {{
        type filter hook forward priority filter + 10; policy accept;
        ct state {{ established, related }} accept
        ct status dnat accept
        iifname lo accept
        ct state {{ invalid }} drop
        jump filter_FORWARD_ZONES
        reject with icmpx type admin-prohibited
    }}
}}
."
    )
}

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

/// What is accepted on its way to the host itself is not forwarded.
#[test]
fn rules_of_another_hook_are_not_those_that_help() {
    if need("iptables on nf_tables", found("iptables-nft")) {
        let command =
            "iptables -I FORWARD -i sp-default -j ACCEPT && iptables -I FORWARD -o sp-default -j ACCEPT";
        let before = "iptables -P FORWARD DROP && iptables -A INPUT -i sp-default -j ACCEPT && \
                      iptables -N UNUSED && iptables -A UNUSED -i sp-+ -j ACCEPT";
        is_told_what_helps(before, "true", command);
    }
}

#[test]
fn a_firewall_that_drops_by_its_last_rule() {
    let wall = "nft -f - <<.
table inet wall {
    chain way {
        type filter hook forward priority 10; policy accept;
        ct state established accept
        iifname other accept
        limit rate 1/second log
        counter drop
    }
}
.";
    let command = "nft insert rule inet wall way iifname sp-default accept && nft insert rule inet wall way oifname sp-default accept";
    is_told_what_helps(wall, "true", command);
}

/// It lets in whatever was redirected, so ports are reached; but nothing out.
#[test]
fn firewalld_that_does_not_know_our_bridge() {
    on_a_fresh_host(|| {
        let lan = lan();
        run("ip route add default via 192.0.2.2");
        run(&firewalld(""));
        let (rig, web) = started();
        lan.serve_tcp(7);
        assert!(lan.call("192.0.2.1:8080").is_some());
        assert!(web.cannot_reach("192.0.2.2:7"), "there is nothing to be told");
        soon("a warning", SOON, || !warnings(&rig).is_empty());
        assert_eq!(
            warnings(&rig),
            [
                "network default: chain filter_FORWARD of table inet firewalld drops what no rule of it accepts, so its services have \
              no way out; run: firewall-cmd --permanent --zone=trusted --add-interface=sp-default && firewall-cmd --reload"
            ]
        );
        // What that does.
        run("nft insert rule inet firewalld filter_FORWARD_ZONES iifname sp-default goto filter_FWD_trusted");
        assert!(web.call("192.0.2.2:7").is_some());
        soon("all is well", SOON, || status(&rig)["obstacles"] == json!([]));
    });
}

#[test]
fn firewalld_that_forwards_by_the_way_out_is_no_obstacle() {
    on_a_fresh_host(|| {
        let lan = lan();
        run("ip route add default via 192.0.2.2");
        run(&firewalld("oifname lan0 accept;"));
        let (rig, web) = started();
        lan.serve_tcp(7);
        assert!(lan.call("192.0.2.1:8080").is_some() && web.call("192.0.2.2:7").is_some());
        is_told_of_nobody_but_the_next(&rig);
    });
}

/// With `wall` on the host: names are not found, we are told why, and what we are told to run helps.
fn is_told_what_helps_names(wall: &str, command: &str) {
    is_told_what_helps_names_of(json!({}), web(), wall, command);
}

fn is_told_what_helps_names_of(config: Value, service: Value, wall: &str, command: &str) {
    let (wall, command) = (wall.to_owned(), command.to_owned());
    on_a_fresh_host(move || {
        let (rig, web) = started_with(config, service);
        let asks = |patience| {
            web.within(|| crate::names::ask_at("10.144.0.1:53", "web", simple_dns::TYPE::A, patience))
                .is_some()
        };
        assert!(asks(SOON));
        run(&wall);
        assert!(!asks(Duration::from_millis(300)), "there is nothing to be told");
        soon("a warning", SOON, || !warnings(&rig).is_empty());
        let said = warnings(&rig);
        let (what, told) = said[0].split_once("; run: ").unwrap();
        assert!(what.ends_with("so its services find no names"), "{what}");
        assert_eq!(told, command);
        run(told);
        assert!(asks(SOON), "{}", run("nft list ruleset"));
        soon("all is well", SOON, || status(&rig)["obstacles"] == json!([]));
        assert_eq!(warnings(&rig).len(), 1, "once");
    });
}

#[test]
fn a_firewall_of_the_host_itself_keeps_questions_from_the_name_server() {
    let wall = "nft add table inet wall && \
                nft 'add chain inet wall in { type filter hook input priority 0; policy drop; }' && \
                nft add rule inet wall in iifname lo accept && nft add rule inet wall in ct state established accept";
    let command =
        "nft insert rule inet wall in iifname sp-default meta l4proto '{ udp, tcp }' th dport 53 accept";
    is_told_what_helps_names(wall, command);
}

/// It has no way out that a firewall could be in, so nothing is said of what is forwarded.
#[test]
fn a_network_without_a_way_out_has_names_all_the_same() {
    let wall = "nft add table inet wall && \
                nft 'add chain inet wall in { type filter hook input priority 0; policy drop; }' && \
                nft 'add chain inet wall way { type filter hook forward priority 0; policy drop; }' && \
                nft add rule inet wall in iifname lo accept";
    let command =
        "nft insert rule inet wall in iifname sp-back meta l4proto '{ udp, tcp }' th dport 53 accept";
    let config = json!({ "networks": { "back": { "internal": true } } });
    is_told_what_helps_names_of(
        config,
        json!({ "network_mode": "bridge", "networks": ["back"] }),
        wall,
        command,
    );
}

#[test]
fn so_does_one_of_iptables() {
    if need("iptables on nf_tables", found("iptables-nft")) {
        let command = "iptables -I INPUT -i sp-default -p udp --dport 53 -j ACCEPT && \
                       iptables -I INPUT -i sp-default -p tcp --dport 53 -j ACCEPT";
        is_told_what_helps_names("iptables -P INPUT DROP && iptables -A INPUT -i lo -j ACCEPT", command);
    }
}

fn started() -> (Rig, Namespace) {
    started_with(json!({}), web())
}

fn started_with(config: Value, service: Value) -> (Rig, Namespace) {
    let rig = Rig::new::<Network>(config).unwrap();
    create(&rig, "web", service).unwrap();
    let ns = Namespace::new();
    attach(&rig, "web", &ns).unwrap();
    ns.serve_tcp(80);
    (rig, ns)
}

/// The look that finds the next one has looked at all.
fn is_told_of_nobody_but_the_next(rig: &Rig) {
    run(
        "nft add table inet other && nft 'add chain inet other way { type filter hook forward priority 10; policy drop; }'",
    );
    soon("a warning of the other one", SOON, || !warnings(rig).is_empty());
    let said = warnings(rig);
    assert!(said.len() == 1 && said[0].contains("chain way of table inet other"), "{said:?}");
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
        let (rig, _web) = started();
        assert!(lan.call("192.0.2.1:8080").is_some());
        is_told_of_nobody_but_the_next(&rig);
    });
}
