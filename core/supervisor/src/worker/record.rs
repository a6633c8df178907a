//! A transition written down: the journal's record first, then sampand's own line, then everybody who listens.
use super::Worker;
use super::tell::tell;
use crate::clock;
use crate::fleet::Entry;
use crate::settings::{Event, Service};
use sampan_api as api;
use sampan_journal as journal;
use sampan_runtime::kernel::pidfd;
use sampan_service::sabotage::{Invariant, broken};
use std::time::{Duration, SystemTime};

impl Worker {
    /// The transition's record, then its line, then everybody who listens.
    pub(super) fn record(&mut self, name: &str, before: &Service, event: &Event) {
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let machine = &entry.machine;
        let is_same =
            machine.state == before.state && machine.wanted == before.wanted && machine.job == before.job;
        // Somebody's signal changes nothing by itself, and may be why a program ends.
        if is_same && !matches!(event, Event::Kill(_)) {
            return;
        }
        if broken(Invariant::LostRecord) && machine.state.name() == "running" {
            return;
        }
        let data = record_data(entry, &self.run);
        let cause = event.to_string();
        let written = self.journal.append(&journal::Entry {
            service: name,
            generation: machine.generation,
            from: before.state.name(),
            to: machine.state.name(),
            cause: &cause,
            data: &data,
        });
        tell(entry.config(), before, machine, &cause);
        self.bus.publish(|| transition(&written));
    }
}

/// The key of the run of sampand that has written a record.
pub(super) const RUN: &str = "run";

/// Of this run of sampand, unlike any other since the host was booted: a new worker goes on with the same run, a new keel begins
/// the next.
pub fn run() -> std::io::Result<String> {
    let keel = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    Ok(format!("{keel}.{}", pidfd::start_time(keel)?))
}

/// The machine's record with what a new worker must find again.
fn record_data(entry: &Entry, run: &str) -> serde_json::Value {
    let mut data: serde_json::Map<String, serde_json::Value> =
        entry.machine.to_record().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    data.insert(RUN.into(), run.into());
    data.insert("handle".into(), entry.handle.into());
    if let Some(image) = &entry.image {
        data.insert("image".into(), image.digest.as_str().into());
    }
    if let Some(live) = &entry.live {
        data.insert("pid".into(), live.pid.into());
        data.insert("oom_before".into(), live.oom_before.into());
        if let Some(at) = live.started_at {
            data.insert("started_at".into(), clock::rfc3339(at).into());
        }
    }
    serde_json::Value::Object(data)
}

/// A journal record as clients see it.
pub fn transition(record: &journal::Record) -> api::Transition {
    api::Transition {
        seq: record.seq,
        time: clock::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(record.time)),
        service: record.service.clone(),
        generation: record.generation,
        from: record.from.clone(),
        to: record.to.clone(),
        cause: record.cause.clone(),
        data: record.data.as_object().cloned().unwrap_or_default(),
    }
}
