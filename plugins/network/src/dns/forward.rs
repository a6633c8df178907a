//! What is not ours to know is asked of other servers: the question as it came, with an id and a port of our own that nobody guesses.
//!
//! By UDP the next server is asked when the one before has not answered within 300 ms, and the first good answer counts. Who did not
//! answer at all is asked last for half a minute. By TCP they are asked one after the other.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::message::{self, Query, Rcode, UDP_BYTES_MAX};
use crate::mutex::lock;

/// After this the next server is asked, too.
const RACE_AFTER: Duration = Duration::from_millis(300);
/// After this a datagram is taken for lost and sent again; a server that was silent for so long is asked last.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const SILENT_FOR: Duration = Duration::from_secs(30);
/// Clients ask again after five seconds.
const GIVE_UP_AFTER: Duration = Duration::from_millis(4500);

/// Since when servers have been silent.
#[derive(Debug, Default)]
pub struct Silent(Mutex<HashMap<SocketAddr, Instant>>);

impl Silent {
    /// Those that have answered lately come first.
    fn order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut silent = lock(&self.0);
        silent.retain(|_, since| since.elapsed() < SILENT_FOR);
        let mut ordered = servers.to_vec();
        ordered.sort_by_key(|server| silent.contains_key(server));
        ordered
    }

    fn note(&self, server: SocketAddr, answers: bool) {
        let mut silent = lock(&self.0);
        if answers {
            silent.remove(&server);
        } else {
            silent.entry(server).or_insert_with(Instant::now);
        }
    }
}

/// The first good answer, with the asker's id; None: there was none in time.
pub async fn by_udp(
    silent: &std::sync::Arc<Silent>,
    servers: &[SocketAddr],
    query: &Query,
    bytes: &[u8],
) -> Option<Vec<u8>> {
    let mut waiting = silent.order(servers).into_iter();
    let mut asked = JoinSet::new();
    let mut refusal = None;
    let end = tokio::time::Instant::now() + GIVE_UP_AFTER;
    loop {
        if let Some(server) = waiting.next() {
            let (silent, question, bytes) =
                (std::sync::Arc::clone(silent), query.question(bytes).to_vec(), bytes.to_vec());
            asked.spawn(async move {
                let answer = ask_by_udp(&silent, server, &question, bytes).await;
                silent.note(server, answer.is_some());
                answer
            });
        } else if asked.is_empty() {
            return refusal;
        }
        let next = if waiting.len() > 0 { RACE_AFTER } else { GIVE_UP_AFTER };
        let answer = tokio::select! {
            answer = asked.join_next() => answer,
            () = sleep(next) => continue,
            () = tokio::time::sleep_until(end) => return refusal,
        };
        match answer {
            Some(Ok(Some((rcode, mut answer)))) => {
                message::set_id(&mut answer, message::id(bytes));
                if rcode != Rcode::ServFail as u8 && rcode != Rcode::Refused as u8 {
                    return Some(fitting(query, bytes, answer));
                }
                refusal = Some(answer);
            }
            Some(_) => {}
            None => return refusal,
        }
    }
}

/// More than the asker can take is left out; it comes by TCP then.
fn fitting(query: &Query, bytes: &[u8], answer: Vec<u8>) -> Vec<u8> {
    if answer.len() <= query.udp_bytes() { answer } else { query.truncated(bytes) }
}

async fn ask_by_udp(
    silent: &Silent,
    server: SocketAddr,
    question: &[u8],
    mut bytes: Vec<u8>,
) -> Option<(u8, Vec<u8>)> {
    let any = match server.ip() {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(server).await.ok()?;
    let id = random_id();
    message::set_id(&mut bytes, id);
    let mut buffer = vec![0; UDP_BYTES_MAX + 1];
    loop {
        socket.send(&bytes).await.ok()?;
        let answer = timeout(AGAIN_AFTER, async {
            loop {
                let length = socket.recv(&mut buffer).await.ok()?;
                let answer = buffer.get(..length)?;
                // Anything else is somebody who guesses, or an answer that comes late.
                if let Some(rcode) = message::rcode_of_answer(answer, id, question) {
                    return Some((rcode, answer.to_vec()));
                }
            }
        });
        match answer.await {
            Ok(answer) => return answer,
            Err(_) => silent.note(server, false),
        }
    }
}

/// The first answer that comes whole, of one server after the other.
pub async fn by_tcp(silent: &Silent, servers: &[SocketAddr], query: &Query, bytes: &[u8]) -> Option<Vec<u8>> {
    for server in silent.order(servers) {
        let answer = timeout(GIVE_UP_AFTER, ask_by_tcp(server, query.question(bytes), bytes)).await;
        let answer = answer.ok().flatten();
        silent.note(server, answer.is_some());
        if answer.is_some() {
            return answer;
        }
    }
    None
}

async fn ask_by_tcp(server: SocketAddr, question: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = timeout(AGAIN_AFTER, TcpStream::connect(server)).await.ok()?.ok()?;
    let framed = [&u16::try_from(bytes.len()).ok()?.to_be_bytes()[..], bytes].concat();
    stream.write_all(&framed).await.ok()?;
    let length = stream.read_u16().await.ok()?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.ok()?;
    message::rcode_of_answer(&answer, message::id(bytes), question).map(|_| answer)
}

/// The keys of a new hasher come from the kernel's random numbers.
fn random_id() -> u16 {
    RandomState::new().build_hasher().finish() as u16
}
