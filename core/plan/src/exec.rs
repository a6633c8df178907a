//! The plan for one more process in a running container.
//!
//! ```text
//!   clone3 -> groups -> all its namespaces at once -> pty -> limits, cwd -> user -> clone3, into its pid namespace -> execve
//! ```
//! The container is live and may be hostile: nothing of it is opened by a path before we are inside, nothing of
//! ours stays open once we are, and ptrace is refused from before the join (CVE-2016-9962).  CAP_SYS_PTRACE would be allowed
//! all the same: so the container sees only the second process, which was never anywhere but inside, and has no right that its
//! program will not have. One right remains where seccomp(2) asks for it: see `ids::Sets::until_execve`.
//!
//! The spawner waits until the second process is there. One with other work (the keel) waits for nobody who goes into a volume, whose
//! mount may be dead: then the second process goes there, as the user.
//!
//! In a user namespace the second process is born before it becomes the user: nobody in there may trace a process whose
//! program was started outside of it (ptrace(2)), and the limit on processes could not be lifted for the birth.

use crate::build::Build;
use crate::cpus;
use crate::error::Error;
use crate::host::{Host, Version};
use crate::ids;
use crate::labels;
use crate::limits;
use crate::namespaces::Namespaces;
use crate::order::{Identity, become_process, filter, finish, given_stdio, join_v1_groups, keyring};
use crate::plan::{Options, Parent, Plan};
use crate::process;
use crate::slots::SlotSource;
use crate::spec::{Process, Spec};
use sampan_child::defence::{self, Defence};
use sampan_child::step::{Back, FOR_EVER, Numbers, Step};
use sampan_child::sys::uapi::*;

/// How long a caller that has other work, as for a health check, waits for a process that joined a paused container.
const PAUSED_MS_MAX: u32 = 1_000;

impl<'a> Plan<'a> {
    /// `spec` is the container's as it was created, `p` the process to run in it; the groups of `host` are the container's.
    pub fn exec(
        spec: &'a Spec<'a>,
        p: &'a Process<'a>,
        host: &Host,
        options: &Options,
    ) -> Result<Plan<'a>, Error> {
        let ns = Namespaces::parse(spec, options)?;
        let in_user = ns.has(CLONE_NEWUSER);
        let b = &mut Build::for_child(options);
        let birth_is_due = join(b, p, host, options, ns.all())?;
        let user_first = birth_is_due && !in_user && defence::on(Defence::UserBeforeBirth);
        if birth_is_due && !user_first {
            born(b, options);
        }
        let groups_denied = in_user && host.groups_denied;
        if in_user {
            b.step("linux.uidMappings", Step::BecomeRoot { setgroups: u32::from(!groups_denied) });
        }
        let program = process::program(b, p)?;
        process::terminal(b, p, false, options);
        if options.new_keyring {
            keyring(b, options)?;
        }
        let directory_is_later =
            user_first && !options.may_wait && process::directory_may_hang(&spec.mounts, p);
        let identity = Identity {
            groups_denied,
            available: host.available(in_user),
            birth_is_due: user_first,
            directory_is_later,
        };
        become_process(b, spec, p, &identity)?;
        if user_first {
            born(b, options);
            if directory_is_later {
                process::working_directory(b, p, true)?;
            }
            p.scheduler.as_ref().map_or(Ok(()), |s| limits::scheduler_once_born(b, s))?;
        }
        b.step("", Step::Session {});
        process::controlling_terminal(b, p);
        b.step("", Step::CloseOnExec { first: options.first_of_ours() });
        program.find(b, p);
        let filter = filter(b, spec)?;
        program.exec(b, filter);
        let parent = Parent {
            oom_score_adj: p.oom_score_adj,
            terminal: p.terminal,
            console_size: p.console_size.clone(),
            program: p.args.first().map(|a| a.as_str()),
            ..Parent::default()
        };
        Ok(finish(b, parent))
    }
}

/// From the clone to a process in the container's groups and its namespaces `kinds`. True: the program's
/// process is still to be cloned, in the pid namespace.
fn join(
    b: &mut Build,
    p: &Process<'_>,
    host: &Host,
    options: &Options,
    mut kinds: u32,
) -> Result<bool, Error> {
    begin_on(b, p)?;
    let container = b.slot(SlotSource::Container);
    if kinds & CLONE_NEWPID != 0 && !defence::on(Defence::BornInside) {
        kinds &= !CLONE_NEWPID;
        let back = Back::ByPidfd;
        b.step("linux.namespaces", Step::Enter { ns: container, back, kind: CLONE_NEWPID });
    }
    if host.cgroups.iter().any(|g| g.version == Version::V2) {
        b.slot(SlotSource::Group);
    }
    let first = options.first_of_ours();
    b.step("", Step::Close { first, keep: Numbers::default() });
    b.step("", Step::Undumpable {});
    b.step("", Step::Signals {});
    given_stdio(b, options);
    join_v1_groups(b, host);
    go_on_on(b, p)?;
    labels::process(b, p, options.new_keyring)?;
    if kinds & CLONE_NEWUSER != 0 && host.groups_denied {
        ids::leave_own_groups(b, host.privileged);
    }
    b.step("linux.namespaces", Step::Join { container, kinds, first, keep: Numbers::default() });
    Ok(kinds & CLONE_NEWPID != 0)
}

fn born(b: &mut Build, options: &Options) {
    let wait_ms = if options.may_wait { FOR_EVER } else { PAUSED_MS_MAX };
    b.step("linux.namespaces", Step::GoOnInChild { wait_ms });
}

const INITIAL: &str = "process.execCPUAffinity.initial";
const FINAL: &str = "process.execCPUAffinity.final";

/// The CPUs from before the process is in its group (config.md, execCPUAffinity).
fn begin_on(b: &mut Build, p: &Process<'_>) -> Result<(), Error> {
    let list = p.exec_cpu_affinity.as_ref().and_then(|asked| asked.initial.as_ref());
    let cpus = list.map_or(Ok(Vec::new()), |list| cpus::parse(list, INITIAL))?;
    if !cpus.is_empty() {
        let mask = b.table.numbers(cpus::mask(&cpus));
        b.step(INITIAL, Step::StartOn { mask });
    }
    Ok(())
}

/// The CPUs that the process has once it is in its group: those of `final`, or all that the group allows, whatever our
/// caller was bound to.
fn go_on_on(b: &mut Build, p: &Process<'_>) -> Result<(), Error> {
    let list = p.exec_cpu_affinity.as_ref().and_then(|asked| asked.last.as_ref());
    let cpus = list.map_or(Ok(Vec::new()), |list| cpus::parse(list, FINAL))?;
    if cpus.is_empty() {
        b.step("", Step::AllCpus {});
    } else {
        let mask = b.table.numbers(cpus::mask(&cpus));
        b.step(FINAL, Step::Cpus { mask });
    }
    Ok(())
}
