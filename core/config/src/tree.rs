//! config.toml as a tree of values that know where they stand. Built from toml's own spanned parser; everything after
//! it (short forms, merging, decoding) works on this tree, so that no error loses its line.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::source::{Source, Spot};

#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    pub at: Spot,
    /// The key it was given by; of an array's element, the element.
    pub key: Spot,
    /// Came from `[defaults]`: errors name it so, and a bundle is not overridden by it.
    pub inherited: bool,
}

#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// TOML's dates: no key takes one.
    Date(String),
    Array(Vec<Node>),
    Table(Table),
}

pub type Table = BTreeMap<String, Node>;

impl Node {
    pub fn new(value: Value, at: &Spot, key: &Spot) -> Self {
        Node { value, at: at.clone(), key: key.clone(), inherited: false }
    }

    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a boolean",
            Value::Date(_) => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// Marks the whole subtree as inherited from `[defaults]`.
    pub fn inherit(&mut self) {
        self.inherited = true;
        match &mut self.value {
            Value::Array(items) => items.iter_mut().for_each(Node::inherit),
            Value::Table(table) => table.values_mut().for_each(Node::inherit),
            _ => {}
        }
    }
}

/// What can be read of it, and all syntax errors at once.
pub fn parse(source: &Arc<Source>) -> (Table, Vec<Diagnostic>) {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let mut errors: Vec<Diagnostic> = errors
        .iter()
        .map(|e| {
            let at = Spot::new(source, e.span().unwrap_or(0..0));
            Diagnostic::error("", &at, format!("not TOML: {}", e.message().lines().next().unwrap_or("")), "")
        })
        .collect();
    let broken = !errors.is_empty();
    let (table, more) = convert_table(source, table.into_inner());
    // Of a file that is not TOML, that alone is said.
    if !broken {
        errors.extend(more);
    }
    (table, errors)
}

fn convert_table(source: &Arc<Source>, table: DeTable<'_>) -> (Table, Vec<Diagnostic>) {
    let mut out = Table::new();
    let mut errors = Vec::new();
    for (key, value) in table {
        let spot = Spot::new(source, key.span());
        let (node, more) = convert(source, value, Some(&spot));
        errors.extend(more);
        out.extend(node.map(|node| (key.into_inner().into_owned(), node)));
    }
    (out, errors)
}

/// No node: it is nothing at all. A table or an array is given without what is wrong in it.
fn convert(
    source: &Arc<Source>,
    value: toml::Spanned<DeValue<'_>>,
    key: Option<&Spot>,
) -> (Option<Node>, Vec<Diagnostic>) {
    let at = Spot::new(source, value.span());
    let wrong = |message: &str| (None, vec![Diagnostic::error("", &at, message, "")]);
    let mut errors = Vec::new();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(n) => match i64::from_str_radix(&n.as_str().replace('_', ""), n.radix()) {
            Ok(n) => Value::Integer(n),
            Err(_) => return wrong("an integer beyond 64 bits"),
        },
        DeValue::Float(f) => match f.as_str().replace('_', "").parse() {
            Ok(f) => Value::Float(f),
            Err(_) => return wrong("not a number"),
        },
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::Datetime(d) => Value::Date(d.to_string()),
        DeValue::Array(items) => {
            let mut nodes = Vec::new();
            for item in items {
                let (node, more) = convert(source, item, None);
                nodes.extend(node);
                errors.extend(more);
            }
            Value::Array(nodes)
        }
        DeValue::Table(table) => {
            let (table, more) = convert_table(source, table);
            errors = more;
            Value::Table(table)
        }
    };
    (Some(Node::new(value, &at, key.unwrap_or(&at))), errors)
}
