//! `sockets`: forms, and what is said about mistakes.

use super::mistakes::said;
use super::resolve::web;

#[test]
fn a_socket_is_a_kind_and_a_place() {
    let keys = "sockets = [{ listen = \"tcp:[::1]:80\", name = \"http\" }, { listen = \"udp:0.0.0.0:53\" }, { listen = \"unix:/run/x.sock\" }]";
    let all: Vec<(String, String)> =
        web(keys).sockets.into_iter().map(|socket| (socket.listen.to_string(), socket.name)).collect();
    let expected = [("tcp:[::1]:80", "http"), ("udp:0.0.0.0:53", "web"), ("unix:/run/x.sock", "web")];
    assert_eq!(all, expected.map(|(listen, name)| (listen.to_owned(), name.to_owned())));
}

#[track_caller]
fn wrong(keys: &str, expected: &str) {
    let said = said(keys);
    assert!(said.len() == 1 && said[0].contains(expected), "{keys}: {said:?}");
}

#[test]
fn what_is_no_socket_is_said() {
    const FORM: &str = "[as \"tcp:127.0.0.1:8080\", \"udp:[::]:53\" or \"unix:/run/web.sock\"]";
    for (listen, expected) in [
        ("8080", "neither tcp, udp nor unix"),
        ("sctp:127.0.0.1:80", "neither tcp, udp nor unix"),
        ("tcp:localhost:80", "not an address and a port"),
        ("tcp:80", "not an address and a port"),
        ("tcp:127.0.0.1:0", "port 0 is another one each time"),
    ] {
        let keys = format!("sockets = [{{ listen = \"{listen}\" }}]");
        wrong(&keys, &format!("services.web.sockets.listen: {expected} {FORM}"));
    }
    wrong("sockets = [{ name = \"a\" }]", &format!("listen is missing {FORM}"));
    wrong("sockets = [\"tcp:127.0.0.1:80\"]", "expected a table: { listen, name }");
    wrong(
        "sockets = [{ listen = \"tcp:127.0.0.1:80\", nmae = \"a\" }]",
        "unknown key `nmae` [did you mean `name`?]",
    );
    wrong("sockets = [{ listen = \"tcp:127.0.0.1:80\", name = \"a:b\" }]", "no name of a socket");
    let long = "x".repeat(107);
    wrong(
        &format!("sockets = [{{ listen = \"unix:/{long}\" }}]"),
        "longer than 107 bytes [unix(7) takes no more]",
    );
    let one = "{ listen = \"udp:127.0.0.1:80\" }";
    wrong(&format!("sockets = [{one}, {one}]"), "udp:127.0.0.1:80 is there twice [drop one]");
    wrong(&format!("pid = \"host\"\nsockets = [{one}]"), "beside pid = \"host\"");
    let many: Vec<String> = (1..=33).map(|n| format!("{{ listen = \"udp:127.0.0.1:{n}\" }}")).collect();
    wrong(&format!("sockets = [{}]", many.join(", ")), "33 sockets [at most 32]");
}
