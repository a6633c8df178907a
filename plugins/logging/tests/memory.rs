//! What an endless line costs: no more memory than a short one.
use std::fs::{self, File};
use std::io::{Read, Write};

use logging::config::Settings;
use logging::follow::{self, Wanted};
use logging::spool::Spool;

use crate::crash::start_with;
use crate::world::{Fifo, Folder};

/// The most that this process ever had, in KiB.
fn most() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_line_without_an_end_is_written_and_read_in_bounded_memory() {
    let dir = Folder::new();
    let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
    let engine =
        start_with(&logs, Spool::create().unwrap(), Settings::default(), [Some(out.read_end()), None]);
    let before = most();
    let mib = vec![b'x'; 1 << 20];
    (0..100).for_each(|_| (&out.container).write_all(&mib).unwrap());
    let largest = fs::read_dir(logs.join("web")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).max();
    assert!(
        largest.unwrap() > 30 << 20,
        "{largest:?}: a segment that could be read at once, and must not be"
    );
    for wanted in [Wanted::default(), Wanted { tail: Some(10), ..Wanted::default() }] {
        let mut pipe = File::from(follow::start(logs.clone(), engine.notifier(), wanted).unwrap());
        let (mut bytes, mut buffer) = (0, vec![0; 64 << 10]);
        loop {
            match pipe.read(&mut buffer).unwrap() {
                0 => break,
                n => bytes += n,
            }
        }
        assert!(bytes > 90 << 20);
    }
    let grown = most() - before;
    assert!(grown < 8 << 10, "{grown} KiB");
}
