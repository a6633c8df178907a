//! The journal on a real file: what it gives back after a crash at any byte, after damage, on a full disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use sampan_journal::{Desired, Entry, HISTORY, Health, Journal, KEEP, Note, Record, Since, Wish, boot_of};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const BOOT: &str = "f2b2c1de-0000-4000-8000-000000000001";

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sampan-journal-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
    fn file(&self) -> PathBuf {
        self.0.join("journal")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entry<'a>(service: &'a str, to: &'a str, data: &'a Value) -> Entry<'a> {
    Entry { service, generation: 1, from: "stopped", to, cause: "test", data }
}

fn open(folder: &Path) -> (Journal, BTree, Vec<Note>) {
    let (journal, replay) = Journal::open(folder, BOOT).unwrap();
    (journal, replay.last, replay.notes)
}
type BTree = std::collections::BTreeMap<String, Record>;

fn numbers(since: Since) -> Vec<u64> {
    match since {
        Since::Records(records) => records.iter().map(|r| r.seq).collect(),
        Since::Gap { first } => panic!("gap, first is {first}"),
    }
}

#[test]
fn the_last_record_of_a_service_is_its_state() {
    let folder = Folder::new();
    let (mut journal, _, notes) = open(&folder.0);
    assert_eq!(notes, []);
    journal.append(&entry("web", "starting", &json!({ "pid": 7 })));
    journal.append(&entry("db", "running", &Value::Null));
    let written =
        journal.append(&entry("web", "running", &json!({ "pid": 7, "text": "quote \" and\nline" })));
    drop(journal);

    let (mut journal, last, notes) = open(&folder.0);
    assert_eq!(notes, []);
    assert_eq!(last.keys().collect::<Vec<_>>(), ["db", "web"]);
    assert_eq!(last["web"], written);
    assert_eq!(journal.append(&entry("web", "stopping", &Value::Null)).seq, 4);
    assert_eq!(numbers(journal.since(2).unwrap()), [2, 3, 4]);
}

#[test]
fn a_record_is_one_line_that_people_can_read() {
    let folder = Folder::new();
    let (mut journal, ..) = open(&folder.0);
    journal.append(&entry("web", "running", &json!({ "pid": 7 })));
    let text = std::fs::read_to_string(folder.file()).unwrap();
    let line = text.lines().nth(1).unwrap();
    let (begin, rest) = line.split_once(r#""time":"#).unwrap();
    assert_eq!(begin, r#"{"seq":1,"#);
    let (_, rest) = rest.split_once(',').unwrap();
    let (middle, crc) = rest.split_once(r#","crc":"#).unwrap();
    assert_eq!(
        middle,
        r#""service":"web","generation":1,"from":"stopped","to":"running","cause":"test","data":{"pid":7}"#
    );
    assert_eq!(crc.len(), r#""00000000"}"#.len());
    assert_eq!(boot_of(&folder.0).as_deref(), Some(BOOT));
}

#[test]
fn a_crash_at_any_byte_loses_the_unfinished_record_alone() {
    let folder = Folder::new();
    let (mut journal, ..) = open(&folder.0);
    for to in ["starting", "running", "stopping"] {
        journal.append(&entry("web", to, &json!({ "n": to.len() })));
    }
    drop(journal);
    let whole = std::fs::read(folder.file()).unwrap();
    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();

    for cut in 0..=whole.len() {
        std::fs::write(folder.file(), &whole[..cut]).unwrap();
        let (mut journal, last, notes) = open(&folder.0);
        let whole_lines = ends.iter().filter(|end| **end <= cut).count();
        let records = whole_lines.saturating_sub(1) as u64;
        assert_eq!(last.get("web").map_or(0, |r| r.seq), records, "cut at {cut}");
        let is_torn = cut != 0 && !ends.contains(&cut);
        assert_eq!(notes, if is_torn { vec![Note::Torn] } else { vec![] }, "cut at {cut}");

        // And it can be written on and read again, without a word.
        assert_eq!(journal.append(&entry("web", "next", &Value::Null)).seq, records + 1);
        drop(journal);
        let (_, last, notes) = open(&folder.0);
        assert_eq!(
            (last["web"].to.as_str(), last["web"].seq, notes),
            ("next", records + 1, vec![]),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_damaged_line_costs_that_record_and_the_file_is_kept() {
    let folder = Folder::new();
    let (mut journal, ..) = open(&folder.0);
    for service in ["a", "b", "c"] {
        journal.append(&entry(service, "running", &Value::Null));
    }
    drop(journal);
    let mut bytes = std::fs::read(folder.file()).unwrap();
    let at = String::from_utf8_lossy(&bytes).find(r#""service":"b""#).unwrap();
    bytes[at + 11] = b'x';
    std::fs::write(folder.file(), &bytes).unwrap();

    let (mut journal, last, notes) = open(&folder.0);
    assert_eq!(last.keys().collect::<Vec<_>>(), ["a", "c"]);
    let aside = folder.0.join("journal.damaged.1");
    assert_eq!(notes, [Note::Damaged { lines: vec![3], aside: aside.clone() }]);
    assert_eq!(std::fs::read(aside).unwrap(), bytes);
    assert_eq!(journal.append(&entry("d", "running", &Value::Null)).seq, 4);
    assert_eq!(journal.since(1).unwrap(), Since::Gap { first: 3 });
    drop(journal);
    let (_, last, notes) = open(&folder.0);
    assert_eq!((last.len(), notes), (3, vec![]));
}

#[test]
fn without_a_boot_id_nothing_is_trusted() {
    let folder = Folder::new();
    std::fs::write(folder.file(), "rubbish\nmore of it\n").unwrap();
    let (_, last, notes) = open(&folder.0);
    assert_eq!(last.len(), 0);
    assert_eq!(notes, [Note::Damaged { lines: vec![1, 2], aside: folder.0.join("journal.damaged.1") }]);
}

#[test]
fn after_a_reboot_nothing_runs_and_numbers_go_on() {
    let folder = Folder::new();
    let (mut journal, ..) = open(&folder.0);
    journal.append(&entry("web", "running", &Value::Null));
    drop(journal);
    let (journal, replay) = Journal::open(&folder.0, "another boot").unwrap();
    assert_eq!((replay.last.len(), replay.next_seq, replay.notes), (0, 2, vec![Note::Rebooted]));
    assert_eq!(journal.since(1).unwrap(), Since::Gap { first: 2 });
    assert_eq!(boot_of(&folder.0).as_deref(), Some("another boot"));
}

#[test]
fn compaction_keeps_the_newest_and_the_last_ones_of_each_service() {
    let folder = Folder::new();
    let (mut journal, ..) = open(&folder.0);
    let quiet = 2 * HISTORY as u64;
    for _ in 0..quiet {
        journal.append(&entry("quiet", "running", &json!({ "pid": 1 })));
    }
    let total = 3 * KEEP as u64;
    for _ in quiet..total {
        journal.append(&entry("busy", "running", &Value::Null));
    }
    let lines = std::fs::read_to_string(folder.file()).unwrap().lines().count();
    assert!(lines <= 2 * (KEEP + HISTORY) + 1, "{lines} lines were never compacted");
    let Since::Gap { first } = journal.since(1).unwrap() else { panic!("no gap") };
    assert!(first + KEEP as u64 <= total + 1, "only {} records are left", total + 1 - first);
    assert_eq!(numbers(journal.since(first).unwrap()), (first..=total).collect::<Vec<_>>());
    drop(journal);

    let (journal, last, notes) = open(&folder.0);
    assert_eq!(notes, []);
    assert_eq!((last["quiet"].seq, last["busy"].seq), (quiet, total));
    let history =
        |service| journal.last_of(service, HISTORY).unwrap().iter().map(|r| r.seq).collect::<Vec<_>>();
    assert_eq!(history("quiet"), (quiet - HISTORY as u64 + 1..=quiet).collect::<Vec<_>>());
    assert_eq!(history("busy"), (total - HISTORY as u64 + 1..=total).collect::<Vec<_>>());
    assert_eq!(history("nobody"), Vec::<u64>::new());
    assert_eq!(journal.since(first - 1).unwrap(), Since::Gap { first });
    assert_eq!(numbers(journal.since(total).unwrap()), [total]);
    assert_eq!(numbers(journal.since(total + 1).unwrap()), Vec::<u64>::new());
}

/// Containers that are run once come and go with names of their own.
#[test]
fn what_has_left_for_good_goes_with_the_records_of_its_time() {
    let folder = Folder::new();
    let (mut journal, ..) = open(&folder.0);
    journal.append(&entry("stays", "running", &Value::Null));
    for n in 0..4 * KEEP {
        let name = format!("once-{n}");
        journal.append(&entry(&name, "stopped", &Value::Null));
        journal.forget(&name);
    }
    assert_eq!(journal.last_of("stays", 1).unwrap().len(), 1);
    drop(journal);
    let (_, last, _) = open(&folder.0);
    assert!(last.contains_key("stays"));
    assert!(last.len() < 3 * KEEP, "{} are known", last.len());
}

#[test]
fn a_full_disk_is_reported_and_nothing_is_lost() {
    // The limit on a file's size stands in for the disk. It is this process's, so the test has one of its own.
    if std::env::var_os("SAMPAN_TEST_FULL_DISK").is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["journal::a_full_disk_is_reported_and_nothing_is_lost", "--exact", "--nocapture"])
            .env("SAMPAN_TEST_FULL_DISK", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |bytes| setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    // Past the limit the kernel also sends SIGXFSZ, whose default is to end us.
    let noted = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ignored = signal_hook::flag::register(nix::libc::SIGXFSZ, noted).unwrap();

    let folder = Folder::new();
    let (mut journal, ..) = open(&folder.0);
    limit(Some(1000));
    for _ in 0..20 {
        journal.append(&entry("web", "running", &Value::Null));
    }
    let Health::Behind { waiting, lost: 0, .. } = journal.health() else { panic!("{:?}", journal.health()) };
    assert!(waiting > 10, "{waiting}");
    assert_eq!(numbers(journal.since(1).unwrap()), (1..=20).collect::<Vec<_>>());
    let history: Vec<_> = journal.last_of("web", HISTORY).unwrap().iter().map(|r| r.seq).collect();
    assert_eq!(history, (5..=20).collect::<Vec<_>>());
    // What is in the file is whole lines alone.
    assert!(std::fs::read(folder.file()).unwrap().ends_with(b"}\n"));

    limit(None);
    journal.append(&entry("web", "stopped", &Value::Null));
    assert_eq!(journal.health(), Health::Good);
    assert_eq!(numbers(journal.since(1).unwrap()), (1..=21).collect::<Vec<_>>());
    drop(journal);
    let (_, last, notes) = open(&folder.0);
    assert_eq!((last["web"].seq, notes), (21, vec![]));
    signal_hook::low_level::unregister(ignored);
}

/// The file system is somebody else's while this runs, also for root: files can be looked at, nothing can be written.
fn read_only(folder: &Folder, run: impl FnOnce()) {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&folder.0, 0o555);
    mode(&folder.file(), 0o444);
    // Of this thread alone.
    let (nobody, us) = (nix::unistd::Uid::from_raw(65534), nix::unistd::geteuid());
    nix::unistd::setfsuid(nobody);
    run();
    nix::unistd::setfsuid(us);
    mode(&folder.0, 0o755);
    mode(&folder.file(), 0o644);
}

#[test]
fn one_that_can_be_read_and_not_written_is_gone_on_with_once_it_can() {
    for damage in ["", "rubbish\n", "torn"] {
        let folder = Folder::new();
        let (mut journal, ..) = open(&folder.0);
        for service in ["a", "b", "a"] {
            journal.append(&entry(service, "running", &Value::Null));
        }
        drop(journal);
        let text = std::fs::read_to_string(folder.file()).unwrap() + damage;
        std::fs::write(folder.file(), &text).unwrap();
        let mut opened = None;
        read_only(&folder, || {
            let (mut journal, last, notes) = open(&folder.0);
            assert_eq!((last["a"].seq, last["b"].seq), (3, 2));
            assert!(
                notes.iter().any(|note| matches!(note, Note::Unusable { doing: "write", .. })),
                "{notes:?}"
            );
            journal.append(&entry("b", "stopped", &Value::Null));
            assert_eq!(numbers(journal.since(1).unwrap()), [1, 2, 3, 4]);
            opened = Some(journal);
        });
        assert_eq!(
            std::fs::read_to_string(folder.file()).unwrap(),
            text,
            "a worker that dies now has lost nothing"
        );
        let mut journal = opened.unwrap();
        journal.flush().unwrap();
        assert_eq!(journal.health(), Health::Good);
        assert_eq!(numbers(journal.since(1).unwrap()), [1, 2, 3, 4]);
        journal.append(&entry("c", "running", &Value::Null));
        drop(journal);
        let (journal, last, notes) = open(&folder.0);
        assert_eq!((last["a"].seq, last["b"].seq, last["c"].seq, notes), (3, 4, 5, vec![]), "{damage}");
        assert_eq!(numbers(journal.since(1).unwrap()), [1, 2, 3, 4, 5]);
    }
}

/// The oldest go, but not the last of a service, which is its state.
#[test]
fn what_waits_for_too_long_is_given_up_but_for_each_services_state() {
    let folder = Folder::new();
    let (mut journal, ..) = open(&folder.0);
    let quiet = journal.append(&entry("quiet", "running", &Value::Null));
    for _ in 0..KEEP {
        journal.append(&entry("busy", "running", &Value::Null));
    }
    drop(journal);
    let mut opened = None;
    read_only(&folder, || {
        let (mut journal, ..) = open(&folder.0);
        for _ in 0..KEEP {
            journal.append(&entry("busy", "running", &Value::Null));
        }
        opened = Some(journal);
    });
    let mut journal = opened.unwrap();
    let Health::Behind { waiting, lost, .. } = journal.health() else { panic!("{:?}", journal.health()) };
    assert_eq!(waiting as u64 + lost, 1 + 2 * KEEP as u64);
    assert!(waiting <= KEEP, "{waiting} wait");
    let Since::Gap { first } = journal.since(1).unwrap() else { panic!("no gap") };
    assert_eq!(numbers(journal.since(first).unwrap()).len(), waiting - 1);
    journal.flush().unwrap();
    drop(journal);
    let (_, last, notes) = open(&folder.0);
    assert_eq!((last["quiet"].clone(), last["busy"].seq, notes), (quiet, 1 + 2 * KEEP as u64, vec![]));
}

#[test]
fn desired_survives_and_keeps_what_it_does_not_know() {
    let folder = Folder::new();
    assert_eq!(Desired::load(&folder.0), (Desired::default(), None));
    std::fs::write(
        folder.0.join("desired.json"),
        r#"{"version":1,"services":{"web":{"stopped":true,"restarts":3,"delay_left_ms":250,"colour":"red"}}}"#,
    )
    .unwrap();
    let (mut desired, None) = Desired::load(&folder.0) else { panic!("a warning") };
    assert_eq!((desired.services["web"].stopped, desired.services["web"].delay_left_ms), (true, Some(250)));
    desired.services.insert("db".into(), Wish { attempt: 2, ..Wish::default() });
    desired.save(&folder.0).unwrap();
    let (again, None) = Desired::load(&folder.0) else { panic!("a warning") };
    assert_eq!(again.services, desired.services);
    assert_eq!(again.services["web"].other["colour"], "red");
}

#[test]
fn a_damaged_desired_is_set_aside() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("desired.json"), "{\"version\":1,\"serv").unwrap();
    let (desired, warning) = Desired::load(&folder.0);
    assert_eq!(desired, Desired::default());
    assert!(warning.unwrap().contains("desired.json.damaged.1"));
    assert!(folder.0.join("desired.json.damaged.1").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the file's bytes: it opens, says so, and no record is invented.
    #[test]
    fn damage_of_any_kind_never_keeps_it_from_opening(
        services in proptest::collection::vec("[a-c]", 1..12),
        at in any::<prop::sample::Index>(),
        damage in proptest::collection::vec(any::<u8>(), 0..40),
        replace in any::<bool>(),
    ) {
        let folder = Folder::new();
        let (mut journal, ..) = open(&folder.0);
        let written: Vec<Record> =
            services.iter().map(|s| journal.append(&entry(s, "running", &json!({ "of": s })))).collect();
        drop(journal);
        let mut bytes = std::fs::read(folder.file()).unwrap();
        let at = at.index(bytes.len());
        let until = if replace { (at + damage.len()).min(bytes.len()) } else { at };
        bytes.splice(at..until, damage.iter().copied());
        std::fs::write(folder.file(), &bytes).unwrap();

        let (mut journal, last, _) = open(&folder.0);
        for record in last.values() {
            prop_assert!(written.contains(record));
        }
        let next = journal.append(&entry("z", "running", &Value::Null));
        prop_assert!(last.values().all(|r| r.seq < next.seq));
        drop(journal);
        let (_, again, notes) = open(&folder.0);
        prop_assert_eq!(&again["z"], &next);
        prop_assert_eq!(again.len(), last.len() + 1);
        prop_assert_eq!(notes, vec![]);
    }
}
