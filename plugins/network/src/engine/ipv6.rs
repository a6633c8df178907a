//! IPv6 of our networks: which addresses, and forwarding, for our networks alone.
//!
//! As with IPv4 an interface that forwards because of us is guarded, and is told in the table. On a kernel that forwards by all interfaces
//! or by none, it is the operator's to say.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use super::{Engine, Result, text};
use crate::config::Membership;
use crate::ipv6::{self, Forwards};
use crate::link::{self, Link};
use crate::ports::Publication;
use crate::records::Place;

impl Engine {
    /// The first address of the network's /64; None: it has no IPv6.
    pub(super) fn prefix6(&self, network: &str) -> Option<Ipv6Addr> {
        let wanted = self.config.networks.get(network).is_none_or(|n| n.ipv6);
        (wanted && self.host.ipv6).then(|| ipv6::prefix(&self.host.machine, network))
    }

    pub(super) fn gateway6(&self, network: &str) -> Option<Ipv6Addr> {
        let gateway = self.config.addressing(network, self.networks.get(network)?.subnet).gateway();
        Some(ipv6::address(self.prefix6(network)?, gateway))
    }

    pub(super) fn address6(&self, place: &Place) -> Option<Ipv6Addr> {
        let prefix = self.prefix6(&place.network)?;
        Some(place.ipv6_address.unwrap_or_else(|| ipv6::address(prefix, place.address)))
    }

    pub(super) fn addresses(&self, place: &Place) -> Vec<IpAddr> {
        let v6 = self.address6(place).map(IpAddr::from);
        [IpAddr::from(place.address)].into_iter().chain(v6).collect()
    }

    /// What is wrong with an address that a service asks for.
    pub(super) fn check6(&self, service: &str, network: &str, wanted: Ipv6Addr) -> Result<()> {
        let Some(prefix) = self.prefix6(network) else {
            return Err(format!("service {service}: network {network} has no IPv6 for {wanted}"));
        };
        if !ipv6::contains(prefix, wanted) || wanted == prefix {
            let network_has = format!("network {network} ({prefix}/{})", ipv6::PREFIX);
            return Err(format!("service {service}: {wanted} is no address of {network_has}"));
        }
        let others = self.held_services().filter(|(name, _)| *name != service);
        let mut theirs = others.flat_map(|(name, s)| s.places.iter().map(move |place| (name, place)));
        let holder = theirs.find(|(_, p)| p.network == network && self.address6(p) == Some(wanted));
        match (holder, self.gateway6(network) == Some(wanted)) {
            (Some((name, _)), _) => Err(format!("service {service}: {wanted} is held by service {name}")),
            (None, true) => Err(format!("service {service}: {wanted} is the gateway of network {network}")),
            (None, false) => Ok(()),
        }
    }

    /// Why a port cannot be published on an address of IPv6.
    pub(super) fn check_published6(&self, p: &Publication, networks: &[Membership]) -> Result<()> {
        if p.host_ip.is_loopback() {
            return Err("cannot be published: the kernel redirects nothing from there; use 127.0.0.1".into());
        }
        let open = networks.iter().find(|n| !self.is_internal(&n.name)).or(networks.first());
        match open.filter(|n| self.prefix6(&n.name).is_none()) {
            Some(n) => Err(format!("cannot be published: network {} has no IPv6", n.name)),
            None => Ok(()),
        }
    }

    /// Whether packets of a network with a way out are forwarded.
    pub(super) fn has_way_out6(&self) -> bool {
        self.host.ipv6 && ipv6::forwards() != Forwards::No
    }

    fn needs_forwarding6(&self) -> bool {
        self.networks_in_use().any(|(name, _)| !self.is_internal(name) && self.prefix6(name).is_some())
    }

    /// For `status`: nothing of it is wrong, so no log says it.
    pub(super) fn obstacle6(&self) -> Option<String> {
        let lacks = self.needs_forwarding6() && !self.has_way_out6();
        lacks.then(|| {
            "services have no way out by IPv6, nor are their ports published by it: before Linux 6.17 the kernel forwards it by all \
             interfaces or by none, and this host is no router; to make it one, set net.ipv6.conf.all.forwarding=1, and before that \
             accept_ra=2 on interfaces that take their route from advertisements"
                .to_owned()
        })
    }

    /// Makes forwarding as our networks need it; may be called at any time.
    pub(super) fn see_to_forwarding6(&mut self) -> Result<()> {
        if self.kernel.is_none() || !self.needs_forwarding6() {
            return Ok(());
        }
        if ipv6::forwards() != Forwards::Each {
            // Somebody has a router by now, or nobody can.
            let guarded = std::mem::take(&mut self.kernel()?.guarded.v6);
            if !guarded.is_empty() {
                self.program()?;
                self.stop_forwarding6_of(&guarded);
            }
            return Ok(());
        }
        let bridges = self.bridges_with_a_way_out();
        let kernel = self.kernel()?;
        let links = link::all(&mut kernel.host).map_err(text)?;
        let may_bring_packets = |link: &&Link| !link.loopback && !link.is_ours() && link.master == 0;
        let off = |link: &&Link| !ipv6::is_forwarding(&link.name);
        let mut guarded = kernel.guarded.v6.clone();
        guarded.retain(|index| links.iter().any(|link| link.index == *index));
        guarded.extend(links.iter().filter(may_bring_packets).filter(off).map(|link| link.index));
        kernel.guarded.v6 = guarded;
        // The guard first: there is no moment at which others are forwarded.
        self.program()?;
        let forwards = |link: &&Link| may_bring_packets(link) || bridges.contains(&link.name);
        for link in links.iter().filter(forwards).filter(off) {
            // An interface without IPv6 has no such setting, and one that went meanwhile is as wanted.
            if let Err(e) = ipv6::set_forwarding(&link.name, true) {
                tracing::debug!("{e}");
            }
        }
        Ok(())
    }

    /// When no network needs it: as it was.
    pub(super) fn stop_forwarding6(&mut self) {
        if self.needs_forwarding6() {
            return;
        }
        let Some(kernel) = self.kernel.as_mut() else { return };
        let guarded = std::mem::take(&mut kernel.guarded.v6);
        self.stop_forwarding6_of(&guarded);
    }

    fn stop_forwarding6_of(&mut self, guarded: &BTreeSet<u32>) {
        let Some(kernel) = self.kernel.as_mut().filter(|_| !guarded.is_empty()) else { return };
        let links = link::all(&mut kernel.host).unwrap_or_default();
        for link in links.iter().filter(|link| guarded.contains(&link.index)) {
            if let Err(e) = ipv6::set_forwarding(&link.name, false) {
                tracing::warn!("{} may still forward IPv6: {e}", link.name);
            }
        }
    }
}
