#![forbid(unsafe_code)]
//! A plan as flat data: a header of words, the steps, then one table of text whose last byte is NUL.
//!
//! [`Image::check`] looks at every offset once, in the process that clones; after that the child may trust
//! each of them.  The bytes need no alignment and no relocation, so they travel in a memfd as they are.

use crate::step::{List, Propagation, Slot, Source, Step, Text};

/// `sampan` in little-endian letters, with the version of the form.
pub const MAGIC: u32 = 0x504d_5301;
pub const VERSION: u32 = 3;
/// Words in the header.
pub const HEADER: usize = 12;
/// Bytes of one step.
pub const STEP: usize = 32;
/// More is no container of this world, and would overflow the report.
pub const STEPS_MAX: u32 = 65_536;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// For clone3; CLONE_PIDFD and CLONE_CLEAR_SIGHAND are always added.
    pub clone_flags: u64,
    /// Where the directory of a v2 cgroup is, for CLONE_INTO_CGROUP.
    pub cgroup: Slot,
    /// Where reports are written to.
    pub report: Slot,
    /// A memfd of u64: when each step was done, in ns of CLOCK_MONOTONIC.
    pub trace: Slot,
    /// How many slots must be given.
    pub slots: u32,
    pub steps: u32,
    pub text: u32,
}

/// Why bytes are not an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TooShort,
    Magic,
    Version,
    Size,
    TextEnd,
    /// Step `.0` is unknown, or a field of it points outside.
    Step(u32),
    Slots,
}

/// A checked image.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    header: Header,
    steps: &'a [u8],
    text: &'a [u8],
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let at = index.checked_mul(4)?;
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

impl Header {
    pub fn encode(&self) -> [u32; HEADER] {
        [
            MAGIC,
            VERSION,
            self.clone_flags as u32,
            (self.clone_flags >> 32) as u32,
            self.cgroup.0,
            self.report.0,
            self.trace.0,
            self.slots,
            self.steps,
            self.text,
            0,
            0,
        ]
    }
}

impl<'a> Image<'a> {
    /// Checks everything that a child relies on.
    pub fn check(bytes: &'a [u8]) -> Result<Image<'a>, Fault> {
        let at = |index| word(bytes, index).ok_or(Fault::TooShort);
        if at(0)? != MAGIC {
            return Err(Fault::Magic);
        }
        if at(1)? != VERSION {
            return Err(Fault::Version);
        }
        let header = Header {
            clone_flags: u64::from(at(2)?) | u64::from(at(3)?) << 32,
            cgroup: Slot(at(4)?),
            report: Slot(at(5)?),
            trace: Slot(at(6)?),
            slots: at(7)?,
            steps: at(8)?,
            text: at(9)?,
        };
        if header.steps > STEPS_MAX {
            return Err(Fault::Size);
        }
        let start = HEADER * 4;
        let middle = start.checked_add((header.steps as usize).wrapping_mul(STEP)).ok_or(Fault::Size)?;
        let end = middle.checked_add(header.text as usize).ok_or(Fault::Size)?;
        let steps = bytes.get(start..middle).ok_or(Fault::Size)?;
        let text = bytes.get(middle..end).ok_or(Fault::Size)?;
        if text.last() != Some(&0) {
            return Err(Fault::TextEnd);
        }
        let image = Image { header, steps, text };
        let optional = [header.cgroup, header.trace, header.report];
        if optional.iter().any(|s| *s != Slot::NONE && s.0 >= header.slots) {
            return Err(Fault::Slots);
        }
        let mut index = 0;
        while index < header.steps {
            match image.step(index) {
                Some(step) if image.holds(step) => {}
                _ => return Err(Fault::Step(index)),
            }
            index = index.wrapping_add(1);
        }
        Ok(image)
    }

    pub fn header(&self) -> Header {
        self.header
    }

    pub fn step(&self, index: u32) -> Option<Step> {
        let at = (index as usize).checked_mul(STEP)?;
        let bytes = self.steps.get(at..at.checked_add(STEP)?)?;
        let mut words = [0u32; 8];
        let mut n = 0;
        for place in &mut words {
            *place = word(bytes, n)?;
            n = n.wrapping_add(1);
        }
        Step::decode(words)
    }

    /// The text from `text` on, with its NUL and all that follows it.
    pub fn tail(&self, text: Text) -> &'a [u8] {
        self.text.get(text.0 as usize..).unwrap_or(&[])
    }

    /// One string, with its NUL.
    pub fn str(&self, text: Text) -> &'a [u8] {
        let tail = self.tail(text);
        let length = tail.iter().position(|b| *b == 0).map_or(0, |n| n.wrapping_add(1));
        tail.get(..length).unwrap_or(&[])
    }

    /// The strings of a list, each with its NUL.
    pub fn list(&self, list: List) -> Strings<'a> {
        Strings { rest: self.tail(list.first), left: list.count }
    }

    fn holds(&self, step: Step) -> bool {
        let text = |t: Text| (t.0 as usize) < self.text.len();
        let slot = |s: Slot| s.0 < self.header.slots;
        let slot_or_none = |s: Slot| s == Slot::NONE || slot(s);
        let list = |l: List| l.count == 0 || (text(l.first) && self.list(l).count() == l.count as usize);
        let source = |s: Source| match s {
            Source::Path(t) => text(t),
            Source::Tree(s) => slot(s),
        };
        let of_host = |p: Propagation| matches!(p, Propagation::RSlave | Propagation::RPrivate);
        match step {
            Step::Enter { ns, back, .. } => slot(ns) && (back == Slot::STAY || slot_or_none(back)),
            Step::Wait { from } => slot(from),
            Step::Setns { ns, .. } => slot(ns),
            Step::TimeOffsets { lines } => list(lines),
            Step::JoinCgroup { tasks } => text(tasks),
            Step::Root { from, host } => source(from) && of_host(host),
            Step::Scratch { from, host, data, .. } => source(from) && of_host(host) && list(data),
            Step::Mount { kind, target, data, .. } => text(kind) && text(target) && list(data),
            Step::Bind { from, target, .. } => source(from) && text(target),
            Step::Attributes { target, .. } => text(target),
            Step::Node { path, .. } => text(path),
            Step::Link { path, to, .. } => text(path) && text(to),
            Step::Mask { path } | Step::ReadOnly { path } => text(path),
            Step::Console { to, .. } => slot(to),
            Step::Hook { argv, env, state, output, .. } => {
                slot(output)
                    && argv.count > 0
                    && list(argv)
                    && list(env)
                    && list(List { first: state, count: 2 })
            }
            Step::Sysctl { path, value } => text(path) && text(value),
            Step::Hostname { name } | Step::Domainname { name } | Step::Keyring { name } => text(name),
            Step::Stdio { from, .. } => slot(from),
            Step::User { groups, .. } => {
                // Groups are words in the text, not strings.
                groups.count == 0
                    || (groups.first.0 as usize)
                        .checked_add((groups.count as usize).wrapping_mul(4))
                        .is_some_and(|end| end <= self.text.len())
            }
            Step::Cwd { path, .. } | Step::Folder { path } => text(path),
            Step::Seccomp { program, insns, .. } | Step::HookFilter { program, insns, .. } => {
                insns <= 4_096
                    && (program.0 as usize)
                        .checked_add((insns as usize).wrapping_mul(8))
                        .is_some_and(|end| end <= self.text.len())
            }
            Step::Find { candidates } => list(candidates),
            Step::Exec { argv, env } => list(argv) && list(env),
            Step::Signals {}
            | Step::Reached { .. }
            | Step::Unshare { .. }
            | Step::BecomeRoot { .. }
            | Step::OpenDev {}
            | Step::Propagate { .. }
            | Step::Pivot {}
            | Step::RootAttributes { .. }
            | Step::Loopback {}
            | Step::Session {}
            | Step::Rlimit { .. }
            | Step::Umask { .. }
            | Step::BoundingSet { .. }
            | Step::Caps { .. }
            | Step::Ambient { .. }
            | Step::NoNewPrivs {}
            | Step::Personality { .. }
            | Step::CloseOnExec { .. }
            | Step::Undumpable {}
            | Step::Scheduler { .. }
            | Step::IoPriority { .. }
            | Step::AllCpus {}
            | Step::ProcessGroup {}
            | Step::Nice { .. }
            | Step::OwnStdio { .. }
            | Step::Home { .. }
            | Step::CloseOthers { .. } => true,
        }
    }
}

/// Strings one after the other, each with its NUL.
#[derive(Clone, Copy, Debug)]
pub struct Strings<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let length = self.rest.iter().position(|b| *b == 0)?.wrapping_add(1);
        let (one, rest) = (self.rest.get(..length)?, self.rest.get(length..)?);
        self.left = self.left.wrapping_sub(1);
        self.rest = rest;
        Some(one)
    }
}
