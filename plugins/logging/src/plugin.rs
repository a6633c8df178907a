//! The events of a container's life, as commands to the logging thread.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sampan_plugin::prelude::*;

use crate::config::{Config, Driver, Settings};
use crate::engine::{Attachment, Engine, Figures, Places, Report, Rings, own};
use crate::follow::{self, Wanted};
use crate::journal::{self, Journal};
use crate::notifier::Notifier;
use crate::ring::Ring;
use crate::spool::Spool;

/// The keel knows the spool by this.
const SPOOL: &str = "spool";
/// And the ring of a service by this and its name.
const RING: &str = "ring/";
/// A container's settings in the store.
const SETTINGS: &str = "settings";

/// In the store of no container, for each service whose last life had its log in systemd's journal: who asks for it is told.
fn journal_key(service: &str) -> String {
    format!("journal/{service}")
}

pub struct Logging {
    places: Places,
    /// Begun by the first `synchronize`, which brings the spool of an earlier worker, if there was one.
    engine: Mutex<Option<Arc<Engine>>>,
    metrics: Metrics,
    /// Those that the keel keeps.
    rings: Mutex<Rings>,
    /// By service, the pipes of its last life. What comes into them between `detach` and `removed` is what its poststop hooks
    /// print.
    pipes: Mutex<BTreeMap<String, Attachment>>,
}

#[derive(Clone)]
struct Metrics {
    bytes: Counter,
    lines: Counter,
    dropped: Counter,
    write_errors: Counter,
}

impl Metrics {
    fn report(self) -> Report {
        Box::new(move |container, before: &Figures, now: &Figures| {
            let add = |counter: &Counter, before: u64, now: u64| {
                if now > before {
                    counter.add(container, (now - before) as f64);
                }
            };
            add(&self.bytes, before.bytes, now.bytes);
            add(&self.lines, before.lines, now.lines);
            add(&self.dropped, before.dropped, now.dropped);
            add(&self.write_errors, before.write_errors, now.write_errors);
        })
    }
}

#[derive(Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Read {
        #[serde(default)]
        services: Option<Vec<String>>,
        #[serde(default)]
        follow: bool,
        #[serde(default)]
        tail: Option<u64>,
        #[serde(default)]
        since: Option<Value>,
    },
    Status {
        #[serde(default)]
        services: Option<Vec<String>>,
    },
}

impl Logging {
    fn slot(&self) -> MutexGuard<'_, Option<Arc<Engine>>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pipes(&self) -> MutexGuard<'_, BTreeMap<String, Attachment>> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> Option<Arc<Engine>> {
        self.slot().clone()
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where what it prints waits, if it must not wait itself: the one that it had, or a new one.
    fn ring(&self, host: &Host, service: &str, settings: &Settings) -> Result<Option<Arc<Ring>>> {
        let Some(buffer) = settings.buffer else { return Ok(None) };
        let mut rings = self.rings();
        // One that is not empty is as it was: there is something in it that is not to be lost.
        if let Some(ring) = rings.get(service).filter(|ring| ring.buffer() == buffer || !ring.is_empty()) {
            return Ok(Some(ring.clone()));
        }
        let ring =
            Arc::new(Ring::create(buffer).context("making its buffer (logging.mode = \"non-blocking\")")?);
        ring.keep(|fd| host.keep_fd(Container::HOST, &format!("{RING}{service}"), fd))?;
        rings.insert(service.to_owned(), ring.clone());
        Ok(Some(ring))
    }

    /// Those that are empty, of services that are gone or have ended.
    fn drop_rings(&self, host: &Host, is_over: impl Fn(&str) -> bool) {
        self.rings().retain(|service, ring| {
            let goes = is_over(service) && ring.is_empty();
            if goes && let Err(error) = host.drop_fd(Container::HOST, &format!("{RING}{service}")) {
                tracing::warn!(service, %error, "its buffer stays with the keel");
            }
            !goes
        });
    }

    /// The engine, with the spool that was kept or a new one.
    fn start(&self, host: &Host, kept: Vec<Kept>) -> Result<Arc<Engine>> {
        let mut slot = self.slot();
        if let Some(engine) = &*slot {
            return Ok(engine.clone());
        }
        let mut old = None;
        for kept in kept {
            let adopted = match kept.key.strip_prefix(RING) {
                _ if kept.key == SPOOL => Spool::adopt(kept.fd).map(|spool| old = Some(spool)),
                Some(service) => Ring::adopt(kept.fd)
                    .map(|ring| drop(self.rings().insert(service.to_owned(), Arc::new(ring)))),
                None => continue,
            };
            if let Err(error) = adopted {
                tracing::error!(%error, key = kept.key, "what the last worker has left is not used");
            }
        }
        let spool = match old {
            Some(spool) => spool,
            None => {
                let spool = Spool::create().context("making the spool")?;
                host.keep_fd(Container::HOST, SPOOL, spool.fd())?;
                spool
            }
        };
        let rings = self.rings().clone();
        let engine = Engine::go_on(self.places.clone(), spool, rings, self.metrics.clone().report())
            .context("starting the logging thread")?;
        Ok(slot.insert(Arc::new(engine)).clone())
    }

    async fn settings(&self, cx: &Cx) -> Result<Settings> {
        if let Some(settings) = cx.host().get(cx.container(), SETTINGS)? {
            return Ok(settings);
        }
        // Created before this plugin was loaded.
        let table = cx.service_config().await.unwrap_or(Value::Null);
        Ok(Settings::of(&table).ok().flatten().unwrap_or_default())
    }

    /// Also for when it does not run any more.
    async fn note_its_place(&self, cx: &Cx, driver: Option<Driver>) -> Result<()> {
        let (key, is_journal) = (journal_key(cx.service()), driver == Some(Driver::Journald));
        match (is_journal, cx.host().get_bytes(Container::HOST, &key)?.is_some()) {
            (true, false) => cx.host().put_nowait(Container::HOST, &key, &true),
            (false, true) => cx.host().delete(Container::HOST, &key).await,
            _ => Ok(()),
        }
    }

    /// Those of the services whose log is in the journal: who asks for all of them is told of those that run.
    fn elsewhere(&self, host: &Host, services: Option<&[String]>) -> Vec<String> {
        let Some(services) = services else {
            let is_elsewhere = |of: &&Attachment| of.settings.driver == Driver::Journald;
            return self.pipes().values().filter(is_elsewhere).map(|of| of.service.clone()).collect();
        };
        let is_elsewhere =
            |name: &&String| matches!(host.get_bytes(Container::HOST, &journal_key(name)), Ok(Some(_)));
        services.iter().filter(is_elsewhere).cloned().collect()
    }

    fn read(&self, wanted: Wanted) -> Result<Reply> {
        let notifier =
            self.engine().map_or_else(|| Arc::new(Notifier::default()), |engine| engine.notifier());
        let pipe = follow::start(self.places.dir.clone(), notifier, wanted).context("starting a reader")?;
        Ok(Reply::default().fd(pipe))
    }
}

#[async_trait]
impl Plugin for Logging {
    const NAME: &'static str = "logging";
    const CLAIMS: &'static [&'static str] = &["stdio"];
    type Config = Config;

    async fn open(config: Config, host: Host) -> Result<Logging> {
        let dir = config.dir.unwrap_or_else(|| host.about().state_dir.join("logs"));
        if !dir.is_absolute() {
            return Err(Error::new(format!("dir: {} is not an absolute path", dir.display())));
        }
        let metrics = Metrics {
            bytes: host.counter("bytes", "bytes that containers printed")?,
            lines: host.counter("lines", "lines that containers printed")?,
            dropped: host.counter("dropped_lines", "lines that could not be written")?,
            write_errors: host.counter("write_errors", "writes to a segment that failed")?,
        };
        let socket = config.journal_socket.unwrap_or_else(|| journal::SOCKET.into());
        if !socket.is_absolute() {
            return Err(Error::new(format!("journal_socket: {} is not an absolute path", socket.display())));
        }
        let places = Places { dir, journal: Arc::new(Journal::new(socket)) };
        Ok(Logging {
            places,
            engine: Mutex::new(None),
            metrics,
            rings: Mutex::default(),
            pipes: Mutex::default(),
        })
    }

    async fn synchronize(&self, cx: &Cx, all: Synchronize) -> Result<()> {
        let engine = self.start(cx.host(), all.kept)?;
        let alive: Vec<String> = all.containers.into_iter().map(|container| container.service).collect();
        let is_alive: BTreeSet<String> = alive.iter().cloned().collect();
        engine.retain(alive).await?;
        self.drop_rings(cx.host(), |service| !is_alive.contains(service));
        Ok(())
    }

    async fn validate(&self, _: &Cx, event: Validate) -> Result<Vec<Problem>> {
        Ok(Settings::of(&event.service)
            .err()
            .map(|(pointer, message)| Problem { pointer, message })
            .into_iter()
            .collect())
    }

    async fn create(&self, cx: &Cx, event: Create) -> Result<Adjust> {
        let settings = Settings::of(&event.service)
            .map_err(|(pointer, text)| Error::veto(format!("{pointer}: {text}")))?;
        let noted = self.note_its_place(cx, settings.map(|settings| settings.driver)).await;
        let noted = match settings {
            Some(settings) => noted.and(cx.host().put(cx.container(), SETTINGS, &settings).await),
            None => noted,
        };
        let adjust = settings.map_or_else(Adjust::new, |_| Adjust::new().claim("stdio"));
        Ok(match noted {
            // It stays noted until the container is gone for good.
            Ok(()) => adjust.stable(),
            // On a full disk a later worker reads them from the service's config.
            Err(error) => {
                tracing::warn!(service = cx.service(), %error, "cannot write down how it is logged");
                adjust
            }
        })
    }

    async fn attach(&self, cx: &Cx, ev: Attach) -> Result<()> {
        if ev.lost {
            let is_in_the_journal =
                cx.host().get_bytes(Container::HOST, &journal_key(cx.service()))?.is_some();
            let driver = is_in_the_journal.then_some(Driver::Journald);
            let noted = self.start(cx.host(), Vec::new())?.lost(cx.service(), driver).await?;
            noted.with_context(|| format!("marking the log of {}", cx.service()))?;
        }
        let pipes = [own(cx.fd(Role::Stdout).ok())?, own(cx.fd(Role::Stderr).ok())?];
        if pipes.iter().all(Option::is_none) {
            // Its stdio is claimed by somebody else, or by nobody.
            return Ok(());
        }
        let engine = self.start(cx.host(), Vec::new())?;
        let settings = self.settings(cx).await?;
        let of = |ring, pipes| Attachment {
            service: cx.service().to_owned(),
            container: cx.container(),
            settings,
            ring,
            pipes,
        };
        self.pipes().insert(cx.service().to_owned(), of(None, pipes.clone()));
        let attachment = of(self.ring(cx.host(), cx.service(), &settings)?, pipes);
        engine.attach(attachment).await?.with_context(|| format!("logging of {}", cx.service()))
    }

    async fn detach(&self, cx: &Cx, _: Detach) -> Result<()> {
        match self.engine() {
            Some(engine) => engine.detach(cx.service()).await?,
            None => return Ok(()),
        }
        // Also of those whose detach was given up while the disk or the journal was slow.
        self.drop_rings(cx.host(), |service| service == cx.service() || !self.pipes().contains_key(service));
        Ok(())
    }

    async fn removed(&self, cx: &Cx, _: Removed) -> Result<()> {
        let last = self.pipes().remove(cx.service());
        match (last.filter(Attachment::has_more), self.engine()) {
            // One order, given before anything is waited for: the next life may be attached meanwhile.
            (Some(last), Some(engine)) => {
                engine.finish(last).await?.with_context(|| format!("logging of {}", cx.service()))
            }
            _ => Ok(()),
        }
    }

    async fn control(&self, cx: &Cx, control: Control) -> Result<Reply> {
        let request: Request = serde_json::from_value(control.request).map_err(|error| {
            Error::new(format!(
                "logging understands {{\"verb\":\"read\",\"services\":[\"web\"],\"follow\":true,\"tail\":100,\
                 \"since\":null}} and {{\"verb\":\"status\"}}: {error}"
            ))
        })?;
        match request {
            Request::Read { services, follow, tail, since } => {
                let since =
                    since.filter(|since| !since.is_null()).map(|since| follow::since(&since)).transpose();
                let since = since.map_err(Error::new)?;
                let elsewhere = self.elsewhere(cx.host(), services.as_deref());
                self.read(Wanted { services, follow, tail, since, elsewhere })
            }
            Request::Status { services } => {
                let mut all: BTreeMap<String, Figures> = match self.engine() {
                    Some(engine) => engine.status().await?,
                    None => BTreeMap::new(),
                };
                all.retain(|name, _| services.as_ref().is_none_or(|services| services.contains(name)));
                Ok(Reply::json(serde_json::to_value(all)?))
            }
        }
    }

    fn close(&self, _: CloseReason) {
        // Dropped outside of the lock; ends the thread, which leaves all as the next one needs it.
        let engine = self.slot().take();
        drop(engine);
    }
}
