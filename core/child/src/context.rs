#![forbid(unsafe_code)]
//! What the steps of one child know of each other: the container's root, its /dev, the program that was found.

use crate::home::Home;
use crate::image::Image;
use crate::report::{Report, SAID};
use crate::step::{Base, Filter, Slot, Text};
use crate::sys::{self, Call, Fault, Fd, Result, Successor, uapi};

/// A file system of ours, and where it is in the root.
#[derive(Clone, Copy)]
pub(crate) struct Newest<'a> {
    pub tree: Fd,
    /// With its NUL.
    pub at: &'a [u8],
}

impl<'a> Newest<'a> {
    /// What is left of `path` below it, with its NUL.
    pub fn below(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        path.strip_prefix(self.at.strip_suffix(b"\0")?)?.strip_prefix(b"/")
    }
}

/// What the steps know of each other.
pub(crate) struct Context<'a> {
    pub image: &'a Image<'a>,
    pub slots: &'a [Fd],
    /// Where the spawner learns of the child in which we go on.
    pub successor: Option<&'a Successor>,
    /// The container's root, from `Root` to `Pivot`.
    pub root: Option<Fd>,
    /// The root is read-only by a step of ours alone.
    pub root_closed: bool,
    /// The file system on its /dev, if one was mounted there.
    pub dev: Option<Fd>,
    /// The tmpfs that was mounted last, as long as nothing has been mounted but below it.
    pub newest: Option<Newest<'a>>,
    /// The first mask of a file: the host's null device, once one was needed.
    pub null: Option<Fd>,
    /// An empty read-only directory for masks, once the first mask needed it.
    pub empty: Option<Fd>,
    /// A procfs of our own.
    pub proc: Option<Fd>,
    /// What `Find` found.
    pub program: Option<&'a [u8]>,
    /// The filter that hooks get.
    pub hook_filter: Option<Filter>,
    /// The limit on its user's processes, while it is raised.
    pub process_limit: Option<(u64, u64)>,
    /// The working directory is the one asked for.
    pub cwd_done: bool,
    /// What `Home` found.
    pub home: Home,
}

impl<'a> Context<'a> {
    /// Before the first step.
    pub fn new(image: &'a Image<'a>, slots: &'a [Fd], successor: Option<&'a Successor>) -> Context<'a> {
        Context {
            image,
            slots,
            successor,
            root: None,
            root_closed: false,
            dev: None,
            newest: None,
            null: None,
            empty: None,
            proc: None,
            program: None,
            hook_filter: None,
            process_limit: None,
            cwd_done: false,
            home: Home::none(),
        }
    }
    pub fn slot(&self, slot: Slot) -> Result<Fd> {
        self.slots.get(slot.0 as usize).copied().ok_or(Fault::new(Call::read, uapi::EBADF))
    }
    pub fn text(&self, text: Text) -> &'a [u8] {
        self.image.str(text)
    }
    pub fn root(&self) -> Result<Fd> {
        self.root.ok_or(Fault::new(Call::openat2, uapi::EBADF))
    }
    pub fn base(&self, base: Base) -> Result<Fd> {
        match base {
            Base::Root => self.root(),
            Base::Dev => self.dev.ok_or(Fault::new(Call::openat2, uapi::EBADF)),
        }
    }

    /// Closes a file system's context (fsopen(2)). If what was done with it failed, the parent is told first what the kernel says
    /// of that there: it names the option, where errno alone does not.
    pub fn done_with<T>(&self, fs: Fd, result: Result<T>) -> Result<T> {
        let report = self.slots.get(self.image.header().report.0 as usize);
        if let (Err(_), Some(report)) = (&result, report) {
            let mut line = [0u8; 256];
            // One message a read; after the last one ENODATA.
            while let Ok(length) = sys::read(fs, line.get_mut(..255).unwrap_or(&mut [])) {
                if let Some(end) = line.get_mut(length) {
                    *end = b'\n';
                }
                for text in line.get(..length.wrapping_add(1)).unwrap_or(&[]).chunks(SAID) {
                    let mut said = [0u8; SAID];
                    for (place, byte) in said.iter_mut().zip(text) {
                        *place = *byte;
                    }
                    let _ = sys::write(*report, &Report::Said { text: said }.encode());
                }
            }
        }
        sys::close(fs);
        result
    }

    /// Loads a filter, if it is one.
    pub fn load(&self, filter: Filter) -> Result<()> {
        let program = self.image.instructions(filter);
        if program.is_empty() { Ok(()) } else { sys::seccomp_filter(program, filter.flags) }
    }
}

/// Writes a short text to a file that exists, at once.
pub(crate) fn put(dir: Fd, path: &[u8], text: &[u8], resolve: u64) -> Result<()> {
    let file = sys::openat2(dir, path, uapi::O_WRONLY, 0, resolve)?;
    let written = sys::write(file, text);
    sys::close(file);
    written.map(drop)
}
