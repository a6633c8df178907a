//! Requests that only look: lists with filters, what services use, waiting for a condition.
use super::{Refusal, Reply, Send, ask};
use crate::request::{Request, failure};
use crate::turn::Turn;
use crate::usage::{self, Lives};
use axum::Json;
use axum::extract::{Path, Query, State};
use sampan_api as api;
use serde::Deserialize;
use std::time::Duration;

/// A look takes so long at most.
const LOOK_MAX: Duration = Duration::from_secs(5);

type Pairs = Query<Vec<(String, String)>>;

/// One that a status may have to pass.
#[derive(Debug, PartialEq)]
enum Filter {
    State(String),
    Health(String),
    Label(String, Option<String>),
}

impl Filter {
    fn parse(text: &str) -> Result<Filter, api::Failure> {
        let known = "filters are label=KEY, label=KEY=VALUE, state=STATE and health=HEALTH";
        let (kind, value) =
            text.split_once('=').ok_or_else(|| failure("usage", format!("no filter {text:?}; {known}")))?;
        match kind {
            "state" | "status" => Ok(Filter::State(value.to_owned())),
            "health" => Ok(Filter::Health(value.to_owned())),
            "label" => Ok(match value.split_once('=') {
                Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
                None => Filter::Label(value.to_owned(), None),
            }),
            _ => Err(failure("usage", format!("no filter by {kind:?}; {known}"))),
        }
    }

    fn passes(&self, status: &api::Status) -> bool {
        match self {
            Filter::State(state) => status.state == *state,
            Filter::Health(health) => status.health == *health,
            Filter::Label(key, value) => {
                status.labels.get(key).is_some_and(|has| value.as_ref().is_none_or(|value| has == value))
            }
        }
    }
}

/// Every label has to be there; of states, and of healths, one.
fn passes(filters: &[Filter], status: &api::Status) -> bool {
    let one_of = |is: fn(&Filter) -> bool| {
        let mut of_kind = filters.iter().filter(|filter| is(filter)).peekable();
        of_kind.peek().is_none() || of_kind.any(|filter| filter.passes(status))
    };
    one_of(|filter| matches!(filter, Filter::State(_)))
        && one_of(|filter| matches!(filter, Filter::Health(_)))
        && filters.iter().filter(|f| matches!(f, Filter::Label(..))).all(|filter| filter.passes(status))
}

/// The values of the one parameter that there is, which may be repeated.
fn values(query: Vec<(String, String)>, name: &str) -> Result<Vec<String>, Refusal> {
    query
        .into_iter()
        .map(|(key, value)| match key == name {
            true => Ok(value),
            false => Err(failure("usage", format!("unknown parameter {key:?}")).into()),
        })
        .collect()
}

pub async fn services(State(send): State<Send>, Query(query): Pairs) -> Reply<Vec<api::Status>> {
    let filters: Vec<Filter> =
        values(query, "filter")?.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>()?;
    let mut all = ask(&send, Request::Services).await?;
    all.retain(|status| passes(&filters, status));
    Ok(Json(all))
}

#[derive(Debug, Deserialize)]
pub struct WaitQuery {
    condition: api::Condition,
    timeout_ms: Option<u64>,
}

pub async fn wait(
    State(send): State<Send>,
    Path(name): Path<String>,
    Query(WaitQuery { condition, timeout_ms }): Query<WaitQuery>,
) -> Reply<api::Done> {
    ask(&send, |answer| Request::Wait { name, condition, timeout_ms, answer }).await.map(Json)
}

pub async fn graph(State(send): State<Send>) -> Reply<Vec<api::Needs>> {
    ask(&send, Request::Graph).await.map(Json)
}

pub async fn used(State(send): State<Send>, turn: Turn, Query(query): Pairs) -> Reply<Vec<api::Usage>> {
    let services = values(query, "service")?;
    look(&send, turn, services, usage::usage).await
}

pub async fn processes(
    State(send): State<Send>,
    turn: Turn,
    Path(name): Path<String>,
) -> Reply<Vec<api::Process>> {
    look(&send, turn, vec![name], usage::processes).await
}

/// What the loop knows, and what the kernel says of its network.
pub async fn inspect(State(send): State<Send>, turn: Turn, Path(name): Path<String>) -> Reply<api::Inspect> {
    let asked = name.clone();
    let mut inspect = ask(&send, |answer| Request::Service { name: asked, answer }).await?;
    if inspect.status.pid.is_some() {
        // The rest is worth showing without.
        let found = look(&send, turn, vec![name], usage::addresses).await;
        inspect.addresses = found.map(|Json(found)| found).unwrap_or_default();
    }
    Ok(Json(inspect))
}

/// On a thread of the pool, one at a time: whoever asks often waits.
async fn look<T: std::marker::Send + 'static>(
    send: &Send,
    turn: Turn,
    services: Vec<String>,
    read: fn(&Lives) -> T,
) -> Reply<T> {
    let asked = ask(send, |answer| Request::Lives { services, answer });
    let looked = tokio::time::timeout(LOOK_MAX, turn.take(asked, move |lives| read(&lives)));
    let late = |_| failure("timeout", "the kernel did not tell in 5 s; try again");
    looked.await.map_err(late)?.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, labels: &[(&str, &str)]) -> api::Status {
        let labels: serde_json::Map<String, serde_json::Value> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        serde_json::from_value(serde_json::json!({
            "name": "a", "state": state, "text": state, "health": "-", "wanted": "up", "restarts": 0, "last_exit": null,
            "pid": null, "ports": [], "generation": 1, "labels": labels,
        }))
        .unwrap()
    }

    #[test]
    fn labels_add_up_and_states_are_alternatives() {
        let one = status("running", &[("tier", "web"), ("team", "")]);
        let is = |filters: &[&str]| {
            let filters: Vec<Filter> = filters.iter().map(|text| Filter::parse(text).unwrap()).collect();
            passes(&filters, &one)
        };
        assert!(is(&[]) && is(&["label=tier"]) && is(&["label=tier=web", "label=team="]));
        assert!(!is(&["label=tier=web", "label=no"]) && !is(&["label=tier=db"]) && !is(&["label=team=x"]));
        assert!(is(&["state=failed", "state=running"]) && !is(&["state=failed"]));
        assert!(!is(&["state=running", "health=healthy"]) && is(&["status=running", "health=-"]));
        for wrong in ["", "state", "name=a", "=x"] {
            assert_eq!(Filter::parse(wrong).unwrap_err().code, "usage", "{wrong:?}");
        }
    }
}
