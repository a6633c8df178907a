//! The rules as nf_tables has them, listed by `nft`: it reads our messages back as its own language.

use network::addresses::Subnet;
use network::config::Protocol;
use network::netlink::{Family, Socket};
use network::ports::{Passage, Publication, Rules};

use crate::world::{on_a_fresh_host, run};

fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn some_rules() -> Rules {
    let mut rules = Rules::new(true);
    rules.add_network(&Passage {
        bridge: "sp-front".into(),
        subnet: subnet("10.144.0.0/20"),
        internal: false,
    });
    rules.add_network(&Passage {
        bridge: "sp-back".into(),
        subnet: subnet("10.144.16.0/20"),
        internal: true,
    });
    let on = |host_ip: &str, published, protocol| Publication {
        protocol,
        host_ip: host_ip.parse().unwrap(),
        published,
        target: 80,
    };
    rules.add_publication(&on("0.0.0.0", 8080, Protocol::Tcp), [10, 144, 0, 2].into());
    rules.add_publication(&on("127.0.0.1", 53, Protocol::Udp), [10, 144, 0, 3].into());
    rules
}

fn commit(rules: &Rules, from: Option<&Rules>) {
    let mut nft = Socket::open(Family::Netfilter).unwrap();
    rules.transaction(from).commit(&mut nft, "test").unwrap();
}

#[test]
fn the_whole_table_in_nfts_own_words() {
    on_a_fresh_host(|| {
        commit(&some_rules(), None);
        insta::assert_snapshot!(run("nft list table inet sampan"));
    });
}

#[test]
fn step_by_step_leads_to_the_same_table_as_at_once() {
    on_a_fresh_host(|| {
        let whole = some_rules();
        commit(&whole, None);
        let at_once = run("nft list table inet sampan");
        let mut less = Rules::new(true);
        less.add_network(&Passage {
            bridge: "sp-back".into(),
            subnet: subnet("10.144.16.0/20"),
            internal: true,
        });
        commit(&less, Some(&whole));
        assert!(!run("nft list table inet sampan").contains("8080"));
        commit(&whole, Some(&less));
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.split([',', '\n']).map(|l| l.trim().to_owned()).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(&run("nft list table inet sampan")), lines(&at_once));
        commit(&Rules::default(), Some(&whole));
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn foreign_tables_stay() {
    on_a_fresh_host(|| {
        run("nft add table inet mine");
        commit(&some_rules(), None);
        commit(&some_rules(), None);
        commit(&Rules::default(), None);
        assert_eq!(run("nft list ruleset"), "table inet mine {\n}\n");
    });
}

#[test]
fn a_refusal_says_which_part_and_changes_nothing() {
    on_a_fresh_host(|| {
        let mut other = some_rules();
        let tls =
            Publication { protocol: Protocol::Tcp, host_ip: [0; 4].into(), published: 443, target: 443 };
        other.add_publication(&tls, [10, 144, 0, 4].into());
        let mut nft = Socket::open(Family::Netfilter).unwrap();
        // There is no table to take a step in.
        let refused = other.transaction(Some(&some_rules())).commit(&mut nft, "publishing");
        let said = refused.unwrap_err().to_string();
        assert!(said.starts_with("publishing: nf_tables refused part 1 of "), "{said}");
        assert_eq!(run("nft list ruleset"), "");
    });
}
