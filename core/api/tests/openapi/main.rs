//! docs/openapi.json and docs/api.md, made of the types and of one table of paths. `SAMPAN_WRITE_DOCS=1` writes them.
//! That sampand really answers so is asked of a live one: core/supervisor/tests/e2e/api.rs.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod page;
mod routes;
#[allow(dead_code)] // for their schemas alone
#[path = "../../src/run.rs"]
mod run;
#[allow(dead_code)]
#[path = "../../src/stores.rs"]
mod stores;
#[allow(dead_code)]
#[path = "../../src/types.rs"]
mod types;

use std::fs;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use routes::{Parameter, ROUTES, Reply, Route};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn document() -> Value {
    let place = |settings: &mut SchemaSettings| settings.definitions_path = "/components/schemas".into();
    let mut asked = SchemaSettings::draft2020_12().with(place).for_deserialize().into_generator();
    let mut told = SchemaSettings::draft2020_12().with(place).for_serialize().into_generator();
    asked.subschema_for::<types::Condition>();
    let failure = told.subschema_for::<types::Failure>().to_value();
    let mut paths = Map::new();
    for route in ROUTES {
        let content = match &route.reply {
            Reply::Json(shape) => json!({ "application/json": { "schema": shape(&mut told) } }),
            Reply::Lines(shapes) => {
                let any: Vec<_> = shapes.iter().map(|shape| shape(&mut told)).collect();
                json!({ "application/x-ndjson": { "schema": { "anyOf": any } } })
            }
            Reply::Text(media, about) => {
                json!({ *media: { "schema": { "type": "string", "description": about } } })
            }
            Reply::Upgrade(_) => Value::Null,
            Reply::Any => json!({ "application/json": { "schema": true } }),
        };
        let mut operation = json!({
            "summary": route.about,
            "parameters": parameters(route),
            "responses": {
                "200": { "description": "as asked", "content": content },
                "default": { "description": "a failure", "content": { "application/json": { "schema": failure } } },
            },
        });
        if let Reply::Upgrade(about) = route.reply {
            let responses = operation["responses"].as_object_mut().unwrap();
            responses.remove("200");
            responses.insert("101".to_owned(), json!({ "description": about }));
        }
        if let Some(shape) = route.body {
            let is_any = route.path.ends_with("/control");
            operation["requestBody"] = json!({ "required": is_any, "content": { "application/json": { "schema": shape(&mut asked) } } });
        }
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation;
    }
    let mut schemas = told.take_definitions(true);
    schemas.extend(asked.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "sampand's control socket",
            "version": "1",
            "description": "HTTP/1.1 with JSON over a Unix stream socket, /run/sampan/sampand.sock unless the config says otherwise.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://localhost", "description": "the Unix socket; the host's name means nothing" }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn parameters(route: &Route) -> Vec<Value> {
    let name = json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } });
    let query = |Parameter { name, schema, required, about }: &Parameter| {
        let schema: Value = serde_json::from_str(schema).unwrap();
        json!({ "name": name, "in": "query", "required": required, "description": about, "schema": schema })
    };
    let in_path = route.path.contains("{name}").then_some(name);
    in_path.into_iter().chain(route.query.iter().map(query)).collect()
}

/// Compares what stands in a file with what it has to be, or writes it.
fn stands(name: &str, text: &str) {
    let path = workspace().join(name);
    if std::env::var_os("SAMPAN_WRITE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let is = fs::read_to_string(&path).unwrap_or_default();
    assert!(is == text, "{name} is not what the types say: SAMPAN_WRITE_DOCS=1 cargo test -p sampan-api");
}

#[test]
fn the_document_is_of_the_types() {
    let document = document();
    stands("docs/openapi.json", &format!("{}\n", serde_json::to_string_pretty(&document).unwrap()));
    stands("docs/api.md", &page::page(&document));
}

/// Each type that is said has a schema, and each reference leads to one.
#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let (document, mut found) = (document(), Vec::new());
    references(&document, &mut found);
    assert!(found.len() > 30, "{found:?}");
    for reference in found {
        let name = reference.strip_prefix("#/components/schemas/").unwrap_or_else(|| panic!("{reference}"));
        assert!(document["components"]["schemas"].get(name).is_some(), "{reference}");
    }
}
