//! Who is called what, and who may know it: names and addresses of services, network by network. Plain data, made anew with each
//! change and never changed. A thousand services that start are a thousand zones, and most of them nobody asks: what a question is
//! looked up in is made by the first one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use super::message::Record;

/// A service as its networks know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name, then its host name.
    pub names: Vec<String>,
    pub places: Vec<Place>,
    /// The servers that are asked what is not ours to know; empty: the host's.
    pub servers: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub network: String,
    pub addresses: Vec<IpAddr>,
    pub aliases: Vec<String>,
}

/// What of a network concerns names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// No way out: nothing of the world outside is asked for.
    pub internal: bool,
    /// Nobody sees the others.
    pub isolated: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Zone {
    members: Vec<Arc<Member>>,
    networks: Vec<(String, Reach)>,
    known: OnceLock<HashMap<String, Known>>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    reach: Reach,
    /// In lower case; several services may have one alias.
    by_name: HashMap<String, Vec<usize>>,
    by_address: HashMap<IpAddr, usize>,
}

/// Whoever asks, known by the network and the address that a question comes from.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'z> {
    zone: &'z Zone,
    number: usize,
    member: &'z Member,
}

impl Zone {
    pub fn new(
        networks: impl IntoIterator<Item = (String, Reach)>,
        members: impl IntoIterator<Item = impl Into<Arc<Member>>>,
    ) -> Zone {
        let members = members.into_iter().map(Into::into).collect();
        Zone { members, networks: networks.into_iter().collect(), known: OnceLock::new() }
    }

    fn known(&self) -> &HashMap<String, Known> {
        self.known.get_or_init(|| known(&self.networks, &self.members))
    }

    pub fn asker(&self, network: &str, from: IpAddr) -> Option<Asker<'_>> {
        let number = *self.known().get(network)?.by_address.get(&from)?;
        Some(Asker { zone: self, number, member: self.members.get(number)? })
    }
}

fn known(networks: &[(String, Reach)], members: &[Arc<Member>]) -> HashMap<String, Known> {
    let known = |(name, reach): &(String, Reach)| (name.clone(), Known { reach: *reach, ..Known::default() });
    let mut networks: HashMap<String, Known> = networks.iter().map(known).collect();
    for (number, member) in members.iter().enumerate() {
        for place in &member.places {
            let Some(known) = networks.get_mut(&place.network) else { continue };
            known.by_address.extend(place.addresses.iter().map(|address| (*address, number)));
            for name in member.names.iter().chain(&place.aliases) {
                let name = name.to_ascii_lowercase();
                for name in [format!("{name}.{}", place.network), name] {
                    let has = known.by_name.entry(name).or_default();
                    if !has.contains(&number) {
                        has.push(number);
                    }
                }
            }
        }
    }
    networks
}

impl<'z> Asker<'z> {
    /// The addresses of a name, from the first of the asker's networks that knows it. None: nobody that the asker may know is called
    /// so.
    pub fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.networks().find_map(|(network, known)| {
            let mut found =
                known.by_name.get(name)?.iter().filter(|other| self.sees(known, **other)).peekable();
            found.peek()?;
            let places = found.filter_map(|other| self.zone.members.get(*other)).flat_map(|m| &m.places);
            Some(places.filter(|p| p.network == network).flat_map(|p| p.addresses.iter().copied()).collect())
        })
    }

    /// What an address is called.
    pub fn name_of(&self, address: IpAddr) -> Option<Record> {
        self.networks().find_map(|(network, known)| {
            let other = known.by_address.get(&address).filter(|other| self.sees(known, **other))?;
            let name = self.zone.members.get(*other)?.names.first()?;
            Some(Record::Name(format!("{name}.{network}")))
        })
    }

    /// Whether questions about the world outside are passed on.
    pub fn has_a_way_out(&self) -> bool {
        self.networks().any(|(_, known)| !known.reach.internal)
    }

    /// Its own servers; empty: the host's.
    pub fn servers(&self) -> &'z [IpAddr] {
        &self.member.servers
    }

    fn sees(&self, known: &Known, other: usize) -> bool {
        !known.reach.isolated || other == self.number
    }

    fn networks(&self) -> impl Iterator<Item = (&'z str, &'z Known)> {
        let (known, member) = (self.zone.known(), self.member);
        member.places.iter().filter_map(|p| Some((p.network.as_str(), known.get(&p.network)?)))
    }
}
