//! The JSON Schema of config.toml, beside the keys and beside what decodes: it refuses nothing that is good, sees the
//! mistakes that one file shows, and has every key.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use sampan_config::json_schema;
use sampan_config::keys::{self, Found, Key, Stage};
use sampan_testkit::Folder;
use serde_json::Value;

use super::Load;

static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema::schema);
static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::draft202012::new(&SCHEMA).expect("the schema of config.toml"));

/// What the schema says of a file: each place, once.
pub fn refused(toml: &str) -> BTreeSet<String> {
    let table: toml::Table = toml.parse().unwrap();
    let instance = serde_json::to_value(table).unwrap();
    VALIDATOR.iter_errors(&instance).map(|error| error.instance_path().to_string()).collect()
}

/// Of a config that loads.
pub fn takes(name: &str, toml: &str) {
    let refused = refused(toml);
    assert!(refused.is_empty(), "the schema refuses {refused:?} of {name}, which loads:\n{toml}");
}

#[test]
fn it_is_a_schema() {
    jsonschema::meta::validate(&SCHEMA).unwrap();
    assert_eq!(SCHEMA["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn every_example_validates_and_names_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = vec![root.join("config.toml"), root.join("packaging/config.toml")];
    for folder in ["examples", "examples/app", "examples/web"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "toml")));
    }
    files.retain(|path| !path.ends_with("Cargo.toml"));
    assert!(files.len() >= 5, "{files:?}");
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        takes(&path.display().to_string(), &text);
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("#:schema ") && first.ends_with("config.schema.json"),
            "{}",
            path.display()
        );
    }
}

/// What is shown as TOML in README.md and docs/ is a config that the schema takes: no page shows a key that is gone. Of
/// another program's file the first table is not ours.
#[test]
fn every_config_in_the_documents_validates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        pages.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|end| end == "md"));
    let (mut wrong, mut configs) = (Vec::new(), 0);
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let between = |begin: &'static str, end: &'static str| {
            text.split(begin)
                .skip(1)
                .map(move |rest| rest.split(end).next().unwrap_or(rest))
                .collect::<Vec<_>>()
        };
        // Its mistakes are what the page shows.
        let mistaken = between("wrong.toml <<'.'\n", "\n.\n");
        // In a block of its own, or written by a command.
        for block in [between("\n```toml\n", "\n```"), between(".toml <<'.'\n", "\n.\n")].concat() {
            let name = page.file_name().unwrap().to_string_lossy();
            let Ok(table) = block.parse::<toml::Table>() else {
                wrong.push(format!("{name}: not TOML:\n{block}"));
                continue;
            };
            if ["engine", "package", "dependencies", "lib"].iter().any(|other| table.contains_key(*other)) {
                continue;
            }
            configs += 1;
            let refused = refused(block);
            if refused.is_empty() == mistaken.contains(&block) {
                wrong.push(format!("{name}: {refused:?} in\n{block}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(configs >= 5, "{configs} configs");
}

/// Of the ten mistakes those that one file shows without a look at the machine or at other services.
#[test]
fn the_mistakes_that_a_schema_can_see_are_refused() {
    let whole = include_str!("ten_mistakes.toml");
    let found = refused(whole);
    let seen = |line: &str| {
        let toml = format!("[services.app]\nrootfs = \"a\"\ncommand = \"a\"\n[services.web]\n{line}\n");
        refused(&toml)
    };
    let visible = ["volume =", "mem_limit", "restart =", "stop_grace_period", "logging", "healthcheck"];
    for line in whole.lines().filter(|line| visible.iter().any(|start| line.starts_with(start))) {
        assert!(!seen(line).is_empty(), "the schema takes {line}");
    }
    let blind = ["ports", "depends_on", "environment", "rootfs", "command"];
    for line in whole.lines().filter(|line| blind.iter().any(|start| line.starts_with(start))) {
        assert_eq!(seen(line), BTreeSet::new(), "{line}");
    }
    assert!(!found.is_empty());
}

/// All keys of a table of the schema and of those below it, as the key tables write them.
fn paths(of: &Value, section: &'static [Key], above: &[&str], found: &mut BTreeSet<String>) {
    let tables = of["anyOf"].as_array().into_iter().flatten().chain([of]);
    for table in tables {
        let properties = table["properties"].as_object().into_iter().flatten();
        let each = table["additionalProperties"].is_object().then_some(("*", &table["additionalProperties"]));
        for (name, value) in properties.map(|(name, value)| (name.as_str(), value)).chain(each) {
            let path: Vec<&str> = above.iter().copied().chain([name]).collect();
            match keys::find(section, &path) {
                Found::Group { .. } => paths(value, section, &path, found),
                Found::Key(_) | Found::Unknown => assert!(found.insert(path.join(".")), "{path:?} twice"),
            }
        }
    }
}

#[test]
fn it_has_every_key_and_nothing_else() {
    for (section, keys) in keys::SECTIONS {
        let table = match section.strip_suffix(".*") {
            Some(kind) => &SCHEMA["$defs"][kind],
            None if section.is_empty() => &*SCHEMA,
            None => &SCHEMA["properties"][section],
        };
        let mut there = BTreeSet::new();
        paths(table, keys, &[], &mut there);
        let ours: BTreeSet<String> = keys.iter().map(|key| key.path.to_owned()).collect();
        assert_eq!(there, ours, "[{section}]");
    }
}

#[test]
fn every_key_that_is_built_has_a_shape() {
    for (section, keys) in keys::SECTIONS.iter().filter(|(section, _)| section.contains('*')) {
        for key in keys.iter().filter(|key| key.stage == Stage::Built) {
            let mut there = in_schema(section, key);
            there.as_object_mut().unwrap().remove("description");
            let any = there.as_object().unwrap().is_empty();
            assert!(!any, "[{section}] {}: say in json_schema/table.rs what it may be", key.path);
        }
    }
}

#[test]
fn every_shape_is_of_a_key_that_is_built_and_there_once() {
    for (section, keys) in keys::SECTIONS {
        let shapes: Vec<&str> = json_schema::keys(section).collect();
        let each: BTreeSet<&str> = shapes.iter().copied().collect();
        assert_eq!(shapes.len(), each.len(), "[{section}] has one twice: {shapes:?}");
        let built: BTreeSet<&str> =
            keys.iter().filter(|key| key.stage == Stage::Built).map(|key| key.path).collect();
        assert_eq!(each.difference(&built).collect::<Vec<_>>(), Vec::<&&str>::new(), "[{section}]");
    }
}

/// A value of each kind, good and bad of each.
const VALUES: &[&str] = &[
    "true",
    "false",
    "0",
    "1",
    "-1",
    "3",
    "80",
    "256",
    "1024",
    "70000",
    "5000000000",
    "0.5",
    "1.5",
    "-0.5",
    "nan",
    "\"\"",
    "\"a\"",
    "\"none\"",
    "\"auto\"",
    "\"default\"",
    "\"zzzzzzzz\"",
    "\"three\"",
    "\"${YES}\"",
    "\"${PORT}\"",
    "\"10\"",
    "\"10s\"",
    "\"1m30s\"",
    "\"1.5h\"",
    "\"1 s 2ms\"",
    "\"0s\"",
    "\"s\"",
    "\"10 parsecs\"",
    "\"64M\"",
    "\"1.5GiB\"",
    "\"64X\"",
    "\"0755\"",
    "\"0999\"",
    "\"SIGTERM\"",
    "\"term\"",
    "\"SIGRTMIN+3\"",
    "\"SIGNO\"",
    "\"/\"",
    "\"/a\"",
    "\"./a\"",
    "\"a/b\"",
    "\"/a/../b\"",
    "\"a:b\"",
    "\"/a:/b\"",
    "\"/a:/b:ro\"",
    "\"1:2\"",
    "\"1:2:3\"",
    "\"8080:80\"",
    "\"127.0.0.1:8080:80/udp\"",
    "\"8000-8010:80-90\"",
    "\"80:80/sctp\"",
    "\"a=b\"",
    "\"192.0.2.7\"",
    "\"fd00::1\"",
    "\"10.7.0.0/24\"",
    "\"200-399\"",
    "\"0-3,8\"",
    "\"1M/s\"",
    "\"on-failure:3\"",
    "\"on-failure:x\"",
    "\"always\"",
    "\"CAP_KILL\"",
    "\"net_admin\"",
    "\"db:192.0.2.7\"",
    "\"a b\"",
    "\"service:other\"",
    "\"service:\"",
    "\"ready\"",
    "\"journald\"",
    "{ signal = \"HUP\" }",
    "{ command = [\"a\"] }",
    "{ signal = \"NOSUCH\" }",
    "[]",
    "[\"\"]",
    "[\"a\"]",
    "[\"/a\"]",
    "[1]",
    "[true]",
    "[0.5]",
    "[[]]",
    "[{}]",
    "[\"a\", 1]",
    "[\"NONE\"]",
    "[\"CMD\", \"a\"]",
    "[\"CMD-SHELL\", \"a\"]",
    "[\"SIGTERM\", 3]",
    "[\"15\"]",
    "[300]",
    "[\"ALL\"]",
    "[\"1:2\"]",
    "[\"./:/b\"]",
    "[\"./:/b:ro,z\"]",
    "[\"8080:80\"]",
    "[\"80\"]",
    "[8080]",
    "[\"A=b\", \"C\"]",
    "[\"192.0.2.7\"]",
    "[\"default\", \"/a\"]",
    "[\"/dev/null:/dev/x:rw\"]",
    "[\"db:192.0.2.7\"]",
    "[\"/a:size=1M\"]",
    "[{ path = \"/a\" }]",
    "[{ path = \"/a\", timeout = \"1s\" }]",
    "[{ path = \"/a\", timeout = 5, args = [\"a\"] }]",
    "[{ command = \"a b\" }]",
    "[{ command = [\"a\"], in = \"host\", user = \"1:2\", timeout = \"1s\" }]",
    "[{ command = [\"a\"], in = \"container\" }]",
    "[{ command = [\"a\"], in = \"moon\" }]",
    "[{ command = [\"a\"], x = 1 }]",
    "[{ source = \"./\", target = \"/b\", read_only = true, create = true }]",
    "[{ source = \"./\" }]",
    "[{ source = \"./\", target = \"b\" }]",
    "[{ source = \"./\", target = \"/b\", x = 1 }]",
    "[{ published = 8080, target = 80, host_ip = \"::1\", protocol = \"udp\" }]",
    "[{ published = \"80-81\", target = \"80-81\" }]",
    "[{ name = \"default\", aliases = [\"db\"] }]",
    "[{ path = \"no.env\", required = false }]",
    "{}",
    "{ a = 1 }",
    "{ a = \"b\" }",
    "{ a = true }",
    "{ a = 0.5 }",
    "{ a = [] }",
    "{ a = {} }",
    "{ uid_map = [\"0:100000:65536\"], gid_map = [\"0:100000:65536\"] }",
    "{ uid_map = [\"0\"], gid_map = [] }",
    "{ default = { aliases = [\"db\"], ipv4_address = \"auto\" } }",
    "{ default = 1 }",
    "{ nofile = 1024 }",
    "{ nofile = \"1024:2048\" }",
    "{ nofile = { soft = 1, hard = 2 } }",
    "{ nofile = -1 }",
    "{ nofile = true }",
    "{ \"/dev/sda\" = { rbps = \"1M\", riops = 5 } }",
    "{ \"/dev/sda\" = { rbps = true } }",
    "{ \"/dev/sda\" = { x = 1 } }",
    "{ \"net.core.somaxconn\" = 5 }",
    "{ \"memory.swap.high\" = \"1\" }",
];

/// What the kind, the word, the range or the names inside of a value tell: what can be in a schema. Not what is named
/// elsewhere, nor what stands in the middle of a text.
fn is_plain(message: &str) -> bool {
    const ELSEWHERE: [&str; 4] =
        ["no such volume", "no such network", "no such secret", "no such mount option"];
    if ELSEWHERE.iter().any(|start| message.starts_with(start)) {
        return false;
    }
    ["expected ", "no such ", "unknown key", "known, but not built", "a duration needs a unit", "is empty"]
        .iter()
        .any(|start| message.starts_with(start))
        || message.ends_with(" is missing")
        || message.ends_with(" is out of range") && !message.contains(" bytes")
}

/// Each key with each value: what the schema refuses does not load, and what does not load for a plain reason it refuses.
#[test]
fn it_says_of_each_value_of_each_key_what_decoding_says() {
    let mut wrong = Vec::new();
    for (section, keys) in keys::SECTIONS.iter().filter(|(section, _)| section.contains('*')) {
        for key in keys.iter().filter(|key| key.stage == Stage::Built) {
            let tables: Vec<String> =
                VALUES.iter().enumerate().map(|(n, value)| table(section, key.path, n, value)).collect();
            let said = said(&format!("{OTHER}{}", tables.concat()));
            for (n, value) in VALUES.iter().enumerate() {
                let place = section.replace('*', &format!("x{n}"));
                let about: Vec<&str> = said
                    .iter()
                    .filter(|(path, _)| {
                        path.strip_prefix(&place).is_some_and(|p| p.is_empty() || p.starts_with('.'))
                    })
                    .map(|(_, message)| message.as_str())
                    .collect();
                compare(&format!("[{section}] {} = {value}", key.path), &tables[n], &about, &mut wrong);
            }
        }
    }
    for key in keys::SUPERVISOR.iter().filter(|key| key.stage == Stage::Built) {
        for value in VALUES {
            let toml = format!("[supervisor]\n{} = {value}\n", key.path);
            let said = said(&toml);
            let about: Vec<&str> = said.iter().map(|(_, message)| message.as_str()).collect();
            compare(&format!("[supervisor] {} = {value}", key.path), &toml, &about, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The words of a key are those that decoding tells whoever wrote another one.
#[test]
fn it_has_the_words_that_are_told() {
    let mut keys_with_words = 0;
    for (section, keys) in keys::SECTIONS.iter().filter(|(section, _)| section.contains('*')) {
        for key in keys.iter().filter(|key| key.stage == Stage::Built) {
            for (before, after) in [("", ""), ("[", "]")] {
                let toml = |word: &str| {
                    format!("{OTHER}{}", table(section, key.path, 0, &format!("{before}\"{word}\"{after}")))
                };
                let folder = Folder::new().with("c.toml", &toml("zzzzzzzz"));
                let errors = folder.load(&["c.toml"]).err().unwrap_or_default();
                let Some(words) = errors.iter().find_map(|error| error.hint.strip_prefix("one of ")) else {
                    continue;
                };
                keys_with_words += 1;
                for word in words.split(", ") {
                    let toml = toml(word.trim_end_matches("[:N]"));
                    assert_eq!(refused(&toml), BTreeSet::new(), "[{section}] {} = {word}", key.path);
                }
                for word in enumerated(&in_schema(section, key)) {
                    let said = said(&toml(&word));
                    let taken = !said.iter().any(|(_, message)| message.starts_with("no such"));
                    assert!(taken, "[{section}] {} has no word {word}: {said:?}", key.path);
                }
            }
        }
    }
    assert!(keys_with_words >= 15, "{keys_with_words}");
}

/// What the schema has for a key.
fn in_schema(section: &str, key: &Key) -> Value {
    let kind = section.trim_end_matches(".*");
    let below = |of: &Value, name: &str| {
        let tables = of["anyOf"].as_array().into_iter().flatten().chain([of]);
        tables
            .map(
                |table| if name == "*" { &table["additionalProperties"] } else { &table["properties"][name] },
            )
            .find(|value| !value.is_null())
            .cloned()
            .unwrap_or_default()
    };
    key.path.split('.').fold(SCHEMA["$defs"][kind].clone(), |of, name| below(&of, name))
}

fn enumerated(of: &Value) -> Vec<String> {
    let one = |value: &Value| value["enum"].as_array().cloned().unwrap_or_default();
    let all =
        [of, &of["items"]].into_iter().flat_map(|of| of["anyOf"].as_array().cloned().unwrap_or_default());
    all.flat_map(|value| one(&value)).filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

fn compare(what: &str, toml: &str, about: &[&str], wrong: &mut Vec<String>) {
    let refused = refused(toml);
    if !refused.is_empty() && about.is_empty() {
        wrong.push(format!("refused, and it loads: {what}"));
    }
    // What a variable holds no schema knows.
    if refused.is_empty() && !what.contains("${") && about.iter().any(|message| is_plain(message)) {
        wrong.push(format!("taken, and it does not load: {what}: {about:?}"));
    }
}

/// Place and message of each error.
fn said(toml: &str) -> Vec<(String, String)> {
    let folder = Folder::new().with("c.toml", toml).with("a", "");
    let errors = folder.load(&["c.toml"]).err().unwrap_or_default();
    errors.into_iter().map(|error| (error.key, error.message)).collect()
}

/// What the tables name.
const OTHER: &str =
    "[services.other]\nrootfs = \"/\"\ncommand = \"a\"\nhealthcheck.tcp = 80\nrestart = \"no\"\n";

/// One that is good but for what the key makes of it.
fn table(section: &str, key: &str, n: usize, value: &str) -> String {
    let mut table =
        format!("[{}]\n{} = {value}\n", section.replace('*', &format!("x{n}")), key.replace('*', "other"));
    if section != "services.*" {
        return table;
    }
    table.push_str(match key {
        "rootfs.path" | "bundle" | "image" => "",
        "pull" => "image = \"a\"\n",
        "rootfs.mode" => "rootfs.path = \"/\"\n",
        _ => "rootfs = \"/\"\n",
    });
    if key != "command" {
        table.push_str("command = \"a\"\n");
    }
    table.push_str(match key.strip_prefix("healthcheck.") {
        None | Some("test" | "tcp" | "unix" | "notify" | "http.port") => "",
        Some(key) if key.starts_with("http.") => "healthcheck.http.port = 80\n",
        Some(_) => "healthcheck.tcp = 80\n",
    });
    table
}
