//! A question's bytes and who asks, to what is done about it. No socket, no clock: any bytes may come.

use std::net::IpAddr;

use super::message::{self, Malformed, Query, Rcode, Record, kind};
use super::zone::Zone;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Reply(Vec<u8>),
    /// To be asked of these servers; empty: of the host's.
    Forward(Query, Vec<IpAddr>),
    /// Nobody waits for an answer.
    Ignore,
}

/// What to do with `bytes`, which came to `network`'s gateway from `from`.
pub fn verdict(zone: &Zone, network: &str, from: IpAddr, bytes: &[u8], by: Transport) -> Verdict {
    let query = match Query::parse(bytes) {
        Ok(query) => query,
        Err(Malformed::Silent) => return Verdict::Ignore,
        Err(Malformed::Say(rcode)) => return Verdict::Reply(message::reply_to_malformed(bytes, rcode)),
    };
    let reply = |rcode, records: &[Record]| {
        Verdict::Reply(match by {
            Transport::Udp => query.reply_by_udp(bytes, rcode, records),
            Transport::Tcp => query.reply(bytes, rcode, records),
        })
    };
    // No address of a service: somebody else's packet, or one that was under way when its service stopped.
    let Some(asker) = zone.asker(network, from) else { return reply(Rcode::Refused, &[]) };
    let name = query.name.as_deref().filter(|_| query.is_internet());
    if let Some(name) = name {
        if let Some(mut addresses) = asker.addresses(name) {
            addresses.retain(|address| match query.kind {
                kind::A => address.is_ipv4(),
                kind::AAAA => address.is_ipv6(),
                kind => kind == kind::ANY,
            });
            // Each its turn where several have one name: clients take the first, and draw their numbers at random.
            if !addresses.is_empty() {
                let first = usize::from(message::id(bytes)) % addresses.len();
                addresses.rotate_left(first);
            }
            // Of another type: there is none, but the name is one.
            return reply(Rcode::NoError, &addresses.into_iter().map(Record::Address).collect::<Vec<_>>());
        }
        if let Some(record) = message::reverse(name).and_then(|address| asker.name_of(address)) {
            let asked = matches!(query.kind, kind::PTR | kind::ANY);
            return reply(Rcode::NoError, if asked { std::slice::from_ref(&record) } else { &[] });
        }
    }
    if asker.has_a_way_out() {
        Verdict::Forward(query.clone(), asker.servers().to_vec())
    } else {
        reply(Rcode::NxDomain, &[])
    }
}
