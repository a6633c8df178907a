//! Limits onto a group: all of a new container's, or an update's, which happens whole or not at all.
//!
//! A write is one system call with one error. The kernel's rules about which value must come first are not modelled:
//! what is refused with EINVAL waits until its neighbours are written (see `limits`).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use sampan_plan::spec::Resources;

use crate::cgroup::Cgroup;
use crate::detect::Version;
use crate::devices::{Program, Rules, V1};
use crate::error::{Doing, Errno, Error, Result};
use crate::explain;
use crate::file::write_all;
use crate::group::Group;
use crate::limits::{self, IfMissing, Limits, Write};
use crate::v2;

impl Cgroup<'_> {
    /// Writes them all, in order; stops at the first that is refused.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        self.hand_down(limits)?;
        self.write_in_order(&limits.writes, &mut Vec::new())?;
        if let Some(program) = &limits.devices {
            self.attach(program)?;
        }
        Ok(())
    }

    /// Changes the fields that are given and no other: all of them, or none.
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>> {
        let layout = self.hierarchies.layout();
        let mut limits = limits::changes(&self.completed(resources)?, &layout)?;
        self.check_memory(&limits)?;
        // Device rules go last: they cannot be read back on v2, but replacing the program is atomic.
        let mut devices = Vec::new();
        if !resources.devices.is_empty() {
            let rules = Rules::new(&resources.devices)?;
            match self.group_of(Version::V1, "devices") {
                Some(group) => {
                    let now = V1::read(&group.read("devices.list")?);
                    devices = V1::new(&rules)?.writes(Some(&now)).into_iter().map(device_write).collect();
                }
                None => limits.devices = Some(Program::new(&rules)),
            }
        }
        let old = limits.writes.iter().map(|w| self.current(w)).collect::<Result<Vec<_>>>()?;
        let changed: Vec<Write> = limits
            .writes
            .iter()
            .zip(&old)
            .filter(|(w, o)| o.as_ref() != Some(&w.value))
            .map(|(w, _)| w.clone())
            .collect();

        let mut done = Vec::new();
        let outcome = self
            .hand_down(&limits)
            .and_then(|()| self.write_in_order(&changed, &mut done))
            .and_then(|()| match self.group_of(Version::V1, "devices") {
                Some(group) if !devices.is_empty() => self.update_devices_v1(&group, &devices),
                _ => limits.devices.as_ref().map_or(Ok(()), |program| self.attach(program)),
            });
        let Err(error) = outcome else { return Ok(limits.warnings) };

        let back: Vec<Write> = limits
            .writes
            .iter()
            .zip(old)
            .rev()
            .filter(|(w, _)| done.contains(w))
            .filter_map(|(w, old)| Some(Write { value: old?, ..w.clone() }))
            .collect();
        match self.write_in_order(&back, &mut Vec::new()) {
            Ok(()) => Err(error),
            Err(second) => {
                let text = format!("what had been changed could not all be put back: {second}");
                Err(error.likely(text))
            }
        }
    }

    fn update_devices_v1(&self, group: &Group<'_>, writes: &[Write]) -> Result<()> {
        let before = V1::read(&group.read("devices.list")?);
        let Err(error) = self.write_in_order(writes, &mut Vec::new()) else { return Ok(()) };
        let now = V1::read(&group.read("devices.list")?);
        let back: Vec<Write> = before.writes(Some(&now)).into_iter().map(device_write).collect();
        let _ = self.write_in_order(&back, &mut Vec::new());
        Err(error)
    }

    /// Where one file holds two fields, the one that is not given keeps its value.
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

    /// v2 ends processes to get below a new limit at once, so it is asked beforehand (memory.checkBeforeUpdate).
    fn check_memory(&self, limits: &Limits) -> Result<()> {
        if !limits.check_before_update {
            return Ok(());
        }
        for write in
            limits.writes.iter().filter(|w| matches!(&*w.file, "memory.max" | "memory.limit_in_bytes"))
        {
            let Some(group) = self.group_of(write.version, "memory") else { continue };
            let file = if write.version == Version::V2 { "memory.current" } else { "memory.usage_in_bytes" };
            let used: u64 = group.read(file)?.trim().parse().unwrap_or(0);
            if write.value.parse::<u64>().is_ok_and(|limit| limit < used) {
                let e = Error::new(Doing::Limit, group.file(&write.file))
                    .field(write.field.as_ref())
                    .controller("memory");
                return Err(e
                    .value(write.value.as_str())
                    .problem(format!("{used} bytes are in use (checkBeforeUpdate)")));
            }
        }
        Ok(())
    }

    /// What to write to get back to now; `None` if nothing can be read (the write itself will say what is wrong).
    fn current(&self, write: &Write) -> Result<Option<String>> {
        let Some(group) = self.group_of(write.version, &write.controller) else { return Ok(None) };
        let Some(text) = group.try_read(&write.file)? else { return Ok(None) };
        Ok(limits::restoring(write, &text))
    }

    fn hand_down(&self, limits: &Limits) -> Result<()> {
        let Some(group) = self.v2() else { return Ok(()) };
        let mut wanted = limits.v2_controllers();
        wanted.retain(|c| group.hierarchy.has(c));
        if wanted.is_empty() { Ok(()) } else { v2::enable(&group, &wanted) }
    }

    /// One write call per value; the file stays open while its values follow each other. `done` gets what was taken.
    fn write_in_order(&self, writes: &[Write], done: &mut Vec<Write>) -> Result<()> {
        let mut rest = writes;
        while let Some(first) = rest.first() {
            let same = |w: &Write| w.version == first.version && w.controller == first.controller;
            let end = rest.iter().position(|w| !same(w)).unwrap_or(rest.len());
            let (run, later) = rest.split_at(end);
            rest = later;
            let group = self.group_of(first.version, &first.controller).ok_or_else(|| {
                Error::new(Doing::Unavailable, &*first.controller)
                    .controller(&*first.controller)
                    .field(&*first.field)
                    .problem("that controller is on no mounted hierarchy")
            })?;
            if first.controller == "devices" {
                self.write_run(&group, run.iter().collect(), false, done)?;
            } else {
                self.write_run(&group, run.iter().collect(), true, done)?;
            }
        }
        Ok(())
    }

    /// EINVAL of a value may mean "not before that other one": such are tried again while others get through.
    fn write_run(
        &self,
        group: &Group<'_>,
        run: Vec<&Write>,
        any_order: bool,
        done: &mut Vec<Write>,
    ) -> Result<()> {
        let mut pending = run;
        while !pending.is_empty() {
            let mut open: Option<(&str, OwnedFd)> = None;
            let mut again = Vec::new();
            let mut first_error = None;
            for write in &pending {
                match put(group, write, &mut open) {
                    Ok(()) => done.push((*write).clone()),
                    Err((_, Errno::NOENT)) if write.if_missing == IfMissing::Skip => {}
                    Err((call, errno)) => {
                        let error = Error::new(Doing::Limit, group.file(&write.file))
                            .field(&*write.field)
                            .controller(&*write.controller)
                            .value(write.value.as_str())
                            .call(call, errno);
                        let error = error.likely_or(explain::limit(group, write, errno));
                        if errno != Errno::INVAL || !any_order {
                            return Err(error);
                        }
                        first_error.get_or_insert(error);
                        again.push(*write);
                    }
                }
            }
            if let Some(error) = first_error
                && again.len() == pending.len()
            {
                return Err(error);
            }
            pending = again;
        }
        Ok(())
    }

    fn attach(&self, program: &Program) -> Result<()> {
        let Some(group) = self.v2() else { return Ok(()) };
        let folder =
            group.folder().map_err(|e| Error::new(Doing::Devices, group.name()).call("openat", e))?;
        program.attach(folder.as_fd(), &group.name())
    }
}

fn device_write((file, value): (&'static str, String)) -> Write {
    Write {
        version: Version::V1,
        controller: "devices".into(),
        file: file.into(),
        value,
        field: "linux.resources.devices".into(),
        if_missing: IfMissing::Refuse,
    }
}

fn put<'w>(
    group: &Group<'_>,
    write: &'w Write,
    open: &mut Option<(&'w str, OwnedFd)>,
) -> std::result::Result<(), crate::file::Failed> {
    if let Some((file, fd)) = open
        && *file == write.file
    {
        return write_all(fd.as_fd(), &write.value);
    }
    match (group.open(&write.file, OFlags::WRONLY), &write.if_missing) {
        (Ok(fd), _) => {
            let written = write_all(fd.as_fd(), &write.value);
            *open = Some((&write.file, fd));
            written
        }
        (Err(Errno::NOENT), IfMissing::Instead(file, value)) => group.write(file, value),
        (Err(e), _) => Err(("openat", e)),
    }
}
