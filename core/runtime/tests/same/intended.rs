//! Where we differ from crun, and why. A row that no longer differs fails the test, and so must go.

/// `*` stands for any text, at either end of a pattern or between two halves of it.
pub struct Intended {
    pub cases: &'static str,
    pub key: &'static str,
    pub ours: &'static str,
    pub theirs: &'static str,
    pub why: &'static str,
}

const fn d(cases: &'static str, key: &'static str, ours: &'static str, theirs: &'static str, why: &'static str) -> Intended {
    Intended { cases, key, ours, theirs, why }
}

#[rustfmt::skip]
pub const INTENDED: &[Intended] = &[
];

/// Which row allows this.
pub fn find(case: &str, key: &str, ours: &str, theirs: &str) -> Option<usize> {
    INTENDED.iter().position(|d| {
        [(d.cases, case), (d.key, key), (d.ours, ours), (d.theirs, theirs)].iter().all(|(pattern, text)| like(pattern, text))
    })
}

fn like(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(before) else { return false };
    loop {
        if like(after, rest) {
            return true;
        }
        let mut chars = rest.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
    }
}

#[test]
fn patterns() {
    assert!(like("a*c*", "abcd") && like("*", "") && like("a", "a"));
    assert!(!like("a*c", "abcd") && !like("a", "ab") && !like("b*", "ab"));
}
