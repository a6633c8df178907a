//! `--format`: Go's templates, as docker and podman have them, over the values that `--json` prints.
use crate::printable;
use gtmpl::{Context, FuncError, Template, Value as Of};
use serde_json::Value;
use std::ffi::OsString;

/// docker's: with a head, in columns.
const TABLE: &str = "table ";
/// Words that an action begins with which prints nothing by itself.
const SILENT: [&str; 9] = ["if", "else", "end", "range", "with", "define", "template", "block", "break"];
/// What is called on all that is printed.
const SHOW: &str = "sampanctl_show";

#[derive(Clone, Debug)]
pub enum Format {
    Json,
    Template { text: String, table: bool },
}

impl Format {
    /// What the command line has; also whether it is a template at all.
    pub fn parse(text: &str) -> Result<Format, String> {
        if text == "json" {
            return Ok(Format::Json);
        }
        let (rest, table) = text.strip_prefix(TABLE).map_or((text, false), |rest| (rest, true));
        let rest = rest.replace("\\t", "\t").replace("\\n", "\n");
        if !rest.contains("{{") {
            return Err(
                "write `json`, or a template as '{{.name}} {{.state}}'; --json shows the names".into()
            );
        }
        template(&rest)?;
        Ok(Format::Template { text: rest, table })
    }

    pub fn of(&self, value: &Value, pretty: bool) -> Result<String, String> {
        match self {
            Format::Json if pretty => Ok(format!("{value:#}\n")),
            Format::Json => Ok(format!("{value}\n")),
            Format::Template { text, table } => lines(text, value, *table),
        }
    }
}

/// A command line for another program, and the format that stands in it.
pub fn taken_out(arguments: &[OsString]) -> Result<(Vec<OsString>, Option<Format>), String> {
    let (mut others, mut format) = (Vec::new(), None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = match argument.to_str().and_then(|text| text.strip_prefix("--format")) {
            Some("") => rest.next().and_then(|next| next.to_str()).ok_or("--format needs a template")?,
            Some(value) if value.starts_with('=') => value.trim_start_matches('='),
            _ => {
                others.push(argument.clone());
                continue;
            }
        };
        format = Some(Format::parse(text)?);
    }
    Ok((others, format))
}

/// A line for each of a list, one for anything else.
fn lines(text: &str, value: &Value, table: bool) -> Result<String, String> {
    let template = template(text)?;
    let single = std::slice::from_ref(value);
    let all = value.as_array().map_or(single, Vec::as_slice);
    let mut rows = all.iter().map(|one| line(&template, one)).collect::<Result<Vec<_>, _>>()?;
    if table {
        let head = all.first().map(head).unwrap_or_default();
        rows.insert(0, line(&template, &head)?);
        return Ok(in_columns(&rows));
    }
    Ok(rows.iter().map(|row| format!("{row}\n")).collect())
}

fn line(template: &Template, value: &Value) -> Result<String, String> {
    template.render(&Context::from(known(value))).map_err(|error| {
        let names = value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>().join(", "));
        format!("--format: {error}; names here: {}", names.unwrap_or_else(|| "none, only {{.}}".into()))
    })
}

/// Each field in the place of its value, in capitals.
fn head(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                Value::Object(_) => (name.clone(), head(value)),
                _ => (name.clone(), name.to_uppercase().replace('_', "-").into()),
            })
            .collect(),
        other => other.clone(),
    }
}

/// Cells end at a tab.
fn in_columns(rows: &[String]) -> String {
    let cells: Vec<Vec<&str>> = rows.iter().map(|row| row.split('\t').collect()).collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| cells.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|n| width(n).unwrap_or(0)).collect();
    let row = |row: &Vec<&str>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}\n", padded.collect::<String>().trim_end())
    };
    cells.iter().map(row).collect()
}

fn template(text: &str) -> Result<Template, String> {
    let mut template = Template::default();
    let functions: [(&str, gtmpl::Func); 5] =
        [(SHOW, show), ("json", json), ("join", join), ("upper", upper), ("lower", lower)];
    template.add_funcs(&functions);
    template.parse(with_show(text)?).map_err(|error| format!("not a template: {error}"))?;
    Ok(template)
}

/// What an action gives is passed to `show`: the library would print a list as Rust does, and of what is missing nothing but that.
fn with_show(text: &str) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, action)) = rest.split_once("{{") {
        let end = end_of_action(action).ok_or("not a template: {{ without }}")?;
        let (inside, after) = action.split_at(end);
        let trimmed = inside.trim_start_matches("- ").trim_end_matches(" -");
        let word = trimmed.trim_start().split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let is_silent =
            SILENT.contains(&word) || trimmed.trim_start().starts_with("/*") || trimmed.contains(":=");
        match is_silent || trimmed.trim().is_empty() {
            true => out.extend([before, "{{", inside]),
            false => {
                let (open, close) = (inside.starts_with("- "), inside.ends_with(" -"));
                let [open, close] = [if open { "- " } else { "" }, if close { " -" } else { "" }];
                out.push_str(&format!("{before}{{{{{open}{SHOW} ({}){close}", trimmed.trim()));
            }
        }
        out.push_str("}}");
        rest = after.get(2..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}

/// Where its `}}` is, not within quotes.
fn end_of_action(action: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in action.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if action.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return Some(at),
            None => {}
        }
    }
    None
}

fn known(value: &Value) -> Of {
    match value {
        Value::Null => Of::Nil,
        Value::Bool(flag) => Of::Bool(*flag),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(all) => Of::Array(all.iter().map(known).collect()),
        Value::Object(fields) => {
            Of::Map(fields.iter().map(|(name, value)| (name.clone(), known(value))).collect())
        }
    }
}

/// What `known` has made, as it was.
fn unknown(of: &Of) -> Value {
    match of {
        Of::Bool(flag) => (*flag).into(),
        Of::String(text) => text.as_str().into(),
        Of::Number(number) => serde_json::from_str(&number.to_string()).unwrap_or_default(),
        Of::Array(all) => all.iter().map(unknown).collect(),
        Of::Map(fields) | Of::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), unknown(value))).collect()
        }
        Of::NoValue | Of::Nil | Of::Function(_) => Value::Null,
    }
}

fn first(arguments: &[Of]) -> Result<Value, FuncError> {
    match arguments.first() {
        None | Some(Of::NoValue) => Err(FuncError::Generic("there is no such name".into())),
        Some(of) => Ok(unknown(of)),
    }
}

/// As text; nothing for what is null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable::line(text),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn show(arguments: &[Of]) -> Result<Of, FuncError> {
    Ok(text(&first(arguments)?).into())
}

fn json(arguments: &[Of]) -> Result<Of, FuncError> {
    Ok(first(arguments)?.to_string().into())
}

fn join(arguments: &[Of]) -> Result<Of, FuncError> {
    let [_, Of::String(between)] = arguments else {
        return Err(FuncError::Generic("join is used so: {{join .ports \", \"}}".into()));
    };
    let Value::Array(all) = first(arguments)? else {
        return Err(FuncError::Generic("join is for lists".into()));
    };
    Ok(all.iter().map(text).collect::<Vec<_>>().join(between).into())
}

fn upper(arguments: &[Of]) -> Result<Of, FuncError> {
    Ok(text(&first(arguments)?).to_uppercase().into())
}

fn lower(arguments: &[Of]) -> Result<Of, FuncError> {
    Ok(text(&first(arguments)?).to_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(format: &str) -> Result<String, String> {
        let services = json!([
            {"name": "web", "pid": 7, "ports": ["8080->80/tcp", "53/udp"], "last_exit": null,
             "labels": {"a.b": "c"}, "text": "red \u{1b}[31m", "size_bytes": 18446744073709551615_u64},
            {"name": "db", "pid": null, "ports": [], "last_exit": "1", "labels": {}, "text": "-", "size_bytes": -1},
        ]);
        Format::parse(format)?.of(&services, false)
    }

    #[test]
    fn what_docker_and_podman_print_so() {
        for (format, prints) in [
            ("{{.name}}", "web\ndb\n"),
            (r"{{.name}}\t{{.pid}}", "web\t7\ndb\t\n"),
            ("{{ .name -}} !", "web!\ndb!\n"),
            ("{{.ports}} {{join .ports \"+\"}}", "8080->80/tcp, 53/udp 8080->80/tcp+53/udp\n \n"),
            ("{{json .labels}} {{json .last_exit}}", "{\"a.b\":\"c\"} null\n{} \"1\"\n"),
            ("{{range .ports}}<{{.}}>{{end}}", "<8080->80/tcp><53/udp>\n\n"),
            ("{{range $n, $port := .ports}}{{$n}}{{$port}} {{end}}", "08080->80/tcp 153/udp \n\n"),
            ("{{if .pid}}up{{else}}down{{end}}", "up\ndown\n"),
            ("{{index .labels \"a.b\" | upper}}", ""),
            ("{{printf \"%-4s|\" .name}}", "web |\ndb  |\n"),
            ("{{.text}}", "red \u{fffd}[31m\n-\n"),
            ("{{.size_bytes}}", "18446744073709551615\n-1\n"),
            ("{{/* nothing */}}{{.name}}{{\"}}\"}}", "web}}\ndb}}\n"),
            (r"table {{.name}}\t{{.last_exit}}", "NAME  LAST-EXIT\nweb\ndb    1\n"),
        ] {
            match prints {
                // `index` of what is not there is an error, as a name is.
                "" => assert!(of(format).unwrap_err().contains("no such name"), "{format}"),
                _ => assert_eq!(of(format).as_deref(), Ok(prints), "{format}"),
            }
        }
    }

    #[test]
    fn json_is_in_a_line_or_in_many() {
        let (json, value) = (Format::parse("json").unwrap(), json!({"name": "web"}));
        assert_eq!(json.of(&value, false).as_deref(), Ok("{\"name\":\"web\"}\n"));
        assert_eq!(json.of(&value, true).as_deref(), Ok("{\n  \"name\": \"web\"\n}\n"));
    }

    #[test]
    fn it_is_found_between_arguments_for_another() {
        let of = |line: &str| taken_out(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let (others, format) = of("list --format {{.name}} -q").unwrap();
        assert_eq!((others, format.is_some()), (vec!["list".into(), "-q".into()], true));
        assert!(of("list --format={{.name}}").unwrap().1.is_some());
        assert!(of("list --formats").unwrap().1.is_none());
        assert!(of("list --format").unwrap_err().contains("needs a template"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (format, says) in [
            ("{{.Names}}", "there is no such name; names here: labels, last_exit, name"),
            ("{{.name.x}}", "only maps"),
            ("{{.name", "{{ without }}"),
            ("{{foo}}", "function foo not defined"),
            ("name", "write `json`"),
            ("yaml", "--json shows the names"),
            ("{{join .name \",\"}}", "join is for lists"),
        ] {
            let why = of(format).unwrap_err();
            assert!(why.contains(says), "{format}: {why}");
        }
    }
}
