//! Compressed segments: they are read as plain ones are, and whoever is killed leaves one that can be.
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use logging::config::{Driver, Settings};
use logging::follow::{self, Wanted};
use logging::pack::{self, Source};
use logging::segments::{list, path};
use logging::spool::Spool;
use proptest::prelude::*;
use sampan_testkit::need;

use crate::crash::start_with;
use crate::world::{Fifo, Folder, lines, segment, soon, written};

const LINES: u64 = 20_000;
const LONG: Duration = Duration::from_secs(30);
static RUN: AtomicBool = AtomicBool::new(false);

fn settings(driver: Driver) -> Settings {
    Settings { driver, max_size: 100 << 10, max_file: 1000, ..Settings::default() }
}

pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut all: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    all.sort();
    all
}

fn are_packed(dir: &Path) -> bool {
    let names = names(dir);
    names.len() > 3 && names[..names.len() - 1].iter().all(|name| name.ends_with(".zst"))
}

/// All that a reader is given.
fn read(logs: &Path, wanted: Wanted) -> Vec<String> {
    lines(follow::start(logs.to_owned(), Default::default(), wanted).unwrap()).collect()
}

/// A log of which all but the last segment are compressed.
fn packed_log(dir: &Folder, driver: Driver) -> PathBuf {
    let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
    let engine = start_with(&logs, Spool::create().unwrap(), settings(driver), [Some(out.read_end()), None]);
    (0..LINES).for_each(|n| writeln!(&out.container, "line {n}").unwrap());
    engine.detach("web").blocking_recv().unwrap();
    soon("all are compressed", LONG, || are_packed(&logs.join("web")));
    logs
}

#[test]
fn what_is_not_written_any_more_is_compressed_and_read_as_before() {
    for driver in Driver::ALL {
        let dir = Folder::new();
        let logs = packed_log(&dir, driver);
        let all: Vec<String> = (0..LINES).map(|n| format!("web stdout F line {n}")).collect();
        let found = read(&logs, Wanted::default());
        let differs = found.iter().zip(&all).find(|(found, all)| found != all);
        assert!(found == all, "{driver:?}: {} lines, {differs:?}", found.len());
        for tail in [1, 100, 7000, LINES - 1, LINES, LINES + 1] {
            let found = read(&logs, Wanted { tail: Some(tail), ..Wanted::default() });
            assert!(found == all[all.len().saturating_sub(tail as usize)..], "{driver:?}: the last {tail}");
        }
        let zstd = logs.join("web").join(&names(&logs.join("web"))[0]);
        if need::program("zstd") {
            let ran = Command::new("zstd").args(["-dcq"]).arg(&zstd).output().unwrap();
            assert_eq!(Some(ran.stdout), segment(&zstd.with_extension("")));
        }
    }
}

#[test]
fn times_are_found_in_compressed_ones() {
    let dir = Folder::new();
    let logs = packed_log(&dir, Driver::Local);
    let web = logs.join("web");
    let segments = list(&web).unwrap();
    let text = |n: usize| {
        let (number, driver) = segments[n];
        String::from_utf8(segment(&path(&web, number, driver)).unwrap()).unwrap()
    };
    let third = text(2);
    let (first, time) = (third.lines().next().unwrap(), third.split(' ').next().unwrap());
    let since = follow::since(&time.into()).unwrap();
    let found = read(&logs, Wanted { since: Some(since), ..Wanted::default() });
    let at = found.iter().position(|line| first.ends_with(&line["web stdout F ".len()..]));
    // What was read at once has one time: on a busy machine that may be many lines of the segment before.
    let as_old = [text(0), text(1)].concat().lines().filter(|line| line.starts_with(time)).count();
    assert_eq!(at, Some(as_old));
    assert!(found.last().unwrap().ends_with(&format!(" {}", LINES - 1)));
}

/// The reader is at each time in a plain one, and the next one may be either.
#[test]
fn who_follows_sees_every_line_once_while_they_are_compressed() {
    let dir = Folder::new();
    let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
    let engine =
        start_with(&logs, Spool::create().unwrap(), settings(Driver::Local), [Some(out.read_end()), None]);
    let wanted = Wanted { follow: true, ..Wanted::default() };
    let mut follow = lines(follow::start(logs.clone(), engine.notifier(), wanted).unwrap());
    let writer = std::thread::spawn(move || {
        for n in 0..LINES {
            writeln!(&out.container, "line {n}").unwrap();
            if n % 2000 == 0 {
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        out
    });
    for n in 0..LINES {
        // Slower than the log: most are compressed before they are read.
        if n % 4000 == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(follow.next().unwrap(), format!("web stdout F line {n}"));
    }
    drop(writer.join().unwrap());
}

#[test]
fn one_that_cannot_be_decompressed_is_said_and_the_others_are_read() {
    let dir = Folder::new();
    let logs = packed_log(&dir, Driver::Local);
    let web = logs.join("web");
    let second = web.join(&names(&web)[1]);
    let bytes = fs::read(&second).unwrap();
    for wrong in [&bytes[..bytes.len() / 2], &bytes[..3], b"", b"no zstd at all, but as long as it has to be"]
    {
        fs::write(&second, wrong).unwrap();
        for wanted in [Wanted::default(), Wanted { tail: Some(LINES), ..Wanted::default() }] {
            let found = read(&logs, wanted);
            assert!(found.last().unwrap().ends_with(&format!(" {}", LINES - 1)));
            let said = "web stdout F gap: the rest of a segment of this log cannot be decompressed";
            assert_eq!(found.iter().filter(|line| *line == said).count(), 1, "{wrong:?}");
        }
    }
}

// ---- who is killed in between ---------------------------------------------------------------------------------------

#[test]
fn a_packer_that_was_killed_leaves_what_can_be_read() {
    let dir = Folder::new();
    let web = dir.0.join("logs/web");
    fs::create_dir_all(&web).unwrap();
    let record = |n: u64| format!("2026-12-01T08:00:0{n}.000000000Z stdout F line {n}\n");
    for n in 1..5 {
        fs::write(web.join(format!("000000000{n}.log")), record(n)).unwrap();
    }
    // One was killed while it wrote the first, another before it removed the second, a third before it removed it, and then it went.
    fs::write(web.join("0000000001.log.zst.new"), "half").unwrap();
    fs::copy(web.join("0000000002.log"), web.join("copy")).unwrap();
    pack::pack(&web.join("0000000002.log"), &RUN).unwrap();
    fs::rename(web.join("copy"), web.join("0000000002.log")).unwrap();
    let all: Vec<u8> = (1..5).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    assert_eq!(written(&dir.0.join("logs"), "web", "stdout"), all);
    // The next one brings it to its end.
    let out = Fifo::new(&dir.0, "out");
    let pipes = [Some(out.read_end()), None];
    let engine = start_with(&dir.0.join("logs"), Spool::create().unwrap(), settings(Driver::Local), pipes);
    let expected: Vec<String> =
        (1..5).map(|n| format!("000000000{n}.log{}", if n < 4 { ".zst" } else { "" })).collect();
    soon("all are compressed", LONG, || names(&web) == expected);
    assert_eq!(written(&dir.0.join("logs"), "web", "stdout"), all);
    drop(engine);
}

/// A power failure may come between any two calls, and undoes what is not synced: the compressed one has to be on the disk, its age
/// and its name too, before the plain one goes.
#[test]
fn the_plain_one_goes_when_the_compressed_one_is_on_the_disk() {
    if !need::program("strace") {
        return;
    }
    let dir = Folder::new();
    let (log, me) = (dir.0.join("strace"), std::env::current_exe().unwrap());
    let mut strace = Command::new("strace");
    strace.args(["-f", "-q", "-y", "-e", "trace=/utime,/sync,/rename,/unlink", "-o"]).arg(&log).arg(me);
    // The test that compresses one segment.
    strace.args(["--exact", "packed::a_compressed_one_is_as_old_as_its_last_line"]);
    let ran = strace.output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let log = fs::read_to_string(&log).unwrap();
    let what_is_done = |line: &str| {
        let (call, about) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        let about = about.split_once(')')?.0;
        match call {
            _ if call.starts_with("unlink") => about.ends_with(".log\"").then_some("the plain one goes"),
            _ if call.starts_with("rename") => Some("takes its name"),
            _ if call.starts_with("utime") && about.contains(".zst.new") => Some("takes its age"),
            "fsync" if about.ends_with(".zst.new>") => Some("is synced"),
            "fsync" => Some("the folder is synced"),
            _ => None,
        }
    };
    let done: Vec<&str> = log.lines().filter_map(what_is_done).take(5).collect();
    let order =
        ["takes its age", "is synced", "takes its name", "the folder is synced", "the plain one goes"];
    assert_eq!(done, order, "{log}");
}

/// In a folder that others may write to.
#[test]
fn a_link_in_the_place_of_what_is_being_written_is_not_followed() {
    let dir = Folder::new();
    let (plain, other) = (dir.0.join("0000000001.log"), dir.0.join("other"));
    fs::write(&plain, "2026-12-01T08:00:00.000000000Z stdout F x\n").unwrap();
    fs::write(&other, "somebody else's").unwrap();
    std::os::unix::fs::symlink(&other, dir.0.join("0000000001.log.zst.new")).unwrap();
    let _ = pack::pack(&plain, &RUN);
    assert_eq!(fs::read_to_string(&other).unwrap(), "somebody else's");
    assert!(segment(&plain).is_some());
}

#[test]
fn one_that_goes_while_it_is_compressed_does_not_come_back() {
    let dir = Folder::new();
    let plain = dir.0.join("0000000001.log");
    for _ in 0..200 {
        fs::write(&plain, vec![b'x'; 300_000]).unwrap();
        let (its, removes) = (
            plain.clone(),
            std::thread::spawn({
                let plain = plain.clone();
                move || pack::remove(&plain).unwrap()
            }),
        );
        let _ = pack::pack(&its, &RUN);
        removes.join().unwrap();
        assert_eq!(names(&dir.0), [""; 0]);
    }
}

#[test]
fn a_compressed_one_is_as_old_as_its_last_line() {
    let dir = Folder::new();
    let plain = dir.0.join("0000000001.log");
    fs::write(&plain, "2026-12-01T08:00:00.000000000Z stdout F x\n").unwrap();
    let then = SystemTime::now() - Duration::from_secs(3600);
    File::options().append(true).open(&plain).unwrap().set_modified(then).unwrap();
    pack::pack(&plain, &RUN).unwrap();
    assert_eq!(names(&dir.0), ["0000000001.log.zst"]);
    assert_eq!(pack::modified(&plain).unwrap(), then);
    assert_eq!(pack::bytes(&plain).unwrap(), 42);
    pack::remove(&plain).unwrap();
    assert_eq!(names(&dir.0), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_part_is_as_in_the_plain_one(data in prop::collection::vec(any::<u8>(), 0..200_000), looks in prop::collection::vec((0usize..220_000, 0usize..70_000), 1..20)) {
        let dir = Folder::new();
        let plain = dir.0.join("0000000001.log");
        fs::write(&plain, &data).unwrap();
        pack::pack(&plain, &RUN).unwrap();
        let mut source = Source::open(&plain).unwrap();
        for (offset, bytes) in looks {
            let mut buffer = vec![0; bytes];
            let got = source.read_at(&mut buffer, offset as u64).unwrap();
            let from = offset.min(data.len());
            prop_assert_eq!(&buffer[..got], &data[from..(from + bytes).min(data.len())]);
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_read(mut data in prop::collection::vec(any::<u8>(), 0..2000), real in any::<bool>(), at in 0usize..60) {
        let dir = Folder::new();
        let plain = dir.0.join("0000000001.log");
        let file = dir.0.join("0000000001.log.zst");
        if real {
            // A real one with a byte that is not.
            fs::write(&plain, &data).unwrap();
            pack::pack(&plain, &RUN).unwrap();
            let mut bytes = Vec::new();
            File::open(&file).unwrap().read_to_end(&mut bytes).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 0x55;
            data = bytes;
        }
        fs::write(&file, &data).unwrap();
        let _ = pack::bytes(&plain);
        let mut source = Source::open(&plain).unwrap();
        let (mut buffer, mut offset, mut errors) = (vec![0; 1000], 0, 0);
        loop {
            match source.read_at(&mut buffer, offset) {
                Ok(0) => break,
                Ok(n) => offset += n as u64,
                Err(_) => errors += 1,
            }
            prop_assert!(errors < 2 && offset < 64 << 20);
        }
    }
}

/// What went wrong: retention removes a segment that is just being compressed, the compressed one is there a moment longer than the
/// segments after it, and whoever read it then waited for the next number for ever.
#[test]
fn one_that_outlives_those_after_it_is_not_the_last() {
    let dir = Folder::new();
    let web = dir.0.join("logs/web");
    fs::create_dir_all(&web).unwrap();
    for n in [1, 3] {
        let record = format!("2026-12-01T08:00:0{n}.000000000Z stdout F line {n}\n");
        fs::write(web.join(format!("000000000{n}.log")), record).unwrap();
    }
    pack::pack(&web.join("0000000001.log"), &RUN).unwrap();
    let expected = ["line 1", "gap: an unknown part of this log was rotated away unread", "line 3"];
    assert_eq!(
        read(&dir.0.join("logs"), Wanted::default()),
        expected.map(|line| format!("web stdout F {line}"))
    );
}
