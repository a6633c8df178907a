//! Instructions, written from the last to the first.
//!
//! Classic BPF jumps forward only and a conditional jump at most 255 far. Backwards, the target of a jump is there
//! before the jump is, and what has come to lie too far off gets a near stand-in: a return is repeated, anything else
//! is reached by a long jump.

/// BPF_JMP | BPF_x | BPF_K.
pub const JEQ: u16 = 0x15;
pub const JGT: u16 = 0x25;
pub const JGE: u16 = 0x35;
pub const JSET: u16 = 0x45;
/// BPF_ALU | BPF_AND | BPF_K.
pub const AND: u16 = 0x54;
/// BPF_LD | BPF_W | BPF_ABS.
pub const LOAD: u16 = 0x20;
/// Offsets in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
pub const ARCH: u32 = 4;

pub const JUMP: u16 = 0x05;
pub const RETURN: u16 = 0x06;

const FAR: usize = 255;

#[derive(Clone, Copy, Debug)]
pub struct Insn {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// An instruction, counted from the program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

#[derive(Debug, Default)]
pub struct Program {
    /// The last one first.
    insns: Vec<Insn>,
    /// The nearest return of each word.
    returns: Vec<(u32, Label)>,
}

impl Program {
    pub fn ret(&mut self, word: u32) -> Label {
        let known = self.returns.iter().position(|(w, _)| *w == word);
        if let Some((_, label)) = known.and_then(|at| self.returns.get(at))
            && self.distance(*label) < FAR
        {
            return *label;
        }
        let label = self.push(Insn { code: RETURN, jt: 0, jf: 0, k: word });
        match known.and_then(|at| self.returns.get_mut(at)) {
            Some(place) => place.1 = label,
            None => self.returns.push((word, label)),
        }
        label
    }

    /// An instruction without a choice.
    pub fn op(&mut self, code: u16, k: u32, then: Label) -> Label {
        if self.distance(then) > 0 {
            self.long(then);
        }
        self.push(Insn { code, jt: 0, jf: 0, k })
    }

    pub fn jump(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        // The stand-in for `no` may come between.
        let yes = self.near(yes, FAR - 1);
        let no = self.near(no, FAR);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(Insn { code, jt, jf, k })
    }

    pub fn finish(self) -> Vec<u64> {
        self.insns.iter().rev().map(Insn::word).collect()
    }

    fn near(&mut self, label: Label, max: usize) -> Label {
        if self.distance(label) <= max {
            return label;
        }
        match self.insns.get(label.0) {
            Some(Insn { code: RETURN, k, .. }) => {
                let word = *k;
                self.ret(word)
            }
            _ => self.long(label),
        }
    }

    fn long(&mut self, to: Label) -> Label {
        self.push(Insn { code: JUMP, jt: 0, jf: 0, k: self.distance(to) as u32 })
    }

    /// What a jump that is written next skips.
    fn distance(&self, label: Label) -> usize {
        self.insns.len() - 1 - label.0
    }

    fn push(&mut self, insn: Insn) -> Label {
        self.insns.push(insn);
        Label(self.insns.len() - 1)
    }
}

impl Insn {
    pub fn read(word: u64) -> Insn {
        let [c0, c1, jt, jf, k @ ..] = word.to_ne_bytes();
        Insn { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes(k) }
    }

    fn word(&self) -> u64 {
        let mut bytes = [0; 8];
        let (code, rest) = bytes.split_at_mut(2);
        code.copy_from_slice(&self.code.to_ne_bytes());
        let (jumps, k) = rest.split_at_mut(2);
        jumps.copy_from_slice(&[self.jt, self.jf]);
        k.copy_from_slice(&self.k.to_ne_bytes());
        u64::from_ne_bytes(bytes)
    }
}
