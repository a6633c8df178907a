//! The conversation with a message bus and systemd behind it. What is expected and what is answered are bytes that another
//! implementation of D-Bus (jeepney 0.9) wrote for the same calls.
#![allow(clippy::unwrap_used)]

use sampan_systemd::{Error, Manager, Scope};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

const START: &str = "6c010001f800000004000000b600000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64310000000000000002017300200000006f72672e667265656465736b746f702e73797374656d64312e4d616e616765720000000000000000030173001200000053746172745472616e7369656e74556e697400000000000006017300180000006f72672e667265656465736b746f702e73797374656d643100000000000000000801670010737361287376296128736128737629290000000c00000073616d70616e2e73636f706500000000040000006661696c00000000c8000000000000000b0000004465736372697074696f6e000173000015000000436f6e7461696e657273206f662073616d70616e6400000005000000536c696365000173000000000c00000073797374656d2e736c69636500000000000000000800000044656c6567617465000162000100000000000000080000005461736b734d617800017400ffffffffffffffff060000004265666f7265000261730000140000000f00000073616d70616e642e73657276696365000400000050494473000261750000000004000000290000000000000000000000";
const ATTACH: &str = "6c0100012c00000005000000aa00000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64310000000000000002017300200000006f72672e667265656465736b746f702e73797374656d64312e4d616e616765720000000000000000030173001500000041747461636850726f636573736573546f556e697400000006017300180000006f72672e667265656465736b746f702e73797374656d64310000000000000000080167000473736175000000000000000c00000073616d70616e2e73636f706500000000070000002f686f6c6465720008000000290000002a000000";
const HELLO: &str = "6c020001090000000100000047000000050175000100000006017300040000003a312e370000000007017300180000006f72672e667265656465736b746f702e73797374656d643100000000000000000801670001730000040000003a312e3700";
const EMPTY2: &str = "6c020001000000000200000039000000050175000200000006017300040000003a312e370000000007017300180000006f72672e667265656465736b746f702e73797374656d64310000000000000000";
const EMPTY3: &str = "6c020001000000000300000039000000050175000300000006017300040000003a312e370000000007017300180000006f72672e667265656465736b746f702e73797374656d64310000000000000000";
const JOB: &str = "6c020001250000000900000047000000050175000400000006017300040000003a312e370000000007017300180000006f72672e667265656465736b746f702e73797374656d6431000000000000000008016700016f0000200000002f6f72672f667265656465736b746f702f73797374656d64312f6a6f622f373700";
const OTHER: &str = "6c04000145000000080000007a00000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64310000000000000002017300200000006f72672e667265656465736b746f702e73797374656d64312e4d616e616765720000000000000000030173000a0000004a6f6252656d6f7665640000000000000801670004756f7373000000000000004c000000200000002f6f72672f667265656465736b746f702f73797374656d64312f6a6f622f37360000000009000000612e7365727669636500000004000000646f6e6500";
const DONE: &str = "6c040001490000000a0000007a00000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64310000000000000002017300200000006f72672e667265656465736b746f702e73797374656d64312e4d616e616765720000000000000000030173000a0000004a6f6252656d6f7665640000000000000801670004756f7373000000000000004d000000200000002f6f72672f667265656465736b746f702f73797374656d64312f6a6f622f3737000000000c00000073616d70616e2e73636f70650000000004000000646f6e6500";
const BAD: &str = "6c0400014b0000000a0000007a00000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64310000000000000002017300200000006f72672e667265656465736b746f702e73797374656d64312e4d616e616765720000000000000000030173000a0000004a6f6252656d6f7665640000000000000801670004756f7373000000000000004d000000200000002f6f72672f667265656465736b746f702f73797374656d64312f6a6f622f3737000000000c00000073616d70616e2e73636f706500000000060000006661696c656400";
const ERR: &str = "42030001000000260000000b0000003f04017300000000236f72672e667265656465736b746f702e73797374656d64312e556e697445786973747300000000000501750000000004080167000173000000000021556e69742073616d70616e2e73636f706520616c7265616479206578697374732e00";

const SCOPE: Scope<'_> = Scope {
    name: "sampan.scope",
    description: "Containers of sampand",
    slice: "system.slice",
    before: &["sampand.service"],
    pids: &[41],
};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A bus that greets, then reads as many bytes as each call has and answers it. It gives back what it read.
fn bus(
    conversation: &'static [(&'static str, &'static [&'static str])],
) -> (UnixStream, JoinHandle<Vec<Vec<u8>>>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let served = std::thread::spawn(move || {
        let mut auth = [0; 64];
        let count = theirs.read(&mut auth).unwrap();
        let uid: String =
            rustix::process::geteuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        assert_eq!(String::from_utf8_lossy(&auth[..count]), format!("\0AUTH EXTERNAL {uid}\r\n"));
        theirs.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        let mut begin = [0; 7];
        theirs.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"BEGIN\r\n");
        for answer in [HELLO, EMPTY2, EMPTY3] {
            let mut rest = vec![0; message(&mut theirs)];
            theirs.read_exact(&mut rest).unwrap();
            theirs.write_all(&bytes(answer)).unwrap();
        }
        let mut calls = Vec::new();
        for (call, answers) in conversation {
            let mut read = vec![0; bytes(call).len()];
            theirs.read_exact(&mut read).unwrap();
            calls.push(read);
            answers.iter().for_each(|answer| theirs.write_all(&bytes(answer)).unwrap());
        }
        calls
    });
    (ours, served)
}

/// Reads the first half of a message's header and says how much follows.
fn message(stream: &mut UnixStream) -> usize {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).unwrap();
    let number = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().unwrap()) as usize;
    number(12).next_multiple_of(8) + number(4)
}

fn manager(stream: UnixStream) -> Manager {
    Manager::over(stream, Duration::from_secs(10)).unwrap()
}

#[test]
fn a_scope_is_there_when_its_own_job_is_done() {
    let (stream, served) = bus(&[(START, &[OTHER, JOB, OTHER, DONE])]);
    manager(stream).start_scope(&SCOPE).unwrap();
    assert_eq!(served.join().unwrap(), [bytes(START)]);
}

#[test]
fn a_job_that_fails_is_an_error() {
    let (stream, served) = bus(&[(START, &[JOB, BAD])]);
    let error = manager(stream).start_scope(&SCOPE).unwrap_err();
    assert_eq!(error.to_string(), "systemd ended sampan.scope's job with 'failed'");
    served.join().unwrap();
}

/// Also in the other byte order, in which a bus may answer.
#[test]
fn a_refusal_has_systemds_words() {
    let (stream, served) = bus(&[(START, &[ERR])]);
    let error = manager(stream).start_scope(&SCOPE).unwrap_err();
    assert!(matches!(&error, Error::Failed { name, .. } if name == "org.freedesktop.systemd1.UnitExists"));
    assert!(error.to_string().contains("Unit sampan.scope already exists."), "{error}");
    served.join().unwrap();
}

#[test]
fn processes_go_into_a_group_below_a_unit() {
    const ANSWER: &str = "6c020001000000000300000039000000050175000500000006017300040000003a312e370000000007017300180000006f72672e667265656465736b746f702e73797374656d64310000000000000000";
    let (stream, served) = bus(&[(START, &[JOB, DONE]), (ATTACH, &[ANSWER])]);
    let mut manager = manager(stream);
    manager.start_scope(&SCOPE).unwrap();
    manager.attach("sampan.scope", "/holder", &[41, 42]).unwrap();
    assert_eq!(served.join().unwrap(), [bytes(START), bytes(ATTACH)]);
}

#[test]
fn a_bus_that_says_nothing_is_waited_for_with_a_limit() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(Manager::over(ours, Duration::from_millis(20)).is_err());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"OK 0\r\n").unwrap();
    let error = Manager::over(ours, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, Error::Late { .. }), "{error}");
}

#[test]
fn what_is_no_message_is_an_error() {
    for rubbish in [
        "00".repeat(16),
        format!("6c020001ffffffff01000000{}", "ffffffff"),
        HELLO[..HELLO.len() - 8].to_owned() + "ffffffff",
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"OK 0\r\n").unwrap();
        theirs.write_all(&bytes(&rubbish)).unwrap();
        drop(theirs.shutdown(std::net::Shutdown::Write));
        assert!(Manager::over(ours, Duration::from_secs(5)).is_err(), "{rubbish}");
    }
}
