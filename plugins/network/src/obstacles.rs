//! Rules of others that keep traffic from our networks, and what to do about them.
//!
//! A packet goes through every base chain of the forward hook, and one of them is enough to drop it: what we accept does not count
//! for others. docker sets `FORWARD` to DROP, firewalls have chains of that kind. Their rules are theirs to change, so the operator
//! is told the command.

use crate::listing::{self, DropsByDefault};
use crate::netlink::{Result, Socket};
use crate::ports::TABLE;

/// A sentence for each network with a way out that does not have it.
pub fn of(nft: &mut Socket, networks: &[(String, String)]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if networks.is_empty() {
        return Ok(found);
    }
    for chain in listing::drops_by_default(nft, TABLE)? {
        let accepted = listing::accepted(nft, &chain)?;
        for (network, bridge) in networks.iter().filter(|(_, bridge)| !accepted.has(bridge)) {
            found.push(format!(
                "network {network}: chain {} of table {} {} drops what no rule of it accepts, so no other host reaches ports \
                 published there and its services have no way out; run: {}",
                chain.chain,
                chain.family(),
                chain.table,
                remedy(&chain, bridge)
            ));
        }
    }
    Ok(found)
}

/// In the words of whoever made the chain. docker keeps its hands off DOCKER-USER, also when it is restarted.
fn remedy(chain: &DropsByDefault, bridge: &str) -> String {
    if (chain.family(), chain.table.as_str(), chain.chain.as_str()) == ("ip", "filter", "FORWARD") {
        let users = chain.beside.iter().any(|chain| chain == "DOCKER-USER");
        let to = if users { "DOCKER-USER" } else { "FORWARD" };
        return format!("iptables -I {to} -i {bridge} -j ACCEPT && iptables -I {to} -o {bridge} -j ACCEPT");
    }
    let insert = |way| {
        format!("nft insert rule {} {} {} {way} {bridge} accept", chain.family(), chain.table, chain.chain)
    };
    format!("{} && {}", insert("iifname"), insert("oifname"))
}
