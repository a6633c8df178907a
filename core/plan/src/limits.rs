//! Resource limits of the process: rlimits, scheduler, I/O priority, personality.

use crate::build::Build;
use crate::error::Error;
use crate::spec::{IoPriority, Personality, Rlimit, Scheduler};
use crate::suggest::nearest;
use sampan_child::step::Step;

/// asm-generic/resource.h
const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// RLIMIT_NPROC.
const NPROC: usize = 6;

/// The limit's name, for messages.
pub fn rlimit_name(resource: u32) -> &'static str {
    RLIMITS.get(resource as usize).copied().unwrap_or("RLIMIT_?")
}

/// `one_more_process`: until its child is born the process's user has it too.
pub fn rlimits(b: &mut Build, limits: &[Rlimit<'_>], one_more_process: bool) -> Result<(), Error> {
    let mut seen = 0u32;
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("process.rlimits[{index}]");
        let Some(resource) = RLIMITS.iter().position(|name| *name == limit.kind.as_str()) else {
            let hint =
                nearest(&limit.kind, RLIMITS).map_or(String::new(), |n| format!("; did you mean {n}?"));
            return Err(Error::new(
                format!("{field}.type"),
                format!("no limit is called {:?}{hint}", limit.kind.as_str()),
            ));
        };
        if seen >> resource & 1 == 1 {
            return Err(Error::new(field, format!("a second {}", limit.kind)));
        }
        seen |= 1 << resource;
        if limit.soft > limit.hard {
            return Err(Error::new(
                format!("{field}.soft"),
                format!("{} is above hard, {}", limit.soft, limit.hard),
            ));
        }
        let (soft, hard) = (limit.soft, limit.hard);
        if resource == NPROC && one_more_process {
            b.step(field, Step::OneMoreProcess { given: 1, soft, hard });
        } else {
            b.step(field, Step::Rlimit { resource: resource as u32, soft, hard });
        }
    }
    if one_more_process && seen >> NPROC & 1 == 0 {
        b.step("", Step::OneMoreProcess { given: 0, soft: 0, hard: 0 });
    }
    Ok(())
}

const RESET_ON_FORK: u64 = 0x01;

/// `birth_is_due`: a child inherits all of it, if not told otherwise by the flag that is left out here.
pub fn scheduler(b: &mut Build, s: &Scheduler<'_>, birth_is_due: bool) -> Result<(), Error> {
    let field = "process.scheduler";
    let policy = match s.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" | "SCHED_ISO" => {
            return Err(Error::new(format!("{field}.policy"), format!("{} is not supported yet", s.policy)));
        }
        other => return Err(Error::new(format!("{field}.policy"), format!("no policy is called {other:?}"))),
    };
    let mut flags = 0;
    for (index, flag) in s.flags.iter().enumerate() {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => RESET_ON_FORK,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => {
                return Err(Error::new(
                    format!("{field}.flags[{index}]"),
                    format!("no flag is called {other:?}"),
                ));
            }
        };
    }
    if birth_is_due {
        flags &= !RESET_ON_FORK;
    }
    let (nice, priority) = (s.nice.unwrap_or(0), s.priority.unwrap_or(0));
    b.step(field, Step::Scheduler { policy, nice: nice as u32, priority: priority as u32, flags });
    Ok(())
}

/// What [`scheduler`] has left out for a birth: nobody needs a privilege to do what was allowed already, and less.
pub fn scheduler_once_born(b: &mut Build, s: &Scheduler<'_>) -> Result<(), Error> {
    if s.flags.iter().any(|flag| flag.as_str() == "SCHED_FLAG_RESET_ON_FORK") {
        scheduler(b, s, false)?;
    }
    Ok(())
}

pub fn io_priority(b: &mut Build, io: &IoPriority<'_>) -> Result<(), Error> {
    let class = match io.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::new("process.ioPriority.class", format!("no class is called {other:?}"))),
    };
    if !(0..=7).contains(&io.priority) {
        return Err(Error::new("process.ioPriority.priority", format!("{} is not from 0 to 7", io.priority)));
    }
    b.step("process.ioPriority", Step::IoPriority { value: class << 13 | io.priority as u32 });
    Ok(())
}

pub fn personality(b: &mut Build, p: &Personality<'_>) -> Result<(), Error> {
    let domain = match p.domain.as_str() {
        "LINUX" => 0,
        "LINUX32" => 8,
        other => {
            return Err(Error::new("linux.personality.domain", format!("no domain is called {other:?}")));
        }
    };
    if !p.flags.is_empty() {
        return Err(Error::unsupported("linux.personality.flags"));
    }
    b.step("linux.personality", Step::Personality { domain });
    Ok(())
}
