//! What can be seen to be wrong before anything is compiled: what no part of the plan reads, and so could pass in silence.

use crate::cpus;
use crate::error::Error;
use crate::spec::{Hooks, Process, Spec};

/// What no part of the plan reads, and so could pass in silence.
pub(crate) fn container(spec: &Spec<'_>) -> Result<(), Error> {
    let major = spec.oci_version.split('.').next().unwrap_or_default();
    match major {
        "" => return Err(Error::new("ociVersion", "is missing")),
        "0" | "1" => {}
        _ => {
            let problem = format!("{} is of another major version than 1", spec.oci_version);
            return Err(Error::new("ociVersion", problem));
        }
    }
    let linux = &spec.linux;
    let not_yet = [
        (!linux.net_devices.is_empty(), "linux.netDevices"),
        (linux.intel_rdt.is_some(), "linux.intelRdt"),
        (linux.memory_policy.is_some(), "linux.memoryPolicy"),
    ];
    if let Some((_, field)) = not_yet.iter().find(|(given, _)| *given) {
        return Err(Error::unsupported(*field));
    }
    hooks(&spec.hooks)?;
    spec.process.as_ref().map_or(Ok(()), process)
}

/// config.md, POSIX-platform Hooks; also of those that run later, perhaps only when the container is gone.
fn hooks(hooks: &Hooks<'_>) -> Result<(), Error> {
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, index, hook) in kinds
        .iter()
        .flat_map(|(kind, hooks)| hooks.iter().enumerate().map(move |(index, hook)| (kind, index, hook)))
    {
        let wrong = |leaf, problem| Err(Error::new(format!("hooks.{kind}[{index}].{leaf}"), problem));
        if !hook.path.starts_with('/') {
            return wrong("path", format!("{:?} is not an absolute path", hook.path.as_str()));
        }
        if let Some(timeout) = hook.timeout.filter(|timeout| *timeout <= 0) {
            return wrong("timeout", format!("{timeout} is not above 0"));
        }
    }
    Ok(())
}

/// execCPUAffinity is of no effect on the container's own process, and is the default of what is executed in it later.
fn process(p: &Process<'_>) -> Result<(), Error> {
    let Some(asked) = &p.exec_cpu_affinity else { return Ok(()) };
    for (list, name) in [(&asked.initial, "initial"), (&asked.last, "final")] {
        let list = list.as_ref().map_or("", |list| list.as_str());
        cpus::parse(list, &format!("process.execCPUAffinity.{name}"))?;
    }
    Ok(())
}
