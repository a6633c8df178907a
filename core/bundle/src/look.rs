//! What a bundle needs to know of users' paths, and the looking: of what may hang (a dead mount) and of what an image's author
//! may make long, this is all. It can be done in another process than the rest, so both the question and the answer are plain
//! data; of an image's files the answer has what was looked up, never the text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use sampan_config::read_text;
use sampan_config::schema::{
    IdMaps, NameOrId, NamedVolume, RootMode, SeccompProfile, Service, Source, User, Volume, VolumeSource,
};
use sampan_runtime::kernel::host_root::is_host_root;
use sampan_runtime::kernel::procfs;

use super::Error;
use super::fill;
use super::folders::{self, Make};
use super::image::{self, Found, Image};
use super::notify::has_socket;
use super::root::Root;
use super::userns::{self, Users};
use super::users::{self, Resolved};
use super::{dev, init, notify, rights, secrets};

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub service: String,
    source: From,
    /// Who is looked up among the root's users.
    user: Option<User>,
    /// What else its processes are in.
    groups: Vec<NameOrId>,
    /// Folders that are looked for in the root.
    folders: Vec<String>,
    /// What a root needs in which nothing is made.
    needed: Vec<String>,
    /// Nothing is made in the root: what is mounted over must be there.
    is_ro: bool,
    profile: Option<PathBuf>,
    /// Devices and folders of devices.
    devices: Vec<(Device, PathBuf)>,
    /// What must not lie below a mount that is missing.
    volumes: Vec<PathBuf>,
    /// Folders to make.
    make: Vec<Make>,
    /// Where the locks of those are that are filled from an image.
    filling: PathBuf,
    /// Volumes that SELinux is to give another label.
    relabel: Vec<PathBuf>,
    secrets: Option<Secrets>,
    /// Where the program that is its first process is written.
    init: Option<PathBuf>,
    users: Option<userns::Ask>,
    /// Where its socket will be.
    notify: Option<PathBuf>,
}

/// Secrets to write, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Secrets {
    folder: PathBuf,
    asks: Vec<secrets::Ask>,
}

/// Why a device is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Device {
    Named,
    Limited,
    All,
}

impl Device {
    fn key(self) -> &'static str {
        match self {
            Device::Named => "devices",
            Device::Limited => "resources.io_max",
            Device::All => "privileged",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum From {
    Rootfs(PathBuf),
    Bundle(PathBuf),
    Image(image::Ask),
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The root file system's path.
    pub root: PathBuf,
    /// It is the host's own, whatever it is called.
    pub is_host: bool,
    /// What the root is made of, if it is an image's: then `root` is where it lies before the pivot.
    pub image: Option<Image>,
    /// config.json of a bundle.
    pub config: Option<String>,
    /// Who was asked for, by the root's /etc/passwd and /etc/group.
    pub user: Option<Resolved>,
    /// Those of `group_add`.
    pub groups: Vec<u32>,
    /// Those that are folders, and no links to one.
    pub folders: Vec<String>,
    /// Of what is needed in the root, that which is not there.
    pub lacks: Vec<String>,
    /// Of [`NETWORK_FILES`], those that something can be mounted over.
    pub network_files: Vec<String>,
    /// The text of the seccomp profile.
    pub profile: Option<String>,
    /// By the path that was asked for.
    pub devices: BTreeMap<PathBuf, Vec<Node>>,
    /// Where the service's secrets were written.
    pub secrets: Option<PathBuf>,
    /// Of a user namespace of its own.
    pub users: Option<Users>,
    /// The program that is its first process.
    pub init: Option<PathBuf>,
    /// Where the socket is that it says on how it is.
    pub notify: Option<PathBuf>,
    /// Files of procfs that only root may read.
    pub root_only: Vec<String>,
    /// What could not be had as asked, for the log.
    pub warnings: Vec<String>,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub path: PathBuf,
    /// `c` or `b`.
    pub kind: char,
    pub major: u32,
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Where a root that is no folder lies until the pivot.
pub const BELOW_THE_BUNDLE: &str = "rootfs";

/// Files of a root that say how its network is.
pub const NETWORK_FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

impl Look {
    /// `run_dir`: for secrets; `state_dir`: for images.
    pub fn of(service: &Service, run_dir: &Path, state_dir: &Path) -> Look {
        let source = match &service.source {
            Source::Rootfs(rootfs) => From::Rootfs(rootfs.path.clone()),
            Source::Bundle(folder) => From::Bundle(folder.clone()),
            Source::Image(image) => From::Image(image::Ask::of(service, image, state_dir)),
        };
        let is_bundle = matches!(service.source, Source::Bundle(_));
        let folders = service.source.mode().map(temporary).unwrap_or_default();
        let asked = |key: &str| !is_bundle || service.sets(key);
        let volumes = || service.volumes.iter().filter(|_| asked("volumes"));
        Look {
            service: service.name.clone(),
            source,
            user: asked("user").then(|| service.user.clone()),
            groups: if asked("group_add") { service.group_add.clone() } else { Vec::new() },
            folders,
            needed: needed(service),
            is_ro: matches!(&service.source, Source::Rootfs(rootfs) if rootfs.mode == RootMode::Ro),
            profile: match &service.security.seccomp_profile {
                SeccompProfile::Path(path) if asked("security.seccomp_profile") => Some(path.clone()),
                _ => None,
            },
            devices: devices(service, &asked),
            volumes: volumes().map(|volume| volume.source.path().to_owned()).collect(),
            make: volumes().filter(|volume| volume.create).map(made).collect(),
            filling: fill::folder(state_dir),
            relabel: volumes().filter(|v| v.selinux.is_some()).map(|v| v.source.path().to_owned()).collect(),
            secrets: (!service.secrets.is_empty()).then(|| Secrets {
                folder: secrets::folder(run_dir, &service.name),
                asks: secrets::asks(service),
            }),
            users: userns::Ask::of(service, state_dir).filter(|_| asked("security.userns")),
            init: service.init.then(|| init::folder(run_dir, &service.name)),
            notify: has_socket(service).then(|| notify::folder(run_dir, &service.name)),
        }
    }

    /// Makes no folder and reads no secret.
    #[must_use]
    pub fn changing_nothing(self) -> Look {
        let source = match self.source {
            From::Image(ask) => From::Image(ask.changing_nothing()),
            other => other,
        };
        let users = self.users.map(userns::Ask::changing_nothing);
        Look { make: Vec::new(), secrets: None, init: None, source, users, ..self }
    }

    /// What it looks at first, for people who wait.
    pub fn at(&self) -> &Path {
        match &self.source {
            From::Rootfs(path) | From::Bundle(path) => path,
            From::Image(ask) => ask.store(),
        }
    }
}

/// /etc/group is read for names alone: numbers hold without it.
fn added(look: &Look, root: &Root, path: &Path) -> Result<Vec<u32>, Error> {
    let wrong = |why| Error::new(&look.service, "group_add", "find the group in").path(path).why(why);
    let text = match look.groups.iter().any(|group| matches!(group, NameOrId::Name(_))) {
        true => {
            root.read("etc/group").map_err(|e| wrong(format!("etc/group: {}", sampan_config::plain(&e))))?
        }
        false => None,
    };
    let found = users::groups(&look.groups, &text.unwrap_or_default());
    found.map_err(|why| wrong(why).hint("name a group of the rootfs, or write numbers"))
}

/// The container's user is another one than ours: what is made for a path is everybody's to look into.
fn made(volume: &Volume) -> Make {
    match &volume.source {
        VolumeSource::Path(path) => Make { path: path.clone(), uid: None, gid: None, mode: None, from: None },
        VolumeSource::Named(_, NamedVolume { path, uid, gid, mode }) => {
            let from = (!volume.nocopy).then(|| volume.target.clone());
            Make { path: path.clone(), uid: *uid, gid: *gid, mode: *mode, from }
        }
    }
}

fn devices(service: &Service, asked: &dyn Fn(&str) -> bool) -> Vec<(Device, PathBuf)> {
    let mut all = Vec::new();
    if asked("devices") {
        all.extend(service.devices.iter().map(|device| (Device::Named, device.source.clone())));
    }
    if asked("resources.io_max") {
        all.extend(service.resources.io_max.keys().map(|path| (Device::Limited, path.clone())));
    }
    if service.privileged && asked("privileged") {
        all.push((Device::All, rights::DEV.into()));
    }
    all
}

fn temporary(mode: RootMode) -> Vec<String> {
    match mode {
        RootMode::Rw => Vec::new(),
        RootMode::Ro | RootMode::Scratch => {
            sampan_plan::default::TEMPORARY.map(|(path, _)| path.into()).to_vec()
        }
    }
}

/// What is mounted in the root and the working directory, where the root must have them.
fn needed(service: &Service) -> Vec<String> {
    match &service.source {
        Source::Rootfs(rootfs) if rootfs.mode == RootMode::Ro => {
            let mounts = sampan_plan::default::spec().mounts;
            let mounts = mounts.iter().map(|mount| mount.destination.as_str().to_owned());
            let tmpfs = service.tmpfs.iter().map(|tmpfs| tmpfs.target.clone());
            let volumes = service.volumes.iter().map(|volume| volume.target.clone());
            let secrets = secrets::mounts(service, Path::new("")).into_iter().map(|(_, target)| target);
            let notify = has_socket(service).then(|| notify::FOLDER.to_owned());
            let ours = secrets.chain(notify).chain([service.working_dir.clone()]);
            mounts.chain(tmpfs).chain(volumes).chain(ours).collect()
        }
        Source::Rootfs(_) | Source::Bundle(_) | Source::Image(_) => Vec::new(),
    }
}

/// The root, and who an image says runs.
fn opened(look: &Look, facts: &mut Facts, maps: Option<&IdMaps>) -> Result<(Root, Option<User>), Error> {
    match &look.source {
        From::Rootfs(path) => {
            facts.root.clone_from(path);
            facts.is_host = is_host_root(path);
        }
        From::Bundle(folder) => {
            let path = folder.join("config.json");
            let wrong = |why: String| Error::new(&look.service, "bundle", "read").path(&path).why(why);
            let (text, warning) = read_text(&path).map_err(wrong)?;
            facts.warnings.extend(warning);
            let spec: serde_json::Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
            let rootfs = spec.pointer("/root/path").and_then(serde_json::Value::as_str).unwrap_or("rootfs");
            facts.root = folder.join(rootfs);
            facts.config = Some(text);
        }
        From::Image(ask) => {
            let Found { image, root, user } = ask.look(&look.service, maps)?;
            // In the bundle's folder.
            facts.root = BELOW_THE_BUNDLE.into();
            facts.warnings.extend(image.notes());
            facts.image = Some(image);
            return Ok((root, user));
        }
    }
    Ok((Root::open(&look.service, &facts.root)?, None))
}

/// Changes nothing but that it makes folders of volumes that say `create`, or that an image names, and the one for what is
/// written to an image's root. `tell`: of what may take long, in words for people who wait.
pub fn look(look: &Look, tell: &dyn Fn(String)) -> Result<Facts, Error> {
    let mut facts = Facts::default();
    let users = look.users.as_ref().map(|ask| ask.look(&look.service, &mut facts.warnings));
    let maps = users.transpose()?;
    let (root, of_image) = opened(look, &mut facts, maps.as_ref())?;
    if let Some(asked) = of_image.as_ref().or(look.user.as_ref()) {
        let wrong = |why| Error::new(&look.service, "user", "find the user in").path(&facts.root).why(why);
        let read = |path: &str| match root.read(path) {
            Ok(text) => Ok(text.unwrap_or_default()),
            Err(e) => Err(wrong(format!("{path}: {}", sampan_config::plain(&e)))),
        };
        let user = users::resolve(asked, &read("etc/passwd")?, &read("etc/group")?)
            .map_err(|why| wrong(why).hint("name a user of the rootfs, or write numbers"))?;
        facts.user = Some(user);
    }
    facts.notify.clone_from(&look.notify);
    facts.groups = added(look, &root, &facts.root)?;
    facts.folders = look.folders.iter().filter(|path| root.has_folder(path)).cloned().collect();
    let files = NETWORK_FILES.iter().filter(|path| !look.is_ro || !root.lacks(path));
    facts.network_files = files.map(ToString::to_string).collect();
    // The host's own has folders of ours.
    if !facts.is_host {
        facts.lacks = look.needed.iter().filter(|path| root.lacks(path)).cloned().collect();
    }
    if let Some(path) = &look.profile {
        let wrong = |why: String| {
            Error::new(&look.service, "security.seccomp_profile", "read the profile").why(why).path(path)
        };
        facts.profile = Some(read_text(path).map_err(wrong)?.0);
    }
    facts.root_only = procfs::root_only().map_err(|e| {
        Error::new(&look.service, "security.masked_paths", "find what to mask").why(e.to_string())
    })?;
    of_the_host(look, maps, &mut facts, tell)?;
    Ok(facts)
}

/// What the service has besides its root.
fn of_the_host(
    look: &Look,
    maps: Option<IdMaps>,
    facts: &mut Facts,
    tell: &dyn Fn(String),
) -> Result<(), Error> {
    for (kind, path) in &look.devices {
        let wrong = |why| Error::new(&look.service, kind.key(), "use the device").path(path).why(why);
        let nodes = dev::nodes(path).map_err(wrong)?;
        facts.devices.insert(path.clone(), nodes);
    }
    let wrong = |doing, path: &Path| Error::new(&look.service, "volumes", doing).path(path);
    for path in &look.volumes {
        if let Some(mount) = folders::missing_mount(path) {
            let why =
                format!("/etc/fstab has a mount on {}, and nothing is mounted there yet", mount.display());
            return Err(wrong("use", path).why(why).hint(format!("mount {}", mount.display())));
        }
    }
    if let (Some(path), true) = (look.relabel.first(), Path::new("/sys/fs/selinux/enforce").exists()) {
        let why = "SELinux is on here, and this version sets no labels";
        return Err(wrong("relabel", path)
            .why(why)
            .hint("leave out z or Z, and label it: chcon -R -t container_file_t"));
    }
    let made: Vec<&Make> = look.make.iter().chain(facts.image.iter().flat_map(Image::made)).collect();
    fill::make_all(&look.service, &made, facts.image.as_ref(), &look.filling, tell)?;
    if let Some(Secrets { folder, asks }) = &look.secrets {
        let user = facts.user.as_ref().map(|user| (user.uid, user.gid));
        let user = user.unwrap_or_else(|| user_of(facts.config.as_deref()));
        secrets::write(&look.service, asks, folder, user, maps.as_ref())?;
        facts.secrets = Some(folder.clone());
    }
    if let Some(folder) = &look.init {
        facts.init = Some(init::write(&look.service, folder)?);
    }
    if let Some(maps) = maps {
        let of_image = facts.image.iter().flat_map(|image| &image.volumes);
        let volumes: Vec<&Path> = look
            .volumes
            .iter()
            .map(PathBuf::as_path)
            .chain(of_image.map(|v| v.folder.path.as_path()))
            .collect();
        facts.users = Some(Users::of(maps, &volumes, &mut facts.warnings));
    }
    Ok(())
}

/// Who runs by a bundle's own config.json.
fn user_of(config: Option<&str>) -> (u32, u32) {
    let spec: serde_json::Value = config.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let id = |key| spec["process"]["user"][key].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    (id("uid"), id("gid"))
}
