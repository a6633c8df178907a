//! One plugin's thread: its queue, its deadlines, and the end of each request.
//!
//! ```text
//!  loop: ask() --> queue --> thread: call() --OK or error--> finish() --> the asker wakes
//!                               \--PENDING--> any thread: complete() --^
//!  deadline: expire() --> the asker goes on; the request is a zombie until the plugin completes it (E_STALE)
//! ```
//! The worker's loop only queues and awaits: a plugin that hangs costs its own thread and, after its deadline, an answer. The
//! memory of a request lives until `call` has returned and it is completed, whoever gave up on it before.
mod message;
mod thread;

use super::kv::Kv;
use super::library::Library;
use super::quarantine;
use super::{Policy, World};
use sampan_plugin::abi;
use sampan_plugin::merge::Author;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// Notifications that wait for one plugin; more are replaced by one `synchronize`.
pub const QUEUE_MAX: usize = 1024;
/// Requests that a plugin may have pending.
pub const INFLIGHT_MAX: usize = 64;
/// Answers to `put` and `submit` that a plugin may have outstanding or unread.
const RESULTS_MAX: usize = 4096;
/// Requests given up and never completed: their memory is the plugin's until it does.
pub const ZOMBIES_MAX: usize = 64;
const STACK_BYTES: usize = 512 << 10;

use message::Frame;
pub use message::{Message, Outcome};

/// A request that is not completed.
struct Asked {
    frame: Arc<Frame>,
    /// Gone once the asker gave up.
    reply: Option<oneshot::Sender<Outcome>>,
    hard: Instant,
    dispatched: bool,
    deadline: Instant,
}

enum Job {
    Ask(u64),
    Tell(Arc<Frame>),
    /// Somebody waits until all before it is done.
    Pass(oneshot::Sender<()>),
    Close(u32, oneshot::Sender<()>),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// RESULT and TIMER: never behind a request that may wait for them.
    urgent: VecDeque<Arc<Frame>>,
    /// The timers that have a tick in `urgent`: one, however often they came round.
    ticks: HashSet<u64>,
    /// RESULTs that are promised, or in `urgent`.
    results: usize,
    asked: HashMap<u64, Asked>,
    next_id: u64,
    pending: usize,
    zombies: usize,
    /// Notifications were lost: the plugin must be told what is.
    resync: bool,
    /// When the call that runs now should have ended.
    call_deadline: Option<Instant>,
    /// Its thread sleeps: a wake-up is a system call, so nobody wakes it without need.
    sleeps: bool,
    closed: bool,
}

impl Queue {
    /// The thread is in a call that should have ended. A call within its time owes nothing yet.
    fn is_stuck(&self) -> bool {
        self.call_deadline.is_some_and(|deadline| deadline < Instant::now())
    }
}

/// Figures for `statuses`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub calls: u64,
    pub errors: u64,
    pub timeouts: u64,
    pub panics: u64,
    pub overflows: u64,
    pub stale: u64,
    pub logs_dropped: u64,
    pub busy: Duration,
    pub longest: Duration,
}

#[derive(Debug, Default)]
pub struct Health {
    /// Why it is asked no more.
    pub disabled: Option<String>,
    /// Disabled as long as it owes answers: it was late, or somebody has asked for it.
    pub until_it_answers: bool,
    pub timeouts_in_a_row: u32,
    pub panics: VecDeque<Instant>,
    pub figures: Figures,
}

struct This(*mut c_void);
// SAFETY: the plugin's pointer is only passed back to its own functions; `call` and `close` from its thread, `cancel` from
// any, as the header allows.
unsafe impl Send for This {}
// SAFETY: as above.
unsafe impl Sync for This {}

/// One open plugin, shared by its thread, the loop, and every thread that calls the host's table. Leaked once: a thread that
/// a plugin left behind may call at any time.
pub struct Plugin {
    pub name: String,
    pub slot: usize,
    pub policy: Policy,
    pub library: Library,
    pub kv: Kv,
    pub world: Arc<World>,
    pub events: AtomicU64,
    pub timers: Mutex<HashMap<u64, AbortHandle>>,
    pub metrics: super::table::Metrics,
    pub log_budget: Mutex<(Instant, u32)>,
    pub open_text: Mutex<String>,
    pub opened: AtomicBool,
    queue: Mutex<Queue>,
    wake: Condvar,
    this: RwLock<Option<This>>,
    health: Mutex<Health>,
}

impl Plugin {
    pub fn new(library: Library, policy: Policy, kv: Kv, world: Arc<World>, slot: usize) -> &'static Plugin {
        world.page.claim(slot, &library.name, &library.text);
        Box::leak(Box::new(Plugin {
            name: library.name.clone(),
            slot,
            policy,
            events: AtomicU64::new(
                library.head.events & abi::EVENTS_ALL | 1 << abi::EV_RESULT | 1 << abi::EV_TIMER,
            ),
            library,
            kv,
            world,
            timers: Mutex::default(),
            metrics: super::table::Metrics::default(),
            log_budget: Mutex::new((Instant::now(), 0)),
            open_text: Mutex::default(),
            opened: AtomicBool::new(false),
            queue: Mutex::default(),
            wake: Condvar::new(),
            this: RwLock::new(None),
            health: Mutex::default(),
        }))
    }

    pub fn author(&self) -> Author<'_> {
        Author { name: &self.name, grants: &self.policy.grants, claims: &self.library.manifest.claims }
    }

    pub fn wants(&self, event: u16) -> bool {
        self.events.load(Ordering::Relaxed) & (1 << event) != 0
    }

    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn disabled(&self) -> Option<String> {
        self.health().disabled.clone()
    }

    /// Enabled again if it was disabled until it answers, and owes nothing any more.
    pub fn recover(&self) {
        if self.enable_if(|health| health.until_it_answers) {
            tracing::warn!("plugin {} answers again and is enabled", self.name);
        }
    }

    /// Enabled again because somebody asked for it: now, or (false) when it has given the answers that it owes.
    pub fn enable(&self) -> bool {
        self.enable_if(|health| {
            health.until_it_answers = health.disabled.is_some();
            health.until_it_answers
        })
    }

    /// It learns what lives by `synchronize`.
    fn enable_if(&self, may: impl Fn(&mut Health) -> bool) -> bool {
        {
            let mut queue = self.queue();
            let mut health = self.health();
            if !may(&mut health) || queue.zombies > 0 || queue.is_stuck() {
                return false;
            }
            *health = Health { figures: std::mem::take(&mut health.figures), ..Health::default() };
            queue.resync = true;
            self.wake(&mut queue);
        }
        self.world.back.notify_one();
        true
    }

    /// Its thread is in a call that should have ended.
    pub fn is_stuck(&self) -> bool {
        self.queue().is_stuck()
    }

    pub fn queued(&self) -> usize {
        let queue = self.queue();
        queue.jobs.len() + queue.urgent.len() + queue.pending
    }

    pub fn zombies(&self) -> usize {
        self.queue().zombies
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, queue: &mut Queue) {
        if std::mem::take(&mut queue.sleeps) {
            self.wake.notify_one();
        }
    }

    // ---- from the loop -----------------------------------------------------------------------------------------------

    /// Starts its thread and opens it there. On an error its text.
    pub async fn open(&'static self, body: serde_json::Value) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        let thread = std::thread::Builder::new().name(self.thread_name()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            thread::block_signals();
            quarantine::prepare_thread();
            self.set_call_deadline(Some(Instant::now() + self.policy.open_timeout));
            let result = self.call_open(&body);
            self.set_call_deadline(None);
            let open = result.is_ok();
            self.opened.store(open, Ordering::Release);
            // Nobody waits any more: opened too late. It stays unused.
            if sender.send(result).is_ok() && open {
                self.serve();
            }
        });
        spawned.map_err(|error| format!("no thread for it: {error}"))?;
        match tokio::time::timeout(self.policy.open_timeout, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("its thread ended while opening".to_owned()),
            Err(_) => Err(format!("no answer within open_timeout ({:?})", self.policy.open_timeout)),
        }
    }

    /// Asks and waits for the answer, at most as long as the policy allows.
    pub async fn ask(&'static self, message: Message) -> Outcome {
        let timeout = self.policy.timeout;
        let event = message.event;
        let (sender, mut receiver) = oneshot::channel();
        let submitted = Instant::now();
        let mut until = submitted + timeout;
        let id = {
            let mut queue = self.queue();
            if queue.closed {
                return Outcome::Gone;
            }
            queue.next_id += 1;
            let id = queue.next_id;
            let frame = Arc::new(Frame::new(message, id, self.world.next_seq()));
            let hard = submitted + self.policy.hard_timeout;
            let asked = Asked { frame, reply: Some(sender), hard, dispatched: false, deadline: until };
            queue.asked.insert(id, asked);
            queue.jobs.push_back(Job::Ask(id));
            self.wake(&mut queue);
            id
        };
        let _unheard = Unheard { plugin: self, id, event };
        loop {
            match tokio::time::timeout_at(until.into(), &mut receiver).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_)) => return Outcome::Gone,
                Err(_) => match self.expire(id) {
                    Expired::Not(next) => until = next,
                    // It was completed in this very moment.
                    Expired::Completed => until = Instant::now() + Duration::from_secs(1),
                    Expired::Yes { cancel } => {
                        if cancel {
                            self.cancel(id, event);
                        }
                        return Outcome::Timeout { after: submitted.elapsed(), stuck: self.is_stuck() };
                    }
                },
            }
        }
    }

    /// Nobody waits for this answer any more, if it has not come: what it was about has ended. That is no fault of the plugin's.
    fn forget(&'static self, id: u64, event: u16) {
        let mut queue = self.queue();
        match queue.asked.get_mut(&id) {
            Some(asked) if !asked.dispatched => drop(queue.asked.remove(&id)),
            Some(asked) if asked.reply.is_some() => {
                asked.reply = None;
                queue.zombies += 1;
                drop(queue);
                self.cancel(id, event);
            }
            // Answered, or late and cancelled.
            Some(_) | None => {}
        }
    }

    /// Tells without waiting. Too many: all that wait are dropped, and one `synchronize` takes their place.
    pub fn tell(&self, message: Message) {
        let frame = Arc::new(Frame::new(message, 0, self.world.next_seq()));
        {
            let mut queue = self.queue();
            if queue.closed {
                return;
            }
            if frame.message.event == abi::EV_RESULT
                || frame.message.event == abi::EV_TIMER && queue.ticks.insert(frame.message.token)
            {
                queue.urgent.push_back(frame);
            } else if frame.message.event != abi::EV_TIMER {
                if queue.jobs.len() >= QUEUE_MAX {
                    queue.jobs.retain(|job| !matches!(job, Job::Tell(_)));
                    queue.resync = true;
                    self.health().figures.overflows += 1;
                }
                queue.jobs.push_back(Job::Tell(frame));
            }
            self.wake(&mut queue);
        }
    }

    /// Until it has done what it was told so far, or should have.
    pub async fn has_heard(&'static self) {
        let receiver = {
            let mut queue = self.queue();
            if queue.closed || queue.sleeps || queue.is_stuck() {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            queue.jobs.push_back(Job::Pass(sender));
            receiver
        };
        // Late or ended: its loss.
        let _ = tokio::time::timeout(self.policy.timeout, receiver).await;
    }

    /// The last call, on its thread, after what is queued.
    pub async fn close(&'static self, reason: u32) -> bool {
        let (sender, receiver) = oneshot::channel();
        {
            let mut queue = self.queue();
            queue.jobs.push_back(Job::Close(reason, sender));
            self.wake(&mut queue);
        }
        tokio::time::timeout(self.policy.timeout, receiver).await.is_ok_and(|closed| closed.is_ok())
    }

    fn expire(&self, id: u64) -> Expired {
        let now = Instant::now();
        let mut queue = self.queue();
        let stuck = queue.call_deadline.is_some_and(|deadline| deadline < now);
        let Some(asked) = queue.asked.get_mut(&id) else { return Expired::Completed };
        if !asked.dispatched {
            // The clock of a request starts when it reaches the plugin, as long as the plugin moves at all.
            if !stuck && now < asked.hard {
                return Expired::Not((now + self.policy.timeout).min(asked.hard));
            }
            queue.asked.remove(&id);
            return Expired::Yes { cancel: false };
        }
        if now < asked.deadline {
            return Expired::Not(asked.deadline);
        }
        asked.reply = None;
        queue.zombies += 1;
        Expired::Yes { cancel: true }
    }

    /// On a thread of the pool: `cancel` is code of the plugin, and may hang as any.
    fn cancel(&'static self, id: u64, event: u16) {
        let Some(cancel) = self.library.table.cancel else { return };
        self.world.rt.spawn_blocking(move || {
            let this = self.this.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(this) = &*this {
                let _in_call = self.world.page.enter(self.slot, event);
                // SAFETY: open (the lock keeps `close` out); the header allows `cancel` from any thread.
                unsafe { cancel(this.0, id) };
            }
        });
    }

    // ---- from any thread, through the table --------------------------------------------------------------------------

    /// Ends a request. E_STALE if it has ended, or nobody waits for it any more.
    pub fn finish(&self, id: u64, outcome: Outcome) -> i32 {
        let reply = {
            let mut queue = self.queue();
            // What was not handed out cannot be completed.
            match queue.asked.get(&id) {
                Some(asked) if asked.dispatched => {}
                _ => return self.stale(),
            }
            queue.pending = queue.pending.saturating_sub(1);
            let reply = queue.asked.remove(&id).and_then(|asked| asked.reply);
            if reply.is_none() {
                queue.zombies = queue.zombies.saturating_sub(1);
            }
            self.wake(&mut queue);
            reply
        };
        match reply.map(|reply| reply.send(outcome)) {
            Some(Ok(())) => abi::OK,
            _ => {
                self.recover();
                self.stale()
            }
        }
    }

    /// Room for one more RESULT; false if the plugin has to read some first.
    pub fn promise_result(&self) -> bool {
        let mut queue = self.queue();
        let room = queue.results < RESULTS_MAX;
        queue.results += usize::from(room);
        room
    }

    /// It was refused: no RESULT comes.
    pub fn break_promise(&self) {
        let mut queue = self.queue();
        queue.results = queue.results.saturating_sub(1);
    }

    /// Timers that have ticked and were not heard, but for those that still run.
    pub fn unheard(&self, running: impl Fn(u64) -> bool) -> usize {
        self.queue().ticks.iter().filter(|token| !running(**token)).count()
    }

    fn stale(&self) -> i32 {
        self.health().figures.stale += 1;
        abi::E_STALE
    }

    /// More time for a request, up to the policy's `hard_timeout`.
    pub fn extend(&self, id: u64, more: Duration) -> i32 {
        let mut queue = self.queue();
        let Some(asked) = queue.asked.get_mut(&id).filter(|asked| asked.reply.is_some()) else {
            return abi::E_STALE;
        };
        let wanted = asked.deadline.checked_add(more).unwrap_or(asked.hard);
        asked.deadline = wanted.min(asked.hard.max(asked.deadline));
        let (granted, deadline) = (wanted == asked.deadline, asked.deadline);
        if let Some(running) = &mut queue.call_deadline {
            *running = deadline.max(*running);
        }
        if granted { abi::OK } else { abi::E_DENIED }
    }

    // ---- its own thread ----------------------------------------------------------------------------------------------

    /// Every thread that the plugin starts inherits this name, which is how those left behind are found.
    pub fn thread_name(&self) -> String {
        let name: String = self.name.chars().filter(char::is_ascii_graphic).take(12).collect();
        format!("pl:{name}")
    }
}

/// A request whose answer is waited for. Dropped before it has come, the request is cancelled.
struct Unheard {
    plugin: &'static Plugin,
    id: u64,
    event: u16,
}

impl Drop for Unheard {
    fn drop(&mut self) {
        self.plugin.forget(self.id, self.event);
    }
}

enum Expired {
    Not(Instant),
    Completed,
    Yes { cancel: bool },
}
