//! The plugin through the C table, as sampand drives it.
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use logging::Logging;
use sampan_plugin::abi;
use sampan_plugin::testing::{Event, Rig};
use sampan_plugin::types::Role;
use serde_json::{Value, json};

use crate::backlog::on_a_disk;
use crate::world::{Fifo, Folder, lines, records, soon, written};

fn rig(dir: &Folder) -> Rig {
    Rig::new::<Logging>(json!({ "dir": dir.0.join("logs") })).unwrap()
}

fn create(rig: &Rig, service: &str, logging: Value) -> Value {
    let body = json!({ "service": { "logging": logging }, "attempt": 0 });
    rig.fire(Event::new(abi::EV_CREATE).of(service).body(body)).unwrap().json
}

fn attach(rig: &Rig, service: &str, out: &Fifo, err: &Fifo) {
    let event = Event::new(abi::EV_ATTACH).of(service).pid(1);
    rig.fire(event.fd(Role::Stdout, out.read_end()).fd(Role::Stderr, err.read_end())).unwrap();
}

fn detach(rig: &Rig, service: &str) {
    rig.fire(Event::new(abi::EV_DETACH).of(service).body(json!({ "final": true }))).unwrap();
}

fn read(rig: &Rig, request: Value) -> OwnedFd {
    rig.fire(Event::new(abi::EV_CONTROL).body(request)).unwrap().fds.remove(0)
}

fn record(stream: &str, end: bool, text: &str) -> (String, bool, String) {
    (stream.to_owned(), end, text.to_owned())
}

#[test]
fn a_service_from_create_to_detach() {
    let dir = Folder::new();
    let (rig, logs) = (rig(&dir), dir.0.join("logs"));
    let (mut out, mut err) = (Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err"));
    assert_eq!(
        create(&rig, "web", json!({ "driver": "local", "max_size": "20M" }))["claims"],
        json!(["stdio"])
    );
    attach(&rig, "web", &out, &err);
    out.container.write_all(b"one\ntwo\nthr").unwrap();
    soon("two lines", Duration::from_secs(5), || records(&logs, "web").len() == 2);
    out.container.write_all(b"ee\n").unwrap();
    soon("the third", Duration::from_secs(5), || records(&logs, "web").len() == 3);
    err.container.write_all(b"oops\nno newline").unwrap();
    detach(&rig, "web");
    let all = [
        record("stdout", true, "one"),
        record("stdout", true, "two"),
        record("stdout", true, "three"),
        record("stderr", true, "oops"),
        record("stderr", false, "no newline"),
    ];
    assert_eq!(records(&logs, "web"), all);
    let status = rig.fire(Event::new(abi::EV_CONTROL).body(json!({ "verb": "status" }))).unwrap().json;
    assert_eq!(status, json!({}));
    assert_eq!((rig.metric("lines"), rig.metric("bytes")), (Some(4.0), Some(29.0)));
    assert_eq!(rig.kept(), [(String::new(), "spool".to_owned())]);
}

#[test]
fn the_next_life_logs_to_the_same_fifo_and_the_same_segment() {
    let dir = Folder::new();
    let (rig, logs) = (rig(&dir), dir.0.join("logs"));
    let (mut out, err) = (Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err"));
    for life in 0..3 {
        create(&rig, "web", json!("local"));
        attach(&rig, "web", &out, &err);
        writeln!(out.container, "life {life}").unwrap();
        detach(&rig, "web");
        writeln!(out.container, "between {life}").unwrap();
    }
    assert_eq!(
        String::from_utf8(written(&logs, "web", "stdout")).unwrap(),
        "life 0\nbetween 0\nlife 1\nbetween 1\nlife 2\n"
    );
}

#[test]
fn a_prompt_is_shown_after_a_second() {
    let dir = Folder::new();
    let (rig, logs) = (rig(&dir), dir.0.join("logs"));
    let (mut out, err) = (Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err"));
    create(&rig, "sh", json!("local"));
    attach(&rig, "sh", &out, &err);
    out.container.write_all(b"login: ").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(records(&logs, "sh"), []);
    soon("the prompt", Duration::from_millis(900), || records(&logs, "sh").len() == 1);
    out.container.write_all(b"root\n").unwrap();
    soon("the line", Duration::from_secs(5), || records(&logs, "sh").len() == 2);
    assert_eq!(records(&logs, "sh"), [record("stdout", false, "login: "), record("stdout", true, "root")]);
}

#[test]
fn driver_none_is_left_to_the_core() {
    let dir = Folder::new();
    assert_eq!(create(&rig(&dir), "web", json!("none")).get("claims"), None);
}

#[test]
fn a_bad_setting_is_a_veto_that_says_where() {
    let dir = Folder::new();
    let event = Event::new(abi::EV_CREATE).of("web");
    let error =
        rig(&dir).fire(event.body(json!({ "service": { "logging": { "max_line": "1G" } } }))).unwrap_err();
    assert!(error.is_veto());
    assert_eq!(error.to_string(), "/logging/max_line: 1073741824 is not in 256 to 65536");
}

#[test]
fn tail_and_follow_of_all_services_also_of_later_ones() {
    let dir = Folder::new();
    let rig = rig(&dir);
    let fifos: Vec<Fifo> = ["ao", "ae", "bo", "be"].iter().map(|name| Fifo::new(&dir.0, name)).collect();
    create(&rig, "a", json!("local"));
    attach(&rig, "a", &fifos[0], &fifos[1]);
    let mut a = &fifos[0].container;
    a.write_all(b"1\n2\n3\n").unwrap();
    soon("three lines", Duration::from_secs(5), || records(&dir.0.join("logs"), "a").len() == 3);
    let all: Vec<String> = lines(read(&rig, json!({ "verb": "read", "services": ["a"] }))).collect();
    assert_eq!(all, ["a stdout F 1", "a stdout F 2", "a stdout F 3"]);
    let mut follow =
        lines(read(&rig, json!({ "verb": "read", "services": null, "follow": true, "tail": 2 })));
    let mut fresh = lines(read(&rig, json!({ "verb": "read", "follow": true, "tail": 0 })));
    assert_eq!([follow.next().unwrap(), follow.next().unwrap()], ["a stdout F 2", "a stdout F 3"]);
    create(&rig, "b", json!("json-file"));
    attach(&rig, "b", &fifos[2], &fifos[3]);
    (&fifos[3].container).write_all(b"from \"b\"\n").unwrap();
    assert_eq!(follow.next().unwrap(), "b stderr F from \"b\"");
    assert_eq!(fresh.next().unwrap(), "b stderr F from \"b\"");
    a.write_all(b"4\n").unwrap();
    assert_eq!(follow.next().unwrap(), "a stdout F 4");
    drop(rig);
    assert_eq!(follow.next(), None, "the pipe ends with the plugin");
}

#[test]
fn old_lines_of_several_services_come_in_the_order_of_time() {
    let dir = Folder::new();
    let rig = rig(&dir);
    let (a, b, err) = (Fifo::new(&dir.0, "a"), Fifo::new(&dir.0, "b"), Fifo::new(&dir.0, "err"));
    for (service, out, driver) in [("a", &a, "local"), ("b", &b, "json-file")] {
        create(&rig, service, json!(driver));
        attach(&rig, service, out, &err);
    }
    for n in 0..6 {
        let (service, out) = if n % 3 == 0 { ("a", &a) } else { ("b", &b) };
        let before = records(&dir.0.join("logs"), service).len();
        writeln!(&out.container, "{n}").unwrap();
        soon("a line", Duration::from_secs(5), || records(&dir.0.join("logs"), service).len() > before);
    }
    let all: Vec<String> = lines(read(&rig, json!({ "verb": "read" }))).collect();
    let order =
        ["a stdout F 0", "b stdout F 1", "b stdout F 2", "a stdout F 3", "b stdout F 4", "b stdout F 5"];
    assert_eq!(all, order);
    let two: Vec<String> = lines(read(&rig, json!({ "verb": "read", "tail": 1 }))).collect();
    assert_eq!(two, ["a stdout F 3", "b stdout F 5"]);
}

#[test]
fn what_comes_between_detach_and_removed_is_logged_too() {
    let dir = Folder::new();
    let (rig, logs) = (rig(&dir), dir.0.join("logs"));
    let (out, mut err) = (Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err"));
    create(&rig, "web", json!({}));
    attach(&rig, "web", &out, &err);
    err.container.write_all(b"last words").unwrap();
    detach(&rig, "web");
    err.container.write_all(b"poststop hook /h: bye\n").unwrap();
    rig.fire(Event::new(abi::EV_REMOVED).of("web")).unwrap();
    let all = [record("stderr", false, "last words"), record("stderr", true, "poststop hook /h: bye")];
    soon("both", Duration::from_secs(5), || records(&logs, "web") == all);
}

/// `removed` is a notification: the next life is attached while the last words of the one before are still being read.
#[test]
fn the_next_life_is_attached_whenever_the_last_one_is_removed() {
    let dir = Folder::new();
    let (rig, logs) = (rig(&dir), dir.0.join("logs"));
    create(&rig, "web", json!({}));
    let pipes: Vec<[Fifo; 2]> = (0..60)
        .map(|n| [Fifo::new(&dir.0, &format!("out{n}")), Fifo::new(&dir.0, &format!("err{n}"))])
        .collect();
    for (n, [out, err]) in pipes.iter().enumerate() {
        attach(&rig, "web", out, err);
        writeln!(&out.container, "life {n}").unwrap();
        soon("this life's line", Duration::from_secs(5), || {
            records(&logs, "web").last().is_some_and(|(_, _, text)| *text == format!("life {n}"))
        });
        detach(&rig, "web");
        writeln!(&err.container, "bye").unwrap();
        drop(rig.start(Event::new(abi::EV_REMOVED).of("web")).unwrap());
    }
    soon("all last words", Duration::from_secs(5), || {
        records(&logs, "web").iter().filter(|(_, _, text)| text == "bye").count() == pipes.len()
    });
}

/// The buffer of a service that must not wait is with the keel from before its first byte until after its last.
#[test]
fn a_buffer_is_kept_over_a_reload_and_not_longer_than_its_service() {
    let dir = Folder::new();
    let (rig, logs) = (rig(&dir), dir.0.join("logs"));
    let (out, err) = (Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err"));
    let spool = (String::new(), "spool".to_owned());
    let with_ring = [(String::new(), "ring/web".to_owned()), spool.clone()];
    let waits = json!({ "mode": "non-blocking", "max_buffer_size": "64K", "drop": "newest" });
    for life in 0..2 {
        create(&rig, "web", waits.clone());
        attach(&rig, "web", &out, &err);
        assert_eq!(rig.kept(), with_ring);
        writeln!(&out.container, "life {life}").unwrap();
        rig.close_and_reopen().unwrap();
        attach(&rig, "web", &out, &err);
        assert_eq!(rig.kept(), with_ring);
        writeln!(&err.container, "after a reload").unwrap();
        detach(&rig, "web");
        assert_eq!(rig.kept(), std::slice::from_ref(&spool));
        writeln!(&err.container, "last words").unwrap();
        rig.fire(Event::new(abi::EV_REMOVED).of("web")).unwrap();
    }
    // Another size, and then none.
    create(&rig, "web", json!({ "mode": "non-blocking" }));
    attach(&rig, "web", &out, &err);
    detach(&rig, "web");
    create(&rig, "web", json!({ "mode": "blocking", "max_buffer_size": "64K" }));
    attach(&rig, "web", &out, &err);
    assert_eq!(rig.kept(), [spool]);
    writeln!(&out.container, "the end").unwrap();
    detach(&rig, "web");
    let text = |stream: &str| String::from_utf8(written(&logs, "web", stream)).unwrap();
    assert_eq!(text("stdout"), "life 0\nlife 1\nthe end\n");
    assert_eq!(text("stderr"), "after a reload\nlast words\n".repeat(2));
}

#[test]
fn a_buffer_whose_detach_was_given_up_is_not_kept_for_ever() {
    on_a_disk(|disk| {
        let (rig, logs) = (
            Rig::new::<Logging>(json!({ "dir": disk.mount.join("logs") })).unwrap(),
            disk.mount.join("logs"),
        );
        let pipes = ["out", "err", "out2", "err2"].map(|name| Fifo::new(&disk.folder.0, name));
        for (service, pipes) in ["web", "db"].into_iter().zip(pipes.chunks(2)) {
            create(&rig, service, json!({ "mode": "non-blocking" }));
            attach(&rig, service, &pipes[0], &pipes[1]);
        }
        writeln!(&pipes[0].container, "one").unwrap();
        soon("a line", Duration::from_secs(5), || records(&logs, "web").len() == 1);
        disk.freeze();
        writeln!(&pipes[0].container, "two").unwrap();
        let gone = rig.start(Event::new(abi::EV_DETACH).of("web").body(json!({ "final": true }))).unwrap();
        rig.cancel(&gone);
        gone.wait().unwrap_err();
        assert!(rig.kept().iter().any(|(_, key)| key == "ring/web"));
        disk.thaw();
        rig.fire(Event::new(abi::EV_REMOVED).of("web")).unwrap();
        detach(&rig, "db");
        assert_eq!(rig.kept(), [(String::new(), "spool".to_owned())]);
        assert_eq!(written(&logs, "web", "stdout"), b"one\ntwo\n");
    });
}

/// Every process of sampand was killed at once: also of what does not run any more, and before anything that comes later.
#[test]
fn what_was_lost_is_marked_once() {
    let dir = Folder::new();
    let (rig, logs) = (rig(&dir), dir.0.join("logs"));
    let (mut out, err) = (Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err"));
    let mark = "lines may be missing before this: every process of sampand was killed at once";
    let lost = |service: &str, flags: u16| Event::new(abi::EV_ATTACH).of(service).flags(abi::F_LOST | flags);
    writeln!(out.container, "in the pipe").unwrap();
    create(&rig, "web", json!({ "driver": "json-file" }));
    let ends = lost("web", abi::F_REPLAY).fd(Role::Stdout, out.read_end()).fd(Role::Stderr, err.read_end());
    rig.fire(ends.pid(1)).unwrap();
    attach(&rig, "web", &out, &err);
    detach(&rig, "web");
    assert_eq!(records(&logs, "web"), [record("stderr", true, mark), record("stdout", true, "in the pipe")]);
    rig.fire(lost("gone", 0)).unwrap();
    assert_eq!(records(&logs, "gone"), [record("stderr", true, mark)]);
    let status = rig.fire(Event::new(abi::EV_CONTROL).body(json!({ "verb": "status" }))).unwrap();
    assert_eq!(status.json, json!({}), "nothing stays of them");
}
