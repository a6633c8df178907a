//! `make sabotage`: in a test build one invariant is broken, and a test must notice. As in core/service/src/sabotage.rs, which a
//! plugin, which sees nothing but the SDK, cannot use.

/// What can be broken. The word is that of `SAMPAN_SABOTAGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// A line loses its last byte.
    DroppedByte,
}

impl Invariant {
    #[cfg(feature = "sabotage")]
    fn word(self) -> &'static str {
        match self {
            Invariant::DroppedByte => "dropped-byte",
        }
    }
}

#[cfg(not(feature = "sabotage"))]
pub const fn broken(_: Invariant) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub fn broken(what: Invariant) -> bool {
    static ASKED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    // A test's own switch, absent from every other build: it is asked for once and is the same for the whole process.
    ASKED.get_or_init(|| std::env::var("SAMPAN_SABOTAGE").ok()).as_deref() == Some(what.word())
}
