//! The engine's records as rules, and the way to the kernel for them.

use super::{Engine, Kernel, Result, text};
use crate::addresses::Subnet;
use crate::bridge;
use crate::config::Protocol;
use crate::conntrack;
use crate::ports::{Passage, Publication, Rules, Target};
use crate::records::{Place, Service};

impl Engine {
    /// All that should be in the table.
    fn rules(&self) -> Rules {
        let mut rules = Rules::new(self.kernel.as_ref().map(Kernel::forwarding).unwrap_or_default());
        for (name, known) in self.networks_in_use() {
            let internal = self.is_internal(name);
            let gateway = self.config.addressing(name, known.subnet).gateway();
            let (bridge, subnet) = (bridge::bridge_name(name), known.subnet);
            rules.add_network(&Passage { bridge, subnet, gateway, prefix6: self.prefix6(name), internal });
        }
        for (_, service) in self.held_services() {
            self.publications_of(service).iter().for_each(|(p, to)| rules.add_publication(p, *to));
        }
        rules
    }

    /// Ports lead to the first network that has a way out.
    pub(super) fn published_at<'s>(&self, service: &'s Service) -> Option<&'s Place> {
        let open = service.places.iter().find(|p| !self.is_internal(&p.network));
        open.or(service.places.first())
    }

    fn publications_of(&self, service: &Service) -> Vec<(Publication, Target)> {
        let Some(place) = self.published_at(service) else { return Vec::new() };
        let target = Target { v4: place.address, v6: self.address6(place) };
        service.ports.iter().map(|p| (*p, target)).collect()
    }

    pub(super) fn publish(&mut self, service: &Service) -> Result<()> {
        let fresh = self.publications_of(service);
        self.change(&[], &fresh)
    }

    pub(super) fn withdraw(&mut self, service: &Service) -> Result<()> {
        let gone = self.publications_of(service);
        self.change(&gone, &[])
    }

    /// A step, where the networks are those that the rules are about; else, or if the step is refused, all anew.
    fn change(&mut self, gone: &[(Publication, Target)], fresh: &[(Publication, Target)]) -> Result<()> {
        let subnets: Vec<Subnet> = self.networks_in_use().map(|(_, k)| k.subnet).collect();
        if let Some(kernel) = self.kernel.as_mut()
            && let forwarding = kernel.forwarding()
            && let Some(rules) =
                kernel.rules.as_mut().filter(|r| r.are_about(subnets.into_iter(), &forwarding))
        {
            let step = rules.change(gone, fresh);
            match step.commit(&mut kernel.nft, "cannot publish ports") {
                Ok(()) => return Ok(()),
                Err(e) => tracing::debug!("writing all rules anew: {e}"),
            }
            kernel.rules = None;
        }
        self.program()
    }

    /// All anew, in one transaction.
    pub(super) fn program(&mut self) -> Result<()> {
        let wanted = self.rules();
        let Some(kernel) = self.kernel.as_mut() else { return Ok(()) };
        if kernel.rules.as_ref() == Some(&wanted) {
            return Ok(());
        }
        kernel.rules = None;
        let doing = "cannot write the rules for bridges and ports";
        self.modules.note(wanted.anew().commit(&mut kernel.nft, doing)).map_err(text)?;
        kernel.rules = Some(wanted);
        Ok(())
    }

    /// Now, and again a little later: an answer may be under way.
    pub(super) fn forget_flows(&mut self, service: &Service, what: conntrack::Service) {
        let Some(place) = self.published_at(service).filter(|_| !service.ports.is_empty()) else { return };
        let Some(known) = self.networks.get(&place.network) else { return };
        let udp = service.ports.iter().filter(|p| p.protocol == Protocol::Udp);
        let ports: Vec<_> = udp.map(|p| (p.host_ip, p.published)).collect();
        if ports.is_empty() && what == conntrack::Service::Came {
            return;
        }
        let (subnet, prefix6) = (known.subnet, self.prefix6(&place.network));
        let stale =
            conntrack::Stale { ports, subnet, prefix6, addresses: self.addresses(place), service: what };
        let Some(kernel) = self.kernel.as_mut() else { return };
        if let Err(e) = conntrack::forget(&mut kernel.nft, &stale) {
            tracing::warn!("flows of before may be stuck: {e}");
        }
        self.chores.forget.push(stale);
    }
}
