//! What the machine asks for, carried out: one function for each action. What is quick is done at once; the rest is a job of
//! `life` that returns a value, and the value comes back as a message.
use super::Worker;
use crate::life::{self, UnderWay, Wanted};
use crate::message::{Message, Sender};
use crate::probe::Target;
use crate::settings::Event;
use crate::task::sleep_until;
use sampan_service::{Action, Life, Ms};
use std::future::Future;
use std::os::fd::AsFd;
use std::sync::Arc;

impl Worker {
    /// Does one action of the machine, in the order given and after the transition is on record.
    pub(super) fn act(&mut self, name: &str, action: Action) {
        match action {
            Action::Create => self.create(name),
            Action::Start => self.start_program(name),
            Action::Drain => self.drain(name),
            Action::Signal(signal) => self.send_signal(name, signal),
            Action::KillCgroup => self.kill_cgroup(name),
            Action::Thaw => self.thaw(name),
            Action::Cleanup { keep } => self.clean_up(name, keep),
            Action::DropKept => self.drop_kept(name),
            Action::Arm { at } => self.arm(name, at),
            Action::Disarm => {
                if let Some(entry) = self.fleet.get_mut(name) {
                    entry.timer = None;
                }
            }
            Action::HealthBegin => self.begin_checks(name),
            Action::HealthEnd => self.probes.end(name),
            Action::RequestStart => {
                if !self.fetch_image(name) {
                    self.request_start(name);
                }
            }
            Action::ReleaseStart => {
                if let Some(entry) = self.fleet.get_mut(name) {
                    entry.fetch = None;
                }
                self.gate.release(name);
                self.gate_dirty = true;
            }
            Action::Announce => self.gate_dirty = true,
        }
    }

    pub(super) fn request_start(&mut self, name: &str) {
        let again = self.fleet.get(name).is_some_and(|entry| entry.machine.attempts > 0);
        self.gate.request(name, again);
        self.gate_dirty = true;
    }

    fn create(&mut self, name: &str) {
        let all = self.config.clone();
        let joined = self.fleet.get(name).map_or(Ok(Vec::new()), |entry| self.joined(entry.config()));
        let stdio = self.stdio_of(name);
        let Some(entry) = self.fleet.get_mut(name) else { return };
        entry.owners.clear();
        entry.image = None;
        // Each life has its own number in the plugins' eyes, so that a late reply never meets the next one.
        entry.handle = self.next_handle;
        self.next_handle += 1;
        let under_way = entry.under_way.insert(UnderWay::new(entry.name.clone())).clone();
        let (name, generation) = (entry.name.clone(), entry.machine.generation);
        let config = entry.machine.config().shared();
        let no_image = entry.no_image.take();
        let ctx = entry.ctx();
        let wanted = Wanted { config, generation, ctx, all, under_way, no_image, joined, stdio };
        let (context, send) = (self.context.clone(), self.send.clone());
        tokio::task::spawn_local(async move {
            let result = life::create(&context, wanted).await;
            let _ = send.send(Message::Created { name, generation, result });
        });
    }

    fn start_program(&mut self, name: &str) {
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let ctx = entry.ctx();
        let gate = entry.live.as_mut().and_then(|live| live.gate.take());
        let under_way = entry.under_way.insert(UnderWay::new(entry.name.clone())).clone();
        let (name, generation) = (entry.name.clone(), entry.machine.generation);
        let (context, send) = (self.context.clone(), self.send.clone());
        tokio::task::spawn_local(async move {
            let result = life::start(&context, &ctx, gate, &under_way).await;
            let _ = send.send(Message::Started { name, generation, result });
        });
    }

    fn drain(&mut self, name: &str) {
        let Some(entry) = self.fleet.get(name) else { return };
        let (ctx, name) = (entry.ctx(), entry.name.clone());
        let (reason, grace) = (entry.machine.cause.clone(), entry.config().stop_grace_period);
        let (steps, container) =
            (entry.config().lifecycle.pre_stop.clone(), entry.live.as_ref().map(|live| live.pidfd.clone()));
        let context = self.context.clone();
        self.job(&name.clone(), entry.machine.generation, async move {
            let before = context.steps.each(&name, "pre_stop", &steps, container.as_ref());
            // What goes on is killed: the stop goes on without it then.
            if tokio::time::timeout(grace, before).await.is_err() {
                tracing::warn!(service = &*name, "lifecycle.pre_stop: not over in stop_grace_period: killed");
            }
            context.report(&name, &context.plugins.stop(&ctx, &reason, grace).await);
            Life::Drained
        });
    }

    fn send_signal(&self, name: &str, signal: i32) {
        let Some(entry) = self.fleet.get(name) else { return };
        if let Some(live) = &entry.live {
            life::signal(live.pidfd.as_fd(), live.pid, signal);
            self.context.plugins.notify_stopping(&entry.ctx());
        }
    }

    fn kill_cgroup(&mut self, name: &str) {
        let Some(entry) = self.fleet.get(name) else { return };
        // Those of this life, now: by the time that a thread is free others may have their name. The next life does not
        // take these over, so that nobody is put into a group whose kill is still to come.
        self.context.note_kill(name);
        let (hierarchies, cgroup) = (self.context.hierarchies, self.context.cgroup(name));
        let groups = life::identity(hierarchies, &cgroup);
        let pidfd = entry.live.as_ref().map(|live| live.pidfd.clone());
        let under_way = entry.under_way.clone();
        let (context, name) = (self.context.clone(), entry.name.clone());
        self.job(&name.clone(), entry.machine.generation, async move {
            // First whoever may still put somebody in there, or make the groups anew: then those are this life's.
            let groups = match under_way {
                Some(under_way) => {
                    under_way.end().await;
                    life::identity(hierarchies, &cgroup)
                }
                None => groups,
            };
            let turn = context.kills.acquire().await;
            let killed = tokio::task::spawn_blocking(move || {
                life::kill_all(hierarchies, &cgroup, groups, pidfd.as_ref().map(AsFd::as_fd))
            });
            let killed = killed.await;
            drop(turn);
            let empty = match killed {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::warn!(service = &*name, "cannot kill all of it: {error}");
                    false
                }
                Err(error) => {
                    tracing::error!(service = &*name, "killing it: {error}");
                    false
                }
            };
            Life::Killed { empty }
        });
    }

    pub(super) fn thaw(&self, name: &str) {
        let (cgroup, hierarchies) = (self.context.cgroup(name), self.context.hierarchies);
        tokio::task::spawn_blocking(move || life::thaw(hierarchies, &cgroup));
    }

    fn clean_up(&self, name: &str, keep: bool) {
        let Some(entry) = self.fleet.get(name) else { return };
        let (generation, config) = (entry.machine.generation, entry.machine.config().shared());
        let order = life::Cleanup { ctx: entry.ctx(), generation, config, keep };
        let (context, name) = (self.context.clone(), entry.name.clone());
        self.job(&name.clone(), generation, async move {
            match life::cleanup(&context, order).await {
                Ok(()) => Life::CleanedUp,
                Err(problem) => {
                    context.warn(&name, &format!("cannot clean up: {problem}"));
                    Life::CleanupFailed(problem)
                }
            }
        });
    }

    fn drop_kept(&self, name: &str) {
        let Some(entry) = self.fleet.get(name) else { return };
        let (context, ctx, name) = (self.context.clone(), entry.ctx(), entry.name.clone());
        self.context.aside(async move {
            if let Err(problem) = life::let_go(&context, &name, Some(&ctx)).await {
                tracing::warn!(service = &*name, "cannot remove what it kept: {problem}");
            }
        });
    }

    fn arm(&mut self, name: &str, at: Ms) {
        let send = self.send.clone();
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let (name, generation) = (entry.name.clone(), entry.machine.generation);
        entry.timer = Some(sleep_until(at, move || answer(&send, name, generation, Life::Timer)));
    }

    /// Not of what is paused: it cannot answer.
    pub(super) fn begin_checks(&mut self, name: &str) {
        let Some(entry) = self.fleet.get(name) else { return };
        if let (Some(check), Some(live)) = (&entry.config().healthcheck, &entry.live)
            && live.paused_since.is_none()
        {
            let target = Target {
                service: name.to_owned(),
                generation: entry.machine.generation,
                pid: live.pid,
                pidfd: live.pidfd.clone(),
                netns: live.netns.clone(),
                exec: self.context.exec.clone(),
            };
            self.probes.begin(target, check, entry.machine.state.health());
        }
    }

    /// Its program runs.
    pub(super) fn begin_post_start(&mut self, name: &str, generation: u64) -> Life {
        let context = self.context.clone();
        if let Some(entry) = self.fleet.get_mut(name) {
            let (service, steps) = (entry.name.clone(), entry.config().lifecycle.post_start.clone());
            if let Some(live) = entry.live.as_mut().filter(|live| live.generation == generation)
                && !steps.is_empty()
            {
                let container = live.pidfd.clone();
                let task = tokio::task::spawn_local(async move {
                    context.steps.each(&service, "post_start", &steps, Some(&container)).await;
                });
                live.steps = Some(task.into());
            }
        }
        Life::Started
    }

    /// A job of this life; what it returns happens to the life.
    fn job(&self, name: &Arc<str>, generation: u64, job: impl Future<Output = Life> + 'static) {
        let (send, name) = (self.send.clone(), name.clone());
        tokio::task::spawn_local(async move { answer(&send, name, generation, job.await) });
    }
}

fn answer(send: &Sender, name: Arc<str>, generation: u64, life: Life) {
    let _ = send.send(Message::Service { name, event: Event::life(generation, life) });
}
