//! `linux.resources` -> the files to write, in the order in which to write them. Pure: a [`Layout`] says which version
//! has which controller.
//!
//! Writes to one controller stand together. Some values must fit each other at every moment: limit and limit + swap, quota
//! and burst. The kernel answers EINVAL to the one that has to wait, and `apply` then writes the others first. So the
//! right order is found without reading what is there, whether a limit is raised or lowered.

mod block_io;
mod cpu;
mod memory;
mod unified;

pub use block_io::io_weight;
pub use cpu::weight;

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use sampan_plan::host::Version;
use sampan_plan::spec::{HugepageLimit, Network, Rdma, Resources};

use crate::detect::Layout;
use crate::devices::{Program, Rules, V1};
use crate::error::{Doing, Error, Result};

/// One value for one file of one controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub version: Version,
    pub controller: Cow<'static, str>,
    pub file: Cow<'static, str>,
    pub value: String,
    /// The field of config.json that asks for it.
    pub field: String,
    pub if_missing: IfMissing,
}

/// What to do if the group has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMissing {
    Refuse,
    /// The value asks for what happens anyway where the file is absent.
    Skip,
    /// Other kernel configurations have another file for the same setting: its name, and the value in its units.
    Instead(Cow<'static, str>, String),
}

/// Everything that a container's resources ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub writes: Vec<Write>,
    /// The v2 device program. On v1 the device rules are among the writes.
    pub devices: Option<Program>,
    /// `memory.checkBeforeUpdate`: refuse a limit below what is used.
    pub check_before_update: bool,
    /// Fields that are accepted and do nothing here.
    pub warnings: Vec<String>,
}

impl Limits {
    /// For a new container: device rules too, since without any rule all devices but the default ones are denied.
    pub fn new(resources: &Resources, layout: &Layout) -> Result<Limits> {
        let mut limits = Limits::of_update(resources, layout)?;
        let rules = Rules::new(&resources.devices)?;
        match layout.version("devices") {
            Some(Version::V1) => {
                let mut devices = limits.controller(Version::V1, "devices");
                for (file, value) in V1::new(&rules)?.writes(None) {
                    devices.set(file, value, "devices");
                }
            }
            _ if layout.unified => limits.devices = Some(Program::new(&rules)),
            _ => return Err(unavailable("devices", "devices")),
        }
        Ok(limits)
    }

    /// For a container that runs: the fields that are given, and no device rules (`update` looks at the group for those).
    pub fn of_update(resources: &Resources, layout: &Layout) -> Result<Limits> {
        let mut limits = Limits::default();
        if let Some(memory) = &resources.memory {
            memory::limit(memory, layout, &mut limits)?;
        }
        if let Some(cpu) = &resources.cpu {
            cpu::limit(cpu, layout, &mut limits)?;
        }
        if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit) {
            pids(limit, layout, &mut limits)?;
        }
        if let Some(io) = &resources.block_io {
            block_io::limit(io, layout, &mut limits)?;
        }
        for (i, page) in resources.hugepage_limits.iter().enumerate() {
            huge_pages(page, &format!("hugepageLimits[{i}]"), layout, &mut limits)?;
        }
        if let Some(given) = &resources.network {
            network(given, layout, &mut limits)?;
        }
        for (device, given) in &resources.rdma {
            rdma(device, given, layout, &mut limits)?;
        }
        for (file, value) in &resources.unified {
            unified::limit(file, value, layout, &mut limits)?;
        }
        Ok(limits)
    }

    /// The controllers that must be enabled in the v2 group for these writes.
    pub(crate) fn v2_controllers(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.writes.iter().filter(|w| w.version == Version::V2).map(|w| &*w.controller).collect();
        names.retain(|n| *n != "cgroup");
        names.dedup();
        names
    }

    fn controller(&mut self, version: Version, name: &'static str) -> Controller<'_> {
        Controller { version, name, writes: &mut self.writes }
    }

    fn does_nothing(&mut self, field: &str, why: &str) {
        self.warnings.push(format!("linux.resources.{field} does nothing: {why}"));
    }
}

impl Display for Write {
    /// `memory.max = 536870912`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.file, self.value)
    }
}

/// Where the writes of one controller are collected. Fields are relative to `linux.resources`.
struct Controller<'l> {
    version: Version,
    name: &'static str,
    writes: &'l mut Vec<Write>,
}

impl Controller<'_> {
    fn set(&mut self, file: impl Into<Cow<'static, str>>, value: impl Display, field: &str) {
        self.set_or(IfMissing::Refuse, file, value, field);
    }

    fn set_or(
        &mut self,
        if_missing: IfMissing,
        file: impl Into<Cow<'static, str>>,
        value: impl Display,
        field: &str,
    ) {
        self.writes.push(Write {
            version: self.version,
            controller: self.name.into(),
            file: file.into(),
            value: value.to_string(),
            field: format!("linux.resources.{field}"),
            if_missing,
        });
    }
}

/// Which version has the controller that `field` needs.
fn version(layout: &Layout, controller: &'static str, field: &str) -> Result<Version> {
    layout.version(controller).ok_or_else(|| unavailable(controller, field))
}

fn unavailable(controller: &'static str, field: &str) -> Error {
    Error::new(Doing::Unavailable, controller)
        .field(format!("linux.resources.{field}"))
        .problem(format!("the {controller} controller is on no mounted hierarchy"))
        .likely(format!(
            "it is not compiled in, or disabled on the kernel's command line (/proc/cgroups shows both); in a container, the \
             host may not have enabled it for this group: {controller} must be in cgroup.controllers"
        ))
}

/// 0 is a limit since version 1.3 of the specification: no further process. It is written as 1, as in runc, because systemd
/// accepts no 0. The container's first process counts, so 1 means the same.
fn pids(limit: i64, layout: &Layout, limits: &mut Limits) -> Result<()> {
    let version = version(layout, "pids", "pids.limit")?;
    let value = if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() };
    limits.controller(version, "pids").set("pids.max", value, "pids.limit");
    Ok(())
}

fn huge_pages(page: &HugepageLimit, field: &str, layout: &Layout, limits: &mut Limits) -> Result<()> {
    let version = version(layout, "hugetlb", field)?;
    let size = &*page.page_size;
    if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let e = Error::new(Doing::Value, "hugetlb").field(format!("linux.resources.{field}.pageSize"));
        return Err(e.value(format!("{size:?}")).problem("it must be a size such as 2MB or 1GB"));
    }
    let limit = if version == Version::V1 { "limit_in_bytes" } else { "max" };
    let mut hugetlb = limits.controller(version, "hugetlb");
    // Reservations first (Linux 5.7): above their limit mmap fails, above the other one the process dies of SIGBUS.
    hugetlb.set_or(IfMissing::Skip, format!("hugetlb.{size}.rsvd.{limit}"), page.limit, field);
    hugetlb.set(format!("hugetlb.{size}.{limit}"), page.limit, field);
    Ok(())
}

/// v2 has no such controllers.
fn network(network: &Network, layout: &Layout, limits: &mut Limits) -> Result<()> {
    if let Some(class) = network.class_id {
        let version = version(layout, "net_cls", "network.classID")?;
        limits.controller(version, "net_cls").set("net_cls.classid", class, "network.classID");
    }
    for (i, priority) in network.priorities.iter().enumerate() {
        let field = format!("network.priorities[{i}]");
        let version = version(layout, "net_prio", &field)?;
        let value = format!("{} {}", priority.name, priority.priority);
        limits.controller(version, "net_prio").set("net_prio.ifpriomap", value, &field);
    }
    Ok(())
}

fn rdma(device: &str, rdma: &Rdma, layout: &Layout, limits: &mut Limits) -> Result<()> {
    let field = format!("rdma.{device}");
    let version = version(layout, "rdma", &field)?;
    let mut value = device.to_owned();
    for (name, number) in [("hca_handle", rdma.hca_handles), ("hca_object", rdma.hca_objects)] {
        if let Some(number) = number {
            let _ = write!(value, " {name}={number}"); // writing to a String cannot fail
        }
    }
    limits.controller(version, "rdma").set("rdma.max", value, &field);
    Ok(())
}
