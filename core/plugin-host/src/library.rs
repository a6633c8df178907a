//! A plugin's file: checked before any of its code runs, then loaded and never let go.
//!
//! `peek` reads the plain integers at the head of `sampan_plugin` from the ELF file, so a library of another version or
//! processor runs no constructor here. `load` copies the file into a sealed memfd first: replacing the file in place
//! cannot pull pages from under us. Neither the library nor the memfd is ever closed: glibc matches by path before
//! anything else, so a reused `/proc/self/fd/N` would return the old library; and a thread that a plugin left behind would
//! jump into unmapped memory.
use nix::sys::memfd::{MFdFlags, memfd_create};
use sampan_plugin::abi::{self, PluginTable};
use sampan_runtime::kernel::trust::{self, Group};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::ffi::{CStr, c_char};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::{Path, PathBuf};

pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// Why a file is not a plugin of ours. Each sentence says what to do about it, or is clear without.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("cannot read it: {0}")]
    Read(String),
    #[error("a plugin runs as sampand, so nobody else may write it: {0}")]
    NotTrusted(String),
    #[error("not an ELF file")]
    NotElf,
    #[error("not a shared library of this machine's kind: {0}")]
    WrongKind(&'static str),
    #[error("built for another processor (ELF machine {found}, this is {ours})")]
    WrongMachine { found: u16, ours: u16 },
    #[error("the file is cut short: {0}")]
    Truncated(&'static str),
    #[error(
        "no symbol sampan_plugin: not a plugin, or declare_plugin! is missing (in the root of the cdylib)"
    )]
    NoSymbol,
    #[error("its sampan_plugin does not begin with SP_MAGIC")]
    Magic,
    #[error("built for plugin ABI {theirs}, this sampand speaks {ours}", ours = abi::ABI_MAJOR)]
    Major { theirs: u16 },
    #[error(
        "it needs a host of plugin ABI {}.{needs} or newer, this sampand speaks {}.{}",
        abi::ABI_MAJOR,
        abi::ABI_MAJOR,
        abi::ABI_MINOR
    )]
    Minor { needs: u32 },
    #[error("its sp_plugin has {0} bytes, an ABI 1.0 one has {min}", min = size_of::<PluginTable>())]
    Size(u32),
    #[error(
        "it is built with panic=abort, so a panic would end sampand: build it with panic=unwind (isolation = \"process\" is known, not built yet)"
    )]
    PanicAbort,
    #[error("it asks to run in a process of its own (isolation = \"process\" is known, not built yet)")]
    ProcessOnly,
    #[error("cannot load it: {0}")]
    Load(String),
    #[error("its sampan_plugin is not whole: {0}")]
    Table(&'static str),
    #[error("its manifest is not JSON as expected: {0}")]
    Manifest(String),
}

/// The integers at the head of `sampan_plugin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub magic: u64,
    pub size: u32,
    pub major: u16,
    pub minor: u16,
    pub events: u64,
    pub flags: u32,
    pub min_minor: u32,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Manifest {
    pub after: Vec<String>,
    pub before: Vec<String>,
    pub requires: Vec<String>,
    pub conflicts: Vec<String>,
    pub claims: Vec<String>,
    pub schema: serde_json::Value,
}

/// A loaded plugin, for ever.
pub struct Library {
    pub path: PathBuf,
    pub sha256: String,
    pub name: String,
    pub version: String,
    pub manifest: Manifest,
    pub head: Head,
    pub table: PluginTable,
    /// Where its code is, to tell who crashed.
    pub text: Vec<Range<usize>>,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.name, self.version, self.path.display())
    }
}

// SAFETY: the table is constant data and functions of a library that stays mapped; who may call which from where is
// `call.rs`'s part of the contract.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// The file's bytes and their SHA-256, if its owner and mode let us trust it.
pub fn read(path: &Path) -> Result<(Vec<u8>, String), Refused> {
    let (bytes, _) = trust::read(path, Group::MayNotWrite, FILE_BYTES_MAX).map_err(|error| {
        let about = error.about(path);
        if error.is_about_trust() { Refused::NotTrusted(about) } else { Refused::Read(about) }
    })?;
    let digest = Sha256::digest(&bytes);
    Ok((bytes, digest.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Checks the file and loads it.
pub fn load(path: &Path, bytes: &[u8], sha256: String) -> Result<Library, Refused> {
    let head = peek(bytes)?;
    accept(&head)?;
    let copy = seal(path, bytes).map_err(|error| Refused::Load(format!("a sealed copy: {error}")))?;
    let table = dlopen(copy)?;
    let name = text(table.name).ok_or(Refused::Table("no name"))?;
    if table.open.is_none() || table.call.is_none() {
        return Err(Refused::Table("open or call is missing"));
    }
    let manifest = match text(table.manifest) {
        Some(json) if !json.is_empty() => {
            serde_json::from_str(&json).map_err(|error| Refused::Manifest(error.to_string()))?
        }
        _ => Manifest::default(),
    };
    let version = text(table.version).unwrap_or_default();
    let text = executable_ranges(copy);
    Ok(Library { path: path.to_owned(), sha256, name, version, manifest, head, table, text })
}

/// Reads the head of `sampan_plugin` without running anything of the file.
pub fn peek(file: &[u8]) -> Result<Head, Refused> {
    const LITTLE_64: [u8; 2] = [2, 1];
    if file.get(..4) != Some(b"\x7fELF") {
        return Err(Refused::NotElf);
    }
    let elf = Elf { file };
    if file.get(4..6).ok_or(Refused::Truncated("its header"))? != LITTLE_64 {
        return Err(Refused::WrongKind("not 64-bit little-endian"));
    }
    let machine = elf.u16(18, "its header")?;
    if machine != MACHINE {
        return Err(Refused::WrongMachine { found: machine, ours: MACHINE });
    }
    if elf.u16(16, "its header")? != ET_DYN {
        return Err(Refused::WrongKind("not a shared object"));
    }
    let address = elf.symbol(abi::SYMBOL.as_bytes())?.ok_or(Refused::NoSymbol)?;
    let at = elf.offset_of(address)?;
    const WHERE: &str = "sampan_plugin lies beyond its end";
    Ok(Head {
        magic: elf.u64(at, WHERE)?,
        size: elf.u32(at.saturating_add(8), WHERE)?,
        major: elf.u16(at.saturating_add(12), WHERE)?,
        minor: elf.u16(at.saturating_add(14), WHERE)?,
        events: elf.u64(at.saturating_add(16), WHERE)?,
        flags: elf.u32(at.saturating_add(24), WHERE)?,
        min_minor: elf.u32(at.saturating_add(28), WHERE)?,
    })
}

/// Whether we can live with what `peek` found.
pub fn accept(head: &Head) -> Result<(), Refused> {
    match head {
        head if head.magic != abi::MAGIC => Err(Refused::Magic),
        head if head.major != abi::ABI_MAJOR => Err(Refused::Major { theirs: head.major }),
        head if head.min_minor > u32::from(abi::ABI_MINOR) => Err(Refused::Minor { needs: head.min_minor }),
        head if (head.size as usize) < size_of::<PluginTable>() => Err(Refused::Size(head.size)),
        head if head.flags & abi::P_PANIC_ABORT != 0 => Err(Refused::PanicAbort),
        head if head.flags & abi::P_PROCESS_ONLY != 0 => Err(Refused::ProcessOnly),
        _ => Ok(()),
    }
}

const ET_DYN: u16 = 3;
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(target_arch = "riscv64")]
const MACHINE: u16 = 243;

/// Just enough of ELF to find one symbol. Every offset comes from the file, so every read is checked.
struct Elf<'a> {
    file: &'a [u8],
}

impl Elf<'_> {
    /// Its value in `.dynsym`, found by the section headers, which strip leaves.
    fn symbol(&self, name: &[u8]) -> Result<Option<u64>, Refused> {
        const SHT_DYNSYM: u32 = 11;
        const SECTIONS: &str = "its section headers";
        const SYMBOLS: &str = "its symbols";
        let (table, size, count) =
            (self.u64(40, SECTIONS)?, self.u16(58, SECTIONS)?, self.u16(60, SECTIONS)?);
        for index in 0..u64::from(count) {
            let section = table.saturating_add(index * u64::from(size));
            if self.u32(section.saturating_add(4), SECTIONS)? != SHT_DYNSYM {
                continue;
            }
            let (at, bytes) = (
                self.u64(section.saturating_add(24), SECTIONS)?,
                self.u64(section.saturating_add(32), SECTIONS)?,
            );
            let strings = u64::from(self.u32(section.saturating_add(40), SECTIONS)?);
            let strings = table.saturating_add(strings * u64::from(size));
            let strings = self.u64(strings.saturating_add(24), SECTIONS)?;
            let end = at.saturating_add(bytes);
            if end > self.file.len() as u64 {
                return Err(Refused::Truncated(SYMBOLS));
            }
            for symbol in (at..end).step_by(24) {
                let text = strings.saturating_add(u64::from(self.u32(symbol, SYMBOLS)?));
                let defined = self.u16(symbol.saturating_add(6), SYMBOLS)? != 0;
                if defined && self.text_is(text, name) {
                    return self.u64(symbol.saturating_add(8), SYMBOLS).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn text_is(&self, at: u64, name: &[u8]) -> bool {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.file.get(at..))
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Where in the file a virtual address comes from.
    fn offset_of(&self, address: u64) -> Result<u64, Refused> {
        const PT_LOAD: u32 = 1;
        const SEGMENTS: &str = "its program headers";
        let (table, size, count) =
            (self.u64(32, SEGMENTS)?, self.u16(54, SEGMENTS)?, self.u16(56, SEGMENTS)?);
        for index in 0..u64::from(count) {
            let segment = table.saturating_add(index * u64::from(size));
            if self.u32(segment, SEGMENTS)? != PT_LOAD {
                continue;
            }
            let (offset, start, in_file) = (
                self.u64(segment.saturating_add(8), SEGMENTS)?,
                self.u64(segment.saturating_add(16), SEGMENTS)?,
                self.u64(segment.saturating_add(32), SEGMENTS)?,
            );
            if let Some(into) = address.checked_sub(start)
                && into < in_file
            {
                return Ok(offset.saturating_add(into));
            }
        }
        Err(Refused::Truncated("no segment holds sampan_plugin"))
    }

    fn bytes<const N: usize>(&self, at: u64, what: &'static str) -> Result<[u8; N], Refused> {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.file.get(at..at.checked_add(N)?))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Refused::Truncated(what))
    }

    fn u16(&self, at: u64, what: &'static str) -> Result<u16, Refused> {
        self.bytes(at, what).map(u16::from_le_bytes)
    }
    fn u32(&self, at: u64, what: &'static str) -> Result<u32, Refused> {
        self.bytes(at, what).map(u32::from_le_bytes)
    }
    fn u64(&self, at: u64, what: &'static str) -> Result<u64, Refused> {
        self.bytes(at, what).map(u64::from_le_bytes)
    }
}

/// A sealed memfd with these bytes; its number is taken for ever.
fn seal(path: &Path, bytes: &[u8]) -> std::io::Result<i32> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    let name = path.file_name().unwrap_or_default().to_string_lossy().replace('\0', "");
    let memfd = memfd_create(name.as_str(), MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(memfd);
    file.write_all(bytes)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into_raw_fd())
}

fn dlopen(copy: i32) -> Result<PluginTable, Refused> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    let path = format!("/proc/self/fd/{copy}");
    // SAFETY: runs the library's constructors, which is what loading a plugin means; its head was checked by `accept`.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE) };
    let library = library.map_err(|error| Refused::Load(explain(&error.to_string())))?;
    // SAFETY: `peek` saw data of at least this size under this name (`accept`), and the library stays mapped.
    let table = unsafe { library.get::<*const PluginTable>(b"sampan_plugin\0").map(|symbol| symbol.read()) };
    std::mem::forget(library);
    table.map_err(|error| Refused::Load(error.to_string()))
}

/// The loader's words, and what they mean.
fn explain(text: &str) -> String {
    if let Some(version) = text.split(['`', '\'', ' ']).find(|word| word.starts_with("GLIBC_")) {
        return format!(
            "it was built on a newer system: it needs {version}, which this C library lacks ({text})"
        );
    }
    if text.contains("undefined symbol") {
        return format!("{text} (a library that it needs is not linked into it?)");
    }
    text.to_owned()
}

fn text(text: *const c_char) -> Option<String> {
    // SAFETY: the header says: null, or a NUL-terminated text that lives as long as the library.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Where the executable pages of the memfd are mapped.
fn executable_ranges(copy: i32) -> Vec<Range<usize>> {
    // SAFETY: the descriptor is never closed.
    let copy = unsafe { std::os::fd::BorrowedFd::borrow_raw(copy) };
    let Ok(stat) = nix::sys::stat::fstat(copy) else { return Vec::new() };
    let inode = stat.st_ino.to_string();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    debug_assert!(copy.as_raw_fd() >= 0);
    maps.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (range, mode) = (words.next()?, words.next()?);
            let (_, _, has) = (words.next()?, words.next()?, words.next()?);
            if has != inode || !mode.contains('x') || !line.contains("memfd:") {
                return None;
            }
            let (start, end) = range.split_once('-')?;
            Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A plugin's file, as the compiler makes it.
    fn plugin() -> Vec<u8> {
        let dir = sampan_testkit::Folder::new();
        let (source, out) = (dir.path("p.c"), dir.path("p.so"));
        let text = "#include \"sampan_plugin.h\"\nconst sp_plugin sampan_plugin = { .magic = SP_MAGIC, .size = sizeof(sp_plugin), .major = 1, .events = 5, .name = \"p\" };";
        std::fs::write(&source, text).unwrap();
        let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/sdk/include");
        let built = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-I", include])
            .args([source.as_os_str(), "-o".as_ref(), out.as_os_str()])
            .status();
        assert!(built.unwrap().success());
        std::fs::read(out).unwrap()
    }

    #[test]
    fn the_head_is_read_without_loading() {
        let head = peek(&plugin()).unwrap();
        assert_eq!((head.magic, head.major, head.events, accept(&head)), (abi::MAGIC, 1, 5, Ok(())));
    }

    /// No file makes it panic or run for long: whole files with some bytes changed, and cut ones.
    #[test]
    fn no_file_is_too_strange() {
        let good = plugin();
        let interesting = good.len();
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(5000));
        let changes = proptest::collection::vec((0..interesting, any::<u8>()), 0..8);
        let header = proptest::collection::vec((0usize..64, any::<u8>()), 0..4);
        runner
            .run(&(changes, header, 0..=interesting), |(changes, header, cut)| {
                let mut file = good.clone();
                for (at, byte) in changes.into_iter().chain(header) {
                    file[at] = byte;
                }
                let _ = peek(&file);
                let _ = peek(&file[..cut]);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_missing_glibc_version_is_explained() {
        let text = explain("/lib/libc.so.6: version `GLIBC_2.99' not found (required by x.so)");
        assert!(text.starts_with("it was built on a newer system: it needs GLIBC_2.99"), "{text}");
    }
}
