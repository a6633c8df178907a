//! Images that are not here, got by `sampan-image` as a child of the keel: of networks and archives nothing is in this process.
//!
//! Services that want the same image wait for one pull. It ends with the last who waits, and with the worker; what it has got by then
//! is there for the next.
use super::launcher::Launchers;
use super::on_pool;
use crate::fence;
use crate::task::Task;
use rustix::pipe::{PipeFlags, pipe_with};
use sampan_bundle::image;
use sampan_config::schema::{Image, Pull};
use sampan_image::progress::Line;
use sampan_keel::Keel;
use sampan_plan::host_process::{HostProcess, host};
use sampan_runtime::error::Error;
use sampan_runtime::kernel::seal::installed_path;
use sampan_runtime::launch::slots::{SlotInputs, Slots};
use sampan_service::Problem;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use tokio::sync::watch;

/// What it is known by at the keel.
const TAG: &str = "image";
const PROGRAM: &str = "sampan-image";
/// More than any line of it.
const LINE_BYTES_MAX: usize = 64 << 10;

/// All that are under way.
#[derive(Debug)]
pub struct Pulls {
    launchers: Rc<Launchers>,
    state_dir: PathBuf,
    under_way: RefCell<BTreeMap<String, Weak<OnePull>>>,
}

/// How far one is.
#[derive(Debug, Clone)]
enum Progress {
    Percent(Option<u64>),
    Done(Result<(), String>),
}

#[derive(Debug)]
struct OnePull {
    progress: watch::Receiver<Progress>,
    _task: Task,
}

impl Pulls {
    pub fn new(launchers: Rc<Launchers>, state_dir: PathBuf) -> Pulls {
        Pulls { launchers, state_dir, under_way: RefCell::default() }
    }

    /// Returns when the image is here; or why it cannot be. `tell` hears how far it is.
    pub async fn ensure(&self, image: &Image, tell: impl Fn(String)) -> Result<(), String> {
        let is_here = || {
            let (state_dir, reference) = (self.state_dir.clone(), image.reference.clone());
            on_pool(move || {
                image::is_here(&state_dir, &reference).map_err(|error| Problem::Io(error.to_string()))
            })
        };
        match image.pull {
            Pull::Never => return Ok(()),
            Pull::Missing if is_here().await.map_err(|problem| problem.to_string())? => return Ok(()),
            Pull::Missing | Pull::Always => {}
        }
        let pulled = self.pull(&image.reference, &tell).await;
        match pulled {
            Err(why) if image.pull == Pull::Always && is_here().await == Ok(true) => {
                tracing::warn!(image = image.reference, "what is here of it runs: {why}");
                Ok(())
            }
            other => other,
        }
    }

    async fn pull(&self, reference: &str, tell: &impl Fn(String)) -> Result<(), String> {
        let one = self.one(reference);
        let mut progress = one.progress.clone();
        loop {
            let now = progress.borrow_and_update().clone();
            match now {
                Progress::Done(result) => return result,
                Progress::Percent(None) => tell(reference.to_owned()),
                Progress::Percent(Some(percent)) => tell(format!("{reference} {percent} %")),
            }
            if progress.changed().await.is_err() {
                return Err(format!("the pull of {reference} ended without an answer"));
            }
        }
    }

    /// The one that is under way, or a new one.
    fn one(&self, reference: &str) -> Rc<OnePull> {
        let mut under_way = self.under_way.borrow_mut();
        under_way.retain(|_, pull| pull.strong_count() > 0);
        let there = under_way.get(reference).and_then(Weak::upgrade);
        if let Some(pull) = there.filter(|pull| !matches!(*pull.progress.borrow(), Progress::Done(_))) {
            return pull;
        }
        let (say, progress) = watch::channel(Progress::Percent(None));
        let launchers = self.launchers.clone();
        let (store, name) = (image::store(&self.state_dir), reference.to_owned());
        let task = tokio::task::spawn_local(async move {
            let result = run(&launchers, store, name, &say).await;
            let _ = say.send(Progress::Done(result));
        });
        let pull = Rc::new(OnePull { progress, _task: task.into() });
        under_way.insert(reference.to_owned(), Rc::downgrade(&pull));
        pull
    }
}

async fn run(
    launchers: &Launchers,
    store: PathBuf,
    reference: String,
    say: &watch::Sender<Progress>,
) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("cannot run {PROGRAM}: {why}");
    let begun = launchers.begin(move |keel| begin(keel, &store, &reference));
    // Ends with whoever waits for it.
    let (output, _running) = begun.await.map_err(|problem| failed(&problem))?;
    let output = fence::readable(output).map_err(|error| failed(&error))?;
    let mut text = Vec::new();
    let mut last = None;
    loop {
        let mut ready = output.readable().await.map_err(|error| failed(&error))?;
        let mut bytes = [0; 4096];
        let read = |fd: &tokio::io::unix::AsyncFd<fence::Held>| {
            rustix::io::read(&**fd.get_ref(), &mut bytes).map_err(std::io::Error::from)
        };
        let Ok(read) = ready.try_io(read) else { continue };
        let length = read.map_err(|error| failed(&error))?;
        if length == 0 {
            break;
        }
        text.extend_from_slice(bytes.get(..length).unwrap_or_default());
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Line::Progress { done, total }) => {
                    let percent = done.saturating_mul(100).checked_div(total);
                    let _ = say.send(Progress::Percent(percent));
                }
                Ok(Line::Note { text }) => tracing::info!("image: {text}"),
                Ok(line @ (Line::Image { .. } | Line::Error { .. })) => last = Some(line),
                Err(error) => return Err(failed(&format!("it says what nobody understands: {error}"))),
            }
        }
        if text.len() > LINE_BYTES_MAX {
            return Err(failed(&"it says a line without end"));
        }
    }
    match last {
        Some(Line::Error { text, .. }) => Err(text),
        Some(_) => Ok(()),
        None => Err(failed(&"it ended without a result (is it beside sampand, or in its PATH?)")),
    }
}

/// Beside our own program; else wherever PATH has it.
fn program() -> String {
    let beside = installed_path().map(|own| own.with_file_name(PROGRAM)).filter(|path| path.is_file());
    beside.map_or(PROGRAM.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn begin(keel: &Keel, store: &Path, reference: &str) -> Result<(OwnedFd, sampan_keel::Child), Error> {
    let failed = |call: &'static str| move |errno| Error::new("cannot get an image").call(call, errno);
    let env: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)))
        .collect();
    let (program, store) = (program(), store.to_string_lossy());
    let process = HostProcess {
        argv: vec![&program, "--store", &store, "--progress", "json", "pull", "--", reference],
        env: env.iter().map(String::as_str).collect(),
        umask: Some(0o022),
        ..HostProcess::default()
    };
    let plan = host(&process).map_err(|error| Error::new(error.problem).field(error.field))?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2"))?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(failed("ioctl"))?;
    let null = sampan_runtime::kernel::stdio::null(rustix::fs::OFlags::RDWR).map_err(failed("open"))?;
    let given = SlotInputs {
        plan: &plan,
        fifos: None,
        stdio: Some([null.as_fd(), theirs.as_fd(), rustix::stdio::stderr()]),
        given: &[],
        netns: None,
        container: None,
    };
    let mut slots = Slots::open(&given, None)?;
    let child = keel.launch(&plan.image, &slots.fds(), TAG)?;
    slots.handed_over();
    Ok((ours, child))
}
