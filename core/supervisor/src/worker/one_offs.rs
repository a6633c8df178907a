//! One-offs among the services: each has an entry, a place in the graph and in the config that holds, which no config.toml gives it
//! and none takes from it. It is begun once, ends with the client in whose foreground it runs, and goes when it has ended: at once
//! where that was asked for, else when enough others have ended after it.
use super::Worker;
use super::waiters::Goal;
use crate::fleet::{self, Entry};
use crate::life::{Gone, OfClient};
use crate::message::{Message, Sender};
use crate::one_off;
use crate::one_off::client::{Connected, Process, Streams};
use crate::one_off::kept::{self, Kept};
use crate::request::{Answer, failure, no_such, stopping};
use crate::settings::Event;
use crate::task::Task;
use sampan_api as api;
use sampan_config::Config;
use sampan_config::diff::{Change, Diff};
use sampan_config::schema::Service;
use sampan_journal::Replay;
use sampan_runtime::kernel::pidfd;
use sampan_service::{Down, State};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// So many that have ended, and were not to be removed, are there to be asked about.
const ENDED_MAX: usize = 10;

/// All that there are, by name.
#[derive(Debug, Default)]
pub struct OneOffs(BTreeMap<Arc<str>, OneOff>);

#[derive(Debug)]
struct OneOff {
    kept: Kept,
    config: Arc<Service>,
    /// In whose foreground it runs, and what waits for the end of that. None: that has ended, or there was none.
    client: Option<(Process, Task)>,
}

impl OneOff {
    /// Nobody can ask any more how it has ended but by its name.
    fn is_alone(&self) -> bool {
        self.client.as_ref().is_none_or(|(client, _)| pidfd::ended(client.pidfd.as_fd()).unwrap_or(true))
    }
}

impl OneOffs {
    /// Those of the workers before this one, put into the config that they are taken up with. A service of the config that has such
    /// a name by now is another one.
    pub fn found(found: Vec<(Kept, Service)>, config: &mut Config, send: &Sender) -> OneOffs {
        let mut all = OneOffs::default();
        for (kept, service) in found {
            let name: Arc<str> = kept.run.name.as_str().into();
            if config.services.contains_key(&*name) {
                continue;
            }
            let client = kept.client.as_ref();
            let client =
                client.map(|identity| Process::find(identity).map(|found| watch(found, &name, send)));
            // Nobody is there to be waited for: it is told as an end that comes now.
            if let Some(None) = client {
                let _ = send.send(Message::ClientLeft { name: name.clone() });
            }
            let one = OneOff { kept, config: service.into(), client: client.flatten() };
            all.0.insert(name, one);
        }
        all.put_into(config);
        all
    }

    /// They are in a config as they were in the one before.
    fn put_into(&self, config: &mut Config) {
        let all = self.0.iter().map(|(name, one)| (name.to_string(), one.config.clone()));
        config.services.extend(all);
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    fn next_number(&self) -> u64 {
        self.0.values().map(|one| one.kept.number + 1).max().unwrap_or(1)
    }
}

fn watch(client: Process, name: &Arc<str>, send: &Sender) -> (Process, Task) {
    let (pidfd, name, send) = (client.pidfd.clone(), name.clone(), send.clone());
    let task = tokio::task::spawn_local(async move {
        match crate::fence::readable(pidfd) {
            Ok(ended) => drop(ended.readable().await),
            Err(error) => tracing::error!(service = &*name, "cannot watch its client: {error}"),
        }
        let _ = send.send(Message::ClientLeft { name });
    });
    (client, task.into())
}

impl Worker {
    /// `peer`: the process that asks.
    pub(super) fn run_one_off(
        &mut self,
        of: &str,
        run: api::Run,
        peer: Option<Connected>,
        answer: Answer<api::Done>,
    ) {
        let name = run.name.clone();
        match self.begin_one_off(of, run, peer) {
            Ok(()) => self.wait(&[name.as_str()], Goal::Up, false, None, answer),
            Err(failure) => drop(answer.send(Err(failure))),
        }
    }

    fn begin_one_off(
        &mut self,
        of: &str,
        run: api::Run,
        peer: Option<Connected>,
    ) -> Result<(), api::Failure> {
        if self.is_ending() {
            return Err(stopping());
        }
        let service = self.config.services.get(of).filter(|service| service.of.is_none());
        let service = service.cloned().ok_or_else(|| {
            let services = self.config.services.iter().filter(|(_, service)| service.of.is_none());
            no_such("service", of, &services.map(|(name, _)| name.as_str()).collect::<Vec<_>>())
        })?;
        let usage = |why: String| failure("usage", format!("{of}: {why}"));
        one_off::check_name(&run.name).map_err(usage)?;
        let config = Arc::new(one_off::config(&service, &run).map_err(usage)?);
        let client = run.client.as_ref().map(|client| match &peer {
            Some(peer) if peer.pid == client.pid => {
                Process::of_peer(peer).map_err(|why| failure("refused", why))
            }
            _ => Err(failure(
                "refused",
                "sampand and the client see different processes, so it cannot have its output: use -d, or the namespace of \
                 processes that sampand is in",
            )),
        });
        let client = client.transpose()?;
        let identity = client.as_ref().map(|client| client.identity);
        let name: Arc<str> = run.name.as_str().into();
        if let Some(one) = self.one_offs.0.get(&name) {
            // It was asked for under the worker before this one, and this is the same request.
            if identity.is_some() && one.kept.client == identity && one.kept.of == of {
                return Ok(());
            }
            if self.fleet.get(&name).is_some_and(|entry| entry.machine.is_over()) {
                self.remove_one_off(&name);
            }
        }
        if self.fleet.get(&name).is_some() {
            return Err(failure("refused", format!("there is one of the name {name} already")));
        }
        let kept = Kept::new(of, run, identity, self.one_offs.next_number());
        kept.write(&self.context.dirs.run).map_err(|why| failure("internal", format!("{name}: {why}")))?;
        self.context.mark_one_off(&name);
        let client = client.map(|client| watch(client, &name, &self.send));
        self.one_offs.0.insert(name.clone(), OneOff { kept, config: config.clone(), client });
        self.follow_one_offs(|services| drop(services.insert(config.name.clone(), config.clone())));
        let handle = self.next_handle;
        self.next_handle += 1;
        self.fleet.entries.insert(name.clone(), Entry::new(config, handle));
        self.start(&[&*name]);
        Ok(())
    }

    /// Another config is about to hold, and differs by `diff`: they go on by what they began with. A service of the config that has the
    /// name of one takes its place.
    pub(super) fn one_offs_under(&mut self, config: &mut Config, diff: &mut Diff) {
        let replaced = self.one_offs.names().filter(|name| config.services.contains_key(*name));
        for name in replaced.map(Arc::from).collect::<Vec<Arc<str>>>() {
            if self.fleet.get(&name).is_some_and(|entry| entry.machine.is_over()) {
                self.remove_one_off(&name);
                diff.services.insert(name.to_string(), Change::New);
                continue;
            }
            self.one_offs.0.remove(&name);
            if let Err(error) = kept::forget(&self.context.dirs.run, &name) {
                tracing::warn!(service = &*name, "cannot remove what is noted of it: {error}");
            }
            self.context.unmark_one_off(&name);
            // It ends as what left the config, and comes back as what is new.
            self.apply(&name, &Event::Down(Down::Removed));
            diff.services.insert(name.to_string(), Change::New);
        }
        self.one_offs.put_into(config);
        diff.services.retain(|name, _| !self.one_offs.has(name));
    }

    /// The config that holds, and the graph, with another one-off or one less.
    fn follow_one_offs(&mut self, change: impl FnOnce(&mut BTreeMap<String, Arc<Service>>)) {
        change(&mut Rc::make_mut(&mut self.config).services);
        self.graph = fleet::graph(&self.config);
        self.gate_dirty = true;
    }

    /// What is left of those that are gone: one of which no record knows had not begun, and its client asks again; one that the state
    /// folder alone knows of was before a reboot. `marked`: all that it knows of.
    pub fn sweep_one_offs(&mut self, replay: &Replay, marked: Vec<String>) {
        let unknown = |name: &&Arc<str>| !replay.last.contains_key(&***name);
        for name in self.one_offs.0.keys().filter(unknown).cloned().collect::<Vec<_>>() {
            self.remove_one_off(&name);
        }
        for name in replay.last.keys().filter(|name| self.fleet.get(name).is_none()) {
            self.journal.forget(name);
        }
        for name in marked.into_iter().filter(|name| !self.one_offs.has(name)) {
            if self.fleet.get(&name).is_some() {
                self.context.unmark_one_off(&name);
            } else if !replay.last.contains_key(&name) {
                // What the journal knows is removed with its life.
                let log = self.logs().join(&name);
                self.context.forget(Gone { name, ids: None, log });
            }
        }
    }

    /// With it the one-off in its foreground ends.
    pub(super) fn client_left(&mut self, name: &str) {
        let Some(one) = self.one_offs.0.get_mut(name) else { return };
        one.client = None;
        if self.fleet.get(name).is_some_and(|entry| !entry.is_at_rest()) {
            self.apply(name, &Event::Down(Down::Client));
        }
    }

    /// The container's standard streams, where they are a client's.
    pub(super) fn stdio_of(&self, name: &str) -> Result<Option<OfClient>, String> {
        let Some(one) = self.one_offs.0.get(name) else { return Ok(None) };
        match (&one.kept.run.client, &one.client) {
            (None, _) => Ok(None),
            (Some(asked), Some((client, _))) => {
                let streams = Streams::of(asked, one.kept.run.tty);
                Ok(Some(OfClient { streams, pidfd: client.pidfd.clone() }))
            }
            (Some(_), None) => Err("the client that it was to run for has gone".into()),
        }
    }

    /// Whether a service can be begun by hand; a one-off never can.
    pub(super) fn may_begin(&self, name: &str) -> Result<(), api::Failure> {
        match self.one_offs.0.get(name) {
            Some(one) => {
                let of = &one.kept.of;
                Err(failure("refused", format!("{name} runs once: `sampanctl run {of}` runs another one")))
            }
            None => Ok(()),
        }
    }

    /// Those that wait for a service which has left the config wait in vain.
    pub(super) fn stop_one_offs_in_vain(&mut self) {
        let waits_in_vain = |(name, one): (&Arc<str>, &OneOff)| {
            let is_gone = |on: &String| !self.config.services.contains_key(on);
            let waits = matches!(self.fleet.get(name)?.machine.state, State::Waiting { .. });
            (waits && one.config.depends_on.keys().any(is_gone)).then(|| name.clone())
        };
        for name in self.one_offs.0.iter().filter_map(waits_in_vain).collect::<Vec<_>>() {
            self.apply(&name, &Event::Down(Down::Removed));
        }
    }

    /// What has ended goes, after those who wait for it have heard.
    pub(super) fn tidy_one_offs(&mut self) {
        let is_over = |name: &str| self.fleet.get(name).is_some_and(|entry| entry.machine.is_over());
        let ended = self.one_offs.0.iter().filter(|(name, one)| is_over(name) && one.is_alone());
        let mut ended: Vec<(u64, bool, Arc<str>)> =
            ended.map(|(name, one)| (one.kept.number, one.kept.run.remove, name.clone())).collect();
        ended.sort();
        let stay = ended.iter().filter(|(_, remove, _)| !remove).count();
        let mut surplus = stay.saturating_sub(ENDED_MAX);
        for (_, remove, name) in ended {
            let is_old = !remove && surplus > 0;
            surplus -= usize::from(is_old);
            if remove || is_old {
                self.remove_one_off(&name);
            }
        }
    }

    /// Nothing of it stays.
    fn remove_one_off(&mut self, name: &Arc<str>) {
        self.fleet.entries.remove(name);
        self.forget_one_off(name);
    }

    /// Its entry is gone, or goes.
    fn forget_one_off(&mut self, name: &str) {
        let of = self.one_offs.0.remove(name).map_or_else(|| name.to_owned(), |one| one.kept.of);
        self.follow_one_offs(|services| drop(services.remove(name)));
        if let Err(error) = kept::forget(&self.context.dirs.run, name) {
            tracing::warn!(service = name, "cannot remove what is noted of it: {error}");
        }
        self.forget(name, &of);
    }

    /// What has no entry any more has left for good, and so have the ids that it had of `owner`, if nobody else has them.
    pub(super) fn forget(&mut self, name: &str, owner: &str) {
        self.journal.forget(name);
        let has_others = self.fleet.entries.values().any(|entry| entry.config().owner() == owner);
        let ids = (!has_others).then(|| owner.to_owned());
        let log = self.logs().join(name);
        self.context.forget(Gone { name: name.to_owned(), ids, log });
    }

    /// Where output is kept.
    fn logs(&self) -> PathBuf {
        let of_plugin = self.config.plugins.get("logging").and_then(|plugin| plugin.config["dir"].as_str());
        of_plugin.map_or_else(|| self.context.dirs.state.join("logs"), PathBuf::from)
    }

    /// sampand ends and nothing runs: those that have ended go with it.
    pub fn forget_one_offs(&mut self) {
        for name in self.one_offs.0.keys().cloned().collect::<Vec<_>>() {
            self.fleet.entries.remove(&name);
            self.forget_one_off(&name);
        }
    }
}
