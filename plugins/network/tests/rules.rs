//! The rules as nf_tables has them, listed by `nft`: it reads our messages back as its own language.

use std::net::Ipv4Addr;

use network::addresses::Subnet;
use network::config::Protocol;
use network::netlink::{Family, Socket};
use network::nft::Transaction;
use network::ports::{Guarded, Passage, Publication, Rules, Target};

use crate::world::{on_a_fresh_host, run};

fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn on(host_ip: &str, published: u16, protocol: Protocol) -> Publication {
    Publication { protocol, host_ip: host_ip.parse().unwrap(), published, target: 80 }
}

fn to(last: u8) -> Target {
    let v6 = format!("fd00::a90:{last:x}").parse().unwrap();
    Target { v4: Ipv4Addr::new(10, 144, 0, last), v6: Some(v6) }
}

fn some_rules() -> Rules {
    let mut rules = Rules::new(Guarded { v4: [1].into(), v6: [1].into() });
    rules.add_network(&Passage {
        bridge: "sp-front".into(),
        subnet: subnet("10.144.0.0/20"),
        gateway: [10, 144, 0, 1].into(),
        prefix6: Some("fd00::".parse().unwrap()),
        internal: false,
    });
    rules.add_network(&Passage {
        bridge: "sp-back".into(),
        subnet: subnet("10.144.16.0/20"),
        gateway: [10, 144, 16, 1].into(),
        prefix6: Some("fd00:0:0:1::".parse().unwrap()),
        internal: true,
    });
    rules.add_publication(&on("0.0.0.0", 8080, Protocol::Tcp), to(2));
    rules.add_publication(&on("127.0.0.1", 53, Protocol::Udp), to(3));
    rules.add_publication(&on("2001:db8::1", 53, Protocol::Udp), to(3));
    rules
}

fn commit(transaction: Transaction) -> Result<(), String> {
    let mut nft = Socket::open(Family::Netfilter).unwrap();
    transaction.commit(&mut nft, "publishing").map_err(|e| e.to_string())
}

#[test]
fn the_whole_table_in_nfts_own_words() {
    on_a_fresh_host(|| {
        commit(some_rules().anew()).unwrap();
        insta::assert_snapshot!(run("nft list table inet sampan"));
    });
}

#[test]
fn a_publication_that_goes_and_comes_back_leaves_the_table_as_it_was() {
    on_a_fresh_host(|| {
        let mut rules = some_rules();
        commit(rules.anew()).unwrap();
        let before = run("nft list table inet sampan");
        let web = (on("0.0.0.0", 8080, Protocol::Tcp), to(2));
        commit(rules.change(&[web], &[])).unwrap();
        assert!(!run("nft list table inet sampan").contains("8080"));
        commit(rules.change(&[], &[web])).unwrap();
        assert_eq!(run("nft list table inet sampan"), before);
        assert_eq!(rules, some_rules());
        commit(Rules::default().anew()).unwrap();
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn foreign_tables_stay() {
    on_a_fresh_host(|| {
        run("nft add table inet mine");
        commit(some_rules().anew()).unwrap();
        commit(some_rules().anew()).unwrap();
        commit(Rules::default().anew()).unwrap();
        assert_eq!(run("nft list ruleset"), "table inet mine {\n}\n");
    });
}

#[test]
fn a_refusal_says_which_part_and_changes_nothing() {
    on_a_fresh_host(|| {
        // There is no table to take a step in.
        let tls = (on("0.0.0.0", 443, Protocol::Tcp), to(4));
        let said = commit(some_rules().change(&[], &[tls])).unwrap_err();
        assert_eq!(said, "publishing: nf_tables refused part 1 of 2: No such file or directory");
        assert_eq!(run("nft list ruleset"), "");
    });
}
