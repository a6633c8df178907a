//! state.json: what later verbs must know of a container, and its status as of now.
//!
//! ```text
//!   creating --create done--> created --start--> running --init ends--> stopped --delete--> (gone)
//!      \___ creator died _________________________________________________^
//! ```
//! The file says how far the verbs got ([`Stage`]); whether init lives is asked of the kernel each time, by an identity
//! that cannot be somebody else. Every verb after create takes the cgroup manager and the rest from here, never from
//! flags: clients do not repeat them. Deliberately absent: the exit code (whoever waits for init has it).
//!
//! A service's is written twice, not three times: before `created` nobody can look at a container without hooks, and a launch that
//! dies there is found by its groups' name. `created` is what `sampan state` shows, and `running` must be on disk before the child
//! is told to go on, for the worker that finds it (adoption).

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use sampan_cgroups::Mark;
use sampan_hooks::Hooks;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::kernel::pidfd::{self, Identity};
use crate::store::dir::{self, Folder};

pub const FILE: &str = crate::store::dir::LAST;
/// The bundle's config.json as it was at create: later edits have no effect (runtime.md, "Lifecycle").
pub const CONFIG: &str = "config.json";
/// What `ociVersion` we implement.
pub const OCI_VERSION: &str = "1.3.0";

/// The file. Unknown fields are kept out and missing ones defaulted, so that an older or newer `sampan` can still
/// delete the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Effective user of whoever created it.
    pub uid: u32,
    pub stage: Stage,
    /// Absent until there is a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Identity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// It has a pid namespace of its own, so killing init kills all of it.
    pub own_pid_namespace: bool,
    pub rootless: bool,
    /// No `process` in config.json: legal at create, an error at start.
    pub no_process: bool,
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// How many poststart and poststop hooks have ended: whoever goes on after a crash goes on with the next one.
    #[serde(skip_serializing_if = "is_zero")]
    pub poststart_ended: usize,
    #[serde(skip_serializing_if = "is_zero")]
    pub poststop_ended: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// How far the verbs got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    #[default]
    Creating,
    Created,
    /// Start was asked for and the go was given.
    Running,
}

/// How to find the container's cgroup again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    pub manager: Manager,
    /// What `sampan_cgroups::Cgroup::location` wrote.
    pub location: String,
    /// Absent until the container has it: a name says nothing about who is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Somebody else's (the supervisor keeps it over restarts): killed in, not removed. `sampan update` ends that.
    #[serde(default)]
    pub kept: bool,
}

/// The container was put into the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// [`sampan_cgroups::Cgroup::inode`]: another group under the same name is not the container's.
    pub inode: u64,
    /// Was made for a container and is this one's alone, so that whoever is in it is the container's to kill; else it is
    /// only used.
    pub owned: bool,
    /// The number of [`sampan_cgroups::Mark`]; absent where none can be made. The group is this one's until another one has put
    /// its mark there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u64>,
}

impl Cgroup {
    /// The container is about to be put into these groups. They are new or nobody is in them: [`sampan_cgroups::Cgroup::create`].
    pub fn claim(&mut self, groups: &sampan_cgroups::Cgroup<'_>) -> sampan_cgroups::Result<()> {
        let left_by_another = || groups.mark().is_some_and(|mark| mark.made);
        let owned = self.kept || groups.is_new() || left_by_another();
        let number = RandomState::new().build_hasher().finish();
        let mark = groups.set_mark(Mark { number, made: owned }).then_some(number);
        self.claim = groups.inode()?.map(|inode| Claim { inode, owned, mark });
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    #[default]
    Cgroupfs,
    Systemd,
    Disabled,
}

/// The spec's statuses, and `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl State {
    /// A container that is only a folder yet. Create saves this, with the cgroup's location and the hooks, before it makes
    /// anything else: whenever it is killed, `delete --force` finds what there is to remove.
    pub fn creating(id: &str, bundle: PathBuf) -> State {
        State {
            oci_version: OCI_VERSION.into(),
            id: id.into(),
            bundle,
            created: crate::kernel::time::now_nano(),
            uid: rustix::process::geteuid().as_raw(),
            ..State::default()
        }
    }

    /// `None`: the folder is half made or half gone.
    pub fn load(folder: &Folder) -> Result<Option<State>> {
        let Some(bytes) = folder.read(FILE)? else { return Ok(None) };
        let state = serde_json::from_slice(&bytes)
            .map_err(|e| dir::corrupt(folder.id(), &folder.path().join(FILE), e))?;
        Ok(Some(state))
    }

    pub fn save(&self, folder: &Folder) -> Result<()> {
        let bytes =
            serde_json::to_vec(self).map_err(|e| dir::corrupt(&self.id, &folder.path().join(FILE), e))?;
        folder.write(FILE, &bytes)
    }

    /// The container's first process, if it still runs: exactly that one.
    pub fn init(&self) -> std::io::Result<Option<OwnedFd>> {
        let Some(identity) = &self.init else { return Ok(None) };
        match pidfd::find(identity)? {
            Some(fd) if !pidfd::ended(fd.as_fd())? => Ok(Some(fd)),
            _ => Ok(None),
        }
    }

    /// The groups that the container is in, or was in before they were removed; `None` if it was put into none.
    pub fn cgroup(&self) -> sampan_cgroups::Result<Option<sampan_cgroups::Cgroup<'static>>> {
        let Some(claim) = self.cgroup.as_ref().and_then(|cgroup| cgroup.claim) else { return Ok(None) };
        let named = self.named_cgroup()?;
        let is_its_own = |found: Option<u64>| found.is_none_or(|inode| inode == claim.inode);
        match named {
            Some(cgroup) if is_its_own(cgroup.inode()?) => Ok(Some(cgroup)),
            _ => Ok(None),
        }
    }

    /// The same if nobody but the container has a right to be in them: who is there may be signalled.
    pub fn own_cgroup(&self) -> sampan_cgroups::Result<Option<sampan_cgroups::Cgroup<'static>>> {
        Ok(self.cgroup()?.filter(|cgroup| self.owns(cgroup)))
    }

    /// Of [`State::cgroup`]: they are the container's alone, and no other one has taken them since.
    pub fn owns(&self, cgroup: &sampan_cgroups::Cgroup<'_>) -> bool {
        let Some(claim) = self.cgroup.as_ref().and_then(|cgroup| cgroup.claim) else { return false };
        claim.owned && cgroup.mark().is_none_or(|mark| Some(mark.number) == claim.mark)
    }

    /// The groups of that name, whoever made them and is in them.
    pub fn named_cgroup(&self) -> sampan_cgroups::Result<Option<sampan_cgroups::Cgroup<'static>>> {
        match &self.cgroup {
            // The root group holds everybody.
            Some(c) if c.manager != Manager::Disabled && !c.location.trim_matches('/').is_empty() => {
                let hierarchies = sampan_cgroups::Hierarchies::detect()?;
                Ok(Some(sampan_cgroups::Cgroup::found(hierarchies, &c.location)?))
            }
            _ => Ok(None),
        }
    }

    /// The status now. A `creating` whose creator has died (nobody holds the lock) is stopped. Paused is for the caller
    /// to add: it is the cgroup's.
    pub fn status(&self, folder: &Folder) -> Result<Status> {
        let alive = self.init().map_err(|e| {
            Error::io(format!("cannot look at the process of {}", folder.path().display()), &e).of(&self.id)
        })?;
        Ok(match (self.stage, alive.is_some()) {
            (Stage::Creating, _) if is_being_created(folder)? => Status::Creating,
            (Stage::Creating, _) | (_, false) => Status::Stopped,
            (Stage::Created, true) => Status::Created,
            (Stage::Running, true) => Status::Running,
        })
    }

    /// The state as the spec defines it, with runc's additions (`rootfs`, `created`, `owner`).
    pub fn document(&self, status: Status) -> Document<'_> {
        Document {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: match status {
                Status::Stopped => 0,
                _ => self.init.map_or(0, |i| i.pid),
            },
            status: status.name(),
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner: owner(self.uid),
        }
    }

    /// The place of the first hook of a kind that is still to run. Hooks before the start go with their launch: a launch that
    /// is done again runs them again.
    pub fn next_hook(&self, kind: sampan_hooks::Kind) -> usize {
        match kind {
            sampan_hooks::Kind::Poststart => self.poststart_ended,
            sampan_hooks::Kind::Poststop => self.poststop_ended,
            _ => 0,
        }
    }

    /// A hook has ended, well or not. True: something changed that is worth a save.
    pub fn hook_ended(&mut self, kind: sampan_hooks::Kind, index: usize) -> bool {
        let ended = match kind {
            sampan_hooks::Kind::Poststart => &mut self.poststart_ended,
            sampan_hooks::Kind::Poststop => &mut self.poststop_ended,
            _ => return false,
        };
        let before = *ended;
        *ended = before.max(index + 1);
        *ended != before
    }

    /// The bytes for a hook's stdin.
    pub fn for_hook(&self, kind: sampan_hooks::Kind) -> Vec<u8> {
        let mut document = self.document(Status::Running);
        document.status = kind.status();
        if kind == sampan_hooks::Kind::Poststop {
            document.pid = 0;
        }
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

/// Asked on a descriptor of its own: the answer takes a lock for a moment.
fn is_being_created(folder: &Folder) -> Result<bool> {
    match folder.reopen() {
        Ok(other) => other.is_busy(),
        Err(e) if e.kind == Kind::Missing => Ok(false),
        Err(e) => Err(e),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    pub oci_version: &'a str,
    pub id: &'a str,
    pub pid: i32,
    pub status: &'a str,
    pub bundle: &'a std::path::Path,
    pub rootfs: &'a std::path::Path,
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
    pub owner: String,
}

/// The user's name by /etc/passwd, or "" (a static binary must not ask NSS).
fn owner(uid: u32) -> String {
    if uid == 0 {
        return "root".into();
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let by_uid = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    passwd.lines().find_map(by_uid).unwrap_or_default()
}
