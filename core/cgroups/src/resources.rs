//! Stand-in until the plan's types are there.
use std::borrow::Cow;
use std::collections::BTreeMap;
pub type Str<'a> = Cow<'a, str>;
macro_rules! part {
    ($(#[$doc:meta])* $name:ident$(<$a:lifetime>)? { $($(#[$fdoc:meta])* $field:ident : $ty:ty = $json:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name$(<$a>)? {
            $($(#[$fdoc])* pub $field: $ty,)*
        }
    };
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

