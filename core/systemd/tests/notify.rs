//! The notification socket, as a service manager has it. One process, one environment: the cases are in one test.
#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "SAMPAN_NOTIFY_TEST";

/// Run again with a socket in its environment.
#[test]
fn a_state_reaches_the_manager_that_listens() {
    if std::env::var_os(SOCKET).is_some() {
        return sampan_systemd::notify::send("READY=1\nSTATUS=2 of 2 run").unwrap();
    }
    let folder = sampan_testkit::Folder::new();
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let run = |socket: &str| {
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "a_state_reaches_the_manager_that_listens"]).env(SOCKET, "1");
        test.env("NOTIFY_SOCKET", socket).output().unwrap().status.success()
    };
    assert!(run(path.to_str().unwrap()));
    let mut got = [0; 64];
    let count = manager.recv(&mut got).unwrap();
    assert_eq!(&got[..count], b"READY=1\nSTATUS=2 of 2 run");
    std::fs::remove_file(&path).unwrap();
    // A manager that has gone: an error, and no wait.
    assert!(!run(path.to_str().unwrap()));
}
