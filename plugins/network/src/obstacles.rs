//! Rules of others that keep traffic from our networks, and what to do about them.
//!
//! A packet goes through every base chain of its hook, and one of them is enough to drop it: what we accept does not count
//! for others. docker sets `FORWARD` to DROP, firewalld rejects what comes from an interface of no zone that it may leave. Their rules
//! are theirs to change, so the operator is told the command.

use crate::engine::UsedBridge;
use crate::firewall::{self, Chain, Packet, Table};
use crate::netlink::{Result, Socket};
use crate::nft::Hook;
use crate::ports::TABLE;
use crate::routes;

/// A sentence for each network with a way out that does not have it, and for each whose services cannot ask for names.
pub fn of(nft: &mut Socket, links: &mut Socket, bridges: &[UsedBridge]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if bridges.is_empty() {
        return Ok(found);
    }
    let ways_out = routes::default_interfaces(links)?;
    for table in firewall::tables(nft, TABLE)? {
        let said = |network: &str, chain: &Chain, what: &str, remedy: &str| {
            let (chain, family, table) = (chain.name(), table.family(), table.name());
            format!(
                "network {network}: chain {chain} of table {family} {table} drops what no rule of it accepts, so {what}; run: {remedy}"
            )
        };
        for UsedBridge { network, name: bridge, has_way_out } in bridges {
            for chain in table.base_chains(Hook::Forward).filter(|_| *has_way_out) {
                let what = obstacle(&table, chain, bridge, &ways_out);
                found.extend(what.map(|what| said(network, chain, what, &remedy(&table, chain, bridge))));
            }
            let question = Packet { bridge, way_in: Some(bridge), way_out: None, is_redirected: false };
            let dropping = table.base_chains(Hook::Input).filter(|chain| table.drops(chain, &question));
            let what = "its services find no names";
            found.extend(
                dropping.map(|chain| said(network, chain, what, &remedy_for_names(&table, chain, bridge))),
            );
        }
    }
    Ok(found)
}

/// Of a host without a default route nobody knows by which interface packets leave.
fn obstacle(table: &Table, chain: &Chain, bridge: &str, ways_out: &[String]) -> Option<&'static str> {
    let ways: Vec<Option<&str>> = match ways_out {
        [] => vec![None],
        ways => ways.iter().map(|way| Some(way.as_str())).collect(),
    };
    let dropped = |packet: &dyn Fn(Option<&'_ str>) -> bool| ways.iter().all(|way| packet(*way));
    let out = dropped(&|way| {
        let packet = Packet { bridge, way_in: Some(bridge), way_out: way, is_redirected: false };
        table.drops(chain, &packet)
    });
    let into = dropped(&|way| {
        let packet = Packet { bridge, way_in: way, way_out: Some(bridge), is_redirected: true };
        table.drops(chain, &packet)
    });
    match (out, into) {
        (false, _) => None,
        (true, false) => Some("its services have no way out"),
        (true, true) => Some("no other host reaches ports published there and its services have no way out"),
    }
}

/// For questions to the gateway, in the words of whoever made the chain.
fn remedy_for_names(table: &Table, chain: &Chain, bridge: &str) -> String {
    match (table.family(), table.name(), chain.name()) {
        ("ip", "filter", "INPUT") if table.has_chain("ufw-user-input") => {
            format!("ufw allow in on {bridge} to any port 53")
        }
        ("ip", "filter", "INPUT") => {
            let insert =
                |protocol| format!("iptables -I INPUT -i {bridge} -p {protocol} --dport 53 -j ACCEPT");
            format!("{} && {}", insert("udp"), insert("tcp"))
        }
        ("inet", "firewalld", _) => remedy(table, chain, bridge),
        (family, table, chain) => {
            format!(
                "nft insert rule {family} {table} {chain} iifname {bridge} meta l4proto '{{ udp, tcp }}' th dport 53 accept"
            )
        }
    }
}

/// In the words of whoever made the chain. docker keeps its hands off DOCKER-USER, also when it is restarted; what stands in firewalld's
/// table goes with its next reload.
fn remedy(table: &Table, chain: &Chain, bridge: &str) -> String {
    match (table.family(), table.name(), chain.name()) {
        ("ip", "filter", "FORWARD") => {
            let to = if table.has_chain("DOCKER-USER") { "DOCKER-USER" } else { "FORWARD" };
            format!("iptables -I {to} -i {bridge} -j ACCEPT && iptables -I {to} -o {bridge} -j ACCEPT")
        }
        ("inet", "firewalld", _) => format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
        ),
        (family, table, chain) => {
            let insert = |way| format!("nft insert rule {family} {table} {chain} {way} {bridge} accept");
            format!("{} && {}", insert("iifname"), insert("oifname"))
        }
    }
}
