//! The command line from outside: help, errors in both places, exit codes, completions.

use std::fs;

use sampan_runtime::cli::table::{GLOBAL, Needs, Takes, VERBS};
use sampan_testkit::{Bundle, Folder};
use serde_json::json;

use crate::sampan::{Root, program, run, sampan};

fn error(args: &[&str]) -> String {
    let (code, out, err) = run(&mut sampan(args));
    assert_eq!((code, out.as_str()), (1, ""));
    err
}

#[test]
fn help_lists_every_command() {
    let (code, out, _) = run(&mut sampan(["--help"]));
    assert_eq!(code, 0);
    insta::assert_snapshot!(out);
}

#[test]
fn every_command_has_help() {
    let mut all = String::new();
    for verb in VERBS.iter().filter(|v| v.help != "not supported yet") {
        let (code, out, err) = run(&mut sampan([verb.name, "--help"]));
        assert_eq!((code, err.as_str()), (0, ""), "{}", verb.name);
        all.push_str(&out);
        all.push('\n');
    }
    insta::assert_snapshot!(all);
}

#[test]
fn no_command_prints_the_help_and_fails() {
    let (code, out, _) = run(&mut sampan::<&str>([]));
    assert_eq!(code, 1);
    assert!(out.contains("Usage: sampan"));
}

#[test]
fn checkpoint_help_fails_because_clients_take_it_for_support() {
    assert_eq!(error(&["checkpoint", "--help"]), "sampan: checkpoint: not supported yet\n");
}

#[test]
fn mistakes_are_named_and_answered() {
    for (args, text) in [
        (&["lst"][..], "unknown command \"lst\", did you mean \"list\"? `sampan --help` lists them"),
        (&["rnu"], "unknown command \"rnu\", did you mean \"run\"? `sampan --help` lists them"),
        (&["frobnicate"], "unknown command \"frobnicate\"; `sampan --help` lists them"),
        (
            &["create", "--bundel", "x", "c"],
            "unknown flag --bundel, did you mean \"--bundle\"? `sampan create --help` lists them",
        ),
        (&["start", "-x", "c"], "unknown flag -x; `sampan start --help` lists them"),
        (&["start"], "start: missing argument; usage: sampan start ID"),
        (&["start", "a", "b"], "start: \"b\" is one argument too many; usage: sampan start ID"),
        (&["create", "c", "--pid-file"], "missing argument for option '--pid-file'"),
        (&["delete", "--force=maybe", "c"], "--force takes no value, but got \"maybe\""),
        (&["list", "--format", "yaml"], "--format \"yaml\": must be table or json"),
        (&["--log-format", "xml", "list"], "--log-format \"xml\": must be text or json"),
        (&["--cgroup-manager", "x", "list"], "--cgroup-manager \"x\": must be cgroupfs, systemd or disabled"),
        (&["--root", "/", "list"], "--root /: must not be the root of the file system"),
        (&["--root", "", "list"], "--root : must not be empty"),
        (&["kill", "c", "NOPE"], "kill: unknown signal \"NOPE\""),
        (&["state", "../x"], "\"../x\": invalid container ID format: it begins with a dot"),
        (&["state", "a/b"], "\"a/b\": invalid container ID format: only A-Z a-z 0-9 _ + . - are allowed"),
        (
            &["enter", "-n", "true"],
            "--net: whose? name a process or container by --target, or a file by --net=FILE",
        ),
    ] {
        assert_eq!(error(args), format!("sampan: {text}\n"), "{args:?}");
    }
}

/// A container is looked for in the root folder, so a bad id is found where the root is good, and a bad root first.
#[test]
fn a_verb_needs_of_root_and_container_what_its_row_says() {
    for row in VERBS.iter().filter(|row| row.name != "spec") {
        let words = vec!["-"; row.count.0.max(1).min(row.count.1)];
        let said = |root: &str| {
            let (_, _, err) = run(sampan(["--root", root, row.name]).args(&words).current_dir("/"));
            err
        };
        let (no_root, no_container) = (said(""), said("/tmp/.sampan-test-nothing"));
        let bad_root = no_root == "sampan: --root : must not be empty\n";
        assert_eq!(bad_root, row.needs != Needs::Nothing, "{}: {no_root}", row.name);
        assert!(
            !no_root.contains("table.rs") && !no_container.contains("table.rs"),
            "{no_root}{no_container}"
        );
    }
}

#[test]
fn a_folder_that_is_no_bundle_is_answered_with_how_to_get_one() {
    let folder = Folder::new();
    let said = error(&["plan", folder.0.to_str().unwrap()]);
    let likely =
        "this folder is no bundle: name another by --bundle, or write a config.json with sampan spec";
    let config = folder.path("config.json");
    assert_eq!(
        said,
        format!("sampan: cannot read {}\n  openat: ENOENT\n  likely: {likely}\n", config.display())
    );
}

/// Which file it is, whoever named it.
#[test]
fn a_file_that_is_no_json_is_named() {
    let owner = Folder::new();
    let folder = fs::canonicalize(&owner.0).unwrap();
    let bundle = folder.to_str().unwrap();
    for name in ["config.json", "other.json"] {
        let file = folder.join(name);
        fs::write(&file, "{").unwrap();
        let file = file.to_str().unwrap();
        let said = match name {
            "config.json" => error(&["create", "-b", bundle, "nobody"]),
            _ => error(&["create", "-b", bundle, "--config", file, "nobody"]),
        };
        assert_eq!(said, format!("sampan: {file}: EOF while parsing an object at line 1 column 1\n"));
    }
}

#[test]
fn enter_names_the_errno_of_a_program_that_is_not_there() {
    let (code, out, err) = run(&mut sampan(["enter", "nosuch"]));
    assert_eq!((code, out.as_str(), err.as_str()), (127, "", "sampan: cannot run nosuch: ENOENT\n"));
}

#[test]
fn an_error_goes_to_the_log_as_one_json_object_and_to_stderr_as_text() {
    let root = Root::new("log");
    let log = root.path().with_extension("log");
    let (code, err) = root.err(["--log", log.to_str().unwrap(), "--log-format=json", "state", "nosuch"]);
    assert_eq!((code, err.as_str()), (1, "sampan: nosuch: container does not exist\n"));
    let id = format!("t{}-nowhere", std::process::id());
    let anywhere = std::process::Command::new(program()).args(["state", &id]).output().unwrap();
    let err = String::from_utf8_lossy(&anywhere.stderr).into_owned();
    assert!(err.contains("does not exist") && err.contains("sampan --root RUN_DIR/containers"), "{err}");
    let logged: serde_json::Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    fs::remove_file(log).unwrap();
    assert_eq!(logged["level"], "error");
    assert_eq!(logged["msg"], "nosuch: container does not exist");
    assert_eq!(logged["time"].as_str().unwrap().len(), "2026-11-24T22:13:22Z".len());
}

#[test]
fn long_flags_may_have_one_dash_and_switches_a_truth_value() {
    let root = Root::new("dash");
    assert_eq!(root.ok(["list", "-format", "json"]), "null\n");
    assert_eq!(root.ok(["list", "-format=json", "--quiet=false"]), "null\n");
    assert_eq!(root.ok(["-debug=false", "list", "-quiet"]), "");
}

#[test]
fn flags_end_at_the_id_where_a_program_follows() {
    // `-c` belongs to the program, so the flag is not unknown but the container missing.
    let root = Root::new("stop");
    assert_eq!(root.err(["ps", "c", "-c"]).1, "sampan: c: container does not exist\n");
    assert_eq!(root.err(["kill", "c", "--", "9"]).1, "sampan: c: container does not exist\n");
}

#[test]
fn the_version_is_what_go_runc_parses() {
    let (_, out, _) = run(&mut sampan(["--version"]));
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with("sampan version ") && lines[1].starts_with("commit: "));
    assert_eq!(lines[2], "spec: 1.3.0");
}

#[test]
fn under_the_name_runc_the_version_is_runcs() {
    let folder = Folder::new();
    std::os::unix::fs::symlink(program(), folder.path("runc")).unwrap();
    let (_, out, _) = run(std::process::Command::new(folder.path("runc")).arg("--version"));
    assert!(out.starts_with("runc version "), "{out}");
}

#[test]
fn a_missing_root_is_empty_only_if_nobody_named_it() {
    assert!(
        error(&["--root", "/nonexistent/root", "list"]).starts_with("sampan: cannot list /nonexistent/root")
    );
}

#[test]
fn completions_and_man_page_know_every_flag() {
    for what in ["man", "bash", "zsh", "fish"] {
        let (code, out, _) = run(&mut sampan(["generate", what]));
        assert_eq!(code, 0);
        let plain = out.replace("\\-", "-");
        for flag in GLOBAL.iter().chain(VERBS.iter().flat_map(|v| v.flags)) {
            let written =
                if what == "fish" { format!("-l {}", flag.long) } else { format!("--{}", flag.long) };
            assert!(plain.contains(&written), "{what}: {written}");
        }
    }
}

#[test]
fn completions_are_valid_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let (_, script, _) = run(&mut sampan(["generate", shell]));
        let folder = Folder::new().with("script", &script);
        let checked = std::process::Command::new(shell).arg("-n").arg(folder.path("script")).output();
        match checked {
            Ok(o) => assert!(o.status.success(), "{shell}: {}", String::from_utf8_lossy(&o.stderr)),
            Err(_) => _ = sampan_testkit::need::programs(&[shell], shell),
        }
    }
}

#[test]
fn no_verb_has_a_flag_twice() {
    for verb in VERBS {
        let mut names: Vec<_> = verb.flags.iter().map(|f| f.long).collect();
        let mut letters: Vec<_> = verb.flags.iter().filter_map(|f| f.short).collect();
        let (n, l) = (names.len(), letters.len());
        names.sort();
        names.dedup();
        letters.sort();
        letters.dedup();
        assert_eq!((names.len(), letters.len()), (n, l), "{}", verb.name);
        assert!(verb.flags.iter().all(|f| f.takes != Takes::Value("")), "{}", verb.name);
    }
}

#[test]
fn spec_writes_a_config_once() {
    let root = Root::new("spec");
    let dir = root.path().join("b");
    fs::create_dir(&dir).unwrap();
    let args = ["spec", "--bundle", dir.to_str().unwrap()];
    assert_eq!(root.ok(args), "");
    let spec = oci_spec::runtime::Spec::load(dir.join("config.json")).unwrap();
    assert_eq!(spec.process().as_ref().unwrap().args().as_ref().unwrap(), &["sh".to_owned()]);
    assert!(root.err(args).1.contains("exists; remove it first"));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn features_have_what_the_schema_wants() {
    let (_, out, _) = run(&mut sampan(["features"]));
    let features: oci_spec::runtime::Features = serde_json::from_str(&out).unwrap();
    assert_eq!(features.oci_version_max(), "1.3.0");
    assert_eq!(features.oci_version_min(), "1.0.0");
    let unsafe_ones = features.potentially_unsafe_config_annotations().as_ref().unwrap();
    assert_eq!(
        unsafe_ones.as_slice(),
        ["org.sampan.rootfs.mode", "org.sampan.rootfs.layers", "org.sampan.rootfs.upper"]
    );
}

#[test]
fn every_mount_option_that_features_names_can_be_used() {
    let root = Root::new("options");
    let (_, out, _) = run(&mut sampan(["features"]));
    let features: serde_json::Value = serde_json::from_str(&out).unwrap();
    let options = features["mountOptions"].as_array().unwrap();
    assert!(options.len() > 30, "{options:?}");
    let mut bundle = Bundle::new("options").unwrap();
    for (n, option) in options.iter().enumerate() {
        let mut mount =
            json!({ "destination": format!("/mnt/{n}"), "source": "/", "options": ["bind", option] });
        if option.as_str().unwrap().ends_with("idmap") {
            let map = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
            mount["uidMappings"] = map.clone();
            mount["gidMappings"] = map;
        }
        bundle.add("/mounts", mount);
    }
    bundle.write().unwrap();
    root.ok(["plan", bundle.path().to_str().unwrap()]);
}
