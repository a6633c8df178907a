//! Who has which address: subnets for networks, leases for services. Pure arithmetic; nothing here touches the host.
//!
//! A service keeps its address while nobody else needs it: freeing marks the lease, and a newcomer takes an address
//! that nobody ever had before it takes the one freed longest ago. The first address of a subnet is the gateway, the
//! last is the broadcast. Deliberately absent: where leases are kept (records.rs) and the host's routes (links.rs).

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Subnets are picked from here when config.toml names none.
pub const POOL: Subnet = Subnet { first: u32::from_be_bytes([10, 144, 0, 0]), prefix: 12 };
const POOL_PREFIX: u8 = 20;

/// An IPv4 prefix, host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    first: u32,
    prefix: u8,
}

impl Subnet {
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Subnet {
        let prefix = prefix.min(32);
        Subnet { first: u32::from(address) & mask(prefix), prefix }
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first)
    }

    /// Its first address.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first.saturating_add(1))
    }

    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first | !mask(self.prefix))
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.first
    }

    pub fn overlaps(self, other: Subnet) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.first & shorter == other.first & shorter
    }
}

/// A network's subnet and who may have what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    subnet: Subnet,
    gateway: Ipv4Addr,
    range: Subnet,
}

impl Addressing {
    /// Unless said otherwise the gateway has the first address, and services have any of the others.
    pub fn new(subnet: Subnet, gateway: Option<Ipv4Addr>, range: Option<Subnet>) -> Addressing {
        Addressing { subnet, gateway: gateway.unwrap_or(subnet.first()), range: range.unwrap_or(subnet) }
    }

    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Whether a service may have it: any but the network's own, the gateway's and the broadcast.
    pub fn is_for_services(&self, address: Ipv4Addr) -> bool {
        let ends = [self.subnet.network(), self.subnet.broadcast(), self.gateway];
        self.subnet.contains(address) && !ends.contains(&address)
    }

    /// What one may have that asks for none.
    fn unasked(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (this, range) = (*self, u32::from(self.range.network())..=u32::from(self.range.broadcast()));
        range.map(Ipv4Addr::from).filter(move |address| this.is_for_services(*address))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Subnet, String> {
        let bad = || format!("{text:?} is not an IPv4 subnet; write it as \"10.144.0.0/20\"");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        if address.contains(':') {
            return Err(format!("{text:?}: IPv6 networks are not built in this version"));
        }
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(bad)?;
        let subnet = Subnet::containing(address, prefix);
        if subnet.network() != address {
            return Err(format!("{text:?} has host bits set; did you mean \"{subnet}\"?"));
        }
        if !(8..=29).contains(&prefix) {
            return Err(format!("{text:?}: a network needs a prefix from /8 to /29"));
        }
        Ok(subnet)
    }
}

impl Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Subnet, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The first /20 of the pool that meets nothing in use: the host's routes and addresses, and our other networks.
pub fn pick_subnet(in_use: &[Subnet]) -> Option<Subnet> {
    let step = 1u32 << (32 - POOL_PREFIX);
    let last = u32::from(POOL.broadcast());
    let mut first = POOL.first;
    while first < last {
        let subnet = Subnet { first, prefix: POOL_PREFIX };
        if !in_use.iter().any(|other| other.overlaps(subnet)) {
            return Some(subnet);
        }
        first += step;
    }
    None
}

/// An address of a service in one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Ipv4Addr,
    /// None while held; else when it was given back, as a count that only grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed: Option<u64>,
}

/// The leases of one network, by service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    by_service: BTreeMap<String, Lease>,
    /// Where to look for a never used address: all below are or were leased.
    next: u32,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("no free address: all {0} are held")]
    Full(usize),
    #[error("{0} is held by service {1}; choose another, or keep such addresses out of ip_range")]
    Held(Ipv4Addr, String),
    #[error("{0} is no address for a service there")]
    NotForServices(Ipv4Addr),
}

/// What taking an address changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub address: Ipv4Addr,
    /// The service that had it before and must be forgotten.
    pub from: Option<String>,
}

impl Leases {
    /// Leases as they were written down. One that no service may have is dropped, and of two with one address the second; who holds
    /// an address goes before who gave it back, whose record may be one that could not be deleted.
    pub fn restore(net: Addressing, leases: impl IntoIterator<Item = (String, Lease)>) -> Leases {
        let mut restored = Leases::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut leases: Vec<(String, Lease)> = leases.into_iter().collect();
        leases.sort_by_key(|(_, lease)| lease.freed.is_some());
        for (service, lease) in leases {
            if net.is_for_services(lease.address) && seen.insert(lease.address) {
                restored.by_service.insert(service, lease);
            }
        }
        restored
    }

    pub fn get(&self, service: &str) -> Option<Lease> {
        self.by_service.get(service).copied()
    }

    pub fn held(&self) -> impl Iterator<Item = (&str, Ipv4Addr)> {
        self.by_service.iter().filter(|(_, l)| l.freed.is_none()).map(|(s, l)| (s.as_str(), l.address))
    }

    /// The address that is wanted; else the service's own again, else a fresh one, else the one freed longest ago.
    pub fn take(
        &mut self,
        service: &str,
        net: Addressing,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Taken, Refused> {
        let own = self.by_service.get(service).map(|lease| lease.address);
        let (address, from) = match (wanted, own.filter(|own| net.is_for_services(*own))) {
            (Some(wanted), own) if own != Some(wanted) => self.claim(wanted, net)?,
            (_, Some(own)) => (own, None),
            (_, None) => match self.fresh(net) {
                Some(address) => (address, None),
                None => self.oldest_freed(net).ok_or(Refused::Full(self.by_service.len()))?,
            },
        };
        if let Some(from) = &from {
            self.by_service.remove(from);
        }
        self.by_service.insert(service.to_owned(), Lease { address, freed: None });
        Ok(Taken { address, from })
    }

    fn claim(&self, wanted: Ipv4Addr, net: Addressing) -> Result<(Ipv4Addr, Option<String>), Refused> {
        if !net.is_for_services(wanted) {
            return Err(Refused::NotForServices(wanted));
        }
        match self.by_service.iter().find(|(_, lease)| lease.address == wanted) {
            Some((holder, Lease { freed: None, .. })) => Err(Refused::Held(wanted, holder.clone())),
            Some((from, _)) => Ok((wanted, Some(from.clone()))),
            None => Ok((wanted, None)),
        }
    }

    pub fn free(&mut self, service: &str, when: u64) {
        if let Some(lease) = self.by_service.get_mut(service)
            && lease.freed.is_none()
        {
            lease.freed = Some(when);
        }
    }

    pub fn forget(&mut self, service: &str) {
        self.by_service.remove(service);
        self.next = 0;
    }

    fn fresh(&mut self, net: Addressing) -> Option<Ipv4Addr> {
        let used: std::collections::BTreeSet<Ipv4Addr> =
            self.by_service.values().map(|l| l.address).collect();
        let next = Ipv4Addr::from(self.next);
        let address = net.unasked().skip_while(|a| *a < next).find(|a| !used.contains(a))?;
        self.next = u32::from(address) + 1;
        Some(address)
    }

    fn oldest_freed(&self, net: Addressing) -> Option<(Ipv4Addr, Option<String>)> {
        let freed = self.by_service.iter().filter_map(|(service, l)| Some((l.freed?, l.address, service)));
        let mine =
            freed.filter(|(_, address, _)| net.range.contains(*address) && net.is_for_services(*address));
        mine.min().map(|(_, address, service)| (address, Some(service.clone())))
    }
}

/// 64 well mixed bits of `parts`, for names and MACs: FNV-1a, then murmur's finish. The same for ever: what it
/// names is found again by a later version.
pub fn hash(parts: &[&str]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Locally administered, the same for a service as long as the machine is the same: neighbours' caches stay right
    /// over a restart.
    pub fn of(parts: &[&str]) -> Mac {
        let [_, _, _, a, b, c, d, e] = hash(parts).to_be_bytes();
        Mac([0x02, a, b, c, d, e])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_says_what_is_wrong_with_it() {
        let said = |text: &str| text.parse::<Subnet>().unwrap_err();
        assert_eq!(said("10.0.0.1/24"), "\"10.0.0.1/24\" has host bits set; did you mean \"10.0.0.0/24\"?");
        assert_eq!(said("10.0.0.0/31"), "\"10.0.0.0/31\": a network needs a prefix from /8 to /29");
        assert_eq!(said("fd00::/64"), "\"fd00::/64\": IPv6 networks are not built in this version");
        assert_eq!(said("ten"), "\"ten\" is not an IPv4 subnet; write it as \"10.144.0.0/20\"");
    }

    #[test]
    fn the_first_free_twentieth_is_picked() {
        let picked = |used: &[&str]| pick_subnet(&used.iter().map(|u| subnet(u)).collect::<Vec<_>>());
        assert_eq!(picked(&[]), Some(subnet("10.144.0.0/20")));
        assert_eq!(picked(&["10.144.0.0/20", "10.144.18.0/24"]), Some(subnet("10.144.32.0/20")));
        assert_eq!(picked(&["10.144.0.0/13"]), Some(subnet("10.152.0.0/20")));
        assert_eq!(picked(&["10.0.0.0/8"]), None);
    }

    #[test]
    fn an_address_is_kept_while_nobody_needs_it() {
        let net = Addressing::new(subnet("10.0.0.0/29"), None, None); // .2 to .6
        let mut leases = Leases::default();
        let take = |leases: &mut Leases, s: &str| leases.take(s, net, None).map(|t| t.address.octets()[3]);
        assert_eq!(take(&mut leases, "a"), Ok(2));
        assert_eq!(take(&mut leases, "b"), Ok(3));
        leases.free("b", 1);
        leases.free("a", 2);
        assert_eq!(take(&mut leases, "c"), Ok(4));
        assert_eq!(take(&mut leases, "a"), Ok(2));
        leases.free("a", 3);
        assert_eq!(take(&mut leases, "d"), Ok(5));
        assert_eq!(take(&mut leases, "e"), Ok(6));
        // b gave its address back before a did.
        assert_eq!(
            leases.take("f", net, None),
            Ok(Taken { address: [10, 0, 0, 3].into(), from: Some("b".into()) })
        );
        assert_eq!(take(&mut leases, "g"), Ok(2));
        assert_eq!(take(&mut leases, "h"), Err(Refused::Full(5)));
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_or_refused_with_the_reason() {
        let net =
            Addressing::new(subnet("10.0.0.0/24"), Some([10, 0, 0, 9].into()), Some(subnet("10.0.0.8/29")));
        let mut leases = Leases::default();
        let mut take = |s: &str, wanted: Option<u8>| {
            let wanted = wanted.map(|last| Ipv4Addr::new(10, 0, 0, last));
            let taken = leases.take(s, net, wanted).map(|t| t.address.octets()[3]).map_err(|e| e.to_string());
            if s == "gone" {
                leases.free(s, 1);
            }
            taken
        };
        assert_eq!(take("a", None), Ok(8), "the range begins there, and the gateway is elsewhere");
        assert_eq!(take("b", None), Ok(10), "not the gateway");
        assert_eq!(take("db", Some(200)), Ok(200), "outside of the range");
        assert_eq!(take("db", None), Ok(200), "its own");
        assert_eq!(take("db", Some(1)), Ok(1));
        let said = "10.0.0.8 is held by service a; choose another, or keep such addresses out of ip_range";
        assert_eq!(take("db", Some(8)), Err(said.into()));
        for no in [0, 9, 255] {
            assert_eq!(take("db", Some(no)), Err(format!("10.0.0.{no} is no address for a service there")));
        }
        assert_eq!(take("gone", None), Ok(11));
        assert_eq!(take("db", Some(11)), Ok(11), "nobody holds it");
        let rest: Vec<_> = (0..5).map(|n| take(&format!("r{n}"), None)).collect();
        assert_eq!(rest[..4], [12, 13, 14, 15].map(Ok));
        assert!(rest[4].is_err(), "the range is full");
    }

    #[test]
    fn of_two_records_of_one_address_the_one_that_is_held_counts() {
        let address = [10, 0, 0, 2].into();
        let old = ("a".to_owned(), Lease { address, freed: Some(7) });
        let new = ("b".to_owned(), Lease { address, freed: None });
        let restored = Leases::restore(Addressing::new(subnet("10.0.0.0/29"), None, None), [old, new]);
        assert_eq!((restored.get("a"), restored.get("b")), (None, Some(Lease { address, freed: None })));
    }

    proptest! {
        #[test]
        fn no_two_services_hold_one_address(steps in proptest::collection::vec((0u8..20, any::<bool>()), 0..200)) {
            let net = Addressing::new(subnet("10.0.0.0/28"), None, None);
            let mut leases = Leases::default();
            let mut model: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
            for (when, (service, take)) in steps.into_iter().enumerate() {
                let service = format!("s{service}");
                if take {
                    match leases.take(&service, net, None) {
                        Ok(taken) => {
                            prop_assert!(net.is_for_services(taken.address));
                            prop_assert!(taken.from.as_ref().is_none_or(|f| !model.contains_key(f)));
                            prop_assert!(model.iter().all(|(s, a)| *s == service || *a != taken.address));
                            prop_assert!(model.get(&service).is_none_or(|a| *a == taken.address));
                            model.insert(service, taken.address);
                        }
                        Err(refused) => {
                            prop_assert!(matches!(refused, Refused::Full(_)));
                            prop_assert_eq!(model.len(), 13);
                        }
                    }
                } else {
                    leases.free(&service, when as u64);
                    model.remove(&service);
                }
                let held: BTreeMap<String, Ipv4Addr> = leases.held().map(|(s, a)| (s.to_owned(), a)).collect();
                prop_assert_eq!(&held, &model);
            }
        }

        #[test]
        fn a_picked_subnet_meets_nothing(used in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..40)) {
            let used: Vec<Subnet> =
                used.into_iter().map(|(a, p)| Subnet::containing((a & 0x000f_ffff | POOL.first).into(), p)).collect();
            if let Some(picked) = pick_subnet(&used) {
                prop_assert!(used.iter().all(|u| !u.overlaps(picked)));
                prop_assert!(POOL.contains(picked.network()));
            }
        }
    }
}
