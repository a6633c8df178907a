//! The journal's protocol, spoken to a socket of the test's own.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use logging::Logging;
use logging::config::{Driver, OnFull, Settings};
use logging::engine::{Attachment, Engine, Places};
use logging::journal::Journal;
use logging::spool::Spool;
use proptest::prelude::*;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use sampan_plugin::abi;
use sampan_plugin::testing::{Event, Rig};
use sampan_plugin::types::{Container, Role};
use serde_json::{Value, json};

use crate::crash::start_with;
use crate::world::{Fifo, Folder, kept_and_dropped, lines, soon};

pub type Entry = BTreeMap<String, Vec<u8>>;

/// What journald is to us.
pub struct Listener(pub UnixDatagram);

impl Listener {
    pub fn new(path: &Path) -> Listener {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Listener(socket)
    }

    pub fn next(&self) -> Entry {
        entry(&self.bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 256 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        for message in control.drain() {
            let RecvAncillaryMessage::ScmRights(fds) = message else { continue };
            let files: Vec<File> = fds.map(File::from).collect();
            assert_eq!((files.len(), got.bytes), (1, 0), "an entry is here or there");
            let seals = rustix::fs::fcntl_get_seals(&files[0]).unwrap();
            assert!(
                seals.contains(rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SHRINK),
                "{seals:?}"
            );
            let mut all = vec![0; files[0].metadata().unwrap().len() as usize];
            files[0].read_exact_at(&mut all, 0).unwrap();
            return all;
        }
        bytes.truncate(got.bytes);
        bytes
    }

    fn text(&self) -> String {
        String::from_utf8(self.next()["MESSAGE"].clone()).unwrap()
    }
}

/// As journald reads it.
fn entry(mut bytes: &[u8]) -> Entry {
    let mut all = Entry::new();
    while !bytes.is_empty() {
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let (name, value);
        if let Some(at) = bytes[..line].iter().position(|byte| *byte == b'=') {
            (name, value) = (&bytes[..at], &bytes[at + 1..line]);
            bytes = &bytes[line + 1..];
        } else {
            name = &bytes[..line];
            let length = u64::from_le_bytes(bytes[line + 1..line + 9].try_into().unwrap()) as usize;
            value = &bytes[line + 9..line + 9 + length];
            assert_eq!(bytes[line + 9 + length], b'\n');
            bytes = &bytes[line + 10 + length..];
        }
        let name = String::from_utf8(name.to_vec()).unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{name}");
        assert_eq!(all.insert(name, value.to_vec()), None);
    }
    all
}

fn settings() -> Settings {
    Settings { driver: Driver::Journald, max_line: 64 << 10, ..Settings::default() }
}

fn start(dir: &Folder, spool: Spool, settings: Settings, pipes: [Option<std::os::fd::OwnedFd>; 2]) -> Engine {
    start_with(&dir.0.join("logs"), spool, settings, pipes)
}

#[test]
fn a_service_from_create_to_logs() {
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let config = json!({ "dir": dir.0.join("logs"), "journal_socket": dir.0.join("socket") });
    let rig = Rig::new::<Logging>(config).unwrap();
    let (out, err) = (Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err"));
    let body = json!({ "service": { "logging": "journald" }, "attempt": 0 });
    rig.fire(Event::new(abi::EV_CREATE).of("web").body(body)).unwrap();
    let attach = Event::new(abi::EV_ATTACH).of("web").pid(1);
    rig.fire(attach.fd(Role::Stdout, out.read_end()).fd(Role::Stderr, err.read_end())).unwrap();
    writeln!(&out.container, "hello = there").unwrap();
    let found = listener.next();
    for (name, value) in [
        ("MESSAGE", "hello = there"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "web"),
        ("CONTAINER_NAME", "web"),
        ("SAMPAN_SERVICE", "web"),
        ("SAMPAN_STREAM", "stdout"),
    ] {
        assert_eq!(String::from_utf8_lossy(&found[name]), value, "{name}");
    }
    assert!(!found.contains_key("CONTAINER_PARTIAL_MESSAGE"));
    writeln!(&err.container, "oops").unwrap();
    let found = listener.next();
    assert_eq!((&*found["MESSAGE"], &*found["PRIORITY"]), (&b"oops"[..], &b"3"[..]));
    write!(&out.container, "a prompt").unwrap();
    let found = listener.next();
    assert_eq!((&*found["MESSAGE"], &*found["CONTAINER_PARTIAL_MESSAGE"]), (&b"a prompt"[..], &b"true"[..]));
    let read = json!({ "verb": "read", "services": ["web"] });
    let pipe = rig.fire(Event::new(abi::EV_CONTROL).body(read)).unwrap().fds.remove(0);
    let said = "web stderr F its log is in the journal: journalctl CONTAINER_NAME=web";
    assert_eq!(lines(pipe).collect::<Vec<_>>(), [said]);
    assert!(!dir.0.join("logs").exists(), "no files");
    // That is what is asked for most often when it has ended, maybe with the worker after that.
    rig.fire(Event::new(abi::EV_DETACH).of("web")).unwrap();
    rig.fire(Event::new(abi::EV_REMOVED).of("web")).unwrap();
    rig.crash_and_reopen().unwrap();
    let asked = |verb: Value| {
        lines(rig.fire(Event::new(abi::EV_CONTROL).body(verb)).unwrap().fds.remove(0)).collect::<Vec<_>>()
    };
    assert_eq!(asked(json!({ "verb": "read", "services": ["web"] })), [said]);
    assert_eq!(asked(json!({ "verb": "read" })), [""; 0], "who asks for all is told of those that run");
    let local = json!({ "service": { "logging": "local" }, "attempt": 0 });
    rig.fire(Event::new(abi::EV_CREATE).of("web").body(local)).unwrap();
    assert_eq!(asked(json!({ "verb": "read", "services": ["web"] })), [""; 0]);
}

#[test]
fn a_large_entry_is_a_file() {
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let _engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    for bytes in [1, 30_000, 33_000, 60_000] {
        let text = "y".repeat(bytes);
        writeln!(&out.container, "{text}").unwrap();
        assert!(listener.text() == text, "{bytes}");
    }
}

#[test]
fn where_there_is_no_journal_a_service_does_not_start() {
    let dir = Folder::new();
    let places = Places { dir: dir.0.join("logs"), journal: Arc::new(Journal::new(dir.0.join("socket"))) };
    let engine = Engine::start(places, Spool::create().unwrap(), Box::new(|_, _, _| ())).unwrap();
    let out = Fifo::new(&dir.0, "out");
    let pipes = [Some(Arc::new(out.read_end())), None];
    let attachment = Attachment {
        service: "web".into(),
        container: Container(1),
        settings: settings(),
        ring: None,
        pipes,
    };
    let error = engine.attach(attachment).blocking_recv().unwrap().unwrap_err().to_string();
    assert!(error.contains("/socket: No such file") && error.contains("choose \"local\""), "{error}");
    // Nor where there was one, also if a service that runs was connected to it.
    let listener = Listener::new(&dir.0.join("socket"));
    let attach = |service: &str| {
        let pipes = [Some(Arc::new(out.read_end())), None];
        let attachment = Attachment {
            service: service.into(),
            container: Container(1),
            settings: settings(),
            ring: None,
            pipes,
        };
        engine.attach(attachment).blocking_recv().unwrap()
    };
    attach("first").unwrap();
    drop(listener);
    let error = attach("second").unwrap_err().to_string();
    assert!(error.contains("/socket: Connection refused"), "{error}");
    assert_eq!(engine.status().blocking_recv().unwrap().into_keys().collect::<Vec<_>>(), ["first"]);
}

#[test]
fn a_journal_that_takes_nothing_or_goes_holds_up_nobody_and_the_count_is_said() {
    const LINES: usize = 5000;
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    // Far more than the socket's queue, and nobody reads it.
    (0..LINES).for_each(|n| writeln!(&out.container, "line {n}").unwrap());
    soon("all are read", Duration::from_secs(20), || {
        engine.status().blocking_recv().unwrap()["web"].lines == LINES as u64
    });
    let dropped = engine.status().blocking_recv().unwrap()["web"].dropped;
    assert!(dropped > 0);
    let mut kept = 0;
    loop {
        let text = listener.text();
        if text.starts_with("dropped ") {
            assert!(text.starts_with(&format!("dropped lines={dropped} ")), "{text}, {dropped}");
            break;
        }
        assert_eq!(text, format!("line {kept}"));
        kept += 1;
    }
    assert_eq!(kept + dropped as usize, LINES);
    // Another one takes its place, as when systemd starts it anew.
    drop(listener);
    std::fs::remove_file(dir.0.join("socket")).unwrap();
    let listener = Listener::new(&dir.0.join("socket"));
    writeln!(&out.container, "after").unwrap();
    assert_eq!(listener.text(), "after");
}

#[test]
fn with_on_full_block_it_waits_for_the_journal_and_nothing_is_dropped() {
    const LINES: usize = 20_000;
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let settings = Settings { on_full: OnFull::Block, ..settings() };
    let engine = start(&dir, Spool::create().unwrap(), settings, [Some(out.read_end()), None]);
    let to = out.container.try_clone().unwrap();
    let writer = std::thread::spawn(move || write_lines(&to, LINES));
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!writer.is_finished(), "the container waits");
    (0..LINES).for_each(|n| assert_eq!(listener.text(), line(n)));
    writer.join().unwrap();
    let figures = engine.status().blocking_recv().unwrap()["web"];
    assert_eq!((figures.lines, figures.dropped), (LINES as u64, 0));
}

/// What the journal did not take says nothing about the disk.
#[test]
fn a_service_that_logs_to_files_from_now_on_does_not_wait_for_the_journal() {
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    drop(listener);
    writeln!(&out.container, "lost").unwrap();
    engine.detach("web").blocking_recv().unwrap();
    let pipes = [Some(Arc::new(out.read_end())), None];
    let local = Settings { driver: Driver::Local, ..settings() };
    let attachment =
        Attachment { service: "web".into(), container: Container(1), settings: local, ring: None, pipes };
    engine.attach(attachment).blocking_recv().unwrap().unwrap();
    writeln!(&out.container, "kept").unwrap();
    engine.detach("web").blocking_recv().unwrap();
    assert_eq!(kept_and_dropped(&dir.0.join("logs")), (1, 1));
}

fn line(n: usize) -> String {
    format!("line {n} {}", "z".repeat(n % 200))
}

fn write_lines(mut to: &File, lines: usize) {
    let all: String = (0..lines).map(|n| line(n) + "\n").collect();
    to.write_all(all.as_bytes()).unwrap();
}

/// Services whose log is the journal, with a line each, and one whose log is not.
fn attach_more(engine: &Engine, dir: &Folder, others: usize) -> (Vec<Fifo>, Fifo) {
    let attach = |name: &str, settings: Settings| {
        let pipe = Fifo::new(&dir.0, name);
        let pipes = [Some(Arc::new(pipe.read_end())), None];
        let attachment =
            Attachment { service: name.into(), container: Container(2), settings, ring: None, pipes };
        engine.attach(attachment).blocking_recv().unwrap().unwrap();
        pipe
    };
    let others = (0..others).map(|n| attach(&format!("other-{n}"), settings())).collect();
    (others, attach("local", Settings::default()))
}

/// However many services wait for it, and whatever they do meanwhile.
#[test]
fn a_journal_that_takes_nothing_does_not_hold_up_who_logs_elsewhere() {
    let dir = Folder::new();
    let _listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    write_lines(&out.container, 2000);
    let (others, local) = attach_more(&engine, &dir, 40);
    let end = Instant::now() + Duration::from_secs(6);
    let talk = std::thread::spawn(move || {
        while Instant::now() < end {
            others.iter().for_each(|other| writeln!(&other.container, "a line").unwrap());
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let longest = (0..40).map(|_| {
        let begin = Instant::now();
        // More than its pipe holds.
        local.container.try_clone().unwrap().write_all(&[b'x'; 256 << 10]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        begin.elapsed()
    });
    let longest = longest.max().unwrap();
    assert!(longest < Duration::from_millis(700), "{longest:?}");
    talk.join().unwrap();
}

/// Nor one that takes entries one by one; and who has it as its log is slowed down, and loses nothing.
#[test]
fn a_slow_journal_slows_down_only_those_who_log_to_it() {
    const LINES: usize = 3000;
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    let (_, local) = attach_more(&engine, &dir, 0);
    let reader = std::thread::spawn(move || {
        for n in 0..LINES {
            assert_eq!(listener.text(), line(n));
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let to = out.container.try_clone().unwrap();
    let writer = std::thread::spawn(move || write_lines(&to, LINES));
    let begin = Instant::now();
    local.container.try_clone().unwrap().write_all(&vec![b'x'; 8 << 20]).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(!reader.is_finished());
    writer.join().unwrap();
    reader.join().unwrap();
    assert_eq!(engine.status().blocking_recv().unwrap()["web"].dropped, 0);
}

/// What a service prints last is what its end is about.
#[test]
fn a_service_that_ends_waits_for_a_journal_that_takes_its_lines() {
    const LINES: usize = 500;
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    write_lines(&out.container, LINES);
    write!(&out.container, "the end").unwrap();
    let gone = engine.detach("web");
    (0..LINES).for_each(|n| assert_eq!(listener.text(), line(n)));
    assert_eq!(listener.text(), "the end");
    gone.blocking_recv().unwrap();
}

#[test]
fn what_was_lost_is_marked_in_the_journal_too() {
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    engine.lost("gone", Some(Driver::Journald)).blocking_recv().unwrap().unwrap();
    let entry = listener.next();
    let text = |name: &str| String::from_utf8(entry[name].clone()).unwrap();
    assert_eq!((text("SAMPAN_SERVICE"), text("PRIORITY")), ("gone".into(), "4".into()));
    assert!(text("MESSAGE").starts_with("lines may be missing before this"), "{}", text("MESSAGE"));
    assert!(!dir.0.join("logs/gone").exists());
}

#[test]
fn the_next_life_does_not_wait_for_what_the_last_one_has_left() {
    const LINES: usize = 2000;
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    write_lines(&out.container, LINES);
    let gone = engine.detach("web");
    let pipes = [Some(Arc::new(out.read_end())), None];
    let attachment = Attachment {
        service: "web".into(),
        container: Container(2),
        settings: settings(),
        ring: None,
        pipes,
    };
    let attached = engine.attach(attachment);
    gone.blocking_recv().unwrap();
    attached.blocking_recv().unwrap().unwrap();
    let mut kept = 0;
    let dropped: usize = loop {
        let text = listener.text();
        if let Some(said) = text.strip_prefix("dropped lines=") {
            break said.split(' ').next().unwrap().parse().unwrap();
        }
        assert_eq!(text, line(kept));
        kept += 1;
    };
    assert_eq!(kept + dropped, LINES);
    // Not before: a journal that has taken nothing for a while takes nothing of the next life either.
    writeln!(&out.container, "the next life").unwrap();
    assert_eq!(listener.text(), "the next life");
}

/// A transfer that was not done to its end is done again: a line may be there twice, and none is missing.
#[test]
fn a_kill_loses_nothing() {
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let spool = Spool::create().unwrap();
    let kept = spool.fd().try_clone_to_owned().unwrap();
    let engine = start(&dir, spool, settings(), [Some(out.read_end()), None]);
    writeln!(&out.container, "one").unwrap();
    assert_eq!(listener.text(), "one");
    drop(engine);
    // The next worker was killed after it took two lines.
    let mut spool = Spool::adopt(kept).unwrap();
    let slot = spool.find("web", 0).unwrap();
    writeln!(&out.container, "two\nthree").unwrap();
    let transfer = logging::spool::Transfer {
        slot,
        segment: logging::segments::Number(0),
        bytes: 0,
        time: 0,
        flush: false,
        allowed: None,
        settings: settings(),
        gap: None,
    };
    spool.arm(&transfer);
    spool.take(std::os::fd::AsFd::as_fd(&out.read_end()), usize::MAX).unwrap();
    let engine = start(&dir, spool, settings(), [Some(out.read_end()), None]);
    assert_eq!([listener.text(), listener.text()], ["two", "three"]);
    assert!(!dir.0.join("logs").exists());
    drop(engine);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever a line is, it arrives as it is.
    #[test]
    fn any_bytes_arrive(text in prop::collection::vec(any::<u8>(), 0..3000)) {
        let dir = Folder::new();
        let listener = Listener::new(&dir.0.join("socket"));
        let journal = Journal::new(dir.0.join("socket"));
        let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\n').collect();
        let record = [b"2026-12-01T08:00:00.000000000Z stderr F ", &text[..], b"\n"].concat();
        journal.send("web", &record).unwrap();
        let found = listener.next();
        prop_assert_eq!(&found["MESSAGE"], &text);
        prop_assert_eq!(&found["PRIORITY"], b"3");
    }
}

/// What went wrong: each of them held up all others for a second, one after the other, and sampand waits for five.
#[test]
fn services_that_end_while_the_journal_is_slow_hold_up_nobody() {
    const OTHERS: usize = 12;
    let dir = Folder::new();
    let listener = Listener::new(&dir.0.join("socket"));
    let out = Fifo::new(&dir.0, "out");
    let engine = start(&dir, Spool::create().unwrap(), settings(), [Some(out.read_end()), None]);
    let (others, local) = attach_more(&engine, &dir, OTHERS);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                listener.next();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    others.iter().for_each(|other| write_lines(&other.container, 500));
    let begin = Instant::now();
    let gone: Vec<_> = (0..OTHERS).map(|n| engine.detach(&format!("other-{n}"))).collect();
    local.container.try_clone().unwrap().write_all(&[b'x'; 256 << 10]).unwrap();
    let held_up = begin.elapsed();
    gone.into_iter().for_each(|gone| gone.blocking_recv().unwrap());
    let all = begin.elapsed();
    assert!(held_up < Duration::from_millis(700) && all < Duration::from_secs(3), "{held_up:?}, {all:?}");
    stop.store(true, Ordering::Relaxed);
    // It may wait for one more.
    writeln!(&out.container, "a line").unwrap();
    reader.join().unwrap();
}
