//! One request to sampand, and how its reply is shown.
use crate::args::Args;
use crate::client::{self, Error};
use serde::de::DeserializeOwned;
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

    /// Whether replies are shown as they are.
    pub fn wants_json(&self) -> bool {
        self.0.json
    }

    pub fn send(&self, method: &str, path: &str, body: Option<&str>) -> Result<client::Body, Error> {
        client::send(&self.0.socket, method, path, body)
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        parse(&client::text(&mut self.send("GET", path, None)?)?)
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
        let value = parse(text)?;
        out(if self.0.json { pretty(text) } else { print(&value) }.as_bytes())?;
        Ok(value)
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Broken(io::Error::new(io::ErrorKind::InvalidData, error)))
}

pub fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub fn pretty(text: &str) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => format!("{value:#}\n"),
        Err(_) => text.to_owned(),
    }
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
    let _ = writeln!(io::stderr(), "sampanctl: {text}");
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
