//! Reading config.json: the specification's own examples, and another reader of the same text.

use sampan_plan::Spec;

fn examples(kind: &str) -> Vec<(String, String)> {
    let folder = format!("{}/tests/data/{kind}", env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&p).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

#[test]
fn the_specifications_good_examples_are_read() {
    for (name, text) in examples("good") {
        Spec::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn what_oci_spec_reads_we_read_alike() {
    for (name, text) in examples("good") {
        let Ok(theirs) = serde_json::from_str::<oci_spec::runtime::Spec>(&text) else { continue };
        let ours = Spec::parse(&text).unwrap();
        assert_eq!(ours.oci_version.as_str(), theirs.version(), "{name}");
        assert_eq!(ours.hostname.as_deref(), theirs.hostname().as_deref(), "{name}");
        let mounts = theirs.mounts().clone().unwrap_or_default();
        assert_eq!(ours.mounts.len(), mounts.len(), "{name}");
        for (a, b) in ours.mounts.iter().zip(&mounts) {
            assert_eq!(a.destination.as_str(), b.destination().to_str().unwrap(), "{name}");
            assert_eq!(a.kind.as_deref(), b.typ().as_deref(), "{name}");
            let options: Vec<&str> = a.options.iter().map(|o| o.as_str()).collect();
            assert_eq!(options, b.options().clone().unwrap_or_default(), "{name}");
        }
        if let Some(process) = theirs.process() {
            let ours = ours.process.unwrap();
            let args: Vec<&str> = ours.args.iter().map(|a| a.as_str()).collect();
            assert_eq!(args, process.args().clone().unwrap_or_default(), "{name}");
            assert_eq!(ours.user.uid, process.user().uid(), "{name}");
            assert_eq!(ours.no_new_privileges, process.no_new_privileges().unwrap_or(false), "{name}");
        }
        if let Some(linux) = theirs.linux() {
            assert_eq!(
                ours.linux.namespaces.len(),
                linux.namespaces().clone().unwrap_or_default().len(),
                "{name}"
            );
            assert_eq!(ours.linux.devices.len(), linux.devices().clone().unwrap_or_default().len(), "{name}");
            let masked: Vec<&str> = ours.linux.masked_paths.iter().map(|p| p.as_str()).collect();
            assert_eq!(masked, linux.masked_paths().clone().unwrap_or_default(), "{name}");
        }
    }
}

#[test]
fn null_is_the_same_as_absent() {
    let text = r#"{"ociVersion": "1.0.0", "mounts": null, "hooks": null, "annotations": null, "process": null,
        "linux": {"namespaces": null, "resources": null, "sysctl": null, "seccomp": null}}"#;
    assert_eq!(Spec::parse(text).unwrap(), Spec::parse(r#"{"ociVersion": "1.0.0"}"#).unwrap());
}

#[test]
fn unknown_fields_are_ignored() {
    let text =
        r#"{"ociVersion": "1.0.0", "windows": {"x": [1]}, "linux": {"newer": true}, "hostname": "a\u0062c"}"#;
    assert_eq!(Spec::parse(text).unwrap().hostname.as_deref(), Some("abc"));
}

#[test]
fn an_array_is_no_object() {
    for text in [
        r#"["1.0.0"]"#,
        r#"{"linux": {"resources": {"memory": [1048576]}}}"#,
        r#"{"linux": {"uidMappings": [[0, 1000, 1]]}}"#,
        r#"{"linux": {"seccomp": {"syscalls": [{"args": [[0, 1, 0, "SCMP_CMP_EQ"]]}]}}}"#,
        r#"{"process": {"user": [1000, 1000]}}"#,
        r#"{"hooks": []}"#,
    ] {
        let error = Spec::parse(text).unwrap_err().to_string();
        assert!(error.contains("invalid type: sequence, expected struct"), "{text}: {error}");
    }
}
