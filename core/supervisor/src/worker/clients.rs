//! The loop's answers to clients. What can be said at once is; what takes time leaves a waiter behind.
use super::Worker;
use super::record::transition;
use super::waiters::{Goal, Waiter};
use crate::callers::Groups;
use crate::clock;
use crate::explain::{Known, explain};
use crate::fleet::Entry;
use crate::message::Asker;
use crate::metrics;
use crate::request::{Answer, ControlReply, EventStream, Request, failure, no_such, stopping};
use crate::settings::Event;
use crate::usage;
use sampan_api as api;
use sampan_config::schema::Policy;
use sampan_journal::{HISTORY, Since};
use sampan_plugin_host::Reset;
use sampan_service::{Down, State, Up, WaitFor};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

impl Worker {
    /// Long because it is one match, with an arm for each thing that a client may ask.
    pub(crate) fn request(&mut self, request: Request) {
        match request {
            // Nothing is started any more, and a config that is applied now would start something.
            Request::Start { answer, .. } | Request::Restart { answer, .. } | Request::Up { answer, .. }
                if self.is_ending() =>
            {
                send(answer, Err(stopping()));
            }
            Request::Apply { answer, dry_run: false } if self.is_ending() => send(answer, Err(stopping())),
            Request::Version(answer) => send(answer, Ok(self.version())),
            Request::Loop(answer) => send(answer, Ok(self.turns.show(Instant::now()))),
            Request::Metrics(answer) => send(answer, Ok(self.facts_to_count())),
            Request::Services(answer) => {
                let now = clock::boottime();
                send(
                    answer,
                    Ok(self.fleet.entries.values().map(|entry| self.fleet.status(entry, now)).collect()),
                );
            }
            Request::Service { name, answer } => send(answer, self.inspect(&name)),
            Request::Why { name, answer } => send(answer, self.why(&name)),
            Request::Run { of, run, peer, answer } => self.run_one_off(&of, *run, peer, answer),
            Request::Start { name, detach, answer } => {
                if let Some(answer) = self.beginnable(&name, answer) {
                    self.start(&[name.as_str()]);
                    self.wait(&[name.as_str()], Goal::Up, detach, None, answer);
                }
            }
            Request::Stop { name, detach, answer } => {
                if let Some(answer) = self.known(&name, answer) {
                    self.apply(&name, &Event::Down(Down::Hand));
                    self.save_soon();
                    self.wait(&[name.as_str()], Goal::AtRest, detach, None, answer);
                }
            }
            Request::Restart { name, detach, answer } => {
                if let Some(answer) = self.beginnable(&name, answer) {
                    let generation = self.fleet.get(&name).map_or(0, |entry| entry.machine.generation);
                    for (name, event) in sampan_service::desired::restart(&self.graph, &name) {
                        self.apply(&name, &event);
                    }
                    self.save_soon();
                    self.wait(&[name.as_str()], Goal::Beyond(generation), detach, None, answer);
                }
            }
            Request::Kill { name, signal, answer } => {
                if let Some(answer) = self.known(&name, answer) {
                    if self.fleet.get(&name).is_some_and(|entry| entry.live.is_none()) {
                        return send(answer, Err(failure("refused", format!("{name} is not running"))));
                    }
                    self.apply(&name, &Event::Kill(signal));
                    self.wait(&[name.as_str()], Goal::Up, true, None, answer);
                }
            }
            Request::Pause { name, frozen, answer } => {
                if let Some(answer) = self.known(&name, answer) {
                    self.pause(&name, frozen, answer);
                }
            }
            Request::Update { name, update, answer } => {
                if let Some(answer) = self.known(&name, answer) {
                    self.update(&name, &update, answer);
                }
            }
            Request::Reload { name, answer } => {
                if let Some(answer) = self.known(&name, answer) {
                    self.reload(&name, answer);
                }
            }
            Request::Up { up, answer } => self.read_config(Asker::Up(up, answer)),
            Request::Down { answer, connection } => self.farewell(answer, connection),
            Request::Apply { dry_run, answer } => {
                self.read_config(if dry_run { Asker::DryRun(answer) } else { Asker::Apply(answer) });
            }
            Request::Wait { name, condition, timeout_ms, answer } => {
                if let Some(answer) = self.known(&name, answer) {
                    if let Some(why) = self.is_never(&name, condition) {
                        return send(answer, Err(failure("refused", why)));
                    }
                    let limit = timeout_ms.map(Duration::from_millis);
                    self.wait(&[name.as_str()], self.goal(&name, condition), false, limit, answer);
                }
            }
            Request::Lives { services, answer } => send(answer, self.lives_of(&services)),
            Request::Graph(answer) => send(answer, Ok(self.needs())),
            Request::Volumes(answer) => self.volumes(answer),
            Request::RemoveVolume { name, answer } => self.remove_volume(name, answer),
            Request::Secrets(answer) => send(answer, Ok(self.secrets())),
            Request::Networks(answer) => self.networks(answer),
            Request::Events { since, answer } => send(answer, self.events(since)),
            Request::Attach { name, answer } => send(answer, self.attach(&name)),
            Request::Logs { services, follow, tail, answer } => {
                if let Some(unknown) = services.iter().find(|name| self.fleet.get(name).is_none()) {
                    return send(answer, Err(self.no_such(unknown)));
                }
                let context = self.context.clone();
                tokio::task::spawn_local(async move {
                    send(answer, context.read_logs(services, follow, tail).await);
                });
            }
            Request::Config { service, json, answer } => {
                if let Some(unknown) = service.as_deref().filter(|name| self.fleet.get(name).is_none()) {
                    return send(answer, Err(self.no_such(unknown)));
                }
                send(answer, Ok(self.source.explain(&self.config, service.as_deref(), json)));
            }
            Request::Plugins(answer) => send(answer, Ok(self.plugin_statuses())),
            Request::ResetPlugin { name, answer } => self.reset_plugin(name, answer),
            Request::Control { plugin, body, answer } => self.control(plugin, body, answer),
        }
    }

    fn plugin_statuses(&self) -> Vec<api::PluginStatus> {
        let show = |plugin: sampan_plugin_host::Status| api::PluginStatus {
            name: plugin.name,
            version: plugin.version,
            path: plugin.path.display().to_string(),
            state: plugin.state.into(),
            reason: plugin.why,
            required: self
                .config
                .plugins
                .values()
                .any(|config| config.required && config.path == plugin.path),
            calls: plugin.figures.calls,
            errors: plugin.figures.errors,
        };
        self.context.plugins.statuses().into_iter().map(show).collect()
    }

    /// On a thread of the pool: the list of those that are quarantined is a file.
    fn reset_plugin(&self, name: String, answer: Answer<api::PluginReset>) {
        let plugins = self.context.plugins.clone();
        tokio::task::spawn_blocking(move || {
            let (state, text) = match plugins.reset(&name) {
                Ok(Reset::Enabled) => ("enabled", "is enabled again"),
                Ok(Reset::Unlocked) => {
                    ("unlocked", "is not quarantined any more; it is loaded when sampand starts next")
                }
                Ok(Reset::Active) => ("active", "is active; there was nothing to reset"),
                Err(error) => return drop(answer.send(Err(failure("refused", error.to_string())))),
            };
            let text = format!("plugin {name} {text}");
            let _ = answer.send(Ok(api::PluginReset { state: state.into(), text }));
        });
    }

    fn control(&self, plugin: String, body: serde_json::Value, answer: Answer<ControlReply>) {
        let context = self.context.clone();
        tokio::task::spawn_local(async move {
            let reply = match context.plugins.control(&plugin, &body).await {
                Ok((body, fds)) => Ok(ControlReply { body, stream: fds.into_iter().next() }),
                Err(error) => Err(failure("refused", error.to_string())),
            };
            let _ = answer.send(reply);
        });
    }

    fn version(&self) -> api::Version {
        api::Version {
            version: env!("CARGO_PKG_VERSION").into(),
            api: 1,
            keel_pid: rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()),
            worker_pid: rustix::process::getpid().as_raw_nonzero().get(),
            worker_lives: self.lives,
            containers: self.context.dirs.containers().display().to_string(),
        }
    }

    /// Serves metrics where the config says.
    pub fn serve_metrics(&mut self) {
        self.metrics.serve_at(self.config.supervisor.metrics.as_ref());
    }

    /// Who may come to the control socket hears of a changed config by `groups`.
    pub fn lets_in(&mut self, groups: watch::Sender<Groups>) {
        self.groups = Some(groups);
        self.let_in();
    }

    pub(crate) fn let_in(&self) {
        if let Some(groups) = &self.groups {
            groups.send_if_modified(|holds| {
                let before = std::mem::replace(holds, Groups::from(&self.config.supervisor));
                before != *holds
            });
        }
    }

    pub async fn close_metrics(&mut self) {
        self.metrics.close().await;
    }

    fn facts_to_count(&self) -> metrics::Facts {
        let of = |entry: &Entry| {
            let machine = &entry.machine;
            let checked = entry.config().healthcheck.is_some() && machine.state.is_probed();
            metrics::OfService {
                name: entry.name.to_string(),
                state: machine.state.name(),
                health: checked.then(|| machine.state.health().to_string()),
                restarts: machine.totals().restarts,
                started_at: entry.live.as_ref().and_then(|live| live.started_at),
                last_exit: machine.last_exit.and_then(|exit| exit.number()),
                cgroup: entry.live.as_ref().map(|_| self.context.cgroup(&entry.name)),
            }
        };
        metrics::Facts {
            services: self.fleet.entries.values().map(of).collect(),
            turns: self.turns.show(Instant::now()),
            workers: self.lives,
            journal_bytes: self.journal.bytes(),
            plugins: self.context.plugins.statuses(),
            hierarchies: self.context.hierarchies,
        }
    }

    /// Why waiting for this has no end.
    fn is_never(&self, name: &str, condition: api::Condition) -> Option<String> {
        let policy = match self.fleet.get(name)?.config().restart.policy {
            Policy::No | Policy::OnFailure => return None,
            Policy::Always => "always",
            Policy::UnlessStopped => "unless-stopped",
        };
        (condition == api::Condition::Done).then(|| {
            format!(
                "{name} is no job: with restart = \"{policy}\" it never ends by itself; with \"no\" or \"on-failure\" it does"
            )
        })
    }

    fn goal(&self, name: &str, condition: api::Condition) -> Goal {
        match condition {
            api::Condition::Running => Goal::Up,
            api::Condition::Healthy => Goal::Healthy,
            api::Condition::Done => Goal::Done,
            api::Condition::Exited => Goal::Ended(
                self.fleet
                    .get(name)
                    .map_or(0, |entry| entry.machine.generation + u64::from(!entry.machine.state.has_life())),
            ),
        }
    }

    fn lives_of(&self, services: &[String]) -> Result<usage::Lives, api::Failure> {
        if let Some(unknown) = services.iter().find(|name| self.fleet.get(name).is_none()) {
            return Err(self.no_such(unknown));
        }
        let is_asked =
            |entry: &&Entry| services.is_empty() || services.iter().any(|name| **name == *entry.name);
        let of = |entry: &Entry| {
            let live = entry.live.as_ref()?;
            Some(usage::Life {
                service: entry.name.clone(),
                cgroup: self.context.cgroup(&entry.name),
                pidfd: live.pidfd.clone(),
                has_network: live.netns.is_some(),
            })
        };
        let all = self.fleet.entries.values().filter(is_asked).filter_map(of).collect();
        Ok(usage::Lives { hierarchies: self.context.hierarchies, all })
    }

    fn needs(&self) -> Vec<api::Needs> {
        let of = |service: &sampan_config::schema::Service| {
            let need = |(on, how): (&String, &sampan_config::schema::Dependency)| api::Need {
                on: on.clone(),
                condition: serde_json::to_value(how.condition)
                    .ok()
                    .and_then(|value| Some(value.as_str()?.to_owned()))
                    .unwrap_or_default(),
            };
            api::Needs { service: service.name.clone(), needs: service.depends_on.iter().map(need).collect() }
        };
        self.config.services.values().map(|service| of(service)).collect()
    }

    fn inspect(&self, name: &str) -> Result<api::Inspect, api::Failure> {
        let entry = self.fleet.get(name).ok_or_else(|| self.no_such(name))?;
        let bundle = self.context.dirs.bundle(name);
        let bundle = bundle.is_dir().then(|| bundle.display().to_string());
        Ok(entry.inspect(self.fleet.status(entry, clock::boottime()), bundle, self.probes.last(name)))
    }

    fn why(&self, name: &str) -> Result<api::Why, api::Failure> {
        let entry = self.fleet.get(name).ok_or_else(|| self.no_such(name))?;
        let now = clock::boottime();
        let records = self.journal.last_of(name, HISTORY).map_err(unreadable)?;
        let chain: Vec<_> = records.iter().map(transition).collect();
        let awaited = match &entry.machine.state {
            State::Waiting { on: WaitFor::Dependency { service, .. }, .. } => self.fleet.get(service),
            _ => None,
        };
        let last_check = self.probes.last(name).map(|last| last.outcome.output);
        let sentence = explain(&Known {
            config: entry.config(),
            state: &entry.machine.state,
            generation: entry.machine.generation,
            now,
            starts_by_itself: self.config.starts_by_itself(entry.machine.applied()),
            chain: &chain,
            last_check: last_check.as_deref(),
            awaited: awaited.map(|on| self.fleet.status(on, now).text),
            next_run: entry.next_run.map(clock::local),
        });
        Ok(api::Why { sentence, chain })
    }

    /// What follows `apply`; none named: all.
    pub(super) fn up(&mut self, up: &api::Up, answer: Answer<api::Done>) {
        let names: Vec<Arc<str>> = match up.services.is_empty() {
            true => self
                .fleet
                .entries
                .values()
                .filter(|e| self.config.starts_by_itself(e.machine.applied()))
                .map(|e| e.name.clone())
                .collect(),
            false => up.services.iter().map(|name| name.as_str().into()).collect(),
        };
        if let Some(unknown) = names.iter().find(|name| self.fleet.get(name).is_none()) {
            return send(answer, Err(self.no_such(unknown)));
        }
        if let Some(refused) = names.iter().find_map(|name| self.may_begin(name).err()) {
            return send(answer, Err(refused));
        }
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        // Jobs by time are put on their calendar; `start` runs one at once.
        let (by_time, at_once): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| self.begins_by_time(name));
        by_time.iter().for_each(|name| self.apply(name, &Event::Up(Up::Config)));
        self.start(&at_once);
        self.wait(&names, Goal::Healthy, !up.wait, up.timeout_ms.map(Duration::from_millis), answer);
    }

    fn events(&self, since: Option<u64>) -> Result<EventStream, api::Failure> {
        let live = self.bus.subscribe();
        let Some(since) = since else { return Ok(EventStream { gap: None, past: Vec::new(), live }) };
        match self.journal.since(since.max(1)) {
            Ok(Since::Records(records)) => {
                Ok(EventStream { gap: None, past: records.iter().map(transition).collect(), live })
            }
            Ok(Since::Gap { first }) => {
                Ok(EventStream { gap: Some(api::Gap { gap: first }), past: Vec::new(), live })
            }
            Err(error) => Err(unreadable(error)),
        }
    }

    pub(super) fn wait(
        &mut self,
        names: &[&str],
        goal: Goal,
        detach: bool,
        limit: Option<Duration>,
        answer: Answer<api::Done>,
    ) {
        let now = clock::boottime();
        if detach {
            let services = names
                .iter()
                .filter_map(|name| self.fleet.get(name))
                .map(|entry| self.fleet.status(entry, now))
                .collect();
            return send(answer, Ok(api::Done { services, complete: false }));
        }
        let deadline = limit.map(|limit| now.after(limit));
        if let Some(at) = deadline {
            self.wake_gate(at);
        }
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        self.waiters.push(Waiter { names, goal, deadline, answer });
    }

    /// The answer's way back if there is such a service; else the refusal is sent.
    fn known<T>(&self, name: &str, answer: Answer<T>) -> Option<Answer<T>> {
        if self.fleet.get(name).is_some() {
            return Some(answer);
        }
        send(answer, Err(self.no_such(name)));
        None
    }

    /// The same, where it can be begun by hand.
    fn beginnable<T>(&self, name: &str, answer: Answer<T>) -> Option<Answer<T>> {
        let answer = self.known(name, answer)?;
        match self.may_begin(name) {
            Ok(()) => Some(answer),
            Err(refused) => {
                send(answer, Err(refused));
                None
            }
        }
    }

    pub(super) fn no_such(&self, name: &str) -> api::Failure {
        no_such("service", name, &self.fleet.entries.keys().map(|name| &**name).collect::<Vec<_>>())
    }
}

fn unreadable(error: rustix::io::Errno) -> api::Failure {
    failure("internal", format!("cannot read the journal: {error}"))
}

/// A client that has gone needs no answer.
fn send<T>(answer: Answer<T>, result: Result<T, api::Failure>) {
    let _ = answer.send(result);
}
