//! What the kinds mean, and how hooks are read.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::time::Duration;

use sampan_hooks::{Hooks, Kind, OnFailure, Place};

#[test]
fn only_poststop_lets_the_verb_go_on() {
    for kind in Kind::ALL {
        let expected = if kind == Kind::Poststop { OnFailure::Warn } else { OnFailure::Abort };
        assert_eq!(kind.on_failure(), expected, "{kind}");
    }
}

#[test]
fn two_kinds_run_inside_the_container() {
    let inside: Vec<_> =
        Kind::ALL.into_iter().filter(|k| k.place() == Place::Container).map(Kind::name).collect();
    assert_eq!(inside, ["createContainer", "startContainer"]);
}

#[test]
fn hooks_are_read_as_go_writes_them() {
    let hooks: Hooks = serde_json::from_str(
        r#"{"prestart":null,"createRuntime":[{"path":"/bin/a","args":null,"env":null,"timeout":5,"new":1}],"x":1}"#,
    )
    .unwrap();
    assert_eq!(hooks.create_runtime[0].limit(), Some(Duration::from_secs(5)));
    assert!(hooks.prestart.is_empty() && !hooks.is_empty());
}
