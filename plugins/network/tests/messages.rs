//! DNS messages without a network: any bytes, and simple-dns as the oracle.

use std::net::IpAddr;

use network::dns::answer::{Transport, Verdict, verdict};
use network::dns::message::{self, Malformed, Query, Rcode, Record};
use network::dns::zone::{Member, Place, Reach, Zone};
use proptest::prelude::*;
use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

pub fn question(id: u16, name: &str, kind: TYPE, edns: Option<u16>) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).unwrap();
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    if let Some(udp_packet_size) = edns {
        *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
    }
    packet.build_bytes_vec().unwrap()
}

fn member(name: &str, address: &str, aliases: &[&str]) -> Member {
    let place = Place {
        network: "front".into(),
        addresses: vec![address.parse().unwrap()],
        aliases: aliases.iter().map(ToString::to_string).collect(),
    };
    Member { names: vec![name.into()], places: vec![place], servers: Vec::new() }
}

fn zone() -> Zone {
    let members = vec![
        member("web", "10.0.0.2", &["www"]),
        member("api", "10.0.0.3", &["www", "Api.Example.org"]),
        Member { names: vec!["db".into()], ..member("", "10.0.0.4", &[]) },
    ];
    Zone::new([("front".to_owned(), Reach::default())], members)
}

fn ask(zone: &Zone, from: &str, name: &str, kind: TYPE) -> (RCODE, Vec<IpAddr>) {
    let asked = question(7, name, kind, None);
    match verdict(zone, "front", from.parse().unwrap(), &asked, Transport::Udp) {
        Verdict::Reply(reply) => {
            let packet = Packet::parse(&reply).unwrap();
            assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE));
            assert_eq!((packet.id(), packet.questions.len()), (7, 1));
            let mut found: Vec<IpAddr> =
                packet.answers.iter().filter_map(|record| address(&record.rdata)).collect();
            found.sort();
            (packet.rcode(), found)
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn address(data: &RData<'_>) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::from(a.address.to_be_bytes())),
        RData::AAAA(a) => Some(IpAddr::from(a.address.to_be_bytes())),
        _ => None,
    }
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

#[test]
fn a_name_has_its_addresses_in_any_case_and_with_its_network() {
    let zone = zone();
    let a = |name| ask(&zone, "10.0.0.2", name, TYPE::A);
    assert_eq!(a("db"), (RCODE::NoError, addresses(&["10.0.0.4"])));
    assert_eq!(a("DB.Front"), (RCODE::NoError, addresses(&["10.0.0.4"])));
    assert_eq!(a("api.example.ORG"), (RCODE::NoError, addresses(&["10.0.0.3"])));
    assert_eq!(a("web"), (RCODE::NoError, addresses(&["10.0.0.2"])), "itself");
}

#[test]
fn two_services_with_one_alias_share_it_and_each_is_first_at_times() {
    let zone = zone();
    assert_eq!(ask(&zone, "10.0.0.4", "www", TYPE::A).1, addresses(&["10.0.0.2", "10.0.0.3"]));
    let mut first = std::collections::BTreeSet::new();
    for id in 0..8 {
        let asked = question(id, "www", TYPE::A, None);
        let from = "10.0.0.4".parse().unwrap();
        let Verdict::Reply(reply) = verdict(&zone, "front", from, &asked, Transport::Udp) else { panic!() };
        first
            .extend(Packet::parse(&reply).unwrap().answers.first().and_then(|record| address(&record.rdata)));
    }
    assert_eq!(first.len(), 2);
}

#[test]
fn what_a_known_name_lacks_is_no_error() {
    let zone = zone();
    for kind in [TYPE::AAAA, TYPE::MX, TYPE::TXT, TYPE::HTTPS] {
        assert_eq!(ask(&zone, "10.0.0.2", "db", kind), (RCODE::NoError, Vec::new()), "{kind:?}");
    }
}

#[test]
fn an_address_has_a_name_within_the_network() {
    let zone = zone();
    let asked = question(1, "4.0.0.10.in-addr.arpa", TYPE::PTR, Some(1232));
    let from = "10.0.0.2".parse().unwrap();
    let Verdict::Reply(reply) = verdict(&zone, "front", from, &asked, Transport::Udp) else { panic!() };
    let packet = Packet::parse(&reply).unwrap();
    assert!(packet.opt().is_some(), "who speaks EDNS is answered so");
    let RData::PTR(name) = &packet.answers[0].rdata else { panic!() };
    assert_eq!(name.to_string(), "db.front");
    let reverse = "4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_eq!(message::reverse(reverse), Some("2001:db8::4".parse().unwrap()));
    for no in ["1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "x.ip6.arpa", "256.1.1.1.in-addr.arpa"] {
        assert_eq!(message::reverse(no), None);
    }
}

#[test]
fn networks_do_not_know_each_others_names() {
    let mut both = member("both", "10.0.0.9", &[]);
    both.places.push(Place {
        network: "back".into(),
        addresses: addresses(&["10.1.0.9"]),
        aliases: Vec::new(),
    });
    let back = vec!["db".to_owned(), "old-name".to_owned()];
    let place = Place { network: "back".into(), addresses: addresses(&["10.1.0.2"]), aliases: Vec::new() };
    let members = vec![
        member("web", "10.0.0.2", &[]),
        both,
        Member { names: back, places: vec![place], servers: Vec::new() },
    ];
    let zone = Zone::new(["front", "back"].map(|n| (n.to_owned(), Reach::default())), members);
    let found = |network: &str, from: &str, name: &str| {
        zone.asker(network, from.parse().unwrap()).unwrap().addresses(name)
    };
    assert_eq!(found("front", "10.0.0.2", "db"), None);
    assert_eq!(
        found("front", "10.0.0.9", "db"),
        Some(addresses(&["10.1.0.2"])),
        "it shares the other network"
    );
    assert_eq!(found("front", "10.0.0.9", "old-name"), Some(addresses(&["10.1.0.2"])));
    assert_eq!(
        found("front", "10.0.0.2", "both"),
        Some(addresses(&["10.0.0.9"])),
        "not the other network's address"
    );
    assert!(zone.asker("front", "10.1.0.2".parse().unwrap()).is_none(), "an address of another network");
    let stranger = question(1, "web", TYPE::A, None);
    let Verdict::Reply(reply) =
        verdict(&zone, "front", "10.0.0.77".parse().unwrap(), &stranger, Transport::Udp)
    else {
        panic!()
    };
    assert_eq!(Packet::parse(&reply).unwrap().rcode(), RCODE::Refused);
}

#[test]
fn in_an_isolated_network_one_knows_oneself_and_in_an_internal_one_nothing_of_the_world() {
    let members = || vec![member("web", "10.0.0.2", &["www"]), member("api", "10.0.0.3", &["www"])];
    let isolated = Reach { isolated: true, internal: false };
    let zone = Zone::new([("front".to_owned(), isolated)], members());
    let asker = zone.asker("front", "10.0.0.2".parse().unwrap()).unwrap();
    assert_eq!(asker.addresses("api"), None);
    assert_eq!(asker.addresses("www"), Some(addresses(&["10.0.0.2"])));
    assert_eq!(asker.name_of("10.0.0.3".parse().unwrap()), None);
    let zone = Zone::new([("front".to_owned(), Reach { internal: true, isolated: false })], members());
    assert_eq!(ask(&zone, "10.0.0.2", "example.org", TYPE::A), (RCODE::NameError, Vec::new()));
    assert_eq!(ask(&zone, "10.0.0.2", "api", TYPE::A), (RCODE::NoError, addresses(&["10.0.0.3"])));
}

#[test]
fn what_is_not_ours_is_passed_on_whatever_its_type() {
    let zone = zone();
    let from = "10.0.0.2".parse().unwrap();
    let mut strange = question(1, "example.org", TYPE::A, None);
    let end = strange.len();
    strange[end - 4..end - 2].copy_from_slice(&4711u16.to_be_bytes());
    assert!(Packet::parse(&strange).is_err(), "simple-dns knows no such type");
    assert!(matches!(verdict(&zone, "front", from, &strange, Transport::Udp), Verdict::Forward(..)));
    // Chaos class: no addresses of ours there.
    let mut chaos = question(1, "db", TYPE::TXT, None);
    let end = chaos.len();
    chaos[end - 1] = 3;
    assert!(matches!(verdict(&zone, "front", from, &chaos, Transport::Udp), Verdict::Forward(..)));
}

#[test]
fn what_does_not_fit_comes_by_tcp() {
    let crowd: Vec<Member> =
        (1..=100).map(|n| member(&format!("s{n}"), &format!("10.0.0.{n}"), &["all"])).collect();
    let zone = Zone::new([("front".to_owned(), Reach::default())], crowd);
    let from = "10.0.0.2".parse().unwrap();
    let reply = |edns, by| {
        let Verdict::Reply(reply) = verdict(&zone, "front", from, &question(1, "all", TYPE::A, edns), by)
        else {
            panic!()
        };
        let packet = Packet::parse(&reply).unwrap();
        (packet.has_flags(PacketFlag::TRUNCATION), packet.answers.len(), reply.len())
    };
    assert!(matches!(reply(None, Transport::Udp), (true, 0, ..=512)));
    assert!(matches!(reply(Some(4096), Transport::Udp), (false, 100, ..=4096)));
    assert!(matches!(reply(None, Transport::Tcp), (false, 100, _)));
}

#[test]
fn an_answer_is_taken_from_whom_it_was_asked_and_for_what() {
    let asked = question(5, "example.org", TYPE::A, None);
    let query = Query::parse(&asked).unwrap();
    let answer = query.reply(&asked, Rcode::NoError, &[Record::Address("192.0.2.9".parse().unwrap())]);
    let taken = |answer: &[u8], id| message::rcode_of_answer(answer, id, query.question(&asked));
    assert_eq!(taken(&answer, 5), Some(0));
    assert_eq!(taken(&answer, 6), None, "another id");
    assert_eq!(taken(&asked, 5), None, "a question");
    let other = question(5, "example.net", TYPE::A, None);
    assert_eq!(
        taken(&Query::parse(&other).unwrap().reply(&other, Rcode::NoError, &[]), 5),
        None,
        "another question"
    );
    assert_eq!(taken(&message::reply_to_malformed(&asked, Rcode::FormErr), 5), Some(1));
    assert_eq!(taken(&message::reply_to_malformed(&asked, Rcode::NoError), 5), None);
}

/// Messages that are nearly right: a good one with some bytes changed, cut, or added.
fn nearly_good() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        "[a-zA-Z0-9-]{1,20}(\\.[a-z]{1,10}){0,4}",
        Just("db".to_owned()),
        Just("www.front".to_owned())
    ];
    let kind = prop_oneof![Just(TYPE::A), Just(TYPE::AAAA), Just(TYPE::PTR), Just(TYPE::TXT)];
    let change = (any::<proptest::sample::Index>(), any::<u8>());
    let good = (any::<u16>(), name, kind, proptest::option::of(any::<u16>()));
    (
        good,
        proptest::collection::vec(change, 0..6),
        any::<Option<proptest::sample::Index>>(),
        proptest::collection::vec(any::<u8>(), 0..9),
    )
        .prop_map(|((id, name, kind, edns), changes, cut, more)| {
            let mut bytes = question(id, &name, kind, edns);
            bytes.extend(more);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_question_or_not(bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..600), nearly_good()]) {
        let zone = zone();
        let from = "10.0.0.2".parse().unwrap();
        for by in [Transport::Udp, Transport::Tcp] {
            if let Verdict::Reply(reply) = verdict(&zone, "front", from, &bytes, by) {
                prop_assert!(reply.len() >= 12 && reply[2] & 0x80 != 0, "an answer: {:?}", reply);
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert!(by == Transport::Tcp || reply.len() <= 4096);
            }
        }
        let _ = message::rcode_of_answer(&bytes, 1, &bytes);
        let _ = message::is_truncated(&bytes);
    }

    #[test]
    fn what_simple_dns_writes_is_read_as_it_reads_it(
        id: u16, name in "[a-zA-Z0-9_-]{1,30}(\\.[a-zA-Z0-9]{1,20}){0,5}", edns in proptest::option::of(any::<u16>())
    ) {
        let bytes = question(id, &name, TYPE::AAAA, edns);
        let query = Query::parse(&bytes).unwrap();
        prop_assert_eq!(query.name.as_deref(), Some(&*name.to_ascii_lowercase()));
        prop_assert_eq!(query.kind, message::kind::AAAA);
        prop_assert_eq!(query.udp_bytes(), edns.map_or(512, |size| usize::from(size).clamp(512, 4096)));
        let records: Vec<Record> = ["192.0.2.1", "2001:db8::1"].iter().map(|a| Record::Address(a.parse().unwrap())).collect();
        let reply = query.reply(&bytes, Rcode::NoError, &records);
        let read = Packet::parse(&reply).unwrap();
        prop_assert_eq!(read.answers.len(), 2);
        prop_assert!(read.answers.iter().all(|record| record.name.to_string() == name && record.ttl <= 5));
        prop_assert_eq!(read.opt().is_some(), edns.is_some());
    }

    #[test]
    fn what_simple_dns_reads_as_one_question_we_read_too(bytes in nearly_good()) {
        if let Ok(packet) = Packet::parse(&bytes)
            && packet.questions.len() == 1
            && packet.opcode() == simple_dns::OPCODE::StandardQuery
            && !packet.has_flags(PacketFlag::RESPONSE)
            // A pointer in a question leads into the header.
            && !matches!(Query::parse(&bytes), Err(Malformed::Say(Rcode::FormErr)))
        {
            let query = Query::parse(&bytes).unwrap();
            // It writes a backslash as two.
            if let Some(name) = query.name.filter(|name| !name.contains('\\')) {
                prop_assert_eq!(name, packet.questions[0].qname.to_string().to_ascii_lowercase());
            }
        }
    }
}
