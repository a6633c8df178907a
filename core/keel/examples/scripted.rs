//! A sampand whose worker does what it is told on stdin, line by line, and says the outcome on stdout: the real
//! keel, with nothing above it. The tests of the keel drive it (tests/keel.rs); by hand:
//! `cargo run --example scripted`, then `launch web sleep 60`, `list`, and `kill -9` of the worker.
#![allow(clippy::print_stdout)]

#[path = "../tests/image.rs"]
mod image;

use image::{image, null};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use sampan_keel::{self as keel, EXIT_AGAIN, Exit, Handle, Keel};
use sampan_runtime::launch::{Spawn, Spawned};
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Outcome = Result<String, Box<dyn std::error::Error>>;

fn main() {
    let (keel, arguments) = match keel::enter() {
        Ok(entered) => entered,
        Err(error) => {
            eprintln!("scripted: {error}");
            exit(2);
        }
    };
    let arguments: Vec<String> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    if has("--crash") {
        std::process::abort();
    }
    if has("--bad-config") {
        exit(2);
    }
    if has("--fails") {
        exit(1);
    }
    for signal in [1, 2, 15] {
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    if !has("--slow") {
        let _ = hear(&keel);
    }
    let (before, fate) = keel.predecessor();
    say(&format!("worker {before} {} {fate:?}", std::process::id()));
    // The keel is gone, or nobody will ever say anything again.
    while let Some(line) = read_line() {
        match obey(&keel, &line) {
            Ok(outcome) => say(&outcome),
            Err(error) => say(&format!("error {}", error.to_string().replace('\n', " "))),
        }
    }
    exit(0);
}

fn obey(keel: &Keel, line: &str) -> Outcome {
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(match *words.as_slice() {
        ["launch", tag, ..] => {
            let command = line.splitn(3, ' ').nth(2).unwrap_or("true");
            format!("pid {}", launch(keel, tag, command)?)
        }
        // Goes on until somebody kills us. First it says that the line has been read: what is left of one is the next worker's.
        ["storm"] => {
            say("storm");
            for n in 0..u32::MAX {
                let pid =
                    launch(keel, &format!("storm-{n}"), &format!("sleep 0.0{}; exit {}", n % 9, n % 200))?;
                keel.keep(&format!("kept-{n}"), Some(std::io::stdin().as_fd()))?;
                if n % 3 == 0 {
                    while keel.peek(pid)?.is_none() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    // What is on stdout is written down; only then it may be reaped.
                    say(&format!("reaping {n} {}", n % 200));
                    keel.reap(pid)?;
                }
                say(&format!("launched {n}"));
            }
            String::new()
        }
        ["barrier", tag] => {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let child = keel.launch(&image("exit 0", true), &[null()?.as_fd(), read.as_fd()], tag)?;
            // Ours until we die.
            core::mem::forget(write);
            format!("pid {}", child.pid)
        }
        ["peek", pid] => match keel.peek(pid.parse()?)? {
            None => "runs".into(),
            Some(how) => ended(how),
        },
        // As the worker does: the end, then the end of it.
        ["finish", pid] => {
            let pid = pid.parse()?;
            while keel.peek(pid)?.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            ended(keel.reap(pid)?)
        }
        ["finish-all"] => {
            let mut ends = Vec::new();
            for child in keel.list()?.children {
                ends.push(obey(keel, &format!("finish {}", child.pid))?);
            }
            ends.join(" ")
        }
        ["kill-all"] => {
            for child in keel.list()?.children {
                let _ = sampan_runtime::kernel::pidfd::send(child.pidfd.as_fd(), 9);
                sampan_runtime::kernel::pidfd::wait(child.pidfd.as_fd(), None)?;
                keel.let_go(&child.handle)?;
            }
            "killed".into()
        }
        ["reap", pid] => ended(keel.reap(pid.parse()?)?),
        ["list"] => {
            let list = keel.list()?;
            let mut children: Vec<String> =
                list.children.iter().map(|c| format!("{}={}", c.tag, c.pid)).collect();
            children.extend(list.keys.iter().map(|key| format!("+{key}")));
            children.join(" ")
        }
        ["wait", tag] => {
            let list = keel.list()?;
            let child = list.children.iter().find(|c| c.tag == tag).ok_or("no such tag")?;
            let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
            poll(&mut fds, None)?;
            if let Handle::Orphan(_) = child.handle {
                let process = Spawned { pid: child.pid, pidfd: child.pidfd.try_clone()? };
                return Ok(format!("orphan {:?}", keel.launcher_of(child, tag).peek(&process)?));
            }
            ended(keel.peek(child.pid)?.ok_or("the pidfd fired, and it runs")?)
        }
        ["keep", key, text] => {
            let memfd = rustix::fs::memfd_create("kept", rustix::fs::MemfdFlags::CLOEXEC)?;
            rustix::io::write(&memfd, text.as_bytes())?;
            keel.keep(key, Some(memfd.as_fd()))?;
            "kept".into()
        }
        ["drop", key] => {
            keel.keep(key, None)?;
            "dropped".into()
        }
        ["fetch", key] => match keel.fetch(key)? {
            None => "nothing".into(),
            Some(fd) => {
                let mut text = [0; 100];
                let got = rustix::io::pread(&fd, &mut text, 0)?;
                String::from_utf8_lossy(text.get(..got).unwrap_or_default()).into_owned()
            }
        },
        ["claim", run, state, parent] => {
            let claim = keel::rundir::claim(run.as_ref(), state.as_ref(), keel)?;
            keel::rundir::claim_groups(parent, keel)?;
            format!("claimed {}{}", claim.rebooted, if claim.taken_over { " taken over" } else { "" })
        }
        // One more connection; the keel keeps our end, so that it outlives us.
        ["connect"] => {
            keel.keep("link", Some(keel.connect()?.as_fd()))?;
            "connected".into()
        }
        ["through-the-link", ..] => {
            let link = Keel::connected(keel.fetch("link")?.ok_or("no link")?)?;
            obey(&link, line.split_once(' ').map_or("", |(_, rest)| rest))?
        }
        // One descriptor, many times over.
        ["launch-with", slots, tag] => {
            let null = null()?;
            let slots = vec![null.as_fd(); slots.parse()?];
            format!("pid {}", keel.launch(&image("exit 0", false), &slots, tag)?.pid)
        }
        // Descriptors that are on their way, as the kernel counts them for each user.
        ["in-flight", count] => in_flight(count.parse()?)?,
        ["of-the-loop", ..] => {
            obey(&*keel.of_the_loop()?, line.split_once(' ').map_or("", |(_, rest)| rest))?
        }
        ["rubbish"] => {
            rustix::net::send(keel.socket(), b"rubbish", rustix::net::SendFlags::empty())?;
            "sent".into()
        }
        ["ready"] => {
            hear(keel)?;
            "ready".into()
        }
        ["holder"] => keel.holder()?.map_or("none".into(), |pid| pid.to_string()),
        ["ending"] => {
            keel.note_ending(keel::Ending::Everything)?;
            "noted".into()
        }
        ["answered-before-a-peek", threads] => answered_before_a_peek(keel, threads.parse()?)?.to_string(),
        ["zombies"] => zombies()?.to_string(),
        ["worker"] => std::process::id().to_string(),
        ["keel"] => std::os::unix::process::parent_id().to_string(),
        ["again"] => exit(EXIT_AGAIN.into()),
        ["leave", code] => {
            rustix::net::shutdown(keel.socket(), rustix::net::Shutdown::Both)?;
            std::thread::sleep(Duration::from_millis(200));
            exit(code.parse()?)
        }
        ["exit", code] => exit(code.parse()?),
        ["abort"] => std::process::abort(),
        ["hang", ms] => {
            let _turn = keel.watchdog().turn(Duration::from_millis(ms.parse()?));
            std::thread::sleep(Duration::from_secs(60));
            "woke up".into()
        }
        ["turn"] => {
            drop(keel.watchdog().turn(Duration::from_millis(100)));
            std::thread::sleep(Duration::from_millis(300));
            "turned".into()
        }
        _ => "what?".into(),
    })
}

/// Sent to ourselves and not received, until the next call.
fn in_flight(count: usize) -> Outcome {
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    };
    static PAIR: Mutex<Option<[rustix::fd::OwnedFd; 2]>> = Mutex::new(None);
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let fds = vec![pair.0.as_fd(); count];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(&pair.0, &[std::io::IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    *PAIR.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some([pair.0, pair.1]);
    Ok("sent".into())
}

/// Says what the keel orders, and what it was asked before.
fn hear(keel: &Keel) -> Result<(), keel::Error> {
    let (ending, pipe) = keel.orders()?;
    if ending != keel::Ending::No {
        say(&format!("ending {ending:?}"));
    }
    std::thread::spawn(move || {
        let mut byte = [0];
        loop {
            let _ = poll(&mut [PollFd::new(&pipe, PollFlags::IN)], None);
            if rustix::io::read(&pipe, &mut byte) != Ok(1) {
                continue;
            }
            let Some(order) = keel::Order::from_byte(byte[0]) else { continue };
            match keel::Order::SIGNALS.iter().find(|(_, of)| *of == order) {
                Some((signal, _)) => say(&format!("signal {signal}")),
                None => say(&format!("{order:?}")),
            }
        }
    });
    keel.ready()
}

/// The median of how many requests of others are answered while the loop asks once.
fn answered_before_a_peek(keel: &Keel, threads: u32) -> Result<u32, Box<dyn std::error::Error>> {
    let pid = launch(keel, "peeked", "exec sleep 100")?;
    let of_the_loop = keel.of_the_loop()?;
    let (done, over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let asking = (0..threads).map(|_| {
        let (keel, done, over) = (keel.clone(), done.clone(), over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) && keel.peek(pid).is_ok() {
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let asking: Vec<_> = asking.collect();
    let mut counts = Vec::new();
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(1));
        let before = done.load(Ordering::Relaxed);
        of_the_loop.peek(pid)?;
        counts.push(done.load(Ordering::Relaxed) - before);
    }
    over.store(true, Ordering::Relaxed);
    asking.into_iter().for_each(|thread| drop(thread.join()));
    for child in keel.list()?.children {
        let _ = sampan_runtime::kernel::pidfd::send(child.pidfd.as_fd(), 9);
        sampan_runtime::kernel::pidfd::wait(child.pidfd.as_fd(), None)?;
        keel.let_go(&child.handle)?;
    }
    counts.sort_unstable();
    Ok(counts[counts.len() / 2])
}

fn launch(keel: &Keel, tag: &str, command: &str) -> Result<i32, Box<dyn std::error::Error>> {
    Ok(keel.launch(&image(command, false), &[null()?.as_fd()], tag)?.pid)
}

/// In the /proc that is mounted here.
fn zombies() -> std::io::Result<usize> {
    let is_zombie = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    Ok(std::fs::read_dir("/proc")?.filter_map(Result::ok).filter_map(|e| is_zombie(e).then_some(())).count())
}

fn ended(how: Exit) -> String {
    match how {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal { number, .. } => format!("signal {number}"),
    }
}

/// Byte by byte: what is not read yet belongs to the worker after us.
fn read_line() -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(1) if byte[0] == b'\n' => return Some(String::from_utf8_lossy(&line).into_owned()),
            Ok(1) => line.push(byte[0]),
            _ => return None,
        }
    }
}

fn say(line: &str) {
    // One write: a line is seen whole or not at all, also by those who kill us.
    let _ = rustix::io::write(rustix::stdio::stdout(), format!("{line}\n").as_bytes());
}
