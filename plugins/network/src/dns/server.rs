//! The name server: one thread for all networks, which only ever waits in its own runtime.
//!
//! It has what it knows as one [`Zone`], which the engine replaces as a whole; so a question never waits for an attach, and an attach
//! never for a question. Everything that a container can make more of is bounded: questions that are passed on, and connections, for
//! each of them and for all together. A panic ends the one task that it is in.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::answer::{Transport, Verdict, verdict};
use super::forward::{self, Silent};
use super::message::{Query, Rcode};
use super::resolv_conf::{Followed, PORT};
use super::sockets::Sockets;
use super::zone::Zone;
use crate::mutex::lock;

/// Questions that are passed on at a time, of all and of one asker.
const FORWARDED_MAX: usize = 512;
const FORWARDED_OF_ONE_MAX: usize = 128;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_OF_ONE_MAX: usize = 32;
/// Of a question, which has one name and a few options.
const QUESTION_BYTES_MAX: usize = 4096;
const IDLE_MAX: Duration = Duration::from_secs(10);
/// After an error of a socket, such as a lack of memory.
const AFTER_ERROR: Duration = Duration::from_millis(20);

pub struct Server {
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Listen(String, Vec<Sockets>),
    Leave(String),
}

struct Shared {
    zone: Mutex<Arc<Zone>>,
    host: Mutex<Followed>,
    silent: Arc<Silent>,
    forwarded: Arc<Quota>,
    connections: Arc<Quota>,
}

impl Server {
    /// `resolv_conf`: the host's. In the network namespace of the calling thread.
    pub fn start(resolv_conf: PathBuf) -> Result<Server, String> {
        let failed = |e: std::io::Error| format!("cannot start the name server: {e}");
        let shared = Arc::new(Shared {
            zone: Mutex::default(),
            host: Mutex::new(Followed::new(resolv_conf)),
            silent: Arc::default(),
            forwarded: Quota::new(FORWARDED_MAX, FORWARDED_OF_ONE_MAX),
            connections: Quota::new(CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (orders, received) = mpsc::unbounded_channel();
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("network-dns".into())
            .stack_size(512 * 1024)
            .spawn(move || runtime.block_on(serve(its, received)))
            .map_err(failed)?;
        Ok(Server { shared, orders, thread: Some(thread) })
    }

    /// From now on these are the names.
    pub fn publish(&self, zone: Zone) {
        *lock(&self.shared.zone) = Arc::new(zone);
    }

    pub fn listen(&self, network: &str, sockets: Vec<Sockets>) {
        let _ = self.orders.send(Order::Listen(network.to_owned(), sockets));
    }

    pub fn leave(&self, network: &str) {
        let _ = self.orders.send(Order::Leave(network.to_owned()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of the orders is the end of the thread.
        let (closed, _) = mpsc::unbounded_channel();
        self.orders = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(shared: Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut tasks: HashMap<String, Vec<AbortHandle>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        let (network, sockets) = match order {
            Order::Listen(network, sockets) => (network, sockets),
            Order::Leave(network) => (network, Vec::new()),
        };
        for task in tasks.remove(&network).unwrap_or_default() {
            task.abort();
        }
        for Sockets { udp, tcp } in sockets {
            match registered(udp, tcp) {
                Ok((udp, tcp)) => {
                    let here: Arc<str> = network.as_str().into();
                    let udp = tokio::spawn(by_udp(Arc::clone(&shared), Arc::clone(&here), Arc::new(udp)));
                    let tcp = tokio::spawn(by_tcp(Arc::clone(&shared), here, tcp));
                    tasks
                        .entry(network.clone())
                        .or_default()
                        .extend([udp.abort_handle(), tcp.abort_handle()]);
                }
                Err(e) => {
                    tracing::error!("network {network}: its name server cannot wait for questions: {e}")
                }
            }
        }
    }
}

fn registered(udp: OwnedFd, tcp: OwnedFd) -> std::io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::from_std(udp.into())?, TcpListener::from_std(tcp.into())?))
}

async fn by_udp(shared: Arc<Shared>, network: Arc<str>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(_) => {
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        match shared.verdict(&network, from.ip(), bytes, Transport::Udp) {
            Verdict::Ignore => {}
            // Who does not take its answers loses them.
            Verdict::Reply(reply) => drop(socket.try_send_to(&reply, from)),
            Verdict::Forward(query, servers) => match Quota::admit(&shared.forwarded, from.ip()) {
                None => drop(socket.try_send_to(&query.reply_by_udp(bytes, Rcode::ServFail, &[]), from)),
                Some(admitted) => {
                    let (shared, socket, bytes) = (Arc::clone(&shared), Arc::clone(&socket), bytes.to_vec());
                    tokio::spawn(async move {
                        let _admitted = admitted;
                        let reply = shared.forward(&query, servers, &bytes, Transport::Udp).await;
                        let _ = socket.try_send_to(&reply, from);
                    });
                }
            },
        }
    }
}

async fn by_tcp(shared: Arc<Shared>, network: Arc<str>, listener: TcpListener) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        // One too many is closed, and so is one from an address of no service: a container that may send what it likes has as many
        // of those as it wants.
        if !shared.knows(&network, from.ip()) {
            continue;
        }
        if let Some(admitted) = Quota::admit(&shared.connections, from.ip()) {
            let (shared, network) = (Arc::clone(&shared), Arc::clone(&network));
            tokio::spawn(async move {
                let _admitted = admitted;
                let _ = converse(&shared, &network, from, stream).await;
            });
        }
    }
}

/// One question after the other, until the asker has no more, or says nothing or takes nothing for a while.
async fn converse(
    shared: &Shared,
    network: &str,
    from: SocketAddr,
    mut stream: TcpStream,
) -> std::io::Result<()> {
    loop {
        let question = timeout(IDLE_MAX, async {
            let length = usize::from(stream.read_u16().await?);
            if length > QUESTION_BYTES_MAX {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).await?;
            Ok::<_, std::io::Error>(bytes)
        });
        let bytes = question.await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        let reply = match shared.verdict(network, from.ip(), &bytes, Transport::Tcp) {
            Verdict::Ignore => return Ok(()),
            Verdict::Reply(reply) => reply,
            Verdict::Forward(query, servers) => match Quota::admit(&shared.forwarded, from.ip()) {
                None => query.reply(&bytes, Rcode::ServFail, &[]),
                Some(_admitted) => shared.forward(&query, servers, &bytes, Transport::Tcp).await,
            },
        };
        let length = u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes();
        let reply = [&length, &*reply].concat();
        let sent = timeout(IDLE_MAX, stream.write_all(&reply)).await;
        sent.map_err(|_| std::io::ErrorKind::TimedOut)??;
    }
}

impl Shared {
    fn knows(&self, network: &str, from: IpAddr) -> bool {
        self.zone().asker(network, from).is_some()
    }

    /// Looked at without the lock: who publishes does not wait for a question.
    fn zone(&self) -> Arc<Zone> {
        Arc::clone(&lock(&self.zone))
    }

    fn verdict(&self, network: &str, from: IpAddr, bytes: &[u8], by: Transport) -> Verdict {
        verdict(&self.zone(), network, from, bytes, by)
    }

    /// The answer of `servers`, or of the host's; SERVFAIL where none came.
    async fn forward(&self, query: &Query, servers: Vec<IpAddr>, bytes: &[u8], by: Transport) -> Vec<u8> {
        let servers: Vec<SocketAddr> = if servers.is_empty() {
            lock(&self.host).now().servers.clone()
        } else {
            servers.into_iter().map(|server| SocketAddr::new(server, PORT)).collect()
        };
        let answer = match by {
            Transport::Udp => forward::by_udp(&self.silent, &servers, query, bytes).await,
            Transport::Tcp => forward::by_tcp(&self.silent, &servers, query, bytes).await,
        };
        answer.unwrap_or_else(|| query.reply(bytes, Rcode::ServFail, &[]))
    }
}

/// How much of something there may be at a time, of all and of each asker.
struct Quota {
    of_all: usize,
    of_one: usize,
    now: Mutex<HashMap<IpAddr, usize>>,
}

struct Admitted(Arc<Quota>, IpAddr);

impl Quota {
    fn new(of_all: usize, of_one: usize) -> Arc<Quota> {
        Arc::new(Quota { of_all, of_one, now: Mutex::default() })
    }

    fn admit(quota: &Arc<Quota>, asker: IpAddr) -> Option<Admitted> {
        let mut now = lock(&quota.now);
        let all: usize = now.values().sum();
        let its = now.get(&asker).copied().unwrap_or(0);
        if all >= quota.of_all || its >= quota.of_one {
            return None;
        }
        now.insert(asker, its + 1);
        drop(now);
        Some(Admitted(Arc::clone(quota), asker))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut now = lock(&self.0.now);
        match now.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(now.remove(&self.1)),
        }
    }
}
