//! The engine's records as names, and the sockets of the name server.
//!
//! The sockets are kept in the keel: while a worker is dead, questions wait in them for the next one. Those of a network that nobody
//! uses are kept by us, for the next one who does: an answer that is under way may hold them open, and their port with them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Engine, Result};
use crate::bridge::Bridge;
use crate::dns::server::Server;
use crate::dns::sockets::{self, Sockets};
use crate::dns::zone::{Member, Place, Reach, Zone};
use crate::records::{self, Effect, Service};

/// The sockets of a network.
pub(super) struct Listening {
    gateway: IpAddr,
    sockets: Sockets,
    /// The number of the bridge that they are bound to; None: nobody uses the network.
    bridge: Option<u32>,
}

impl Engine {
    /// Answers questions that come by this bridge. Without it the network is of use, too; so what is wrong is told, and no error.
    pub(super) fn serve_names(&mut self, index: u32, bridge: &Bridge, effects: &mut Vec<Effect>) {
        let network = &bridge.network;
        if self.listening.get(network).is_some_and(|l| l.bridge == Some(index)) {
            return;
        }
        match self.listen(index, bridge, effects) {
            Ok(()) => drop(self.mute.remove(network)),
            Err(e) => {
                let told = format!("network {network}: services find no names: {e}");
                if self.mute.insert(network.clone(), told.clone()).as_ref() != Some(&told) {
                    tracing::warn!("{told}");
                }
            }
        }
    }

    fn listen(&mut self, index: u32, bridge: &Bridge, effects: &mut Vec<Effect>) -> Result<()> {
        let gateway = IpAddr::from(bridge.gateway);
        let network = &bridge.network;
        let before = self.listening.remove(network).filter(|l| l.gateway == gateway);
        let sockets = match before {
            Some(Listening { sockets, .. }) => sockets.move_to(&bridge.name).map(|()| sockets)?,
            None => sockets::open(gateway, &bridge.name, &self.bound_sockets())?,
        };
        let kept = sockets.try_clone()?;
        effects.push(Effect::Keep(records::dns_key(network, "udp"), kept.udp));
        effects.push(Effect::Keep(records::dns_key(network, "tcp"), kept.tcp));
        let served = sockets.try_clone()?;
        if let Some(kernel) = &self.kernel {
            kernel.names.listen(network, vec![served]);
        }
        self.listening.insert(network.clone(), Listening { gateway, sockets, bridge: Some(index) });
        Ok(())
    }

    /// Nobody uses the network any more.
    pub(super) fn leave_names(&mut self, network: &str, effects: &mut Vec<Effect>) {
        self.mute.remove(network);
        if self.listening.get_mut(network).and_then(|listening| listening.bridge.take()).is_none() {
            return;
        }
        if let Some(kernel) = &self.kernel {
            kernel.names.leave(network);
        }
        effects.push(Effect::Drop(records::dns_key(network, "udp")));
        effects.push(Effect::Drop(records::dns_key(network, "tcp")));
    }

    /// Sockets of ours that have a port of this host.
    pub(super) fn bound_sockets(&self) -> Vec<&OwnedFd> {
        let names = self.listening.values().flat_map(|l| [&l.sockets.udp, &l.sockets.tcp]);
        self.held.values().chain(names).collect()
    }

    /// From an earlier worker. What is no name server's socket is given back; a half of a pair goes.
    pub(super) fn adopt_name_sockets(
        &mut self,
        kept: Vec<(String, OwnedFd)>,
        unknown: &mut Vec<Effect>,
    ) -> Vec<(String, OwnedFd)> {
        let (mut halves, mut others) = (BTreeMap::<String, BTreeMap<String, OwnedFd>>::new(), Vec::new());
        for (key, fd) in kept {
            match records::network_of_dns_key(&key) {
                Some((network, half)) => drop(halves.entry(network).or_default().insert(half, fd)),
                None => others.push((key, fd)),
            }
        }
        for (network, mut pair) in halves {
            let (udp, tcp) = (pair.remove("udp"), pair.remove("tcp"));
            let gateway = udp.as_ref().and_then(sockets::address).filter(|_| self.in_use(&network));
            match (udp, tcp, gateway) {
                (Some(udp), Some(tcp), Some(gateway)) => {
                    let sockets = Sockets { udp, tcp };
                    self.listening.insert(network, Listening { gateway, sockets, bridge: None });
                }
                _ => {
                    unknown.extend(["udp", "tcp"].map(|half| Effect::Drop(records::dns_key(&network, half))))
                }
            }
        }
        others
    }

    /// What a service is called now, if it holds an address. To be told after each change of its record.
    pub(super) fn rename(&mut self, service: &str) {
        match self.services.get(service).filter(|record| record.freed.is_none()) {
            Some(record) => {
                let member = Arc::new(self.member(service, record));
                self.members.insert(service.to_owned(), member);
            }
            None => drop(self.members.remove(service)),
        }
    }

    /// As `rename`, of all.
    pub(super) fn rename_all(&mut self) {
        let held = self.held_services();
        self.members = held.map(|(name, s)| (name.clone(), Arc::new(self.member(name, s)))).collect();
    }

    fn member(&self, name: &str, service: &Service) -> Member {
        let mut names = vec![name.to_owned()];
        names.extend(service.hostname.clone().filter(|hostname| hostname != name));
        let place = |p: &records::Place| Place {
            network: p.network.clone(),
            addresses: self.addresses(p),
            aliases: p.aliases.clone(),
        };
        Member { names, places: service.places.iter().map(place).collect(), servers: service.dns.clone() }
    }

    /// The names of all that have an address, as of now.
    pub(super) fn publish_names(&self) {
        let Some(kernel) = &self.kernel else { return };
        let networks = self.networks_in_use().map(|(name, _)| {
            let isolated = self.config.networks.get(name).is_some_and(|n| n.isolated);
            (name.clone(), Reach { internal: self.is_internal(name), isolated })
        });
        kernel.names.publish(Zone::new(networks, self.members.values().cloned()));
    }

    /// The name server, which is there as long as we have the right to the network.
    pub(super) fn start_names(&self) -> Result<Server> {
        Server::start(self.host.etc.join("resolv.conf"))
    }
}
