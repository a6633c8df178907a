//! What the tests need: a folder that goes away, a FIFO, and a way to read logs back.
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use logging::config::Driver;
use logging::pack::Source;
use logging::record::parse;
use logging::segments::{list, path};

pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("sampan-logging-{}-{n}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As sampand makes them: the container's side is open for reading and writing, so there is never an EOF.
pub struct Fifo {
    pub container: File,
    pub path: PathBuf,
}

impl Fifo {
    pub fn new(dir: &Path, name: &str) -> Fifo {
        let path = dir.join(name);
        let c = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated path.
        assert_eq!(unsafe { libc::mkfifo(c.as_ptr(), 0o600) }, 0);
        let container = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Fifo { container, path }
    }

    pub fn read_end(&self) -> OwnedFd {
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path).unwrap().into()
    }
}

/// The records of a segment, compressed or not. None: it is gone.
pub fn segment(plain: &Path) -> Option<Vec<u8>> {
    let (mut source, mut all, mut buffer) = (Source::open(plain).ok()?, Vec::new(), vec![0; 64 << 10]);
    loop {
        match source.read_at(&mut buffer, all.len() as u64).unwrap() {
            0 => return Some(all),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

/// (stream, ends a line, text) of all segments of a service, in order.
pub fn records(dir: &Path, service: &str) -> Vec<(String, bool, String)> {
    let dir = dir.join(service);
    let mut all = Vec::new();
    for (number, driver) in list(&dir).unwrap_or_default() {
        let Some(bytes) = segment(&path(&dir, number, driver)) else { continue };
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\n").expect("a whole record");
            let record = parse(driver, line).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(line)));
            let text = String::from_utf8_lossy(&record.text).into_owned();
            all.push((record.stream.into_owned(), record.end, text));
        }
    }
    all
}

/// Lines that are in the log, and lines of which it says that they were dropped.
pub fn kept_and_dropped(logs: &Path) -> (u64, u64) {
    let all = records(logs, "web");
    let (said, lines): (Vec<_>, Vec<_>) =
        all.iter().partition(|(_, _, text)| text.starts_with("dropped lines="));
    let count =
        |text: &str| text["dropped lines=".len()..].split(' ').next().unwrap().parse::<u64>().unwrap();
    let dropped = said.iter().map(|(_, _, text)| count(text)).sum();
    (lines.iter().filter(|(_, end, _)| *end).count() as u64, dropped)
}

/// What the container wrote to one stream.
pub fn written(dir: &Path, service: &str, stream: &str) -> Vec<u8> {
    let dir = dir.join(service);
    let mut all = Vec::new();
    for (number, driver) in list(&dir).unwrap_or_default() {
        let Some(bytes) = segment(&path(&dir, number, driver)) else { continue };
        all.extend(text(driver, &bytes, stream));
    }
    all
}

pub fn text(driver: Driver, segment: &[u8], stream: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for line in segment.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let record = parse(driver, line).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(line)));
        if record.stream == stream {
            all.extend_from_slice(&record.text);
            if record.end {
                all.push(b'\n');
            }
        }
    }
    all
}

pub fn soon(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines of a reader's pipe, without the time: `web stdout F text`.
pub fn lines(pipe: OwnedFd) -> impl Iterator<Item = String> {
    BufReader::new(File::from(pipe)).lines().map(|line| {
        let line = line.unwrap();
        let mut fields = line.splitn(3, ' ');
        let (service, _time, rest) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        format!("{service} {rest}")
    })
}
