//! HTTP/1.1 over sampand's socket: one request, one connection. As much of HTTP as our own server speaks (a length, chunks,
//! or the end of the connection), and limits on what it may send.
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A reply that is not a stream may not be larger.
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;
const SWITCHING_PROTOCOLS: u16 = 101;
const HEADER_BYTES_MAX: u64 = 64 * 1024;
/// How long a next worker may take to come: at once, or, after some that died young, in seconds.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is looked whether somebody can answer; so many times in a row nobody may: a worker may be stopped for a moment,
/// and a sampand that was killed be started again.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const STOPPED_LOOKS: u32 = 2;
const DEAD_LOOKS: u32 = 10;
/// In the run folder, which is the socket's: the keel's pid.
const LOCK: &str = "sampand.lock";

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens there.
    NoSupervisor { socket: String, error: io::Error },
    /// Somebody may; we may not ask.
    Forbidden { socket: String },
    /// The connection failed in the middle.
    Broken(io::Error),
    /// The worker is stopped by a signal, and answers nobody.
    Stopped { worker: i32 },
    /// The connection was taken, and there is nobody to answer.
    Dead { keel: i32 },
    /// sampand refused.
    Refused(sampan_api::Failure),
    /// On our side: what and why.
    Here(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSupervisor { socket, error } => {
                write!(
                    f,
                    "no sampand at {socket}: {error}\n  start it with `sampanctl up -d`, or name its socket with --socket"
                )
            }
            Error::Forbidden { socket } => {
                write!(f, "{socket}: permission denied; only root and sampand's own user may command it")
            }
            Error::Stopped { worker } => {
                write!(
                    f,
                    "sampand's worker {worker} is stopped by a signal\n  `kill -CONT {worker}` lets it go on"
                )
            }
            Error::Dead { keel } => write!(
                f,
                "sampand, process {keel}, was killed; its services run on\n  start it again, as by `sampanctl up -d`: it goes on with them"
            ),
            Error::Broken(error) => write!(f, "sampand's answer broke off: {error}"),
            Error::Here(text) => f.write_str(text),
            Error::Refused(failure) => match &failure.detail {
                Some(detail) => write!(f, "{}\n{}", failure.error, detail.trim_end()),
                None => f.write_str(&failure.error),
            },
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Broken(error)
    }
}

/// A reply's body, to be read to its end.
#[derive(Debug)]
pub enum Body {
    Sized(io::Take<BufReader<UnixStream>>),
    Chunked(Chunks),
    ToEnd(BufReader<UnixStream>),
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Body::Sized(body) => body.read(buffer),
            Body::Chunked(body) => body.read(buffer),
            Body::ToEnd(body) => body.read(buffer),
        }
    }
}

/// Sends one request; gives the body of a reply that is no refusal. While one worker of sampand follows another it waits, and
/// what got no answer is sent again: sampand knows a command by its number and does not do it twice.
pub fn send(socket: &Path, method: &str, path: &str, body: Option<&str>) -> Result<Body, Error> {
    let request = Request { method, path, body: body.unwrap_or_default(), connection: "Connection: close" };
    patiently(socket, |id| {
        let (head, reader) = request.attempt(socket, id)?;
        let (status, reply) = head.body(reader);
        if (200..300).contains(&status) { Ok(reply) } else { Err(refusal(status, reply)?) }
    })
}

/// Asks for another protocol on the connection, as `send` does; from then on it is the caller's.
pub fn upgrade(socket: &Path, path: &str, protocol: &str) -> Result<BufReader<UnixStream>, Error> {
    let connection = format!("Connection: Upgrade\r\nUpgrade: {protocol}");
    let request = Request { method: "POST", path, body: "", connection: &connection };
    patiently(socket, |id| {
        let (head, reader) = request.attempt(socket, id)?;
        if head.status == SWITCHING_PROTOCOLS {
            return Ok(reader);
        }
        let (status, reply) = head.body(reader);
        Err(refusal(status, reply)?)
    })
}

fn patiently<T>(socket: &Path, attempt: impl Fn(&str) -> Result<T, Error>) -> Result<T, Error> {
    let (begin, id) = (Instant::now(), random_id());
    loop {
        match attempt(&id) {
            Err(error) if begin.elapsed() < PATIENCE && is_between_workers(&error, socket) => {
                std::thread::sleep(PAUSE);
            }
            answered => return answered,
        }
    }
}

/// Whether a next worker will answer instead.
fn is_between_workers(error: &Error, socket: &Path) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    let is_up = || Sampand::of(socket).is_some_and(|sampand| sampand.keel_runs());
    match error {
        Error::NoSupervisor { error, .. } => matches!(error.kind(), ConnectionRefused | NotFound) && is_up(),
        Error::Broken(error) => {
            matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) && is_up()
        }
        _ => false,
    }
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Request<'r> {
    method: &'r str,
    path: &'r str,
    body: &'r str,
    /// The headers about what becomes of the connection.
    connection: &'r str,
}

impl Request<'_> {
    fn attempt(&self, socket: &Path, id: &str) -> Result<(Head, BufReader<UnixStream>), Error> {
        let Request { method, path, body, connection } = self;
        let mut stream = UnixStream::connect(socket).map_err(|error| {
            let socket = socket.display().to_string();
            match error.kind() {
                io::ErrorKind::PermissionDenied => Error::Forbidden { socket },
                _ => Error::NoSupervisor { socket, error },
            }
        })?;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        // In one write: who is refused gets the answer before all is read.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: sampand\r\n{connection}\r\n{}: {id}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            sampan_api::REQUEST_ID,
            body.len()
        );
        match stream.write_all(request.as_bytes()) {
            // It has closed: after its answer, perhaps. Reading tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
        wait(&stream, socket)?;
        let mut reader = BufReader::new(stream);
        let head = head(&mut reader)?;
        Ok((head, reader))
    }
}

/// What sampand says when it does not do it.
fn refusal(status: u16, mut reply: Body) -> Result<Error, Error> {
    let text = text(&mut reply)?;
    Ok(Error::Refused(serde_json::from_str(&text).unwrap_or_else(|_| sampan_api::Failure {
        error: format!("sampand answered {status}: {}", text.trim_end()),
        code: "internal".into(),
        detail: None,
    })))
}

/// Until the answer begins. A command may take as long as it takes; a worker that cannot answer is found out.
fn wait(stream: &UnixStream, socket: &Path) -> Result<(), Error> {
    let mut silent = 0;
    loop {
        let mut fds = [PollFd::new(stream, PollFlags::IN)];
        match poll(&mut fds, Some(&LOOK)) {
            Ok(0) => {}
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Error::Broken(error.into())),
        }
        let Some(why) = Sampand::of(socket).and_then(Sampand::silence) else {
            silent = 0;
            continue;
        };
        silent += 1;
        if silent >= if matches!(why, Error::Dead { .. }) { DEAD_LOOKS } else { STOPPED_LOOKS } {
            return Err(why);
        }
    }
}

/// The sampand of a socket, as its run folder tells.
#[derive(Clone, Copy)]
struct Sampand {
    keel: i32,
}

impl Sampand {
    /// None: its lock is elsewhere, or not ours to read.
    fn of(socket: &Path) -> Option<Sampand> {
        let text = std::fs::read_to_string(socket.parent()?.join(LOCK)).ok()?;
        Some(Sampand { keel: text.trim().parse().ok()? })
    }

    fn keel_runs(self) -> bool {
        runs(self.keel)
    }

    /// Why nobody can answer at present.
    fn silence(self) -> Option<Error> {
        if !self.keel_runs() {
            return Some(Error::Dead { keel: self.keel });
        }
        let worker = self.worker().filter(|worker| matches!(state(*worker), Some('T' | 't')))?;
        Some(Error::Stopped { worker })
    }

    fn worker(self) -> Option<i32> {
        let keel = self.keel;
        let children = std::fs::read_to_string(format!("/proc/{keel}/task/{keel}/children")).ok()?;
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(b"worker")
        })
    }
}

/// Whether a process has not ended yet.
pub fn runs(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// As in /proc/PID/stat.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A name as one segment of a path or one value of a query (RFC 3986, section 2.1), whatever stands in it: it is sampand
/// that knows which names there are.
pub fn quoted(name: &str) -> String {
    let mut quoted = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => quoted.push(byte.into()),
            // A dot too, so that `..` is a name.
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

/// The whole body as text.
pub fn text(body: &mut Body) -> Result<String, Error> {
    let mut text = String::new();
    body.take(REPLY_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

struct Head {
    status: u16,
    length: Option<u64>,
    chunked: bool,
}

impl Head {
    fn body(self, reader: BufReader<UnixStream>) -> (u16, Body) {
        let body = match (self.chunked, self.length) {
            (true, _) => Body::Chunked(Chunks { reader, left: 0, first: true, over: false }),
            (false, Some(length)) => Body::Sized(reader.take(length)),
            (false, None) => Body::ToEnd(reader),
        };
        (self.status, body)
    }
}

fn head(reader: &mut BufReader<UnixStream>) -> io::Result<Head> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what}"));
    let mut lines = reader.take(HEADER_BYTES_MAX);
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status =
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad(line.trim_end()))?;
    let mut head = Head { status, length: None, chunked: false };
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Err(bad("the header has no end"));
        }
        let header = line.trim_end();
        if header.is_empty() {
            return Ok(head);
        }
        let Some((name, value)) = header.split_once(':') else { return Err(bad(header)) };
        if name.eq_ignore_ascii_case("content-length") {
            head.length = Some(value.trim().parse().map_err(|_| bad(header))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
}

/// RFC 9112, section 7.1.
#[derive(Debug)]
pub struct Chunks {
    reader: BufReader<UnixStream>,
    left: u64,
    first: bool,
    over: bool,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not a chunk");
        if self.over {
            return Ok(0);
        }
        if self.left == 0 {
            let mut line = String::new();
            if !std::mem::take(&mut self.first) {
                self.reader.read_line(&mut line)?;
                line.clear();
            }
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let size = line.trim_end().split(';').next().unwrap_or_default();
            self.left = u64::from_str_radix(size, 16).map_err(|_| bad())?;
            if self.left == 0 {
                self.over = true;
                return Ok(0);
            }
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.reader.read(buffer.get_mut(..most).unwrap_or_default())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
