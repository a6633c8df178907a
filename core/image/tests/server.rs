//! A registry that does what a test wants, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What it was asked.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub path: String,
    pub authorization: Option<String>,
    /// From which byte on.
    pub range: Option<u64>,
    /// How many were before it.
    pub number: usize,
}

/// Answers a request on its connection, which is closed then.
pub trait Answer: Fn(&Request, &mut TcpStream) + Send + Sync + 'static {}
impl<F: Fn(&Request, &mut TcpStream) + Send + Sync + 'static> Answer for F {}

pub struct Server {
    pub host: String,
    stop: Arc<AtomicBool>,
    listens: Option<JoinHandle<()>>,
    /// It may own folders: they go with the server, in the test's own thread. Another one ends wherever it is when the test does.
    answer: Arc<dyn Answer>,
}

/// So long an answer under way may take when the server ends.
const LAST_MAX: Duration = Duration::from_secs(2);

impl Server {
    pub fn new(answer: impl Answer) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let answer: Arc<dyn Answer> = Arc::new(answer);
        let (stopped, answers) = (Arc::clone(&stop), Arc::clone(&answer));
        let count = Arc::new(AtomicUsize::new(0));
        let listens = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(mut stream), answer, count) = (stream, Arc::clone(&answers), Arc::clone(&count))
                else {
                    continue;
                };
                std::thread::spawn(move || {
                    let Some(mut request) = read(&mut stream) else { return };
                    request.number = count.fetch_add(1, Ordering::Relaxed);
                    (*answer)(&request, &mut stream);
                });
            }
        });
        Server { host, stop, listens: Some(listens), answer }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let woken = TcpStream::connect(&self.host).is_ok();
        if let Some(listens) = self.listens.take().filter(|_| woken) {
            let _ = listens.join();
        }
        let end = Instant::now() + LAST_MAX;
        while Arc::strong_count(&self.answer) > 1 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// None if it is no HTTP: who asks for TLS.
fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut first = [0];
    if stream.peek(&mut first).ok()? == 0 || first[0] == 0x16 {
        return None;
    }
    let mut request = Request::default();
    for line in BufReader::new(Read::by_ref(stream)).lines() {
        let line = line.ok()?;
        if request.path.is_empty() {
            request.path = line.split(' ').nth(1)?.to_owned();
        }
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "range" => request.range = value.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok(),
            _ => {}
        }
    }
    Some(request)
}

pub fn head(to: &mut TcpStream, status: &str, headers: &[(&str, &str)]) {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    let _ = to.write_all(format!("{text}\r\n").as_bytes());
}

pub fn status(to: &mut TcpStream, status: &str) {
    head(to, status, &[("Content-Length", "0")]);
}

/// All of it, or what the range asks for.
pub fn send(request: &Request, to: &mut TcpStream, bytes: &[u8]) {
    let from = request.range.unwrap_or(0) as usize;
    let length = (bytes.len() - from).to_string();
    match request.range {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            head(to, "206 Partial Content", &[("Content-Length", &length), ("Content-Range", &range)]);
        }
        None => head(to, "200 OK", &[("Content-Length", &length)]),
    }
    let _ = to.write_all(&bytes[from..]);
}
