//! Where metrics are served: `supervisor.metrics`, an address or a path, besides the control socket. A place that is taken is told
//! once and tried again: services do not wait for it.
use crate::message::{Message, Sender};
use crate::metrics;
use crate::request::{Request, failure};
use crate::task::Task;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use sampan_config::schema::MetricsAt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};

/// A page takes so long at most.
const PAGE_MAX: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(2);
/// At the end, for the removal of the socket's file.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Pages are written one at a time: whoever asks often waits, and takes no more than one thread.
pub type Turn = Arc<Mutex<()>>;

/// What serves, and where. It ends with its owner.
#[derive(Debug)]
pub struct Server {
    send: Sender,
    at: Option<MetricsAt>,
    serving: Option<Task>,
}

impl Server {
    pub fn new(send: Sender) -> Server {
        Server { send, at: None, serving: None }
    }

    /// Serves there from now on; where it serves already, it goes on.
    pub fn serve_at(&mut self, at: Option<&MetricsAt>) {
        if self.at.as_ref() == at {
            return;
        }
        let before = std::mem::replace(&mut self.at, at.cloned());
        let stopped = self.serving.take();
        let (at, send) = (at.cloned(), self.send.clone());
        self.serving = Some(Task::from(tokio::task::spawn_local(async move {
            drop(stopped);
            remove(before).await;
            if let Some(at) = at {
                serve(&at, &send).await;
            }
        })));
    }

    /// Serves no more, and leaves nothing.
    pub async fn close(&mut self) {
        self.serving = None;
        let _ = tokio::time::timeout(CLOSE_MAX, remove(self.at.take())).await;
    }
}

async fn remove(at: Option<MetricsAt>) {
    if let Some(MetricsAt::Socket(path)) = at {
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
    }
}

async fn serve(at: &MetricsAt, send: &Sender) {
    let (turn, mut told) = (Turn::default(), false);
    loop {
        let send = send.clone();
        let turn = turn.clone();
        let pages = Router::new().route("/metrics", get(move || page(send.clone(), turn.clone())));
        let served = match at {
            MetricsAt::Address(address) => match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => axum::serve(listener, pages).await,
                Err(error) => Err(error),
            },
            MetricsAt::Socket(path) => match listen(path.clone()).await {
                Ok(listener) => axum::serve(listener, pages).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = served
            && !told
        {
            told = true;
            let taken = if error.kind() == io::ErrorKind::AddrInUse { " (who has it?)" } else { "" };
            tracing::error!(
                "supervisor.metrics: cannot listen on {at}: {error}{taken}; name another place, or free it: it is tried again"
            );
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// On a thread of the pool: the path is a user's.
async fn listen(path: PathBuf) -> io::Result<tokio::net::UnixListener> {
    let listener = tokio::task::spawn_blocking(move || {
        clear(&path)?;
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    });
    tokio::net::UnixListener::from_std(listener.await??)
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
    let page = tokio::time::timeout(PAGE_MAX, async {
        let _turn = turn.lock().await;
        let (answer, answered) = oneshot::channel();
        let ended = || failure("stopping", "sampand ends");
        send.send(Message::Request(Request::Metrics(answer))).map_err(|_| ended())?;
        let facts = answered.await.map_err(|_| ended())??;
        let text = tokio::task::spawn_blocking(move || metrics::text(facts)).await;
        let broken = |error: String| failure("internal", error);
        text.map_err(|error| broken(error.to_string()))?.map_err(|error| broken(error.to_string()))
    });
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match page.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Ok(Err(refused)) => (StatusCode::SERVICE_UNAVAILABLE, refused.error).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "sampand did not write it in 5 s").into_response(),
    }
}
