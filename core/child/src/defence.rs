#![forbid(unsafe_code)]
//! Switches that turn one defence off, so that a test can prove that its attack works without it.
//!
//! Only the feature `weaken` makes them switches; in every other build [`on`] is the constant `true` and the
//! branches around it are gone.  `make attack` builds with the feature and names a defence in
//! `SAMPAN_WEAKEN`; the programs read that variable once, before they clone anybody.

macro_rules! defences {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// One defence against a known class of attack (docs/security.md).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Defence { $($(#[doc = $doc])+ $name,)* }

        impl Defence {
            pub const ALL: &[Defence] = &[$(Defence::$name,)*];

            /// As `SAMPAN_WEAKEN` spells it.
            pub fn name(self) -> &'static str {
                match self { $(Defence::$name => $text,)* }
            }

            /// What holds while it is on, in a sentence.
            pub fn what(self) -> &'static str {
                match self { $(Defence::$name => concat!($($doc),+),)* }
            }
        }
    };
}

defences! {
    /// No descriptor of the host is open when the container can influence a lookup (CVE-2024-21626).
    CloseBeforeLookup = "close-before-lookup",
    /// The working directory is looked up below the container's root.
    CwdInRoot = "cwd-in-root",
    /// Mount targets, masks and device nodes are looked up with the container's root as `/` (CVE-2019-18837).
    TargetsInRoot = "targets-in-root",
    /// procfs and sysfs are never mounted behind a link of the image (CVE-2019-19921).
    ProcIsNoLink = "proc-is-no-link",
    /// Only procfs may be mounted on /proc, and below it only what is known to be harmless (CVE-2019-16884).
    ProcMountsChecked = "proc-mounts-checked",
    /// An image's /dev that is a link is refused (CVE-2026-41579).
    DevIsNoLink = "dev-is-no-link",
    /// Masks are clones of the host's null device, not of what the container has at /dev/null (CVE-2025-31133).
    HostNull = "host-null",
    /// What masks show of the host's null device is read-only, so its mode and owner are too.
    NullStaysTheHosts = "null-stays-the-hosts",
    /// /dev/console is made without following a link (CVE-2026-88264).
    ConsoleIsNoLink = "console-is-no-link",
    /// The terminal comes from its master, not from a path that others may replace (CVE-2025-52565).
    PtyFromMaster = "pty-from-master",
    /// Labels and sysctls are written through a procfs of our own (CVE-2019-16884, CVE-2025-52881).
    OwnProc = "own-proc",
    /// HOME is looked up only in a regular file: nothing else could make us wait, or read for ever.
    PasswdIsAFile = "passwd-is-a-file",
    /// Standard streams become the user's only where they are pipes or sockets (CVE-2026-88265).
    StdioOfOthersStays = "stdio-of-others-stays",
    /// A standard stream that is the host's null device is replaced by the container's.
    NullReopened = "null-reopened",
    /// Nobody inside may trace us once we are inside (CVE-2016-9962).
    Undumpable = "undumpable",
    /// A process that is sent into a container is born in its pid namespace when it has left all that is the host's (CVE-2016-9962).
    BornInside = "born-inside",
    /// A process that is sent into a container has become its user, with the capabilities of its program, when it is born there.
    UserBeforeBirth = "user-before-birth",
    /// A process inside cannot write where the spawner learns which process it has sent.
    SuccessorOutOfReach = "successor-out-of-reach",
    /// Our program's file cannot be written through /proc/PID/exe (CVE-2019-5736).
    SealedProgram = "sealed-program",
    /// `exec --cap` gives no inheritable capabilities (CVE-2022-29162).
    ExecCapsNotInherited = "exec-caps-not-inherited",
    /// `exec --user` takes digits and nothing else (CVE-2026-30892).
    UserInDigits = "user-in-digits",
    /// Files of the host's own root belong to nobody inside, so the modes for others hold for root too.
    UnmappedOwners = "unmapped-owners",
    /// A tree that is cloned for a container stops being a peer of the host's mounts.
    NoPeers = "no-peers",
    /// State that somebody else can have written is not believed.
    StateOwner = "state-owner",
    /// What we make for ourselves is closed to other users, whatever the umask.
    ClosedToOthers = "closed-to-others",
    /// A pid file is a new one that takes the place of what was there: nothing of others is written through.
    PidFileIsNew = "pid-file-is-new",
    /// A file that commands sampand is one that nobody else could have written or replaced.
    TrustedFiles = "trusted-files",
    /// A lock is a file that others cannot open, and so not lock.
    LocksOutOfReach = "locks-out-of-reach",
}

/// Those of sampand alone: their attacks are in core/supervisor/tests/e2e/attack.rs.
pub const OF_SAMPAND: &[Defence] = &[Defence::TrustedFiles, Defence::LocksOutOfReach];

/// Is the defence in force?
#[cfg(not(feature = "weaken"))]
pub const fn on(_defence: Defence) -> bool {
    true
}

#[cfg(feature = "weaken")]
pub use switches::{on, weaken};

#[cfg(feature = "weaken")]
mod switches {
    use super::Defence;
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// One bit per defence that is off.
    static OFF: AtomicU64 = AtomicU64::new(0);

    /// Is the defence in force?
    pub fn on(defence: Defence) -> bool {
        OFF.load(Relaxed) >> defence as u32 & 1 == 0
    }

    /// Turns off the defences of a comma-separated list; false if one has no such name.
    pub fn weaken(names: &str) -> bool {
        names.split(',').filter(|name| !name.is_empty()).all(|name| {
            match Defence::ALL.iter().find(|defence| defence.name() == name) {
                Some(defence) => {
                    OFF.fetch_or(1 << *defence as u32, Relaxed);
                    true
                }
                None => false,
            }
        })
    }
}
