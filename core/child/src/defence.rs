#![forbid(unsafe_code)]
//! Switches that turn one defence off, so that a test can prove that its attack works without it.
//!
//! Only the feature `weaken` makes them switches; in every other build [`on`] is the constant `true` and the
//! branches around it are gone.  `make attack` builds with the feature and names a defence in
//! `SAMPAN_WEAKEN`; the programs read that variable once, before they clone anybody.

macro_rules! defences {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One defence against a known class of attack (docs/security.md).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Defence { $($(#[$doc])* $name,)* }

        impl Defence {
            pub const ALL: &[Defence] = &[$(Defence::$name,)*];

            /// As `SAMPAN_WEAKEN` spells it.
            pub fn name(self) -> &'static str {
                match self { $(Defence::$name => $text,)* }
            }
        }
    };
}

defences! {
    /// No descriptor of the host is open when the container can influence a lookup (CVE-2024-21626).
    CloseBeforeLookup = "close-before-lookup",
    /// The working directory is looked up below the container's root.
    CwdInRoot = "cwd-in-root",
}

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
