//! A service from an image: what the store has of it, and what the image says where neither the service nor `[defaults]` does.
//!
//! The layers reach the runtime by annotations (plan/layers.rs). What is written to a root of mode rw goes into a folder of the
//! service beside the store, which goes with the image: it is kept over restarts, and begun anew with another digest.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fd::OwnedFd;
use sampan_config::schema::{
    self, IdMaps, NamedVolume, OnUnhealthy, Probe, RootMode, Service, Signal, TestCommand, User, Volume,
    VolumeSource,
};
use sampan_config::units;
use sampan_image::store::remove_deep;
use sampan_image::{Healthcheck, ImageConfig, Kind, Store};
use sampan_plan::layers;
use sampan_plan::spec::Str;
use sampan_runtime::launch::idmap::UserNamespaces;
use sampan_runtime::launch::layers::Wanted;
use serde::{Deserialize, Serialize};

use super::Error;
use super::folders::Make;
use super::leaves::to_json;
use super::root::Root;

/// Of config.json: [`Used`], as JSON.
pub const ANNOTATION: &str = "org.sampan.image";
/// Of a folder of what was written, beside `upper` and `work`: whose it is.
const DIGEST: &str = "digest";

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    reference: String,
    store: PathBuf,
    volumes: PathBuf,
    /// Where what is written is kept.
    kept: Option<PathBuf>,
    /// The service mounts something there itself.
    covered: Vec<String>,
    /// The service says who runs.
    has_user: bool,
    /// Whose the image's volumes are.
    owner: String,
    makes: Makes,
}

/// Whether what a life needs is made on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Makes {
    All,
    Nothing,
}

/// What was found.
pub struct Found {
    pub image: Image,
    /// To look into.
    pub root: Root,
    /// Who runs, if the image says so and the service does not.
    pub user: Option<User>,
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub reference: String,
    /// Of its manifest.
    pub digest: String,
    /// Lowest first.
    pub layers: Vec<PathBuf>,
    pub kept: Option<PathBuf>,
    pub config: ImageConfig,
    pub volumes: Vec<ImageVolume>,
    makes: Makes,
}

/// A volume that the image names, and the service does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVolume {
    pub target: String,
    pub folder: Make,
}

/// What a life is made of, for whoever asks and for the next worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub reference: String,
    pub digest: String,
    pub exposed_ports: Vec<String>,
    stop_signal: String,
    healthcheck: Option<Healthcheck>,
}

/// Where images are.
pub fn store(state_dir: &Path) -> PathBuf {
    state_dir.join("images")
}

/// Where what a service of mode rw has written is kept.
fn kept(state_dir: &Path, service: &str) -> PathBuf {
    store(state_dir).join("roots").join(service)
}

/// Whether all of it is here; the error is what is wrong with the store itself.
pub fn is_here(state_dir: &Path, reference: &str) -> sampan_image::Result<bool> {
    let found = Store::read(&store(state_dir)).and_then(|store| store.layers(&store.find(reference)?));
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Ask {
    pub fn of(service: &Service, image: &schema::Image, state_dir: &Path) -> Ask {
        let volumes = service.volumes.iter().map(|volume| &volume.target);
        Ask {
            reference: image.reference.clone(),
            store: store(state_dir),
            volumes: state_dir.join("volumes"),
            kept: (image.mode == RootMode::Rw).then(|| kept(state_dir, &service.name)),
            covered: volumes.chain(service.tmpfs.iter().map(|tmpfs| &tmpfs.target)).cloned().collect(),
            has_user: service.sets("user"),
            owner: service.owner().to_owned(),
            makes: Makes::All,
        }
    }

    #[must_use]
    pub fn changing_nothing(self) -> Ask {
        Ask { makes: Makes::Nothing, ..self }
    }

    pub fn store(&self) -> &Path {
        &self.store
    }

    /// `maps`: of a user namespace of the service's own.
    pub fn look(&self, service: &str, maps: Option<&IdMaps>) -> Result<Found, Error> {
        let wrong =
            |why: String| Error::new(service, "image", "use").path(Path::new(&self.reference)).why(why);
        let found = Store::read(&self.store).and_then(|store| {
            let image = store.find(&self.reference)?;
            if self.makes == Makes::All && store.used_by(service).as_ref() != Some(&image.digest) {
                // No prune goes on meanwhile, and each later one knows of it.
                store.note_use(&store.writer()?, service, &image.digest)?;
            }
            Ok((store.layers(&image)?, image))
        });
        let (layers, found) = found.map_err(|error| wrong(error.to_string()))?;
        let digest = found.digest.to_string();
        if let Some(kept) = self.kept.as_ref().filter(|_| self.makes == Makes::All) {
            let top = layers.last().ok_or_else(|| wrong("it has no layers".into()))?;
            keep(kept, &digest, top, maps)
                .map_err(|e| Error::new(service, "image", "make").path(kept).because(&e))?;
        }
        // With what the service has written: it may have a user more.
        let written = self.kept.iter().map(|kept| kept.join("upper")).filter(|upper| upper.exists());
        let shown: Vec<PathBuf> = layers.iter().cloned().chain(written).collect();
        let tree = tree(&shown).map_err(|error| wrong(error.to_string()))?;
        let root = Root::of(tree, Path::new(&self.reference));
        let config = found.document.config;
        let user = match config.user.as_str() {
            "" => None,
            _ if self.has_user => None,
            text => Some(text.parse().map_err(|e: schema::NoUser| wrong(format!("its user: {e}")))?),
        };
        // As paths: an image's may end with a slash.
        let is_covered = |target: &String| self.covered.iter().any(|at| Path::new(at) == Path::new(target));
        let volumes = config.volumes.iter().filter(|target| !is_covered(target));
        let volumes = volumes.map(|target| self.volume(target)).collect();
        let (reference, kept, makes) = (self.reference.clone(), self.kept.clone(), self.makes);
        Ok(Found { image: Image { reference, digest, layers, kept, config, volumes, makes }, root, user })
    }

    /// As the folder is in the image, so is the volume on it when it is made.
    fn volume(&self, target: &str) -> ImageVolume {
        // No name of `[volumes]` has a `+`.
        let owner = &self.owner;
        let path = self.volumes.join(format!("{owner}{}", target.trim_end_matches('/').replace('/', "+")));
        let folder = Make { path, uid: None, gid: None, mode: None, from: Some(target.to_owned()) };
        ImageVolume { target: target.to_owned(), folder }
    }
}

/// The folder for what is written, of this image: what another one's life has written goes. It belongs to the host's ids of the
/// container's users, so other users cannot go on with it.
fn keep(folder: &Path, digest: &str, top: &Path, maps: Option<&IdMaps>) -> io::Result<()> {
    let of_maps = maps.map(|maps| format!("\n{}", to_json(maps))).unwrap_or_default();
    match fs::read_to_string(folder.join(DIGEST)) {
        Ok(of) if of.split('\n').next() == Some(digest) => {
            return match of.get(digest.len()..) {
                Some(of) if of == of_maps => Ok(()),
                _ => Err(io::Error::other(
                    "what was written there belongs to other ids, since security.userns was another one: put that back, or \
                     remove this folder",
                )),
            };
        }
        // Another image's.
        Ok(_) => {}
        // None yet, or half removed.
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        // Whose it is cannot be told: it is not thrown away for that.
        Err(e) => return Err(e),
    }
    remove(folder)?;
    // No service has such a name.
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let new = folder.with_file_name(format!("{name}+new"));
    remove(&new)?;
    let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    make(&new.join("work"))?;
    let upper = new.join("upper");
    make(&upper)?;
    // The merged top looks like the upper one.
    let top = fs::metadata(top)?;
    let of_host = |id: u32, found: Option<u32>| if maps.is_some() { found } else { Some(id) };
    let uid = of_host(top.uid(), maps.and_then(|maps| maps.uid(top.uid())));
    let gid = of_host(top.gid(), maps.and_then(|maps| maps.gid(top.gid())));
    chown(&upper, uid, gid)?;
    fs::set_permissions(&upper, Permissions::from_mode(top.mode() & 0o7777))?;
    // On the disk before it has its name: after a power cut an empty one would be another image's.
    sampan_journal::atomic::replace(&new, DIGEST, format!("{digest}{of_maps}").as_bytes())?;
    fs::rename(&new, folder)
}

/// A service has left for good: what it has written to its root goes, and `prune` may take its image.
pub fn forget(state_dir: &Path, service: &str) -> Result<(), String> {
    let written = kept(state_dir, service);
    remove(&written)
        .map_err(|e| format!("cannot remove {}: {}", written.display(), sampan_config::plain(&e)))?;
    match Store::read(&store(state_dir)) {
        Ok(store) => store.forget_use(service).map_err(|e| e.to_string()),
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// All of it; what is not there is no error.
fn remove(folder: &Path) -> io::Result<()> {
    // First: what is half removed is nobody's.
    match fs::remove_file(folder.join(DIGEST)) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // A service may have made folders in folders without end.
    match remove_deep(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Detached, to look into.
fn tree(layers: &[PathBuf]) -> sampan_runtime::error::Result<OwnedFd> {
    let lower: Vec<String> = layers.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let wanted = Wanted { lower: &lower, upper: None, in_user_namespace: false, idmap: None, field: "image" };
    wanted.overlay(&mut UserNamespaces::default())
}

impl Image {
    /// Folders to make.
    pub fn made(&self) -> impl Iterator<Item = &Make> {
        let made = match self.makes {
            Makes::All => &self.volumes[..],
            Makes::Nothing => &[],
        };
        made.iter().map(|volume| &volume.folder)
    }

    /// What is in its layers alone: nothing that a service has written.
    pub fn root(&self) -> Result<Root, String> {
        let tree = tree(&self.layers).map_err(|error| error.to_string())?;
        Ok(Root::of(tree, Path::new(&self.reference)))
    }

    /// For people: the volumes that nobody has asked for.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let note = |volume: &ImageVolume| {
            format!("its image keeps {} in a volume: it is {}", volume.target, volume.folder.path.display())
        };
        self.volumes.iter().map(note)
    }

    pub fn used(&self) -> Used {
        Used {
            reference: self.reference.clone(),
            digest: self.digest.clone(),
            exposed_ports: self.config.exposed_ports.clone(),
            stop_signal: self.config.stop_signal.clone(),
            healthcheck: self.config.healthcheck.clone(),
        }
    }

    /// What tells the runtime of the layers, and the next worker of what the image says.
    pub fn annotate(&self, annotations: &mut BTreeMap<Str<'static>, Str<'static>>) {
        let mut set = |name: &'static str, value: String| drop(annotations.insert(name.into(), value.into()));
        set(layers::ANNOTATION, to_json(&self.layers).to_string());
        set(ANNOTATION, to_json(&self.used()).to_string());
        if let Some(kept) = &self.kept {
            set(layers::UPPER, kept.to_string_lossy().into_owned());
        }
    }

    /// The service with what its image says below what it says itself, as docker does it: an entrypoint of its own drops the
    /// image's command.
    pub fn below(&self, service: &Service) -> Result<Service, Error> {
        let image = &self.config;
        let mut all = service.clone();
        if !service.sets("entrypoint") {
            all.entrypoint.clone_from(&image.entrypoint);
            if !service.sets("command") {
                all.command.clone_from(&image.cmd);
            }
        }
        if all.argv().is_empty() {
            let error = Error::new(&service.name, "image", "use").path(Path::new(&self.reference));
            return Err(error.why("it names no program").hint("add command = [\"PROGRAM\", \"ARGUMENT\"]"));
        }
        if !service.sets("working_dir") && !image.working_dir.is_empty() {
            all.working_dir.clone_from(&image.working_dir);
        }
        for (name, value) in image.env.iter().filter_map(|entry| entry.split_once('=')) {
            all.environment.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        all.volumes.extend(self.volumes.iter().map(ImageVolume::volume));
        Ok(all)
    }
}

impl ImageVolume {
    fn name(&self) -> String {
        self.folder.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn volume(&self) -> Volume {
        let Make { path, uid, gid, mode, from: _ } = self.folder.clone();
        Volume {
            source: VolumeSource::Named(self.name(), NamedVolume { path, uid, gid, mode }),
            target: self.target.clone(),
            read_only: false,
            options: Vec::new(),
            create: true,
            nocopy: false,
            selinux: None,
        }
    }
}

impl Used {
    /// Of a life's config.json.
    pub fn of(spec: &serde_json::Value) -> Option<Used> {
        let text = spec.get("annotations")?.get(ANNOTATION)?.as_str()?;
        serde_json::from_str(text).ok()
    }

    /// The service as its life is led: with the image's stop signal and health check, where it has none of its own. Or what of
    /// it cannot be.
    pub fn leads(&self, service: &Service) -> Result<Arc<Service>, String> {
        let mut all = service.clone();
        if !matches!(service.source, schema::Source::Image(_)) {
            return Ok(Arc::new(all));
        }
        if !service.sets("stop_signal") {
            all.stop_signal = match self.stop_signal.as_str() {
                "" => Signal(libc::SIGTERM),
                text => match units::parse_signal(text) {
                    Some(number) => Signal(number),
                    None => return Err(format!("the image's StopSignal {text:?} is no signal")),
                },
            };
        }
        if !service.sets("healthcheck") {
            all.healthcheck = self.healthcheck.as_ref().and_then(check);
        }
        if all.notify == schema::Notify::Healthy && all.healthcheck.is_none() {
            return Err("notify = \"healthy\": neither the service nor its image has a healthcheck".into());
        }
        Ok(Arc::new(all))
    }
}

/// With docker's values where the image has none.
fn check(image: &Healthcheck) -> Option<schema::Healthcheck> {
    let test = match image.test.split_first()? {
        (first, [_, ..]) if first == "CMD" => TestCommand::Argv(image.test.get(1..)?.to_vec()),
        (first, [line]) if first == "CMD-SHELL" => TestCommand::Shell(line.clone()),
        _ => return None,
    };
    let or = |nanoseconds: u64, seconds: u64| match nanoseconds {
        0 => Duration::from_secs(seconds),
        n => Duration::from_nanos(n),
    };
    Some(schema::Healthcheck {
        probe: Probe::Test(test),
        interval: or(image.interval, 30),
        timeout: or(image.timeout, 30),
        retries: if image.retries == 0 { 3 } else { image.retries },
        start_period: Duration::from_nanos(image.start_period),
        start_interval: or(image.start_interval, 5),
        success_threshold: 1,
        stop_grace_period: None,
        on_failure: OnUnhealthy::Restart,
    })
}
