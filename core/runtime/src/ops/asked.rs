//! The flags of `run --rootfs` and `run --image` that people type first, as docker spells them: what they change of the default config.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::{AtFlags, Mode};
use sampan_plan::ids::CAPABILITIES;
use sampan_plan::spec::{Capabilities, Memory, Mount, Spec, Str};

use super::exec::parse_user;
use super::update::bytes;
use super::{Error, Result, doing};
use crate::store::dir::Folder;

/// As given.
#[derive(Debug, Default)]
pub struct Asked {
    /// `SRC:DST[:ro]`.
    pub volumes: Vec<String>,
    /// `NAME=VALUE`, or `NAME` for the value that we have.
    pub env: Vec<String>,
    pub workdir: Option<String>,
    /// `UID[:GID]`.
    pub user: Option<String>,
    pub memory: Option<String>,
    /// `host` or `none`.
    pub network: Option<String>,
    pub hostname: Option<String>,
    pub read_only: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    /// A first process of ours, `sampan_init`.
    pub init: bool,
}

/// In the container's own folder, which is its bundle; it goes with that.
const INIT: &str = "sampan-init";

/// Sysctls of a network namespace: of the host's own none is set.
const OF_NETWORK: &str = "net.";
const ALL: &str = "ALL";
/// Less than this and not even the first exec fits.
const MEMORY_BYTES_MIN: i64 = 512 << 10;
/// Of a host name (sethostname(2)).
const HOSTNAME_BYTES_MAX: usize = 64;

fn owned<'a>(text: impl Into<String>) -> Str<'a> {
    Str::from(text.into())
}

impl Asked {
    /// Over all that is mounted already.
    pub fn mount(&self, spec: &mut Spec<'_>) -> Result<()> {
        for volume in &self.volumes {
            spec.mounts.push(mount(volume)?);
        }
        if self.init {
            let options = sampan_init::MOUNT_OPTIONS.map(Str::from);
            spec.mounts.push(Mount {
                destination: Str::from(sampan_init::PATH),
                kind: Some(Str::from("bind")),
                source: Some(Str::from(INIT)),
                options: options.to_vec(),
                ..Mount::default()
            });
        }
        Ok(())
    }

    /// Before its program's words.
    pub fn first(&self) -> Option<Str<'static>> {
        self.init.then(|| Str::from(sampan_init::PATH))
    }

    /// What is mounted from the container's folder.
    pub fn write(&self, folder: &Folder) -> Result<()> {
        if !self.init {
            return Ok(());
        }
        folder.write(INIT, sampan_init::PROGRAM)?;
        // Whatever the umask is: the container's user executes it.
        rustix::fs::chmodat(folder.fd(), INIT, Mode::from_raw_mode(0o555), AtFlags::empty())
            .map_err(doing(format!("--init: {}", folder.path().join(INIT).display())))
    }

    /// All but the mounts.
    pub fn apply(&self, spec: &mut Spec<'_>) -> Result<()> {
        if let Some(name) = &self.hostname {
            if name.is_empty() || name.len() > HOSTNAME_BYTES_MAX {
                return Err(Error::new(format!(
                    "--hostname {name:?}: must be of 1 to {HOSTNAME_BYTES_MAX} bytes"
                )));
            }
            spec.hostname = Some(owned(name));
        }
        if let Some(root) = spec.root.as_mut().filter(|_| self.read_only) {
            root.readonly = true;
        }
        self.network(spec)?;
        if let Some(text) = &self.memory {
            let limit = bytes(text).filter(|limit| *limit >= MEMORY_BYTES_MIN);
            let wrong = || Error::new(format!("--memory {text:?}: must be a size of 512k or more, as 512m"));
            let memory = Memory { limit: Some(limit.ok_or_else(wrong)?), ..Memory::default() };
            spec.linux.resources.get_or_insert_default().memory = Some(memory);
        }
        self.process(spec)
    }

    fn network(&self, spec: &mut Spec<'_>) -> Result<()> {
        match self.network.as_deref() {
            None | Some("none") => Ok(()),
            Some("host") => {
                spec.linux.namespaces.retain(|namespace| namespace.kind.as_str() != "network");
                spec.linux.sysctl.retain(|name, _| !name.as_str().starts_with(OF_NETWORK));
                Ok(())
            }
            Some(other) => Err(Error::new(format!(
                "--network {other:?}: must be host or none; services have networks: `sampand`, docs/network.md"
            ))),
        }
    }

    fn process(&self, spec: &mut Spec<'_>) -> Result<()> {
        let Some(process) = &mut spec.process else { return Ok(()) };
        for variable in &self.env {
            let name = variable.split('=').next().unwrap_or_default();
            if name.is_empty() {
                return Err(Error::new(format!("--env {variable:?}: must be NAME=VALUE, or NAME for ours")));
            }
            process.env.retain(|other| other.as_str().split('=').next() != Some(name));
            if name.len() < variable.len() {
                process.env.push(owned(variable));
            } else if let Some(ours) = std::env::var_os(name) {
                let not_utf8 = |_| Error::new(format!("--env {name}: the value that we have is not UTF-8"));
                process.env.push(owned(format!("{name}={}", ours.into_string().map_err(not_utf8)?)));
            }
        }
        if let Some(folder) = &self.workdir {
            if !folder.starts_with('/') {
                return Err(Error::new(format!("--workdir {folder:?}: must begin with /")));
            }
            process.cwd = owned(folder);
        }
        if let Some(user) = &self.user {
            let (uid, gid) = parse_user(user)?;
            // Groups of an image's user are not those of another.
            (process.user.uid, process.user.gid) = (uid, gid.unwrap_or(0));
            process.user.additional_gids.clear();
        }
        let capabilities = process.capabilities.get_or_insert_default();
        self.capabilities(capabilities)
    }

    /// Dropped first, so that `--cap-drop ALL --cap-add X` leaves X.
    fn capabilities(&self, sets: &mut Capabilities<'_>) -> Result<()> {
        let dropped =
            self.cap_drop.iter().map(|name| capability("cap-drop", name)).collect::<Result<Vec<_>>>()?;
        let added =
            self.cap_add.iter().map(|name| capability("cap-add", name)).collect::<Result<Vec<_>>>()?;
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.retain(|has| !dropped.iter().any(|name| name == ALL || name == has.as_str()));
            for name in &added {
                let all = CAPABILITIES.iter().filter(|other| name == ALL || name == *other);
                let missing: Vec<_> =
                    all.filter(|other| !set.iter().any(|has| has.as_str() == **other)).collect();
                set.extend(missing.into_iter().map(|name| owned(*name)));
            }
        }
        Ok(())
    }
}

/// `NET_ADMIN`, `cap_net_admin`, `ALL`.
fn capability(flag: &str, text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    if upper == ALL {
        return Ok(upper);
    }
    let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if CAPABILITIES.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(Error::new(format!("--{flag} {text:?}: no such capability; capabilities(7) lists them, or ALL")))
}

/// A bind mount, as a service's volumes are.
fn mount(text: &str) -> Result<Mount<'static>> {
    let wrong =
        || Error::new(format!("--volume {text:?}: must be SRC:DST or SRC:DST:ro, with DST from / on"));
    let mut parts = text.split(':');
    let (source, target, mode) = (parts.next(), parts.next(), parts.next());
    let (Some(source), Some(target), None) = (source.filter(|s| !s.is_empty()), target, parts.next()) else {
        return Err(wrong());
    };
    if !target.starts_with('/') || !matches!(mode, None | Some("ro" | "rw")) {
        return Err(wrong());
    }
    let path =
        std::fs::canonicalize(Path::new(OsStr::new(source))).map_err(doing(format!("--volume {source}")))?;
    let path =
        path.to_str().ok_or_else(|| Error::new(format!("--volume {source}: {path:?} is not UTF-8")))?;
    let options =
        ["rbind", "rprivate", "nosuid", "nodev"].into_iter().chain(mode.filter(|mode| *mode == "ro"));
    Ok(Mount {
        destination: owned(target),
        kind: Some("bind".into()),
        source: Some(owned(path)),
        options: options.map(owned).collect(),
        ..Mount::default()
    })
}
