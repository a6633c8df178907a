//! Forwarding, for our networks alone: turned on where it is off, and off again where nobody else has come to want it.
//!
//! `ip_forward` is never written, so it goes on saying whether somebody else wants a router. Once it says so, nothing here is ours
//! any more: every interface forwards for whoever wrote it. An interface that forwards because of us is `guarded`: what comes in by
//! it reaches our bridges and nothing else. What cannot be seen: that somebody turns on one single interface which we had turned on.

use super::{Engine, Result, text};
use crate::forwarding::{self, Forwarding};
use crate::link::{self, Link};

impl Engine {
    fn needs_forwarding(&self) -> bool {
        self.networks_in_use().any(|(name, _)| !self.is_internal(name))
    }

    /// At a start: what has to be seen to later is told by the kernel (guard.rs).
    pub(super) fn forward(&mut self) -> Result<()> {
        if self.kernel()?.router.is_some() { Ok(()) } else { self.see_to_forwarding() }
    }

    /// Makes forwarding as our networks need it; may be called at any time.
    pub fn see_to_forwarding(&mut self) -> Result<()> {
        if self.kernel.is_none() || !self.needs_forwarding() {
            return Ok(());
        }
        let bridges = self.bridges_with_a_way_out();
        let kernel = self.kernel()?;
        let now = forwarding::read(&mut kernel.host).map_err(text)?;
        let mut links = link::all(&mut kernel.host).map_err(text)?;
        links.retain(|link| now.interfaces.get(&link.index) == Some(&false));
        let may_bring_packets = |link: &&Link| !link.loopback && !link.is_ours() && link.master == 0;
        let mut guarded = kernel.guarded.v4.clone();
        guarded.retain(|index| now.interfaces.contains_key(index));
        if is_taken_over(kernel.router, &now) {
            guarded.clear();
        }
        guarded.extend(links.iter().filter(may_bring_packets).map(|link| link.index));
        (kernel.router, kernel.guarded.v4) = (Some(now.all), guarded);
        // The guard first: there is no moment at which others are forwarded. Rules that are there already cost nothing.
        self.program()?;
        for link in links.iter().filter(|link| may_bring_packets(link) || bridges.contains(&link.name)) {
            self.set_forwarding_of(link, true)?;
        }
        self.see_to_forwarding6()
    }

    /// When no network needs it: as it was, unless somebody else wants it by now.
    pub(super) fn stop_forwarding(&mut self) {
        self.stop_forwarding6();
        if self.needs_forwarding() {
            return;
        }
        let Some(kernel) = self.kernel.as_mut() else { return };
        let guarded = std::mem::take(&mut kernel.guarded.v4);
        let router = kernel.router.take();
        let links = match forwarding::read(&mut kernel.host) {
            _ if guarded.is_empty() => return,
            Ok(now) if is_taken_over(router, &now) => return,
            Ok(_) => link::all(&mut kernel.host),
            Err(e) => Err(e),
        };
        let stopped = links.map_err(text).and_then(|links| {
            links
                .iter()
                .filter(|l| guarded.contains(&l.index))
                .try_for_each(|l| self.set_forwarding_of(l, false))
        });
        if let Err(e) = stopped {
            tracing::warn!("some interfaces may still forward: {e}");
        }
    }

    /// By name.
    pub(super) fn guarded_interfaces(&mut self) -> Vec<String> {
        let Some(kernel) = self.kernel.as_mut().filter(|kernel| !kernel.guarded.v4.is_empty()) else {
            return Vec::new();
        };
        let links = link::all(&mut kernel.host).unwrap_or_default();
        links.into_iter().filter(|l| kernel.guarded.v4.contains(&l.index)).map(|l| l.name).collect()
    }

    /// An interface that went meanwhile is as wanted.
    fn set_forwarding_of(&mut self, link: &Link, on: bool) -> Result<()> {
        let Err(e) = forwarding::set(&link.name, on) else { return Ok(()) };
        match link::link_at(&mut self.kernel()?.host, link.index) {
            Ok(Some(now)) if now.name == link.name => Err(text(e)),
            _ => Ok(()),
        }
    }
}

/// ip_forward was turned on since we last looked, which turned on every interface. Where neither we nor an earlier life of ours saw it
/// on, what that one turned on counts as theirs, too.
fn is_taken_over(router: Option<bool>, now: &Forwarding) -> bool {
    now.all && router != Some(true)
}
