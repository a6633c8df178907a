//! Names of compose, Quadlet and systemd: the table, and what whoever writes one of them is told.

use std::collections::BTreeSet;

use sampan_config::elsewhere::{NOTHING, SECTIONS};
use sampan_config::keys::{self, Key};
use sampan_testkit::Folder;

use super::Load;

fn keys_of(section: &str) -> &'static [Key] {
    keys::SECTIONS.iter().find(|(path, _)| *path == section).map(|(_, keys)| *keys).unwrap()
}

#[test]
fn every_key_has_a_row_and_every_row_a_key() {
    for (section, rows) in SECTIONS {
        let ours: BTreeSet<&str> = keys_of(section).iter().map(|key| key.path).collect();
        let theirs: BTreeSet<&str> = rows.iter().map(|row| row.key()).collect();
        let missing: Vec<_> = ours.difference(&theirs).collect();
        assert!(missing.is_empty(), "[{section}] say in elsewhere/table.rs what others call {missing:?}");
        let unknown: Vec<_> = theirs.difference(&ours).collect();
        assert!(unknown.is_empty(), "[{section}] elsewhere/table.rs has keys that are none: {unknown:?}");
        assert_eq!(rows.len(), theirs.len(), "[{section}] a key has two rows");
    }
}

#[test]
fn a_cell_is_written_as_the_table_says() {
    for (section, rows) in SECTIONS {
        for row in rows {
            for (whose, names) in row.columns() {
                for name in names {
                    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-*".contains(c);
                    let place = format!("[{section}] {} {whose}: {name:?}", row.key());
                    assert!(!name.name.is_empty() && name.name.chars().all(plain), "{place}");
                    assert!(whose == "Quadlet" || !name.name.starts_with("--"), "{place}");
                    assert_eq!(
                        name.written.matches('(').count(),
                        name.written.matches(')').count(),
                        "{place}"
                    );
                }
            }
        }
    }
}

/// Each name of the tables, written as a key of its section, leads to the keys it stands for.
#[test]
fn each_name_is_told_its_key() {
    for (section, rows) in SECTIONS.iter().filter(|(section, _)| section.contains('*')) {
        for row in *rows {
            for (whose, names) in row.columns() {
                // What is an option stands in PodmanArgs; what is called so here too is known.
                let names = names.iter().filter(|n| !n.name.starts_with("--") && !n.name.contains(".X."));
                for name in names {
                    let name = name.name.replace('*', "Type");
                    let Some(hint) = hint(section, &name) else { continue };
                    let key = row.key().replace('*', "X");
                    let told = hint.contains(whose) && hint.contains(&key);
                    assert!(told, "{whose}'s {name} in [{section}] is {key}, and is answered: {hint}");
                }
            }
        }
    }
    // Of a table in a table the upper one is unknown, and is answered.
    for (whose, name, here) in NOTHING.iter().filter(|(_, name, _)| !name.contains('.')) {
        let section = match *name {
            "NetworkName" => "networks.*",
            "VolumeName" | "external" => "volumes.*",
            _ => "services.*",
        };
        let hint = hint(section, name).unwrap_or_default();
        assert_eq!(hint, format!("{whose}'s name; here: {here}"));
    }
}

/// None where it is a key of ours, by its whole path.
fn hint(section: &str, name: &str) -> Option<String> {
    let folder = Folder::new().with("c.toml", &format!("[{}]\n{name} = 1\n", section.replace('*', "x")));
    let errors = folder.load(&["c.toml"]).err()?;
    let found = errors.iter().find(|error| error.message.starts_with("unknown key"))?;
    Some(found.hint.clone())
}

#[test]
fn options_of_podman_are_told_their_keys() {
    let hint = |value: &str| hint("services.*", &format!("PodmanArgs = {value} #")).unwrap();
    assert_eq!(
        hint("\"--cpus=2 --memory-reservation 1g\""),
        "Quadlet's name; here each option has a key: --cpus: resources.cpus, --memory-reservation: resources.memory_low"
    );
    assert_eq!(
        hint("[\"--no-such\"]"),
        "Quadlet's name; here each option has a key: docs/config.md lists them"
    );
}
