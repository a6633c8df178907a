//! Attacks on what keeps a container in, each made by a real container.
//!
//! ```text
//!                 sampan        the same without its defence     runc, crun
//!   an attack     must fail     must work                        told, not judged
//! ```
//! An attack that fails may have failed because it was badly made.  So each must work against a build (feature `weaken`)
//! in which the one defence against it is off: then it was the defence that stopped it.  `make attack` does all of that and
//! prints the table; `make test` runs the first column alone.  docs/security.md is written from the same rows.

mod descriptors;
mod dev;
mod docs;
mod exec;
mod host;
mod host_root;
mod proc;
mod propagation;
mod runtime;
mod special;
mod table;
mod targets;
mod terminal;
mod user;

use sampan_child::defence::Defence;

use runtime::Runtime;

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// Under which number or name the world knows it.
    pub known_as: &'static str,
    pub by: Adversary,
    /// What the attacker does, and what it would gain.
    pub tried: &'static str,
    pub defence: Defence,
    pub run: fn(&Runtime) -> Outcome,
}

/// Who attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adversary {
    /// Whoever wrote the image: its files, its links, its program and environment.
    Image,
    /// A process in a running container, also of a neighbour that shares a volume or namespace with it.
    Inside,
    /// Another user of the host, with files of his own.
    User,
    /// The caller's user of the host who passes on what somebody else wrote, such as a name given on the command line.
    Caller,
}

/// How an attack ended.
#[derive(Debug)]
pub enum Outcome {
    /// The attacker has nothing. In the runtime's words, if it had any.
    Repelled(String),
    /// What the attacker got.
    Worked(String),
    /// What the attack needs, and this runtime or machine lacks.
    Lacks(&'static str),
}
