//! Places to die, for tests: with `SAMPAN_CRASH_AT=N` the first worker of a debug build kills itself at the N-th
//! step boundary it comes to (a request to the keel, an answer, a record in the journal, a saved file). A test that
//! counts N up from 1 until no worker dies has killed one at every boundary of its scenario. In release builds
//! nothing of this exists. `SAMPAN_CRASH_KEEL_AT=N` does the same to the keel.

/// A boundary. The name is for whoever reads the test's output.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn keel_point(_name: &str) {}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn spare() {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    static SPARED: AtomicBool = AtomicBool::new(false);
    static COUNT: AtomicU64 = AtomicU64::new(0);

    pub fn point(name: &str) {
        static AT: OnceLock<Option<u64>> = OnceLock::new();
        if !SPARED.load(Ordering::Relaxed) {
            count(name, &COUNT, *AT.get_or_init(|| number("SAMPAN_CRASH_AT")));
        }
    }

    /// In the keel, which has no predecessor that could have died.
    pub fn keel_point(name: &str) {
        static AT: OnceLock<Option<u64>> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        count(name, &COUNT, *AT.get_or_init(|| number("SAMPAN_CRASH_KEEL_AT")));
    }

    fn number(variable: &str) -> Option<u64> {
        std::env::var(variable).ok()?.parse().ok()
    }

    fn count(name: &str, count: &AtomicU64, at: Option<u64>) {
        let Some(at) = at else { return };
        if count.fetch_add(1, Ordering::Relaxed) + 1 == at {
            let line = format!("sampand: crash point {at}: {name}\n");
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    /// This worker lives: it has a predecessor that died.
    pub fn spare() {
        SPARED.store(true, Ordering::Relaxed);
    }
}

#[cfg(debug_assertions)]
pub use armed::{keel_point, point, spare};
