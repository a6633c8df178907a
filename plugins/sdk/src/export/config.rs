//! What `open` is given: the plugin's config, and its mistakes by name.
use crate::abi;
use crate::error::{Error, Result};
use crate::host::About;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The plugin's config, and what the host says of itself.
pub(super) fn open_body(body: &[u8]) -> Result<(Value, About)> {
    let mut body: Value = if body.is_empty() { json!({}) } else { serde_json::from_slice(body)? };
    let config = body.get_mut("config").map_or(Value::Null, Value::take);
    let mut about: About = match body.get_mut("host") {
        Some(host) => serde_json::from_value(host.take())?,
        None => About::default(),
    };
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    about.boot_id = text("boot_id");
    about.reason = text("reason");
    Ok((config, about))
}

/// A config error names its place below `config` and, for an unknown key, the nearest that exists.
pub(super) fn read_config<T: DeserializeOwned>(config: Value) -> Result<T> {
    let config = if config.is_null() { json!({}) } else { config };
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => "config".to_owned(),
            path => format!("config.{path}"),
        };
        let text = error.inner().to_string();
        let hint = nearest_of(&text).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
        Error::with_status(abi::E_INVAL, format!("{path}: {text}{hint}"))
    })
}

/// serde says: unknown field `retires`, expected one of `retries`, `deny`.
fn nearest_of(text: &str) -> Option<&str> {
    let mut names = text.strip_prefix("unknown field `")?.split('`').step_by(2);
    let wrong = names.next()?;
    names
        .filter(|name| !name.is_empty())
        .map(|name| (distance(wrong, name), name))
        .min()
        .filter(|(far, name)| *far <= name.len().max(3) / 2)
        .map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
