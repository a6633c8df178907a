//! What stands in a service's /etc/hosts, /etc/hostname and /etc/resolv.conf, from the records and the host's own files.

use std::fs;
use std::net::IpAddr;

use serde_json::Value;

use super::{Engine, Result};
use crate::config;
use crate::dns::resolv_conf::ResolvConf;
use crate::files::{self, Own};
use crate::records::{Place, Service};

impl Engine {
    /// Of those that the service's table says can be mounted; of a service that has been prepared.
    pub fn files(&self, name: &str, table: &Value) -> Result<Vec<(&'static str, String)>> {
        let wanted = config::Service::parse(table).map_err(|e| format!("service {name}: {e}"))?;
        let read = |file: &str| fs::read_to_string(self.host.etc.join(file)).unwrap_or_default();
        let text = read("resolv.conf");
        let host = ResolvConf::parse(&text);
        let (hosts, resolv_conf) = match wanted.network_mode.as_str() {
            "host" => {
                let hosts = files::hosts_of_host(name, &wanted, &read("hosts"));
                (hosts, Some(files::resolv_conf_of_host(&wanted, &host, &text)))
            }
            _ => {
                let service = self.services.get(name).filter(|service| service.freed.is_none());
                let own = service.map_or_else(Own::default, |service| self.own(service, &host));
                (files::hosts(name, &wanted, &own), files::resolv_conf(&wanted, &own, &host))
            }
        };
        let all = [(files::HOSTS, Some(hosts)), (files::HOSTNAME, Some(files::hostname(name, &wanted)))];
        let all = all.into_iter().chain([(files::RESOLV_CONF, resolv_conf)]);
        let can = |path: &str| wanted.network_files.iter().any(|file| file == path);
        Ok(all.filter(|(path, _)| can(path)).filter_map(|(path, text)| Some((path, text?))).collect())
    }

    fn own(&self, service: &Service, host: &ResolvConf) -> Own {
        let gateway = |place: &Place| {
            let subnet = self.networks.get(&place.network)?.subnet;
            Some(IpAddr::from(self.config.addressing(&place.network, subnet).gateway()))
        };
        let first = self.published_at(service);
        let gateway = first.and_then(gateway);
        let servers = match first {
            // Without a name server of ours, the world's names at least; the host's loopback is not the service's.
            Some(place) if self.mute.contains_key(&place.network) => host
                .servers
                .iter()
                .map(std::net::SocketAddr::ip)
                .filter(|server| !server.is_loopback())
                .collect(),
            _ => gateway.into_iter().collect(),
        };
        Own {
            addresses: service.places.iter().flat_map(|place| self.addresses(place)).collect(),
            servers,
            gateway,
        }
    }
}
