//! Architectures: which of a profile's can run on this machine, and where their numbers are.
//!
//! One that cannot run here is left out, since no call can ever come from it: the program decides the same and is
//! shorter. x32 has x86_64's audit word and bit 30 in each number.

use super::rules::unknown;
use super::tables::{CALLS, NAMES, NONE, Row};
use crate::error::Error;
use crate::spec::Seccomp;
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// In the number of every x32 call (__X32_SYSCALL_BIT).
pub const X32_BIT: u32 = 1 << 30;
/// Arm's own calls, in the table and in the kernel (__ARM_NR_BASE).
pub const ARM_OWN: u16 = 0xf000;
pub const ARM_NR_BASE: u32 = 0xf_0000;

impl Arch {
    /// Of this build.
    pub fn native() -> Option<Arch> {
        match () {
            () if cfg!(target_arch = "x86_64") => Some(Arch::X86_64),
            () if cfg!(target_arch = "aarch64") => Some(Arch::Aarch64),
            () => None,
        }
    }

    /// The AUDIT_ARCH_ word of `struct seccomp_data`.
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Its registers, and so the arguments, are 64 bits wide. Of x32 the low halves are compared, as libseccomp does.
    pub fn wide(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64)
    }

    /// The call's number in the table's terms.
    pub fn number(self, row: &Row) -> Option<u16> {
        let number = match self {
            Arch::X86_64 => row[1],
            Arch::X86 => row[2],
            Arch::X32 => row[3],
            Arch::Aarch64 => row[4],
            Arch::Arm => row[5],
        };
        (number != NONE).then_some(number)
    }

    /// The call's number in the kernel's terms.
    pub fn call(self, name: &str) -> Option<u32> {
        let number = u32::from(self.number(find(name, &mut 0)?)?);
        Some(match self {
            Arch::X32 => number | X32_BIT,
            _ if number >= u32::from(ARM_OWN) => number - u32::from(ARM_OWN) + ARM_NR_BASE,
            _ => number,
        })
    }

    /// x86's socketcall(2) or ipc(2) where that leads to the same call, and its first argument then.
    pub fn through(self, row: &Row) -> Option<(u16, u8)> {
        (self == Arch::X86 && row[6] != NONE).then(|| (row[6] >> 8, (row[6] & 0xff) as u8))
    }

    /// What Go and docker's profiles call it.
    pub fn go(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
        }
    }
}

/// The architectures to write a program for, the native one first.
pub fn filtered(profile: &Seccomp<'_>, native: Arch) -> Result<Vec<Arch>, Error> {
    for (index, name) in profile.architectures.iter().enumerate() {
        if !KNOWN.contains(&name.as_str()) {
            return Err(unknown(
                format!("linux.seccomp.architectures[{index}]"),
                "architecture",
                name,
                KNOWN,
            ));
        }
    }
    let others: &[Arch] = match native {
        Arch::X86_64 => &[Arch::X86, Arch::X32],
        Arch::Aarch64 => &[Arch::Arm],
        Arch::X86 | Arch::X32 | Arch::Arm => &[],
    };
    let named = |arch: &&Arch| profile.architectures.iter().any(|name| name.as_str() == arch.name());
    Ok(std::iter::once(&native).chain(others.iter().filter(named)).copied().collect())
}

/// The row of a call. `last`: the one found before, since profiles are written in alphabetical order.
pub fn find(call: &str, last: &mut usize) -> Option<&'static Row> {
    let next = *last + 1;
    *last = match CALLS.get(next).is_some_and(|row| order(row, call).is_eq()) {
        true => next,
        false => CALLS.binary_search_by(|row| order(row, call)).ok()?,
    };
    CALLS.get(*last)
}

/// How the row's name compares. A name ends with a space, which is less than what names are made of.
fn order(row: &Row, call: &str) -> Ordering {
    let tail = NAMES.as_bytes().get(usize::from(row[0])..).unwrap_or_default();
    let (head, rest) = tail.split_at(call.len().min(tail.len()));
    let longer = || if rest.first() == Some(&b' ') { Ordering::Equal } else { Ordering::Greater };
    head.cmp(call.as_bytes()).then_with(longer)
}

/// All that libseccomp knows, whether it can run here or not.
const KNOWN: &[&str] = &[
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];
