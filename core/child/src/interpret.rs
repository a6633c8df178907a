#![forbid(unsafe_code)]
//! The loop over the steps, and the small ones among them.
//!
//! What a step needs from an earlier one is in the [`Context`].  A step that fails is the last one: the report says which, and the process ends.

use crate::context::{Context, put};
use crate::defence::{self, Defence};
use crate::image::Image;
use crate::report::Report;
use crate::step::{Filter, List, Numbers, Step, user};
use crate::sys::{self, Call, Fault, Fd, Result, Successor, Trace, uapi};
use crate::{find, hooks, ids, mounts, oversee, procfs, scratch, stdio, targets};

/// Carries out the image from step `first` on. Never returns.
pub(crate) fn interpret(image: &Image<'_>, slots: &[Fd], first: u32, successor: Option<&Successor>) -> ! {
    let header = image.header();
    let report = slots.get(header.report.0 as usize).copied();
    let mut context = Context::new(image, slots, successor);
    let length = (header.steps as usize).wrapping_add(1);
    let mut trace = slots.get(header.trace.0 as usize).and_then(|memfd| Trace::map(*memfd, length).ok());
    stamp(&mut trace, 0);
    let mut index = first;
    while let Some(step) = image.step(index) {
        if matches!(step, Step::Exec { .. }) {
            // Its filter may deny reading the clock.
            stamp(&mut trace, index.wrapping_add(1));
        }
        if let Err(Fault { call, errno, detail }) = run(&mut context, step, report) {
            tell(report, Report::Failed { step: index, call, errno, detail });
            sys::exit(127);
        }
        index = index.wrapping_add(1);
        stamp(&mut trace, index);
    }
    // A plan without a program (a container that is only made) ends well.
    sys::exit(0);
}

fn stamp(trace: &mut Option<Trace>, index: u32) {
    if let Some(trace) = trace {
        trace.stamp(index);
    }
}

fn tell(report: Option<Fd>, message: Report) {
    if let Some(fd) = report {
        let _ = sys::write(fd, &message.encode());
    }
}

/// One step.
///
/// Long because it is one flat match: the order is the plan's, never ours.
fn run(c: &mut Context<'_>, step: Step, report: Option<Fd>) -> Result<()> {
    match step {
        // Carried out by the spawner, before it cloned us.
        Step::Enter { .. } | Step::StartOn { .. } => Ok(()),
        Step::Signals {} => {
            sys::reset_signals();
            Ok(())
        }
        Step::Wait { from } => wait(c.slot(from)?),
        Step::Reached { mark } => {
            tell(report, Report::Reached { mark });
            Ok(())
        }
        Step::Setns { ns, kinds } => sys::setns(c.slot(ns)?, kinds),
        Step::GoOnInChild { .. } => {
            sys::go_on_in(c.successor.take().ok_or(Fault::new(Call::clone3, uapi::EINVAL))?)?;
            c.process_limit.take().map_or(Ok(()), sys::set_process_limit)
        }
        Step::OneMoreProcess { given, soft, hard } => {
            c.process_limit = sys::lift_process_limit((given != 0).then_some((soft, hard)))?;
            Ok(())
        }
        Step::Unshare { kinds } => sys::unshare(kinds),
        Step::BecomeRoot { setgroups } => ids::become_root(setgroups != 0),
        Step::TimeOffsets { lines } => time_offsets(c, lines),
        Step::JoinCgroup { tasks } => put(uapi::AT_FDCWD, c.text(tasks), b"0", 0),
        Step::Propagate { to } => sys::propagate(b"/\0", to.bit(), to.is_recursive()),
        Step::Root { from, at, host } => mounts::root(c, from, at, host),
        Step::Scratch { from, at, host, data, flags } => scratch::root(c, from, at, host, data, flags),
        Step::EmptyRoot { data, host } => scratch::empty_root(c, host, data),
        Step::Overlay { data, attributes, to } => scratch::send_overlay(c, data, attributes, c.slot(to)?),
        Step::SendMount { path, to } => scratch::send_mount(c, c.text(path), c.slot(to)?),
        Step::Mount { kind, target, data, attributes, propagation, flags } => {
            mounts::mount(c, c.text(kind), c.text(target), data, attributes, propagation, flags)
        }
        Step::Bind { from, target, set, clear, propagation, flags } => {
            mounts::bind(c, from, c.text(target), set, clear, propagation, flags)
        }
        Step::Attributes { target, set, clear, flags } => {
            mounts::attributes(c, c.text(target), set, clear, flags)
        }
        Step::OpenDev {} => targets::open_dev(c),
        Step::Node { base, path, mode, device, uid, gid } => {
            mounts::node(c.base(base)?, c.text(path), mode, device, uid, gid)
        }
        Step::Link { base, path, to } => mounts::link(c.base(base)?, c.text(path), c.text(to)),
        Step::Mask { path } => mounts::mask(c, c.text(path)),
        Step::ReadOnly { path } => mounts::read_only(c, c.text(path)),
        Step::Console { to, uid, size, flags } => mounts::console(c, c.slot(to)?, uid, size, flags),
        Step::Hook { argv, env, state, timeout_s, output } => {
            hooks::run(c, argv, env, state, timeout_s, output)
        }
        Step::Pivot { first, keep } => {
            mounts::pivot(c)?;
            close_all_but(c, first, keep)
        }
        Step::Join { container, kinds, first, keep } => {
            sys::setns(c.slot(container)?, kinds)?;
            close_all_but(c, first, keep)
        }
        Step::RootAttributes { set } => mounts::root_attributes(c, set),
        Step::Sysctl { path, value } => procfs::sysctl(c, c.text(path), c.text(value)),
        Step::AppArmor { command, may_be_off } => procfs::apparmor(c, c.text(command), may_be_off != 0),
        Step::Selinux { attribute, label } => procfs::selinux(c, c.text(attribute), c.text(label)),
        Step::Hostname { name } => sys::sethostname(c.text(name)),
        Step::Domainname { name } => sys::setdomainname(c.text(name)),
        Step::Loopback {} => sys::loopback_up(),
        Step::Session {} => sys::setsid(),
        Step::ControllingTerminal {} => sys::controlling_tty(0),
        Step::Keyring { name } => keyring(c.text(name)),
        Step::Stdio { from, to } => sys::dup_to(c.slot(from)?, to as Fd),
        Step::Rlimit { resource, soft, hard } => sys::set_rlimit(resource, soft, hard),
        Step::Umask { mask } => {
            sys::umask(mask);
            Ok(())
        }
        Step::BoundingSet { keep } => ids::bound(keep),
        Step::User { uid, gid, groups, flags } => {
            let bytes =
                c.image.tail(groups.first).get(..(groups.count as usize).wrapping_mul(4)).unwrap_or(&[]);
            let groups = if flags & user::NO_SETGROUPS == 0 { Some(bytes) } else { None };
            ids::become_user(uid, gid, groups, flags & user::KEEP_CAPS != 0)
        }
        Step::Caps { effective, permitted, inheritable } => sys::capset(effective, permitted, inheritable),
        Step::Ambient { raise } => ids::ambient(raise),
        Step::NoNewPrivs {} => sys::no_new_privileges(),
        Step::Personality { domain } => sys::personality(domain),
        Step::Folder { path } => {
            targets::folder(c, c.text(path));
            Ok(())
        }
        Step::Cwd { path, flags } => find::cwd(c, c.text(path), flags),
        Step::Chdir { path } => sys::chdir(c.text(path)),
        Step::CloseOnExec { first } => sys::close_on_exec_from(first),
        Step::HookFilter { filter } => {
            c.hook_filter = Some(filter);
            Ok(())
        }
        Step::Find { candidates } => {
            c.program = Some(find::program(c.image.list(candidates))?);
            Ok(())
        }
        Step::Exec { argv, env, filter } => execute(c, argv, env, filter),
        Step::Undumpable {} => sys::set_dumpable(!defence::on(Defence::Undumpable)),
        Step::Scheduler { policy, nice, priority, flags } => {
            sys::sched_setattr(policy, nice as i32, priority, flags)
        }
        Step::IoPriority { value } => sys::ioprio_set(value),
        Step::AllCpus {} => sys::all_cpus(),
        Step::Cpus { mask } => sys::cpus(c.image.numbers(mask)),
        Step::ProcessGroup {} => sys::own_group(),
        Step::Oversee {} => oversee::go_on_in_child(),
        Step::ReopenNull {} => stdio::reopen_null(),
        Step::OwnStdio { uid } => {
            stdio::own(uid);
            Ok(())
        }
        Step::Close { first, keep } => close_all_but(c, first, keep),
        Step::Home { uid } => {
            c.home.look_up(uid);
            Ok(())
        }
    }
}

/// Nothing stands between the filter and execve: what a profile denies, it may deny at once.
fn execute(c: &Context<'_>, argv: List, env: List, filter: Filter) -> Result<()> {
    let path = c.program.ok_or(Fault::new(Call::execve, uapi::ENOENT))?;
    let program = sys::Program::new(path, c.image.list(argv), c.image.list(env).chain(c.home.variable()))?;
    c.load(filter)?;
    Err(program.execute())
}

/// Closes every descriptor from `first` on but those of the slots in `keep`, one call for each gap between them.
fn close_all_but(c: &Context<'_>, first: u32, keep: Numbers) -> Result<()> {
    if !defence::on(Defence::CloseBeforeLookup) {
        return Ok(());
    }
    let kept = c.image.numbers(keep).filter_map(|slot| c.slots.get(slot as usize));
    let mut from = first;
    loop {
        // The lowest one not yet passed ends the gap.
        let next = kept.clone().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd >= from).min();
        match next {
            Some(slot) if slot == from => {}
            Some(slot) => sys::close_between(from, slot.wrapping_sub(1))?,
            None => return sys::close_between(from, u32::MAX),
        }
        from = next.map_or(u32::MAX, |slot| slot.wrapping_add(1));
    }
}

/// One byte is "go on"; the end of the file is "the parent is gone": nobody is left to report to.
fn wait(from: Fd) -> Result<()> {
    let mut byte = [0u8];
    match sys::read(from, &mut byte)? {
        0 => sys::exit(sys::ABANDONED),
        _ => Ok(()),
    }
}

/// The offsets must be written before any task is inside (they freeze then), and setns on oneself is the
/// one way in without a fork: time_namespaces(7) tells only of the fork.
fn time_offsets(c: &Context<'_>, lines: List) -> Result<()> {
    for line in c.image.list(lines) {
        let text = line.get(..line.len().saturating_sub(1)).unwrap_or(line);
        put(uapi::AT_FDCWD, b"/proc/self/timens_offsets\0", text, 0)?;
    }
    let ns = sys::openat(uapi::AT_FDCWD, b"/proc/self/ns/time_for_children\0", uapi::O_RDONLY, 0)?;
    let joined = sys::setns(ns, uapi::CLONE_NEWTIME);
    sys::close(ns);
    joined
}

/// Kernels without keyrings, and filters that deny them (docker in docker), do without.
fn keyring(name: &[u8]) -> Result<()> {
    match sys::keyctl_join(name) {
        Err(fault) if matches!(fault.errno, uapi::ENOSYS | uapi::EPERM | uapi::EACCES) => Ok(()),
        other => other,
    }
}
