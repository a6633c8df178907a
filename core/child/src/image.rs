#![forbid(unsafe_code)]
//! A plan as flat data: a header of words, the steps, then one table of text whose last byte is NUL.
//!
//! [`Image::check`] looks at every offset once, in the process that clones; after that the child may trust
//! each of them.  The bytes need no alignment and no relocation, so they travel in a memfd as they are.

use crate::step::{Bounds, Filter, List, Numbers, Propagation, Slot, Step, Text};
use crate::sys::uapi;

/// `sampan` in little-endian letters, with the version of the form.
pub const MAGIC: u32 = 0x504d_5301;
pub const VERSION: u32 = 3;
/// Words in the header.
pub const HEADER: usize = 12;
/// Bytes of one step.
pub const STEP: usize = 32;
/// Far more than any config needs, and as many as a report can count.
pub const STEPS_MAX: u32 = 65_536;

/// What an image may ask of clone3: anything else (shared memory, a parent of its choice) would break what the spawner
/// relies on.
const NAMESPACES: u64 = (uapi::CLONE_NEWNS
    | uapi::CLONE_NEWCGROUP
    | uapi::CLONE_NEWUTS
    | uapi::CLONE_NEWIPC
    | uapi::CLONE_NEWUSER
    | uapi::CLONE_NEWPID
    | uapi::CLONE_NEWNET
    | uapi::CLONE_NEWTIME) as u64;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// CLONE_NEW* for clone3; CLONE_PIDFD and CLONE_CLEAR_SIGHAND are always added.
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
    /// Something else than new namespaces is asked of clone3.
    CloneFlags,
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
        if header.clone_flags & !NAMESPACES != 0 {
            return Err(Fault::CloneFlags);
        }
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

    /// How long the spawner waits for the child in which the process goes on; None: it goes on itself.
    pub fn goes_on_in_child(&self) -> Option<u32> {
        (0..self.header.steps).find_map(|index| match self.step(index) {
            Some(Step::GoOnInChild { wait_ms }) => Some(wait_ms),
            _ => None,
        })
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

    /// A filter's instructions, eight bytes each; none: there is no filter.
    pub fn instructions(&self, filter: Filter) -> &'a [u8] {
        self.tail(filter.program).get(..(filter.insns as usize).wrapping_mul(8)).unwrap_or(&[])
    }

    /// The numbers of a list.
    pub fn numbers(&self, numbers: Numbers) -> impl Iterator<Item = u32> + Clone {
        let bytes = self.tail(numbers.first).get(..(numbers.count as usize).wrapping_mul(4)).unwrap_or(&[]);
        bytes.chunks_exact(4).filter_map(|four| Some(u32::from_ne_bytes(four.try_into().ok()?)))
    }

    fn holds(&self, step: Step) -> bool {
        let bounds = Bounds { text: self.text, slots: self.header.slots };
        let whole = match step {
            // The path is the first of its arguments; the state is two strings.
            Step::Hook { argv, state, .. } => {
                argv.count > 0 && self.list(List { first: state, count: 2 }).count() == 2
            }
            // What is cloned of the host's tree must not stay its peer.
            Step::Root { host, .. } | Step::Scratch { host, .. } | Step::EmptyRoot { host, .. } => {
                matches!(host, Propagation::RSlave | Propagation::RPrivate)
            }
            _ => true,
        };
        whole && step.within(&bounds)
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
