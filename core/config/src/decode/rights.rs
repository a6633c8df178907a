//! `user`, capabilities, namespaces, sysctls, ulimits, devices, `security`.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{Field, Fields, Value, clean, userns};
use crate::near::nearest;
use crate::schema::{
    Device, NameOrId, NamespaceMode, Namespaces, NetworkMode, NoUser, SeccompProfile, Security, UNLIMITED,
    Ulimit, User,
};

pub fn user(f: &Field<'_>) -> Option<User> {
    parsed(f)
}

pub fn group(f: &Field<'_>) -> Option<NameOrId> {
    parsed(f)
}

/// Text, or a bare number.
fn parsed<T: FromStr<Err = NoUser>>(f: &Field<'_>) -> Option<T> {
    let text = match &f.node.value {
        Value::Integer(_) => f.count()?.to_string(),
        _ => f.nonempty()?,
    };
    match text.parse() {
        Ok(found) => Some(found),
        Err(NoUser { what, hint }) => {
            f.wrong(what, hint);
            None
        }
    }
}

pub fn capability(f: &Field<'_>) -> Option<String> {
    let text = f.nonempty()?.to_ascii_uppercase();
    if text == "ALL" {
        return Some(text);
    }
    let name = text.strip_prefix("CAP_").unwrap_or(&text);
    if CAPABILITIES.contains(&name) {
        return Some(format!("CAP_{name}"));
    }
    let hint = match nearest(name, CAPABILITIES) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "capabilities(7) lists them; or \"ALL\"".into(),
    };
    f.wrong("no such capability", hint);
    None
}

/// capabilities(7), all of Linux 6.x.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

pub fn security(t: &Fields<'_>, privileged: bool, namespaces: &Namespaces) -> Security {
    let (profile, paths) = match privileged {
        true => (SeccompProfile::Unconfined, Vec::new()),
        false => (SeccompProfile::Default, vec![DEFAULT.to_owned()]),
    };
    Security {
        no_new_privileges: t.or("no_new_privileges", Field::boolean, true),
        seccomp_profile: t.or("seccomp_profile", seccomp_profile, profile),
        apparmor: t.or("apparmor", |f| f.or_none(Field::nonempty), None),
        selinux: t.or("selinux", |f| f.or_none(Field::nonempty), None),
        userns: userns::userns(t, privileged, namespaces),
        masked_paths: t.or("masked_paths", |f| f.list(path_or_default), paths.clone()),
        readonly_paths: t.or("readonly_paths", |f| f.list(path_or_default), paths),
    }
}

/// Stands for the built-in paths among a service's own.
pub const DEFAULT: &str = "default";

fn path_or_default(f: &Field<'_>) -> Option<String> {
    let text = f.nonempty()?;
    if text == DEFAULT { Some(text) } else { f.inside_path_of(&text) }
}

fn seccomp_profile(f: &Field<'_>) -> Option<SeccompProfile> {
    match f.nonempty()?.as_str() {
        "default" => Some(SeccompProfile::Default),
        "unconfined" => Some(SeccompProfile::Unconfined),
        text => {
            let path = f.host_path_of(text)?;
            f.text_file(&path, "or write \"default\"")?;
            Some(SeccompProfile::Path(path))
        }
    }
}

/// Of namespaces alone: anything else would change the host.
pub fn sysctls(t: &Fields<'_>, namespaces: &Namespaces, network: &NetworkMode) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, f) in t.table("sysctls", "a table").entries() {
        let value = match &f.node.value {
            Value::Integer(n) => Some(n.to_string()),
            Value::Bool(b) => Some(u8::from(*b).to_string()),
            _ => f.nonempty(),
        };
        let wrong = |of: &str| {
            f.wrong(format!("{name} is the host's here"), format!("drop it, or {of} = \"host\""));
        };
        let theirs = match owner(name) {
            Some(Owner::Network) => network.joined(),
            Some(Owner::Ipc) => namespaces.ipc.joined(),
            Some(Owner::Uts) | None => None,
        };
        if let Some(joined) = theirs {
            f.wrong(format!("{name} is that of {} here", joined.0), "set it there");
            continue;
        }
        match owner(name) {
            Some(Owner::Network) if *network == NetworkMode::Host => wrong("network_mode"),
            Some(Owner::Ipc) if namespaces.ipc == NamespaceMode::Host => wrong("ipc"),
            Some(Owner::Uts) => f.wrong(format!("{name} has a key of its own"), "write domainname = \"..\""),
            Some(_) => all.extend(value.map(|value| (name.replace('/', "."), value))),
            None => f.wrong(
                format!("{name} is one of the whole host"),
                "a container may set net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*: set others with sysctl(8)",
            ),
        }
    }
    all
}

enum Owner {
    Network,
    Ipc,
    Uts,
}

fn owner(name: &str) -> Option<Owner> {
    let name = name.replace('/', ".");
    let (first, rest) = name.split_once('.')?;
    let ipc = |rest: &str| rest.starts_with("msg") || rest.starts_with("shm") || rest == "sem";
    match first {
        "net" => Some(Owner::Network),
        "fs" if rest.starts_with("mqueue.") => Some(Owner::Ipc),
        "kernel" if ipc(rest) => Some(Owner::Ipc),
        "kernel" if rest == "domainname" => Some(Owner::Uts),
        _ => None,
    }
}

/// As ulimit(1), compose and systemd call them, in setrlimit(2)'s units.
pub const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub fn ulimits(t: &Fields<'_>) -> BTreeMap<String, Ulimit> {
    let mut all = BTreeMap::new();
    for (name, f) in t.table("ulimits", "a table").entries() {
        if !ULIMITS.contains(&name) {
            let hint = match nearest(name, ULIMITS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of {}", ULIMITS.join(", ")),
            };
            f.wrong(format!("no such limit: `{name}`"), hint);
            continue;
        }
        all.extend(ulimit(&f).map(|limit| (name.to_owned(), limit)));
    }
    all
}

fn ulimit(f: &Field<'_>) -> Option<Ulimit> {
    let (soft, hard) = match &f.node.value {
        Value::Table(_) => {
            let t = f.fields();
            t.only(&["soft", "hard"], &[]);
            let one = |name: &str| {
                let f = t.get(name);
                if f.is_none() {
                    t.missing(name, "as { soft = 1024, hard = 4096 }");
                }
                amount(&f?, None)
            };
            (one("soft"), one("hard"))
        }
        Value::Text(_) => {
            let text = f.nonempty()?;
            let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
            (amount(f, Some(soft)), amount(f, Some(hard)))
        }
        _ => {
            let n = amount(f, None);
            (n, n)
        }
    };
    let limit = Ulimit { soft: soft?, hard: hard? };
    if limit.soft > limit.hard {
        f.wrong(format!("{limit}: soft is above hard"), "as \"1024:4096\"");
        return None;
    }
    Some(limit)
}

/// A number, `unlimited`, or docker's -1 for that.
fn amount(f: &Field<'_>, text: Option<&str>) -> Option<u64> {
    let text = match (&f.node.value, text) {
        (_, Some(text)) => text.to_owned(),
        (Value::Integer(n), None) => n.to_string(),
        (Value::Text(_), None) => f.nonempty()?,
        _ => return f.expected("a number, \"soft:hard\" or { soft, hard }"),
    };
    match text.as_str() {
        "unlimited" | "-1" => Some(UNLIMITED),
        digits => digits.parse().ok().or_else(|| {
            f.wrong(format!("`{text}` is not a limit"), "a number, or \"unlimited\"");
            None
        }),
    }
}

pub fn device(f: &Field<'_>) -> Option<Device> {
    let text = f.nonempty()?;
    if !text.starts_with(['/', '.']) && text.contains('/') && text.contains('=') {
        f.not_built("CDI devices", "name the device's path, as \"/dev/ttyUSB0\"");
        return None;
    }
    let parts: Vec<&str> = text.split(':').collect();
    let is_access = |text: &str| !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b));
    let (source, target, access) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, access] if is_access(access) => (*source, *source, *access),
        [source, target] => (*source, *target, "rwm"),
        [source, target, access] if is_access(access) => (*source, *target, *access),
        [_, _, access] => {
            f.wrong(format!("`{access}` is no access"), "of the letters r, w and m");
            return None;
        }
        _ => {
            f.wrong("not a device", "as \"/dev/ttyUSB0\" or \"/dev/ttyUSB0:/dev/modem:rw\"");
            return None;
        }
    };
    if !source.starts_with('/') {
        f.wrong("a device's path begins with /", "as \"/dev/ttyUSB0\"");
        return None;
    }
    Some(Device {
        source: clean(std::path::Path::new(source)),
        target: f.inside_path_of(target)?,
        access: access.to_owned(),
    })
}
