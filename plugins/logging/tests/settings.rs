//! `logging` of a service: forms, defaults, errors.
use std::time::Duration;

use logging::config::{Buffer, Driver, Drops, OnFull, Settings, size};
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
    assert_eq!(of(json!("journald")), Ok(Some(Settings { driver: Driver::Journald, ..default })));
    assert_eq!(of(json!("k8s-file")), Ok(Some(default)), "the same lines");
    let given = json!({ "driver": "local", "max_size": 1_048_576, "max_file": 2, "max_line": "1K" });
    assert_eq!(of(given), Ok(Some(Settings { max_size: 1 << 20, max_file: 2, max_line: 1024, ..default })));
    assert_eq!(of(json!({ "max_age": "none" })), Ok(Some(default)));
    for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("7d", 604_800), (" 2m ", 120)] {
        let max_age = Some(Duration::from_secs(seconds));
        assert_eq!(of(json!({ "max_age": text })), Ok(Some(Settings { max_age, ..default })), "{text}");
    }
    let wrong = |key: &str, text: &str| Err((format!("/logging/{key}"), text.to_owned()));
    assert_eq!(
        of(json!("syslog")),
        wrong("driver", "\"syslog\" is no driver of this plugin: local, json-file, k8s-file, journald, none")
    );
    for text in ["", "0s", "7", "d", "7w", "-1s", "1s2", "99999999999999999999d", "999999999999d", "é"] {
        let said = format!("{text:?} is no time; write \"7d\" or \"12h\"");
        assert_eq!(of(json!({ "max_age": text })), wrong("max_age", &said));
    }
    assert_eq!(of(json!({ "max_age": 7 })), wrong("max_age", "7 is no time; write \"7d\" or \"12h\""));
    for (text, bytes) in [("1M/s", 1 << 20), ("2048/s", 2048), ("1.5 KiB/s", 1536)] {
        let rate_limit = Some(bytes);
        assert_eq!(of(json!({ "rate_limit": text })), Ok(Some(Settings { rate_limit, ..default })), "{text}");
    }
    assert_eq!(of(json!({ "rate_limit": "none" })), Ok(Some(default)));
    for text in ["", "/s", "1M", "1M/m", "0/s", "1023/s", "-1M/s", "2T/s", "M/s", "1M/s/s"] {
        let said = format!("{text:?} is no rate; write \"1M/s\"");
        assert_eq!(of(json!({ "rate_limit": text })), wrong("rate_limit", &said));
    }
    let plain = Settings { compress: false, ..default };
    assert_eq!(of(json!({ "compress": false })), Ok(Some(plain)));
    assert_eq!(of(json!({ "compress": 3 })), wrong("compress", "3 is neither true nor false"));
    let block = Settings { on_full: OnFull::Block, ..default };
    assert_eq!(of(json!({ "on_full": "block" })), Ok(Some(block)));
    assert_eq!(of(json!({ "on_full": "drop" })), Ok(Some(default)));
    assert_eq!(of(json!({ "on_full": "wait" })), wrong("on_full", "\"wait\" is none of drop, block"));
    for (given, buffer) in [
        (json!({ "mode": "blocking" }), None),
        (json!({ "max_buffer_size": "2M", "drop": "newest" }), None),
        (json!({ "mode": "non-blocking" }), Some(Buffer { bytes: 1 << 20, drops: Drops::Oldest })),
        (
            json!({ "mode": "non-blocking", "max_buffer_size": "4K", "drop": "newest" }),
            Some(Buffer { bytes: 4096, drops: Drops::Newest }),
        ),
    ] {
        assert_eq!(of(given.clone()), Ok(Some(Settings { buffer, ..default })), "{given}");
    }
    assert_eq!(of(json!({ "mode": "async" })), wrong("mode", "\"async\" is none of blocking, non-blocking"));
    assert_eq!(of(json!({ "drop": "all" })), wrong("drop", "\"all\" is none of oldest, newest"));
    for (size, said) in [
        (json!("4095"), "4095 is not in 4096 to 1073741824"),
        (json!("2G"), "2147483648 is not in 4096 to 1073741824"),
        (json!("-1M"), "\"-1M\" is no size; write 20971520 or \"20M\""),
        (json!(true), "true is no size; write 20971520 or \"20M\""),
    ] {
        assert_eq!(of(json!({ "max_buffer_size": size })), wrong("max_buffer_size", said));
    }
    assert_eq!(of(json!({ "max_file": 0 })), wrong("max_file", "0 is not in 1 to 10000"));
    assert_eq!(
        of(json!({ "max_size": "big" })),
        wrong("max_size", "\"big\" is no size; write 20971520 or \"20M\"")
    );
}
