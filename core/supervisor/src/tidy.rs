//! Memory goes back to the kernel when a burst is over: what was freed, and the pages of our own program.
//!
//! A start of a hundred services, or reading the config, needs megabytes for a moment, and glibc keeps them; its code are
//! megabytes too, which stay mapped. Once nothing was launched for [`QUIET`] they are let go, once: an idle sampand is not woken
//! for it.
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Tidy(Rc<Waits>);

#[derive(Debug, Default)]
struct Waits {
    armed: Cell<bool>,
    stirred: Cell<bool>,
}

impl Tidy {
    /// Something is launched: tidy up some time after the last one.
    pub fn soon(&self) {
        let waits = self.0.clone();
        waits.stirred.set(true);
        if waits.armed.replace(true) {
            return;
        }
        tokio::task::spawn_local(async move {
            while waits.stirred.replace(false) {
                tokio::time::sleep(QUIET).await;
            }
            waits.armed.set(false);
            crate::fence::trim_heap();
            sampan_keel::trim_program();
        });
    }
}
