//! Forgetting old UDP flows, which the kernel would go on sending to an address that is gone.
//!
//! A redirect is looked up once per flow, and a client that keeps sending keeps its flow alive: after a restart with another
//! address it would talk into the void for ever (moby#8795). So when a service with UDP ports comes or goes, stale flows of those
//! ports are deleted. A flow that the service itself began is one of them: what comes back to its port of the host is taken for the
//! answer. A flow that lives is left alone: an answer that is under way would begin another one, from another port. TCP needs none of
//! it: a new connection is a new flow.

use std::net::Ipv4Addr;

use crate::netlink::{Result, Socket, dump_request};
use crate::wire::{self, Message};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;
const UDP: u8 = 17;
const FAMILY: [u8; 4] = [nix::libc::AF_INET as u8, 0, 0, 0];

/// A UDP flow: who began it, whom it called, who answers, and its identity as the kernel wrote it.
struct Flow {
    began: Ipv4Addr,
    called: (Ipv4Addr, u16),
    answers: Ipv4Addr,
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// What happened to the service that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Came(Ipv4Addr),
    Gone(Ipv4Addr),
}

/// Deletes the UDP flows to `ports` of the host that do not lead to where the service is now, and all of one that is gone.
pub fn forget_udp(socket: &mut Socket, ports: &[(Ipv4Addr, u16)], service: Service) -> Result<()> {
    let to_ports = |flow: &Flow| {
        let (to, port) = flow.called;
        ports.iter().any(|(ip, p)| *p == port && (ip.is_unspecified() || *ip == to))
    };
    let stale = |flow: &Flow| match service {
        Service::Came(at) => to_ports(flow) && flow.answers != at,
        Service::Gone(from) => to_ports(flow) || flow.answers == from || flow.began == from,
    };
    let flows = socket.dump("cannot list tracked connections", dump_request(GET, &FAMILY), |body| {
        parse(wire::after(body, FAMILY.len())).filter(stale)
    })?;
    for flow in flows {
        let mut message =
            Message::new(DELETE, 0).fixed(&FAMILY).nest(TUPLE_ORIGINAL, |m| m.raw(&flow.original));
        if let Some(zone) = &flow.zone {
            message = message.attr(ZONE, zone);
        }
        // Gone by itself meanwhile: as wanted.
        let _ = socket.request(|| "cannot forget a tracked connection".into(), message);
    }
    Ok(())
}

fn parse(attributes: &[u8]) -> Option<Flow> {
    let original = wire::attribute(attributes, TUPLE_ORIGINAL)?;
    let reply = wire::attribute(attributes, TUPLE_REPLY)?;
    let ends = |tuple| {
        let (ip, proto) = (wire::attribute(tuple, 1)?, wire::attribute(tuple, 2)?);
        if wire::attribute(proto, 1)? != [UDP] {
            return None;
        }
        let port = <[u8; 2]>::try_from(wire::attribute(proto, 3)?).ok().map(u16::from_be_bytes)?;
        let address = |kind| wire::ipv4_at(wire::attribute(ip, kind)?, 0);
        Some((address(1)?, address(2)?, port))
    };
    let (began, called, port) = ends(original)?;
    let (answers, _, _) = ends(reply)?;
    Some(Flow {
        began,
        called: (called, port),
        answers,
        original: original.to_vec(),
        zone: wire::attribute(attributes, ZONE).map(<[u8]>::to_vec),
    })
}
