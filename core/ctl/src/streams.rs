//! Logs and events as they come, over the deaths of sampand's worker if they are followed.
use crate::args;
use crate::ask::{Ask, out, to_show};
use crate::client::{self, Error};
use crate::follow::{self, Shown};
use crate::moment::{self, Since};
use crate::print;
use sampan_api as api;
use std::io::{self, BufRead, BufReader, Write};

/// Which logs, and how they are shown.
pub struct Logs<'a> {
    pub services: &'a [String],
    pub follow: bool,
    pub tail: Option<u64>,
    pub timestamps: bool,
    /// Times as `moment` gives them.
    pub since: Option<&'a str>,
    pub until: Option<&'a str>,
    /// The service's name before each line.
    pub prefix: bool,
}

impl<'a> Logs<'a> {
    pub fn of(asked: &'a args::Logs) -> Logs<'a> {
        Logs {
            services: &asked.services,
            follow: asked.follow,
            tail: asked.tail,
            timestamps: asked.timestamps,
            since: asked.since.as_deref(),
            until: asked.until.as_deref(),
            prefix: asked.services.len() != 1 && !asked.no_prefix,
        }
    }

    pub fn show(&self, ask: &Ask<'_>) -> Result<(), Error> {
        let mut query: Vec<String> =
            self.services.iter().map(|name| format!("service={}", client::quoted(name))).collect();
        query.push(format!("follow={}", self.follow));
        let mut shown = Shown::default();
        let mut stream = |again: bool| {
            let mut query = query.clone();
            // Later from the start: what has been shown is known.
            let tail = self.tail.filter(|_| !again || shown.is_empty());
            query.extend(tail.map(|lines| format!("tail={lines}")));
            let body = ask.send("GET", &format!("/v1/logs?{}", query.join("&")), None)?;
            shown.begin_anew();
            self.lines(ask, body, &mut shown)
        };
        if self.follow { follow::over_deaths(stream) } else { stream(false) }
    }

    /// `SERVICE TIME STREAM F|P TEXT` -> what was asked to be seen of it. stdout and stderr stay apart, and a text comes out byte
    /// by byte as it went in; JSON knows no bytes, so there what is no UTF-8 is replaced.
    fn lines(&self, ask: &Ask<'_>, body: client::Body, seen: &mut Shown) -> Result<(), Error> {
        let mut reader = BufReader::new(body);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let whole = line.strip_suffix(b"\n").unwrap_or(&line);
            let fields: Vec<&[u8]> = whole.splitn(5, |byte| *byte == b' ').collect();
            let [service, time, stream, tag, text] = fields.as_slice() else { continue };
            let time = String::from_utf8_lossy(time);
            if self.until.is_some_and(|until| moment::is_before(until, &time)) {
                // Each service's lines come in order, those of several do not.
                if self.services.len() == 1 {
                    return Ok(());
                }
                continue;
            }
            let is_early = self.since.is_some_and(|since| moment::is_before(&time, since));
            if is_early || !seen.is_new(service, stream, time.as_bytes()) {
                continue;
            }
            let partial = *tag == b"P";
            if ask.wants_values() {
                let [service, stream, text] =
                    [service, stream, text].map(|field| String::from_utf8_lossy(field));
                let value = serde_json::json!({
                    "service": service, "time": time, "stream": stream, "partial": partial, "text": text,
                });
                ask.value_of_stream(&value)?;
                continue;
            }
            let mut shown = Vec::with_capacity(line.len());
            if self.prefix {
                shown.extend_from_slice(service);
                shown.extend_from_slice(b" | ");
            }
            if self.timestamps {
                shown.extend_from_slice(time.as_bytes());
                shown.push(b' ');
            }
            shown.extend_from_slice(text);
            if !partial || self.prefix {
                shown.push(b'\n');
            }
            match *stream {
                b"stderr" => io::stderr().lock().write_all(&shown)?,
                _ => out(&shown)?,
            }
        }
    }
}

/// What has been, unless only what comes is asked for.
pub fn show_events(ask: &Ask<'_>, follow: bool, since: Option<&Since>) -> Result<(), Error> {
    let (mut next, from) = match since {
        Some(Since::Number(seq)) => (Some(*seq), None),
        Some(Since::Time(time)) => (Some(1), Some(time.as_str())),
        None => ((!follow).then_some(1), None),
    };
    let mut stream = |_| {
        let since = next.map(|seq| format!("&since={seq}")).unwrap_or_default();
        let body = ask.send("GET", &format!("/v1/events?follow={follow}{since}"), None)?;
        events(ask, body, &mut next, from)
    };
    if follow { follow::over_deaths(stream) } else { stream(false) }
}

fn events(
    ask: &Ask<'_>,
    body: client::Body,
    next: &mut Option<u64>,
    from: Option<&str>,
) -> Result<(), Error> {
    for line in BufReader::new(body).lines() {
        let line = line?;
        let transition = serde_json::from_str::<api::Transition>(&line);
        if let Ok(transition) = &transition {
            *next = Some(transition.seq + 1);
            if from.is_some_and(|from| moment::is_before(&transition.time, from)) {
                continue;
            }
        }
        match transition {
            Ok(_) if !ask.wants_values() => out(print::transition(&to_show(&line)?).as_bytes())?,
            Ok(_) => ask.value_of_stream(&serde_json::from_str(&line).unwrap_or_default())?,
            Err(_) => out(format!("{line}\n").as_bytes())?,
        }
    }
    Ok(())
}
