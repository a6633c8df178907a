//! What may be configured: the plugin's own table, and `logging` of a service.
//!
//! A service's settings are read once, at `create`, and stored: the log of a container goes on as it was begun, over crashes
//! and reloads, until it is created anew. Sizes are numbers of bytes or text such as "20M"; K, M and G are powers of 1024.
use std::path::PathBuf;
use std::time::Duration;

use sampan_plugin::prelude::*;

/// `[plugins.logging.config]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where a folder per service is made. Default: `logs` in sampand's state_dir.
    #[serde(default)]
    pub dir: Option<PathBuf>,
}

/// How a record looks on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    Local,
    JsonFile,
}

impl Driver {
    pub const ALL: [Driver; 2] = [Driver::Local, Driver::JsonFile];

    /// What its files end in.
    pub fn extension(self) -> &'static str {
        match self {
            Driver::Local => "log",
            Driver::JsonFile => "json",
        }
    }
}

/// A tail of a line has to fit into the spool (spool.rs).
pub const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Below it, headers would outweigh text.
pub const LINE_BYTES_MIN: u64 = 256;
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub driver: Driver,
    /// A segment that would grow over it is the last but one.
    pub max_size: u64,
    /// Segments kept, the current one included.
    pub max_file: u32,
    /// Longer lines are written in parts.
    pub max_line: u64,
    /// A segment goes so long after its last record, and is left when it is so old.
    #[serde(default)]
    pub max_age: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { driver: Driver::Local, max_size: 20 << 20, max_file: 5, max_line: 16 << 10, max_age: None }
    }
}

impl Settings {
    /// From a service's table. `None`: its stdio is not for this plugin (`driver = "none"`). The error is a JSON pointer and
    /// what is wrong there.
    pub fn of(service: &Value) -> Result<Option<Settings>, (String, String)> {
        let table = match service.get("logging") {
            None | Some(Value::Null) => return Ok(Some(Settings::default())),
            Some(Value::String(driver)) => json!({ "driver": driver }),
            Some(table) => table.clone(),
        };
        let at = |key: &str| format!("/logging/{key}");
        let driver = match table.get("driver").map(|d| d.as_str().unwrap_or("")) {
            None | Some("local") => Driver::Local,
            Some("json-file") => Driver::JsonFile,
            Some("none") => return Ok(None),
            Some(_) => {
                let text = format!("{} is no driver of this plugin: local, json-file, none", table["driver"]);
                return Err((at("driver"), text));
            }
        };
        let default = Settings::default();
        let number = |key: &str, default: u64, min: u64, max: u64| match table.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => match size(value) {
                Some(n) if (min..=max).contains(&n) => Ok(n),
                Some(n) => Err((at(key), format!("{n} is not in {min} to {max}"))),
                None => Err((at(key), format!("{value} is no size; write 20971520 or \"20M\""))),
            },
        };
        Ok(Some(Settings {
            driver,
            max_size: number("max_size", default.max_size, SEGMENT_BYTES_MIN, 1 << 40)?,
            max_file: number("max_file", default.max_file.into(), 1, 10_000)? as u32,
            max_line: number("max_line", default.max_line, LINE_BYTES_MIN, LINE_BYTES_MAX)?,
            max_age: match table.get("max_age") {
                None | Some(Value::Null) => None,
                Some(Value::String(none)) if none == "none" => None,
                Some(value) => match value.as_str().and_then(duration) {
                    Some(age) if !age.is_zero() => Some(age),
                    _ => return Err((at("max_age"), format!("{value} is no time; write \"7d\" or \"12h\""))),
                },
            },
        }))
    }
}

/// "7d", "1h30m", "250ms".
pub fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut micros) = (text.trim(), 0_u64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let each = match unit.trim() {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return None,
        };
        micros = micros.checked_add(number.parse::<u64>().ok()?.checked_mul(each)?)?;
        rest = after;
    }
    Some(Duration::from_micros(micros))
}

/// 20, "20", "20K", "20M", "20MiB", "1.5G" in bytes.
pub fn size(value: &Value) -> Option<u64> {
    if let Some(n) = value.as_u64() {
        return Some(n);
    }
    let text = value.as_str()?.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(n) => n.checked_mul(1 << shift),
        Err(_) => {
            number.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| (n * (1u64 << shift) as f64) as u64)
        }
    }
}
