//! A plan for people and programs: one line a step, and the same as JSON.
//!
//! The words are imperatives (`mount tmpfs on /dev`), so that an error can say "cannot" before them.

use crate::limits::rlimit_name;
use crate::namespaces::KINDS;
use crate::plan::Plan;
use crate::slots::{Gate, SlotSource};
use sampan_child::image::Image;
use sampan_child::step::{Base, List, Numbers, Slot, Source, Step, Text, console, mark, mount as flag};
use sampan_child::sys::uapi::*;
use std::fmt::Write;

/// An image with the meaning of its slots: what words are made from.
pub struct Reader<'a> {
    pub image: Image<'a>,
    pub slots: &'a [SlotSource],
}

impl Reader<'_> {
    pub fn text(&self, text: Text) -> String {
        let bytes = self.image.str(text);
        String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(bytes)).into_owned()
    }
    pub fn list(&self, list: List) -> Vec<String> {
        let one = |s: &[u8]| String::from_utf8_lossy(s.strip_suffix(b"\0").unwrap_or(s)).into_owned();
        self.image.list(list).map(one).collect()
    }
    fn slot(&self, slot: Slot) -> String {
        match self.slots.get(slot.0 as usize) {
            Some(SlotSource::Namespace { path, .. }) => path.clone(),
            Some(SlotSource::GivenNetns) => "the network namespace given".to_owned(),
            Some(SlotSource::Container) => "the container".to_owned(),
            Some(SlotSource::Tree { path, .. }) => path.clone(),
            Some(SlotSource::Layers { lower, .. }) => format!("an overlay of {} layers", lower.len()),
            Some(SlotSource::Gate(Gate::Maps)) => "the id maps".to_owned(),
            Some(SlotSource::Gate(Gate::Groups)) => "the control groups and their limits".to_owned(),
            Some(SlotSource::Gate(Gate::Attached)) => "hooks and network".to_owned(),
            Some(SlotSource::Gate(Gate::Start)) => "start".to_owned(),
            Some(SlotSource::Report) => "the report".to_owned(),
            Some(SlotSource::Console) => "the console's socket".to_owned(),
            Some(SlotSource::Stdio(0)) => "the given stdin".to_owned(),
            Some(SlotSource::Stdio(1)) => "the given stdout".to_owned(),
            Some(SlotSource::Stdio(_)) => "the given stderr".to_owned(),
            Some(SlotSource::HookOutput { kind, index, .. }) => {
                format!("the output of hooks.{kind}[{index}]")
            }
            Some(SlotSource::Group) => "the control group".to_owned(),
            Some(SlotSource::OwnNamespace { kind }) => format!("our own {} namespace", kinds(*kind)),
            Some(SlotSource::Trace) => "the trace".to_owned(),
            None => format!("slot {}", slot.0),
        }
    }
    /// The descriptors that stay open, by what they are for.
    fn all_but(&self, first: u32, keep: Numbers) -> String {
        let name = |slot| match self.slots.get(slot as usize) {
            Some(SlotSource::Gate(_)) => format!("the gate of {}", self.slot(Slot(slot))),
            _ => self.slot(Slot(slot)),
        };
        let kept: Vec<String> = self.image.numbers(keep).map(name).collect();
        let but = if kept.is_empty() { String::new() } else { format!(" but {}", kept.join(", ")) };
        format!("all descriptors from {first} on{but}")
    }
    /// A mask's CPUs.
    fn cpus(&self, mask: Numbers) -> String {
        let is_set = |word: u32, bit: u32| word & (1 << bit) != 0;
        let bits = |(at, word)| (0..32).filter(move |bit| is_set(word, *bit)).map(move |bit| at * 32 + bit);
        let cpus = (0u32..).zip(self.image.numbers(mask)).flat_map(bits);
        cpus.map(|cpu: u32| cpu.to_string()).collect::<Vec<_>>().join(",")
    }
    fn source(&self, source: Source) -> String {
        match source {
            Source::Path(text) => self.text(text),
            Source::Tree(slot) => self.slot(slot),
            Source::Inside(text) => format!("the root's {}", self.text(text)),
        }
    }
    /// The option by which the ids of a source are mapped.
    fn idmap(&self, source: Source) -> Option<String> {
        let Source::Tree(slot) = source else { return None };
        match self.slots.get(slot.0 as usize) {
            Some(SlotSource::Tree { idmap: Some(map), .. }) if map.recursive => Some("ridmap".to_owned()),
            Some(SlotSource::Tree { idmap: Some(_), .. } | SlotSource::Layers { idmap: Some(_), .. }) => {
                Some("idmap".to_owned())
            }
            _ => None,
        }
    }
    /// What a new file system is made of, and its source.
    fn options(&self, data: List) -> (Vec<String>, Option<String>) {
        let (mut options, mut source) = (Vec::new(), None);
        let mut data = self.list(data).into_iter();
        while let Some(option) = data.next() {
            match option.split_at_checked(1) {
                Some(("s", "source")) => source = data.next(),
                Some(("s", name)) => options.push(format!("{name}={}", data.next().unwrap_or_default())),
                Some((_, name)) => options.push(name.to_owned()),
                None => {}
            }
        }
        (options, source)
    }
    fn in_base(&self, base: Base, path: Text) -> String {
        match base {
            Base::Root => format!("/{}", self.text(path)),
            Base::Dev => format!("/dev/{}", self.text(path)),
        }
    }

    /// What a step does.
    ///
    /// Long because it is one flat match: a phrase for each step.
    pub fn words(&self, step: Step) -> String {
        match step {
            Step::Enter { ns, kind, .. } => {
                format!("enter {} namespace {} before clone3", kinds(kind), self.slot(ns))
            }
            Step::StartOn { mask } => format!("begin on the CPUs {}", self.cpus(mask)),
            Step::Signals {} => "reset signals".to_owned(),
            Step::Wait { from } => format!("wait for {}", self.slot(from)),
            Step::Reached { mark: mark::MOUNTED } => "report: mounted".to_owned(),
            Step::Reached { mark: mark::JOINED } => "report: in its namespaces and groups".to_owned(),
            Step::Reached { mark: mark::READY } => "report: created".to_owned(),
            Step::Reached { mark } => format!("report: mark {mark}"),
            Step::Setns { ns, kinds: k } => format!("join {} namespace {}", kinds(k), self.slot(ns)),
            Step::Join { container, kinds: k, first, keep } => format!(
                "join {} namespaces of {} and close {}",
                kinds(k),
                self.slot(container),
                self.all_but(first, keep)
            ),
            Step::GoOnInChild { .. } => "go on in a child, born in the pid namespace".to_owned(),
            Step::Unshare { kinds: k } => format!("make a {} namespace", kinds(k)),
            Step::BecomeRoot { .. } => "become root of the user namespace".to_owned(),
            Step::TimeOffsets { lines } => {
                let lines = self.list(lines);
                format!(
                    "set clock offsets: {}",
                    lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join(", ")
                )
            }
            Step::JoinCgroup { tasks } => {
                format!("join control group {}", self.text(tasks).trim_end_matches("/tasks"))
            }
            Step::Propagate { to } => format!("make / {}", to.name()),
            Step::Root { from, host, .. } => {
                format!("use {} as the root [host's mounts {}]", self.source(from), host.name())
            }
            Step::EmptyRoot { data, host } => {
                let (mut options, _) = self.options(data);
                options.push(format!("host's mounts {}", host.name()));
                format!("use a new tmpfs as the root{}", bracket(&options))
            }
            Step::Overlay { data, .. } => format!("make an overlay{}", bracket(&self.options(data).0)),
            Step::SendMount { path, .. } => format!("clone what is at {}", self.text(path)),
            Step::Scratch { from, host, data, .. } => {
                let (mut options, _) = self.options(data);
                options.push(format!("host's mounts {}", host.name()));
                format!("use {} as the root, a new tmpfs on top{}", self.source(from), bracket(&options))
            }
            Step::Mount { kind, target, data, attributes, propagation, flags } => {
                let mut options = names(attributes);
                let (of_file_system, source) = self.options(data);
                options.extend(of_file_system);
                options.extend(propagation.map(|p| p.name().to_owned()));
                match (flags & flag::COPY_UP != 0, flags & flag::COPY_READABLE != 0) {
                    (true, true) => options.push("a copy of what others may read there".to_owned()),
                    (true, false) => options.push("tmpcopyup".to_owned()),
                    (false, _) => {}
                }
                let kind = self.text(kind);
                let from = source.filter(|s| *s != kind).map_or(String::new(), |s| format!(" ({s})"));
                format!("mount {kind}{from} on {}{}", self.text(target), bracket(&options))
            }
            Step::Bind { from, target, set, clear, propagation, flags } => {
                let mut options = changed(set, clear, flags & flag::ATTRIBUTES_RECURSIVE != 0);
                options.extend(propagation.map(|p| p.name().to_owned()));
                let verb = if flags & flag::RECURSIVE != 0 { "rbind" } else { "bind" };
                options.extend(self.idmap(from));
                format!("{verb} {} on {}{}", self.source(from), self.text(target), bracket(&options))
            }
            Step::Attributes { target, set, clear, flags, .. } => {
                let recursive = flags & flag::ATTRIBUTES_RECURSIVE != 0;
                format!("change {}{}", self.text(target), bracket(&changed(set, clear, recursive)))
            }
            Step::OpenDev {} => "open /dev of the root".to_owned(),
            Step::Node { base, path, mode, device, uid, gid } => {
                let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
                let kind = match mode & S_IFMT {
                    S_IFBLK => "block",
                    S_IFIFO => "fifo",
                    _ => "char",
                };
                let owner = if uid | gid != 0 { format!(" {uid}:{gid}") } else { String::new() };
                format!(
                    "make {} ({kind} {major}:{minor}, {:04o}{owner})",
                    self.in_base(base, path),
                    mode & 0o7777
                )
            }
            Step::Link { base, path, to } => {
                format!("link {} -> {}", self.in_base(base, path), self.text(to))
            }
            Step::Mask { path } => format!("mask {}", self.text(path)),
            Step::ReadOnly { path } => format!("make {} read-only", self.text(path)),
            Step::Console { uid, flags, .. } => {
                let bound = if flags & console::ON_DEV_CONSOLE != 0 { ", on /dev/console" } else { "" };
                format!("open a terminal for uid {uid}{bound}")
            }
            Step::Hook { argv, timeout_s, .. } => {
                let limit = if timeout_s == 0 { String::new() } else { format!(" within {timeout_s} s") };
                format!("run hook {}{limit}", self.list(argv).first().cloned().unwrap_or_default())
            }
            Step::Pivot { first, keep } => format!("pivot to the root, close {}", self.all_but(first, keep)),
            Step::RootAttributes { set } => format!("change /{}", bracket(&names(set))),
            Step::Sysctl { path, value } => {
                let path = self.text(path);
                format!("set {} to {:?}", path.trim_start_matches("sys/"), self.text(value))
            }
            Step::AppArmor { command, .. } => {
                let command = self.text(command);
                format!("apply apparmor profile: {}", command.trim_start_matches("exec "))
            }
            Step::Selinux { attribute, label } => {
                let what =
                    if self.text(attribute).ends_with("keycreate") { "its keys" } else { "the process" };
                format!("label {what} {} for SELinux", self.text(label))
            }
            Step::Hostname { name } => format!("set the hostname to {:?}", self.text(name)),
            Step::Domainname { name } => format!("set the domain name to {:?}", self.text(name)),
            Step::Loopback {} => "bring lo up".to_owned(),
            Step::ControllingTerminal {} => "let the terminal control the session".to_owned(),
            Step::OneMoreProcess { given: 0, .. } => {
                "allow the user one more process until the birth".to_owned()
            }
            Step::OneMoreProcess { soft, hard, .. } => {
                format!("set RLIMIT_NPROC to {soft} (hard {hard}), and one more until the birth")
            }
            Step::Session {} => "start a session".to_owned(),
            Step::Keyring { name } => format!("join session keyring {}", self.text(name)),
            Step::Stdio { to, .. } => format!(
                "use the given {}",
                ["stdin", "stdout", "stderr"].get(to as usize).unwrap_or(&"descriptor")
            ),
            Step::Rlimit { resource, soft, hard } => {
                let n = |v: u64| if v == u64::MAX { "unlimited".to_owned() } else { v.to_string() };
                format!("set {} to {} (hard {})", rlimit_name(resource), n(soft), n(hard))
            }
            Step::Umask { mask } => format!("set the umask to {mask:04o}"),
            Step::BoundingSet { keep } => format!("bound capabilities to {}", caps(keep)),
            Step::User { uid, gid, groups, .. } => {
                let more: Vec<String> = self.image.numbers(groups).map(|gid| gid.to_string()).collect();
                let more =
                    if more.is_empty() { String::new() } else { format!(" groups={}", more.join(",")) };
                format!("become uid={uid} gid={gid}{more}")
            }
            Step::Caps { effective, permitted, inheritable } => {
                let mut text = format!("keep capabilities {}", caps(permitted));
                if effective != permitted {
                    let _ = write!(text, ", effective {}", caps(effective));
                }
                if inheritable != 0 {
                    let _ = write!(text, ", inheritable {}", caps(inheritable));
                }
                text
            }
            Step::Ambient { raise } => format!("raise ambient capabilities {}", caps(raise)),
            Step::NoNewPrivs {} => "allow no new privileges".to_owned(),
            Step::Personality { domain } => format!("set the personality to {domain}"),
            Step::Cwd { path, .. } => format!("change to directory {}", self.text(path)),
            Step::CloseOnExec { first } => format!("close descriptors from {first} on at exec"),
            Step::HookFilter { filter } => format!("hooks get a filter of {} instructions", filter.insns),
            Step::Folder { path } => format!("make {} where it is missing", self.text(path)),
            Step::Find { candidates } => format!("find the program: {}", self.list(candidates).join(", ")),
            Step::Exec { argv, filter, .. } => {
                let argv: Vec<String> = self.list(argv).iter().map(|a| quoted(a)).collect();
                let program = argv.join(" ");
                match filter.insns {
                    0 => format!("execute {program}"),
                    insns => format!("load a filter of {insns} instructions and execute {program}"),
                }
            }
            Step::Undumpable {} => "hide from ptrace".to_owned(),
            Step::Scheduler { policy, nice, priority, .. } => {
                format!("schedule by policy {policy}, nice {}, priority {priority}", nice as i32)
            }
            Step::IoPriority { value } => {
                format!("set the I/O priority to class {}, {}", value >> 13, value & 7)
            }
            Step::AllCpus {} => "use every CPU allowed".to_owned(),
            Step::Cpus { mask } => format!("use the CPUs {}", self.cpus(mask)),
            Step::Oversee {} => "go on in a child, and end what it leaves if it fails".to_owned(),
            Step::ProcessGroup {} => "lead a process group".to_owned(),
            Step::ReopenNull {} => "take the container's /dev/null for the host's".to_owned(),
            Step::OwnStdio { uid } => format!("give stdio pipes to uid {uid}"),
            Step::Home { uid } => format!("look up HOME of uid {uid}"),
            Step::Close { first, keep } => format!("close {}", self.all_but(first, keep)),
            Step::Chdir { path } => format!("change to directory {} of the host", self.text(path)),
        }
    }
}

fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "/._-=:,+@%".contains(c));
    if plain { word.to_owned() } else { format!("{word:?}") }
}

fn kinds(bits: u32) -> String {
    let names: Vec<&str> = KINDS.iter().filter(|(_, k)| bits & k != 0).map(|(name, _)| *name).collect();
    names.join("+")
}

fn caps(bits: u64) -> String {
    let names: Vec<&str> = crate::ids::CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(n, _)| bits >> n & 1 == 1)
        .map(|(_, name)| name.trim_start_matches("CAP_"))
        .collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

const ATTRIBUTES: [(u32, &str, &str); 6] = [
    (MOUNT_ATTR_RDONLY, "ro", "rw"),
    (MOUNT_ATTR_NOSUID, "nosuid", "suid"),
    (MOUNT_ATTR_NODEV, "nodev", "dev"),
    (MOUNT_ATTR_NOEXEC, "noexec", "exec"),
    (MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
    (MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
];

fn names(set: u32) -> Vec<String> {
    changed(set, 0, false)
}

fn changed(set: u32, clear: u32, recursive: bool) -> Vec<String> {
    let r = if recursive { "r" } else { "" };
    let mut names = Vec::new();
    for (bit, on, off) in ATTRIBUTES {
        if set & bit != 0 {
            names.push(format!("{r}{on}"));
        } else if clear & bit != 0 {
            names.push(format!("{r}{off}"));
        }
    }
    match set & MOUNT_ATTR_ATIME {
        MOUNT_ATTR_NOATIME => names.push(format!("{r}noatime")),
        MOUNT_ATTR_STRICTATIME => names.push(format!("{r}strictatime")),
        _ if clear & MOUNT_ATTR_ATIME != 0 => names.push(format!("{r}relatime")),
        _ => {}
    }
    names
}

fn bracket(options: &[String]) -> String {
    if options.is_empty() { String::new() } else { format!(" [{}]", options.join(",")) }
}

/// One line a step: its number, what it does, and the config field that it comes from.
pub fn text(plan: &Plan<'_>) -> String {
    let mut out = String::new();
    let Some(reader) = reader(plan) else { return out };
    let header = reader.image.header();
    let new = match header.clone_flags as u32 {
        0 => "no new namespaces".to_owned(),
        flags => format!("new {}", kinds(flags)),
    };
    let group = if header.cgroup == Slot::NONE { "" } else { ", into the control group" };
    let _ = writeln!(out, "clone3: {new}{group}");
    for (index, (step, origin)) in plan.steps.iter().zip(&plan.origins).enumerate() {
        let words = reader.words(*step);
        match origin.is_empty() {
            true => _ = writeln!(out, "{:>3}  {words}", index + 1),
            false => _ = writeln!(out, "{:>3}  {words:<64}  {origin}", index + 1),
        }
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// The same for programs.
pub fn json(plan: &Plan<'_>) -> serde_json::Value {
    let steps: Vec<serde_json::Value> = match reader(plan) {
        None => Vec::new(),
        Some(reader) => plan
            .steps
            .iter()
            .zip(&plan.origins)
            .map(|(step, origin)| {
                serde_json::json!({"step": step.name(), "does": reader.words(*step), "field": origin})
            })
            .collect(),
    };
    let new: Vec<&str> =
        KINDS.iter().filter(|(_, k)| plan.image_flags() & k != 0).map(|(name, _)| *name).collect();
    serde_json::json!({"namespaces": new, "steps": steps, "warnings": plan.warnings})
}

/// None only for an image that is none, which a compiled plan never has.
pub fn reader<'p>(plan: &'p Plan<'_>) -> Option<Reader<'p>> {
    Some(Reader { image: Image::check(&plan.image).ok()?, slots: &plan.slots })
}

impl Plan<'_> {
    /// The namespaces that clone3 makes.
    fn image_flags(&self) -> u32 {
        Image::check(&self.image).map_or(0, |i| i.header().clone_flags as u32)
    }
}
