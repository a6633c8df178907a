//! How the types of a config are written in config.toml.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ByWatchdog, ExitStatus, ExtraHost, Healthcheck, HostAddress, Membership, NameOrId, NoUser, Signal,
    Subnet, TestCommand, Tmpfs, User,
};
use crate::units;

pub fn duration<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&units::show_duration(*d))
}

pub fn duration_or_none<S: Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&d.map_or("none".into(), units::show_duration))
}

pub fn to_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    units::parse_duration(&String::deserialize(d)?).map_err(D::Error::custom)
}

pub fn size<S: Serializer>(n: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&units::show_size(*n))
}

pub fn size_or_none<S: Serializer>(n: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&n.map_or("none".into(), units::show_size))
}

pub fn rate_or_none<S: Serializer>(n: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&n.map_or("none".into(), |n| format!("{}/s", units::show_size(n))))
}

pub fn or_none<T: Serialize, S: Serializer>(v: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
    match v {
        Some(v) => v.serialize(s),
        None => s.serialize_str("none"),
    }
}

pub fn shown_or_none<T: Display, S: Serializer>(v: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
    match v {
        Some(v) => s.collect_str(v),
        None => s.serialize_str("none"),
    }
}

pub fn or_auto<T: Display, S: Serializer>(v: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
    match v {
        Some(v) => s.collect_str(v),
        None => s.serialize_str("auto"),
    }
}

pub fn mode<S: Serializer>(mode: &u32, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{mode:04o}"))
}

pub fn some_mode<S: Serializer>(of: &Option<u32>, s: S) -> Result<S::Ok, S::Error> {
    match of {
        Some(of) => mode(of, s),
        None => s.serialize_none(),
    }
}

pub fn status<S: Serializer>((low, high): &(u16, u16), s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{low}-{high}"))
}

pub fn healthcheck<S: Serializer>(check: &Option<Healthcheck>, s: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Without {
        test: [&'static str; 1],
    }
    match check {
        Some(check) => check.serialize(s),
        None => Without { test: ["NONE"] }.serialize(s),
    }
}

impl Serialize for ByWatchdog {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bool(true)
    }
}

/// A name alone, where there is nothing else to say.
impl Serialize for Membership {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if *self == Membership::of(&self.network) {
            return s.serialize_str(&self.network);
        }
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("name", &self.network)?;
        if let Some(address) = self.ipv4_address {
            map.serialize_entry("ipv4_address", &address)?;
        }
        if let Some(address) = self.ipv6_address {
            map.serialize_entry("ipv6_address", &address)?;
        }
        if !self.aliases.is_empty() {
            map.serialize_entry("aliases", &self.aliases)?;
        }
        map.end()
    }
}

impl Display for ExtraHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            HostAddress::Is(address) => write!(f, "{}:{address}", self.name),
            HostAddress::Gateway => write!(f, "{}:host-gateway", self.name),
        }
    }
}

impl Serialize for TestCommand {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            TestCommand::Argv(argv) => {
                s.collect_seq(["CMD"].into_iter().chain(argv.iter().map(String::as_str)))
            }
            TestCommand::Shell(text) => s.collect_seq(["CMD-SHELL", text]),
        }
    }
}

impl Display for Tmpfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.target)?;
        let size = self.size.map(|n| format!("size={}", units::show_size(n)));
        let mode = self.mode.map(|m| format!("mode={m:04o}"));
        let all = size.into_iter().chain(mode).chain(self.options.iter().cloned());
        for (i, option) in all.enumerate() {
            f.write_str(if i == 0 { ":" } else { "," })?;
            f.write_str(&option)?;
        }
        Ok(())
    }
}

impl Display for NameOrId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NameOrId::Name(name) => f.write_str(name),
            NameOrId::Id(id) => write!(f, "{id}"),
        }
    }
}

impl Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => write!(f, "{}", self.user),
        }
    }
}

impl Display for NoUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.hint)
    }
}

impl FromStr for NameOrId {
    type Err = NoUser;

    fn from_str(text: &str) -> Result<NameOrId, NoUser> {
        if text.is_empty() {
            return Err(NoUser { what: "a name is empty".into(), hint: "as \"1000:1000\" or \"www-data\"" });
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(NameOrId::Name(text.to_string()));
        }
        match text.parse() {
            Ok(id) if id != u32::MAX => Ok(NameOrId::Id(id)),
            _ => Err(NoUser { what: format!("{text} is out of range"), hint: "0 to 4294967294" }),
        }
    }
}

impl FromStr for User {
    type Err = NoUser;

    fn from_str(text: &str) -> Result<User, NoUser> {
        match text.split_once(':') {
            Some((user, group)) => Ok(User { user: user.parse()?, group: Some(group.parse()?) }),
            None => Ok(User { user: text.parse()?, group: None }),
        }
    }
}

impl TryFrom<String> for NameOrId {
    type Error = NoUser;

    fn try_from(text: String) -> Result<NameOrId, NoUser> {
        text.parse()
    }
}

impl TryFrom<String> for User {
    type Error = NoUser;

    fn try_from(text: String) -> Result<User, NoUser> {
        text.parse()
    }
}

impl Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "{code}"),
            ExitStatus::Signal(signal) => write!(f, "{signal}"),
        }
    }
}

impl Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&units::show_signal(self.0))
    }
}

macro_rules! serialize_as_display {
    ($($t:ty),*) => {$(
        impl Serialize for $t {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
    )*};
}
serialize_as_display!(NameOrId, Tmpfs, User, Subnet, Signal, ExtraHost);
