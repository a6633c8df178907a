//! The launching thread: from the adjusted spec to a container that waits for its start, then its start.
//!
//! It stops once on the way, to let the loop ask the plugins (`Bridge`). As long as it waits it holds the barrier; when nobody
//! can ask for the start any more it ends, and the child with it.
use super::groups::group;
use super::stdio::{self, Output, Places};
use super::{Process, of_config, of_io, of_launch, tag};
use crate::hooks;
use sampan_bundle as bundle;
use sampan_cgroups::Hierarchies;
use sampan_config::schema;
use sampan_keel::{Handle, Keel};
use sampan_plan::{Options, Plan, Spec};
use sampan_plugin_host::digest::{Digest, digest};
use sampan_plugin_host::{Failure, Role};
use sampan_runtime::launch::{self, Attached, Barrier, Console, Created, HookRunner, Keep, Request, Stages};
use sampan_runtime::store::dir::Root;
use sampan_runtime::store::state::CONFIG;
use sampan_service::Problem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot};

/// What the launching thread needs of the loop in the middle of a launch.
pub struct Ask {
    pub pid: i32,
    pub fds: Vec<(Role, OwnedFd)>,
    pub answer: blocking::SyncSender<Result<(), Failure>>,
}

/// The launching thread's work.
pub struct Job {
    pub keel: Keel,
    pub run: std::path::PathBuf,
    pub containers: std::path::PathBuf,
    pub io: std::path::PathBuf,
    pub logs: std::path::PathBuf,
    pub service: Arc<schema::Service>,
    pub generation: u64,
    pub spec: serde_json::Value,
    /// The same as text.
    pub text: Arc<str>,
    /// Of what the bundle says, if that is known.
    pub bundled: Option<Digest>,
    pub stdio: Output,
    pub hook_log: hooks::Log,
    pub groups: Keep,
    pub hierarchies: &'static Hierarchies,
    pub ask: mpsc::Sender<Ask>,
    pub started: blocking::Receiver<oneshot::Sender<Result<(), Problem>>>,
}

pub type Launched = Result<(Process, Option<OwnedFd>, Vec<String>, Digest), Problem>;

impl Job {
    pub fn run(self, born: oneshot::Sender<Launched>) {
        let name = self.service.name.clone();
        let digest = digest(&self.text);
        if self.bundled != Some(digest)
            && let Err(error) = bundle::write(&self.run, &name, &self.spec)
        {
            return drop(born.send(Err(of_io(error))));
        }
        let folder = bundle::folder(&self.run, &name);
        let spec = match Spec::parse(&self.text) {
            Ok(spec) => spec,
            Err(error) => return drop(born.send(Err(of_config(error)))),
        };
        let options = Options {
            id: name.clone(),
            bundle: folder.display().to_string(),
            new_keyring: true,
            attach: true,
            given_stdio: true,
            ..Options::default()
        };
        let facts = launch::host_facts(&spec, &folder, &name, true).map_err(of_io);
        let compiled = facts.and_then(|host| {
            let plan = Plan::compile(&spec, &host, &options).map_err(of_config)?;
            Ok((host, plan))
        });
        let (host, plan) = match compiled {
            Ok(compiled) => compiled,
            Err(problem) => return drop(born.send(Err(problem))),
        };
        let bundle = folder;
        match self.launch(&bundle, &host, &plan) {
            Err(problem) => drop(born.send(Err(problem))),
            Ok(Made { mut created, folder, oom_before, warnings }) => {
                let process = created.child.pidfd.try_clone().map_err(of_io).map(|pidfd| Process {
                    pid: created.child.pid,
                    pidfd,
                    handle: Some(Handle::Own(created.child.pid)),
                    oom_before,
                    started_at: Some(SystemTime::now()),
                });
                let netns = created.netns.take();
                let warnings = plan.warnings.iter().cloned().chain(warnings).collect();
                if born.send(process.map(|process| (process, netns, warnings, digest))).is_err() {
                    return;
                }
                // Others may look at it until it is started. What fails here fails there again, and is told.
                let _ = created.state.save(&folder);
                folder.unlock();
                // Until `start`, or until nobody can ask for it any more: then the barrier goes with us.
                if let Ok(answer) = self.started.recv() {
                    let mut launcher = self.launcher();
                    let log = self.hook_log();
                    let mut runner = HookRunner { spawn: &mut launcher, log: log.as_ref().map(AsFd::as_fd) };
                    let started = launch::start(&mut created, &plan, &folder, &mut runner);
                    let _ = answer.send(started.map_err(of_launch));
                }
            }
        }
    }

    fn launcher(&self) -> sampan_keel::Launcher {
        self.keel.launcher(&tag(&self.service.name, self.generation))
    }

    /// Only for a service that has hooks.
    fn hook_log(&self) -> Option<OwnedFd> {
        self.spec.get("hooks")?;
        self.hook_log.open()
    }

    fn launch(&self, bundle: &Path, host: &sampan_plan::Host, plan: &Plan<'_>) -> Result<Made, Problem> {
        let places = Places { service: &self.service.name, io: &self.io, logs: &self.logs };
        let stdio = stdio::open(self.stdio, &self.keel, places, stdio::owner(&self.spec, plan))?;
        let log = self.hook_log();
        let root = Root::new(Some(&self.containers)).map_err(of_io)?;
        let folder = root.create(&self.service.name).map_err(of_io)?;
        // What later verbs (`sampan exec`, health checks) go by: the config as it was now.
        // The bundle's file is replaced, never changed (`bundle::write`).
        folder.link(CONFIG, &bundle.join(CONFIG), self.text.as_bytes()).map_err(of_io)?;
        let request = Request {
            plan,
            host,
            folder: &folder,
            bundle,
            barrier: Barrier::Pipe,
            console: Console::Keep,
            stdio: Some([stdio.input.as_fd(), stdio.output.as_fd(), stdio.error.as_fd()]),
            netns: None,
            groups: self.groups,
            hook_log: log.as_ref().map(AsFd::as_fd),
        };
        let mut launcher = self.launcher();
        let mut bridge = Bridge { ask: &self.ask, reads: stdio.reads, warnings: Vec::new() };
        let created = launch::create(&request, &mut launcher, &mut bridge);
        let warnings = bridge.warnings;
        let created = match created {
            Ok(created) => created,
            Err(error) => {
                warnings.iter().for_each(|warning| tracing::warn!(service = self.service.name, "{warning}"));
                // It has taken down what it made and run the poststop hooks: with the folder nothing is left for cleaning up
                // to do them again. Groups that would not go are looked for there by name.
                let _ = folder.remove();
                return Err(of_launch(error));
            }
        };
        let oom_before = plan
            .parent
            .cgroups_path
            .and_then(|path| group(self.hierarchies, path).ok()?.oom_kills().ok()?)
            .unwrap_or(0);
        Ok(Made { created, folder, oom_before, warnings })
    }
}

/// What a launch has made.
struct Made {
    created: Created,
    folder: sampan_runtime::store::dir::Folder,
    oom_before: u64,
    /// For the loop, which says each once.
    warnings: Vec<String>,
}

/// The launch's stop for plugins, from the launching thread to the loop and back.
struct Bridge<'a> {
    ask: &'a mpsc::Sender<Ask>,
    reads: Vec<(Role, OwnedFd)>,
    warnings: Vec<String>,
}

impl Stages for Bridge<'_> {
    fn attach(&mut self, container: &Attached<'_>) -> sampan_runtime::error::Result<()> {
        let own = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned().map_err(|e| sampan_runtime::error::Error::new(e.to_string()))
        };
        let mut fds = vec![(Role::Pidfd, own(container.pidfd)?)];
        if let Some(netns) = container.netns {
            fds.push((Role::Netns, own(netns)?));
        }
        for (role, fd) in &self.reads {
            fds.push((*role, own(fd.as_fd())?));
        }
        let (answer, answered) = blocking::sync_channel(1);
        let ended = || sampan_runtime::error::Error::new("sampand ends");
        self.ask.blocking_send(Ask { pid: container.pid, fds, answer }).map_err(|_| ended())?;
        match answered.recv().map_err(|_| ended())? {
            Ok(()) => Ok(()),
            Err(failure) => Err(sampan_runtime::error::Error::new(failure.to_string()).field("attach")),
        }
    }

    fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_owned());
    }
}
