//! One plugin's thread: its queue, its deadlines, and the end of each request.
//!
//! ```text
//!  loop: ask() --> queue --> thread: call() --OK or error--> finish() --> the asker wakes
//!                               \--PENDING--> any thread: complete() --^
//!  deadline: expire() --> the asker goes on; the request is a zombie until the plugin completes it (E_STALE)
//! ```
//! The worker's loop only queues and awaits: a plugin that hangs costs its own thread and, after its deadline, an answer. The
//! memory of a request lives until `call` has returned and it is completed, whoever gave up on it before.
use super::kv::Kv;
use super::library::Library;
use super::quarantine;
use super::{Ctx, Policy, World};
use sampan_plugin::abi::{self, Bytes, Request};
use sampan_plugin::merge::Author;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
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

/// What is asked or told.
#[derive(Clone)]
pub struct Message {
    pub event: u16,
    pub flags: u16,
    pub who: Option<Arc<Ctx>>,
    pub pid: i32,
    pub exit_code: i32,
    pub signal: i32,
    pub token: u64,
    pub fds: Vec<(u32, Arc<OwnedFd>)>,
    pub body: Arc<[u8]>,
}

impl Message {
    pub fn new(event: u16) -> Message {
        Message {
            event,
            flags: 0,
            who: None,
            pid: 0,
            exit_code: 0,
            signal: 0,
            token: 0,
            fds: Vec::new(),
            body: Arc::new([]),
        }
    }

    pub fn of(event: u16, ctx: &Arc<Ctx>) -> Message {
        Message { pid: ctx.pid, who: Some(ctx.clone()), ..Message::new(event) }
    }

    pub fn body(mut self, body: &serde_json::Value) -> Message {
        self.body = super::containers::encode(body);
        self
    }
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    Reply {
        json: Vec<u8>,
        fds: Vec<OwnedFd>,
    },
    Error {
        status: i32,
        text: String,
    },
    /// No answer in time; `stuck`: its thread is in a call that should have ended.
    Timeout {
        after: Duration,
        stuck: bool,
    },
    /// Its thread is gone.
    Gone,
}

/// A message in the memory that a plugin reads.
struct Frame {
    message: Message,
    id: u64,
    seq: u64,
    fds: Vec<abi::Fd>,
    /// Written once, when it is dispatched.
    request: OnceLock<Request>,
}

// SAFETY: the raw pointers in `request` and `fds` lead into `message`, which the frame owns and never changes.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

impl Frame {
    fn new(message: Message, id: u64, seq: u64) -> Frame {
        let fds = message.fds.iter().map(|(role, fd)| abi::Fd { fd: fd.as_raw_fd(), role: *role }).collect();
        Frame { message, id, seq, fds, request: OnceLock::new() }
    }

    fn request(&self, deadline_ns: u64) -> &Request {
        self.request.get_or_init(|| {
            let Message { event, flags, pid, exit_code, signal, token, .. } = self.message;
            let who = self.message.who.as_deref();
            let text =
                |text: fn(&Ctx) -> &str| who.map_or(Bytes::EMPTY, |who| Bytes::of(text(who).as_bytes()));
            Request {
                flags: if self.id != 0 { flags | abi::F_GATE } else { flags },
                id: self.id,
                seq: self.seq,
                deadline_ns,
                container: who.map_or(0, |who| who.handle),
                container_id: text(|who| &who.container_id),
                service: text(|who| &who.service),
                pid,
                exit_code,
                signal,
                attempt: who.map_or(0, |who| who.attempt),
                token,
                nfds: self.fds.len() as u32,
                fds: self.fds.as_ptr(),
                body: Bytes::of(&self.message.body),
                ..Request::new(event)
            }
        })
    }
}

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
    /// Disabled because it was late, and only as long as it owes answers.
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

    /// Enabled again if it was disabled for being late and owes nothing any more.
    pub fn recover(&self) {
        if self.enable_if(|health| health.until_it_answers) {
            tracing::warn!("plugin {} answers again and is enabled", self.name);
        }
    }

    /// Enabled again because somebody asked for it; false if it still owes answers.
    pub fn enable(&self) -> bool {
        self.enable_if(|health| health.disabled.is_some())
    }

    /// It learns what lives by `synchronize`.
    fn enable_if(&self, may: impl Fn(&Health) -> bool) -> bool {
        {
            let mut queue = self.queue();
            let mut health = self.health();
            if !may(&health) || queue.zombies > 0 || queue.call_deadline.is_some() {
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
        self.queue().call_deadline.is_some_and(|deadline| deadline < Instant::now())
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
            block_signals();
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

    fn set_call_deadline(&self, deadline: Option<Instant>) {
        self.queue().call_deadline = deadline;
    }

    fn call_open(&'static self, body: &serde_json::Value) -> Result<(), String> {
        let Some(open) = self.library.table.open else { return Err("it has no open".to_owned()) };
        let body = super::containers::encode(body);
        let request = Request { body: Bytes::of(&body), ..Request::new(abi::EV_OPEN) };
        let mut this = std::ptr::null_mut();
        let status = {
            let _in_call = self.world.page.enter(self.slot, abi::EV_OPEN);
            // SAFETY: the table is static, `self` is leaked, the request lives on this stack during the call.
            unsafe {
                open(
                    &raw const super::table::HOST,
                    super::table::ctx(self),
                    &raw const request,
                    &raw mut this,
                )
            }
        };
        if status == abi::OK {
            *self.this.write().unwrap_or_else(PoisonError::into_inner) = Some(This(this));
            return Ok(());
        }
        let text = std::mem::take(&mut *self.open_text.lock().unwrap_or_else(PoisonError::into_inner));
        Err(if text.is_empty() { abi::status_text(status).to_owned() } else { text })
    }

    fn serve(&'static self) {
        loop {
            match self.next() {
                Next::Resync => self.resync(),
                Next::Ask(id, frame, deadline) => {
                    let status = self.call(&frame, deadline);
                    let outcome = match status {
                        abi::PENDING => continue,
                        abi::OK => Outcome::Reply { json: Vec::new(), fds: Vec::new() },
                        status => Outcome::Error { status, text: String::new() },
                    };
                    // E_STALE here: it has completed before it returned, which is fine.
                    self.finish_if_open(id, outcome);
                }
                Next::Tell(frame) => {
                    let deadline = Instant::now() + self.policy.timeout;
                    let status = self.call(&frame, deadline);
                    if status < 0 {
                        self.health().figures.errors += 1;
                    }
                }
                Next::Close(reason, done) => {
                    self.call_close(reason);
                    // Nobody waits any more: closing took too long.
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn finish_if_open(&self, id: u64, outcome: Outcome) {
        let open = self.queue().asked.contains_key(&id);
        if open {
            self.finish(id, outcome);
        }
    }

    fn next(&self) -> Next {
        let mut queue = self.queue();
        loop {
            if let Some(frame) = queue.urgent.pop_front() {
                match frame.message.event {
                    abi::EV_TIMER => _ = queue.ticks.remove(&frame.message.token),
                    _ => queue.results = queue.results.saturating_sub(1),
                }
                return Next::Tell(frame);
            }
            if std::mem::take(&mut queue.resync) {
                return Next::Resync;
            }
            let full = queue.pending >= INFLIGHT_MAX && matches!(queue.jobs.front(), Some(Job::Ask(_)));
            match if full { None } else { queue.jobs.pop_front() } {
                Some(Job::Ask(id)) => {
                    let deadline = Instant::now() + self.policy.timeout;
                    // Not there: its asker has given up before it got here.
                    if let Some(asked) = queue.asked.get_mut(&id) {
                        asked.dispatched = true;
                        asked.deadline = deadline.min(asked.hard);
                        let frame = asked.frame.clone();
                        queue.pending += 1;
                        return Next::Ask(id, frame, deadline);
                    }
                }
                Some(Job::Tell(frame)) => return Next::Tell(frame),
                Some(Job::Close(reason, done)) => {
                    queue.closed = true;
                    return Next::Close(reason, done);
                }
                None => {
                    queue.sleeps = true;
                    queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn call(&self, frame: &Frame, deadline: Instant) -> i32 {
        let Some(call) = self.library.table.call else { return abi::E_UNSUPPORTED };
        let this = match &*self.this.read().unwrap_or_else(PoisonError::into_inner) {
            Some(this) => this.0,
            None => return abi::E_UNSUPPORTED,
        };
        let request = frame.request(if frame.id == 0 { 0 } else { monotonic_ns(deadline) });
        let began = Instant::now();
        self.set_call_deadline(Some(deadline));
        let status = {
            let _in_call = self.world.page.enter(self.slot, frame.message.event);
            // SAFETY: opened and not closed (both happen on this thread); the frame lives until the request is completed.
            unsafe { call(this, request) }
        };
        self.set_call_deadline(None);
        self.recover();
        let took = began.elapsed();
        let figures = &mut self.health().figures;
        figures.calls += 1;
        figures.busy += took;
        figures.longest = figures.longest.max(took);
        if status > abi::PENDING { abi::E_INVAL } else { status }
    }

    /// What was lost is replaced by what is.
    fn resync(&self) {
        for message in self.world.synchronize_messages(self, Vec::new()) {
            let frame = Frame::new(message, 0, self.world.next_seq());
            self.call(&frame, Instant::now() + self.policy.timeout);
        }
    }

    fn call_close(&self, reason: u32) {
        for (_, timer) in self.timers.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            timer.abort();
        }
        let this = self.this.write().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(close), Some(this)) = (self.library.table.close, this) {
            let _in_call = self.world.page.enter(self.slot, abi::EV_SHUTDOWN);
            // SAFETY: taken out above, so nobody calls with it after this.
            unsafe { close(this.0, reason) };
        }
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

enum Next {
    Ask(u64, Arc<Frame>, Instant),
    Tell(Arc<Frame>),
    Resync,
    Close(u32, oneshot::Sender<()>),
}

/// All but those that mean a fault of this thread: blocked, the kernel would kill without asking our handler.
fn block_signals() {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::all();
    for fault in
        [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGTRAP]
    {
        signals.remove(fault);
    }
    // Fails for no argument that we give.
    let _ = signals.thread_block();
}

fn monotonic_ns(at: Instant) -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let left = at.saturating_duration_since(Instant::now());
    u64::try_from((now + left).as_nanos()).unwrap_or(u64::MAX)
}
