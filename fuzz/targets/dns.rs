//! A packet of a container to the name server of its network. Whatever is answered has the question's id and is an answer.
#![no_main]
use libfuzzer_sys::fuzz_target;
use network::dns::answer::{Transport, Verdict, verdict};
use network::dns::message;
use network::dns::zone::{Member, Place, Reach, Zone};

fuzz_target!(|bytes: &[u8]| {
    let member = |name: &str, address: &str| {
        let addresses = vec![address.parse().unwrap()];
        let place = Place { network: "front".into(), addresses, aliases: vec!["alias".into()] };
        Member { names: vec![name.into()], places: vec![place], servers: Vec::new() }
    };
    let members = vec![member("web", "10.0.0.2"), member("db", "fd00::2")];
    let zone = Zone::new([("front".to_owned(), Reach::default())], members);
    for by in [Transport::Udp, Transport::Tcp] {
        for from in ["10.0.0.2", "10.9.9.9"] {
            let from = from.parse().unwrap();
            if let Verdict::Reply(reply) = verdict(&zone, "front", from, bytes, by) {
                assert!(reply.len() >= 12 && reply.len() <= 65_535);
                assert_eq!(reply[..2], bytes[..2]);
                assert_eq!(reply[2] & 0x80, 0x80, "an answer");
            }
        }
    }
    let _ = message::rcode_of_answer(bytes, message::id(bytes), &[]);
    let _ = message::is_truncated(bytes);
});
