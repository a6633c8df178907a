//! Launching processes as the worker sees them. Each does one launch at a time; one that is done is kept for a few seconds, for
//! the next, so that none is there while nothing starts. One that is dropped is killed: it can hang in whatever it opens.
use super::talk::{self, Order, Received, Said};
use super::{of_io, on_pool};
use crate::fence::{self, Held};
use crate::hooks;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use sampan_keel::{Child, Keel, LoopKeel};
use sampan_plan::host_process::{HostProcess, host};
use sampan_runtime::error::Error;
use sampan_runtime::kernel::pidfd;
use sampan_runtime::launch::slots::{SlotInputs, Slots};
use sampan_service::Problem;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// What it is.
const NAME: &str = "launch";
/// How long one waits for the next launch.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// How long a killed one may take to be gone. One that hangs in the kernel takes longer.
const END_MAX: Duration = Duration::from_secs(2);

/// A launching process, of whoever holds this.
#[derive(Debug)]
pub struct Launcher {
    socket: AsyncFd<Held>,
    running: Running,
    /// The service that it has launched last.
    last: RefCell<Option<Arc<str>>>,
}

#[derive(Debug, Clone)]
struct Process {
    pid: i32,
    pidfd: Arc<OwnedFd>,
}

/// A child of the keel that works for whoever has this. Dropped, it is killed; it is reaped whenever it has ended.
#[derive(Debug)]
pub struct Running(Process);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = pidfd::send(self.0.pidfd.as_fd(), libc::SIGKILL);
    }
}

impl Launcher {
    pub fn send(&self, order: &Order, text: &str) -> Result<(), Problem> {
        self.send_with(order, text, &[])
    }

    pub fn send_with(&self, order: &Order, text: &str, fds: &[BorrowedFd<'_>]) -> Result<(), Problem> {
        talk::send(self.socket.get_ref().as_fd(), order, text, fds, SendFlags::DONTWAIT)
            .map_err(|error| Problem::Io(format!("cannot ask the launching process: {error}")))
    }

    /// What it says next that asks for an answer, or is one.
    pub async fn next(&self, under_way: &UnderWay) -> Result<Received<Said>, Problem> {
        loop {
            let mut ready = self.socket.readable().await.map_err(of_io)?;
            let Ok(received) = ready.try_io(|fd| talk::receive(fd.get_ref().as_fd(), RecvFlags::DONTWAIT))
            else {
                continue;
            };
            match received.map_err(of_io)? {
                None => return Err(Problem::Io("the launching process ended".into())),
                Some((Said::Doing(what), ..)) => under_way.now(what),
                Some((Said::Warning(warning), ..)) => under_way.warnings.borrow_mut().push(warning),
                Some(received) => return Ok(received),
            }
        }
    }
}

/// All launching processes, but those at work.
#[derive(Debug)]
pub struct Launchers {
    loop_keel: LoopKeel,
    pool_keel: Keel,
    idle: RefCell<Vec<(Instant, Launcher)>>,
    /// A task looks after the idle ones.
    looked_after: Cell<bool>,
    /// Shared by each that is begun, there, or has ended and the keel holds it: it takes them for something that runs on.
    held: Rc<()>,
    /// By service, or what else it was for: one that was killed and is not gone. No other for that before it is.
    stuck: RefCell<BTreeMap<String, Stuck>>,
}

#[derive(Debug)]
struct Stuck {
    process: Process,
    doing: String,
}

impl Launchers {
    pub fn new(loop_keel: LoopKeel, pool_keel: Keel) -> Launchers {
        Launchers {
            loop_keel,
            pool_keel,
            idle: RefCell::default(),
            looked_after: Cell::new(false),
            held: Rc::default(),
            stuck: RefCell::default(),
        }
    }

    /// One for this launch.
    pub async fn take(&self, under_way: &UnderWay) -> Result<Launcher, Problem> {
        let launcher = match self.take_idle(&under_way.service) {
            Some(launcher) => launcher,
            None => self.start().await?,
        };
        *launcher.last.borrow_mut() = Some(under_way.service.clone());
        under_way.is_done_by(&launcher);
        Ok(launcher)
    }

    /// Best the one that has launched this service before: it knows what there is to do.
    fn take_idle(&self, service: &str) -> Option<Launcher> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(_, launcher)| !pidfd::ended(launcher.running.0.pidfd.as_fd()).unwrap_or(true));
        let known = idle.iter().rposition(|(_, launcher)| launcher.last.borrow().as_deref() == Some(service));
        let place = known.or(idle.len().checked_sub(1))?;
        Some(idle.remove(place).1)
    }

    /// It has nothing to do any more.
    pub fn put(self: &Rc<Self>, launcher: Launcher) {
        self.idle.borrow_mut().push((Instant::now(), launcher));
        if self.looked_after.replace(true) {
            return;
        }
        let launchers = self.clone();
        tokio::task::spawn_local(async move {
            while !launchers.idle.borrow().is_empty() {
                tokio::time::sleep(IDLE_MAX).await;
                launchers.idle.borrow_mut().retain(|(since, _)| since.elapsed() < IDLE_MAX);
            }
            launchers.looked_after.set(false);
        });
    }

    /// A launch is due soon: one will be there.
    pub fn expect(self: &Rc<Self>) {
        if !self.idle.borrow().is_empty() {
            return;
        }
        let launchers = self.clone();
        tokio::task::spawn_local(async move {
            // What is wrong with it is told to the launch that needs one.
            if let Ok(launcher) = launchers.start().await {
                launchers.put(launcher);
            }
        });
    }

    /// sampand ends: those that wait go first. Returns when the keel holds none that can end.
    pub async fn close(&self) {
        let end = Instant::now() + END_MAX;
        while Rc::strong_count(&self.held) > 1 && Instant::now() < end {
            // Also one that was expected, and comes only now.
            drop(self.idle.take());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn start(&self) -> Result<Launcher, Problem> {
        let (socket, running) = self.begin(begin).await?;
        Ok(Launcher { socket: fence::readable(socket).map_err(of_io)?, running, last: RefCell::default() })
    }

    /// A child of the keel that works for whoever asks, and what `clone` made besides it. A thread that clones cannot be made to
    /// end: where nobody waits for it any more, what it has cloned is killed and reaped all the same. `close` waits for all of them.
    pub async fn begin<T: Send + 'static>(
        &self,
        clone: impl FnOnce(&Keel) -> Result<(T, Child), Error> + Send + 'static,
    ) -> Result<(T, Running), Problem> {
        let (loop_keel, pool_keel, held) =
            (self.loop_keel.clone(), self.pool_keel.clone(), self.held.clone());
        let begun = tokio::task::spawn_local(async move {
            let (made, Child { pid, pidfd, .. }) = on_pool(move || clone(&pool_keel).map_err(of_io)).await?;
            let running = Running(Process { pid, pidfd: Arc::new(pidfd) });
            let ended = fence::readable(running.0.pidfd.clone()).map_err(of_io)?;
            tokio::task::spawn_local(async move {
                drop(ended.readable().await);
                if let Err(error) = loop_keel.reap(pid) {
                    tracing::warn!(pid, "cannot reap a process of ours: {error}");
                }
                drop(held);
            });
            Ok((made, running))
        });
        begun.await.map_err(of_io)?
    }

    /// After the end of a launch that went on for too long: waits until nothing is done for it any more, as far as that can be.
    pub async fn ended(&self, under_way: &UnderWay) {
        let service = under_way.service.clone();
        let keel = self.pool_keel.clone();
        let hooks = tokio::task::spawn_blocking(move || hooks::end_all(&keel, &service));
        let process = under_way.process.borrow_mut().take();
        if let Some(process) = process
            && !process.is_gone_within(END_MAX).await
        {
            let stuck = Stuck { process, doing: under_way.doing() };
            self.stuck.borrow_mut().insert(under_way.service.to_string(), stuck);
        }
        let _ = hooks.await;
    }

    /// Whether an earlier launch of the service hangs in the kernel, with a lock on its state or worse.
    pub fn hangs(&self, service: &str) -> Result<(), Problem> {
        self.hang(service).map_or(Ok(()), |how| Err(Problem::Io(format!("its launch {how}"))))
    }

    /// What an earlier process for this name does, if it was killed and is still there.
    pub fn hang(&self, name: &str) -> Option<String> {
        let mut stuck = self.stuck.borrow_mut();
        let Stuck { process, doing } = stuck.get(name)?;
        if pidfd::ended(process.pidfd.as_fd()).unwrap_or(true) {
            stuck.remove(name);
            return None;
        }
        let pid = process.pid;
        Some(format!(
            "hangs in the kernel, in {doing}: process {pid} was killed and is not gone (a dead mount?)"
        ))
    }
}

/// One launch, for whoever waits for it or ends it.
#[derive(Debug)]
pub struct UnderWay {
    service: Arc<str>,
    since: Instant,
    doing: RefCell<(Instant, String)>,
    warnings: RefCell<Vec<String>>,
    process: RefCell<Option<Process>>,
    over: Notify,
}

impl UnderWay {
    pub fn new(service: Arc<str>) -> Rc<UnderWay> {
        let doing = RefCell::new((Instant::now(), "its turn".to_owned()));
        Rc::new(UnderWay {
            service,
            since: Instant::now(),
            doing,
            warnings: RefCell::default(),
            process: RefCell::default(),
            over: Notify::new(),
        })
    }

    /// What it does, for people who wait.
    pub fn now(&self, doing: impl Into<String>) {
        *self.doing.borrow_mut() = (Instant::now(), doing.into());
    }

    pub fn doing(&self) -> String {
        self.doing.borrow().1.clone()
    }

    /// For how long it has been doing that.
    pub fn doing_for(&self) -> Duration {
        self.doing.borrow().0.elapsed()
    }

    /// What went wrong that is no reason to fail.
    pub fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub fn is_done_by(&self, launcher: &Launcher) {
        *self.process.borrow_mut() = Some(launcher.running.0.clone());
    }

    /// Ends it; what it comes to is its answer. Once this returns its launching process is gone, unless it hangs in the kernel.
    pub async fn end(&self) {
        self.over.notify_one();
        let process = self.process.borrow().clone();
        if let Some(process) = process {
            process.is_gone_within(END_MAX).await;
        }
    }

    /// Done, or ended before it was.
    pub async fn unless_ended<T>(
        &self,
        launchers: &Launchers,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let done = tokio::select! {
            biased;
            () = self.over.notified() => None,
            done = work => Some(done),
        };
        let Some(done) = done else {
            launchers.ended(self).await;
            return Err(Problem::Io(format!("ended after {} s in {}", self.age().as_secs(), self.doing())));
        };
        *self.process.borrow_mut() = None;
        done
    }
}

impl Process {
    async fn is_gone_within(&self, limit: Duration) -> bool {
        // One of our own: a descriptor can be registered once.
        let Ok(ended) = self.pidfd.try_clone().and_then(fence::readable) else { return false };
        tokio::time::timeout(limit, ended.readable()).await.is_ok()
    }
}

/// What one of this worker's is known by at the keel. This worker lets it go; those of earlier ones are strays.
pub fn own_tag() -> String {
    format!("{NAME}/{}", std::process::id())
}

/// The program that runs here, once more: whoever the keel clones has its file as its own.
fn begin(keel: &Keel) -> Result<(OwnedFd, Child), Error> {
    let failed =
        |call: &'static str| move |errno| Error::new("cannot start a launching process").call(call, errno);
    let env: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)))
        .collect();
    let process = HostProcess {
        program: "/proc/self/exe",
        argv: vec!["sampand", NAME],
        env: env.iter().map(String::as_str).collect(),
        ..HostProcess::default()
    };
    let plan = host(&process).map_err(|error| Error::new(error.problem).field(error.field))?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(failed("socketpair"))?;
    let link = keel.connect()?;
    let given = SlotInputs {
        plan: &plan,
        fifos: None,
        stdio: Some([theirs.as_fd(), link.as_fd(), rustix::stdio::stderr()]),
        given: &[],
        netns: None,
        container: None,
    };
    let mut slots = Slots::open(&given, None)?;
    let child = keel.launch(&plan.image, &slots.fds(), &own_tag())?;
    slots.handed_over();
    Ok((ours, child))
}
