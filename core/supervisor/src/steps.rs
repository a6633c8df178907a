//! Steps: commands around a service's life (`lifecycle`), and those that follow from something (`on`).
//!
//! In the container a step is what an exec health check is (`inside`). On the host it is a process that the keel clones, with an
//! overseer: all that it has started ends with it at its timeout. Whoever drops one under way kills it. What a step prints is bounded,
//! and told with its failure.
//!
//! Absent on purpose: what follows from a failure. A gate's is a failed start (`life::create`), any other's is a line in the log. Nothing is kept over a
//! worker's death: what it left is ended, and a program's end that no worker saw is followed by no `on.exit`.
use crate::inside::{self, Command, Ends};
use crate::probe::{self, Ran};
use sampan_config::schema::{Place, Signal, Step};
use sampan_config::units;
use sampan_keel::{Child, Keel};
use sampan_plan::host_process::{HostProcess, host};
use sampan_runtime::error::Error;
use sampan_runtime::launch::Spawn;
use sampan_runtime::launch::hooks::not_executed;
use sampan_runtime::launch::slots::{SlotInputs, Slots};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What the keel knows them by.
const TAG: &str = "step/";
/// Of what a step prints, so much is told.
const OUTPUT_BYTES_MAX: usize = 2048;
/// Lists of `on` that are worked through at once, of all services; the others wait.
const AT_ONCE: usize = 8;
/// More than these are dropped, with a warning.
const FOLLOWING_MAX: usize = 256;
/// When sampand ends, the lists of `on` that are left have so long to be over, all together.
const FOLLOWING_END_MAX: Duration = Duration::from_secs(5);
/// How long killed ones may take to be gone.
const END_MAX: Duration = Duration::from_secs(3);

/// Runs steps.
pub struct Steps {
    keel: Keel,
    /// The runtime's root.
    containers: PathBuf,
    turns: Rc<Semaphore>,
    /// Lists of `on` that wait or are worked through.
    following: RefCell<JoinSet<()>>,
    /// Shared by each command that is not gone.
    held: Arc<()>,
}

/// What a list of `on` is told.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Of the program's end.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub health: Option<String>,
}

/// Left by a worker that died: nobody waits for it.
pub fn is_step(child: &Child) -> bool {
    child.tag.starts_with(TAG)
}

impl Steps {
    pub fn new(keel: Keel, containers: PathBuf) -> Steps {
        let turns = Rc::new(Semaphore::new(AT_ONCE));
        Steps { keel, containers, turns, following: RefCell::default(), held: Arc::default() }
    }

    /// A gate: one after the other, on the host, up to the first that fails.
    pub async fn all_or_none(&self, service: &str, event: &str, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            Job::new(self, service, event, None, &Facts::default()).run(step).await?;
        }
        Ok(())
    }

    /// One after the other; one that fails is a line in the log. `container`: the first process of it, where it runs.
    pub async fn each(&self, service: &str, event: &str, steps: &[Step], container: Option<&Arc<OwnedFd>>) {
        Job::new(self, service, event, container.cloned(), &Facts::default()).each(steps).await;
    }

    /// What somebody waits for, in the container.
    pub async fn inside(
        &self,
        service: &str,
        event: &str,
        step: &Step,
        container: Arc<OwnedFd>,
    ) -> Result<(), String> {
        Job::new(self, service, event, Some(container), &Facts::default()).run(step).await
    }

    /// The same beside all else, in turn with the lists of other services.
    pub fn follow(&self, service: &str, event: &str, steps: &[Step], facts: Facts) {
        if steps.is_empty() {
            return;
        }
        let mut following = self.following.borrow_mut();
        while following.try_join_next().is_some() {}
        if following.len() >= FOLLOWING_MAX {
            tracing::warn!(service, "on.{event} is not run: {FOLLOWING_MAX} such lists wait already");
            return;
        }
        let job = Job::new(self, service, event, None, &facts);
        let (steps, turns) = (steps.to_vec(), self.turns.clone());
        following.spawn_local(async move {
            let _turn = turns.acquire().await;
            job.each(&steps).await;
        });
    }

    /// sampand ends: what still follows has its time, then it is ended. Returns when the keel holds no step that can end.
    pub async fn close(&self) {
        let mut following = self.following.take();
        let all = async { while following.join_next().await.is_some() {} };
        if tokio::time::timeout(FOLLOWING_END_MAX, all).await.is_err() {
            let limit = units::show_duration(FOLLOWING_END_MAX);
            tracing::warn!("sampand ends: lists of `on` not over in {limit}, killed: {}", following.len());
            following.shutdown().await;
        }
        let end = Instant::now() + END_MAX;
        while Arc::strong_count(&self.held) > 1 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The steps of one list.
struct Job {
    keel: Keel,
    containers: PathBuf,
    service: String,
    event: String,
    container: Option<Arc<OwnedFd>>,
    held: Arc<()>,
    /// Of steps on the host.
    env: Vec<String>,
}

impl Job {
    fn new(steps: &Steps, service: &str, event: &str, container: Option<Arc<OwnedFd>>, facts: &Facts) -> Job {
        let path = std::env::var("PATH").ok().map(|path| format!("PATH={path}"));
        let mut env: Vec<String> = path.into_iter().collect();
        env.extend([format!("SAMPAN_SERVICE={service}"), format!("SAMPAN_EVENT={event}")]);
        env.extend(facts.code.map(|code| format!("SAMPAN_EXIT_CODE={code}")));
        env.extend(facts.signal.map(|signal| format!("SAMPAN_SIGNAL={}", Signal(signal))));
        env.extend(facts.health.as_ref().map(|health| format!("SAMPAN_HEALTH={health}")));
        let (keel, containers, held) = (steps.keel.clone(), steps.containers.clone(), steps.held.clone());
        Job { keel, containers, service: service.to_owned(), event: event.to_owned(), container, held, env }
    }

    async fn each(&self, steps: &[Step]) {
        for step in steps {
            if let Err(why) = self.run(step).await {
                tracing::warn!(service = self.service, "{} step {why}", self.event);
            }
        }
    }

    /// To its end or its timeout; the error is for people.
    async fn run(&self, step: &Step) -> Result<(), String> {
        let program = step.command.first().map_or("", String::as_str);
        let why = match tokio::time::timeout(step.timeout, self.ran(step)).await {
            Ok(Ok(Ran { code: 0, .. })) => return Ok(()),
            Ok(Ok(Ran { code, output })) => {
                let output = probe::clean(&output).replace('\n', " | ");
                if output.is_empty() { format!("exit {code}") } else { format!("exit {code}: {output}") }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not over in {}: killed", units::show_duration(step.timeout)),
        };
        Err(format!("{program}: {why}"))
    }

    async fn ran(&self, step: &Step) -> io::Result<Ran> {
        let (keel, argv, user) = (self.keel.clone(), step.command.clone(), step.user);
        let (tag, held) = (format!("{TAG}{}", self.service), self.held.clone());
        match step.place {
            Place::Host => {
                let env = self.env.clone();
                let begun = tokio::task::spawn_blocking(move || {
                    let user = user.map(|ids| (ids.uid, ids.gid));
                    let begun = begin_on_host(keel, &argv, &env, user, &tag);
                    begun.map(|(command, report)| (command.held_by(held), report))
                });
                let (mut command, report) =
                    begun.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
                let ran = command.ran(OUTPUT_BYTES_MAX).await?;
                match not_executed(&report) {
                    Some(error) => Err(error),
                    None => Ok(ran),
                }
            }
            Place::Container => {
                let container =
                    self.container.clone().ok_or_else(|| io::Error::other("the container is gone"))?;
                let (containers, service) = (self.containers.clone(), self.service.clone());
                let begun = tokio::task::spawn_blocking(move || {
                    inside::begin(keel, containers, &service, &container, argv, user, &tag)
                        .map(|command| command.held_by(held))
                });
                let mut command = begun.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
                command.ran(OUTPUT_BYTES_MAX).await
            }
        }
    }
}

/// The command, and why it has not come to its program, if it has not: to be read at its end.
fn begin_on_host(
    keel: Keel,
    argv: &[String],
    env: &[String],
    user: Option<(u32, u32)>,
    tag: &str,
) -> Result<(Command, OwnedFd), Error> {
    let process = HostProcess {
        argv: argv.iter().map(String::as_str).collect(),
        env: env.iter().map(String::as_str).collect(),
        user,
        overseen: true,
        ..HostProcess::default()
    };
    let plan = host(&process).map_err(|error| Error::new(error.problem).field(error.field))?;
    let (null, read, write) = inside::stdio()?;
    let given = SlotInputs {
        plan: &plan,
        fifos: None,
        stdio: Some([null.as_fd(), write.as_fd(), write.as_fd()]),
        given: &[],
        netns: None,
        container: None,
    };
    let mut slots = Slots::open(&given, None)?;
    let child = keel.launcher(tag).spawn(&plan.image, &slots.fds())?;
    slots.handed_over();
    let report = slots.report.take().ok_or_else(|| Error::new("no report"))?;
    Ok((Command::new(keel, child, read, Ends::Overseen), report))
}
