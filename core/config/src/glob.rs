//! Globs of `include` and of plugins' `services`: `*`, `?`, `[a-z]` within one part of a path; no `**`.

use std::io;
use std::path::{Path, PathBuf};

pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether `name` fits `pattern`; a leading dot must be written.
pub fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // One star to come back to is enough: a later star never needs an earlier one to take more.
    let (mut p, mut n, mut back) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            back = Some((p, n));
            p += 1;
        } else if let Some(next) = one(&pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((star, taken)) = back {
            back = Some((star, taken + 1));
            p = star + 1;
            n = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on if its part at `p` takes `c`.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => {
            let close = pattern.iter().skip(p + 2).position(|c| *c == ']').map(|n| n + p + 2);
            let Some(close) = close else { return (c == '[').then_some(p + 1) };
            let mut set = &pattern[p + 1..close];
            let negated = matches!(set.first(), Some('!' | '^'));
            if negated {
                set = &set[1..];
            }
            let mut inside = false;
            while let Some(first) = set.first() {
                if set.len() > 2 && set[1] == '-' {
                    inside |= (*first..=set[2]).contains(&c);
                    set = &set[3..];
                } else {
                    inside |= *first == c;
                    set = &set[1..];
                }
            }
            (inside != negated).then_some(close + 1)
        }
        literal => (*literal == c).then_some(p + 1),
    }
}

/// The files below `folder` that fit, in byte order; a folder that does not exist holds none.
pub fn expand(folder: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![if pattern.starts_with('/') { PathBuf::from("/") } else { folder.to_path_buf() }];
    let parts: Vec<&str> = pattern.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    for part in &parts {
        let mut next = Vec::new();
        for base in found {
            if !is_glob(part) {
                next.push(base.join(part));
                continue;
            }
            let list = if base.as_os_str().is_empty() { Path::new(".") } else { base.as_path() };
            let entries = match std::fs::read_dir(list) {
                Ok(entries) => entries,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(e) => return Err(e),
            };
            for entry in entries {
                let name = entry?.file_name();
                if name.to_str().is_some_and(|name| fits(part, name)) {
                    next.push(base.join(name));
                }
            }
        }
        found = next;
    }
    found.retain(|p| p.is_file());
    found.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(found)
}
