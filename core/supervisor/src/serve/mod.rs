//! The control socket: HTTP/1.1 and JSON over a Unix stream socket, so that curl is a client (sampan-api has the table).
//!
//! A handler turns a request into a message for the loop and waits for its answer; it decides nothing. Who may ask is decided
//! by the peer's credentials, looked at once per connection, whatever the file's mode says (`callers`).
mod attach;
mod reads;
mod stores;

use crate::callers::{self, Groups, Peer, Right};
use crate::listen::Listening;
use crate::message::Message;
use crate::request::{Answer, EventStream, Request, failure};
use crate::scrape;
use crate::seen::Seen;
use crate::task::Task;
use crate::turn::Turn;
use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Path, Query, Request as HttpRequest, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::serve::IncomingStream;
use futures_util::stream;
use sampan_api as api;
use sampan_config::schema::Supervisor;
use sampan_keel::LoopKeel;
use serde::Deserialize;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

type Send = mpsc::UnboundedSender<Message>;
type Reply<T> = Result<Json<T>, Refusal>;

/// A request's body may not be larger: the largest is a plugin's control request.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Read from a log stream at once.
const CHUNK_BYTES: usize = 64 * 1024;

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Peer {
        Peer::of(stream.io())
    }
}

/// Opens the socket and serves it until the process ends. What is sent into the result is who may come from then on.
pub fn start(config: &Supervisor, keel: &LoopKeel, send: Send) -> std::io::Result<watch::Sender<Groups>> {
    let mut listening = Listening::open(&config.socket, keel)?;
    let seen = Arc::new(Mutex::new(Seen::load(&config.run_dir)));
    let keel = keel.clone();
    let (groups, mut changes) = watch::channel(Groups::from(config));
    let mut serving = serve(&listening, send.clone(), seen.clone(), changes.clone())?;
    tokio::task::spawn_local(async move {
        loop {
            let now = changes.borrow_and_update().all();
            if let Err(error) = listening.let_in(&now) {
                tracing::error!("supervisor.admin_group, read_group: {error}; their members cannot connect");
            }
            tokio::select! {
                anew = listening.replaced(&keel) => listening = anew,
                Ok(()) = changes.changed() => continue,
            }
            tracing::warn!("somebody removed the control socket: it is made again");
            drop(serving);
            serving = match serve(&listening, send.clone(), seen.clone(), changes.clone()) {
                Ok(serving) => serving,
                Err(error) => return tracing::error!("the control socket is closed: {error}"),
            };
        }
    });
    Ok(groups)
}

fn serve(
    listening: &Listening,
    send: Send,
    seen: Arc<Mutex<Seen>>,
    groups: watch::Receiver<Groups>,
) -> std::io::Result<Task> {
    let listener = UnixListener::from_std(listening.socket.try_clone()?)?;
    let once = from_fn(move |request: HttpRequest, next: Next| once(seen.clone(), request, next));
    // Outermost: who may not command leaves no note of it.
    let allowed = from_fn(move |peer: ConnectInfo<Peer>, request: HttpRequest, next: Next| {
        let groups = *groups.borrow();
        allowed(peer, groups, request, next)
    });
    let service = routes(send).layer(once).layer(allowed).into_make_service_with_connect_info::<Peer>();
    Ok(Task::from(tokio::task::spawn_local(async move {
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!("the control socket is closed: {error}");
        }
    })))
}

/// A command that an earlier worker died over is not begun again, unless to ask for it twice is to ask for it once.
async fn once(seen: Arc<Mutex<Seen>>, request: HttpRequest, next: Next) -> Response {
    let id = request.headers().get(api::REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let path = request.uri().path();
    let is_goal = ["/v1/up", "/v1/down", "/v1/apply"].contains(&path)
        || ["/stop", "/pause", "/update", "/attach", "/run"].iter().any(|verb| path.ends_with(verb));
    let is_new = is_goal
        || request.method() == Method::GET
        || seen.lock().unwrap_or_else(PoisonError::into_inner).begin(id);
    if is_new {
        return next.run(request).await;
    }
    let text = "sampand's worker died while it did this: it may have been done; `sampanctl ps` shows";
    Refusal(StatusCode::CONFLICT, failure("interrupted", text)).into_response()
}

fn routes(send: Send) -> Router {
    let (asked, turn) = (send.clone(), Turn::default());
    let (looks, used, inspected) = (Turn::default(), Turn::default(), Turn::default());
    let listed = Turn::default();
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/loop", get(turns))
        .route("/v1/metrics", get(move || scrape::page(asked.clone(), turn.clone())))
        .route("/v1/services", get(reads::services))
        .route("/v1/services/{name}", get(move |send, name| reads::inspect(send, inspected, name)))
        .route("/v1/services/{name}/why", get(why))
        .route("/v1/services/{name}/wait", get(reads::wait))
        .route("/v1/services/{name}/processes", get(move |send, name| reads::processes(send, looks, name)))
        .route("/v1/usage", get(move |send, query| reads::used(send, used, query)))
        .route("/v1/graph", get(reads::graph))
        .route("/v1/volumes", get(move |send| stores::volumes(send, listed)))
        .route("/v1/volumes/{name}", delete(stores::remove_volume))
        .route("/v1/secrets", get(stores::secrets))
        .route("/v1/networks", get(stores::networks))
        .route("/v1/networks/{name}", get(stores::network))
        .route("/v1/services/{name}/run", post(run))
        .route("/v1/services/{name}/start", post(start_service))
        .route("/v1/services/{name}/stop", post(stop_service))
        .route("/v1/services/{name}/restart", post(restart_service))
        .route("/v1/services/{name}/kill", post(kill_service))
        .route("/v1/services/{name}/pause", post(|send, name| pause(send, name, true)))
        .route("/v1/services/{name}/unpause", post(|send, name| pause(send, name, false)))
        .route("/v1/services/{name}/update", post(update))
        .route("/v1/services/{name}/reload", post(reload))
        .route("/v1/services/{name}/attach", post(attach::attach))
        .route("/v1/up", post(up))
        .route("/v1/down", post(down))
        .route("/v1/apply", post(apply))
        .route("/v1/events", get(events))
        .route("/v1/logs", get(logs))
        .route("/v1/config", get(config))
        .route("/v1/plugins", get(plugins))
        .route("/v1/plugins/{name}/control", post(control))
        .route("/v1/plugins/{name}/reset", post(reset_plugin))
        .fallback(async || {
            Refusal(StatusCode::NOT_FOUND, failure("no-such-path", "no such path; see GET /v1/version"))
        })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(send)
}

/// By who the caller is and what is asked.
async fn allowed(
    ConnectInfo(peer): ConnectInfo<Peer>,
    groups: Groups,
    request: HttpRequest,
    next: Next,
) -> Response {
    let needed = callers::needed(request.method(), request.uri().path());
    let text = match peer.right(groups) {
        right if right >= needed => return next.run(request).await,
        Right::Command => "only root and sampand's own user may run what no config says",
        Right::Look => "members of supervisor.read_group may look, and not read the config or command",
        _ => "only root, sampand's own user and members of supervisor.admin_group may command it",
    };
    Refusal(StatusCode::FORBIDDEN, failure("refused", text)).into_response()
}

/// A refusal with its status.
#[derive(Debug)]
struct Refusal(StatusCode, api::Failure);

impl From<api::Failure> for Refusal {
    fn from(failure: api::Failure) -> Refusal {
        let status = match failure.code.as_str() {
            code if code.starts_with("no-such-") => StatusCode::NOT_FOUND,
            "config" => StatusCode::UNPROCESSABLE_ENTITY,
            "refused" => StatusCode::CONFLICT,
            "stopping" => StatusCode::SERVICE_UNAVAILABLE,
            "timeout" => StatusCode::GATEWAY_TIMEOUT,
            "usage" => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal(status, failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// Gives a request to the loop and waits for its answer.
async fn ask<T>(send: &Send, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, Refusal> {
    let ended = || Refusal(StatusCode::SERVICE_UNAVAILABLE, failure("stopping", "sampand ends"));
    let (answer, answered) = oneshot::channel();
    send.send(Message::Request(request(answer))).map_err(|_| ended())?;
    Ok(answered.await.map_err(|_| ended())??)
}

/// A JSON body that may be missing.
fn body<T: serde::de::DeserializeOwned + Default>(bytes: &Bytes) -> Result<T, Refusal> {
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(bytes)
        .map_err(|error| failure("usage", format!("the request's body: {error}")).into())
}

async fn version(State(send): State<Send>) -> Reply<api::Version> {
    ask(&send, Request::Version).await.map(Json)
}

async fn turns(State(send): State<Send>) -> Reply<api::Loop> {
    ask(&send, Request::Loop).await.map(Json)
}

async fn why(State(send): State<Send>, Path(name): Path<String>) -> Reply<api::Why> {
    ask(&send, |answer| Request::Why { name, answer }).await.map(Json)
}

async fn run(
    State(send): State<Send>,
    ConnectInfo(Peer { process: peer, .. }): ConnectInfo<Peer>,
    Path(of): Path<String>,
    bytes: Bytes,
) -> Reply<api::Done> {
    let run = Box::new(body(&bytes)?);
    ask(&send, |answer| Request::Run { of, run, peer, answer }).await.map(Json)
}

async fn start_service(State(send): State<Send>, Path(name): Path<String>, bytes: Bytes) -> Reply<api::Done> {
    let detach = body::<api::Act>(&bytes)?.detach;
    ask(&send, |answer| Request::Start { name, detach, answer }).await.map(Json)
}

async fn stop_service(State(send): State<Send>, Path(name): Path<String>, bytes: Bytes) -> Reply<api::Done> {
    let detach = body::<api::Act>(&bytes)?.detach;
    ask(&send, |answer| Request::Stop { name, detach, answer }).await.map(Json)
}

async fn restart_service(
    State(send): State<Send>,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Reply<api::Done> {
    let detach = body::<api::Act>(&bytes)?.detach;
    ask(&send, |answer| Request::Restart { name, detach, answer }).await.map(Json)
}

async fn kill_service(State(send): State<Send>, Path(name): Path<String>, bytes: Bytes) -> Reply<api::Done> {
    let asked = body::<api::Kill>(&bytes)?.signal;
    let signal = sampan_config::units::parse_signal(&asked)
        .ok_or_else(|| failure("usage", format!("no signal {asked:?}; write SIGTERM, TERM or 15")))?;
    ask(&send, |answer| Request::Kill { name, signal, answer }).await.map(Json)
}

async fn pause(State(send): State<Send>, Path(name): Path<String>, frozen: bool) -> Reply<api::Done> {
    ask(&send, |answer| Request::Pause { name, frozen, answer }).await.map(Json)
}

async fn update(State(send): State<Send>, Path(name): Path<String>, bytes: Bytes) -> Reply<api::Done> {
    let update = body(&bytes)?;
    ask(&send, |answer| Request::Update { name, update, answer }).await.map(Json)
}

async fn reload(State(send): State<Send>, Path(name): Path<String>) -> Reply<api::Done> {
    ask(&send, |answer| Request::Reload { name, answer }).await.map(Json)
}

async fn up(State(send): State<Send>, bytes: Bytes) -> Reply<api::Done> {
    let up = body(&bytes)?;
    ask(&send, |answer| Request::Up { up, answer }).await.map(Json)
}

/// The connection ends with the answer: sampand waits for that.
async fn down(
    State(send): State<Send>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<impl IntoResponse, Refusal> {
    let connection = peer.connection();
    let done = ask(&send, |answer| Request::Down { answer, connection }).await?;
    Ok(([(header::CONNECTION, "close")], Json(done)))
}

async fn apply(State(send): State<Send>, bytes: Bytes) -> Reply<api::Applied> {
    let dry_run = body::<api::Apply>(&bytes)?.dry_run;
    ask(&send, |answer| Request::Apply { dry_run, answer }).await.map(Json)
}

async fn plugins(State(send): State<Send>) -> Reply<Vec<api::PluginStatus>> {
    ask(&send, Request::Plugins).await.map(Json)
}

async fn reset_plugin(State(send): State<Send>, Path(name): Path<String>) -> Reply<api::PluginReset> {
    ask(&send, |answer| Request::ResetPlugin { name, answer }).await.map(Json)
}

#[derive(Debug, Deserialize)]
struct EventsQuery {
    since: Option<u64>,
    #[serde(default)]
    follow: bool,
}

/// Lines of JSON: what was, then, with `follow`, what comes.
async fn events(State(send): State<Send>, Query(query): Query<EventsQuery>) -> Result<Response, Refusal> {
    let EventStream { gap, past, live } =
        ask(&send, |answer| Request::Events { since: query.since, answer }).await?;
    let mut text = String::new();
    if let Some(gap) = gap {
        text.push_str(&line(&gap));
    }
    text.extend(past.iter().map(line));
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
    let body = match query.follow {
        false => Body::from_stream(first),
        true => {
            let live = stream::unfold(live, |mut live| async move {
                let bytes = match live.recv().await {
                    Ok(transition) => line(&transition),
                    Err(broadcast::error::RecvError::Lagged(missed)) => line(&api::Missed { missed }),
                    Err(broadcast::error::RecvError::Closed) => return None,
                };
                Some((Ok(Bytes::from(bytes)), live))
            });
            Body::from_stream(futures_util::StreamExt::chain(first, live))
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn line(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).map(|text| text + "\n").unwrap_or_default()
}

/// `service=` may be repeated, which a struct cannot say.
async fn logs(
    State(send): State<Send>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let (mut services, mut follow, mut tail) = (Vec::new(), false, None);
    for (key, value) in query {
        match key.as_str() {
            "service" => services.push(value),
            "follow" => follow = matches!(value.as_str(), "" | "1" | "true"),
            "tail" => {
                let wrong = |_| failure("usage", format!("tail: {value:?} is no number of lines"));
                tail = Some(value.parse().map_err(wrong)?);
            }
            _ => return Err(failure("usage", format!("unknown parameter {key:?}")).into()),
        }
    }
    let fd = ask(&send, |answer| Request::Logs { services, follow, tail, answer }).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], descriptor_body(fd)?).into_response())
}

/// A pipe's bytes as they come, to its end.
fn descriptor_body(fd: OwnedFd) -> Result<Body, Refusal> {
    let internal = |error: std::io::Error| failure("internal", format!("cannot read the stream: {error}"));
    rustix::io::ioctl_fionbio(&fd, true).map_err(|error| internal(error.into()))?;
    let fd = crate::fence::readable(fd).map_err(internal)?;
    Ok(Body::from_stream(stream::unfold(fd, |fd| async move {
        loop {
            let mut ready = fd.readable().await.ok()?;
            let mut buffer = vec![0; CHUNK_BYTES];
            match ready.try_io(|fd| Ok(rustix::io::read(&**fd.get_ref(), &mut buffer[..])?)) {
                Err(_) => {}
                Ok(Ok(0)) => return None,
                Ok(Ok(count)) => {
                    drop(ready);
                    buffer.truncate(count);
                    return Some((Ok::<_, std::io::Error>(Bytes::from(buffer)), fd));
                }
                Ok(Err(error)) => {
                    drop(ready);
                    return Some((Err(error), fd));
                }
            }
        }
    })))
}

#[derive(Debug, Deserialize)]
struct ConfigQuery {
    service: Option<String>,
    #[serde(default)]
    json: bool,
}

async fn config(State(send): State<Send>, Query(query): Query<ConfigQuery>) -> Result<Response, Refusal> {
    let ConfigQuery { service, json } = query;
    let text = ask(&send, |answer| Request::Config { service, json, answer }).await?;
    let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn control(
    State(send): State<Send>,
    Path(plugin): Path<String>,
    Json(body): Json<serde_json::Value>,
) -> Result<Response, Refusal> {
    let reply = ask(&send, |answer| Request::Control { plugin, body, answer }).await?;
    match reply.stream {
        Some(fd) => Ok(descriptor_body(fd)?.into_response()),
        None => Ok(Json(reply.body).into_response()),
    }
}
