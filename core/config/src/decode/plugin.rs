//! `[plugins.X]`.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Number};

use super::{Field, Fields, Value};
use crate::schema::{OnError, Plugin};

pub fn plugin(name: &str, t: &Fields<'_>, plugin_dir: &Path) -> Plugin {
    let required = t.or("required", Field::boolean, false);
    let default = if required { OnError::Fail } else { OnError::Ignore };
    let plugin = Plugin {
        enabled: t.or("enabled", Field::boolean, true),
        path: t.or("path", Field::host_path, plugin_dir.join(format!("lib{name}.so"))),
        config: t.or("config", config, serde_json::Value::Object(Map::new())),
        after: t.or("after", |f| f.list(Field::nonempty), Vec::new()),
        services: t.or("services", |f| f.list(Field::nonempty), vec!["*".into()]),
        required,
        on_error: t.or("on_error", |f| f.word("answer", ON_ERROR, &[]), default),
        timeout: t.or("timeout", Field::period, Duration::from_secs(5)),
        hard_timeout: t.or("hard_timeout", Field::period, Duration::from_secs(60)),
        open_timeout: t.or("open_timeout", Field::period, Duration::from_secs(10)),
        grants: t.or("grants", |f| f.list(|f| f.word("grant", GRANTS, &[]).map(str::to_owned)), Vec::new()),
    };
    if let Some(f) = t.get("timeout").filter(|_| plugin.timeout > plugin.hard_timeout) {
        f.wrong("longer than hard_timeout", "hard_timeout is the end of all extensions");
    }
    plugin
}

/// The leaves of a spec with which a plugin could take the machine.
const GRANTS: &[(&str, &str)] = &[
    ("seccomp", "seccomp"),
    ("capabilities", "capabilities"),
    ("devices", "devices"),
    ("namespaces", "namespaces"),
    ("hooks", "hooks"),
    ("sysctl", "sysctl"),
    ("user", "user"),
];

const ON_ERROR: &[(&str, OnError)] =
    &[("fail", OnError::Fail), ("ignore", OnError::Ignore), ("disable", OnError::Disable)];

fn config(f: &Field<'_>) -> Option<serde_json::Value> {
    match f.node.value {
        Value::Table(_) => json(f),
        _ => f.expected("a table"),
    }
}

/// As it stands, variables substituted.
fn json(f: &Field<'_>) -> Option<serde_json::Value> {
    Some(match &f.node.value {
        Value::Text(_) => f.text()?.into(),
        Value::Integer(n) => (*n).into(),
        Value::Float(n) => Number::from_f64(*n).map_or(serde_json::Value::Null, Into::into),
        Value::Bool(b) => (*b).into(),
        Value::Date(d) => d.clone().into(),
        Value::Array(_) => f.list(json)?.into(),
        Value::Table(_) => f
            .fields()
            .entries()
            .filter_map(|(name, field)| Some((name.to_string(), json(&field)?)))
            .collect::<Map<_, _>>()
            .into(),
    })
}
