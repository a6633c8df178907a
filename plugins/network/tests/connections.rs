//! Questions by TCP: whose connections are kept, and for how long.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use simple_dns::TYPE;

use crate::host::Host;
use crate::messages::question;
use crate::world::{on_a_fresh_host, soon};

/// More than the server waits.
const PATIENCE: Duration = Duration::from_secs(20);

fn framed(name: &str) -> Vec<u8> {
    let bytes = question(9, name, TYPE::A, None);
    [&(bytes.len() as u16).to_be_bytes(), &*bytes].concat()
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect("10.144.0.1:53").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A container that may send what it likes gives itself addresses without end; each would have connections of its own.
#[test]
fn an_address_of_no_service_is_closed_before_it_asks() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", json!({})).unwrap();
        let web = host.container("web");
        web.run("ip addr add 10.144.0.99/20 dev eth0");
        web.run("ip route add 10.144.0.1/32 dev eth0 src 10.144.0.99");
        let mut made_up = web.within(connect);
        assert!(made_up.local_addr().unwrap().to_string().starts_with("10.144.0.99:"));
        // Without a word of its own: so it never was among those that are waited for.
        made_up.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(made_up.read(&mut [0; 2]).unwrap(), 0);
        web.run("ip route del 10.144.0.1/32 dev eth0");
        let mut own = web.within(connect);
        own.write_all(&framed("web")).unwrap();
        own.read_exact(&mut [0; 2]).unwrap();
    });
}

#[test]
fn who_asks_and_never_reads_is_closed() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", json!({})).unwrap();
        let mut stream = host.container("web").within(connect);
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let many = framed("web").repeat(1000);
        let full = loop {
            if let Err(error) = stream.write_all(&many) {
                break error.kind();
            }
        };
        assert_eq!(full, ErrorKind::WouldBlock, "both sides have what they hold");
        soon("it is closed", PATIENCE, || stream.take_error().unwrap().is_some());
    });
}
