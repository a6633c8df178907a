//! config.json as the runtime specification 1.0 to 1.3 writes it, borrowed from the text it was read from.
//!
//! Unknown fields are ignored, as config.md demands; `null` stands for an absent list or map, since Go
//! programs write it so.  Nothing is judged here: what a value means, and whether it may be so, is the
//! business of the file of the same name that compiles it.

use crate::error::Error;
use crate::json_path;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

/// A string that borrows from the JSON text wherever that holds no escapes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Str<'a>(pub Cow<'a, str>);

impl Str<'_> {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}
impl std::borrow::Borrow<str> for Str<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl<'a> From<&'a str> for Str<'a> {
    fn from(s: &'a str) -> Self {
        Str(Cow::Borrowed(s))
    }
}
impl From<String> for Str<'_> {
    fn from(s: String) -> Self {
        Str(Cow::Owned(s))
    }
}
impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Str<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, s: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(s)))
            }
            fn visit_str<E>(self, s: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(s.to_owned())))
            }
            fn visit_string<E>(self, s: String) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(s)))
            }
        }
        d.deserialize_str(V)
    }
}

/// `null` is the same as absent.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// serde also takes an array for a struct, its fields in order: `"memory": [1]` would be a limit. An object is an object.
struct Object<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Object<D> {
    type Error = D::Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// `remote = "Self"` makes serde's functions inherent ones; the traits call them, through [`Object`].
macro_rules! object {
    ($name:ident $(<$a:lifetime>)?) => {
        impl<'de $(: $a, $a)?> Deserialize<'de> for $name $(<$a>)? {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::deserialize(Object(d))
            }
        }
        impl $(<$a>)? Serialize for $name $(<$a>)? {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, s)
            }
        }
    };
}

/// Declares a part of the spec: every field may be absent or null, and keeps its name from JSON.
macro_rules! part {
    ($(#[$doc:meta])* $name:ident<$a:lifetime> { $($(#[$fdoc:meta])* $field:ident : $ty:ty = $json:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default, remote = "Self", bound(deserialize = "'de: 'a"))]
        pub struct $name<$a> {
            $($(#[$fdoc])* #[serde(rename = $json, deserialize_with = "nullable", skip_serializing_if = "absent")] pub $field: $ty,)*
        }
        object!($name<$a>);
    };
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty = $json:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default, remote = "Self")]
        pub struct $name {
            $($(#[$fdoc])* #[serde(rename = $json, deserialize_with = "nullable", skip_serializing_if = "absent")] pub $field: $ty,)*
        }
        object!($name);
    };
}

fn absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

part! {
    /// The whole of config.json.
    Spec<'a> {
        oci_version: Str<'a> = "ociVersion",
        process: Option<Process<'a>> = "process",
        root: Option<Root<'a>> = "root",
        hostname: Option<Str<'a>> = "hostname",
        domainname: Option<Str<'a>> = "domainname",
        mounts: Vec<Mount<'a>> = "mounts",
        hooks: Hooks<'a> = "hooks",
        annotations: BTreeMap<Str<'a>, Str<'a>> = "annotations",
        linux: Linux<'a> = "linux",
    }
}

part! {
    Root<'a> {
        path: Str<'a> = "path",
        readonly: bool = "readonly",
    }
}

part! {
    Process<'a> {
        terminal: bool = "terminal",
        console_size: Option<ConsoleSize> = "consoleSize",
        user: User = "user",
        args: Vec<Str<'a>> = "args",
        env: Vec<Str<'a>> = "env",
        cwd: Str<'a> = "cwd",
        capabilities: Option<Capabilities<'a>> = "capabilities",
        rlimits: Vec<Rlimit<'a>> = "rlimits",
        no_new_privileges: bool = "noNewPrivileges",
        apparmor_profile: Option<Str<'a>> = "apparmorProfile",
        oom_score_adj: Option<i32> = "oomScoreAdj",
        selinux_label: Option<Str<'a>> = "selinuxLabel",
        scheduler: Option<Scheduler<'a>> = "scheduler",
        io_priority: Option<IoPriority<'a>> = "ioPriority",
        exec_cpu_affinity: Option<ExecCpuAffinity<'a>> = "execCPUAffinity",
    }
}

part! { ConsoleSize { height: u16 = "height", width: u16 = "width" } }

part! {
    User {
        uid: u32 = "uid",
        gid: u32 = "gid",
        umask: Option<u32> = "umask",
        additional_gids: Vec<u32> = "additionalGids",
    }
}

part! {
    Capabilities<'a> {
        bounding: Vec<Str<'a>> = "bounding",
        effective: Vec<Str<'a>> = "effective",
        inheritable: Vec<Str<'a>> = "inheritable",
        permitted: Vec<Str<'a>> = "permitted",
        ambient: Vec<Str<'a>> = "ambient",
    }
}

part! { Rlimit<'a> { kind: Str<'a> = "type", hard: u64 = "hard", soft: u64 = "soft" } }

part! {
    Scheduler<'a> {
        policy: Str<'a> = "policy",
        nice: Option<i32> = "nice",
        priority: Option<i32> = "priority",
        flags: Vec<Str<'a>> = "flags",
        runtime: Option<u64> = "runtime",
        deadline: Option<u64> = "deadline",
        period: Option<u64> = "period",
    }
}

part! { IoPriority<'a> { class: Str<'a> = "class", priority: i32 = "priority" } }
part! { ExecCpuAffinity<'a> { initial: Option<Str<'a>> = "initial", last: Option<Str<'a>> = "final" } }

part! {
    Mount<'a> {
        destination: Str<'a> = "destination",
        kind: Option<Str<'a>> = "type",
        source: Option<Str<'a>> = "source",
        options: Vec<Str<'a>> = "options",
        uid_mappings: Vec<IdMapping> = "uidMappings",
        gid_mappings: Vec<IdMapping> = "gidMappings",
    }
}

part! {
    Hooks<'a> {
        prestart: Vec<Hook<'a>> = "prestart",
        create_runtime: Vec<Hook<'a>> = "createRuntime",
        create_container: Vec<Hook<'a>> = "createContainer",
        start_container: Vec<Hook<'a>> = "startContainer",
        poststart: Vec<Hook<'a>> = "poststart",
        poststop: Vec<Hook<'a>> = "poststop",
    }
}

part! {
    Hook<'a> {
        path: Str<'a> = "path",
        args: Vec<Str<'a>> = "args",
        env: Vec<Str<'a>> = "env",
        timeout: Option<i64> = "timeout",
    }
}

part! {
    Linux<'a> {
        namespaces: Vec<Namespace<'a>> = "namespaces",
        uid_mappings: Vec<IdMapping> = "uidMappings",
        gid_mappings: Vec<IdMapping> = "gidMappings",
        time_offsets: BTreeMap<Str<'a>, TimeOffset> = "timeOffsets",
        devices: Vec<Device<'a>> = "devices",
        net_devices: BTreeMap<Str<'a>, NetDevice<'a>> = "netDevices",
        cgroups_path: Option<Str<'a>> = "cgroupsPath",
        rootfs_propagation: Option<Str<'a>> = "rootfsPropagation",
        masked_paths: Vec<Str<'a>> = "maskedPaths",
        readonly_paths: Vec<Str<'a>> = "readonlyPaths",
        mount_label: Option<Str<'a>> = "mountLabel",
        personality: Option<Personality<'a>> = "personality",
        resources: Option<Resources<'a>> = "resources",
        sysctl: BTreeMap<Str<'a>, Str<'a>> = "sysctl",
        seccomp: Option<Seccomp<'a>> = "seccomp",
        intel_rdt: Option<IntelRdt<'a>> = "intelRdt",
        memory_policy: Option<MemoryPolicy<'a>> = "memoryPolicy",
    }
}

part! { Namespace<'a> { kind: Str<'a> = "type", path: Option<Str<'a>> = "path" } }
part! { IdMapping { container_id: u32 = "containerID", host_id: u32 = "hostID", size: u32 = "size" } }
impl Eq for IdMapping {}
part! { TimeOffset { secs: i64 = "secs", nanosecs: u32 = "nanosecs" } }
part! { NetDevice<'a> { name: Option<Str<'a>> = "name" } }
part! { Personality<'a> { domain: Str<'a> = "domain", flags: Vec<Str<'a>> = "flags" } }
part! { IntelRdt<'a> { clos_id: Option<Str<'a>> = "closID", l3_cache_schema: Option<Str<'a>> = "l3CacheSchema",
mem_bw_schema: Option<Str<'a>> = "memBwSchema", schemata: Vec<Str<'a>> = "schemata", enable_monitoring: bool = "enableMonitoring" } }
part! { MemoryPolicy<'a> { mode: Str<'a> = "mode", nodes: Str<'a> = "nodes", flags: Vec<Str<'a>> = "flags" } }

part! {
    Device<'a> {
        kind: Str<'a> = "type",
        path: Str<'a> = "path",
        major: Option<i64> = "major",
        minor: Option<i64> = "minor",
        file_mode: Option<u32> = "fileMode",
        uid: Option<u32> = "uid",
        gid: Option<u32> = "gid",
    }
}

part! {
    /// What `linux.resources` limits; also the body of `update --resources`.
    Resources<'a> {
        devices: Vec<DeviceRule<'a>> = "devices",
        memory: Option<Memory> = "memory",
        cpu: Option<Cpu<'a>> = "cpu",
        pids: Option<Pids> = "pids",
        block_io: Option<BlockIo> = "blockIO",
        hugepage_limits: Vec<HugepageLimit<'a>> = "hugepageLimits",
        network: Option<Network<'a>> = "network",
        rdma: BTreeMap<Str<'a>, Rdma> = "rdma",
        unified: BTreeMap<Str<'a>, Str<'a>> = "unified",
    }
}

part! {
    DeviceRule<'a> {
        allow: bool = "allow",
        kind: Option<Str<'a>> = "type",
        major: Option<i64> = "major",
        minor: Option<i64> = "minor",
        access: Option<Str<'a>> = "access",
    }
}

part! {
    Memory {
        limit: Option<i64> = "limit",
        reservation: Option<i64> = "reservation",
        swap: Option<i64> = "swap",
        kernel: Option<i64> = "kernel",
        kernel_tcp: Option<i64> = "kernelTCP",
        swappiness: Option<u64> = "swappiness",
        disable_oom_killer: Option<bool> = "disableOOMKiller",
        use_hierarchy: Option<bool> = "useHierarchy",
        check_before_update: Option<bool> = "checkBeforeUpdate",
    }
}

part! {
    Cpu<'a> {
        shares: Option<u64> = "shares",
        quota: Option<i64> = "quota",
        burst: Option<u64> = "burst",
        period: Option<u64> = "period",
        realtime_runtime: Option<i64> = "realtimeRuntime",
        realtime_period: Option<u64> = "realtimePeriod",
        cpus: Option<Str<'a>> = "cpus",
        mems: Option<Str<'a>> = "mems",
        idle: Option<i64> = "idle",
    }
}

part! { Pids { limit: Option<i64> = "limit" } }

part! {
    BlockIo {
        weight: Option<u16> = "weight",
        leaf_weight: Option<u16> = "leafWeight",
        weight_device: Vec<WeightDevice> = "weightDevice",
        throttle_read_bps: Vec<ThrottleDevice> = "throttleReadBpsDevice",
        throttle_write_bps: Vec<ThrottleDevice> = "throttleWriteBpsDevice",
        throttle_read_iops: Vec<ThrottleDevice> = "throttleReadIOPSDevice",
        throttle_write_iops: Vec<ThrottleDevice> = "throttleWriteIOPSDevice",
    }
}

part! { WeightDevice { major: i64 = "major", minor: i64 = "minor", weight: Option<u16> = "weight", leaf_weight: Option<u16> = "leafWeight" } }
part! { ThrottleDevice { major: i64 = "major", minor: i64 = "minor", rate: u64 = "rate" } }
part! { HugepageLimit<'a> { page_size: Str<'a> = "pageSize", limit: u64 = "limit" } }
part! { Network<'a> { class_id: Option<u32> = "classID", priorities: Vec<Priority<'a>> = "priorities" } }
part! { Priority<'a> { name: Str<'a> = "name", priority: u32 = "priority" } }
part! { Rdma { hca_handles: Option<u32> = "hcaHandles", hca_objects: Option<u32> = "hcaObjects" } }

part! {
    Seccomp<'a> {
        default_action: Str<'a> = "defaultAction",
        default_errno_ret: Option<u32> = "defaultErrnoRet",
        architectures: Vec<Str<'a>> = "architectures",
        /// Absent is not empty: absent lets the runtime choose, empty means none.
        flags: Option<Vec<Str<'a>>> = "flags",
        listener_path: Option<Str<'a>> = "listenerPath",
        listener_metadata: Option<Str<'a>> = "listenerMetadata",
        syscalls: Vec<SeccompRule<'a>> = "syscalls",
    }
}

part! {
    SeccompRule<'a> {
        names: Vec<Str<'a>> = "names",
        action: Str<'a> = "action",
        errno_ret: Option<u32> = "errnoRet",
        args: Vec<SeccompArg<'a>> = "args",
    }
}

/// Not a `part!`: a zero is written, since index and value are required and runtimes check that.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, remote = "Self", rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct SeccompArg<'a> {
    pub index: u32,
    pub value: u64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "absent")]
    pub value_two: u64,
    pub op: Str<'a>,
}
object!(SeccompArg<'a>);

impl Hooks<'_> {
    pub fn are_none(&self) -> bool {
        *self == Hooks::default()
    }

    /// Are there any that look for the container's root where the config has it, while the host's mounts are still there?
    pub fn see_the_root(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }
}

impl<'a> Spec<'a> {
    /// Reads config.json. An error names the field by its path, the line and the column.
    pub fn parse(text: &'a str) -> Result<Spec<'a>, Error> {
        read(text)
    }
}

impl<'a> Process<'a> {
    /// Reads the process.json of `exec --process`.
    pub fn parse(text: &'a str) -> Result<Process<'a>, Error> {
        read(text)
    }
}

impl<'a> Resources<'a> {
    /// Reads the body of `update --resources`.
    pub fn parse(text: &'a str) -> Result<Resources<'a>, Error> {
        read(text)
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|e| Error::new(json_path::path(text, e.line(), e.column()), e))
}

/// An id of the container as the host counts; without maps they are the same.
pub fn to_host(maps: &[IdMapping], id: u32) -> Option<u32> {
    if maps.is_empty() {
        return Some(id);
    }
    maps.iter().find_map(|map| {
        let at = id.checked_sub(map.container_id).filter(|at| *at < map.size)?;
        map.host_id.checked_add(at)
    })
}
