//! The documents, over all of them: a link leads somewhere, a file that is named exists, a page can be found from the README.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file below `folder` with one of these endings, from the workspace's root.
fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let root = workspace();
    let (mut found, mut todo) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)) {
                found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Name and text of each document.
fn documents() -> Vec<(String, String)> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned);
    let names = top.into_iter().chain(files("docs", &["md"]));
    names
        .map(|name| (fs::read_to_string(workspace().join(&name)).unwrap(), name))
        .map(|(t, n)| (n, t))
        .collect()
}

/// The targets of `[text](target)` in a line, without their `#section`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

#[test]
fn every_link_leads_to_a_file() {
    let mut wrong = String::new();
    for (name, text) in documents() {
        let folder = workspace().join(&name).parent().unwrap().to_owned();
        for (at, line) in text.lines().enumerate() {
            for link in links(line).filter(|link| !folder.join(link).exists()) {
                let _ = writeln!(wrong, "{name}:{}: no file {link}", at + 1);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let linked: Vec<&str> = readme.lines().flat_map(links).collect();
    let missing: Vec<String> =
        files("docs", &["md"]).into_iter().filter(|page| !linked.contains(&page.as_str())).collect();
    assert!(missing.is_empty(), "no link from README.md to {missing:?}");
}

/// A source file is named by as much of its path as says which one it is, and `src` is left out: `child/interpret.rs`.
/// Lists in braces are not looked at: only the sentence on `unsafe` has them, which tidy.rs compares with the code.
#[test]
fn every_source_file_that_a_document_names_exists() {
    let sources: Vec<String> = ["core", "hooks", "plugins", "examples"]
        .iter()
        .flat_map(|folder| files(folder, &["rs"]))
        .flat_map(|path| [format!("/{path}").replacen("/src/", "/", 1), format!("/{path}")])
        .collect();
    let mut wrong = String::new();
    for (name, text) in documents() {
        for (at, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric() && !"_-./{}".contains(c));
            let words = words.map(|word| word.trim_end_matches('.').trim_start_matches("../"));
            for word in words.filter(|word| word.ends_with(".rs") && !word.contains(['{', '}'])) {
                if !sources.iter().any(|source| source.ends_with(&format!("/{word}"))) {
                    let _ = writeln!(wrong, "{name}:{}: no source file {word}", at + 1);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Tables and plots of what was measured are made of docs/figures, and of nothing else.
#[test]
fn the_figures_are_those_that_were_measured() {
    if !sampan_testkit::need::program("python3") {
        return;
    }
    let check =
        Command::new(workspace().join(".ci/bench/figures")).args(["draw", "--check"]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn the_licence_has_no_blank_left() {
    let licence = fs::read_to_string(workspace().join("LICENSE")).unwrap();
    let blank = licence.lines().find(|line| line.contains("[yyyy]") || line.contains("[name of"));
    assert_eq!(blank, None);
}

#[test]
fn every_crate_says_what_it_is() {
    let crates: Vec<String> = ["core", "hooks", "plugins", "examples"]
        .iter()
        .flat_map(|folder| files(folder, &["toml"]))
        .filter(|path| path.ends_with("/Cargo.toml"))
        .collect();
    assert!(crates.len() > 20, "{crates:?}");
    let without = |path: &&String| {
        let text = fs::read_to_string(workspace().join(path)).unwrap();
        !text.lines().any(|line| line.starts_with("description = \"") && line.len() > 25)
    };
    assert_eq!(crates.iter().filter(without).collect::<Vec<_>>(), Vec::<&String>::new());
}
