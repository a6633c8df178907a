//! What a worker begins with: the config that was applied last, config.toml's, or the one and then the other.
//!
//! A worker that follows another has nobody's order to read config.toml and does not. A start of sampand reads it; where
//! an earlier sampand has left services, or what remains of them, they are first taken up with the config they live by, and
//! what config.toml says else is then applied as any change is. If it has errors and any lives, what was applied last holds.
use super::adopt::{anything_is_left, anything_lives};
use crate::applied::{Applied, Kept, NAME};
use crate::life::{Launchers, reading};
use crate::source::Source;
use rustix::fs::{Mode, OFlags};
use sampan_config::schema::{Config, Supervisor};
use sampan_config::{Inputs, Loaded};
use sampan_journal::Replay;
use sampan_keel::{Keel, LoopKeel, rundir};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// The keel's name for the run folder whose applied config holds in this sampand. It is there once sampand's start has
/// brought config.toml into force.
const HOLDS: &str = "sampand.applied";

#[derive(Debug)]
pub struct Opening {
    from: From,
    /// To be told when there is a log.
    warnings: Vec<String>,
    /// Why config.toml does not hold.
    refused: Option<String>,
}

#[derive(Debug)]
enum From {
    File(Loaded),
    Kept(Kept),
    Both { kept: Kept, file: Box<Loaded> },
}

/// The configs of a start.
#[derive(Debug)]
pub struct Configs {
    /// With it the services that live are taken up.
    pub first: Config,
    pub then: Then,
}

/// What follows when they are.
#[derive(Debug)]
pub enum Then {
    /// The first one holds, and is written down.
    Write(Inputs),
    /// The first one holds, and is written down already.
    GoOn,
    /// The one that was applied last holds: some lives go by earlier ones.
    GoOnWith(Config),
    /// config.toml is applied.
    Apply(Box<Loaded>),
}

impl Opening {
    /// The text of the error is for stderr, as `--check` prints it.
    pub async fn find(keel: &LoopKeel, pool_keel: &Keel, source: &Source) -> Result<Opening, String> {
        let launchers = Launchers::new(keel.clone(), pool_keel.clone());
        let opening = Opening::find_by(keel, source, &launchers).await;
        // If this start fails, the keel is to hold nothing.
        launchers.close().await;
        opening
    }

    async fn find_by(keel: &LoopKeel, source: &Source, launchers: &Launchers) -> Result<Opening, String> {
        let boot =
            rundir::boot_id().map_err(|error| format!("sampand: cannot read the boot id: {error}\n"))?;
        let mut warnings = Vec::new();
        if let Some(run_dir) = held(keel) {
            let gone = || Err(format!("{} is gone", run_dir.join(NAME).display()));
            match read(&run_dir, &boot).and_then(|kept| kept.map_or_else(gone, Ok)) {
                Ok(kept) => return Ok(Opening { from: From::Kept(kept), warnings, refused: None }),
                Err(why) => warnings.push(not_usable(&why)),
            }
            let file = reading::load(launchers, source.files(), &mut warnings).await?;
            return Ok(Opening { from: From::File(file), warnings, refused: None });
        }
        let file = reading::load(launchers, source.files(), &mut warnings).await;
        let run_dir = match &file {
            Ok(loaded) => loaded.config.supervisor.run_dir.clone(),
            Err(_) => reading::run_dir(launchers, source.files()).await,
        };
        // Where nothing is left of them, nothing is to be gone on with.
        let kept = match anything_is_left(&run_dir) {
            true => read(&run_dir, &boot),
            false => Ok(None),
        };
        let kept = kept.unwrap_or_else(|why| {
            warnings.push(not_usable(&why));
            None
        });
        let (from, refused) = match (file, kept) {
            (Ok(file), None) => (From::File(file), None),
            (Ok(mut file), Some(kept)) => {
                stay(&kept.loaded.config.supervisor, &mut file.config.supervisor, &mut warnings);
                (From::Both { kept, file: Box::new(file) }, None)
            }
            (Err(text), Some(kept)) if anything_lives(&rundir::containers(&run_dir)) => {
                (From::Kept(kept), Some(text))
            }
            (Err(text), _) => return Err(text),
        };
        Ok(Opening { from, warnings, refused })
    }

    pub fn supervisor(&self) -> &Supervisor {
        match &self.from {
            From::File(loaded) | From::Kept(Kept { loaded, .. }) => &loaded.config.supervisor,
            From::Both { file, .. } => &file.config.supervisor,
        }
    }

    /// What there is to say, once there is a log.
    pub fn tell(&mut self) {
        for warning in self.warnings.drain(..) {
            tracing::warn!("{warning}");
        }
        if let Some(text) = self.refused.take() {
            tracing::error!(
                "the config has errors; services run, so the config that was applied last holds until one is \
                 applied\n{text}"
            );
        }
    }

    pub fn configs(self, source: &Source, replay: &Replay) -> Configs {
        match self.from {
            From::File(Loaded { config, origins, inputs, .. }) => {
                source.holds(origins);
                Configs { first: config, then: Then::Write(inputs) }
            }
            From::Kept(kept) => {
                let services = kept.as_they_live(replay);
                let Loaded { config, origins, .. } = kept.loaded;
                source.holds(origins);
                if services == config.services {
                    return Configs { first: config, then: Then::GoOn };
                }
                Configs { first: Config { services, ..config.clone() }, then: Then::GoOnWith(config) }
            }
            From::Both { kept, file } => {
                let services = kept.as_they_live(replay);
                // Networks that differ are a difference of the services on them.
                let Loaded { config: Config { networks, .. }, origins, .. } = kept.loaded;
                source.holds(origins);
                let first = Config { services, networks, ..file.config.clone() };
                Configs { first, then: Then::Apply(file) }
            }
        }
    }
}

impl Configs {
    /// What plugins are opened with.
    pub fn lasting(&self) -> &Config {
        match &self.then {
            Then::Write(_) | Then::GoOn => &self.first,
            Then::GoOnWith(config) => config,
            Then::Apply(loaded) => &loaded.config,
        }
    }
}

/// From now on a worker that follows this one goes on with what is applied in this run folder.
pub fn hold(keel: &LoopKeel, run_dir: &Path) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("cannot hold {}: {why}", run_dir.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(run_dir, flags, Mode::empty()).map_err(|errno| failed(&errno))?;
    keel.keep(HOLDS, Some(folder.as_fd())).map_err(|error| failed(&error))
}

/// A sampand that starts has its own config to find, whatever it took over from one before it.
pub fn let_go(keel: &LoopKeel) -> Result<(), String> {
    keel.keep(HOLDS, None).map_err(|error| format!("cannot let go of {HOLDS}: {error}"))
}

fn held(keel: &LoopKeel) -> Option<PathBuf> {
    let folder = keel.fetch(HOLDS).ok()??;
    std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()
}

fn read(run_dir: &Path, boot: &str) -> Result<Option<Kept>, String> {
    Applied::read(run_dir, boot)?.map(|applied| applied.load()).transpose()
}

fn not_usable(why: &str) -> String {
    format!(
        "the config that was applied last cannot be used, config.toml holds as if it had been applied: {why}"
    )
}

/// The logs and groups of what lives cannot move; and of what is left of a dead one, the groups are looked for where they are.
fn stay(old: &Supervisor, new: &mut Supervisor, warnings: &mut Vec<String>) {
    let mut warn = |key: &str| {
        warnings.push(format!(
            "supervisor.{key}: services are left that an earlier sampand began, so the new value holds from a start on \
             that finds none: `sampanctl down`, then start sampand"
        ));
    };
    if old.state_dir != new.state_dir {
        warn("state_dir");
        new.state_dir.clone_from(&old.state_dir);
    }
    if old.cgroup_parent != new.cgroup_parent {
        warn("cgroup_parent");
        new.cgroup_parent.clone_from(&old.cgroup_parent);
    }
}
