//! A child carries out its image, reports where it fails, and ends when its parent is gone.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use sampan_child::image::{self, Header, Image};
use sampan_child::report::{self, Report};
use sampan_child::step::{Environment, Filter, List, Numbers, Slot, Step, Text};
use sampan_child::sys::{self, Call};

/// An image by hand: strings are added as steps need them.
#[derive(Default)]
struct Images {
    steps: Vec<Step>,
    text: Vec<u8>,
}

impl Images {
    fn list(&mut self, strings: &[&str]) -> List {
        let first = Text(self.text.len() as u32);
        for s in strings {
            self.text.extend_from_slice(s.as_bytes());
            self.text.push(0);
        }
        List { first, count: strings.len() as u32 }
    }
    fn numbers(&mut self, numbers: &[u32]) -> Numbers {
        let first = Text(self.text.len() as u32);
        self.text.extend(numbers.iter().flat_map(|n| n.to_ne_bytes()));
        Numbers { first, count: numbers.len() as u32 }
    }
    fn text(&mut self, s: &str) -> Text {
        self.list(&[s]).first
    }
    fn exec(&mut self, argv: &[&str]) {
        let candidates = self.list(&argv[..1]);
        let argv = self.list(argv);
        let env = self.list(&["A=1"]);
        self.steps.push(Step::Find { candidates });
        self.steps.push(Step::Exec { argv, env, filter: Filter::default() });
    }
    fn bytes(mut self, slots: u32) -> Vec<u8> {
        self.text.push(0);
        let header = Header {
            clone_flags: 0,
            cgroup: Slot::NONE,
            report: Slot(0),
            trace: Slot::NONE,
            slots,
            steps: self.steps.len() as u32,
            text: self.text.len() as u32,
        };
        let mut bytes: Vec<u8> = header.encode().iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend(self.steps.iter().flat_map(|s| s.encode()).flat_map(u32::to_le_bytes));
        bytes.extend_from_slice(&self.text);
        assert_eq!(bytes.len(), image::HEADER * 4 + self.steps.len() * image::STEP + self.text.len());
        bytes
    }
}

fn pipe() -> (File, File) {
    let mut fds = [0; 2];
    // SAFETY: pipe2 fills two ints; the descriptors are new and ours.
    unsafe {
        assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(fds[0]).into(), OwnedFd::from_raw_fd(fds[1]).into())
    }
}

/// Runs an image whose slots are the report and what else is given: its exit code, and all reports.
fn run(images: Images, slots: &[i32], meanwhile: impl FnOnce()) -> (u32, Vec<Report>) {
    let (mut read, write) = pipe();
    let slots: Vec<i32> = [write.as_raw_fd()].into_iter().chain(slots.iter().copied()).collect();
    let bytes = images.bytes(slots.len() as u32);
    let image = Image::check(&bytes).unwrap();
    let child = sampan_child::spawn(&image, &slots).unwrap();
    drop(write);
    meanwhile();
    let mut reports = Vec::new();
    read.read_to_end(&mut reports).unwrap();
    let code = sys::reap(child.pidfd).unwrap();
    sys::close(child.pidfd);
    (
        code,
        reports.chunks_exact(report::SIZE).map(|c| Report::decode(c.try_into().unwrap()).unwrap()).collect(),
    )
}

#[test]
fn a_program_runs_and_the_report_ends_in_silence() {
    let mut i = Images::default();
    i.steps.push(Step::Signals {});
    i.exec(&["/bin/sh", "-c", "exit $((A + 6))"]);
    assert_eq!(run(i, &[], || {}), (7, vec![]));
}

#[test]
fn a_child_begins_on_the_cpus_that_are_asked_for_and_its_spawner_goes_back_to_its_own() {
    let before = sys::own_cpus().unwrap();
    let (word, bits) = before.iter().copied().enumerate().rfind(|(_, bits)| *bits != 0).unwrap();
    let last = word as u32 * 32 + bits.ilog2();
    let mut i = Images::default();
    let mut mask = vec![0; word + 1];
    mask[word] = 1 << bits.ilog2();
    let mask = i.numbers(&mask);
    i.steps.push(Step::StartOn { mask });
    i.exec(&["/bin/grep", "-qx", &format!("Cpus_allowed_list:.{last}"), "/proc/self/status"]);
    assert_eq!(run(i, &[], || {}), (0, vec![]));
    assert_eq!(sys::own_cpus().unwrap(), before);

    // One that cannot be is the spawner's failure, and changes nothing.
    let mut i = Images::default();
    let mask = i.numbers(&[0]);
    i.steps.push(Step::StartOn { mask });
    let bytes = i.bytes(1);
    let fault = sampan_child::spawn(&Image::check(&bytes).unwrap(), &[0]).unwrap_err();
    assert_eq!((fault.call, fault.errno, fault.detail), (Call::sched_setaffinity, libc::EINVAL as u16, 0));
    assert_eq!(sys::own_cpus().unwrap(), before);
}

#[test]
fn the_step_that_fails_is_named() {
    let mut i = Images::default();
    i.steps.push(Step::Reached { mark: 7 });
    let path = i.text("/no/such/folder");
    i.steps.push(Step::Chdir { path });
    i.exec(&["/bin/true"]);
    let failed = Report::Failed { step: 1, call: Call::chdir, errno: libc::ENOENT as u16, detail: 0 };
    assert_eq!(run(i, &[], || {}), (127, vec![Report::Reached { mark: 7 }, failed]));
}

#[test]
fn not_allowed_outranks_not_there() {
    let mut i = Images::default();
    let candidates = i.list(&["/no/such", "/etc/passwd", "/nor/this"]);
    i.steps.push(Step::Find { candidates });
    let (code, reports) = run(i, &[], || {});
    assert_eq!(code, 127);
    assert!(matches!(reports[..], [Report::Failed { step: 0, errno: 13, .. }]), "{reports:?}");
}

#[test]
fn a_gate_opens_by_a_byte_and_its_end_ends_the_child() {
    for (opened, expected) in [(true, 0), (false, 125)] {
        let (read, mut write) = pipe();
        let mut i = Images::default();
        // Or its own copy of the write end would keep the gate from ever ending.
        let keep = i.numbers(&[0, 1]);
        i.steps.push(Step::Close { first: 3, keep });
        i.steps.push(Step::Wait { from: Slot(1) });
        i.exec(&["/bin/true"]);
        let slot = read.as_raw_fd();
        let (code, reports) = run(i, &[slot], move || {
            if opened {
                write.write_all(b"g").unwrap();
            }
        });
        assert_eq!((code, reports), (expected, vec![]));
    }
}

/// Whoever has its uid may stop the process that is born first, after it has said that it goes on in another one.
#[test]
fn a_first_process_that_does_not_end_holds_up_no_spawner() {
    let (mut read, write) = pipe();
    let (gate, mut open) = pipe();
    let mut i = Images::default();
    let keep = i.numbers(&[0, 1]);
    i.steps.push(Step::Close { first: 3, keep });
    i.steps.push(Step::Wait { from: Slot(1) });
    i.steps.push(Step::GoOnInChild { wait_ms: 100 });
    i.exec(&["/bin/sleep", "100"]);
    let slots = [write.as_raw_fd(), gate.as_raw_fd()];
    let bytes = i.bytes(2);
    let (tell, told) = std::sync::mpsc::channel();
    let spawner = std::thread::spawn(move || {
        tell.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
        let begin = std::time::Instant::now();
        let spawned = sampan_child::spawn(&Image::check(&bytes).unwrap(), &slots);
        (spawned, begin.elapsed())
    });
    let children = std::path::Path::new("/proc").join(told.recv().unwrap()).join("children");
    let first: i32 = loop {
        if let Ok(pid) = std::fs::read_to_string(&children).unwrap().trim().parse() {
            break pid;
        }
    };
    // It stops on its way out, where not even SIGKILL moves it.
    // SAFETY: integers alone; the process is our child.
    unsafe {
        let options = libc::PTRACE_O_TRACEEXIT as usize;
        assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, first, 0_usize, options), 0);
    }
    open.write_all(b"g").unwrap();
    let (spawned, took) = spawner.join().unwrap();
    let spawned = spawned.unwrap();
    assert_ne!(spawned.pid as i32, first);
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
    sys::kill(spawned.pidfd);
    assert!(sys::reap(spawned.pidfd).is_ok());
    sys::close(spawned.pidfd);
    // SAFETY: integers alone, and a null pointer for a status that nobody asks for; the process is our child.
    unsafe {
        let status = std::ptr::null_mut();
        assert_eq!(libc::waitpid(first, status, libc::__WALL), first);
        assert_eq!(libc::ptrace(libc::PTRACE_DETACH, first, 0_usize, 0_usize), 0);
        assert_eq!(libc::waitpid(first, status, 0), first);
    }
    drop(write);
    read.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn only_what_is_preserved_reaches_the_program() {
    let (read, write) = pipe();
    let mut i = Images::default();
    i.steps.push(Step::Stdio { from: Slot(1), to: 1 });
    i.steps.push(Step::CloseOnExec { first: 3 });
    i.exec(&["/bin/sh", "-c", "ls /proc/self/fd | wc -l"]);
    let slot = write.as_raw_fd();
    let (code, reports) = run(i, &[slot], || {});
    drop(write);
    let mut text = String::new();
    (&read).read_to_string(&mut text).unwrap();
    // Three, and the one that ls opened to look.
    assert_eq!((code, reports, text.trim()), (0, vec![], "4"));
}

/// Also a slot's own: a directory that stays open is a way out (CVE-2024-21626).
#[test]
fn what_no_later_step_uses_is_closed_and_not_only_at_exec() {
    let directory = File::open("/").unwrap();
    let number = directory.as_raw_fd();
    for kept in [true, false] {
        let mut i = Images::default();
        let keep = i.numbers(if kept { &[0, 1] } else { &[0] });
        i.steps.push(Step::Close { first: 3, keep });
        let path = i.text(&format!("/proc/self/fd/{number}/bin"));
        i.steps.push(Step::Chdir { path });
        i.exec(&["/bin/true"]);
        let (code, reports) = run(i, &[number], || {});
        assert_eq!((code, reports.is_empty()), if kept { (0, true) } else { (127, false) }, "{reports:?}");
    }
}

/// A filter that answers every call with an error: no execve, no report, no exit.
#[test]
fn a_process_whose_filter_denies_everything_still_ends() {
    let mut i = Images::default();
    i.exec(&["/bin/true"]);
    let Some(Step::Exec { argv, env, .. }) = i.steps.pop() else { panic!() };
    i.text.resize(i.text.len().next_multiple_of(8), 0);
    let program = Text(i.text.len() as u32);
    // BPF_RET | BPF_K of SECCOMP_RET_ERRNO with EPERM.
    i.text.extend([6u16.to_ne_bytes(), [0, 0]].concat());
    i.text.extend(0x0005_0001u32.to_ne_bytes());
    i.steps.push(Step::NoNewPrivs {});
    i.steps.push(Step::Exec { argv, env, filter: Filter { program, insns: 1, flags: 0 } });
    assert_eq!(run(i, &[], || {}), (128 + libc::SIGILL as u32, vec![]));
}

#[test]
fn an_image_may_ask_for_new_namespaces_and_for_nothing_else_of_clone3() {
    let image = |flags: i32| {
        let mut i = Images::default();
        i.exec(&["/bin/true"]);
        let mut bytes = i.bytes(1);
        bytes[8..12].copy_from_slice(&flags.to_le_bytes());
        Image::check(&bytes).map(drop)
    };
    assert_eq!(image(libc::CLONE_NEWPID | libc::CLONE_NEWUSER), Ok(()));
    for flag in [libc::CLONE_VM, libc::CLONE_PARENT, libc::CLONE_FILES, libc::CLONE_THREAD, 0x400] {
        assert_eq!(image(flag), Err(image::Fault::CloneFlags), "{flag:#x}");
    }
}

#[test]
fn hooks_get_the_state_and_are_judged_by_their_status() {
    let hook = |script: &str, timeout_s: u32| {
        let mut i = Images::default();
        let argv = i.list(&["/bin/sh", "sh", "-c", script]);
        let env = Environment::Own(i.list(&[]));
        let state = i.list(&["{\"pid\":", "}"]).first;
        i.steps.push(Step::Hook { argv, env, state, timeout_s, output: Slot(1) });
        let (_read, write) = pipe();
        run(i, &[write.as_raw_fd()], || {})
    };
    let of = |(code, reports): (u32, Vec<Report>)| match reports[..] {
        [] => (code, 0, 0),
        [Report::Failed { errno, detail, .. }] => (code, errno, detail),
        _ => panic!("{reports:?}"),
    };
    assert_eq!(of(hook("grep -q '^{\"pid\":[0-9][0-9]*}$'", 0)), (0, 0, 0));
    assert_eq!(of(hook("exit 3", 5)), (127, 0, 3));
    assert_eq!(of(hook("kill -9 $$", 5)), (127, 0, 137));
    assert_eq!(of(hook("sleep 30", 1)), (127, libc::ETIMEDOUT as u16, 1));
}

#[test]
fn every_step_is_timed_where_a_trace_is_given() {
    let mut file = tempfile();
    file.set_len(8 * 4).unwrap();
    let mut i = Images::default();
    i.steps.extend([Step::Signals {}, Step::Umask { mask: 0o22 }]);
    let (mut read, write) = pipe();
    i.text.push(0);
    let mut bytes = i.bytes(2);
    bytes[24..28].copy_from_slice(&1u32.to_le_bytes()); // the trace's slot
    let image = Image::check(&bytes).unwrap();
    let child = sampan_child::spawn(&image, &[write.as_raw_fd(), file.as_raw_fd()]).unwrap();
    drop(write);
    read.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(sys::reap(child.pidfd).unwrap(), 0);
    let mut times = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut times).unwrap();
    let times: Vec<u64> = times.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
    assert!(times[0] > 0 && times[0] <= times[1] && times[1] <= times[2] && times[3] == 0, "{times:?}");
}

fn tempfile() -> File {
    // SAFETY: the name is a C string; the descriptor is new and ours.
    unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"trace".as_ptr(), libc::MFD_CLOEXEC)).into() }
}
