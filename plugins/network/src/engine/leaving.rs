//! Links that are to go, in two steps.
//!
//! ```text
//!   leave         noted: no request to the kernel
//!   doom_leaving  cut off and marked, all in one batch         (before anything is attached, and by the guard)
//!   sweep         removed, all in one request                  (by the guard, and at the end)
//! ```
//! Each request about a link takes the one lock that the kernel has for all links, and while many services end, the kernel itself
//! needs it for their namespaces. By the time of the batch it has removed most of these links by itself. What is noted is not
//! written down: after a crash, a link whose service holds no address is a stray.

use super::Engine;
use crate::link;

impl Engine {
    /// Its service or network is gone, or has another one now.
    pub(super) fn leave(&mut self, link: String) {
        let Some(kernel) = self.kernel.as_mut() else { return };
        kernel.bridges.remove(&link);
        kernel.leaving.insert(link);
        self.chores.sweep = true;
    }

    /// After this none of them answers for an address, and whoever needs the name of one makes it anew, or rescues it.
    pub fn doom_leaving(&mut self) {
        let Some(kernel) = self.kernel.as_mut().filter(|kernel| !kernel.leaving.is_empty()) else { return };
        let leaving: Vec<String> = std::mem::take(&mut kernel.leaving).into_iter().collect();
        for refused in link::doom(&mut kernel.host, &leaving) {
            tracing::warn!("{refused}");
        }
    }

    /// Removes what is to go now. Blocks for 20 ms or more.
    pub fn sweep(&mut self) {
        self.doom_leaving();
        if let Some(kernel) = self.kernel.as_mut()
            && let Err(e) = link::remove_doomed(&mut kernel.host)
        {
            tracing::warn!("{e}");
        }
    }
}
