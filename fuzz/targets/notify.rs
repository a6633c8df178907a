//! A datagram of any process of a container to its NOTIFY_SOCKET.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sampan_supervisor::sd_notify::message::parse;

fuzz_target!(|bytes: &[u8]| {
    let (said, _) = parse(bytes);
    assert!(said.len() <= bytes.len());
});
