//! Our own binary cannot be written through /proc/PID/exe from inside a container (CVE-2019-5736). It is the file that a
//! container's first process has as its exe until it executes the image's program, and longer if that program is a script
//! whose interpreter is /proc/self/exe: `sampan` for its verbs, the keel for all that sampand starts.
//!
//! ```text
//!   read-only file system, verity, or a sealed memfd already?   nothing to do
//!   else run again from a read-only clone of our own mount      0.1 ms; the clone is gone from the world at exec
//!   else (no CAP_SYS_ADMIN) from a sealed memfd copy            slower, works everywhere
//! ```
//! The clone must be close-on-exec: with its descriptor open, mount_setattr could clear read-only again; without it
//! nothing can name that mount any more.  Verbs that enter no container need no seal.
//! The file of a sealed process has no path, so whoever needs one asks `installed_path`.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
    fcntl_add_seals, fcntl_get_seals, fstatvfs, memfd_create, open, sendfile, statvfs, statx,
};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use sampan_child::defence::{self, Defence};
use sampan_child::sys;

use crate::error::{Errno, Error, Result};
use crate::kernel::argv;

const EXE: &str = "/proc/self/exe";

/// Returns in a process whose binary is sealed; it may be another run of this program.
pub fn seal() -> Result<()> {
    if rustix::process::geteuid().is_root() && defence::on(Defence::Undumpable) {
        // From here on nobody in a container may look into us. Without root it would take our own /proc from us.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
    // The rule for a second run, and one call in place of three.
    if statvfs(EXE).is_ok_and(|s| s.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Ok(());
    }
    let exe = open(EXE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
        Error::new(format!("cannot open {EXE}")).call("open", e).likely("/proc is not mounted")
    })?;
    if is_sealed(exe.as_fd()) || !defence::on(Defence::SealedProgram) {
        return Ok(());
    }
    let copy = sealed(exe)?;
    Err(run_again(copy.as_fd()))
}

/// The same program, in a form that nobody who executes it can write to.
pub fn sealed(program: OwnedFd) -> Result<OwnedFd> {
    match clone_read_only(program.as_fd()) {
        Ok(clone) => Ok(clone),
        Err(_) => copy_sealed(program),
    }
}

/// The path of the file that this program was started from.
pub fn installed_path() -> Option<PathBuf> {
    let exe = std::fs::read_link(EXE).ok()?;
    // A clone's file is the root of a mount that stands nowhere; a copy is in memory. Then `run_again` has put it here.
    let is_nameless = exe.parent().is_none() || exe.as_os_str().as_bytes().starts_with(b"/memfd:");
    if is_nameless { argv::words().into_iter().next().map(PathBuf::from) } else { Some(exe) }
}

fn is_sealed(exe: BorrowedFd<'_>) -> bool {
    read_only(exe) || has_verity(exe) || fcntl_get_seals(exe).is_ok_and(|s| s.contains(SealFlags::WRITE))
}

fn read_only(fd: BorrowedFd<'_>) -> bool {
    fstatvfs(fd).is_ok_and(|s| s.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn has_verity(exe: BorrowedFd<'_>) -> bool {
    statx(exe, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)
        .is_ok_and(|s| s.stx_attributes.contains(StatxAttributes::VERITY))
}

/// A file as it is on a read-only mount that stands nowhere.
pub fn clone_read_only(file: BorrowedFd<'_>) -> std::result::Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(file, c"", flags)?;
    sys::set_attributes(tree.as_raw_fd(), sys::uapi::MOUNT_ATTR_RDONLY, 0, false)
        .map_err(|fault| Errno::from_raw_os_error(fault.errno.into()))?;
    // Or we would run again for ever.
    if read_only(tree.as_fd()) { Ok(tree) } else { Err(Errno::NOTSUP) }
}

fn copy_sealed(exe: OwnedFd) -> Result<OwnedFd> {
    let failed = |call| move |e| Error::new("cannot seal our own binary").call(call, e);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC says that it is meant (6.3); older kernels do not know the flag.
    let memfd = memfd_create("sampan", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("sampan", flags))
        .map_err(failed("memfd_create"))?;
    let exe = File::from(exe);
    let mut left = exe.metadata().map(|m| m.len()).unwrap_or(0) as usize;
    while left > 0 {
        match sendfile(&memfd, &exe, None, left).map_err(failed("sendfile"))? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memfd, seals).map_err(failed("fcntl"))?;
    Ok(memfd)
}

/// Comes back only with the reason why not. The first argument becomes the path of our file: nothing else will tell it.
fn run_again(from: BorrowedFd<'_>) -> Error {
    let mut words = argv::words();
    if let (Some(first), Some(path)) = (words.first_mut(), installed_path()) {
        *first = path.into();
    }
    let args: Vec<CString> = words.into_iter().filter_map(|a| CString::new(a.into_vec()).ok()).collect();
    let vars = std::env::vars_os().filter_map(|(name, value)| {
        let mut both = name.into_vec();
        both.push(b'=');
        both.extend(value.into_vec());
        CString::new(both).ok()
    });
    let vars: Vec<CString> = vars.collect();
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&args), pointers(&vars));
    let empty: &CStr = c"";
    // SAFETY: both tables end in null and point into `args` and `vars`, which live until the call returns, if it does.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            from.as_raw_fd(),
            empty.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    Error::new("cannot run again from a sealed copy of our own binary")
        .call("execveat", errno)
        .likely("vm.memfd_noexec forbids it; install the program on a read-only file system")
}
