//! Durations, sizes, signals and file modes as config.toml writes them. Pure; each `show_` is what its `parse_` reads.

use std::time::Duration;

const UNITS: [(&str, u128); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// `1m30s`, `1.5s`, `250ms`; the units us ms s m h d, largest first or not, never a bare number.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("a duration is empty".into());
    }
    let mut micros = 0u128;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        if digits.is_empty() {
            return Err(format!("`{text}` is not a duration"));
        }
        let unit = unit.trim();
        if unit.is_empty() {
            return Err("a duration needs a unit".into());
        }
        let each = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, each)| *each)
            .ok_or_else(|| format!("no such unit of time: `{unit}`"))?;
        micros = micros
            .checked_add(times(digits, each).ok_or_else(|| format!("`{text}` is not a duration"))?)
            .ok_or_else(|| format!("`{text}` is too long"))?;
        rest = after.trim_start();
    }
    // Ten thousand years: far beyond any timer, and safe to add to any clock.
    if micros > 10_000 * 366 * UNITS[0].1 {
        return Err(format!("`{text}` is too long"));
    }
    Ok(Duration::from_micros(micros as u64))
}

/// `digits` may have one point: integer arithmetic, so 0.1s is exactly 100 ms.
fn times(digits: &str, each: u128) -> Option<u128> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if part.contains('.') || part.len() > 12 || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction =
        if part.is_empty() { 0 } else { part.parse::<u128>().ok()? * each / 10u128.pow(part.len() as u32) };
    whole.checked_mul(each)?.checked_add(fraction)
}

pub fn show_duration(d: Duration) -> String {
    let mut micros = d.as_micros();
    if micros == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (name, each) in UNITS {
        if micros >= each {
            text.push_str(&format!("{}{name}", micros / each));
            micros %= each;
        }
    }
    text
}

/// `512M`, `1.5GiB`, `64kb`, `4096`: K M G T of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let number = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(number);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        other if digits.is_empty() => return Err(format!("`{other}` is not a size")),
        other => return Err(format!("no such unit of size: `{other}`")),
    };
    let bytes = times(digits, 1u128 << shift).ok_or_else(|| format!("`{text}` is not a size"))?;
    u64::try_from(bytes)
        .ok()
        .filter(|n| *n <= i64::MAX as u64)
        .ok_or_else(|| format!("`{text}` is too large"))
}

pub fn show_size(bytes: u64) -> String {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// `SIGTERM`, `TERM`, `sigterm`, `15`, `SIGRTMIN+3`.
pub fn parse_signal(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (low, high) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    if let Ok(number) = name.parse::<i32>() {
        return (1..=high).contains(&number).then_some(number);
    }
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let number = match name {
        "RTMIN" => low,
        "RTMAX" => high,
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(n), _) => low.checked_add(n.parse().ok()?)?,
            (_, Some(n)) => high.checked_sub(n.parse().ok()?)?,
            _ => return None,
        },
    };
    (low..=high).contains(&number).then_some(number)
}

pub fn show_signal(number: i32) -> String {
    let low = libc::SIGRTMIN();
    match SIGNALS.iter().find(|(_, n)| *n == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number == low => "SIGRTMIN".into(),
        None if number > low => format!("SIGRTMIN+{}", number - low),
        None => number.to_string(),
    }
}

/// All names, for the nearest one.
pub fn signal_names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(name, _)| *name)
}

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// Octal text: `0700`, `1777`.
pub fn parse_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777 && !text.starts_with('+'))
}
