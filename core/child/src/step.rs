#![forbid(unsafe_code)]
//! The vocabulary of a launch: one [`Step`] is one thing done between clone3 and execve.
//!
//! A step is eight plain words: strings are offsets into the image's one text table, descriptors are
//! indices into the slots that came with it.  So steps copy, compare and print, and an image may come from
//! shared memory: any bit pattern decodes to a step or to an error, never to undefined behaviour.

use crate::sys::uapi;

/// Offset of a NUL-terminated string in the image's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Text(pub u32);

/// Index into the descriptors handed over with the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Slot(pub u32);

impl Slot {
    /// In a header, for an optional slot that is not there.
    pub const NONE: Slot = Slot(u32::MAX);
}

/// How the spawner leaves a namespace that it entered before clone3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// Through its own namespace of that kind.
    Slot(Slot),
    /// By its own pidfd: of the pid namespace only that of its children changed.
    ByPidfd,
    /// Not at all, since it clones nobody else.
    Stay,
}

/// `count` strings, one after the other from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct List {
    pub first: Text,
    pub count: u32,
}

/// `count` numbers of four bytes in the text, one after the other from `first` on, at any alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Numbers {
    pub first: Text,
    pub count: u32,
}

/// A seccomp filter: `insns` instructions of eight bytes each, in the text at `program`; 0: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    pub program: Text,
    pub insns: u32,
    /// SECCOMP_FILTER_FLAG_* of the kernel.
    pub flags: u32,
}

impl Filter {
    /// What the kernel takes: BPF_MAXINSNS.
    pub const INSNS_MAX: u32 = 4_096;
}

/// Where a mount is cloned from: a path of the host, cloned when the host's mounts are no peers any more (`Root.host`); or a
/// detached tree that the parent opened, with the propagation that its slot names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Path(Text),
    Tree(Slot),
    /// A path inside the container's root, as it is by then: with what earlier steps mounted there.
    Inside(Text),
}

/// What a mount exchanges with the others of its peer group (mount_namespaces(7)): the eight options of config.md.
/// With an `R`, the mounts below it do the same.
///
/// A clone starts as a peer of what it was cloned from, and what is mounted in it would appear there too.  So every step and
/// every slot that clones the host's mounts says what becomes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    RPrivate,
    Slave,
    RSlave,
    Shared,
    RShared,
    Unbindable,
    RUnbindable,
}

impl Propagation {
    /// Each with its name in config.json.
    pub const ALL: [(&'static str, Propagation); 8] = [
        ("private", Propagation::Private),
        ("rprivate", Propagation::RPrivate),
        ("slave", Propagation::Slave),
        ("rslave", Propagation::RSlave),
        ("shared", Propagation::Shared),
        ("rshared", Propagation::RShared),
        ("unbindable", Propagation::Unbindable),
        ("runbindable", Propagation::RUnbindable),
    ];

    pub fn named(name: &str) -> Option<Propagation> {
        Propagation::ALL.iter().find(|(known, _)| *known == name).map(|(_, propagation)| *propagation)
    }

    pub fn name(self) -> &'static str {
        Propagation::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| *name)
    }

    /// The kernel's bit for it.
    pub fn bit(self) -> u32 {
        match self {
            Propagation::Private | Propagation::RPrivate => uapi::MS_PRIVATE,
            Propagation::Slave | Propagation::RSlave => uapi::MS_SLAVE,
            Propagation::Shared | Propagation::RShared => uapi::MS_SHARED,
            Propagation::Unbindable | Propagation::RUnbindable => uapi::MS_UNBINDABLE,
        }
    }

    pub fn is_recursive(self) -> bool {
        use Propagation::*;
        matches!(self, RPrivate | RSlave | RShared | RUnbindable)
    }

    pub fn is_shared(self) -> bool {
        self.bit() == uapi::MS_SHARED
    }
}

/// What a path is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The container's root.
    Root,
    /// The file system mounted on its /dev.
    Dev,
}

/// What a field may point into: the image's text, and how many slots come with it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    pub text: &'a [u8],
    pub slots: u32,
}

impl Bounds<'_> {
    fn string(&self, at: Text) -> bool {
        (at.0 as usize) < self.text.len()
    }
    fn bytes(&self, first: Text, count: u32, size: usize) -> bool {
        let end = (count as usize).checked_mul(size).and_then(|n| n.checked_add(first.0 as usize));
        end.is_some_and(|end| end <= self.text.len())
    }
    fn strings(&self, list: List) -> bool {
        let rest = self.text.get(list.first.0 as usize..).unwrap_or(&[]);
        list.count == 0
            || rest.iter().filter(|byte| **byte == 0).take(list.count as usize).count() == list.count as usize
    }
}

/// A field of a step, as words.
trait Word: Sized + Copy {
    fn put(self, to: &mut Writer);
    fn take(from: &mut Reader) -> Option<Self>;
    /// Does it point at nothing outside of the image?
    fn within(self, _bounds: &Bounds<'_>) -> bool {
        true
    }
    /// The slot that it stands for, if it is one.
    fn slot(self) -> Option<Slot> {
        None
    }
}

struct Writer {
    words: [u32; 8],
    at: usize,
}
impl Writer {
    fn word(&mut self, w: u32) {
        if let Some(place) = self.words.get_mut(self.at) {
            *place = w;
        }
        self.at = self.at.wrapping_add(1);
    }
}

struct Reader {
    words: [u32; 8],
    at: usize,
}
impl Reader {
    fn word(&mut self) -> Option<u32> {
        let w = self.words.get(self.at).copied();
        self.at = self.at.wrapping_add(1);
        w
    }
}

impl Word for u32 {
    fn put(self, to: &mut Writer) {
        to.word(self);
    }
    fn take(from: &mut Reader) -> Option<u32> {
        from.word()
    }
}
impl Word for u64 {
    fn put(self, to: &mut Writer) {
        to.word(self as u32);
        to.word((self >> 32) as u32);
    }
    fn take(from: &mut Reader) -> Option<u64> {
        let low = from.word()?;
        Some(u64::from(low) | u64::from(from.word()?) << 32)
    }
}
impl Word for Text {
    fn put(self, to: &mut Writer) {
        to.word(self.0);
    }
    fn take(from: &mut Reader) -> Option<Text> {
        from.word().map(Text)
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        bounds.string(self)
    }
}
impl Word for Slot {
    fn put(self, to: &mut Writer) {
        to.word(self.0);
    }
    fn take(from: &mut Reader) -> Option<Slot> {
        from.word().map(Slot)
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        self.0 < bounds.slots
    }
    fn slot(self) -> Option<Slot> {
        Some(self)
    }
}
impl Word for List {
    fn put(self, to: &mut Writer) {
        self.first.put(to);
        to.word(self.count);
    }
    fn take(from: &mut Reader) -> Option<List> {
        Some(List { first: Text::take(from)?, count: from.word()? })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        bounds.strings(self)
    }
}
impl Word for Numbers {
    fn put(self, to: &mut Writer) {
        self.first.put(to);
        to.word(self.count);
    }
    fn take(from: &mut Reader) -> Option<Numbers> {
        Some(Numbers { first: Text::take(from)?, count: from.word()? })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        bounds.bytes(self.first, self.count, 4)
    }
}
impl Word for Filter {
    fn put(self, to: &mut Writer) {
        self.program.put(to);
        to.word(self.insns);
        to.word(self.flags);
    }
    fn take(from: &mut Reader) -> Option<Filter> {
        Some(Filter { program: Text::take(from)?, insns: from.word()?, flags: from.word()? })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        self.insns <= Filter::INSNS_MAX && bounds.bytes(self.program, self.insns, 8)
    }
}
impl Word for Back {
    fn put(self, to: &mut Writer) {
        to.word(match self {
            Back::ByPidfd => u32::MAX,
            Back::Stay => u32::MAX - 1,
            Back::Slot(slot) => slot.0,
        });
    }
    fn take(from: &mut Reader) -> Option<Back> {
        Some(match from.word()? {
            u32::MAX => Back::ByPidfd,
            word if word == u32::MAX - 1 => Back::Stay,
            word => Back::Slot(Slot(word)),
        })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        self.slot().is_none_or(|slot| slot.within(bounds))
    }
    fn slot(self) -> Option<Slot> {
        match self {
            Back::Slot(slot) => Some(slot),
            Back::ByPidfd | Back::Stay => None,
        }
    }
}
/// The two highest bits say which: neither a text nor a list of slots gets that long.
const IS_SLOT: u32 = 1 << 31;
const IS_INSIDE: u32 = 1 << 30;
impl Word for Source {
    fn put(self, to: &mut Writer) {
        to.word(match self {
            Source::Path(text) => text.0,
            Source::Tree(slot) => slot.0 | IS_SLOT,
            Source::Inside(text) => text.0 | IS_INSIDE,
        });
    }
    fn take(from: &mut Reader) -> Option<Source> {
        let word = from.word()?;
        let value = word & !(IS_SLOT | IS_INSIDE);
        match word & (IS_SLOT | IS_INSIDE) {
            0 => Some(Source::Path(Text(value))),
            IS_SLOT => Some(Source::Tree(Slot(value))),
            IS_INSIDE => Some(Source::Inside(Text(value))),
            _ => None,
        }
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        match self {
            Source::Path(text) | Source::Inside(text) => text.within(bounds),
            Source::Tree(slot) => slot.within(bounds),
        }
    }
    fn slot(self) -> Option<Slot> {
        match self {
            Source::Path(_) | Source::Inside(_) => None,
            Source::Tree(slot) => Some(slot),
        }
    }
}
impl Word for Base {
    fn put(self, to: &mut Writer) {
        to.word(match self {
            Base::Root => 0,
            Base::Dev => 1,
        });
    }
    fn take(from: &mut Reader) -> Option<Base> {
        match from.word()? {
            0 => Some(Base::Root),
            1 => Some(Base::Dev),
            _ => None,
        }
    }
}
impl Word for Propagation {
    fn put(self, to: &mut Writer) {
        to.word(self as u32);
    }
    fn take(from: &mut Reader) -> Option<Propagation> {
        let word = from.word()?;
        Propagation::ALL.iter().map(|(_, propagation)| *propagation).find(|known| *known as u32 == word)
    }
}
/// 0 is None.
impl Word for Option<Propagation> {
    fn put(self, to: &mut Writer) {
        to.word(self.map_or(0, |propagation| (propagation as u32).wrapping_add(1)));
    }
    fn take(from: &mut Reader) -> Option<Option<Propagation>> {
        match from.word()?.checked_sub(1) {
            None => Some(None),
            Some(word) => {
                Propagation::take(&mut Reader { words: [word, 0, 0, 0, 0, 0, 0, 0], at: 0 }).map(Some)
            }
        }
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $code:literal $name:ident { $($field:ident : $ty:ty),* $(,)? })*) => {
        /// One thing done between clone3 and execve, in the order of the plan.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step { $($(#[$doc])* $name { $($field: $ty),* },)* }

        impl Step {
            /// The step as the image holds it: the operation, then its fields.
            pub fn encode(self) -> [u32; 8] {
                let mut to = Writer { words: [0; 8], at: 1 };
                match self {
                    $(Step::$name { $($field),* } => { to.words = [$code, 0, 0, 0, 0, 0, 0, 0]; $($field.put(&mut to);)* })*
                }
                to.words
            }

            /// None for an unknown operation, or a field that no step may hold.
            pub fn decode(words: [u32; 8]) -> Option<Step> {
                let mut from = Reader { words, at: 1 };
                let from = &mut from;
                let [code, ..] = words;
                match code {
                    $($code => Some(Step::$name { $($field: <$ty as Word>::take(from)?),* }),)*
                    _ => None,
                }
            }

            /// Does every field point into the image, or at a slot that comes with it?
            pub fn within(self, bounds: &Bounds<'_>) -> bool {
                match self { $(Step::$name { $($field),* } => true $(&& $field.within(bounds))*,)* }
            }

            /// The slots that it uses.
            pub fn slots(self) -> impl Iterator<Item = Slot> {
                let mut slots = [None; 2];
                let mut places = slots.iter_mut();
                match self {
                    $(Step::$name { $($field),* } => { $(if let Some(slot) = $field.slot() && let Some(place) = places.next() { *place = Some(slot); })* })*
                }
                slots.into_iter().flatten()
            }

            /// The step's name as plans print it.
            pub fn name(self) -> &'static str {
                match self { $(Step::$name { .. } => stringify!($name),)* }
            }

            /// Every operation once, with all fields zero: for tests that must meet each.
            pub fn every() -> impl Iterator<Item = Step> {
                [$($code),*].into_iter().filter_map(|code| Step::decode([code, 0, 0, 0, 0, 0, 0, 0]))
            }
        }
    };
}

steps! {
    /// The *spawner* enters this namespace before clone3 and returns through `back` after it: for a pid
    /// namespace (which a task enters only by birth) and for those that a new user namespace may not enter.
    /// Only at the head of an image.
    1 Enter { ns: Slot, back: Back, kind: u32 }
    /// Default dispositions, nothing blocked.
    2 Signals {}
    /// Waits for one byte; at the end of file (the parent is gone, or gave up) the child exits.
    3 Wait { from: Slot }
    /// Tells the parent that the steps so far are done.
    4 Reached { mark: u32 }
    /// Joins the namespaces `kinds` of what the slot holds: a namespace, or a pidfd.
    5 Setns { ns: Slot, kinds: u32 }
    6 Unshare { kinds: u32 }
    /// Becomes uid and gid 0 of the new user namespace.
    7 BecomeRoot { setgroups: u32 }
    /// /proc/self/timens_offsets, then entering the namespace without a fork.
    8 TimeOffsets { lines: List }
    /// Writes `0` into the `tasks` file of a v1 cgroup: no pid is ever written to cgroup.procs.
    9 JoinCgroup { tasks: Text }
    /// Propagation of the container's root, once it is `/`.
    10 Propagate { to: Propagation }
    /// First makes every mount of the host `host` in this mount namespace (`RSlave` or `RPrivate`), so that nothing done
    /// from here on reaches it.  Then clones the root's tree and attaches it over the old `/`: all later targets are
    /// resolved in it.
    11 Root { from: Source, host: Propagation }
    /// A new file system: fsopen, fsconfig, fsmount, move_mount.
    12 Mount { kind: Text, target: Text, data: List, attributes: u32, propagation: Option<Propagation>, flags: u32 }
    /// A clone of a part of the host's tree; `propagation` once it is attached.
    13 Bind { from: Source, target: Text, set: u32, clear: u32, propagation: Option<Propagation>, flags: u32 }
    /// Attributes of a mount already made.
    14 Attributes { target: Text, set: u32, clear: u32, flags: u32 }
    /// Uses what is at /dev in the root for `Base::Dev`, where no mount was made there.
    15 OpenDev {}
    16 Node { base: Base, path: Text, mode: u32, device: u32, uid: u32, gid: u32 }
    17 Link { base: Base, path: Text, to: Text }
    18 Mask { path: Text }
    19 ReadOnly { path: Text }
    /// Makes a pty in the container's devpts, sends its master through `to`, takes its peer as stdio.
    20 Console { to: Slot, uid: u32, on_dev_console: u32, size: u32 }
    /// Runs a hook and waits for it.  `state` and the string after it enclose the pid; what it prints goes to `output`.
    21 Hook { argv: List, env: List, state: Text, timeout_s: u32, output: Slot }
    /// Makes the root the file system's root, lets go of the old one, and closes as `Close` does: what comes after it looks
    /// up what the container chose, so no directory, mount or namespace of the host may be open (CVE-2024-21626).
    22 Pivot { first: u32, keep: Numbers }
    23 RootAttributes { set: u32 }
    /// Writes below /proc/sys, through a procfs of our own.
    24 Sysctl { path: Text, value: Text }
    25 Hostname { name: Text }
    26 Domainname { name: Text }
    27 Loopback {}
    28 Session {}
    /// Joins (or makes) the named session keyring.
    29 Keyring { name: Text }
    30 Stdio { from: Slot, to: u32 }
    31 Rlimit { resource: u32, soft: u64, hard: u64 }
    32 Umask { mask: u32 }
    33 BoundingSet { keep: u64 }
    34 User { uid: u32, gid: u32, groups: Numbers, flags: u32 }
    35 Caps { effective: u64, permitted: u64, inheritable: u64 }
    36 Ambient { raise: u64 }
    37 NoNewPrivs {}
    38 Personality { domain: u32 }
    /// Changes to a directory of the container, looked up below its root; `flags` are those of [`cwd`].
    39 Cwd { path: Text, flags: u32 }
    /// Marks every descriptor from `first` on for closing at execve.
    40 CloseOnExec { first: u32 }
    /// Joins the namespaces `kinds` of a running container, and closes as `Pivot` does, for the same reason.
    41 Join { container: Slot, kinds: u32, first: u32, keep: Numbers }
    /// Finds the first of the candidates that is a file we may execute.
    42 Find { candidates: List }
    /// Loads the filter and executes what Find found: one step, because a filter may deny whatever came between.
    43 Exec { argv: List, env: List, filter: Filter }
    /// Not a target of ptrace or /proc/PID/fd any more.
    44 Undumpable {}
    45 Scheduler { policy: u32, nice: u32, priority: u32, flags: u64 }
    46 IoPriority { value: u32 }
    /// CPU affinity back to all CPUs that the cgroup allows.
    47 AllCpus {}
    /// A process group of its own.
    48 ProcessGroup {}
    49 Nice { nice: u32 }
    /// Pipes and sockets that are our stdio belong to the user, so that /dev/stdout can be opened again.
    50 OwnStdio { uid: u32 }
    /// HOME from the container's passwd file, for a config that sets none.
    51 Home { uid: u32 }
    /// Closes every descriptor from `first` on but those of the slots in `keep`, which later steps use.
    52 Close { first: u32, keep: Numbers }
    /// In place of `Root`: an overlay of its tree, without submounts, and a new tmpfs that takes what is written and
    /// is told `data`.  `flags` are those of [`scratch`].
    53 Scratch { from: Source, host: Propagation, data: List, flags: u32 }
    /// The filter of hooks still to come: what they execute comes from the container.
    54 HookFilter { filter: Filter }
    /// Makes a directory inside the root where it is missing, while that can still be written; `Cwd` says why it cannot.
    55 Folder { path: Text }
    /// Changes to a directory of the host, for a process that runs there.
    56 Chdir { path: Text }
    /// `command` is `exec PROFILE`: AppArmor's profile of what is executed from here on. `may_be_off`: no AppArmor, no error.
    57 AppArmor { command: Text, may_be_off: u32 }
    /// SELinux's label of what `attribute` names below /proc: `thread-self/attr/exec` or `/keycreate`.
    58 Selinux { attribute: Text, label: Text }
}

/// Bits of `Mount.flags` and `Bind.flags`.
pub mod mount {
    /// The target must not be reached through a symbolic link (proc, sysfs).
    pub const NO_SYMLINKS: u32 = 1;
    /// This is /dev: what `Base::Dev` means from here on.
    pub const IS_DEV: u32 = 1 << 1;
    /// Clone submounts too.
    pub const RECURSIVE: u32 = 1 << 2;
    /// The target may be on procfs: it is one of the few that may, or procfs is what is mounted.
    pub const ON_PROC: u32 = 1 << 3;
    /// Do not follow a symbolic link as the source.
    pub const NO_FOLLOW_SOURCE: u32 = 1 << 4;
    /// Copy what the root has at the target up into the new tmpfs.
    pub const COPY_UP: u32 = 1 << 5;
    /// `set` and `clear` apply to all submounts.
    pub const ATTRIBUTES_RECURSIVE: u32 = 1 << 6;
    /// The source is a device of the host, checked to be one.
    pub const IS_DEVICE: u32 = 1 << 7;
    /// The new file system is told the mode of the directory that it covers.
    pub const COVERED_MODE: u32 = 1 << 8;
}

/// Bits of `Scratch.flags`.
pub mod scratch {
    /// overlayfs keeps its marks in `user.` attributes: a user namespace may not write `trusted.` ones.
    pub const USER_XATTR: u32 = 1;
}

/// Bits of `Cwd.flags`.
pub mod cwd {
    /// Make it where it is missing.
    pub const CREATE: u32 = 1;
    /// What root may not enter (NFS) the user perhaps may: a second step tries again.
    pub const TRY: u32 = 1 << 1;
}

/// Bits of `User.flags`.
pub mod user {
    /// setgroups is denied in this user namespace: leave the groups alone.
    pub const NO_SETGROUPS: u32 = 1;
    /// Keep the permitted capabilities over the change to a uid that is not 0.
    pub const KEEP_CAPS: u32 = 1 << 1;
}

/// Marks of `Reached`.
pub mod mark {
    /// Namespaces are made: the parent may write the maps.
    pub const NAMESPACES: u32 = 1;
    /// All mounts are made, the old root is still there: prestart, createRuntime and `attach` run now.
    pub const MOUNTED: u32 = 2;
    /// Everything but the program is done: the container is `created`.
    pub const READY: u32 = 3;
    /// The pty is on its way through the console slot.
    pub const CONSOLE: u32 = 4;
}
