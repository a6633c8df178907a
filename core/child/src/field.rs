#![forbid(unsafe_code)]
//! What the fields of a step are: text, descriptors, sources, propagation; and how each becomes words and is checked.

use crate::sys::uapi;

/// Offset of a NUL-terminated string in the image's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Text(pub u32);

/// Index into the descriptors handed over with the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Slot(pub u32);

impl Slot {
    /// In a header, for an optional slot that is not there.
    pub const NONE: Slot = Slot(u32::MAX);
}

/// How the spawner leaves a namespace that it entered before clone3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// Through its own namespace of that kind.
    Slot(Slot),
    /// By its own pidfd: of the pid namespace only that of its children changed.
    ByPidfd,
}

/// `count` strings, one after the other from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct List {
    pub first: Text,
    pub count: u32,
}

/// `count` numbers of four bytes in the text, one after the other from `first` on, at any alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Numbers {
    pub first: Text,
    pub count: u32,
}

/// A seccomp filter: `insns` instructions of eight bytes each, in the text at `program`; 0: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    pub program: Text,
    pub insns: u32,
    /// SECCOMP_FILTER_FLAG_* of the kernel.
    pub flags: u32,
}

impl Filter {
    /// What the kernel takes: BPF_MAXINSNS.
    pub const INSNS_MAX: u32 = 4_096;
}

/// What a hook in the container has for its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    Own(List),
    /// The process's, with the HOME that was found for it.
    OfProcess(List),
}

impl Environment {
    pub fn list(self) -> List {
        match self {
            Environment::Own(list) | Environment::OfProcess(list) => list,
        }
    }
}

/// Where a mount is cloned from: a path of the host, cloned when the host's mounts are no peers any more (`Root.host`); or a
/// detached tree that the parent opened, with the propagation that its slot names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Path(Text),
    Tree(Slot),
    /// A path inside the container's root, as it is by then: with what earlier steps mounted there.
    Inside(Text),
}

/// What a mount exchanges with the others of its peer group (mount_namespaces(7)): the eight options of config.md.
/// With an `R`, the mounts below it do the same.
///
/// A clone starts as a peer of what it was cloned from, and what is mounted in it would appear there too.  So every step and
/// every slot that clones the host's mounts says what becomes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    RPrivate,
    Slave,
    RSlave,
    Shared,
    RShared,
    Unbindable,
    RUnbindable,
}

impl Propagation {
    /// Each with its name in config.json.
    pub const ALL: [(&'static str, Propagation); 8] = [
        ("private", Propagation::Private),
        ("rprivate", Propagation::RPrivate),
        ("slave", Propagation::Slave),
        ("rslave", Propagation::RSlave),
        ("shared", Propagation::Shared),
        ("rshared", Propagation::RShared),
        ("unbindable", Propagation::Unbindable),
        ("runbindable", Propagation::RUnbindable),
    ];

    pub fn named(name: &str) -> Option<Propagation> {
        Propagation::ALL.iter().find(|(known, _)| *known == name).map(|(_, propagation)| *propagation)
    }

    pub fn name(self) -> &'static str {
        Propagation::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| *name)
    }

    /// The kernel's bit for it.
    pub fn bit(self) -> u32 {
        match self {
            Propagation::Private | Propagation::RPrivate => uapi::MS_PRIVATE,
            Propagation::Slave | Propagation::RSlave => uapi::MS_SLAVE,
            Propagation::Shared | Propagation::RShared => uapi::MS_SHARED,
            Propagation::Unbindable | Propagation::RUnbindable => uapi::MS_UNBINDABLE,
        }
    }

    pub fn is_recursive(self) -> bool {
        use Propagation::*;
        matches!(self, RPrivate | RSlave | RShared | RUnbindable)
    }

    pub fn is_shared(self) -> bool {
        self.bit() == uapi::MS_SHARED
    }
}

/// What a path is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The container's root.
    Root,
    /// The file system mounted on its /dev.
    Dev,
}

/// What a field may point into: the image's text, and how many slots come with it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    pub text: &'a [u8],
    pub slots: u32,
}

impl Bounds<'_> {
    fn string(&self, at: Text) -> bool {
        (at.0 as usize) < self.text.len()
    }
    fn bytes(&self, first: Text, count: u32, size: usize) -> bool {
        let end = (count as usize).checked_mul(size).and_then(|n| n.checked_add(first.0 as usize));
        end.is_some_and(|end| end <= self.text.len())
    }
    fn strings(&self, list: List) -> bool {
        let rest = self.text.get(list.first.0 as usize..).unwrap_or(&[]);
        list.count == 0
            || rest.iter().filter(|byte| **byte == 0).take(list.count as usize).count() == list.count as usize
    }
}

/// A field of a step, as words.
pub(crate) trait Word: Sized + Copy {
    fn put(self, to: &mut Writer);
    fn take(from: &mut Reader) -> Option<Self>;
    /// Does it point at nothing outside of the image?
    fn within(self, _bounds: &Bounds<'_>) -> bool {
        true
    }
    /// The slot that it stands for, if it is one.
    fn slot(self) -> Option<Slot> {
        None
    }
}

pub(crate) struct Writer {
    pub words: [u32; 8],
    pub at: usize,
}
impl Writer {
    fn word(&mut self, w: u32) {
        if let Some(place) = self.words.get_mut(self.at) {
            *place = w;
        }
        self.at = self.at.wrapping_add(1);
    }
}

pub(crate) struct Reader {
    pub words: [u32; 8],
    pub at: usize,
}
impl Reader {
    fn word(&mut self) -> Option<u32> {
        let w = self.words.get(self.at).copied();
        self.at = self.at.wrapping_add(1);
        w
    }
}

impl Word for u32 {
    fn put(self, to: &mut Writer) {
        to.word(self);
    }
    fn take(from: &mut Reader) -> Option<u32> {
        from.word()
    }
}
impl Word for u64 {
    fn put(self, to: &mut Writer) {
        to.word(self as u32);
        to.word((self >> 32) as u32);
    }
    fn take(from: &mut Reader) -> Option<u64> {
        let low = from.word()?;
        Some(u64::from(low) | u64::from(from.word()?) << 32)
    }
}
impl Word for Text {
    fn put(self, to: &mut Writer) {
        to.word(self.0);
    }
    fn take(from: &mut Reader) -> Option<Text> {
        from.word().map(Text)
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        bounds.string(self)
    }
}
impl Word for Slot {
    fn put(self, to: &mut Writer) {
        to.word(self.0);
    }
    fn take(from: &mut Reader) -> Option<Slot> {
        from.word().map(Slot)
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        self.0 < bounds.slots
    }
    fn slot(self) -> Option<Slot> {
        Some(self)
    }
}
impl Word for List {
    fn put(self, to: &mut Writer) {
        self.first.put(to);
        to.word(self.count);
    }
    fn take(from: &mut Reader) -> Option<List> {
        Some(List { first: Text::take(from)?, count: from.word()? })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        bounds.strings(self)
    }
}
impl Word for Numbers {
    fn put(self, to: &mut Writer) {
        self.first.put(to);
        to.word(self.count);
    }
    fn take(from: &mut Reader) -> Option<Numbers> {
        Some(Numbers { first: Text::take(from)?, count: from.word()? })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        bounds.bytes(self.first, self.count, 4)
    }
}
impl Word for Filter {
    fn put(self, to: &mut Writer) {
        self.program.put(to);
        to.word(self.insns);
        to.word(self.flags);
    }
    fn take(from: &mut Reader) -> Option<Filter> {
        Some(Filter { program: Text::take(from)?, insns: from.word()?, flags: from.word()? })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        self.insns <= Filter::INSNS_MAX && bounds.bytes(self.program, self.insns, 8)
    }
}
impl Word for Back {
    fn put(self, to: &mut Writer) {
        to.word(match self {
            Back::ByPidfd => u32::MAX,
            Back::Slot(slot) => slot.0,
        });
    }
    fn take(from: &mut Reader) -> Option<Back> {
        Some(match from.word()? {
            u32::MAX => Back::ByPidfd,
            word => Back::Slot(Slot(word)),
        })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        self.slot().is_none_or(|slot| slot.within(bounds))
    }
    fn slot(self) -> Option<Slot> {
        match self {
            Back::Slot(slot) => Some(slot),
            Back::ByPidfd => None,
        }
    }
}
const OF_PROCESS: u32 = 1 << 31;
impl Word for Environment {
    fn put(self, to: &mut Writer) {
        let List { first, count } = self.list();
        let whose = if matches!(self, Environment::OfProcess(_)) { OF_PROCESS } else { 0 };
        List { first, count: count | whose }.put(to);
    }
    fn take(from: &mut Reader) -> Option<Environment> {
        let List { first, count } = List::take(from)?;
        let list = List { first, count: count & !OF_PROCESS };
        Some(if count & OF_PROCESS == 0 { Environment::Own(list) } else { Environment::OfProcess(list) })
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        self.list().within(bounds)
    }
}
/// The two highest bits say which: neither a text nor a list of slots gets that long.
const IS_SLOT: u32 = 1 << 31;
const IS_INSIDE: u32 = 1 << 30;
impl Word for Source {
    fn put(self, to: &mut Writer) {
        to.word(match self {
            Source::Path(text) => text.0,
            Source::Tree(slot) => slot.0 | IS_SLOT,
            Source::Inside(text) => text.0 | IS_INSIDE,
        });
    }
    fn take(from: &mut Reader) -> Option<Source> {
        let word = from.word()?;
        let value = word & !(IS_SLOT | IS_INSIDE);
        match word & (IS_SLOT | IS_INSIDE) {
            0 => Some(Source::Path(Text(value))),
            IS_SLOT => Some(Source::Tree(Slot(value))),
            IS_INSIDE => Some(Source::Inside(Text(value))),
            _ => None,
        }
    }
    fn within(self, bounds: &Bounds<'_>) -> bool {
        match self {
            Source::Path(text) | Source::Inside(text) => text.within(bounds),
            Source::Tree(slot) => slot.within(bounds),
        }
    }
    fn slot(self) -> Option<Slot> {
        match self {
            Source::Path(_) | Source::Inside(_) => None,
            Source::Tree(slot) => Some(slot),
        }
    }
}
impl Word for Base {
    fn put(self, to: &mut Writer) {
        to.word(match self {
            Base::Root => 0,
            Base::Dev => 1,
        });
    }
    fn take(from: &mut Reader) -> Option<Base> {
        match from.word()? {
            0 => Some(Base::Root),
            1 => Some(Base::Dev),
            _ => None,
        }
    }
}
impl Word for Propagation {
    fn put(self, to: &mut Writer) {
        to.word(self as u32);
    }
    fn take(from: &mut Reader) -> Option<Propagation> {
        let word = from.word()?;
        Propagation::ALL.iter().map(|(_, propagation)| *propagation).find(|known| *known as u32 == word)
    }
}
/// 0 is None.
impl Word for Option<Propagation> {
    fn put(self, to: &mut Writer) {
        to.word(self.map_or(0, |propagation| (propagation as u32).wrapping_add(1)));
    }
    fn take(from: &mut Reader) -> Option<Option<Propagation>> {
        match from.word()?.checked_sub(1) {
            None => Some(None),
            Some(word) => {
                Propagation::take(&mut Reader { words: [word, 0, 0, 0, 0, 0, 0, 0], at: 0 }).map(Some)
            }
        }
    }
}
