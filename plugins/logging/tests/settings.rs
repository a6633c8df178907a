//! `logging` of a service: forms, defaults, errors.
use logging::config::{Driver, Settings, size};
use serde_json::{Value, json};

#[test]
fn sizes() {
    for (value, expected) in [
        (json!(20), Some(20)),
        (json!("20"), Some(20)),
        (json!("20M"), Some(20 << 20)),
        (json!("20MiB"), Some(20 << 20)),
        (json!("16k"), Some(16 << 10)),
        (json!("1.5G"), Some(3 << 29)),
        (json!("1e3"), None),
        (json!("M"), None),
        (json!(-1), None),
    ] {
        assert_eq!(size(&value), expected, "{value}");
    }
}

#[test]
fn forms_and_defaults() {
    let of = |logging: Value| Settings::of(&json!({ "logging": logging }));
    let default = Settings::default();
    assert_eq!(Settings::of(&json!({})), Ok(Some(default)));
    assert_eq!(of(json!("none")), Ok(None));
    assert_eq!(of(json!("json-file")), Ok(Some(Settings { driver: Driver::JsonFile, ..default })));
    let given = json!({ "driver": "local", "max_size": 1_048_576, "max_file": 2, "max_line": "1K" });
    assert_eq!(of(given), Ok(Some(Settings { max_size: 1 << 20, max_file: 2, max_line: 1024, ..default })));
    let wrong = |key: &str, text: &str| Err((format!("/logging/{key}"), text.to_owned()));
    assert_eq!(
        of(json!("syslog")),
        wrong("driver", "\"syslog\" is no driver of this plugin: local, json-file, none")
    );
    assert_eq!(of(json!({ "max_file": 0 })), wrong("max_file", "0 is not in 1 to 10000"));
    assert_eq!(
        of(json!({ "max_size": "big" })),
        wrong("max_size", "\"big\" is no size; write 20971520 or \"20M\"")
    );
}
