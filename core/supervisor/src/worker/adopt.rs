//! What a new worker does first: for each service in the journal, look at what there is and tell its machine.
//!
//! The keel's children come with pidfds that were never closed: a status waits in each that has ended, also in those of a
//! dead keel that its holder had. Where the holder died too, containers are found by pid and start time (and the pidfd's
//! inode, where it is unique) in their state; a pid that is somebody else's by now is never taken for ours. A launch that was under way has read the
//! end of its barrier and exits; what it left is cleaned up like any life.
use super::Worker;
use super::record::RUN;
use crate::clock;
use crate::fleet::Entry;
use crate::hooks;
use crate::life::{self, Process};
use crate::settings::{Event, Service};
use sampan_journal::{Record, Replay};
use sampan_keel::{self as keel, Child, Executed, Handle, rundir};
use sampan_runtime::store::dir::Root;
use sampan_runtime::store::state::{Stage, State};
use sampan_service::{self as service, Counts, Exit, Facts, Found, Life};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// From the gate to execve, startContainer hooks included, of all that are found. What has not come there counts as not started, and is ended.
const START_MAX: Duration = Duration::from_secs(2);

/// A container as it was found.
struct Finding {
    process: Option<Process>,
    found: Found,
}

impl Finding {
    /// Whoever reaped it kept no status. Where the record has its end, nobody is told of an unknown one.
    fn beside(self, state: &service::State) -> Finding {
        let found = match (state, self.found) {
            (service::State::Lingering { .. }, Found::Exited { exit: Exit::UNKNOWN, started, empty }) => {
                Found::Over { started, empty }
            }
            (_, found) => found,
        };
        Finding { found, ..self }
    }
}

impl Worker {
    /// Rebuilds the fleet: every service of the config, with the life it has by the journal.
    pub fn adopt(&mut self, replay: &Replay) {
        adopt(self, replay);
    }
}

fn adopt(worker: &mut Worker, replay: &Replay) {
    if let Err(error) = worker.context.containers.remove_all_aside() {
        tracing::warn!("what is left of lives that are over: {error}");
    }
    let config = worker.config.clone();
    let Children { mut main, mut hooks } = children(worker);
    let entries = config.services.values().map(|service| {
        let handle = worker.next_handle;
        worker.next_handle += 1;
        let mut entry = Entry::new(service.clone(), handle);
        if let Some(wish) = worker.desired.services.get(&service.name) {
            let last_exit = wish.last_exit.as_deref().and_then(Exit::parse);
            let earlier = Counts { restarts: wish.restarts, last_exit };
            let facts = Facts { earlier, attempts: wish.attempt, ..Facts::default() };
            entry.machine = Service::with(service.clone().into(), facts);
        }
        (entry.name.clone(), entry)
    });
    // Collected, a map is packed full; inserted in order, half of each node stays empty.
    worker.fleet.entries = entries.collect();
    let executed = Executed::within(START_MAX);
    for (name, record) in &replay.last {
        let child = main.remove(name.as_str());
        let hooked = hooks.remove(name).is_some();
        take_up(worker, &executed, name, record, child, hooked);
    }
    let goes_on = |name: &str| {
        let entry = worker.fleet.entries.get(name).filter(|entry| entry.config().fd_store_max > 0);
        entry.is_some_and(|entry| !entry.machine.state.is_at_rest())
    };
    life::fd_store::let_go_of_all_but(&worker.context.loop_keel, &worker.context.dirs.run, goes_on);
    for entry in worker.fleet.entries.values().filter(|entry| entry.machine.state.has_life()) {
        worker.context.relay(entry.config());
    }
    for child in hooks.into_values().flatten() {
        worker.context.end_stray(child);
    }
    for (name, child) in main {
        // Cloned, but nothing of it is on record: it waits at a barrier nobody holds, and exits.
        tracing::warn!(service = name, pid = child.pid, "a process that no record knows: ended");
        worker.context.end_stray(child);
    }
}

/// The keel's children by service.
#[derive(Default)]
struct Children {
    /// Main processes.
    main: BTreeMap<String, Child>,
    /// Hooks of theirs that ran when the worker died.
    hooks: BTreeMap<String, Vec<Child>>,
}

fn children(worker: &Worker) -> Children {
    let kept = match worker.context.loop_keel.list() {
        Ok(kept) => kept,
        Err(error) => {
            tracing::error!("the keel does not say what it holds: {error}");
            return Children::default();
        }
    };
    // The config has changed while no worker looked.
    let wanted = |name: &str| worker.config.services.get(name).map_or(&[][..], |service| &service.sockets);
    life::sockets::let_go(&worker.context.loop_keel, &kept.keys, |name| Some(wanted(name)));
    let mut main = BTreeMap::<String, (u64, Child)>::new();
    let mut hooked = BTreeMap::<String, Vec<Child>>::new();
    // The process that read config.toml for this worker, which has just ended or is about to.
    let own = life::own_tag();
    for child in kept.children.into_iter().filter(|child| child.tag != own) {
        let hook_of = keel::HookTag::parse(&child.tag).and_then(|tag| hooks::service_of(tag.of));
        if let Some(name) = hook_of.map(str::to_owned) {
            // It has its time: whoever cleans up that life waits for it, or whoever goes on with its start.
            hooked.entry(name).or_default().push(child);
            continue;
        }
        let tag = child.tag.strip_prefix("service/").and_then(|rest| rest.rsplit_once('/'));
        let Some((name, Ok(generation))) = tag.map(|(name, number)| (name.to_owned(), number.parse())) else {
            // A probe of the worker before us: nobody waits for its answer any more.
            worker.context.end_stray(child);
            continue;
        };
        // Of two lives the younger one is the service's: the other was left when its end was on record.
        match main.entry(name) {
            Slot::Occupied(older) if older.get().0 >= generation => worker.context.end_stray(child),
            Slot::Occupied(mut older) => {
                let (_, older) = older.insert((generation, child));
                worker.context.end_stray(older);
            }
            Slot::Vacant(free) => drop(free.insert((generation, child))),
        }
    }
    let main = main.into_iter().map(|(name, (_, child))| (name, child)).collect();
    Children { main, hooks: hooked }
}

fn take_up(
    worker: &mut Worker,
    executed: &Executed,
    name: &str,
    record: &Record,
    child: Option<Child>,
    hooked: bool,
) {
    let get = |key: &str| record.data.get(key).and_then(serde_json::Value::as_str);
    let number = |key: &str| record.data.get(key).and_then(serde_json::Value::as_u64);
    let Some(entry) = worker.fleet.get(name) else {
        // It left the config while no worker looked.
        if child.is_some() || state_of(worker, name).is_some() || worker.context.dirs.bundle(name).exists() {
            tracing::warn!(service = name, "no longer in the config: ended");
            worker.discard(name, record.generation, child);
        }
        return;
    };
    let image;
    let machine = match Facts::from_record(get) {
        Ok(facts) => {
            let same_run = get(RUN) == Some(&worker.run);
            let facts = if same_run { facts } else { facts.in_a_new_run() };
            let led;
            (led, image) = worker.led_as_before(name, entry.machine.config());
            Service::with(led, facts)
        }
        Err(error) => {
            tracing::error!(
                service = name,
                "its last record cannot be used; what runs of it is ended: {error}"
            );
            worker.discard(name, record.generation, child);
            return;
        }
    };
    let generation = machine.generation;
    if machine.state.is_at_rest() && child.is_none() && worker.context.dirs.bundle(name).exists() {
        worker.context.let_go(name);
    }
    let finding = find(worker, executed, name, number("oom_before"), get, child);
    let Finding { process, found } = finding.beside(&machine.state);
    let goes_on = matches!(found, Found::Alive { started: true })
        && (hooked || state_of(worker, name).is_some_and(|state| hooks::poststart_due(&state)));
    let Some(entry) = worker.fleet.get_mut(name) else { return };
    entry.machine = machine;
    entry.image = image;
    if goes_on {
        worker.context.finish_poststart(entry.config(), generation);
    }
    entry.handle = number("handle").unwrap_or(entry.handle);
    worker.next_handle = worker.next_handle.max(entry.handle + 1);
    if let Some(process) = process {
        let netns = life::netns_of(process.pid).map(Arc::new);
        entry.live = Some(super::watch(worker.send.clone(), &entry.name, generation, process, netns, None));
        worker.notice_pause(name);
    }
    worker.adopted.push((name.into(), Event::life(generation, Life::Adopted(found))));
}

/// Looks for the main process of a life.
fn find<'a>(
    worker: &Worker,
    executed: &Executed,
    name: &str,
    oom_before: Option<u64>,
    get: impl Fn(&str) -> Option<&'a str>,
    child: Option<Child>,
) -> Finding {
    let cgroup = worker.context.cgroup(name);
    let (kills, empty) = life::last_look(worker.context.hierarchies, &cgroup);
    let started_at = get("started_at").and_then(clock::parse_rfc3339);
    let state = state_of(worker, name);
    // The state says so before the child is told to go on: a worker that died between the two leaves a child that
    // reads the end of its gate and exits, with a code that is not its program's.
    let running = state.as_ref().is_some_and(|state| state.stage == Stage::Running);
    let executed =
        |pid, pidfd: &OwnedFd, handle: Option<&Handle>| running && executed.by(pid, pidfd.as_fd(), handle);
    let process = |pid, pidfd, handle| Process {
        pid,
        pidfd: Arc::new(pidfd),
        handle,
        oom_before: oom_before.unwrap_or(kills),
        started_at,
    };
    if let Some(Child { pid, pidfd, handle, .. }) = child {
        // Also one that has ended: the watch finds its status at once, as of any other.
        let started = match &handle {
            // Whoever inherited it has reaped it: nothing but its exit code can be looked at.
            Handle::Orphan(_) if ended(&pidfd) => running && !life::was_abandoned(pidfd.as_fd()),
            own => executed(pid, &pidfd, Some(own)),
        };
        return Finding { process: Some(process(pid, pidfd, Some(handle))), found: Found::Alive { started } };
    }
    let alive = state.as_ref().and_then(|state| Some((state.init.as_ref()?.pid, state.init().ok()??)));
    match alive {
        Some((pid, pidfd)) if !ended(&pidfd) => {
            let started = executed(pid, &pidfd, None);
            Finding { process: Some(process(pid, pidfd, None)), found: Found::Alive { started } }
        }
        _ if running => {
            Finding { process: None, found: Found::Exited { exit: Exit::UNKNOWN, empty, started: running } }
        }
        _ => Finding { process: None, found: Found::Gone { empty } },
    }
}

fn ended(pidfd: &OwnedFd) -> bool {
    sampan_runtime::kernel::pidfd::ended(pidfd.as_fd()).unwrap_or(true)
}

/// Whether there is more of any service than what is on record of it: its container, or its groups and bundle between two lives.
pub fn anything_is_left(run_dir: &Path) -> bool {
    let is_in = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    is_in(&rundir::containers(run_dir)) || is_in(&sampan_bundle::bundles(run_dir))
}

/// Whether the main process of any container of this root lives.
pub fn anything_lives(containers: &Path) -> bool {
    let lives = |name: &str| {
        let init = state_in(containers, name)?.init().ok()??;
        sampan_runtime::kernel::pidfd::ended(init.as_fd()).ok().filter(|ended| !ended)
    };
    let entries = std::fs::read_dir(containers).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).any(|name| lives(&name).is_some())
}

fn state_of(worker: &Worker, name: &str) -> Option<State> {
    state_in(&worker.context.dirs.containers(), name)
}

fn state_in(containers: &Path, name: &str) -> Option<State> {
    let root = Root::new(Some(containers)).ok()?;
    State::load(&root.open(name).ok()?).ok()?
}
