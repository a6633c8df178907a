//! Who crashed the worker: a page that outlives it, and a list of those that may not come back.
//!
//! The keel holds a duplicate of a small memfd with a slot per plugin. The handler of SEGV, BUS, ILL, FPE and ABRT, on an
//! alternate stack, writes there in whose call the thread was that faulted, or in whose code, and lets the signal kill the
//! process. The next worker reads it and leaves that plugin out until its file changes or an operator resets it. What
//! another thread is doing at that moment is no evidence, and neither is a signal that somebody sent: the watchdog's ABRT
//! and `kill -9` blame nobody. Heap corruption may blame the wrong one: this is evidence, not proof.
use super::KeepFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use sampan_plugin::abi;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

pub const SLOTS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 56;
const RANGES_MAX: usize = 4;
const MAGIC: u64 = 0x5350_5041_4745_0002;
const KEEL_KEY: &str = "plugins/page";
const SIGNALS: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// The memfd's content. All fields are atomic: the handler writes while other threads run.
#[repr(C)]
struct Shared {
    magic: AtomicU64,
    /// 0: nothing happened.
    signal: AtomicU32,
    /// Index + 1; 0: nobody.
    slot: AtomicU32,
    how: AtomicU32,
    event: AtomicU32,
    slots: [Slot; SLOTS_MAX],
}

#[repr(C)]
struct Slot {
    name: [AtomicU64; NAME_BYTES_MAX / 8],
    ranges: [[AtomicUsize; 2]; RANGES_MAX],
}

/// What is known of a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    pub plugin: String,
    pub signal: i32,
    /// The event that it was handling, if any.
    pub event: Option<&'static str>,
    pub evidence: &'static str,
}

impl Crash {
    pub fn text(&self) -> String {
        let signal =
            nix::sys::signal::Signal::try_from(self.signal).map_or("a signal", |signal| signal.as_str());
        let event = self.event.map(|event| format!(" in {event}")).unwrap_or_default();
        format!("it crashed sampand by {signal}{event} ({})", self.evidence)
    }
}

const EVIDENCE: [&str; 3] = ["in a call of it", "in its code", "called from its code"];

/// A call of a plugin that is running: its slot, and the event.
#[derive(Clone, Copy)]
struct Call {
    slot: u32,
    event: u16,
}

thread_local! {
    /// The call that this thread is in.
    static CALL: Cell<Option<Call>> = const { Cell::new(None) };
}

/// Where the handler finds the page.
static PAGE: AtomicPtr<Shared> = AtomicPtr::new(std::ptr::null_mut());

/// The mapped page. Never unmapped: the handler may need it at any time.
pub struct Page(&'static Shared);

impl Page {
    /// The page that the keel kept, with what happened to the worker before, or a new one.
    pub fn open(keep: &dyn KeepFd) -> io::Result<(Page, Option<Crash>)> {
        let kept = keep.fetch(KEEL_KEY)?;
        let memfd = match kept {
            Some(memfd) => memfd,
            None => {
                let memfd = memfd_create("sampan-plugins", MFdFlags::MFD_CLOEXEC)?;
                nix::unistd::ftruncate(&memfd, size_of::<Shared>() as libc::off_t)?;
                keep.keep(KEEL_KEY, Some(memfd.as_fd()))?;
                memfd
            }
        };
        let shared = map(&memfd)?;
        let crash = (shared.magic.load(Ordering::Relaxed) == MAGIC).then(|| read(shared)).flatten();
        clear(shared);
        Ok((Page(shared), crash))
    }

    /// From now on a crash is written here.
    pub fn watch(&self) -> io::Result<()> {
        PAGE.store(std::ptr::from_ref(self.0).cast_mut(), Ordering::Release);
        // SAFETY: the handler only uses atomics, thread-local plain data and system calls.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_crash as *const () as usize;
            // RESETHAND: a second fault, or the same instruction again, kills.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND | libc::SA_NODEFER;
            libc::sigemptyset(&raw mut action.sa_mask);
            for signal in SIGNALS {
                if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        Ok(())
    }

    /// A plugin takes a slot. Names too long for it are cut; they are for a sentence.
    pub fn claim(&self, slot: usize, name: &str, text: &[Range<usize>]) {
        let Some(place) = self.0.slots.get(slot) else { return };
        let bytes = name.as_bytes();
        for (word, at) in place.name.iter().zip((0..).step_by(8)) {
            let mut eight = [0; 8];
            for (byte, from) in eight.iter_mut().zip(bytes.iter().skip(at)) {
                *byte = *from;
            }
            word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        }
        for (pair, range) in place.ranges.iter().zip(text) {
            pair[0].store(range.start, Ordering::Relaxed);
            pair[1].store(range.end, Ordering::Relaxed);
        }
    }

    /// Marks this thread as in a call of that plugin until the guard is dropped.
    pub fn enter(&self, slot: usize, event: u16) -> InCall {
        InCall { before: CALL.replace(Some(Call { slot: slot as u32, event })), of_this_thread: PhantomData }
    }
}

/// So that a stack overflow of this thread can be told too.
pub fn prepare_thread() {
    alternate_stack();
}

pub struct InCall {
    before: Option<Call>,
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for InCall {
    fn drop(&mut self) {
        CALL.set(self.before);
    }
}

fn map(memfd: &OwnedFd) -> io::Result<&'static Shared> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    if nix::sys::stat::fstat(memfd)?.st_size < size_of::<Shared>() as i64 {
        return Err(io::Error::other("the kept page is too small"));
    }
    // SAFETY: a new mapping, at least as large as the type (checked), of which any bytes are a value; it is never unmapped.
    unsafe {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let at = mmap(std::ptr::null_mut(), size_of::<Shared>(), access, MapFlags::SHARED, memfd, 0)?;
        Ok(&*at.cast::<Shared>())
    }
}

fn read(shared: &Shared) -> Option<Crash> {
    let signal = shared.signal.load(Ordering::Relaxed);
    let slot = (shared.slot.load(Ordering::Relaxed) as usize).checked_sub(1)?;
    let name: Vec<u8> = shared
        .slots
        .get(slot)?
        .name
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    let event = shared.event.load(Ordering::Relaxed).checked_sub(1);
    let evidence =
        EVIDENCE.get(shared.how.load(Ordering::Relaxed) as usize).copied().unwrap_or("no evidence");
    (signal != 0).then(|| Crash {
        plugin: String::from_utf8_lossy(&name).into_owned(),
        signal: signal as i32,
        event: event.map(|event| abi::event_name(event as u16)),
        evidence,
    })
}

fn clear(shared: &Shared) {
    shared.signal.store(0, Ordering::Relaxed);
    shared.slot.store(0, Ordering::Relaxed);
    shared.event.store(0, Ordering::Relaxed);
    for slot in &shared.slots {
        slot.name.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        slot.ranges.iter().flatten().for_each(|end| end.store(0, Ordering::Relaxed));
    }
    shared.magic.store(MAGIC, Ordering::Release);
}

/// So that a stack overflow can be handled too. Leaked: the thread lives as long as its plugin. Not written to: the kernel gives
/// no page for it before there is a crash.
fn alternate_stack() {
    let stack = Box::leak(Box::<[u8]>::new_uninit_slice(32 << 10));
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the memory is leaked just above and nobody else's.
    unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
}

/// The handler. Only atomics, plain thread-local data and system calls: it may have interrupted anything.
unsafe extern "C" fn on_crash(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: never unmapped once stored.
    if let Some(shared) = unsafe { PAGE.load(Ordering::Acquire).as_ref() }
        // SAFETY: the kernel passes what it knows of the signal to an SA_SIGINFO handler.
        && unsafe { arose_here(info) }
        && shared.signal.compare_exchange(0, signal as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    {
        let call = CALL.try_with(Cell::get).unwrap_or(None);
        // SAFETY: the kernel passes the interrupted context to an SA_SIGINFO handler.
        let (pc, sp) = unsafe { registers(context) };
        let blamed = (call.map(|call| (call.slot as usize, 0)))
            .or_else(|| whose(shared, pc).map(|slot| (slot, 1)))
            .or_else(|| whose(shared, peek(sp)).map(|slot| (slot, 2)));
        if let Some((slot, how)) = blamed {
            shared.how.store(how, Ordering::Relaxed);
            shared.event.store(call.map_or(0, |call| u32::from(call.event) + 1), Ordering::Relaxed);
            shared.slot.store(slot as u32 + 1, Ordering::Release);
        }
    }
    // SAFETY: as above. A signal that was sent does not come again by itself; a fault does when we return.
    unsafe {
        if info.is_null() || (*info).si_code <= 0 {
            libc::raise(signal);
        }
    }
}

fn whose(shared: &Shared, address: usize) -> Option<usize> {
    shared.slots.iter().position(|slot| {
        slot.ranges
            .iter()
            .any(|pair| (pair[0].load(Ordering::Relaxed)..pair[1].load(Ordering::Relaxed)).contains(&address))
    })
}

/// What this thread did itself: a fault, which has a positive code, or `abort`, which is a signal to a thread by its own
/// process. Whatever else comes was sent: by the keel's watchdog, or by anybody.
///
/// # Safety
/// `info` is what the kernel passed to the handler.
unsafe fn arose_here(info: *const libc::siginfo_t) -> bool {
    // SAFETY: the caller's promise.
    let Some(info) = (unsafe { info.as_ref() }) else { return false };
    // SAFETY: a signal that a process sent has a sender.
    info.si_code > 0
        || info.si_code == libc::SI_TKILL && unsafe { info.si_pid() } == std::process::id() as i32
}

/// Program counter and stack pointer.
///
/// # Safety
/// `context` is what the kernel passed to the handler.
unsafe fn registers(context: *mut libc::c_void) -> (usize, usize) {
    // SAFETY: the caller's promise.
    let Some(context) = (unsafe { context.cast::<libc::ucontext_t>().as_ref() }) else { return (0, 0) };
    #[cfg(target_arch = "x86_64")]
    {
        let registers = &context.uc_mcontext.gregs;
        (registers[libc::REG_RIP as usize] as usize, registers[libc::REG_RSP as usize] as usize)
    }
    #[cfg(target_arch = "aarch64")]
    {
        (context.uc_mcontext.pc as usize, context.uc_mcontext.sp as usize)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = context;
        (0, 0)
    }
}

/// One word of our own memory, or 0 if it is not mapped: a plain read could fault.
fn peek(address: usize) -> usize {
    let mut word = 0usize;
    let ours = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size_of::<usize>() };
    let theirs = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: size_of::<usize>() };
    // SAFETY: the kernel checks the address and writes one word into ours.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const ours, 1, &raw const theirs, 1, 0) };
    if read == size_of::<usize>() as isize { word } else { 0 }
}

const FILE: &str = "quarantine.json";

/// Those that crashed the worker, by name, in `state_dir/quarantine.json`.
pub struct List {
    folder: PathBuf,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// Of the file that crashed: another one gets a chance.
    sha256: String,
    why: String,
}

impl List {
    /// A list that cannot be read is an empty one: a plugin that crashes gets on it again.
    pub fn open(state_dir: &Path) -> List {
        let read = std::fs::read(state_dir.join(FILE)).ok();
        let entries = read.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        List { folder: state_dir.to_owned(), entries }
    }

    pub fn add(&mut self, plugin: &str, sha256: &str, why: &str) {
        self.entries.insert(plugin.to_owned(), Entry { sha256: sha256.to_owned(), why: why.to_owned() });
        if let Err(error) = self.save() {
            tracing::warn!(%error, file = %self.folder.join(FILE).display(), "cannot write who is quarantined");
        }
    }

    /// Why this file of this plugin is not opened.
    pub fn reason(&self, plugin: &str, sha256: &str) -> Option<String> {
        let entry = self.entries.get(plugin).filter(|entry| entry.sha256 == sha256)?;
        Some(format!(
            "quarantined: {}; `sampanctl plugin reset {plugin}` or a new file brings it back",
            entry.why
        ))
    }

    /// Whether there was something to forget.
    pub fn reset(&mut self, plugin: &str) -> io::Result<bool> {
        let had = self.entries.remove(plugin).is_some();
        if had {
            self.save()?;
        }
        Ok(had)
    }

    fn save(&self) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(&self.entries)?;
        Ok(sampan_journal::atomic::replace(&self.folder, FILE, &json)?)
    }
}
