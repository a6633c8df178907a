//! A report: facts by name, in which what may differ from one container to the next has become a relation.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

#[derive(Debug, Default)]
pub struct Report {
    facts: BTreeMap<String, String>,
    /// A text and what stands for it.
    replaced: Vec<(String, String)>,
    /// Inodes of namespaces: the host's, those joined, the container's.
    namespaces: Vec<(String, &'static str)>,
}

pub const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

impl Report {
    /// What this container's own things are called.
    pub fn names(&mut self, bundle: &Path, id: &str, joined: &[String]) {
        self.replaced.push((bundle.display().to_string(), "BUNDLE".to_owned()));
        self.replaced.push((id.to_owned(), "ID".to_owned()));
        for kind in KINDS {
            self.namespaces.push((inode(&format!("/proc/thread-self/ns/{kind}")), "the host's"));
        }
        self.namespaces.extend(joined.iter().map(|inode| (inode.clone(), "the joined one")));
    }

    pub fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        let mut value = value.to_string().trim_end().to_owned();
        for (text, name) in &self.replaced {
            value = value.replace(text, name);
        }
        if key.ends_with("devices.list") {
            value = sorted(&value, "; ");
        }
        if key.ends_with("mount order") {
            // The hierarchies have no order of their own.
            value =
                value.split(' ').filter(|p| !p.starts_with("/sys/fs/cgroup/")).collect::<Vec<_>>().join(" ");
        }
        if (key.ends_with("pid") && !key.starts_with("ns ")) && value.parse::<u32>().is_ok_and(|n| n > 1) {
            value = "a pid".to_owned();
        }
        if key.ends_with("NStgid") {
            value = format!("{} levels", value.split(' ').count());
        }
        if let Ok(bits) = u64::from_str_radix(&value, 16)
            && key.ends_with("SigIgn")
        {
            // 32 and 33 are the C library's own: whether a caller left them ignored says nothing.
            value = format!("{:016x}", bits & !(3 << 31));
        }
        let mut key = key.to_owned();
        for (text, name) in &self.replaced {
            key = key.replace(text, name);
        }
        self.facts.insert(key, value);
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.facts.get(key).map(String::as_str)
    }

    /// The observer's lines. The first text with namespaces is the container's own process.
    pub fn text(&mut self, prefix: &str, text: &str) {
        for line in text.lines() {
            let Some((key, value)) =
                line.split_once(" = ").or_else(|| line.strip_suffix(" =").map(|k| (k, "")))
            else {
                self.line(&format!("{prefix}unreadable: {line}"), "");
                continue;
            };
            if prefix.is_empty() && key.starts_with("ns ") && !self.namespaces.iter().any(|(n, _)| n == value)
            {
                self.namespaces.push((value.to_owned(), "its own"));
            }
            let value =
                if key.rsplit(' ').nth(1) == Some("ns") { self.relation(value) } else { value.to_owned() };
            self.line(&format!("{prefix}{key}"), value);
        }
    }

    fn relation(&self, inode: &str) -> String {
        let known = self.namespaces.iter().find(|(n, _)| n == inode).map(|(_, name)| *name);
        let digits = !inode.is_empty() && inode.bytes().all(|b| b.is_ascii_digit());
        known.unwrap_or(if digits { "another" } else { inode }).to_owned()
    }

    /// After the container's own report.
    pub fn hooks(&mut self, text: &str) {
        let mut order: Vec<&str> = Vec::new();
        for line in text.lines() {
            let Some(kind) = line.split(' ').nth(1) else { continue };
            if order.last() != Some(&kind) {
                order.push(kind);
            }
            match line.split_once(" stdin = ") {
                Some((_, json)) => {
                    let json = json.replace("\\n", "\n").replace("\\\\", "\\");
                    let state = serde_json::from_str(&json).unwrap_or(Value::String(json));
                    self.state(&format!("hook {kind} state"), &state);
                }
                None => self.text("hook: ", &format!("{line}\n")),
            }
        }
        self.line("hooks in order", order.join(" "));
    }

    pub fn state(&mut self, prefix: &str, state: &Value) {
        let Value::Object(fields) = state else {
            self.line(prefix, state);
            return;
        };
        for (key, value) in fields {
            let value = match (key.as_str(), value) {
                ("pid", Value::Number(n)) if n.as_u64() > Some(1) => "a pid".to_owned(),
                ("created", Value::String(s)) if s.ends_with('Z') && s.contains('T') => "a time".to_owned(),
                (_, value) => value.to_string(),
            };
            self.line(&format!("{prefix}.{key}"), value);
        }
    }

    /// Key, ours, theirs.
    pub fn differing(&self, other: &Report) -> Vec<(String, String, String)> {
        let mut keys: Vec<&String> = self.facts.keys().chain(other.facts.keys()).collect();
        keys.sort();
        keys.dedup();
        let of = |r: &Report, key: &str| r.get(key).unwrap_or("-").to_owned();
        keys.into_iter().map(|k| (k.clone(), of(self, k), of(other, k))).filter(|(_, a, b)| a != b).collect()
    }
}

fn sorted(list: &str, separator: &str) -> String {
    let mut parts: Vec<&str> = list.split(separator).collect();
    parts.sort_unstable();
    parts.join(separator)
}

pub fn inode(path: &str) -> String {
    let to = std::fs::read_link(path).map(|p| p.display().to_string()).unwrap_or_default();
    to.split_once(":[").map_or(String::new(), |(_, n)| n.trim_end_matches(']').to_owned())
}
