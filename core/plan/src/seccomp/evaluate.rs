//! What a compiled filter answers to one call, without the kernel: to explain a launch that its own profile ended.

use super::{Arch, program};
use sampan_child::sys::Call;

/// SECCOMP_RET_ALLOW and SECCOMP_RET_LOG: the answers under which the call is carried out without anybody's help.
const CARRIED_OUT: [u32; 2] = [0x7fff_0000, 0x7ffc_0000];
/// The action's half of an answer; the other half is its data (an errno).
const ACTION: u32 = 0xffff_0000;

/// A call as the filter sees it (`struct seccomp_data`).
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// AUDIT_ARCH_*.
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            program::NUMBER => Some(self.number),
            program::ARCH => Some(self.arch),
            16.. => {
                let argument = self.args.get((offset as usize - 16) / 8)?;
                Some((argument >> (offset % 8 * 8)) as u32)
            }
            _ => None,
        }
    }
}

/// Does the filter, as an image holds it, keep a program of this machine from being executed? Its arguments are addresses, which
/// no profile can know, so they count as 0.
pub fn denies_execve(filter: &[u8]) -> bool {
    let Some(native) = Arch::native().filter(|_| !filter.is_empty()) else { return false };
    let insns: Vec<u64> =
        filter.chunks_exact(8).filter_map(|insn| Some(u64::from_ne_bytes(insn.try_into().ok()?))).collect();
    let execve = Data { arch: native.audit(), number: Call::execve.number() as u32, args: [0; 6] };
    answer(&insns, &execve).is_some_and(|answer| !CARRIED_OUT.contains(&(answer & ACTION)))
}

/// What the program returns; None where the kernel would have refused it.
pub fn answer(insns: &[u64], data: &Data) -> Option<u32> {
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let insn = program::Insn::read(*insns.get(at)?);
        let (yes, no, k) = (usize::from(insn.jt), usize::from(insn.jf), insn.k);
        let branch = |taken: bool| if taken { yes } else { no };
        let skip = match insn.code {
            program::LOAD => {
                accumulator = data.word(k)?;
                0
            }
            program::AND => {
                accumulator &= k;
                0
            }
            program::JUMP => k as usize,
            program::JEQ => branch(accumulator == k),
            program::JGT => branch(accumulator > k),
            program::JGE => branch(accumulator >= k),
            program::JSET => branch(accumulator & k != 0),
            program::RETURN => return Some(k),
            _ => return None,
        };
        at = at.checked_add(skip)?.checked_add(1)?;
    }
}
