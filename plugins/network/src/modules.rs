//! Kernel modules that are not loaded yet. The kernel loads them when they are first asked for, which takes a while on a host that has
//! just booted; and where it cannot do so itself, somebody else may be about to.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::netlink::{Error, Result};

/// For how long they are waited for, all requests taken together.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// Who waits tries again at this distance.
pub const AGAIN_AFTER: Duration = Duration::from_millis(100);

const NAMES: &str =
    "bridge veth nf_tables nf_nat nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet nf_conntrack_netlink";

/// Whether the kernel has what we need, as far as we were told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modules {
    known: Known,
    misses: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum Known {
    #[default]
    Nothing,
    MissingSince(Instant),
    /// A container has been attached.
    AllThere,
}

impl Modules {
    /// Reads from what came of a step whether the kernel lacks something.
    pub fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|e| {
            if !is_missing(e.errno) {
                return e;
            }
            self.misses += 1;
            if !matches!(self.known, Known::MissingSince(_)) {
                self.known = Known::MissingSince(Instant::now());
            }
            explain(e)
        })
    }

    pub fn are_proven(&mut self) {
        self.known = Known::AllThere;
    }

    /// How often something was missing.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// For how long a request may still wait. Where one has waited in vain no other does, until all is there.
    pub fn patience(&self) -> Duration {
        match self.known {
            Known::Nothing => WAIT_MAX,
            Known::MissingSince(since) => WAIT_MAX.saturating_sub(since.elapsed()),
            Known::AllThere => Duration::ZERO,
        }
    }
}

/// An unknown kind of link, an unknown protocol of netlink, an unknown chain or expression of nf_tables.
fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::ENOENT)
}

fn explain(mut e: Error) -> Error {
    let said = e.said.map(|said| format!("{said}; ")).unwrap_or_default();
    e.said = Some(format!("{said}is a kernel module missing? modprobe -a {NAMES}"));
    e
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::failed;

    fn unknown() -> Error {
        Error {
            said: Some("Unknown device type".into()),
            ..failed("cannot make bridge sp-x", Errno::EOPNOTSUPP)
        }
    }

    fn after(outcomes: impl IntoIterator<Item = Result<()>>) -> Modules {
        let mut modules = Modules::default();
        outcomes.into_iter().for_each(|outcome| drop(modules.note(outcome)));
        modules
    }

    #[test]
    fn what_is_missing_is_waited_for_once_until_all_is_there() {
        let refused = || failed("cannot make bridge sp-x", Errno::EPERM);
        assert_eq!(after([Ok(()), Err(refused())]).patience(), WAIT_MAX);
        assert_eq!(after([Ok(()), Err(refused())]).misses(), 0);
        let mut modules = after([Err(unknown()), Ok(()), Err(unknown())]);
        assert!(modules.patience() < WAIT_MAX && modules.patience() > WAIT_MAX / 2);
        assert_eq!(modules.misses(), 2);
        modules.known = Known::MissingSince(Instant::now().checked_sub(WAIT_MAX).unwrap());
        let _ = modules.note::<()>(Err(unknown()));
        assert_eq!(modules.patience(), Duration::ZERO, "the time of the first counts for all");
        modules.are_proven();
        assert_eq!(modules.patience(), Duration::ZERO, "nothing to wait for");
        let _ = modules.note::<()>(Err(unknown()));
        assert!(modules.patience() > WAIT_MAX / 2, "taken out again");
    }

    #[test]
    fn what_is_missing_is_an_error_that_names_the_modules() {
        let said = Modules::default().note::<()>(Err(unknown())).unwrap_err().to_string();
        let begin = "cannot make bridge sp-x: Operation not supported on transport endpoint (kernel: Unknown device type; \
                     is a kernel module missing? modprobe -a bridge veth ";
        assert!(said.starts_with(begin), "{said}");
    }
}
