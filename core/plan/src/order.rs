//! The order of a launch, and the only place that knows it.
//!
//! ```text
//!   namespaces -> root -> mounts (groups joined before the first view of them) -> devices -> pty -> masks
//!     -> [hooks, network: the parent] -> pivot -> names, limits, cwd -> capabilities, user -> program found
//!     -> [created: wait for start] -> startContainer -> seccomp -> execve
//! ```
//! All mounts come before the pivot, because the host's devices cannot be cloned once the old root is gone.  The pivot closes
//! every descriptor that leads to the host: what comes after it looks up what the container chose.
//! The filter is loaded by the last step, so that nothing of ours must pass it.

use crate::attach::Attach;
use crate::build::Build;
use crate::error::Error;
use crate::host::{Host, Version};
use crate::mounts::{Dev, MountBuilder, MountContext, MountOutcome};
use crate::namespaces::Namespaces;
use crate::path::{clean, from_bundle};
use crate::plan::{Options, Parent, Plan, Users};
use crate::process::{self, Program};
use crate::propagation::RootPropagation;
use crate::scratch::RootMode;
use crate::slots::{Gate, SlotSource};
use crate::spec::{IdMapping, Process, Root, Spec, to_host};
use crate::{check, hooks, host_root, ids, labels, layers, limits, rootfs, scratch, seccomp, users};
use sampan_child::step::{Filter, Numbers, Step, mark};
use sampan_child::sys::uapi::*;

impl<'a> Plan<'a> {
    /// Decides everything about launching the container of `spec`.
    pub fn compile(spec: &'a Spec<'a>, host: &Host, options: &Options) -> Result<Plan<'a>, Error> {
        let launch = Launch::new(spec, host, options)?;
        let b = &mut Build::for_child(options);
        launch.namespaces(b)?;
        launch.loopback(b);
        let made = launch.root_and_mounts(b)?;
        let program = spec.process.as_ref().map(|p| process::program(b, p)).transpose()?;
        launch.rest_of_root(b, made)?;
        launch.attached_by_parent(b);
        launch.create_container_hooks(b, program.as_ref())?;
        launch.pivot(b)?;
        launch.identity(b)?;
        launch.start(b, program.as_ref())?;
        Ok(finish(b, launch.parent()))
    }
}

/// What the phases of one launch go by.
struct Launch<'l, 'a> {
    spec: &'a Spec<'a>,
    host: &'l Host,
    options: &'l Options,
    root: &'a Root<'a>,
    /// Of the root, on the host.
    path: String,
    namespaces: Namespaces,
    propagation: RootPropagation,
    users: Users,
    /// The maps of its user namespace: uids, gids.
    maps: (&'l [IdMapping], &'l [IdMapping]),
    /// setgroups is denied in a user namespace that was made without privileges.
    groups_denied: bool,
}

impl<'l, 'a: 'l> Launch<'l, 'a> {
    fn new(spec: &'a Spec<'a>, host: &'l Host, options: &'l Options) -> Result<Launch<'l, 'a>, Error> {
        check::container(spec)?;
        let namespaces = Namespaces::parse(spec, options)?;
        let root = spec.root.as_ref().filter(|r| !r.path.is_empty());
        let root = root.ok_or_else(|| Error::new("root.path", "is missing"))?;
        let joined = host.joined_users.as_ref().filter(|_| namespaces.joins(CLONE_NEWUSER));
        let maps = match joined {
            Some(joined) => users::joined(spec, joined)?,
            None => (spec.linux.uid_mappings.as_slice(), spec.linux.gid_mappings.as_slice()),
        };
        let users = match (namespaces.makes(CLONE_NEWUSER), namespaces.joins(CLONE_NEWUSER)) {
            (true, _) => Users::New,
            (_, true) => Users::Joined,
            _ => Users::Hosts,
        };
        let made_by_user = users == Users::New && !host.privileged;
        Ok(Launch {
            spec,
            host,
            options,
            root,
            path: from_bundle(&root.path, &options.bundle),
            namespaces,
            propagation: RootPropagation::parse(&spec.linux)?,
            users,
            maps,
            groups_denied: joined.map_or(made_by_user, |joined| joined.groups_denied),
        })
    }

    /// From the clone to a process in all its namespaces.
    fn namespaces(&self, b: &mut Build) -> Result<(), Error> {
        self.namespaces.born_into(b);
        if self.host.cgroups.iter().any(|g| g.version == Version::V2) {
            b.slot(SlotSource::Group);
        }
        if self.users == Users::Joined {
            return self.with_joined_users(b);
        }
        first_steps(b, self.options);
        if self.users == Users::New {
            let from = b.slot(SlotSource::Gate(Gate::Maps));
            b.step("linux.uidMappings", Step::Wait { from });
            // While the files are still opened by the host's root, which we are until the next step.
            self.join_groups(b);
        }
        self.namespaces.time_namespace(b, &self.spec.linux)?;
        if self.users == Users::New {
            let setgroups = u32::from(!self.groups_denied);
            b.step("linux.uidMappings", Step::BecomeRoot { setgroups });
        }
        b.step("", Step::Undumpable {});
        self.namespaces.joined_by_child(b);
        Ok(())
    }

    /// The same through a process that joins the users and leaves the rest to its child. It has no gate, since whoever clones it
    /// waits for the child: so the groups are there by then, and it joins them as long as their files are ours to open.
    fn with_joined_users(&self, b: &mut Build) -> Result<(), Error> {
        if !self.spec.linux.uid_mappings.is_empty() || !self.spec.linux.gid_mappings.is_empty() {
            b.warnings.push(
                "linux.uidMappings: are those of the user namespace that is joined; there is no need to repeat them".into(),
            );
        }
        b.step("", Step::Close { first: self.options.first_of_ours(), keep: Numbers::default() });
        b.step("", Step::Signals {});
        join_v1_groups(b, self.host);
        b.step("", Step::AllCpus {});
        self.namespaces.time_namespace(b, &self.spec.linux)?;
        b.step("", Step::Undumpable {});
        let may_wait = self.options.may_wait;
        self.namespaces.with_joined_users(b, self.host.privileged, self.groups_denied, may_wait);
        given_stdio(b, self.options);
        b.step("", Step::Session {});
        self.wait_for_groups(b);
        self.namespaces.cgroup_namespace(b);
        Ok(())
    }

    /// Before the mounts, as in runc; on v1 the parent makes the groups meanwhile, for which the child would wait.
    fn loopback(&self, b: &mut Build) {
        if self.namespaces.makes(CLONE_NEWNET) {
            b.step("linux.namespaces", Step::Loopback {});
        }
    }

    fn wait_for_groups(&self, b: &mut Build) {
        if !self.host.cgroups.is_empty() {
            let from = b.slot(SlotSource::Gate(Gate::Groups));
            b.step("linux.cgroupsPath", Step::Wait { from });
        }
    }

    /// The root and the config's mounts, in their order.
    fn root_and_mounts(&self, b: &mut Build) -> Result<MountOutcome, Error> {
        let Launch { spec, host, options, namespaces, propagation, .. } = self;
        let linux = &spec.linux;
        let (propagation, root) = (*propagation, self.path.as_str());
        let users = self.maps;
        let context = MountContext { linux, host, options, namespaces, users, propagation, root };
        b.step("", Step::Umask { mask: 0 });
        let at = if spec.hooks.see_the_root() { root } else { "/" };
        match &host.root {
            Some(shown) => host_root::root(b, shown, spec, self.root, &context)?,
            None => {
                let mode = scratch::asked(spec)?;
                rootfs::root(b, &self.path, at, mode, layers::asked(spec, mode)?, spec, &context)?;
            }
        }
        let mut made = MountOutcome::default();
        let mut joined = self.users != Users::Hosts;
        let mut join = |b: &mut Build| {
            if !std::mem::replace(&mut joined, true) {
                self.join_groups(b);
            }
        };
        for (index, m) in spec.mounts.iter().enumerate() {
            let dev_before = made.dev;
            MountBuilder::new(m, index, &context)?.steps(b, &mut made, &mut join)?;
            if made.dev == Dev::Mounted && dev_before != Dev::Mounted {
                rootfs::devices(b, linux, namespaces, &made, host)?;
            }
        }
        if made.dev != Dev::Mounted {
            rootfs::devices(b, linux, namespaces, &made, host)?;
        }
        if let Some(shown) = &host.root {
            host_root::resolver(b, shown, &spec.mounts, namespaces)?;
        }
        join(b);
        Ok(made)
    }

    /// What needs the mounts: the terminal, what is filled and then read-only, sysctls, masks.
    fn rest_of_root(&self, b: &mut Build, made: MountOutcome) -> Result<(), Error> {
        if let Some(p) = &self.spec.process {
            process::terminal(b, p, made.dev != Dev::Bound, self.options);
            process::controlling_terminal(b, p);
        }
        for (target, field) in made.read_only_later {
            let target = b.text(&target, &field)?;
            let set = MOUNT_ATTR_RDONLY;
            b.step(field, Step::Attributes { target, set, clear: 0, flags: 0 });
        }
        rootfs::sysctls(b, self.spec, &self.namespaces)?;
        rootfs::masks(b, &self.spec.linux, self.host.root.as_ref())?;
        Ok(())
    }

    /// The parent's turn: hooks on the host's side, the network.
    fn attached_by_parent(&self, b: &mut Build) {
        if self.attaches() == Attach::Mounted {
            b.step("hooks", Step::Reached { mark: mark::MOUNTED });
        }
        if self.attaches() != Attach::Nobody {
            let from = b.slot(SlotSource::Gate(Gate::Attached));
            b.step("hooks", Step::Wait { from });
        }
    }

    /// Programs of the host that run in the container's namespaces.
    fn create_container_hooks(&self, b: &mut Build, program: Option<&Program>) -> Result<(), Error> {
        let hooks = &self.spec.hooks.create_container;
        if hooks.is_empty() {
            return Ok(());
        }
        b.step("hooks.createContainer", Step::Umask { mask: 0o022 });
        let state = hooks::state(b, self.spec, self.options, "creating");
        hooks::steps(b, hooks, "createContainer", state, program.map(|program| program.env))
    }

    /// The last steps in sight of the host, and the way in.
    fn pivot(&self, b: &mut Build) -> Result<(), Error> {
        if let Some(p) = &self.spec.process {
            labels::process(b, p, self.options.new_keyring)?;
        }
        // The host's own is made of folders of ours until here.
        let is_read_only = self.host.root.is_none() && scratch::asked(self.spec)? == RootMode::NeverWritten;
        if self.root.readonly && !is_read_only {
            let cwd = self.spec.process.as_ref().map(|p| clean(&p.cwd));
            if let Some(cwd) = cwd.filter(|cwd| cwd != "/") {
                let path = b.text(&cwd, "process.cwd")?;
                b.step("process.cwd", Step::Folder { path });
            }
            rootfs::read_only(b);
        }
        let first = self.options.first_of_ours();
        b.step("root.path", Step::Pivot { first, keep: Numbers::default() });
        if let Some(to) = self.propagation.root {
            b.step("linux.rootfsPropagation", Step::Propagate { to });
        }
        Ok(())
    }

    /// The container's names, its keyring, and who the process is.
    fn identity(&self, b: &mut Build) -> Result<(), Error> {
        names(b, self.spec, &self.namespaces)?;
        if self.options.new_keyring {
            keyring(b, self.options)?;
        }
        let available = self.host.available(self.namespaces.own_users());
        let identity = Identity {
            groups_denied: self.groups_denied,
            available,
            birth_is_due: false,
            directory_is_later: false,
        };
        let Some(process) = &self.spec.process else { return Ok(()) };
        become_process(b, self.spec, process, &identity)?;
        b.step("", Step::CloseOnExec { first: self.options.first_of_ours() });
        Ok(())
    }

    /// `created`, then what `start` sets off.
    fn start(&self, b: &mut Build, program: Option<&Program>) -> Result<(), Error> {
        if let (Some(program), Some(p)) = (program, &self.spec.process) {
            program.find(b, p);
        }
        b.step("", Step::Reached { mark: mark::READY });
        let from = b.slot(SlotSource::Gate(Gate::Start));
        b.step("", Step::Wait { from });
        let Some(program) = program else { return Ok(()) };
        let filter = filter(b, self.spec)?;
        let hooks = &self.spec.hooks.start_container;
        if !hooks.is_empty() {
            if filter.insns > 0 {
                b.step("linux.seccomp", Step::HookFilter { filter });
            }
            let state = hooks::state(b, self.spec, self.options, "created");
            hooks::steps(b, hooks, "startContainer", state, Some(program.env))?;
        }
        program.exec(b, filter);
        Ok(())
    }

    /// What the parent does meanwhile.
    fn parent(&self) -> Parent<'a> {
        let linux = &self.spec.linux;
        let process = self.spec.process.as_ref();
        Parent {
            uid: process.map_or(0, |p| p.user.uid),
            users: self.users,
            uid_mappings: self.maps.0.to_vec(),
            gid_mappings: self.maps.1.to_vec(),
            deny_setgroups: self.groups_denied,
            oom_score_adj: process.and_then(|p| p.oom_score_adj),
            cgroups_path: linux.cgroups_path.as_deref(),
            cgroup_owner: cgroup_owner(self.spec, self.host, &self.namespaces, self.maps.0),
            resources: linux.resources.as_ref(),
            hooks: Some(&self.spec.hooks),
            annotations: Some(&self.spec.annotations),
            terminal: process.is_some_and(|p| p.terminal),
            console_size: process.and_then(|p| p.console_size.clone()),
            own_pid_namespace: self.namespaces.makes(CLONE_NEWPID),
            own_network: self.namespaces.has(CLONE_NEWNET),
            program: process.and_then(|p| p.args.first()).map(|a| a.as_str()),
            no_process: process.is_none(),
            root: self.path.clone(),
            attached_at: self.attaches().mark(),
        }
    }

    /// Waits until the groups are whole, joins the v1 ones (v2 came with clone3), and makes the cgroup namespace there.
    fn join_groups(&self, b: &mut Build) {
        self.wait_for_groups(b);
        join_v1_groups(b, self.host);
        // Whatever our caller was bound to, as by taskset, is his: the container has the CPUs of its group (runc#4858). After
        // the join, since the group's cpuset cuts the mask down.
        b.step("", Step::AllCpus {});
        self.namespaces.cgroup_namespace(b);
        if self.attaches() == Attach::Beside {
            b.step("", Step::Reached { mark: mark::JOINED });
        }
    }

    fn attaches(&self) -> Attach {
        Attach::of(self.spec, self.options, self.users)
    }
}

/// Closes the descriptors that the plan does not use, and puts the process out of reach of its parent's signals and terminal.
pub(crate) fn first_steps(b: &mut Build, options: &Options) {
    b.step("", Step::Close { first: options.first_of_ours(), keep: Numbers::default() });
    b.step("", Step::Signals {});
    given_stdio(b, options);
    b.step("", Step::Session {});
}

pub(crate) fn given_stdio(b: &mut Build, options: &Options) {
    let given = (0..3).filter(|_| options.given_stdio);
    for to in given.chain(3..options.given_fds.saturating_add(3)) {
        let from = b.slot(SlotSource::Stdio(to));
        b.step("", Step::Stdio { from, to });
    }
}

pub(crate) fn join_v1_groups(b: &mut Build, host: &Host) {
    for group in host.cgroups.iter().filter(|g| g.version == Version::V1) {
        let tasks = b.table.own(&format!("{}/tasks", group.folder()));
        b.step("linux.cgroupsPath", Step::JoinCgroup { tasks });
    }
}

pub(crate) fn keyring(b: &mut Build, options: &Options) -> Result<(), Error> {
    let name = b.text(&format!("_ses.{}", options.id), "id")?;
    b.step("", Step::Keyring { name });
    Ok(())
}

/// config-linux.md, Cgroup ownership: the container's group goes to the process's user where it can use it: cgroup v2 alone, a
/// cgroup namespace of its own, a hierarchy that it may write to.
fn cgroup_owner(spec: &Spec<'_>, host: &Host, ns: &Namespaces, uids: &[IdMapping]) -> Option<u32> {
    let v2 = host.cgroups.iter().all(|group| group.version == Version::V2);
    let writable = spec.mounts.iter().any(|mount| {
        matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2"))
            && *mount.destination == *"/sys/fs/cgroup"
            && !mount.options.iter().any(|option| **option == *"ro")
    });
    let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
    // Whoever made the group has it already.
    to_host(uids, uid)
        .filter(|uid| v2 && writable && host.privileged && ns.makes(CLONE_NEWCGROUP) && *uid != host.uid)
}

/// The image is made last, when every slot is known.
pub(crate) fn finish<'a>(b: &mut Build, parent: Parent<'a>) -> Plan<'a> {
    let image = b.image();
    Plan {
        image,
        steps: std::mem::take(&mut b.steps),
        origins: std::mem::take(&mut b.origins),
        slots: std::mem::take(&mut b.slots),
        parent,
        warnings: std::mem::take(&mut b.warnings),
    }
}

fn names(b: &mut Build, spec: &Spec<'_>, ns: &Namespaces) -> Result<(), Error> {
    for (name, field) in [(&spec.hostname, "hostname"), (&spec.domainname, "domainname")] {
        let Some(name) = name.as_deref().filter(|n| !n.is_empty()) else { continue };
        if !ns.has(CLONE_NEWUTS) {
            return Err(Error::new(
                field,
                "needs a uts namespace of its own in linux.namespaces: it would rename the host",
            ));
        }
        if name.len() > 64 {
            return Err(Error::new(field, format!("{name:?} is longer than 64 bytes")));
        }
        let name = b.text(name, field)?;
        b.step(field, if field == "hostname" { Step::Hostname { name } } else { Step::Domainname { name } });
    }
    Ok(())
}

/// What decides who the process can become.
pub(crate) struct Identity {
    pub groups_denied: bool,
    /// Capabilities that we can hand on.
    pub available: u64,
    /// The program is yet to be born: who becomes its user will clone it.
    pub birth_is_due: bool,
    /// It enters its working directory once it is born: until then somebody waits who has other work.
    pub directory_is_later: bool,
}

/// From root in the container to the process: limits, directory, capabilities, user.
pub(crate) fn become_process(
    b: &mut Build,
    spec: &Spec<'_>,
    p: &Process<'_>,
    identity: &Identity,
) -> Result<(), Error> {
    if !p.terminal {
        b.step("", Step::ReopenNull {});
    }
    if p.user.uid != 0 && !p.terminal {
        b.step("process.user.uid", Step::OwnStdio { uid: p.user.uid });
    }
    // Root's processes are not counted.
    limits::rlimits(b, &p.rlimits, identity.birth_is_due && p.user.uid != 0)?;
    if let Some(s) = &p.scheduler {
        limits::scheduler(b, s, identity.birth_is_due)?;
    }
    if let Some(io) = &p.io_priority {
        limits::io_priority(b, io)?;
    }
    if let Some(personality) = &spec.linux.personality {
        limits::personality(b, personality)?;
    }
    b.step("process.user.umask", Step::Umask { mask: p.user.umask.unwrap_or(0o022) });
    if !identity.directory_is_later {
        process::working_directory(b, p, false)?;
    }
    let mut sets = ids::sets(b, p.capabilities.as_ref(), identity.available)?;
    if spec.linux.seccomp.is_some() && !p.no_new_privileges {
        // seccomp(2) asks for it where no_new_privs is not set. It is in none of the sets that execve hands on.
        sets.until_execve(ids::CAP_SYS_ADMIN & identity.available);
    }
    ids::bounding(b, &sets);
    ids::become_user(b, &p.user, &sets, identity.groups_denied)?;
    if p.user.uid != 0 && !identity.directory_is_later {
        process::working_directory(b, p, true)?;
    }
    if p.no_new_privileges {
        b.step("process.noNewPrivileges", Step::NoNewPrivs {});
    }
    Ok(())
}

/// The config's filter; one without instructions where there is none.
pub(crate) fn filter(b: &mut Build, spec: &Spec<'_>) -> Result<Filter, Error> {
    let Some(profile) = &spec.linux.seccomp else { return Ok(Filter::default()) };
    let insns = seccomp::compile(profile)?;
    let bytes: Vec<u8> = insns.iter().flat_map(|i| i.to_ne_bytes()).collect();
    Ok(Filter { program: b.table.raw(&bytes), insns: insns.len() as u32, flags: seccomp::flags(profile)? })
}
