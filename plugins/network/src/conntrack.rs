//! Forgetting old flows, which the kernel would go on sending to an address that is gone.
//!
//! A redirect is looked up once per flow, and a client that keeps sending keeps its flow alive: after a restart with another
//! address it would talk into the void for ever (moby#8795). So when a service with published ports comes, UDP flows to these that do
//! not lead to it are deleted, and when one goes, all of its flows, TCP too: one that was cut keeps leading where it led.
//!
//! A flow that the service itself began is one of them: what comes back to its port of the host is taken for the answer. An answer that
//! is under way while a flow is deleted begins such a flow, so it is looked for once more a moment later. A flow that lives is left
//! alone: an answer that is under way would begin another one, from another port.

use std::net::{IpAddr, Ipv6Addr};

use crate::addresses::Subnet;
use crate::ipv6;
use crate::netlink::{Result, Socket, dump_request};
use crate::wire::{self, Message};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;
const UDP: u8 = 17;
/// nfgenmsg, of both families.
const ANY: [u8; 4] = [nix::libc::AF_UNSPEC as u8, 0, 0, 0];

/// One direction of a flow: from whom to whom.
struct Ends {
    from: IpAddr,
    to: (IpAddr, u16),
    protocol: u8,
}

/// A flow: who began it, who answers, and its identity as the kernel wrote it.
struct Flow {
    family: u8,
    began: Ends,
    answers: Ends,
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// What happened to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Came,
    Gone,
}

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The UDP ports of the host that the service is published at.
    pub ports: Vec<(IpAddr, u16)>,
    /// Where addresses of its network are from.
    pub subnet: Subnet,
    pub prefix6: Option<Ipv6Addr>,
    /// The service's own.
    pub addresses: Vec<IpAddr>,
    pub service: Service,
}

impl Stale {
    fn is(&self, flow: &Flow) -> bool {
        let its = |address: &IpAddr| self.addresses.contains(address);
        match self.service {
            Service::Gone => its(&flow.began.from) || its(&flow.answers.from),
            Service::Came => {
                let led_elsewhere = self.is_port(flow.began.to) && !its(&flow.answers.from);
                // Begun by an old address, from the port that is published: it is what the host's port leads to.
                let began_elsewhere = self.is_port(flow.answers.to)
                    && self.is_of_the_network(flow.began.from)
                    && !its(&flow.began.from);
                flow.began.protocol == UDP && (led_elsewhere || began_elsewhere)
            }
        }
    }

    fn is_of_the_network(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet.contains(address),
            IpAddr::V6(address) => self.prefix6.is_some_and(|prefix| ipv6::contains(prefix, address)),
        }
    }

    fn is_port(&self, (to, port): (IpAddr, u16)) -> bool {
        self.ports.iter().any(|(ip, p)| *p == port && (ip.is_unspecified() || *ip == to))
    }
}

pub fn forget(socket: &mut Socket, stale: &Stale) -> Result<()> {
    let flows = socket.dump("cannot list tracked connections", dump_request(GET, &ANY), |body| {
        parse(*body.first()?, wire::after(body, ANY.len())).filter(|flow| stale.is(flow))
    })?;
    for flow in flows {
        let family = [flow.family, 0, 0, 0];
        let mut message =
            Message::new(DELETE, 0).fixed(&family).nest(TUPLE_ORIGINAL, |m| m.raw(&flow.original));
        if let Some(zone) = &flow.zone {
            message = message.attr(ZONE, zone);
        }
        // Gone by itself meanwhile: as wanted.
        let _ = socket.request(|| "cannot forget a tracked connection".into(), message);
    }
    Ok(())
}

fn parse(family: u8, attributes: &[u8]) -> Option<Flow> {
    let original = wire::attribute(attributes, TUPLE_ORIGINAL)?;
    Some(Flow {
        family,
        began: ends(original)?,
        answers: ends(wire::attribute(attributes, TUPLE_REPLY)?)?,
        original: original.to_vec(),
        zone: wire::attribute(attributes, ZONE).map(<[u8]>::to_vec),
    })
}

fn ends(tuple: &[u8]) -> Option<Ends> {
    let (ip, proto) = (wire::attribute(tuple, 1)?, wire::attribute(tuple, 2)?);
    // 1 and 2 of IPv4, 3 and 4 of IPv6.
    let address = |kind| {
        let v4 = wire::attribute(ip, kind).and_then(|bytes| Some(IpAddr::from(wire::ipv4_at(bytes, 0)?)));
        v4.or_else(|| Some(IpAddr::from(<[u8; 16]>::try_from(wire::attribute(ip, kind + 2)?).ok()?)))
    };
    let protocol = *wire::attribute(proto, 1)?.first()?;
    // ICMP has none.
    let port = wire::attribute(proto, 3).and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)));
    Some(Ends { from: address(1)?, to: (address(2)?, port.unwrap_or(0)), protocol })
}
