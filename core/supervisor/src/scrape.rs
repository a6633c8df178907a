//! Where metrics are served: `supervisor.metrics`, an address or a path, besides the control socket. A place that is taken is told
//! once and tried again: services do not wait for it.
//!
//! Whoever reaches the place may connect, so what he can take is bounded: a number of connections, and a time for each.
use crate::message::{Message, Sender};
use crate::metrics;
use crate::request::{Request, failure};
use crate::task::Task;
use crate::turn::Turn;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use sampan_config::schema::MetricsAt;
use sampan_plugin::lock;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A page takes so long at most.
const PAGE_MAX: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(2);
/// At the end, for the removal of the socket's file.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Connections at a time. The others wait in the kernel.
const CONNECTIONS_MAX: usize = 16;
/// For a request's head: who connects and asks nothing keeps the others waiting for no longer.
const HEAD_MAX: Duration = Duration::from_secs(2);
/// For a connection, from its first byte to its last.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// What serves, and where. It ends with its owner.
#[derive(Debug)]
pub struct Server {
    send: Sender,
    at: Option<MetricsAt>,
    place: Place,
    serving: Option<Task>,
}

impl Server {
    pub fn new(send: Sender) -> Server {
        Server { send, at: None, place: Place::default(), serving: None }
    }

    /// Serves there from now on; where it serves already, it goes on.
    pub fn serve_at(&mut self, at: Option<&MetricsAt>) {
        if self.at.as_ref() == at {
            return;
        }
        self.at = at.cloned();
        let before = std::mem::take(&mut self.place);
        let stopped = self.serving.take();
        let (at, place, send) = (self.at.clone(), self.place.clone(), self.send.clone());
        self.serving = Some(Task::from(tokio::task::spawn_local(async move {
            drop(stopped);
            before.leave().await;
            if let Some(at) = at {
                serve(&at, &place, &send).await;
            }
        })));
    }

    /// Serves no more, and leaves nothing.
    pub async fn close(&mut self) {
        self.serving = None;
        self.at = None;
        let _ = tokio::time::timeout(CLOSE_MAX, std::mem::take(&mut self.place).leave()).await;
    }
}

/// The socket's file, of one that serves at a path. What is done with it is done on threads of the pool, since the path is a user's;
/// they go on when nobody waits for them any more.
#[derive(Debug, Clone, Default)]
struct Place(Arc<Mutex<SocketFile>>);

#[derive(Debug, Default)]
enum SocketFile {
    #[default]
    NotYet,
    /// It is ours for as long as this very file is at the path.
    Ours(File, PathBuf),
    /// Nothing is made any more.
    Left,
}

impl Place {
    async fn listen(&self, path: PathBuf) -> io::Result<tokio::net::UnixListener> {
        let place = self.0.clone();
        let listener = tokio::task::spawn_blocking(move || {
            let mut file = place.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*file, SocketFile::Left) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            clear(&path)?;
            let listener = UnixListener::bind(&path)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::open(&path, flags, Mode::empty())?;
            *file = SocketFile::Ours(made.into(), path);
            listener.set_nonblocking(true)?;
            io::Result::Ok(listener)
        });
        tokio::net::UnixListener::from_std(listener.await??)
    }

    /// Removes what `listen` has made, and what it is about to make.
    async fn leave(self) {
        let _ = tokio::task::spawn_blocking(move || {
            let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let SocketFile::Ours(made, path) = std::mem::replace(&mut *file, SocketFile::Left)
                && lock::is_at(&made, &path)
            {
                let _ = std::fs::remove_file(path);
            }
        })
        .await;
    }
}

async fn serve(at: &MetricsAt, place: &Place, send: &Sender) {
    let (send, turn, mut told) = (send.clone(), Turn::default(), false);
    let pages = Router::new().route("/metrics", get(move || page(send.clone(), turn.clone())));
    loop {
        let error = match at {
            MetricsAt::Address(address) => match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => return answer_all(listener, pages).await,
                Err(error) => error,
            },
            MetricsAt::Socket(path) => match place.listen(path.clone()).await {
                Ok(listener) => return answer_all(listener, pages).await,
                Err(error) => error,
            },
        };
        if !told {
            told = true;
            let taken = if error.kind() == io::ErrorKind::AddrInUse { " (who has it?)" } else { "" };
            tracing::error!(
                "supervisor.metrics: cannot listen on {at}: {error}{taken}; name another place, or free it: it is tried again"
            );
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whoever comes, a few at a time. The connections end with it.
async fn answer_all(mut listener: impl Listener<Io: Unpin>, pages: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (stream, _) = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn_local(answer(stream, pages.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request. What becomes of it is the client's to know.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, pages: Router) {
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let answered = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    let _ = tokio::time::timeout(CONNECTION_MAX, answered).await;
}

/// Removes a socket that nobody listens on, as a sampand that was killed leaves it. Anything else stays.
fn clear(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// The page as a reply.
pub async fn page(send: Sender, turn: Turn) -> Response {
    let asked = async {
        let (answer, answered) = oneshot::channel();
        let ended = || failure("stopping", "sampand ends");
        send.send(Message::Request(Request::Metrics(answer))).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    };
    let page = tokio::time::timeout(PAGE_MAX, async {
        let text = turn.take(asked, metrics::text).await?;
        text.map_err(|error| failure("internal", error.to_string()))
    });
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match page.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Ok(Err(refused)) => (StatusCode::SERVICE_UNAVAILABLE, refused.error).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "sampand did not write it in 5 s").into_response(),
    }
}
