//! What a value may be, as far as it can be seen without its surroundings, and how JSON Schema says so.

use serde_json::{Value, json};

use crate::decode::CAPABILITIES;
use crate::units;

/// Numbers and booleans may be text with a variable too (`"${PORT}"`), and so may words and what has a pattern.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Anything,
    Boolean,
    /// From, to.
    Integer(i64, i64),
    Number(f64, f64),
    Text,
    Nonempty,
    Duration,
    Size,
    /// Octal, as text.
    Mode,
    Signal,
    Capability,
    /// Of the container: begins with `/`.
    Inside,
    Words(&'static [&'static str]),
    /// Text, and an example of it.
    Like(&'static str, &'static str),
    List(&'static Shape),
    /// One at least.
    Some(&'static Shape),
    /// Names of any kind, with values of one.
    Map(&'static Shape),
    /// These names.
    MapOf(&'static [&'static str], &'static Shape),
    Table(Table),
    Any(&'static [Shape]),
}

#[derive(Debug, Clone, Copy)]
pub struct Table {
    pub keys: &'static [(&'static str, Shape)],
    pub required: &'static [&'static str],
}

/// Each in `$defs`, by its name.
pub fn definitions() -> Value {
    json!({
        "variable": {
            "description": "text with a variable of sampand's environment",
            "type": "string",
            "pattern": "\\$\\{",
        },
        "duration": {
            "description": "units us ms s m h d, never a bare number",
            "type": "string",
            "pattern": "^\\s*(([0-9]+\\.?[0-9]*|\\.[0-9]+)\\s*([dhms]|ms|us)\\s*)+$|\\$\\{",
            "examples": ["1m30s", "250ms"],
        },
        "size": {
            "description": "bytes, or text with K M G T of 1024",
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^\\s*([0-9]+\\.?[0-9]*|\\.[0-9]+)\\s*([kmgtKMGT]([iI]?[bB])?|[bB])?\\s*$|\\$\\{",
            "examples": ["512M", 4096],
        },
        "mode": {
            "description": "octal, as text",
            "type": "string",
            "pattern": "^0*[0-7]{1,4}$|\\$\\{",
            "examples": ["0755"],
        },
        "signal": {
            "description": "a signal's name or number",
            "type": ["integer", "string"],
            "minimum": 1,
            "maximum": 64,
            "pattern": signals(),
            "examples": ["SIGTERM"],
        },
        "capability": {
            "description": "of capabilities(7), with CAP_ or without; or ALL",
            "type": "string",
            "pattern": format!("^(ALL|(CAP_)?({}))$", CAPABILITIES.join("|")).any_case(),
            "examples": ["NET_ADMIN"],
        },
        "inside": {
            "description": "a path in the container",
            "type": "string",
            "pattern": "^/|\\$\\{",
        },
    })
}

fn signals() -> String {
    let names: Vec<&str> = units::signal_names().collect();
    let numbers = "[+]?0*([1-9]|[1-5][0-9]|6[0-4])";
    let pattern =
        format!("^\\s*(SIG)?({}|RTMIN([+][0-9]+)?|RTMAX(-[0-9]+)?|{numbers})\\s*$", names.join("|"));
    pattern.any_case()
}

trait AnyCase {
    /// A pattern of JSON Schema has no flag for it.
    fn any_case(&self) -> String;
}

impl AnyCase for str {
    /// The letters after a backslash are no letters of the text.
    fn any_case(&self) -> String {
        let mut out = String::new();
        let mut before = ' ';
        for c in self.chars() {
            match c.is_ascii_uppercase() && before != '\\' {
                true => out.extend(['[', c, c.to_ascii_lowercase(), ']']),
                false => out.push(c),
            }
            before = c;
        }
        format!("{out}|\\$\\{{")
    }
}

impl Shape {
    pub fn json(&self) -> Value {
        let named = |name: &str| json!({ "$ref": format!("#/$defs/{name}") });
        let or_variable = |one: Value| json!({ "anyOf": [one, named("variable")] });
        match self {
            Shape::Anything => json!({}),
            Shape::Boolean => or_variable(json!({ "type": "boolean" })),
            Shape::Integer(low, high) => {
                or_variable(json!({ "type": "integer", "minimum": low, "maximum": high }))
            }
            Shape::Number(low, high) => {
                or_variable(json!({ "type": "number", "minimum": low, "maximum": high }))
            }
            Shape::Text => json!({ "type": "string" }),
            Shape::Nonempty => json!({ "type": "string", "minLength": 1 }),
            Shape::Duration => named("duration"),
            Shape::Size => named("size"),
            Shape::Mode => named("mode"),
            Shape::Signal => named("signal"),
            Shape::Capability => named("capability"),
            Shape::Inside => named("inside"),
            Shape::Words(words) => or_variable(json!({ "enum": words })),
            Shape::Like(pattern, example) => {
                json!({ "type": "string", "pattern": format!("{pattern}|\\$\\{{"), "examples": [example] })
            }
            Shape::List(of) => json!({ "type": "array", "items": of.json() }),
            Shape::Some(of) => json!({ "type": "array", "items": of.json(), "minItems": 1 }),
            Shape::MapOf(names, of) => json!({
                "type": "object",
                "propertyNames": { "enum": names },
                "additionalProperties": of.json(),
            }),
            Shape::Map(of) => json!({ "type": "object", "additionalProperties": of.json() }),
            Shape::Table(Table { keys, required }) => {
                let keys: serde_json::Map<String, Value> =
                    keys.iter().map(|(name, shape)| ((*name).to_owned(), shape.json())).collect();
                let mut table =
                    json!({ "type": "object", "properties": keys, "additionalProperties": false });
                if !required.is_empty() {
                    table["required"] = json!(required);
                }
                table
            }
            Shape::Any(shapes) => {
                json!({ "anyOf": shapes.iter().map(Shape::json).collect::<Vec<_>>() })
            }
        }
    }
}
