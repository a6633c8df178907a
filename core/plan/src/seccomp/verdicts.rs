//! Rules -> what becomes of each number on one architecture -> a search tree over the ranges that fare alike.
//!
//! Where several rules name a call: the first without conditions decides alone, wherever it stands (libseccomp's
//! order, on which profiles rely); else the first whose conditions hold; else the default.

use super::arch::{ARM_NR_BASE, ARM_OWN, Arch, X32_BIT};
use super::program::{AND, JEQ, JGE, JGT, LOAD, Label, Program};
use super::rules::{Condition, ENOSYS, Op, Rule, Rules};

/// All numbers of the table are below, but for arm's own calls.
const ORDINARY: usize = 0x300;
const ARM_OWN_CALLS: usize = 8;

/// What becomes of a number.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Always(u32),
    /// By arguments: an index into [`Verdicts::cases`].
    Cases(usize),
}

/// A rule's conditions on a call, of which all must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Case<'r> {
    conditions: &'r [Condition],
    /// As socketcall(2) or ipc(2) shows the call: the sub-call in place of the first argument. The others are behind a
    /// pointer there; what libseccomp compares instead, we compare.
    sub_call: Option<u8>,
    action: u32,
}

#[derive(Debug)]
pub struct Verdicts<'r> {
    arch: Arch,
    default: u32,
    /// By number, arm's own behind the ordinary ones.
    numbers: Vec<Verdict>,
    /// The cases of one call each, in the order of the profile.
    cases: Vec<Vec<Case<'r>>>,
}

pub fn of(rules: &Rules, arch: Arch) -> Verdicts<'_> {
    let numbers = vec![Verdict::Always(rules.default); ORDINARY + ARM_OWN_CALLS];
    let mut verdicts = Verdicts { arch, default: rules.default, numbers, cases: vec![] };
    let mut newest = 0;
    for rule in &rules.rules {
        for row in &rule.calls {
            if let Some(number) = arch.number(row) {
                newest = newest.max(if number < ARM_OWN { number } else { 0 });
                verdicts.add(number, rule, None);
            }
            if let Some((number, sub_call)) = arch.through(row) {
                verdicts.add(number, rule, Some(sub_call));
            }
        }
    }
    // Nothing of the architecture named: the default for everything, as with runc.
    if newest > 0 && rules.newer_is_enosys() {
        let newer = verdicts.numbers.iter_mut().take(ORDINARY).skip(usize::from(newest) + 1);
        newer.for_each(|verdict| *verdict = Verdict::Always(ENOSYS));
    }
    verdicts
}

impl<'r> Verdicts<'r> {
    fn add(&mut self, number: u16, rule: &'r Rule, sub_call: Option<u8>) {
        let index = match number.checked_sub(ARM_OWN) {
            Some(own) => ORDINARY + usize::from(own),
            None => usize::from(number),
        };
        // A rule that says what the default says is no rule, for later ones neither (runc).
        let Some(place) = self.numbers.get_mut(index).filter(|_| rule.action != self.default) else { return };
        let free = matches!(*place, Verdict::Always(action) if action == self.default);
        if rule.cases.is_empty() && sub_call.is_none() {
            if free || matches!(place, Verdict::Cases(_)) {
                *place = Verdict::Always(rule.action);
            }
            return;
        }
        if free {
            *place = Verdict::Cases(self.cases.len());
            self.cases.push(vec![]);
        }
        if let Verdict::Cases(index) = *place
            && let Some(cases) = self.cases.get_mut(index)
        {
            let case = |conditions| Case { conditions, sub_call, action: rule.action };
            match rule.cases.is_empty() {
                true => cases.push(case(&[])),
                false => cases.extend(rule.cases.iter().map(|conditions| case(conditions))),
            }
        }
    }

    /// Where each stretch of numbers that fare alike starts; the last has no end.
    fn ranges(&self) -> Vec<(u32, Verdict)> {
        let (ordinary, own) = self.numbers.split_at(ORDINARY);
        let bit = if self.arch == Arch::X32 { X32_BIT } else { 0 };
        let own = if self.arch == Arch::Arm { own } else { &[] };
        let above = ordinary.last().filter(|_| !own.is_empty());
        let all = (bit..).zip(ordinary).chain((ARM_NR_BASE..).zip(own.iter().chain(above)));
        let mut ranges: Vec<(u32, Verdict)> = Vec::new();
        for (number, verdict) in all {
            if !ranges.last().is_some_and(|(_, last)| self.alike(*last, *verdict)) {
                ranges.push((number, *verdict));
            }
        }
        ranges
    }

    fn alike(&self, a: Verdict, b: Verdict) -> bool {
        match (a, b) {
            (Verdict::Always(a), Verdict::Always(b)) => a == b,
            (Verdict::Cases(a), Verdict::Cases(b)) => self.cases.get(a) == self.cases.get(b),
            _ => false,
        }
    }

    /// Code that finds the verdict on the number in the accumulator.
    pub fn write(&self, program: &mut Program) -> Label {
        self.tree(program, &self.ranges())
    }

    fn tree(&self, program: &mut Program, ranges: &[(u32, Verdict)]) -> Label {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        match (low, high) {
            (_, []) => program.ret(self.default),
            ([], [(_, Verdict::Always(action)), ..]) => program.ret(*action),
            ([], [(_, Verdict::Cases(index)), ..]) => self.cases(program, *index),
            (_, [(start, _), ..]) => {
                let above = self.tree(program, high);
                let below = self.tree(program, low);
                program.jump(JGE, *start, above, below)
            }
        }
    }

    fn cases(&self, program: &mut Program, index: usize) -> Label {
        let mut otherwise = program.ret(self.default);
        for case in self.cases.get(index).into_iter().flatten().rev() {
            let mut holds = program.ret(case.action);
            for condition in case.conditions.iter().rev().filter(|c| case.sub_call.is_none() || c.index != 0)
            {
                holds = self.condition(program, *condition, holds, otherwise);
            }
            if let Some(call) = case.sub_call {
                let first = Condition { index: 0, op: Op::Equal, value: u64::from(call), other: 0 };
                holds = self.condition(program, first, holds, otherwise);
            }
            otherwise = holds;
        }
        otherwise
    }

    /// `yes` where the condition holds, else `no`. The kernel shows arguments as 64 bits, read in halves.
    fn condition(&self, program: &mut Program, c: Condition, yes: Label, no: Label) -> Label {
        match c.op {
            Op::Equal => self.equal(program, c.index, u64::MAX, c.value, yes, no),
            Op::NotEqual => self.equal(program, c.index, u64::MAX, c.value, no, yes),
            Op::MaskedEqual => self.equal(program, c.index, c.value, c.other & c.value, yes, no),
            Op::Greater => self.above(program, JGT, c, yes, no),
            Op::GreaterOrEqual => self.above(program, JGE, c, yes, no),
            Op::LessOrEqual => self.above(program, JGT, c, no, yes),
            Op::Less => self.above(program, JGE, c, no, yes),
        }
    }

    fn equal(&self, program: &mut Program, index: u8, mask: u64, value: u64, yes: Label, no: Label) -> Label {
        let mut next = yes;
        for half in [Half::Low, Half::High].into_iter().filter(|h| self.arch.wide() || *h == Half::Low) {
            let mask = half.of(mask);
            if mask == 0 {
                continue;
            }
            let compare = program.jump(JEQ, half.of(value), next, no);
            let masked = if mask == u32::MAX { compare } else { program.op(AND, mask, compare) };
            next = program.op(LOAD, half.offset(index), masked);
        }
        next
    }

    /// `low` compares the low halves where the high ones are equal.
    fn above(&self, program: &mut Program, low: u16, c: Condition, yes: Label, no: Label) -> Label {
        let compare = program.jump(low, Half::Low.of(c.value), yes, no);
        let lower = program.op(LOAD, Half::Low.offset(c.index), compare);
        if !self.arch.wide() {
            return lower;
        }
        let high = Half::High.of(c.value);
        let same = program.jump(JEQ, high, lower, no);
        let compare = program.jump(JGT, high, yes, same);
        program.op(LOAD, Half::High.offset(c.index), compare)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Half {
    Low,
    High,
}

impl Half {
    fn of(self, word: u64) -> u32 {
        match self {
            Half::Low => word as u32,
            Half::High => (word >> 32) as u32,
        }
    }

    /// In `struct seccomp_data`, on a little-endian machine, as all of ours are.
    fn offset(self, index: u8) -> u32 {
        16 + 8 * u32::from(index) + if self == Half::High { 4 } else { 0 }
    }
}
