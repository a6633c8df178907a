//! A client attached to a service: the connection becomes frames both ways (`sampan_api::attach`).
//!
//! It has a task of its own. One that reads nothing holds up no more than this task: what waits for it is bounded, and so is what
//! it may say at once.
use super::{Refusal, Send, ask};
use crate::relay::{Attached, Output, Piece};
use crate::request::{Request, failure};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use rustix::termios::{Winsize, tcsetwinsize};
use sampan_api::attach::{
    self, FRAME_BYTES_MAX, First, HEAD_BYTES, PROTOCOL, TYPED, WORD, Window, parse_head,
};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

pub async fn attach(
    State(send): State<Send>,
    Path(name): Path<String>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    if !is_wanted(request.headers()) {
        let text = format!("attach needs `Connection: Upgrade` and `Upgrade: {PROTOCOL}`");
        return Err(failure("usage", text).into());
    }
    let attached = ask(&send, |answer| Request::Attach { name, answer }).await?;
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // Otherwise the client has gone before it had its answer.
        if let Ok(connection) = upgraded.await {
            let _ = converse(TokioIo::new(connection), attached).await;
        }
    });
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(Body::empty());
    Ok(answer.map_err(|error| failure("internal", error.to_string()))?)
}

fn is_wanted(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|name| name.eq_ignore_ascii_case(PROTOCOL))
}

/// Until either of the two has nothing more to say.
async fn converse(connection: impl AsyncRead + AsyncWrite, attached: Attached) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(connection);
    let Attached { output, input, terminal } = attached;
    let first = First { tty: terminal.is_some(), stdin_open: input.is_some() };
    frame(&mut write, WORD, &serde_json::to_vec(&first)?).await?;
    tokio::select! {
        told = tell(output, write) => told,
        heard = hear(read, input, terminal) => heard,
    }
}

async fn tell(mut output: Output, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(piece) = output.next().await {
        match piece {
            Piece::Output(stream, bytes) => frame(&mut to, stream.kind(), &bytes).await?,
            Piece::Last(last) => {
                frame(&mut to, WORD, &serde_json::to_vec(&last)?).await?;
                return to.shutdown().await;
            }
        }
    }
    Ok(())
}

async fn frame(to: &mut (impl AsyncWrite + Unpin), kind: u8, bytes: &[u8]) -> io::Result<()> {
    for part in bytes.chunks(FRAME_BYTES_MAX) {
        to.write_all(&attach::head(kind, part.len())).await?;
        to.write_all(part).await?;
    }
    Ok(())
}

async fn hear(
    mut from: impl AsyncRead + Unpin,
    input: Option<mpsc::Sender<Bytes>>,
    terminal: Option<Arc<OwnedFd>>,
) -> io::Result<()> {
    let broken = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    loop {
        let mut head = [0; HEAD_BYTES];
        from.read_exact(&mut head).await?;
        let (kind, length) = parse_head(head).ok_or_else(|| broken("a frame that is too long"))?;
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes).await?;
        match (kind, &input, &terminal) {
            // A life that is over takes no more; that it is will be told.
            (TYPED, Some(input), _) => drop(input.send(bytes.into()).await),
            (WORD, _, Some(terminal)) => {
                let Window { rows, columns } = serde_json::from_slice(&bytes)?;
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                let _ = tcsetwinsize(&**terminal, size);
            }
            (TYPED | WORD, ..) => {}
            _ => return Err(broken("a frame of a kind that nobody knows")),
        }
    }
}
