//! docs/api.md, of the document.

use std::fmt::Write;

use serde_json::Value;

use crate::routes::{ROUTES, Reply};

const INTRODUCTION: &str = "\
# HTTP API

<!-- Made by `SAMPAN_WRITE_DOCS=1 cargo test -p sampan-api`, from core/api/src and core/api/tests/openapi. -->

`sampanctl` is one client of it, and `curl` another. sampand speaks HTTP/1.1 with JSON on a Unix socket, `/run/sampan/sampand.sock` unless `supervisor.socket` says
otherwise:

```console
# make run                        # in another terminal
# curl -s --unix-socket /run/sampan/sampand.sock http://localhost/v1/version
{\"version\":\"0.2.0\",\"api\":1,\"keel_pid\":412,\"worker_pid\":413,\"worker_lives\":1,\"containers\":\"/run/sampan/containers\"}
# curl -s --unix-socket /run/sampan/sampand.sock -X POST -d '{\"detach\": true}' http://localhost/v1/services/clock/restart
...
```

[openapi.json](openapi.json) is the same as OpenAPI 3.1, for programs that make clients of it; `make install` puts it into `PREFIX/share/sampan`. A test asks a live
sampand each path and holds what it answers against that document.

- **Who may**: root, sampand's own user and members of `supervisor.admin_group` everything; members of `supervisor.read_group` every `GET` but `/v1/config`. The kernel says who
  asks. Nobody else gets an answer but `refused`.
- **Failures** have a status of 4xx or 5xx and a `Failure`, whose `code` is for programs: 400 `usage`, 403 and 409 `refused`, 404 `no-such-...`, 422 `config`, 500
  `internal`, 503 `stopping`, 504 `timeout`, 409 `interrupted`.
- **A body** may be left out where each of its fields may be. It is 1 MiB at most.
- **Times** are RFC 3339 in UTC, durations whole milliseconds with the unit in the name.
- **Versions**: each path begins with `/v1`. Fields may be added; none changes its meaning. Ignore those that you do not know.
- **Once**: a command may carry a header `request-id` of 1 to 64 letters and digits, chosen at random. Send it again with the same one when the connection broke off: what was begun by
  a worker that died is then not done twice, but answered with `interrupted`.
";

const FRAMES: &str = "
## Frames of attach

After the answer 101 to `POST /v1/services/NAME/attach` the connection carries frames, both ways. A frame is a head of 8 bytes, as docker has it (kind, three zeros, the length as 32 bits,
the most significant byte first), and so many bytes, 65,536 at most. Whoever closes the connection detaches; the service goes on.

| kind | from sampand | from the client |
|---|---|---|
| 0 | | what is typed |
| 1, 2 | standard output, standard error; a terminal is standard output alone | |
| 3 | JSON: first `{\"tty\": .., \"stdin_open\": ..}`; last `{\"end\": {\"code\": .., \"text\": ..}}`, or `{\"cut-off\": {\"text\": ..}}` for a reader that was too slow | JSON: `{\"rows\": .., \"columns\": ..}`, the size of the client's terminal |
";

pub fn page(document: &Value) -> String {
    let mut out = format!("{INTRODUCTION}\n## Paths\n\n| | body | answer | |\n|---|---|---|---|\n");
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method];
        let body = match route.body {
            Some(_) => kind(&operation["requestBody"]["content"]["application/json"]["schema"]),
            None => String::new(),
        };
        let content = &operation["responses"]["200"]["content"];
        let reply = match route.reply {
            Reply::Json(_) => kind(&content["application/json"]["schema"]),
            Reply::Lines(_) => {
                let any = content["application/x-ndjson"]["schema"]["anyOf"].as_array();
                let any: Vec<String> = any.into_iter().flatten().map(kind).collect();
                format!("lines, each {}", any.join(" or "))
            }
            Reply::Text(_, about) => cell(about),
            Reply::Any => "anything".to_owned(),
            Reply::Upgrade(about) => about.to_owned(),
        };
        let query: String = route
            .query
            .iter()
            .map(|p| {
                format!("; `?{}=`{} {}", p.name, if p.required { " (required)" } else { "" }, cell(p.about))
            })
            .collect();
        let _ = writeln!(
            out,
            "| `{} {}` | {body} | {reply} | {}{query} |",
            route.method.to_uppercase(),
            route.path.replace("{name}", "NAME"),
            cell(route.about)
        );
    }
    out.push_str(FRAMES);
    out.push_str("\n## Types\n");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(
            out,
            "\n### {name}\n{}",
            about(schema).map(|text| format!("{text}\n")).unwrap_or_default()
        );
        table(schema, &mut out);
    }
    out
}

/// Fields, or the values of an enumeration.
fn table(schema: &Value, out: &mut String) {
    if let Some(fields) = schema["properties"].as_object() {
        out.push_str("\n| field | type | |\n|---|---|---|\n");
        for (field, schema) in fields {
            let _ = writeln!(
                out,
                "| `{field}` | {} | {} |",
                kind(schema),
                cell(&about(schema).unwrap_or_default())
            );
        }
    }
    for value in schema["oneOf"].as_array().into_iter().flatten() {
        let words: Vec<String> = match (&value["const"], value["enum"].as_array()) {
            (Value::String(word), _) => vec![format!("`{word}`")],
            (_, Some(words)) => words.iter().filter_map(|w| w.as_str()).map(|w| format!("`{w}`")).collect(),
            _ => continue,
        };
        let _ = writeln!(
            out,
            "- {}{}",
            words.join(", "),
            about(value).map(|text| format!(": {text}")).unwrap_or_default()
        );
    }
}

fn about(schema: &Value) -> Option<String> {
    Some(schema["description"].as_str()?.replace('\n', " "))
}

/// Nothing ends a cell but its end.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A type as people say it.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let one = choices.iter().find(|choice| choice["type"] != "null").map(kind);
        return format!("{}, or null", one.unwrap_or_default());
    }
    let word = |word: &str| match word {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map to {}", kind(&schema["additionalProperties"]))
        }
        "null" => "or null".to_owned(),
        word => word.to_owned(),
    };
    match &schema["type"] {
        Value::String(one) => word(one),
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(word).collect::<Vec<_>>().join(", "),
        _ => "any JSON".to_owned(),
    }
}
