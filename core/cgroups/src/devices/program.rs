//! Device rules on v2: a BPF program of type cgroup_device. It answers as [`Rules`] are read, for every list of rules.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{ALL, Kind, Rules, bpf};
use crate::error::{Doing, Error, Result};

/// A BPF program as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(Vec<u64>);

/// One instruction (struct bpf_insn): opcode, destination and source register, jump offset, immediate.
const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (off as u16 as u64) << 16
        | (imm as u32 as u64) << 32
}

// linux/bpf_common.h and linux/bpf.h; names say class, operation, operand.
const LDX_W: u8 = 0x61;
const MOV32_K: u8 = 0xb4;
const MOV32_X: u8 = 0xbc;
const AND32_K: u8 = 0x54;
const RSH32_K: u8 = 0x74;
const JEQ_K: u8 = 0x15;
const JNE_K: u8 = 0x55;
const EXIT: u8 = 0x95;

// Registers. The context (r1) is struct bpf_cgroup_dev_ctx { access << 16 | type, major, minor }.
const R0: u8 = 0;
const CTX: u8 = 1;
const WANTED: u8 = 2; // access bits not decided yet
const TYPE: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 0;

impl Program {
    /// The last rule that covers a request decides, so the rules are tried in reverse. One that allows takes its bits out
    /// of WANTED, and the request is granted once none is left. One that denies any bit that is left refuses the request.
    pub fn new(rules: &Rules) -> Program {
        let mut code = vec![
            insn(LDX_W, WANTED, CTX, 0, 0),
            insn(MOV32_X, TYPE, WANTED, 0, 0),
            insn(AND32_K, TYPE, 0, 0, 0xffff),
            insn(RSH32_K, WANTED, 0, 0, 16),
            insn(LDX_W, MAJOR, CTX, 4, 0),
            insn(LDX_W, MINOR, CTX, 8, 0),
        ];
        for rule in rules.0.iter().rev() {
            let verdict = [insn(MOV32_K, R0, 0, 0, i32::from(rule.allow)), insn(EXIT, 0, 0, 0, 0)];
            let access = i32::from(rule.access);
            let decide: Vec<u64> = match (rule.access, rule.allow) {
                (ALL, _) => verdict.to_vec(),
                (_, true) => {
                    let granted =
                        [insn(AND32_K, WANTED, 0, 0, !access & 0xffff), insn(JNE_K, WANTED, 0, 2, 0)];
                    [granted, verdict].concat()
                }
                (_, false) => {
                    let denied = [insn(MOV32_X, SCRATCH, WANTED, 0, 0), insn(AND32_K, SCRATCH, 0, 0, access)];
                    [&denied[..], &[insn(JEQ_K, SCRATCH, 0, 2, 0)], &verdict].concat()
                }
            };
            // linux/bpf.h: BPF_DEVCG_DEV_BLOCK 1, BPF_DEVCG_DEV_CHAR 2.
            let kind = rule.kind.map(|k| (TYPE, if k == Kind::Block { 1 } else { 2 }));
            let numbers = [rule.major.map(|n| (MAJOR, n)), rule.minor.map(|n| (MINOR, n))];
            let tests: Vec<(u8, u32)> = [kind].into_iter().chain(numbers).flatten().collect();
            for (i, (register, value)) in tests.iter().enumerate() {
                let past = tests.len() - i - 1 + decide.len();
                code.push(insn(JNE_K, *register, 0, past as i16, *value as i32));
            }
            let decides_all = tests.is_empty() && rule.access == ALL;
            code.extend(decide);
            if decides_all {
                return Program(code); // the verifier refuses instructions that are never reached
            }
        }
        code.extend([insn(MOV32_K, R0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
        Program(code)
    }

    pub fn instructions(&self) -> &[u64] {
        &self.0
    }

    /// Makes this the only device program of the group whose folder is `group`. The one of before is replaced (BPF_F_REPLACE,
    /// Linux 5.6), not added to: with two programs attached a device must be allowed by both, and the 65th is refused
    /// (runc#2366).
    pub fn attach(&self, group: BorrowedFd<'_>, path: &str) -> Result<()> {
        let failed = |call, errno| {
            let likely = match errno {
                Errno::PERM | Errno::ACCESS => {
                    Some("loading device programs needs CAP_BPF or CAP_SYS_ADMIN on the host")
                }
                Errno::INVAL => Some("this kernel has no CONFIG_CGROUP_BPF"),
                Errno::TOOBIG => Some("others have attached 64 programs to this group already"),
                _ => None,
            };
            Error::new(Doing::Devices, path)
                .field("linux.resources.devices")
                .call(call, errno)
                .likely_or(likely)
        };
        let new = bpf::load(&self.0).map_err(|e| failed("bpf(PROG_LOAD)", e))?;
        let held = bpf::attached(group).map_err(|e| failed("bpf(PROG_QUERY)", e))?;
        let mut old = Vec::new();
        for id in held {
            match bpf::by_id(id) {
                Ok(fd) => old.push(fd),
                // A security module may hide a program that we did not load. One that is gone needs no detaching.
                Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => {}
                Err(e) => return Err(failed("bpf(PROG_GET_FD_BY_ID)", e)),
            }
        }
        if let [only] = &old[..] {
            match bpf::attach(group, &new, Some(only)) {
                Ok(()) => return Ok(()),
                // Before 5.6, or attached without ALLOW_MULTI by another runtime.
                Err(Errno::INVAL | Errno::PERM) => {}
                Err(e) => return Err(failed("bpf(PROG_ATTACH)", e)),
            }
        }
        bpf::attach(group, &new, None).map_err(|e| failed("bpf(PROG_ATTACH)", e))?;
        for program in &old {
            bpf::detach(group, program).map_err(|e| failed("bpf(PROG_DETACH)", e))?;
        }
        Ok(())
    }
}

/// How many device programs are attached to a group, for tests: 1 for a container, however often it was updated.
pub fn attached_programs(group: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    bpf::attached(group).map(|ids| ids.len())
}
