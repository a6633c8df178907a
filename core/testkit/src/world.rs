//! Worlds: what a launch finds, and which of its mounts could be seen by others.
//!
//! `SAMPAN_WORLD` names the world that the tests of a process run in.  A test gets a mount namespace of its own, and its
//! [`Bundle`](crate::Bundle) checks at its end that nothing was left in there.  Without the variable a test runs on the machine
//! as it is, where others mount too and nothing can be said of that.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

pub const VARIABLE: &str = "SAMPAN_WORLD";

/// Two choices: is `/` shared, as systemd has it on every host, and has the container a user namespace?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    pub shared: bool,
    pub user_namespace: bool,
}

impl World {
    pub const ALL: [World; 4] = [
        World { shared: false, user_namespace: false },
        World { shared: false, user_namespace: true },
        World { shared: true, user_namespace: false },
        World { shared: true, user_namespace: true },
    ];

    /// The one that this process's tests are to run in.
    pub fn asked() -> Option<World> {
        let name = std::env::var(VARIABLE).ok()?;
        let known = World::ALL.into_iter().find(|world| world.to_string() == name);
        Some(known.unwrap_or_else(|| panic!("{VARIABLE}: no world is called {name:?}")))
    }

    /// The calling thread, and what it starts, has a mount namespace of its own from now on. Nothing mounted in it reaches the
    /// machine, and the second call on a thread changes nothing.
    pub fn enter(self) -> io::Result<()> {
        thread_local!(static ENTERED: Cell<bool> = const { Cell::new(false) });
        if ENTERED.replace(true) {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNS)?;
        propagate(MsFlags::MS_PRIVATE)?;
        forget_other_tests()?;
        if self.shared {
            propagate(MsFlags::MS_SHARED)?;
        }
        Ok(())
    }
}

/// As `SAMPAN_WORLD` spells it.
impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = if self.shared { "shared" } else { "private" };
        let user = if self.user_namespace { "-user-namespace" } else { "" };
        write!(f, "{root}{user}")
    }
}

/// What other tests have mounted would go at any moment: with its mount point, which a removal in any namespace takes.
fn forget_other_tests() -> io::Result<()> {
    let theirs = std::env::temp_dir();
    for at in mountinfo()?.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(Path::new) {
        if at.starts_with(&theirs) && at != theirs {
            // The name may have been removed since it was read, and the mount with it.
            let _ = umount2(at, MntFlags::MNT_DETACH);
        }
    }
    Ok(())
}

fn propagate(kind: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>)
}

/// The mounts that the calling thread sees.
pub fn mountinfo() -> io::Result<String> {
    std::fs::read_to_string("/proc/thread-self/mountinfo")
}
