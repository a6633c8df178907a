//! A journal that does not read: a service with `logging.mode = "non-blocking"` goes on, and what it lost is counted.
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::World;
use super::metrics::{page, value};
use super::world::library;

const LINES: u64 = 100_000;

/// The message of a record.
fn message(journal: &UnixDatagram) -> String {
    let mut bytes = vec![0; 64 << 10];
    let read = journal.recv(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    text.lines().find_map(|line| Some(line.strip_prefix("MESSAGE=")?.to_owned())).unwrap()
}

#[test]
fn it_prints_ten_megabytes_to_nobody_and_runs_on() {
    let mut world = world!("");
    let socket = world.dir().join("journal");
    let journal = UnixDatagram::bind(&socket).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let filler = "x".repeat(100);
    world.configure(&format!(
        "[plugins.logging]\npath = \"{}\"\nconfig.journal_socket = \"{}\"\n\
         [services.web]\nstop_signal = \"SIGKILL\"\n\
         command = [\"/bin/sh\", \"-c\", \"i=0; while [ $$i -lt {LINES} ]; do echo $$i {filler}; i=$$((i+1)); done; exec sleep 100000\"]\n\
         logging = {{ driver = \"journald\", on_full = \"block\", mode = \"non-blocking\" }}\n",
        library("logging").display(),
        socket.display(),
    ));
    world.start();
    world.until_state("web", "running");
    let sleeps = |world: &World| {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", world.pid("web")));
        comm.is_ok_and(|comm| comm.trim() == "sleep")
    };
    world.until("it has printed all", sleeps);
    let (mut next, mut dropped) = (0, 0);
    while next < LINES {
        let text = message(&journal);
        let words: Vec<&str> = text.split([' ', '=']).collect();
        match words[..] {
            ["dropped", "lines", lines, ..] => {
                let lines: u64 = lines.parse().unwrap();
                (next, dropped) = (next + lines, dropped + lines);
            }
            [number, ..] => {
                assert_eq!(number.parse(), Ok(next), "{text:.40}");
                next += 1;
            }
            [] => panic!("{text:?}"),
        }
    }
    assert!((LINES / 2..LINES).contains(&dropped), "{dropped}");
    world.until("it is counted", |world| {
        value(&page(world), "sampan_plugin_logging_dropped_lines_total{service=\"web\"}")
            == Some(dropped as f64)
    });
    assert_eq!(world.interrupt(), Some(0));
}
