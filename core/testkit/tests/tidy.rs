//! The order of the house, over the source of the whole workspace: who may use whom, how long things may be, where `unsafe` is.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 24] = [
    "core/child",
    "core/plan",
    "core/cgroups",
    "core/runtime",
    "core/service",
    "core/calendar",
    "core/init",
    "core/api",
    "core/config",
    "core/bundle",
    "core/image",
    "core/journal",
    "core/lock",
    "core/keel",
    "core/plugin-host",
    "core/systemd",
    "core/supervisor",
    "core/ctl",
    "core/testkit",
    "hooks",
    "plugins/sdk",
    "plugins/network",
    "plugins/logging",
    "plugins/cgroups",
];
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 60;
/// In a comment of the file, or right above the function: it may be longer, for the reason that follows.
const LONG: &str = "Long because";

/// Words of our own that once stood for a word of the field.
const GONE: [(&str, &str); 13] = [
    ("Want", "SlotSource"),
    ("Around", "MountContext, or Circumstances of a failure"),
    ("Made", "MountOutcome"),
    ("Hands", "HookRunner"),
    ("trap", "syscall"),
    ("Tide", "Notifier"),
    ("Deed", "Transfer"),
    ("Pen", "RecordWriter"),
    ("Ground", "Context"),
    ("Shelf", "RestartCache"),
    ("Remains", "Cleanup, CleanupPhase"),
    ("luck", "jitter_share"),
    ("bury", "reap"),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

struct Source {
    /// From the workspace's root.
    name: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = workspace();
    let (mut found, mut todo) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { text: fs::read_to_string(&path).unwrap(), name });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// What is code: no comment, and before the file's own tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(at, line)| (at + 1, line))
}

fn nothing(wrong: &str) {
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// `mod x;` lines, in their order.
fn modules(text: &str) -> Vec<&str> {
    let name = |line: &&str| {
        line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line).starts_with("mod ")
    };
    text.lines().filter(name).filter_map(|line| line.rsplit(' ').next()?.strip_suffix(';')).collect()
}

/// The names after `crate::` in a line, those in braces too.
fn used(line: &str) -> Vec<&str> {
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let before = line.get(..at).and_then(|before| before.chars().last());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue; // another crate's name that ends so
        }
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(list.split(',').map(|n| n.trim()).map(|n| &n[..word(n)])),
            None => names.push(&rest[..word(rest)]),
        }
    }
    names
}

/// Every lib.rs, or main.rs of a program without one, lists its modules in the order in which they may use each other: what is used stands above.
#[test]
fn no_module_uses_one_that_stands_below_it() {
    let mut wrong = String::new();
    for krate in CRATES {
        let root = format!("{krate}/src/");
        let first = |name| fs::read_to_string(workspace().join(&root).join(name));
        let lib = first("lib.rs").or_else(|_| first("main.rs")).unwrap();
        let order = modules(&lib);
        let place = |module: &str| order.iter().position(|m| *m == module);
        for source in sources(&root) {
            let own = source.name[root.len()..].trim_end_matches(".rs");
            let own = own.split('/').next().unwrap();
            let Some(own_place) = place(own) else { continue };
            for (line, text) in code(&source.text) {
                for used in used(text).into_iter().filter(|used| place(used).is_some_and(|p| p > own_place)) {
                    let _ = writeln!(
                        wrong,
                        "{}:{line}: {own} uses {used}, which stands below it in lib.rs",
                        source.name
                    );
                }
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn a_file_has_one_subject_and_fits_its_reader() {
    let mut wrong = String::new();
    for source in CRATES.iter().flat_map(|krate| sources(&format!("{krate}/src"))) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX && !source.text.contains(LONG) {
            let _ = writeln!(wrong, "{}: {lines} lines", source.name);
        }
    }
    nothing(&wrong);
}

#[test]
fn a_function_fits_a_page() {
    let mut wrong = String::new();
    for source in CRATES.iter().flat_map(|krate| sources(&format!("{krate}/src"))) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indent}}}");
            let length = lines[at..].iter().position(|l| **l == end).unwrap_or(0) + 1;
            let above = lines[..at].iter().rev().take_while(|l| l.trim_start().starts_with(['/', '#']));
            if length > FUNCTION_LINES_MAX && !above.into_iter().any(|l| l.contains(LONG)) {
                let _ = writeln!(wrong, "{}:{}: {length} lines: {}", source.name, at + 1, line.trim());
            }
        }
    }
    nothing(&wrong);
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe ", "extern \"C\" "];
    let rest = words.iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    rest.starts_with("fn ")
}

/// `a/{b,c/{d,e}}.rs` written out.
fn written_out(text: &str) -> Vec<String> {
    let Some(open) = text.find('{') else { return vec![text.to_owned()] };
    let mut depth = 0;
    let (mut parts, mut start, mut close) = (Vec::new(), open + 1, text.len());
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            '}' if depth == 1 => {
                parts.push(&text[start..at]);
                close = at;
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    let rest = &text[(close + 1).min(text.len())..];
    parts.iter().flat_map(|part| written_out(&format!("{}{part}{rest}", &text[..open]))).collect()
}

/// The files that ARCHITECTURE.md names in its sentence on `unsafe`, as `crate/file`.
fn fence() -> Vec<String> {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let start = text.find("- `unsafe` is in").unwrap();
    let sentence = &text[start..start + text[start..].find(". ").unwrap()];
    let quoted = sentence.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
    quoted.flat_map(written_out).collect()
}

#[test]
fn unsafe_is_where_the_architecture_says() {
    let fence = fence();
    let mut found = BTreeMap::new();
    for krate in CRATES {
        for source in sources(&format!("{krate}/src")) {
            let uses = code(&source.text).any(|(_, line)| {
                [
                    "unsafe {",
                    "unsafe fn ",
                    "unsafe extern",
                    "unsafe impl",
                    "unsafe(no_mangle)",
                    "unsafe(naked)",
                ]
                .iter()
                .any(|word| line.contains(word))
            });
            if uses {
                let short = source.name.trim_start_matches("core/").replacen("/src/", "/", 1);
                found.insert(short, source.name);
            }
        }
    }
    let mut wrong = String::new();
    for (short, name) in &found {
        if !fence.contains(short) {
            let _ = writeln!(wrong, "{name}: unsafe, and ARCHITECTURE.md does not name it");
        }
    }
    for name in fence.iter().filter(|name| !found.contains_key(*name)) {
        let _ = writeln!(wrong, "ARCHITECTURE.md names {name}, which has no unsafe");
    }
    nothing(&wrong);
}

/// One helper, one place: no function of several lines stands twice, under whatever name.
#[test]
fn no_helper_is_defined_twice() {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = String::new();
    for source in CRATES.iter().flat_map(|krate| sources(&format!("{krate}/src"))) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indent}}}");
            let Some(length) = lines[at..].iter().position(|l| **l == end).filter(|length| *length > 4)
            else {
                continue;
            };
            let body: String = lines[at + 1..at + length].iter().map(|l| l.trim()).collect();
            let here = format!("{}:{}", source.name, at + 1);
            if let Some(there) = known.insert(body, here.clone()) {
                let _ = writeln!(wrong, "{here} has the body of {there}");
            }
        }
    }
    nothing(&wrong);
}

/// Who names the folder for temporary files and makes nothing there, or is to leave it for people to read.
const NO_OWNER: [&str; 3] =
    ["core/image/tests/layers.rs", "core/supervisor/tests/e2e/chaos/mod.rs", "core/testkit/src/world.rs"];

/// What is made there goes also where a test fails: its owner, as `sampan_testkit::Folder`, removes it when it is dropped.
#[test]
fn what_tests_make_in_the_folder_for_temporary_files_has_an_owner() {
    let mut wrong = String::new();
    for Source { name, text } in CRATES.iter().flat_map(|krate| sources(krate)) {
        // As this file does not say it.
        let names_it = text.contains(concat!("temp_dir", "()"));
        if names_it && !text.contains("impl Drop for") && !NO_OWNER.contains(&name.as_str()) {
            let _ = writeln!(wrong, "{name}: make it by sampan_testkit::Folder");
        }
    }
    nothing(&wrong);
}

#[test]
fn words_of_our_own_stay_gone() {
    let mut wrong = String::new();
    for source in CRATES.iter().flat_map(|krate| sources(&format!("{krate}/src"))) {
        for (line, text) in source.text.lines().enumerate() {
            let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            for (word, say) in GONE.iter().filter(|(word, _)| words.contains(word)) {
                let _ = writeln!(wrong, "{}:{}: {word:?}: say {say:?}", source.name, line + 1);
            }
        }
    }
    nothing(&wrong);
}

/// The crates of this workspace that `krate`, a folder, is made of, by way of others too, and all that they depend on.
fn dependencies(krate: &str) -> Vec<String> {
    let root = workspace();
    let folders: BTreeMap<String, &str> = CRATES
        .iter()
        .map(|folder| {
            let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap();
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
            (name.trim_matches('"').to_owned(), *folder)
        })
        .collect();
    let (mut found, mut todo) = (Vec::<String>::new(), vec![krate]);
    while let Some(folder) = todo.pop() {
        let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap();
        let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap_or_default();
        for line in rest.lines().take_while(|line| !line.starts_with('[')) {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if !name.is_empty() && !name.starts_with('#') && !found.iter().any(|known| known == name) {
                found.push(name.to_owned());
                todo.extend(folders.get(name).copied());
            }
        }
    }
    found
}

/// What has no event loop cannot be held up by one, nor hold one up.
#[test]
fn only_the_loop_and_its_plugins_have_tokio() {
    for krate in [
        "core/config",
        "core/bundle",
        "core/image",
        "core/journal",
        "core/service",
        "core/calendar",
        "core/runtime",
        "core/lock",
        "core/keel",
    ] {
        let found = dependencies(krate);
        assert!(!found.iter().any(|name| name == "tokio"), "{krate}: {found:?}");
    }
    assert!(dependencies("core/supervisor").iter().any(|name| name == "tokio"), "this test looks");
}

#[test]
fn where_no_unsafe_is_needed_it_is_forbidden() {
    for krate in [
        "core/plan",
        "core/service",
        "core/calendar",
        "core/init",
        "core/config",
        "core/bundle",
        "core/image",
        "core/journal",
        "core/lock",
    ] {
        let lib = fs::read_to_string(workspace().join(krate).join("src/lib.rs")).unwrap();
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{krate}");
    }
}
