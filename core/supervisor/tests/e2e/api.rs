//! docs/openapi.json beside a live sampand: each path of it is asked, and what comes is what it says.
use super::world::run;
use super::{LIVE, World};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

/// Method, path with its query, body. In this order: the last one ends sampand.
const CALLS: &[(&str, &str, &str)] = &[
    ("get", "/v1/version", ""),
    ("get", "/v1/loop", ""),
    ("get", "/v1/metrics", ""),
    ("get", "/v1/services", ""),
    ("get", "/v1/services?filter=state=running&filter=label=tier=front", ""),
    ("get", "/v1/services/web", ""),
    ("get", "/v1/services/web/why", ""),
    ("get", "/v1/services/web/processes", ""),
    ("get", "/v1/services/web/wait?condition=running&timeout_ms=60000", ""),
    ("get", "/v1/usage?service=web&service=idle", ""),
    ("get", "/v1/graph", ""),
    ("get", "/v1/volumes", ""),
    ("delete", "/v1/volumes/spare", ""),
    ("get", "/v1/secrets", ""),
    ("get", "/v1/networks", ""),
    ("get", "/v1/networks/back", ""),
    ("post", "/v1/services/idle/start", r#"{"detach": true}"#),
    ("post", "/v1/services/idle/stop", "{}"),
    ("post", "/v1/services/web/restart", ""),
    ("post", "/v1/services/web/kill", r#"{"signal": "SIGCONT"}"#),
    ("post", "/v1/services/web/pause", ""),
    ("post", "/v1/services/web/unpause", ""),
    ("post", "/v1/services/web/update", r#"{"pids": "50"}"#),
    ("post", "/v1/services/web/reload", ""),
    ("post", "/v1/services/web/run", r#"{"name": "once", "command": ["/bin/true"], "remove": true}"#),
    ("post", "/v1/services/web/attach", ""),
    ("post", "/v1/up", r#"{"services": ["web"], "wait": true, "timeout_ms": 60000}"#),
    ("post", "/v1/apply", r#"{"dry_run": true}"#),
    ("get", "/v1/events?since=0", ""),
    ("get", "/v1/logs?service=web&tail=5", ""),
    ("get", "/v1/config?service=web", ""),
    ("get", "/v1/config?json=true", ""),
    ("get", "/v1/plugins", ""),
    ("post", "/v1/plugins/logging/control", r#"{"verb": "status", "services": ["web"]}"#),
    ("post", "/v1/plugins/logging/reset", ""),
    ("post", "/v1/down", ""),
];

fn document() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Is this path, without its query, one of the template's?
fn is_of(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('?').next().unwrap().split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(wanted, is)| wanted == is || wanted.starts_with('{'))
}

/// Status, media type and body.
fn call(world: &World, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--max-time",
        "60",
        "-X",
        &method.to_uppercase(),
        "-w",
        "\n%{http_code} %{content_type}",
    ]);
    if !body.is_empty() {
        curl.args(["-H", "content-type: application/json", "-d", body]);
    }
    curl.arg("--unix-socket").arg(world.socket()).arg(format!("http://localhost{path}"));
    let ran = run(&mut curl);
    assert_eq!(ran.code, 0, "{method} {path}: {ran:?}");
    let (body, last) = ran.out.rsplit_once('\n').unwrap();
    let (code, media) = last.split_once(' ').unwrap_or((last, ""));
    (code.parse().unwrap(), media.split(';').next().unwrap().to_owned(), body.to_owned())
}

/// The first line of the answer to whoever asks for another protocol.
fn upgraded(world: &World, path: &str) -> String {
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    let protocol = sampan_api::attach::PROTOCOL;
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
        .unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

/// What the document's schema says against a value.
fn refused(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let whole = json!({ "allOf": [schema], "components": document["components"] });
    let validator = jsonschema::draft202012::new(&whole).unwrap();
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn each_path_of_the_document_answers_as_it_says() {
    let logging = super::world::library("logging");
    let mut world = world!(
        "[plugins.logging]\npath = \"{}\"\n[volumes.spare]\n[volumes.data]\n[networks.back]\n[secrets.key]\nenvironment = \"PATH\"\n\
         [services.web]\n{LIVE}labels = {{ tier = \"front\" }}\nvolumes = [\"data:/data\"]\n\
         reload = {{ signal = \"SIGCONT\" }}\nhealthcheck = {{ test = [\"CMD\", \"/bin/true\"], interval = \"100ms\" }}\n\
         [services.idle]\nautostart = false\n{LIVE}depends_on = [\"web\"]\n",
        logging.display()
    );
    world.start();
    world.until("web is healthy", |world| world.inspect("web").status.health == "healthy");
    let (document, mut wrong) = (document(), Vec::new());
    for (method, path, body) in CALLS {
        let paths = document["paths"].as_object().unwrap();
        let Some(operation) = paths.iter().find_map(|(t, of)| is_of(t, path).then(|| of.get(*method))?)
        else {
            wrong.push(format!("{method} {path} is not in the document"));
            continue;
        };
        if operation["responses"]["101"].is_object() {
            let line = upgraded(&world, path);
            if !line.starts_with("HTTP/1.1 101 ") {
                wrong.push(format!("{method} {path}: {line}"));
            }
            continue;
        }
        let (code, media, said) = call(&world, method, path, body);
        let schema = &operation["responses"]["200"]["content"][&media]["schema"];
        // JSON where it is asked for is said in words.
        let is_config = path.starts_with("/v1/config");
        if code != 200 || schema.is_null() && !is_config {
            wrong.push(format!("{method} {path}: {code} {media}: {said}"));
            continue;
        }
        let values: Vec<Value> = match media.as_str() {
            "application/json" => vec![serde_json::from_str(&said).unwrap()],
            "application/x-ndjson" => said.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            _ => Vec::new(),
        };
        if media == "application/x-ndjson" && values.is_empty() || said.is_empty() && !path.contains("/logs")
        {
            wrong.push(format!("{method} {path} says nothing"));
        }
        for value in values.iter().filter(|_| !schema.is_null()) {
            wrong.extend(
                refused(&document, schema, value)
                    .iter()
                    .map(|why| format!("{method} {path}: {why} in {value}")),
            );
        }
    }
    assert_eq!(world.ended(), Some(0), "the last call was `down`");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_path_is_asked_and_every_path_of_sampand_is_in_the_document() {
    let document = document();
    let mut all: Vec<(String, String)> = Vec::new();
    for (path, of) in document["paths"].as_object().unwrap() {
        all.extend(of.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let never: Vec<_> = all
        .iter()
        .filter(|(m, p)| !CALLS.iter().any(|(method, path, _)| m == method && is_of(p, path)))
        .collect();
    assert!(never.is_empty(), "{never:?} is never asked");
    let source = include_str!("../../src/serve/mod.rs");
    let mut routes: Vec<(String, String)> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split_once("\", "))
        .map(|(path, method)| (method.split('(').next().unwrap().to_owned(), path.to_owned()))
        .collect();
    routes.sort();
    all.sort();
    assert_eq!(routes, all);
}

#[test]
fn a_failure_is_as_the_document_says() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    let document = document();
    let schema = json!({ "$ref": "#/components/schemas/Failure" });
    for (method, path, body, code) in [
        ("get", "/v1/services/b", "", 404),
        ("get", "/v2", "", 404),
        ("post", "/v1/services/a/kill", r#"{"signal": "SIGNO"}"#, 400),
        ("post", "/v1/services/a/start", "{", 400),
        ("get", "/v1/services/a/wait?condition=done", "", 409),
    ] {
        let (is, media, said) = call(&world, method, path, body);
        assert_eq!((is, media.as_str()), (code, "application/json"), "{method} {path}: {said}");
        let failure = serde_json::from_str(&said).unwrap();
        assert_eq!(refused(&document, &schema, &failure), Vec::<String>::new(), "{said}");
    }
}
