//! Requests about what services share: volumes, secrets, networks.
use super::{Reply, Send, ask};
use crate::request::{Request, no_such};
use crate::turn::Turn;
use axum::Json;
use axum::extract::{Path, State};
use sampan_api as api;

/// One at a time: each has a process look at the paths of services.
pub async fn volumes(State(send): State<Send>, turn: Turn) -> Reply<Vec<api::Volume>> {
    turn.alone(ask(&send, Request::Volumes)).await.map(Json)
}

pub async fn remove_volume(State(send): State<Send>, Path(name): Path<String>) -> Reply<api::Volume> {
    ask(&send, |answer| Request::RemoveVolume { name, answer }).await.map(Json)
}

pub async fn secrets(State(send): State<Send>) -> Reply<Vec<api::Secret>> {
    ask(&send, Request::Secrets).await.map(Json)
}

pub async fn networks(State(send): State<Send>) -> Reply<Vec<api::Network>> {
    ask(&send, Request::Networks).await.map(Json)
}

pub async fn network(State(send): State<Send>, Path(name): Path<String>) -> Reply<api::Network> {
    let all = ask(&send, Request::Networks).await?;
    let names: Vec<&str> = all.iter().map(|network| network.name.as_str()).collect();
    let missing = no_such("network", &name, &names);
    all.into_iter().find(|network| network.name == name).map(Json).ok_or_else(|| missing.into())
}
