//! Whoever may write one of the config's files commands sampand: which files it takes, and what it says of others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use sampan_testkit::need;

use super::{Folder, Load};

/// A user who is neither root nor us.
const MALLORY: u32 = 4242;

/// Every kind of file that a config is made of, and where it is named.
const FILES: [(&str, &str); 4] = [
    ("config.toml", ""),
    ("part.toml", "include: "),
    ("web.env", "services.web.env_file: "),
    ("profile.json", "services.web.security.seccomp_profile: "),
];

fn whole() -> Folder {
    let config = "include = [\"part.toml\"]\n[services.web]\nrootfs = \"/\"\ncommand = [\"a\"]\nenv_file = \"web.env\"\n\
                  security.seccomp_profile = \"profile.json\"\n";
    let folder = Folder::new()
        .with("config.toml", config)
        .with("part.toml", "")
        .with("web.env", "A=1\n")
        .with("profile.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}");
    folder.mode("", 0o755);
    FILES.iter().for_each(|(name, _)| folder.mode(name, 0o644));
    folder
}

trait Modes {
    fn mode(&self, name: &str, mode: u32);
    fn found(&self) -> Vec<String>;
}

impl Modes for Folder {
    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// What is found in the config, a line each; the folder's name is taken out.
    fn found(&self) -> Vec<String> {
        let found = match self.load(&["config.toml"]) {
            Ok(loaded) => loaded.warnings,
            Err(errors) => errors,
        };
        let folder = self.0.display().to_string();
        found
            .iter()
            .map(|d| d.title().replace(&format!("{folder}/"), "").replace(&folder, "FOLDER"))
            .collect()
    }
}

#[test]
fn a_file_that_everybody_may_write_is_refused_whatever_it_is_for() {
    for (name, key) in FILES {
        let folder = whole();
        assert_eq!(folder.found(), [""; 0]);
        folder.mode(name, 0o646);
        let why = format!("everybody may write to it (mode 0646); chmod o-w {name}");
        assert_eq!(folder.found(), [format!("{key}cannot read {name}: {why}")]);
    }
}

#[test]
fn a_file_that_its_owners_private_group_may_write_is_taken_with_a_warning() {
    if !need::root() {
        return;
    }
    for (name, key) in FILES {
        let folder = whole();
        folder.mode(name, 0o664);
        let warning = format!("{name}: its group 0 may write to it (mode 0664); chmod g-w {name}");
        assert_eq!(folder.found(), [format!("{key}{warning}")]);
        chown(folder.path(name), None, Some(MALLORY)).unwrap();
        let why = format!("its group 4242 may write to it (mode 0664); chmod g-w {name}");
        assert_eq!(folder.found(), [format!("{key}cannot read {name}: {why}")]);
    }
}

#[test]
fn another_users_file_is_refused_but_for_the_one_who_called_sudo() {
    if !need::root() {
        return;
    }
    for (name, key) in FILES {
        let folder = whole();
        chown(folder.path(name), Some(MALLORY), None).unwrap();
        let why = "it belongs to user 4242, who is neither root nor us; chown it, or use a copy";
        assert_eq!(folder.found(), [format!("{key}cannot read {name}: {why}")]);
    }
    let folder = whole();
    let all = FILES.iter().map(|(name, _)| *name).chain([""]);
    all.for_each(|name| chown(folder.path(name), Some(MALLORY), Some(MALLORY)).unwrap());
    assert!(folder.found()[0].contains("it belongs to user 4242"));
    // SAFETY: nextest runs each test in a process of its own.
    unsafe { std::env::set_var("SUDO_UID", MALLORY.to_string()) };
    assert_eq!(folder.found(), [""; 0], "their checkout, run with sudo");
}

#[test]
fn a_folder_in_which_everybody_may_replace_the_config_is_refused() {
    let folder = whole();
    folder.mode("", 0o777);
    assert_eq!(
        folder.found(),
        ["cannot read config.toml: FOLDER: everybody may write to it (mode 0777); chmod o-w FOLDER"]
    );
}

#[test]
fn a_fifo_is_an_error_at_once() {
    for (name, key) in FILES {
        let folder = whole();
        fs::remove_file(folder.path(name)).unwrap();
        assert!(Command::new("mkfifo").arg(folder.path(name)).status().unwrap().success());
        assert_eq!(folder.found(), [format!("{key}cannot read {name}: a FIFO, not a regular file")]);
    }
}
