//! Changing limits of a container that runs: all that are given, or none.

use sampan_plan::host::Version;
use sampan_plan::spec::Resources;

use crate::cgroup::Cgroup;
use crate::devices::{Program, Rules, V1};
use crate::error::{Doing, Error, Result};
use crate::file::value_of;
use crate::group::Group;
use crate::limits::{IfMissing, Limits, Write};

impl Cgroup<'_> {
    /// Changes the fields that are given and no other. Returns warnings: fields that do nothing here.
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>> {
        let mut limits = Limits::of_update(&self.completed(resources)?, &self.hierarchies.layout())?;
        self.check_memory(&limits)?;
        let mut devices_v1 = None;
        if !resources.devices.is_empty() {
            let rules = Rules::new(&resources.devices)?;
            match self.group_of(Version::V1, "devices") {
                Some(group) => devices_v1 = Some((group, V1::new(&rules)?)),
                None => limits.devices = Some(Program::new(&rules)),
            }
        }
        let old = limits.writes.iter().map(|w| self.current(w)).collect::<Result<Vec<_>>>()?;
        let pairs = || limits.writes.iter().zip(&old);
        let changed: Vec<Write> =
            pairs().filter(|(w, old)| old.as_ref() != Some(&w.value)).map(|(w, _)| w.clone()).collect();

        let mut done = Vec::new();
        // Device rules go last: on v2 they cannot be read to be restored, but replacing the program is atomic.
        let outcome = self
            .enable_controllers(&limits)
            .and_then(|()| self.write(&changed, &mut done))
            .and_then(|()| devices_v1.as_ref().map_or(Ok(()), |(group, new)| self.replace_v1(group, new)))
            .and_then(|()| limits.devices.as_ref().map_or(Ok(()), |program| self.attach(program)));
        let Err(error) = outcome else { return Ok(limits.warnings) };

        let back: Vec<Write> = pairs()
            .rev()
            .filter(|(w, _)| done.contains(w))
            .filter_map(|(w, old)| Some(Write { value: old.clone()?, ..w.clone() }))
            .collect();
        match self.write(&back, &mut Vec::new()) {
            Ok(()) => Err(error),
            Err(second) => Err(error.likely(format!("some limits could not be set back: {second}"))),
        }
    }

    /// Brings the device rules of a v1 group to `new`, or leaves them as they are.
    fn replace_v1(&self, group: &Group<'_>, new: &V1) -> Result<()> {
        let before = V1::read(&group.read("devices.list")?);
        let Err(error) = self.write(&device_writes(new, &before), &mut Vec::new()) else { return Ok(()) };
        let now = V1::read(&group.read("devices.list")?);
        let _ = self.write(&device_writes(&before, &now), &mut Vec::new());
        Err(error)
    }

    /// Where v2 has two fields in one file, the one that is not given keeps its value.
    fn completed<'r>(&self, resources: &Resources<'r>) -> Result<Resources<'r>> {
        let mut full = resources.clone();
        if let (Some(cpu), Some(group)) = (&mut full.cpu, self.group_of(Version::V2, "cpu"))
            && cpu.quota.is_some() != cpu.period.is_some()
        {
            let now = group.try_read("cpu.max")?.unwrap_or_default();
            let mut words = now.split_ascii_whitespace();
            let (quota, period) = (words.next(), words.next());
            cpu.quota = cpu.quota.or(quota.map(|q| q.parse().unwrap_or(-1)));
            cpu.period = cpu.period.or(period.and_then(|p| p.parse().ok()));
        }
        if let (Some(memory), Some(group)) = (&mut full.memory, self.group_of(Version::V2, "memory"))
            && memory.swap.is_some_and(|s| s > 0)
            && memory.limit.is_none()
        {
            memory.limit = group.try_read("memory.max")?.and_then(|t| t.trim().parse().ok());
        }
        Ok(full)
    }

    /// memory.checkBeforeUpdate. v2 would kill processes to get below a new limit, so the usage is read first.
    fn check_memory(&self, limits: &Limits) -> Result<()> {
        if !limits.check_before_update {
            return Ok(());
        }
        let is_limit = |w: &&Write| matches!(&*w.file, "memory.max" | "memory.limit_in_bytes");
        for write in limits.writes.iter().filter(is_limit) {
            let Some(group) = self.group_of(write.version, "memory") else { continue };
            let file = if write.version == Version::V2 { "memory.current" } else { "memory.usage_in_bytes" };
            let used: u64 = group.read(file)?.trim().parse().unwrap_or(0);
            if write.value.parse::<u64>().is_ok_and(|limit| limit < used) {
                let e = Error::new(Doing::Limit, group.file(&write.file)).field(&write.field);
                let e = e.value(&write.value);
                return Err(e.problem(format!("{used} bytes are in use (checkBeforeUpdate)")));
            }
        }
        Ok(())
    }

    /// The value that would set the file of `write` back to what it is now. `None` if it cannot be read: then the write itself
    /// fails, and says why.
    fn current(&self, write: &Write) -> Result<Option<String>> {
        let Some(group) = self.group_of(write.version, &write.controller) else { return Ok(None) };
        let Some(text) = group.try_read(&write.file)? else { return Ok(None) };
        Ok(restoring(write, &text))
    }
}

fn device_writes(new: &V1, now: &V1) -> Vec<Write> {
    let write = |(file, value): (&'static str, String)| Write {
        version: Version::V1,
        controller: "devices".into(),
        file: file.into(),
        value,
        field: "linux.resources.devices".to_owned(),
        if_missing: IfMissing::Refuse,
    };
    new.writes(Some(now)).into_iter().map(write).collect()
}

/// The value that sets `write`'s file back to `now`, its text.
fn restoring(write: &Write, now: &str) -> Option<String> {
    let has_line_per_device =
        matches!(&*write.file, "io.max" | "rdma.max" | "io.latency" | "net_prio.ifpriomap")
            || write.file.starts_with("blkio.throttle.")
            || write.file.ends_with(".weight_device")
            || write.value.contains(':') && write.file.ends_with(".weight");
    if has_line_per_device {
        let device = write.value.split(' ').next().unwrap_or_default();
        let line = now.lines().find(|l| l.split(' ').next() == Some(device));
        return line.map(str::to_owned).or_else(|| lifting(&write.file, device));
    }
    if write.file == "memory.oom_control" {
        return value_of(now, "oom_kill_disable").map(|n| n.to_string());
    }
    // One line; those of weights may say `default 100`.
    let line = now.lines().next()?;
    let value = line.strip_prefix("default ").unwrap_or(line).trim();
    // An empty v2 cpuset is written as a line break, since a write of zero bytes does nothing.
    Some(if value.is_empty() { "\n" } else { value }.to_owned())
}

/// The line that takes back what was set for one device. The kernel shows none for a device for which nothing is set.
fn lifting(file: &str, device: &str) -> Option<String> {
    match file {
        "io.max" => Some(format!("{device} rbps=max wbps=max riops=max wiops=max")),
        "rdma.max" => Some(format!("{device} hca_handle=max hca_object=max")),
        _ if file.starts_with("blkio.throttle.") => Some(format!("{device} 0")),
        _ if file.ends_with("weight") || file.ends_with("weight_device") => Some(format!("{device} default")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &'static str, value: &str, now: &str, expected: Option<&str>) {
        let write = Write {
            version: Version::V2,
            controller: "io".into(),
            file: file.into(),
            value: value.to_owned(),
            field: String::new(),
            if_missing: IfMissing::Refuse,
        };
        assert_eq!(restoring(&write, now).as_deref(), expected);
    }

    #[test]
    fn a_file_with_one_line_gets_that_line_back() {
        check("memory.max", "5", "max\n", Some("max"));
        check("io.weight", "5", "default 100\n8:0 50\n", Some("100"));
        check("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n", Some("0"));
        check("cpuset.cpus", "0", "\n", Some("\n"));
    }

    #[test]
    fn a_file_with_a_line_per_device_gets_that_device_back() {
        check("io.max", "8:0 rbps=5", "8:0 rbps=7 wbps=max\n8:16 rbps=9\n", Some("8:0 rbps=7 wbps=max"));
        check("io.max", "8:0 rbps=5", "", Some("8:0 rbps=max wbps=max riops=max wiops=max"));
        check("blkio.throttle.read_bps_device", "8:0 5", "", Some("8:0 0"));
        check("io.bfq.weight", "8:0 50", "default 100\n", Some("8:0 default"));
        check("blkio.bfq.weight_device", "8:0 50", "", Some("8:0 default"));
        check("net_prio.ifpriomap", "lo 5", "eth0 0\n", None);
    }
}
