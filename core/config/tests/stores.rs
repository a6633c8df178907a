//! Named volumes and secrets: what they resolve to, what changes when they do, and what is said about mistakes in them.

use std::path::Path;

use sampan_config::schema::*;

use super::mistakes::check;
use super::{Folder, Load};

const ROOT: &str = "rootfs = \"/\"\ncommand = [\"a\"]\n";

#[test]
fn a_named_volume_is_below_state_dir_unless_it_says_where() {
    let folder = Folder::new().with(
        "c.toml",
        &format!(
            "[supervisor]\nstate_dir = \"/s\"\n[volumes.a]\n[volumes.b]\npath = \"/b\"\nuid = 5\nmode = \"0700\"\n\
             [services.web]\n{ROOT}volumes = [\"a:/a:nocopy\", {{ source = \"b\", target = \"/b\", read_only = true, selinux = \"Z\" }}, \"/etc:/e:z\"]\n"
        ),
    );
    let config = folder.config(&["c.toml"]);
    let volumes = &config.services["web"].volumes;
    assert_eq!(volumes[0].source.path(), Path::new("/s/volumes/a"));
    assert!(volumes[0].create && volumes[1].create && !volumes[2].create);
    assert_eq!(
        volumes[1].source,
        VolumeSource::Named(
            "b".into(),
            NamedVolume { path: "/b".into(), uid: Some(5), gid: None, mode: Some(0o700) }
        )
    );
    assert_eq!(volumes.iter().map(|volume| volume.nocopy).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!((volumes[1].selinux, volumes[2].selinux), (Some(Relabel::Private), Some(Relabel::Shared)));
}

#[test]
fn secrets_are_files_of_run_secrets_unless_they_say_where() {
    let folder = Folder::new().with(
        "c.toml",
        &format!(
            "[secrets.a]\nfile = \"f\"\n[secrets.b]\ncommand = \"/bin/pass show b\"\n[secrets.c]\nenvironment = \"C\"\n\
             [services.web]\n{ROOT}secrets = [\"a\", {{ source = \"b\", target = \"x/b\", mode = \"0440\" }}, {{ source = \"c\", target = \"/etc/c\", uid = 5 }}]\n"
        ),
    );
    let config = folder.config(&["c.toml"]);
    let uses = &config.services["web"].secrets;
    let targets: Vec<&str> = uses.iter().map(|u| u.target.as_str()).collect();
    assert_eq!(targets, ["/run/secrets/a", "/run/secrets/x/b", "/etc/c"]);
    assert_eq!((uses[0].mode, uses[1].mode, uses[2].uid), (0o400, 0o440, Some(5)));
    assert_eq!(uses[0].secret.source, SecretSource::File(folder.path("f")));
    let words = ["/bin/pass", "show", "b"].map(String::from).to_vec();
    assert_eq!(uses[1].secret.source, SecretSource::Command(words));
}

#[test]
fn what_a_service_names_is_its_own_matter() {
    let of = |path: &str, file: &str| {
        format!(
            "[volumes.v]\npath = \"{path}\"\n[secrets.s]\nfile = \"{file}\"\n[services.a]\n{ROOT}volumes = [\"v:/v\"]\nsecrets = [\"s\"]\n[services.b]\n{ROOT}"
        )
    };
    let folder = Folder::new().with("1", &of("/v", "f")).with("2", &of("/w", "f")).with("3", &of("/v", "g"));
    let diff = |old, new| {
        sampan_config::diff::show(&sampan_config::diff::diff(&folder.config(&[old]), &folder.config(&[new])))
    };
    assert_eq!(diff("1", "2"), "a: restart (volumes.v.path)\nb: nothing\n");
    assert_eq!(diff("1", "3"), "a: next run (secrets.s.file)\nb: nothing\n");
}

#[test]
fn mistakes() {
    check(
        &format!("[volumes.data]\n[services.web]\n{ROOT}volumes = [\"dada:/d\"]\n"),
        &["5:12 services.web.volumes: no such volume: `dada` [did you mean `data`?]"],
    );
    check(
        &format!("[services.web]\n{ROOT}volumes = [\"data:/d\"]\n"),
        &[
            "4:12 services.web.volumes: no such volume: `data` [add [volumes.data]; for a folder write \"./data\"]",
        ],
    );
    check(
        "[volumes.data]\nmode = 700\n",
        &["2:8 volumes.data.mode: expected a string as \"0755\", found an integer [write \"700\"]"],
    );
    check(
        "[volumes.data]\nmode = \"9\"\n",
        &["2:8 volumes.data.mode: `9` is not a mode [octal, as \"0755\"]"],
    );
    check(
        &format!("[services.web]\n{ROOT}secrets = [\"pw\"]\n"),
        &["4:12 services.web.secrets: no such secret: `pw` [add [secrets.pw]]"],
    );
    check(
        "[secrets.pw]\n",
        &[
            "1:10 secrets.pw: it comes from nowhere [add file = \"PATH\", environment = \"NAME\" or command = [\"PROGRAM\"]]",
        ],
    );
    check(
        "[secrets.pw]\nfile = \"a\"\nenvironment = \"B\"\n",
        &["3:1 secrets.pw: two sources of one secret [drop one]"],
    );
    check(
        "[secrets.pw]\ncommand = \"pass show\"\n",
        &[
            "2:11 secrets.pw.command: the program's path begins with / [a program of the host, as \"/usr/bin/pass\"]",
        ],
    );
    check(
        &format!("[secrets.pw]\nfile = \"a\"\n[services.web]\n{ROOT}secrets = [\"pw\", \"pw\"]\n"),
        &["6:18 services.web.secrets: two secrets at /run/secrets/pw [drop one, or give it a target]"],
    );
}
