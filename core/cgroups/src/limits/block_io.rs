//! `linux.resources.blockIO`: controller blkio on v1, io on v2.

use sampan_plan::host::Version;
use sampan_plan::spec::BlockIo;

use super::{Controller, IfMissing, Limits, unavailable};
use crate::detect::Layout;
use crate::error::{Doing, Error, Result};

pub(super) fn limit(io: &BlockIo, layout: &Layout, limits: &mut Limits) -> Result<()> {
    if *io == BlockIo::default() {
        return Ok(());
    }
    let mut files = match (layout.version("blkio"), layout.version("io")) {
        (Some(_), _) => limits.controller(Version::V1, "blkio"),
        (None, Some(_)) => limits.controller(Version::V2, "io"),
        (None, None) => return Err(unavailable("io", "blockIO")),
    };
    if let Some(weight) = io.weight.filter(|w| *w != 0) {
        weigh(&mut files, None, weight, "blockIO.weight")?;
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        if let Some(weight) = device.weight.filter(|w| *w != 0) {
            let numbers = format!("{}:{}", device.major, device.minor);
            weigh(&mut files, Some(&numbers), weight, &format!("blockIO.weightDevice[{i}].weight"))?;
        }
    }
    throttle(&mut files, io);
    if io.leaf_weight.is_some() || io.weight_device.iter().any(|d| d.leaf_weight.is_some()) {
        limits.does_nothing("blockIO.leafWeight", "it went with CFQ in kernel 5.0");
    }
    Ok(())
}

/// The weight of the group, or of the group on one device. The BFQ scheduler takes it as config.json has it; v2's io.cost,
/// of which the file is there where BFQ is not compiled in, has a longer scale.
fn weigh(files: &mut Controller<'_>, device: Option<&str>, weight: u16, field: &str) -> Result<()> {
    if !(10..=1000).contains(&weight) {
        let e = Error::new(Doing::Value, "io.weight").field(format!("linux.resources.{field}"));
        return Err(e.value(weight.to_string()).problem("block I/O weights go from 10 to 1000"));
    }
    let line = |weight: u64| match device {
        Some(device) => format!("{device} {weight}"),
        None => weight.to_string(),
    };
    let weight_as_given = line(weight.into());
    let (file, other, value) = match (files.version, device) {
        (Version::V1, None) => ("blkio.bfq.weight", "blkio.weight", weight_as_given.clone()),
        (Version::V1, Some(_)) => ("blkio.bfq.weight_device", "blkio.weight_device", weight_as_given.clone()),
        (Version::V2, _) => ("io.bfq.weight", "io.weight", line(io_weight(weight))),
    };
    files.set_or(IfMissing::Instead(other.into(), value), file, weight_as_given, field);
    Ok(())
}

/// BFQ's 10..1000 as io.cost's 1..10000, linear.
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9_999 / 990
}

fn throttle(files: &mut Controller<'_>, io: &BlockIo) {
    let limits = [
        (&io.throttle_read_bps, "read_bps", "rbps", "throttleReadBpsDevice"),
        (&io.throttle_write_bps, "write_bps", "wbps", "throttleWriteBpsDevice"),
        (&io.throttle_read_iops, "read_iops", "riops", "throttleReadIOPSDevice"),
        (&io.throttle_write_iops, "write_iops", "wiops", "throttleWriteIOPSDevice"),
    ];
    for (devices, v1_name, v2_name, field) in limits {
        for (i, device) in devices.iter().enumerate() {
            let numbers = format!("{}:{}", device.major, device.minor);
            let field = format!("blockIO.{field}[{i}]");
            match (files.version, device.rate) {
                (Version::V1, rate) => {
                    let file = format!("blkio.throttle.{v1_name}_device");
                    files.set(file, format!("{numbers} {rate}"), &field);
                }
                // No limit, as v1 spells it.
                (Version::V2, 0) => files.set("io.max", format!("{numbers} {v2_name}=max"), &field),
                (Version::V2, rate) => files.set("io.max", format!("{numbers} {v2_name}={rate}"), &field),
            }
        }
    }
}
