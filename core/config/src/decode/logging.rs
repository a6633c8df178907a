//! `logging` of a service. The bounds are the shipped plugin's.
use super::{Field, Fields};
use crate::schema::{LogDriver, LogDrop, LogMode, Logging, OnFull};
use crate::units;

pub fn logging(t: &Fields<'_>) -> Logging {
    const DRIVERS: &[(&str, LogDriver)] = &[
        ("local", LogDriver::Local),
        ("json-file", LogDriver::JsonFile),
        ("k8s-file", LogDriver::K8sFile),
        ("journald", LogDriver::Journald),
        ("none", LogDriver::None),
    ];
    const LATER: &[&str] = &["raw", "passthrough", "plugin:*", "syslog"];
    const ON_FULL: &[(&str, OnFull)] = &[("drop", OnFull::Drop), ("block", OnFull::Block)];
    const MODES: &[(&str, LogMode)] =
        &[("blocking", LogMode::Blocking), ("non-blocking", LogMode::NonBlocking)];
    const DROPS: &[(&str, LogDrop)] = &[("oldest", LogDrop::Oldest), ("newest", LogDrop::Newest)];
    for key in ["max_buffer_size", "drop"] {
        if let Some(field) = t.get(key).filter(|_| t.get("mode").is_none()) {
            field.warn("has no meaning without a mode", "add mode = \"non-blocking\"");
        }
    }
    Logging {
        driver: t.or("driver", |f| f.word("driver", DRIVERS, LATER), LogDriver::Local),
        max_size: t.or("max_size", |f| f.size_in(4 << 10..=1 << 40, "4K to 1T"), 20 << 20),
        max_file: t.or("max_file", |f| f.integer(1..=1000), 5) as u32,
        max_line: t.or("max_line", |f| f.size_in(256..=64 << 10, "256 bytes to 64K"), 16 << 10),
        max_age: t.or("max_age", |f| f.or_none(Field::period), None),
        rate_limit: t.or("rate_limit", |f| f.or_none(rate), None),
        compress: t.or("compress", Field::boolean, true),
        mode: t.or("mode", |f| f.word("mode", MODES, &[]), LogMode::Blocking),
        max_buffer_size: t.or("max_buffer_size", |f| f.size_in(4 << 10..=1 << 30, "4K to 1G"), 1 << 20),
        drop: t.or("drop", |f| f.word("drop", DROPS, &[]), LogDrop::Oldest),
        on_full: t.or("on_full", |f| f.word("on_full", ON_FULL, &[]), OnFull::Drop),
    }
}

/// Bytes a second.
fn rate(f: &Field<'_>) -> Option<u64> {
    let text = f.text()?;
    let hint = "as \"1M/s\": 1K/s to 1T/s";
    let Some(size) = text.trim().strip_suffix("/s") else {
        f.wrong("is no rate", hint);
        return None;
    };
    match units::parse_size(size) {
        Ok(bytes) if (1 << 10..=1 << 40).contains(&bytes) => Some(bytes),
        Ok(bytes) => {
            f.wrong(format!("{bytes} bytes a second is out of range"), hint);
            None
        }
        Err(why) => {
            f.wrong(why, hint);
            None
        }
    }
}
