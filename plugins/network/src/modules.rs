//! Kernel modules that are not loaded yet. The kernel loads them when they are first asked for, which takes a while on a host that has
//! just booted; and where it cannot do so itself, somebody else may be about to.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::netlink::{Error, Result};

/// For how long a first start waits for them.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
const AGAIN_AFTER: Duration = Duration::from_millis(100);

const NAMES: &str =
    "bridge veth nf_tables nf_nat nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet nf_conntrack_netlink";

/// Does `step` again until the kernel knows what it is asked for, or `WAIT_MAX` has passed since `begin`.
pub fn wait<T>(begin: Instant, mut step: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match step() {
            Err(e) if is_missing(e.errno) => {
                if begin.elapsed() >= WAIT_MAX {
                    return Err(explain(e));
                }
                sleep(AGAIN_AFTER);
            }
            done => return done,
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

    #[test]
    fn what_the_kernel_learns_meanwhile_is_waited_for() {
        let mut tries = 0;
        let done = wait(Instant::now(), || {
            tries += 1;
            if tries < 3 { Err(unknown()) } else { Ok(tries) }
        });
        assert_eq!(done.unwrap(), 3);
    }

    #[test]
    fn what_it_refuses_is_not() {
        let mut tries = 0;
        let refused: Result<()> = wait(Instant::now(), || {
            tries += 1;
            Err(failed("cannot make bridge sp-x", Errno::EPERM))
        });
        assert_eq!((refused.unwrap_err().errno, tries), (Errno::EPERM, 1));
    }

    #[test]
    fn what_it_never_learns_is_an_error_that_names_the_modules() {
        let long_ago = Instant::now().checked_sub(WAIT_MAX).unwrap();
        let said = wait::<()>(long_ago, || Err(unknown())).unwrap_err().to_string();
        let begin = "cannot make bridge sp-x: Operation not supported on transport endpoint (kernel: Unknown device type; \
                     is a kernel module missing? modprobe -a bridge veth ";
        assert!(said.starts_with(begin), "{said}");
    }
}
