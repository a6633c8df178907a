#![forbid(unsafe_code)]
//! The vocabulary of a launch: one [`Step`] is one thing done between clone3 and execve.
//!
//! A step is eight plain words: strings are offsets into the image's one text table, descriptors are
//! indices into the slots that came with it.  So steps copy, compare and print, and an image may come from
//! shared memory: any bit pattern decodes to a step or to an error, never to undefined behaviour.

pub use crate::field::{
    Back, Base, Bounds, Environment, Filter, List, Numbers, Propagation, Slot, Source, Text,
};
use crate::field::{Reader, Word, Writer};

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

            /// The number of every operation.
            pub fn codes() -> impl Iterator<Item = u32> {
                [$($code),*].into_iter()
            }

            /// Every operation once, with all fields zero: for tests that must meet each.
            pub fn every() -> impl Iterator<Item = Step> {
                Step::codes().filter_map(|code| Step::decode([code, 0, 0, 0, 0, 0, 0, 0]))
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
    /// from here on reaches it.  Then clones the root's tree and attaches it at `at`, a path of the host: over the old `/`, or
    /// where the config has it. All later targets are resolved in it.
    11 Root { from: Source, at: Text, host: Propagation }
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
    20 Console { to: Slot, uid: u32, size: u32, flags: u32 }
    /// Runs a hook and waits for it.  `state` and the string after it enclose the pid; what it prints goes to `output`.
    21 Hook { argv: List, env: Environment, state: Text, timeout_s: u32, output: Slot }
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
    /// CPU affinity: the words of the kernel's mask.
    49 Cpus { mask: Numbers }
    /// Pipes and sockets that are our stdio belong to the user, so that /dev/stdout can be opened again.
    50 OwnStdio { uid: u32 }
    /// HOME from the container's passwd file, for a config that sets none.
    51 Home { uid: u32 }
    /// Closes every descriptor from `first` on but those of the slots in `keep`, which later steps use.
    52 Close { first: u32, keep: Numbers }
    /// In place of `Root`: an overlay of its tree, without submounts, and a new tmpfs that takes what is written and
    /// is told `data`.  `flags` are those of [`scratch`].
    53 Scratch { from: Source, at: Text, host: Propagation, data: List, flags: u32 }
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
    /// In place of `Root`: a new tmpfs, told `data`, in which later steps make and bind what there is to see.
    59 EmptyRoot { data: List, host: Propagation }
    /// Goes on in a child, born in the pid namespace that `Join` has joined: the container sees nobody who has anything of the
    /// host, not even with CAP_SYS_PTRACE.  The spawner waits `wait_ms` for it ([`FOR_EVER`]: as long as it takes).
    60 GoOnInChild { wait_ms: u32 }
    /// Standard streams that are the host's null device become the container's.
    61 ReopenNull {}
    /// The terminal that is standard input controls the session.
    62 ControllingTerminal {}
    /// The limit on its user's processes, if one is `given`; but until the child of `GoOnInChild` is there that user may have one
    /// more: it has this one too.
    63 OneMoreProcess { given: u32, soft: u64, hard: u64 }
    /// An overlay of folders of the root, which `data` names from there, made with the rights that this process has by now, and the
    /// only ones that anybody has through it. Its mount goes through `to`.
    64 Overlay { data: List, attributes: u32, to: Slot }
    /// Goes on in a child and stays to see it out: what it leaves when it fails, or is told to end (SIGTERM), is ended too,
    /// whatever group or session that is in. Then this process ends as its child did.
    65 Oversee {}
    /// The *spawner* runs on these CPUs while it clones: the child begins there. Only at the head of an image.
    66 StartOn { mask: Numbers }
    /// A clone of the mount of what the root has at `path` goes through `to`.
    67 SendMount { path: Text, to: Slot }
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
    /// With `COPY_UP`: what we may not read is left out, and the copies are ours.
    pub const COPY_READABLE: u32 = 1 << 9;
    /// `set` and `clear` apply to all submounts.
    pub const ATTRIBUTES_RECURSIVE: u32 = 1 << 6;
    /// The source is a device of the host, checked to be one.
    pub const IS_DEVICE: u32 = 1 << 7;
    /// The source is known to be a folder, and not looked at: a control group.
    pub const IS_FOLDER: u32 = 1 << 11;
    /// The new file system is told the mode of the directory that it covers.
    pub const COVERED_MODE: u32 = 1 << 8;
    /// An option is longer than fsconfig(2) takes: all go as one string through mount(2).
    pub const OPTION_STRING: u32 = 1 << 10;
}

/// In `GoOnInChild.wait_ms`.
pub const FOR_EVER: u32 = u32::MAX;

/// Bits of `Scratch.flags`.
pub mod scratch {
    /// overlayfs keeps its marks in `user.` attributes: a user namespace may not write `trusted.` ones.
    pub const USER_XATTR: u32 = 1;
}

/// Bits of `Console.flags`.
pub mod console {
    /// Also mount the terminal on /dev/console.
    pub const ON_DEV_CONSOLE: u32 = 1;
    /// A newline that is written stays one (ONLCR is cleared).
    pub const PLAIN_NEWLINES: u32 = 1 << 1;
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
    /// It is in its namespaces and groups: where nobody is to see the mounts, `attach` runs beside them.
    pub const JOINED: u32 = 5;
}
