//! Before a container is made: its subnet, its addresses, its ports and its bridges, or why it cannot have them.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{Engine, Known, Result, text};
use crate::addresses::{Leases, POOL, Subnet, pick_subnet};
use crate::config::Membership;
use crate::ports::{HostPort, Publication};
use crate::records::{self, Effect, Network, Place, Service};
use crate::{bridge, config, held, link, routes};

impl Engine {
    /// Leases, ports and bridges for a service that is about to be created. What is in `effects` must be done before it goes on, and
    /// if it fails, too.
    pub fn prepare(&mut self, name: &str, table: &Value, effects: &mut Vec<Effect>) -> Result<()> {
        let wanted = config::Service::parse(table).map_err(|e| format!("service {name}: {e}"))?;
        if !wanted.is_bridged() {
            if self.is_held(name) {
                self.release(name, effects);
            }
            return Ok(());
        }
        self.activate(effects)?;
        let networks = wanted.networks();
        for network in &networks {
            self.know(&network.name, name, effects)?;
        }
        let ports = self.publications(name, &wanted, &networks)?;
        self.hold_ports(name, &ports, effects)?;
        let places = self.lease(name, &networks, effects)?;
        // Written even if it was known: the disk may have refused it last time. A repeat costs nothing, the host sees to that.
        let service = Service { places, ports, freed: None, hostname: wanted.hostname, dns: wanted.dns };
        effects.push(Effect::put(records::service_key(name), &service));
        self.services.insert(name.to_owned(), service);
        self.rename(name);
        self.publish_names();
        // Whether its gateways answer questions is known from here on: its resolv.conf names them only if they do. Once it holds
        // its places, so that what is made here goes with its release, whatever fails.
        networks.iter().try_for_each(|network| self.ensure_bridge(&network.name, effects).map(drop))
    }

    /// A network that this service needs, with its subnet. Written even if it was known, as the service is.
    fn know(&mut self, network: &str, service: &str, effects: &mut Vec<Effect>) -> Result<()> {
        let subnet = self.subnet_for(network, service, effects)?;
        effects.push(Effect::put(records::network_key(network), &Network { subnet }));
        Ok(())
    }

    /// The subnet that the network had, if nobody took it and config.toml says no other.
    fn subnet_for(&mut self, network: &str, service: &str, effects: &mut Vec<Effect>) -> Result<Subnet> {
        let default = config::Network::default();
        let config = match self.config.networks.get(network) {
            Some(config) => config,
            None if network == "default" => &default,
            None => {
                return Err(format!(
                    "service {service}: there is no network {network}; add [networks.{network}]"
                ));
            }
        };
        if let Some(what) = config.not_built() {
            return Err(format!("networks.{network}.{what}"));
        }
        let wanted = config.subnet;
        if let Some(known) = self.networks.get(network) {
            let subnet = known.subnet;
            let as_wanted = wanted.is_none_or(|w| w == subnet);
            let users: Vec<&str> = known.leases.held().map(|(s, _)| s).filter(|s| *s != service).collect();
            match (users.is_empty(), as_wanted) {
                (false, true) => return Ok(subnet),
                (false, false) => {
                    return Err(format!("network {network}: has {subnet} until {} stop", users.join(", ")));
                }
                (true, true) if self.is_held(service) || self.is_free(network, subnet)? => return Ok(subnet),
                (true, _) => {}
            }
        }
        let subnet = self.choose_subnet(network, wanted)?;
        self.networks.insert(network.to_owned(), Known { subnet, leases: Leases::default() });
        let once: Vec<String> = self.services.keys().cloned().collect();
        once.iter().for_each(|service| self.forget_place(service, network, effects));
        Ok(subnet)
    }

    fn choose_subnet(&mut self, network: &str, wanted: Option<Subnet>) -> Result<Subnet> {
        let used = self.prefixes_in_use(network)?;
        let Some(subnet) = wanted else {
            return pick_subnet(&used).ok_or_else(|| {
                format!("network {network}: no /20 of {POOL} is free; set networks.{network}.subnet")
            });
        };
        match used.iter().find(|u| u.overlaps(subnet)) {
            None => Ok(subnet),
            Some(other) => Err(format!(
                "networks.{network}.subnet: {subnet} overlaps {}; choose another",
                self.owner_of(*other)
            )),
        }
    }

    /// A subnet from an earlier life may have been taken by the host since.
    fn is_free(&mut self, network: &str, subnet: Subnet) -> Result<bool> {
        Ok(!self.prefixes_in_use(network)?.iter().any(|u| u.overlaps(subnet)))
    }

    /// By the host, but not by this network's own bridge, and by our other networks.
    fn prefixes_in_use(&mut self, network: &str) -> Result<Vec<Subnet>> {
        let bridge = bridge::bridge_name(network);
        let kernel = self.kernel()?;
        let own: Vec<u32> =
            link::link(&mut kernel.host, &bridge).map_err(text)?.map(|l| l.index).into_iter().collect();
        let mut used = routes::prefixes_in_use(&mut kernel.host, &own).map_err(text)?;
        used.extend(self.networks.iter().filter(|(name, _)| *name != network).map(|(_, k)| k.subnet));
        Ok(used)
    }

    fn owner_of(&self, subnet: Subnet) -> String {
        match self.networks.iter().find(|(_, k)| k.subnet == subnet) {
            Some((name, _)) => format!("network {name} ({subnet})"),
            None => format!("{subnet}, which this host routes or has an address in"),
        }
    }

    fn publications(
        &self,
        name: &str,
        wanted: &config::Service,
        networks: &[Membership],
    ) -> Result<Vec<Publication>> {
        let mut ports: Vec<Publication> = Vec::new();
        for port in &wanted.ports {
            let host_ip = match port.host_ip.unwrap_or(self.config.publish_address) {
                all if all.is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
                ip => ip,
            };
            let p = Publication {
                protocol: port.protocol,
                host_ip,
                published: port.published,
                target: port.target,
            };
            if p.published == 0 || p.target == 0 {
                return Err(format!("service {name}: ports: 0 is not a port"));
            }
            if host_ip.is_ipv6() {
                self.check_published6(&p, networks).map_err(|e| format!("service {name}: port {p} {e}"))?;
            }
            if networks.iter().all(|n| self.is_internal(&n.name)) && !host_ip.is_loopback() {
                return Err(format!(
                    "service {name}: port {p} cannot be published: all its networks are internal; \
                     add one that is not, or publish on 127.0.0.1"
                ));
            }
            if let Some(first) = ports.iter().find(|other| other.collides(&p)) {
                return Err(format!("service {name}: port {p} is published twice (also {first})"));
            }
            let others = self.held_services().filter(|(other, _)| *other != name);
            if let Some((other, first)) = others
                .flat_map(|(other, s)| s.ports.iter().map(move |q| (other, q)))
                .find(|(_, q)| q.collides(&p))
            {
                return Err(format!(
                    "service {name}: port {p} is published by service {other} already ({first})"
                ));
            }
            ports.push(p);
        }
        Ok(ports)
    }

    pub(super) fn hold_ports(
        &mut self,
        name: &str,
        ports: &[Publication],
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        self.drop_ports(name, ports, effects);
        for p in ports {
            let key = (name.to_owned(), HostPort::from(p));
            if self.held.contains_key(&key) {
                continue;
            }
            let fd = held::hold(p, &self.bound_sockets()).map_err(|e| format!("service {name}: {e}"))?;
            if let Ok(copy) = fd.try_clone() {
                effects.push(Effect::Keep(records::port_key(name, &key.1), copy));
            }
            self.held.insert(key, fd);
        }
        Ok(())
    }

    /// Lets go of all ports of a service but `keep`.
    pub(super) fn drop_ports(&mut self, name: &str, keep: &[Publication], effects: &mut Vec<Effect>) {
        self.held.retain(|(service, p), _| {
            let stays = service != name || keep.iter().any(|k| HostPort::from(k) == *p);
            if !stays {
                effects.push(Effect::Drop(records::port_key(service, p)));
            }
            stays
        });
    }

    fn lease(
        &mut self,
        name: &str,
        networks: &[Membership],
        effects: &mut Vec<Effect>,
    ) -> Result<Vec<Place>> {
        self.freed += 1;
        for (network, known) in &mut self.networks {
            if networks.iter().all(|n| n.name != *network) {
                known.leases.free(name, self.freed);
            }
        }
        let mut places = Vec::new();
        for Membership { name: network, ipv4_address, ipv6_address, aliases } in networks {
            if let Some(wanted) = ipv6_address {
                self.check6(name, network, *wanted)?;
            }
            let Some(known) = self.networks.get_mut(network) else { continue };
            let taken = known
                .leases
                .take(name, self.config.addressing(network, known.subnet), *ipv4_address)
                .map_err(|e| format!("service {name}: network {network} ({}): {e}", known.subnet))?;
            places.push(Place {
                network: network.clone(),
                address: taken.address,
                ipv6_address: *ipv6_address,
                aliases: aliases.clone(),
            });
            if let Some(other) = taken.from {
                self.forget_place(&other, network, effects);
            }
        }
        Ok(places)
    }

    fn forget_place(&mut self, service: &str, network: &str, effects: &mut Vec<Effect>) {
        let has = |s: &&mut Service| s.places.iter().any(|p| p.network == network);
        let Some(record) = self.services.get_mut(service).filter(has) else { return };
        record.places.retain(|p| p.network != network);
        if record.places.is_empty() {
            self.services.remove(service);
            effects.push(Effect::Delete(records::service_key(service)));
        } else {
            effects.push(Effect::put(records::service_key(service), record));
        }
        self.rename(service);
    }
}
