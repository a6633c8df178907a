//! One request to sampand, and how its reply is shown.
use crate::args::Args;
use crate::client::{self, Error};
use crate::format::Format;
use crate::printable;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::path::Path;

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;

/// The way to sampand, and how its replies are shown.
pub struct Ask<'a>(&'a Args);

impl<'a> Ask<'a> {
    pub fn new(args: &'a Args) -> Ask<'a> {
        Ask(args)
    }

    pub fn socket(&self) -> &'a Path {
        &self.0.socket
    }

    /// Whether replies are shown as values, for programs.
    pub fn wants_values(&self) -> bool {
        self.0.json || self.0.format.is_some()
    }

    /// Prints one as it is asked for.
    pub fn value(&self, value: &Value) -> Result<(), Error> {
        self.shown(value, true)
    }

    /// One of many to come: JSON is in a line.
    pub fn value_of_stream(&self, value: &Value) -> Result<(), Error> {
        self.shown(value, false)
    }

    fn shown(&self, value: &Value, pretty: bool) -> Result<(), Error> {
        let format = self.0.format.as_ref().unwrap_or(&Format::Json);
        out(format.of(value, pretty).map_err(Error::Here)?.as_bytes())
    }

    pub fn send(&self, method: &str, path: &str, body: Option<&str>) -> Result<client::Body, Error> {
        client::send(&self.0.socket, method, path, body)
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        parse(&client::text(&mut self.send("GET", path, None)?)?)
    }

    /// To be shown to people, unless values are wanted.
    pub fn get_to_show<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let text = client::text(&mut self.send("GET", path, None)?)?;
        if self.wants_values() { parse(&text) } else { to_show(&text) }
    }

    /// Prints a reply, as JSON if that is asked for, and gives it back.
    pub fn show<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        print: impl Fn(&T) -> String,
    ) -> Result<T, Error> {
        self.print(&client::text(&mut self.send(method, path, body)?)?, print)
    }

    pub fn print<T: DeserializeOwned>(&self, text: &str, print: impl Fn(&T) -> String) -> Result<T, Error> {
        match self.wants_values() {
            true => self.value(&parse(text)?)?,
            false => out(print(&to_show(text)?).as_bytes())?,
        }
        parse(text)
    }
}

/// A reply for people.
pub fn to_show<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_value(printable::reply(parse(text)?)).map_err(broken)
}

fn broken(error: serde_json::Error) -> Error {
    Error::Broken(io::Error::new(io::ErrorKind::InvalidData, error))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(broken)
}

pub fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub fn of(service: &str, verb: &str) -> String {
    format!("/v1/services/{}{verb}", client::quoted(service))
}

/// `?NAME=VALUE&NAME=VALUE`, of as many values as there are.
pub fn query(name: &str, values: &[String]) -> String {
    let pairs: Vec<String> = values.iter().map(|value| format!("{name}={}", client::quoted(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "sampanctl: {}", printable::text(text));
}

pub fn out(text: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()?;
    Ok(())
}

/// As it comes.
pub fn pass_on(body: &mut client::Body) -> Result<(), Error> {
    let mut buffer = [0; 64 * 1024];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(()),
            count => io::stdout().lock().write_all(buffer.get(..count).unwrap_or_default())?,
        }
    }
}
