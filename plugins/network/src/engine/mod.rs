//! The network of this host: what it should be, and the steps that make it so. Knows the kernel, not the plugin ABI.
//!
//! ```text
//!   prepare   addresses leased, ports held, written down; bridges and their name servers, which its files tell of
//!                                                               (create: nothing of the container exists yet)
//!   attach    veth, address, route; rules; forwarding           (its namespace exists)
//!   release   rules, ports, links, forwarding, addresses        (the last of it is gone)
//!   reconcile everything at once, from the records              (after a crash, or when others took our rules away)
//! ```
//! Each may be called again and finds its work done. What was leased stays a service's own until another needs it.

mod files;
mod forwarding;
mod ipv6;
mod leaving;
mod names;
mod prepare;
mod rules;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::addresses::{Lease, Leases, Mac, Subnet};
use crate::bridge::{self, Attachment, Bridge};
use crate::claim::Claim;
use crate::config::Config;
use crate::dns::server::Server;
use crate::dns::zone::Member;
use crate::modules::Modules;
use crate::netlink::{self, Family, Socket};
use crate::ports::{Guarded, HostPort, Publication, ROUTER, Rules};
use crate::records::{self, Effect, Network, Records, Service};
use crate::{conntrack, link, routes};

pub use status::UsedBridge;

pub type Result<T> = std::result::Result<T, String>;

/// Our means of reaching the kernel, from the moment that we have the right to.
struct Kernel {
    host: Socket,
    nft: Socket,
    _claim: Claim,
    /// What is in the table, as far as we know.
    rules: Option<Rules>,
    /// Bridges seen to by this process, by name.
    bridges: BTreeMap<String, u32>,
    /// Interfaces that forward because of us, by number; none of them for anybody else.
    guarded: Guarded,
    /// What ip_forward was when forwarding was last looked at, by us or by an earlier life; None: not yet, or it is not needed.
    router: Option<bool>,
    names: Server,
    /// Links that are to go, and are not marked yet.
    leaving: BTreeSet<String>,
}

/// What of this host does not come from its kernel.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Tells machines that share a LAN apart.
    pub machine: String,
    /// Where its resolv.conf and its hosts are.
    pub etc: PathBuf,
    /// It has IPv6.
    pub ipv6: bool,
}

impl Kernel {
    /// As it is written into the table, which keeps it when we die.
    fn forwarding(&self) -> Guarded {
        let router = (self.router == Some(true)).then_some(ROUTER);
        let mut guarded = self.guarded.clone();
        guarded.v4.extend(router);
        guarded
    }
}

/// What is to be done between requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chores {
    /// Some links wait to be removed.
    pub sweep: bool,
    /// A bridge is new: somebody's rules may stand in its way.
    pub look: bool,
    /// Rules could not be written.
    pub again: bool,
    /// Flows to be looked for once more.
    pub forget: Vec<conntrack::Stale>,
}

struct Known {
    subnet: Subnet,
    leases: Leases,
}

pub struct Engine {
    config: Config,
    host: HostFacts,
    networks: BTreeMap<String, Known>,
    services: BTreeMap<String, Service>,
    /// What those of them that hold an address are called.
    members: BTreeMap<String, Arc<Member>>,
    held: BTreeMap<(String, HostPort), OwnedFd>,
    /// The name servers' sockets, by network.
    listening: BTreeMap<String, names::Listening>,
    /// Networks without a name server, and why.
    mute: BTreeMap<String, String>,
    /// The host's ends of what is attached.
    veths: BTreeMap<String, Vec<String>>,
    /// The time of the records: grows with each that is freed.
    freed: u64,
    chores: Chores,
    modules: Modules,
    /// What keeps traffic from our networks, and what helps against it.
    obstacles: Vec<String>,
    kernel: Option<Kernel>,
}

impl Engine {
    /// From what was written down; touches nothing.
    pub fn new(config: Config, host: HostFacts, mut records: Records) -> Engine {
        let mut leases: BTreeMap<&str, Vec<(String, Lease)>> = BTreeMap::new();
        for (name, service) in &records.services {
            for place in &service.places {
                let lease = Lease { address: place.address, freed: service.freed };
                leases.entry(&place.network).or_default().push((name.clone(), lease));
            }
        }
        let mut networks = BTreeMap::new();
        for (name, Network { subnet }) in &records.networks {
            let net = config.addressing(name, *subnet);
            let leases = Leases::restore(net, leases.remove(name.as_str()).unwrap_or_default());
            networks.insert(name.clone(), Known { subnet: *subnet, leases });
        }
        // A place without its lease (a damaged store) would be an address that another may have: it is none. Whoever lost one
        // holds nothing any more, so that a container that lives is prepared anew when its attach is replayed.
        let leased = |network: &str, service: &str| {
            networks.get(network).is_some_and(|k: &Known| k.leases.get(service).is_some())
        };
        for (name, service) in &mut records.services {
            let had = service.places.len();
            service.places.retain(|p| leased(&p.network, name));
            if service.places.len() < had {
                service.freed.get_or_insert(0);
            }
        }
        let freed = records.services.iter().filter_map(|(_, s)| s.freed).max().unwrap_or(0);
        Engine {
            config,
            host,
            networks,
            services: records.services.into_iter().collect(),
            members: BTreeMap::new(),
            held: BTreeMap::new(),
            listening: BTreeMap::new(),
            mute: BTreeMap::new(),
            veths: BTreeMap::new(),
            freed,
            chores: Chores::default(),
            modules: Modules::default(),
            obstacles: Vec::new(),
            kernel: None,
        }
    }

    /// Whether we are at work: a guard is needed.
    pub fn is_active(&self) -> bool {
        self.kernel.is_some()
    }

    pub fn is_held(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|s| s.freed.is_none())
    }

    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// Since this was last asked.
    pub fn take_chores(&mut self) -> Chores {
        std::mem::take(&mut self.chores)
    }

    fn held_services(&self) -> impl Iterator<Item = (&String, &Service)> {
        self.services.iter().filter(|(_, s)| s.freed.is_none())
    }

    fn is_internal(&self, network: &str) -> bool {
        self.config.networks.get(network).is_some_and(|n| n.internal)
    }

    fn in_use(&self, network: &str) -> bool {
        self.networks.get(network).is_some_and(|k| k.leases.held().next().is_some())
    }

    fn networks_in_use(&self) -> impl Iterator<Item = (&String, &Known)> {
        self.networks.iter().filter(|(name, _)| self.in_use(name))
    }

    // ---- attach --------------------------------------------------------------------------------------------------------

    /// Connects a container of a prepared service; of any other, nothing is done.
    pub fn attach(
        &mut self,
        name: &str,
        netns: BorrowedFd<'_>,
        netns_id: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let Some(service) = self.services.get(name).filter(|s| s.freed.is_none()).cloned() else {
            return Ok(());
        };
        self.activate(effects)?;
        let (inside, connected) =
            Socket::open_in(netns, Family::Route, || self.connect(name, &service, netns, netns_id, effects));
        let (mut inside, connected) = (inside.map_err(text)?, connected?);
        let interfaces: Vec<&str> = connected.iter().map(|a| a.interface.as_str()).collect();
        crate::ipv6::settle(netns, &interfaces).map_err(text)?;
        for attachment in &connected {
            bridge::configure(&mut inside, attachment).map_err(text)?;
        }
        self.publish(&service)?;
        self.forward()?;
        self.forget_flows(&service, conntrack::Service::Came);
        self.modules.are_proven();
        Ok(())
    }

    /// The host's half of an attachment: bridges and pairs.
    fn connect(
        &mut self,
        name: &str,
        service: &Service,
        netns: BorrowedFd<'_>,
        netns_id: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<Vec<Attachment>> {
        let way_out = service.places.iter().position(|p| !self.is_internal(&p.network));
        let veths = service.places.iter().map(|p| bridge::veth_name(name, &p.network, netns_id)).collect();
        self.replace_veths(name, veths);
        let mut connected = Vec::new();
        for (i, place) in service.places.iter().enumerate() {
            let (index, bridge) = self.ensure_bridge(&place.network, effects)?;
            let attachment = Attachment {
                service: name.to_owned(),
                network: place.network.clone(),
                interface: format!("eth{i}"),
                mac: self.mac(name, &place.network),
                address: place.address,
                prefix: bridge.subnet.prefix(),
                gateway: (way_out == Some(i)).then_some(bridge.gateway),
                address6: self.address6(place),
                gateway6: bridge.gateway6.filter(|_| way_out == Some(i) && self.has_way_out6()),
                mtu: bridge.mtu,
                isolated: self.config.networks.get(&place.network).is_some_and(|n| n.isolated),
                bridge: bridge.name,
            };
            let veth = bridge::connect(&mut self.kernel()?.host, netns, netns_id, index, &attachment);
            self.modules.note(veth).map_err(text)?;
            connected.push(attachment);
        }
        Ok(connected)
    }

    fn mac(&self, service: &str, network: &str) -> Mac {
        Mac::of(&[&self.host.machine, service, network])
    }

    /// What is left of an earlier namespace of this service goes, before the new one has its address.
    fn replace_veths(&mut self, name: &str, now: Vec<String>) {
        let old = self.veths.insert(name.to_owned(), now.clone()).unwrap_or_default();
        for veth in old.iter().filter(|v| !now.contains(v)) {
            self.leave(veth.clone());
        }
    }

    /// The bridge of a network in use, with its name server; found again, or made anew where somebody took it away.
    fn ensure_bridge(&mut self, network: &str, effects: &mut Vec<Effect>) -> Result<(u32, Bridge)> {
        self.doom_leaving();
        let subnet = self
            .networks
            .get(network)
            .map(|k| k.subnet)
            .ok_or_else(|| format!("network {network} has no subnet"))?;
        let mtu = self.config.networks.get(network).map_or(0, |n| n.mtu);
        let mac = Mac::of(&[&self.host.machine, "bridge", network]);
        let mut wanted = Bridge {
            network: network.into(),
            name: bridge::bridge_name(network),
            mac,
            subnet,
            gateway: self.config.addressing(network, subnet).gateway(),
            gateway6: self.gateway6(network),
            mtu,
            forwards: !self.is_internal(network),
        };
        let kernel = self.kernel()?;
        let found =
            link::link(&mut kernel.host, &wanted.name).map_err(text)?.filter(|l| l.group == link::GROUP);
        if wanted.mtu == 0 {
            wanted.mtu = match &found {
                Some(link) => link.mtu,
                None => routes::default_mtu(&mut kernel.host).map_err(text)?,
            };
        }
        if let Some(link) = found
            && link.up
            && kernel.bridges.get(&wanted.name) == Some(&link.index)
        {
            self.serve_names(link.index, &wanted, effects);
            return Ok((link.index, wanted));
        }
        let made = bridge::ensure_bridge(&mut kernel.host, &wanted);
        let index = self.modules.note(made).map_err(text)?;
        self.kernel()?.bridges.insert(wanted.name.clone(), index);
        self.chores.look = true;
        self.serve_names(index, &wanted, effects);
        Ok((index, wanted))
    }

    // ---- release -------------------------------------------------------------------------------------------------------

    /// Frees what a service has. Never fails: what could not be done is logged, and the next reconcile finds it.
    pub fn release(&mut self, name: &str, effects: &mut Vec<Effect>) {
        self.drop_ports(name, &[], effects);
        self.freed += 1;
        for known in self.networks.values_mut() {
            known.leases.free(name, self.freed);
        }
        let Some(service) = self.services.get_mut(name).filter(|s| s.freed.is_none()) else {
            return;
        };
        service.freed = Some(self.freed);
        let service = service.clone();
        effects.push(Effect::put(records::service_key(name), &service));
        self.rename(name);
        for veth in self.veths.remove(name).unwrap_or_default() {
            self.leave(veth);
        }
        for place in &service.places {
            if !self.in_use(&place.network) {
                self.leave(bridge::bridge_name(&place.network));
                self.leave_names(&place.network, effects);
            }
        }
        self.publish_names();
        self.stop_forwarding();
        if let Err(e) = self.withdraw(&service) {
            tracing::warn!("service {name}: its rules may still be there: {e}");
            self.chores.again = true;
        }
        self.forget_flows(&service, conntrack::Service::Gone);
    }

    /// Gives up the claim, for a successor in this process. What is attached stays.
    pub fn let_go(&mut self) {
        self.kernel = None;
    }

    // ---- reconcile -----------------------------------------------------------------------------------------------------

    /// Ports that the keel held for us. Returns the keys of those that nobody needs.
    pub fn adopt(&mut self, kept: Vec<(String, OwnedFd)>) -> Vec<Effect> {
        let mut unknown = Vec::new();
        let kept = self.adopt_name_sockets(kept, &mut unknown);
        let mut wanted = BTreeMap::new();
        for (name, service) in self.held_services() {
            for port in service.ports.iter().map(HostPort::from) {
                wanted.insert(records::port_key(name, &port), (name.clone(), port));
            }
        }
        for (key, fd) in kept {
            match wanted.get(&key) {
                Some(port) => {
                    self.held.insert(port.clone(), fd);
                }
                None => unknown.push(Effect::Drop(key)),
            }
        }
        unknown
    }

    /// Frees every service that is not among `live`, then makes the host agree with the records.
    pub fn synchronize(&mut self, live: &[String], effects: &mut Vec<Effect>) -> Result<()> {
        if self.networks.is_empty() {
            return Ok(()); // never at work on this machine
        }
        if !self.activate(effects)? {
            self.reconcile(effects)?;
        }
        let held: Vec<(String, Vec<Publication>)> =
            self.held_services().map(|(name, s)| (name.clone(), s.ports.clone())).collect();
        for (name, ports) in held {
            if !live.contains(&name) {
                self.release(&name, effects);
            } else if let Err(e) = self.hold_ports(&name, &ports, effects) {
                // The keel died as well, and the port was nobody's for a while. Our rules go first, so it works all the same.
                tracing::warn!("{e}");
            }
        }
        Ok(())
    }

    /// Takes the claim and cleans up after an earlier life; false if that was done before.
    fn activate(&mut self, effects: &mut Vec<Effect>) -> Result<bool> {
        if self.kernel.is_some() {
            return Ok(false);
        }
        let claim = Claim::take()?;
        let host = Socket::open(Family::Route).map_err(text)?;
        let mut nft = self.modules.note(Socket::open(Family::Netfilter)).map_err(text)?;
        let (guarded, router) = Rules::forwarding_before(&mut nft).map_err(text)?;
        let (rules, bridges, names) = (None, BTreeMap::new(), self.start_names()?);
        let leaving = BTreeSet::new();
        self.kernel =
            Some(Kernel { host, nft, _claim: claim, rules, bridges, guarded, router, names, leaving });
        self.reconcile(effects).map(|()| true)
    }

    /// Makes links, rules and forwarding agree with the records; strays of ours go.
    pub fn reconcile(&mut self, effects: &mut Vec<Effect>) -> Result<()> {
        self.rename_all();
        self.publish_names();
        let links = link::ours(&mut self.kernel()?.host).map_err(text)?;
        let mut stray = Vec::new();
        self.veths.clear();
        for link in &links {
            match link.owner() {
                Some(("", network)) if self.in_use(network) => {}
                Some((service, network)) if self.has_place(service, network) => {
                    self.veths.entry(service.to_owned()).or_default().push(link.name.clone());
                }
                _ => stray.push(link.name.clone()),
            }
        }
        stray.iter().for_each(|name| self.leave(name.clone()));
        self.doom_leaving();
        self.kernel()?.bridges.clear();
        let networks: Vec<String> = self.networks.keys().filter(|n| self.in_use(n)).cloned().collect();
        for network in networks {
            let (index, _) = self.ensure_bridge(&network, effects)?;
            let isolated = self.config.networks.get(&network).is_some_and(|n| n.isolated);
            let off = |l: &&link::Link| {
                l.owner().is_some_and(|(s, n)| !s.is_empty() && n == network) && l.master != index
            };
            for link in links.iter().filter(off).filter(|l| !stray.contains(&l.name)) {
                bridge::enslave(&mut self.kernel()?.host, &link.name, index, isolated).map_err(text)?;
            }
        }
        self.stop_forwarding();
        self.kernel()?.rules = None;
        self.program()?;
        self.see_to_forwarding()
    }

    /// Others took our rules away: all of them again, in one transaction.
    pub fn program_anew(&mut self) -> Result<()> {
        if let Some(kernel) = self.kernel.as_mut() {
            kernel.rules = None;
        }
        self.program()
    }

    fn has_place(&self, service: &str, network: &str) -> bool {
        self.is_held(service)
            && self.services.get(service).is_some_and(|s| s.places.iter().any(|p| p.network == network))
    }

    fn kernel(&mut self) -> Result<&mut Kernel> {
        self.kernel.as_mut().ok_or_else(|| "the network is not claimed".into())
    }

    /// The netlink port of our transactions.
    pub fn nft_port(&self) -> Option<u32> {
        self.kernel.as_ref().map(|k| k.nft.port)
    }
}

fn text(e: netlink::Error) -> String {
    e.to_string()
}
