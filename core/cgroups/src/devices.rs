//! `linux.resources.devices`: an ordered list in which the last rule that covers a request decides, bit by bit.
//! v2 says exactly that with a small BPF program; v1 knows only a default and exceptions of the other kind, so a
//! list that needs more is an error there. The devices every container needs are allowed last, as runc and crun do.
//!
//! `unsafe` here is bpf(2) alone. Programs are replaced atomically (BPF_F_REPLACE), never added: the second update
//! of a group that only ever attaches would be the intersection of both, and the 65th would fail (runc#2366).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use sampan_plan::spec::DeviceRule;

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Block,
    Char,
}

/// One rule; `None` is "any".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub allow: bool,
    pub kind: Option<Kind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    access: u8,
}

/// A whole, ordered list, defaults included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Without any rule everything but the defaults is denied, as in runc.
    pub fn new(given: &[DeviceRule]) -> Result<Rules> {
        let mut rules = Vec::with_capacity(given.len() + DEFAULTS.len());
        for (i, rule) in given.iter().enumerate() {
            rules.push(parse(rule, i)?);
        }
        rules.extend(DEFAULTS);
        Ok(Rules(rules))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// What the kernel would answer; the program below must agree (tests run both).
    pub fn allows(&self, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
            let covers = |r: &&Rule| {
                r.access & bit != 0
                    && r.kind.is_none_or(|k| k == kind)
                    && r.major.is_none_or(|m| m == major)
                    && r.minor.is_none_or(|m| m == minor)
            };
            self.0.iter().rev().find(covers).is_some_and(|r| r.allow)
        })
    }
}

const fn default(kind: Option<Kind>, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind, major, minor, access }
}

/// mknod of anything (it gives no access by itself), and the devices of config.md "Default Devices".
const DEFAULTS: [Rule; 10] = [
    default(Some(Kind::Char), None, None, MKNOD),
    default(Some(Kind::Block), None, None, MKNOD),
    default(Some(Kind::Char), Some(1), Some(3), ALL), // null
    default(Some(Kind::Char), Some(1), Some(5), ALL), // zero
    default(Some(Kind::Char), Some(1), Some(7), ALL), // full
    default(Some(Kind::Char), Some(1), Some(8), ALL), // random
    default(Some(Kind::Char), Some(1), Some(9), ALL), // urandom
    default(Some(Kind::Char), Some(5), Some(0), ALL), // tty
    default(Some(Kind::Char), Some(5), Some(2), ALL), // ptmx
    default(Some(Kind::Char), Some(136), None, ALL),  // pts/*
];

fn parse(rule: &DeviceRule, index: usize) -> Result<Rule> {
    let refuse = |name: &str, value: String, problem: &str| {
        let field = format!("linux.resources.devices[{index}].{name}");
        Err(Error::new(Doing::Value, "devices").field(field).value(value).problem(problem.to_owned()))
    };
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("c" | "u") => Some(Kind::Char),
        Some("b") => Some(Kind::Block),
        Some(other) => return refuse("type", format!("{other:?}"), "it must be a, b, c or u"),
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => match u32::try_from(n) {
            Ok(n) if n <= i32::MAX as u32 => Ok(Some(n)),
            _ => refuse(name, n.to_string(), "device numbers go from 0 to 2147483647, or -1 for any")
                .map(|_: Rule| None),
        },
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            // Written for all devices ("rwa"); runc ignores the letters of such a rule, and this one in any other.
            'a' if kind.is_none() => ALL,
            'a' => 0,
            _ => return refuse("access", format!("{:?}", rule.access), "it must be made of r, w and m"),
        };
    }
    match (access, rule.access.as_deref()) {
        (0, None | Some("")) => access = ALL,
        (0, _) => return refuse("access", format!("{:?}", rule.access), "it must be made of r, w and m"),
        _ => {}
    }
    let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
    Ok(Rule { allow: rule.allow, kind, major, minor, access })
}

impl std::fmt::Display for Rule {
    /// As the v1 files take and show it: `c 1:3 rwm`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            None => "a",
            Some(Kind::Block) => "b",
            Some(Kind::Char) => "c",
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MKNOD, "m")] {
            if self.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

// ---- v1: a default and exceptions -------------------------------------------------------------------------------

type Numbers = (Kind, Option<u32>, Option<u32>);

/// What a v1 devices group can hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V1 {
    allow_by_default: bool,
    exceptions: BTreeMap<Numbers, u8>,
}

impl V1 {
    pub fn new(rules: &Rules) -> Result<V1> {
        let mut state = V1::default();
        for rule in rules.iter() {
            if (rule.kind, rule.major, rule.minor, rule.access) == (None, None, None, ALL) {
                state = V1 { allow_by_default: rule.allow, exceptions: BTreeMap::new() };
                continue;
            }
            let kinds = rule.kind.map_or([Kind::Block, Kind::Char].to_vec(), |k| vec![k]);
            for kind in kinds {
                state.add(rule, (kind, rule.major, rule.minor))?;
            }
        }
        Ok(state)
    }

    /// From `devices.list`. A group that allows by default does not show its exceptions.
    pub fn read(list: &str) -> V1 {
        let mut state = V1::default();
        for line in list.lines() {
            let mut parts = line.split([' ', ':']);
            let (Some(kind), Some(major), Some(minor), Some(access)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let kind = match kind {
                "a" => return V1 { allow_by_default: true, exceptions: BTreeMap::new() },
                "b" => Kind::Block,
                _ => Kind::Char,
            };
            let bits = [('r', READ), ('w', WRITE), ('m', MKNOD)];
            let access =
                bits.iter().filter(|(letter, _)| access.contains(*letter)).fold(0, |a, (_, bit)| a | bit);
            state.exceptions.insert((kind, major.parse().ok(), minor.parse().ok()), access);
        }
        state
    }

    fn add(&mut self, rule: &Rule, numbers: Numbers) -> Result<()> {
        if rule.allow != self.allow_by_default {
            *self.exceptions.entry(numbers).or_default() |= rule.access;
            return Ok(());
        }
        // The rule takes back what earlier exceptions gave: whole ones go; a part of one v1 cannot say.
        for (held, access) in &mut self.exceptions {
            if *access & rule.access == 0 || !overlap(held, &numbers) {
                continue;
            }
            if !covers(&numbers, held) {
                let e = Error::new(Doing::Unavailable, "devices.allow").field("linux.resources.devices");
                let (a, b) = if rule.allow { ("allows", "denied") } else { ("denies", "allowed") };
                return Err(e
                    .problem(format!(
                        "the rule \"{rule}\" {a} a part of what an earlier, wider rule {b}; cgroups v1 cannot express that"
                    ))
                    .likely("list the devices one by one, or use a machine with cgroups v2"));
            }
            *access &= !rule.access;
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }

    fn exception(&self, (numbers, access): (&Numbers, &u8)) -> Rule {
        let (kind, major, minor) = *numbers;
        Rule { allow: !self.allow_by_default, kind: Some(kind), major, minor, access: *access }
    }

    /// File and value of each write that brings a group from `now` (`None`: a new group) to this.
    pub fn writes(&self, now: Option<&V1>) -> Vec<(&'static str, String)> {
        let (default, other) = if self.allow_by_default {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        let mut writes = Vec::new();
        let same_default = now.filter(|now| now.allow_by_default == self.allow_by_default);
        if same_default.is_none() || self.allow_by_default {
            // `a` also clears exceptions that devices.list does not show.
            writes.push((default, "a".to_owned()));
        }
        let held = same_default.filter(|_| !self.allow_by_default);
        for (numbers, access) in held.iter().flat_map(|now| &now.exceptions) {
            let surplus = access & !self.exceptions.get(numbers).copied().unwrap_or(0);
            if surplus != 0 {
                writes.push((default, self.exception((numbers, &surplus)).to_string()));
            }
        }
        for (numbers, access) in &self.exceptions {
            let missing = access & !held.and_then(|now| now.exceptions.get(numbers)).copied().unwrap_or(0);
            if missing != 0 {
                writes.push((other, self.exception((numbers, &missing)).to_string()));
            }
        }
        writes
    }
}

fn covers(wide: &Numbers, narrow: &Numbers) -> bool {
    let any_or_same = |w: Option<u32>, n: Option<u32>| w.is_none() || w == n;
    wide.0 == narrow.0 && any_or_same(wide.1, narrow.1) && any_or_same(wide.2, narrow.2)
}

fn overlap(a: &Numbers, b: &Numbers) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    a.0 == b.0 && meet(a.1, b.1) && meet(a.2, b.2)
}

// ---- v2: a program ----------------------------------------------------------------------------------------------

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
    /// The last rule wins, so rules are tried in reverse. An allowing rule strikes its bits off WANTED and lets the
    /// request pass once none is left; a denying rule that names one of the bits still wanted refuses it.
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
                    let strike =
                        [insn(AND32_K, WANTED, 0, 0, !access & 0xffff), insn(JNE_K, WANTED, 0, 2, 0)];
                    [strike, verdict].concat()
                }
                (_, false) => {
                    let named = [insn(MOV32_X, SCRATCH, WANTED, 0, 0), insn(AND32_K, SCRATCH, 0, 0, access)];
                    [&named[..], &[insn(JEQ_K, SCRATCH, 0, 2, 0)], &verdict].concat()
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

    /// Makes this the only device program of the group whose folder is `group`.
    pub fn attach(&self, group: BorrowedFd<'_>, path: &str) -> Result<()> {
        let failed = |call, errno| {
            let likely = match errno {
                Errno::PERM | Errno::ACCESS => {
                    Some("loading device programs needs CAP_BPF or CAP_SYS_ADMIN on the host")
                }
                Errno::INVAL => Some("this kernel has no CONFIG_CGROUP_BPF"),
                Errno::TOOBIG => Some("64 programs are attached already by somebody else"),
                _ => None,
            };
            Error::new(Doing::Devices, path)
                .controller("devices")
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
                // An LSM may hide a program that we did not load; gone is as good as detached.
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

/// How many device programs are attached to a group: 1 for a container, however often it was updated.
pub fn attached_programs(group: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    bpf::attached(group).map(|ids| ids.len())
}

/// bpf(2), for cgroup device programs.
mod bpf {
    use super::*;

    const PROG_LOAD: i64 = 5;
    const PROG_ATTACH: i64 = 8;
    const PROG_DETACH: i64 = 9;
    const PROG_GET_FD_BY_ID: i64 = 13;
    const PROG_QUERY: i64 = 16;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    const F_ALLOW_MULTI: u32 = 2;
    const F_REPLACE: u32 = 4;

    /// union bpf_attr, larger than any kernel's so far: kernels 6.17 to 7.1 write to `query.revision` even when the
    /// attribute passed is too short to hold it. Older ones accept a longer one if the rest is zero.
    #[repr(C, align(8))]
    struct Attr([u8; 256]);

    impl Attr {
        fn new(words: &[(usize, u32)], longs: &[(usize, u64)]) -> Attr {
            let mut attr = Attr([0; 256]);
            for (at, word) in words {
                attr.0[*at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
            for (at, long) in longs {
                attr.0[*at..at + 8].copy_from_slice(&long.to_ne_bytes());
            }
            attr
        }

        fn word(&self, at: usize) -> u32 {
            u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
        }

        /// SAFETY: the caller keeps whatever the addresses in `self` point to alive, and writable for as many bytes as
        /// the lengths in `self` say, until this returns.
        unsafe fn call(&mut self, command: i64) -> rustix::io::Result<RawFd> {
            // SAFETY: `self` is 256 bytes of plain, writable memory, and its size is passed along.
            let answer = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
            if answer < 0 {
                let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
                return Err(Errno::from_raw_os_error(errno));
            }
            Ok(answer as RawFd)
        }
    }

    fn word(fd: impl AsFd) -> u32 {
        fd.as_fd().as_raw_fd() as u32
    }

    pub fn load(code: &[u64]) -> rustix::io::Result<OwnedFd> {
        let license = c"Apache-2.0";
        let words = [(0, TYPE_CGROUP_DEVICE), (4, code.len() as u32), (68, ATTACH_CGROUP_DEVICE)];
        let longs = [(8, code.as_ptr() as u64), (16, license.as_ptr() as u64)];
        // SAFETY: `code` and `license` outlive the call and are only read; their lengths are right.
        let fd = unsafe { Attr::new(&words, &longs).call(PROG_LOAD) }?;
        // SAFETY: PROG_LOAD returns a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub fn attached(group: BorrowedFd<'_>) -> rustix::io::Result<Vec<u32>> {
        let mut ids = [0_u32; 64];
        let words = [(0, word(group)), (4, ATTACH_CGROUP_DEVICE), (24, ids.len() as u32)];
        let mut attr = Attr::new(&words, &[(16, ids.as_mut_ptr() as u64)]);
        // SAFETY: `ids` is writable for the 64 words that word 24 announces and outlives the call.
        unsafe { attr.call(PROG_QUERY) }?;
        Ok(ids.iter().copied().take(attr.word(24) as usize).collect())
    }

    pub fn by_id(id: u32) -> rustix::io::Result<OwnedFd> {
        // SAFETY: no addresses.
        let fd = unsafe { Attr::new(&[(0, id)], &[]).call(PROG_GET_FD_BY_ID) }?;
        // SAFETY: PROG_GET_FD_BY_ID returns a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub fn attach(group: BorrowedFd<'_>, new: &OwnedFd, instead: Option<&OwnedFd>) -> rustix::io::Result<()> {
        let flags = F_ALLOW_MULTI | if instead.is_some() { F_REPLACE } else { 0 };
        let words = [
            (0, word(group)),
            (4, word(new)),
            (8, ATTACH_CGROUP_DEVICE),
            (12, flags),
            (16, instead.map_or(0, word)),
        ];
        // SAFETY: no addresses.
        unsafe { Attr::new(&words, &[]).call(PROG_ATTACH) }.map(drop)
    }

    pub fn detach(group: BorrowedFd<'_>, program: &OwnedFd) -> rustix::io::Result<()> {
        let words = [(0, word(group)), (4, word(program)), (8, ATTACH_CGROUP_DEVICE)];
        // SAFETY: no addresses.
        unsafe { Attr::new(&words, &[]).call(PROG_DETACH) }.map(drop)
    }
}
