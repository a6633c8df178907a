//! `linux.seccomp` -> the classic BPF program that the kernel loads, without libseccomp.
//!
//! ```text
//! profile -> rules (names resolved, actions as words) -> a verdict per number -> ranges -> a search tree per arch
//!            rules.rs                                    verdicts.rs                       program.rs
//! ```
//! What a program decides is what runc with libseccomp decides, tested against it (tests/seccomp.rs): the native
//! architecture is always in, one that is not listed kills the thread, names that no table knows are skipped, and calls
//! newer than the newest that the profile names give ENOSYS, so that libraries fall back instead of failing.
//! `evaluate.rs` asks a compiled program what it answers.
//! `docker.rs` reads docker's and podman's own form of a profile, and holds docker's default one.
//! Deliberately absent: NOTIFY, and architectures that cannot run on x86_64 or aarch64.

mod arch;
pub mod docker;
pub mod evaluate;
mod program;
mod rules;
#[rustfmt::skip]
mod tables;
mod verdicts;

use crate::error::Error;
use crate::spec::Seccomp;
pub use arch::Arch;
use program::Program;
use rules::{KILL_THREAD, Rules};

/// What the kernel takes.
pub const INSNS_MAX: usize = sampan_child::step::Filter::INSNS_MAX as usize;

/// One instruction each, as `struct sock_filter` lies in memory.
pub fn compile(profile: &Seccomp<'_>) -> Result<Vec<u64>, Error> {
    let native = Arch::native().ok_or_else(|| {
        Error::new("linux.seccomp", "this build knows no system call numbers of its architecture")
    })?;
    compile_on(profile, native)
}

/// As on a machine of that architecture.
pub fn compile_on(profile: &Seccomp<'_>, native: Arch) -> Result<Vec<u64>, Error> {
    let rules = Rules::read(profile)?;
    let arches = arch::filtered(profile, native)?;
    let mut program = Program::default();

    // Backwards: a jump goes forward only, so its target is written first.
    let foreign = program.ret(KILL_THREAD);
    let mut next = foreign;
    for arch in arches.iter().rev().filter(|a| **a != Arch::X32) {
        let x32 = (*arch == Arch::X86_64).then(|| match arches.contains(&Arch::X32) {
            true => verdicts::of(&rules, Arch::X32).write(&mut program),
            false => program.ret(KILL_THREAD),
        });
        let mut body = verdicts::of(&rules, *arch).write(&mut program);
        if let Some(x32) = x32 {
            body = program.jump(program::JSET, arch::X32_BIT, x32, body);
        }
        let body = program.op(program::LOAD, program::NUMBER, body);
        next = program.jump(program::JEQ, arch.audit(), body, next);
    }
    program.op(program::LOAD, program::ARCH, next);
    let insns = program.finish();
    if insns.len() > INSNS_MAX {
        let problem =
            format!("{} instructions, and the kernel takes {INSNS_MAX}; shorten the rules", insns.len());
        return Err(Error::new("linux.seccomp", problem));
    }
    Ok(insns)
}

/// The SECCOMP_FILTER_FLAG_ bits. Absent flags: SPEC_ALLOW, as runc adds it, since the mitigation that it turns off
/// costs programs much (runc#2430); an empty list is none.
pub fn flags(profile: &Seccomp<'_>) -> Result<u32, Error> {
    let Some(names) = &profile.flags else { return Ok(SPEC_ALLOW) };
    let mut flags = 0;
    for (index, name) in names.iter().enumerate() {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SPEC_ALLOW,
            // The kernel takes it beside a listener only (EINVAL), and says nothing without one.
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            other => {
                let field = format!("linux.seccomp.flags[{index}]");
                return Err(rules::unknown(field, "flag", other, FLAGS));
            }
        };
    }
    Ok(flags)
}

const TSYNC: u32 = 1;
const LOG: u32 = 2;
const SPEC_ALLOW: u32 = 4;
const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];
