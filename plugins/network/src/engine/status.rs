//! What `sampanctl` shows of the network, and what is looked at between requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Engine;
use crate::addresses::Subnet;
use crate::bridge;
use crate::ports::TABLE;
use crate::records::Place;

/// The bridge of a network in use, as rules of the host meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedBridge {
    pub network: String,
    pub name: String,
    /// What comes from it may be forwarded; questions for names it brings in any case.
    pub has_way_out: bool,
}

impl Engine {
    pub fn bridges_in_use(&self) -> Vec<UsedBridge> {
        let used = |network: &String| UsedBridge {
            network: network.clone(),
            name: bridge::bridge_name(network),
            has_way_out: !self.is_internal(network),
        };
        self.networks_in_use().map(|(network, _)| used(network)).collect()
    }

    /// Their names.
    pub(super) fn bridges_with_a_way_out(&self) -> Vec<String> {
        let open = self.bridges_in_use().into_iter().filter(|bridge| bridge.has_way_out);
        open.map(|bridge| bridge.name).collect()
    }

    /// As seen between requests; for `status`.
    pub fn set_obstacles(&mut self, obstacles: Vec<String>) {
        self.obstacles = obstacles;
    }

    pub fn status(&mut self) -> Value {
        let forwarding = self.guarded_interfaces();
        let services: BTreeMap<&String, Value> = self
            .held_services()
            .map(|(name, service)| {
                let place = |(i, p): (usize, &Place)| {
                    let subnet = self.networks.get(&p.network).map(|k| k.subnet);
                    json!({
                        "network": p.network,
                        "interface": format!("eth{i}"),
                        "address": p.address,
                        "ipv6_address": self.address6(p),
                        "prefix": subnet.map(Subnet::prefix),
                        "gateway": subnet.map(|subnet| self.config.addressing(&p.network, subnet).gateway()),
                        "mac": self.mac(name, &p.network).to_string(),
                    })
                };
                let networks: Vec<Value> = service.places.iter().enumerate().map(place).collect();
                (name, json!({ "networks": networks, "ports": service.ports }))
            })
            .collect();
        let networks: BTreeMap<&String, Value> = self
            .networks
            .iter()
            .map(|(name, known)| {
                let status = json!({
                    "driver": "bridge",
                    "bridge": bridge::bridge_name(name),
                    "subnet": known.subnet,
                    "gateway": self.config.addressing(name, known.subnet).gateway(),
                    "ipv6_prefix": self.prefix6(name).map(|prefix| format!("{prefix}/64")),
                    "internal": self.is_internal(name),
                    "up": self.in_use(name),
                    "services": known.leases.held().map(|(service, _)| service).collect::<Vec<_>>(),
                });
                (name, status)
            })
            .collect();
        json!({
            "services": services,
            "networks": networks,
            "table": format!("inet {TABLE}"),
            "forwarding_for_us_alone": forwarding,
            "obstacles": self.obstacles.iter().cloned().chain(self.mute.values().cloned()).chain(self.obstacle6()).collect::<Vec<_>>(),
        })
    }
}
