//! What can be asked of sampand: one row for each method and path.

use schemars::{Schema, SchemaGenerator};

use crate::run::Run;
use crate::stores::*;
use crate::types::*;

/// A type's schema, or a reference to it.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

pub enum Reply {
    Json(Shape),
    /// One JSON object a line, each of one of these types, until the client goes or there is no more.
    Lines(&'static [Shape]),
    /// A media type, and what the text is.
    Text(&'static str, &'static str),
    /// Whatever a plugin answers.
    Any,
    /// Answered with 101: the connection then carries this protocol.
    Upgrade(&'static str),
}

pub struct Parameter {
    pub name: &'static str,
    /// A JSON Schema.
    pub schema: &'static str,
    pub required: bool,
    pub about: &'static str,
}

pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub about: &'static str,
    pub query: &'static [Parameter],
    pub body: Option<Shape>,
    pub reply: Reply,
}

fn of<T: schemars::JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

const fn get(path: &'static str, about: &'static str, query: &'static [Parameter], reply: Reply) -> Route {
    Route { method: "get", path, about, query, body: None, reply }
}

const fn post(path: &'static str, about: &'static str, body: Option<Shape>, reply: Reply) -> Route {
    Route { method: "post", path, about, query: &[], body, reply }
}

const fn parameter(name: &'static str, schema: &'static str, about: &'static str) -> Parameter {
    Parameter { name, schema, required: false, about }
}

const PLAIN: &str = "text/plain";
const STRING: &str = r#"{"type":"string"}"#;
const STRINGS: &str = r#"{"type":"array","items":{"type":"string"}}"#;
const BOOLEAN: &str = r#"{"type":"boolean","default":false}"#;
const NUMBER: &str = r#"{"type":"integer","minimum":0}"#;

const SERVICES: Parameter = parameter("service", STRINGS, "of these services; none: of all");
const DONE: Reply = Reply::Json(of::<Done>);

pub const ROUTES: &[Route] = &[
    get("/v1/version", "versions and process ids", &[], Reply::Json(of::<Version>)),
    get("/v1/loop", "what sampand's worker has done since it began", &[], Reply::Json(of::<Loop>)),
    get(
        "/v1/metrics",
        "numbers for Prometheus (metrics.md)",
        &[],
        Reply::Text("application/openmetrics-text", "OpenMetrics"),
    ),
    get(
        "/v1/services",
        "all services, or those that pass",
        &[parameter(
            "filter",
            STRINGS,
            "`label=KEY`, `label=KEY=VALUE`, `state=STATE`, `health=HEALTH`; for each key one of its values has to hold, of labels all",
        )],
        Reply::Json(of::<Vec<Status>>),
    ),
    get("/v1/services/{name}", "all that is known of a service", &[], Reply::Json(of::<Inspect>)),
    get("/v1/services/{name}/why", "why it is as it is", &[], Reply::Json(of::<Why>)),
    get("/v1/services/{name}/processes", "its processes", &[], Reply::Json(of::<Vec<Process>>)),
    get(
        "/v1/services/{name}/wait",
        "answers when the condition holds",
        &[
            Parameter {
                name: "condition",
                schema: r##"{"$ref":"#/components/schemas/Condition"}"##,
                required: true,
                about: "what is waited for",
            },
            parameter("timeout_ms", NUMBER, "how long at most; then `complete` is false"),
        ],
        DONE,
    ),
    post("/v1/services/{name}/start", "starts it", Some(of::<Act>), DONE),
    post("/v1/services/{name}/stop", "stops it, and it stays stopped", Some(of::<Act>), DONE),
    post("/v1/services/{name}/restart", "stops and starts it", Some(of::<Act>), DONE),
    post(
        "/v1/services/{name}/run",
        "runs a container of its own with the service's settings, once; answers when it has started, or will not",
        Some(of::<Run>),
        DONE,
    ),
    post("/v1/services/{name}/kill", "sends a signal to its main process", Some(of::<Kill>), DONE),
    post("/v1/services/{name}/pause", "freezes it", None, DONE),
    post("/v1/services/{name}/unpause", "thaws it", None, DONE),
    post("/v1/services/{name}/update", "other limits for its present life", Some(of::<Update>), DONE),
    post(
        "/v1/services/{name}/attach",
        "joins its output and types to it (attach.md); with the header `upgrade: sampan-attach`",
        None,
        Reply::Upgrade("frames, see below"),
    ),
    post(
        "/v1/services/{name}/reload",
        "has it read its config again; answers when it is ready, where it says so",
        None,
        DONE,
    ),
    get("/v1/usage", "what those services use that live", &[SERVICES], Reply::Json(of::<Vec<Usage>>)),
    get("/v1/graph", "who depends on whom", &[], Reply::Json(of::<Vec<Needs>>)),
    get("/v1/volumes", "named volumes", &[], Reply::Json(of::<Vec<Volume>>)),
    Route {
        method: "delete",
        path: "/v1/volumes/{name}",
        about: "removes a volume with all that is in it",
        query: &[],
        body: None,
        reply: Reply::Json(of::<Volume>),
    },
    get(
        "/v1/secrets",
        "secrets: where they come from, never what they are",
        &[],
        Reply::Json(of::<Vec<Secret>>),
    ),
    get("/v1/networks", "networks, and who is in them", &[], Reply::Json(of::<Vec<Network>>)),
    get("/v1/networks/{name}", "one network", &[], Reply::Json(of::<Network>)),
    post("/v1/up", "applies the config and starts services", Some(of::<Up>), DONE),
    post(
        "/v1/apply",
        "reads the config again; what changed is carried out",
        Some(of::<Apply>),
        Reply::Json(of::<Applied>),
    ),
    post(
        "/v1/down",
        "stops everything; answers when the last container is gone, and sampand ends",
        None,
        DONE,
    ),
    get(
        "/v1/events",
        "transitions of services, as the journal has them",
        &[
            parameter(
                "since",
                NUMBER,
                "what was, from this sequence number on: 0 is all that is kept, and without it nothing",
            ),
            parameter("follow", BOOLEAN, "go on as they happen"),
        ],
        Reply::Lines(&[of::<Transition>, of::<Gap>, of::<Missed>]),
    ),
    get(
        "/v1/logs",
        "what services wrote",
        &[
            SERVICES,
            parameter("follow", BOOLEAN, "go on as it is written"),
            parameter("tail", NUMBER, "so many lines of each"),
        ],
        Reply::Text(PLAIN, "lines `SERVICE TIME STREAM F|P TEXT`; `P` is a part of a line that goes on"),
    ),
    get(
        "/v1/config",
        "the config as it is applied, with each value's origin",
        &[parameter("service", STRING, "this service alone"), parameter("json", BOOLEAN, "as JSON")],
        Reply::Text(PLAIN, "text, or JSON where that was asked for"),
    ),
    get("/v1/plugins", "plugins", &[], Reply::Json(of::<Vec<PluginStatus>>)),
    post(
        "/v1/plugins/{name}/control",
        "asks a plugin something of its own",
        Some(of::<serde_json::Value>),
        Reply::Any,
    ),
    post(
        "/v1/plugins/{name}/reset",
        "forgets that a plugin was disabled",
        None,
        Reply::Json(of::<PluginReset>),
    ),
];
