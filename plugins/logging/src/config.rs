//! What may be configured: the plugin's own table, and `logging` of a service.
//!
//! A service's settings are read once, at `create`, and stored: the log of a container goes on as it was begun, over crashes
//! and reloads, until it is created anew. Sizes are numbers of bytes or text such as "20M"; K, M and G are powers of 1024.
use std::ops::RangeInclusive;
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
    /// Where systemd's journal listens. Default: /run/systemd/journal/socket.
    #[serde(default)]
    pub journal_socket: Option<PathBuf>,
}

/// How a record looks on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    Local,
    JsonFile,
    /// No files: systemd's journal has it.
    Journald,
}

impl Driver {
    /// Those that write files.
    pub const ALL: [Driver; 2] = [Driver::Local, Driver::JsonFile];

    /// What its files end in.
    pub fn extension(self) -> &'static str {
        match self {
            Driver::Local => "log",
            Driver::JsonFile => "json",
            Driver::Journald => "none",
        }
    }
}

/// What becomes of records that a full disk has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    /// They are dropped, counted and said; the service runs on.
    #[default]
    Drop,
    /// They wait for room, and so does the service when its pipe is full.
    Block,
}

/// `mode = "non-blocking"`: lines wait for a slow disk or journal in memory, and the service does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// `max_buffer_size`, of both streams together; each read takes some bytes more than what it brings.
    pub bytes: u64,
    pub drops: Drops,
}

/// Which lines go when the buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drops {
    #[default]
    Oldest,
    Newest,
}

pub const BUFFER_BYTES: RangeInclusive<u64> = 4 << 10..=1 << 30;

/// A tail of a line has to fit into the spool (spool.rs).
pub const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Below it, headers would outweigh text.
pub const LINE_BYTES_MIN: u64 = 256;
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024;
const SEGMENT_BYTES_MAX: u64 = 1 << 40;
/// Bytes a second.
const RATES: RangeInclusive<u64> = 1024..=1 << 40;

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
    /// Bytes a second, of both streams together; what comes faster is dropped.
    #[serde(default)]
    pub rate_limit: Option<u64>,
    #[serde(default)]
    pub on_full: OnFull,
    /// Segments that are not written any more.
    #[serde(default)]
    pub compress: bool,
    /// None: the service waits (`mode = "blocking"`).
    #[serde(default)]
    pub buffer: Option<Buffer>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            driver: Driver::Local,
            max_size: 20 << 20,
            max_file: 5,
            max_line: 16 << 10,
            max_age: None,
            rate_limit: None,
            on_full: OnFull::Drop,
            compress: true,
            buffer: None,
        }
    }
}

impl Settings {
    /// Of a service that left something to be written and whose settings nobody knows any more: nothing else of its log is touched.
    pub fn of_a_stray(driver: Driver) -> Settings {
        let (max_size, max_file) = (SEGMENT_BYTES_MAX, u32::MAX);
        Settings { driver, max_size, max_file, compress: false, ..Settings::default() }
    }

    /// From a service's table. `None`: its stdio is not for this plugin (`driver = "none"`). The error is a JSON pointer and
    /// what is wrong there.
    pub fn of(service: &Value) -> Result<Option<Settings>, Mistake> {
        let table = match service.get("logging") {
            None | Some(Value::Null) => return Ok(Some(Settings::default())),
            Some(Value::String(driver)) => json!({ "driver": driver }),
            Some(table) => table.clone(),
        };
        let driver = match table.get("driver").map(|d| d.as_str().unwrap_or("")) {
            // The CRI's lines are what podman and kubelet call k8s-file.
            None | Some("local" | "k8s-file") => Driver::Local,
            Some("json-file") => Driver::JsonFile,
            Some("journald") => Driver::Journald,
            Some("none") => return Ok(None),
            Some(_) => {
                let known = "local, json-file, k8s-file, journald, none";
                let text = format!("{} is no driver of this plugin: {known}", table["driver"]);
                return Err(("/logging/driver".to_owned(), text));
            }
        };
        let (keys, default) = (Keys(&table), Settings::default());
        let buffer = Buffer {
            bytes: keys.number("max_buffer_size", 1 << 20, *BUFFER_BYTES.start(), *BUFFER_BYTES.end())?,
            drops: keys.word("drop", &[("oldest", Drops::Oldest), ("newest", Drops::Newest)])?,
        };
        let modes = [("blocking", None), ("non-blocking", Some(buffer))];
        Ok(Some(Settings {
            driver,
            max_size: keys.number("max_size", default.max_size, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)?,
            max_file: keys.number("max_file", default.max_file.into(), 1, 10_000)? as u32,
            max_line: keys.number("max_line", default.max_line, LINE_BYTES_MIN, LINE_BYTES_MAX)?,
            max_age: keys.optional("max_age", "is no time; write \"7d\" or \"12h\"", |value| {
                value.as_str().and_then(duration).filter(|age| !age.is_zero())
            })?,
            rate_limit: keys.optional("rate_limit", "is no rate; write \"1M/s\"", |value| {
                let bytes = size(&value.as_str()?.trim().strip_suffix("/s")?.into())?;
                RATES.contains(&bytes).then_some(bytes)
            })?,
            on_full: keys.word("on_full", &[("drop", OnFull::Drop), ("block", OnFull::Block)])?,
            compress: match keys.get("compress") {
                None => default.compress,
                Some(Value::Bool(is)) => *is,
                Some(value) => {
                    return Keys::mistake("compress", format!("{value} is neither true nor false"));
                }
            },
            buffer: keys.word("mode", &modes)?,
        }))
    }
}

/// The keys of a service's `logging`.
struct Keys<'a>(&'a Value);

type Mistake = (String, String);

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn mistake<T>(key: &str, text: String) -> Result<T, Mistake> {
        Err((format!("/logging/{key}"), text))
    }

    fn number(&self, key: &str, default: u64, min: u64, max: u64) -> Result<u64, Mistake> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match size(value) {
            Some(n) if (min..=max).contains(&n) => Ok(n),
            Some(n) => Self::mistake(key, format!("{n} is not in {min} to {max}")),
            None => Self::mistake(key, format!("{value} is no size; write 20971520 or \"20M\"")),
        }
    }

    /// The first one is the default.
    fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<T, Mistake> {
        let Some(value) = self.get(key) else { return Ok(words[0].1) };
        match words.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some((_, is)) => Ok(*is),
            None => {
                let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Self::mistake(key, format!("{value} is none of {}", all.join(", ")))
            }
        }
    }

    /// One whose default is "none".
    fn optional<T>(
        &self,
        key: &str,
        wrong: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Mistake> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(none)) if none == "none" => Ok(None),
            Some(value) => match read(value) {
                Some(is) => Ok(Some(is)),
                None => Self::mistake(key, format!("{value} {wrong}")),
            },
        }
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
