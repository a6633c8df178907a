//! The hooks that run inside the container's namespaces, and the state that they read.

use crate::build::Build;
use crate::error::Error;
use crate::plan::Options;
use crate::slots::SlotSource;
use crate::spec::{Hook, Spec};
use sampan_child::step::{Environment, List, Step};

/// The state that hooks in the container read: two strings with the pid between them.
pub(crate) fn state(b: &mut Build, spec: &Spec<'_>, options: &Options, status: &str) -> List {
    let json = |s: &str| serde_json::Value::from(s).to_string();
    let annotations = serde_json::to_string(&spec.annotations).unwrap_or_default();
    let before = format!(
        "{{\"ociVersion\":{},\"id\":{},\"status\":{},\"bundle\":{},\"annotations\":{annotations},\"pid\":",
        json("1.3.0"),
        json(&options.id),
        json(status),
        json(&options.bundle),
    );
    b.table.list([before.as_str(), "}"], "annotations").unwrap_or_default()
}

/// Hooks without an environment get `environment`, the process's, as under runc.
pub(crate) fn steps(
    b: &mut Build,
    hooks: &[Hook<'_>],
    kind: &'static str,
    state: List,
    environment: Option<List>,
) -> Result<(), Error> {
    for (index, hook) in hooks.iter().enumerate() {
        let field = format!("hooks.{kind}[{index}]");
        let timeout_s = hook.timeout.map_or(0, |timeout| u32::try_from(timeout).unwrap_or(u32::MAX));
        let path = hook.path.as_str();
        let args: Vec<&str> = match hook.args.is_empty() {
            true => vec![path, path],
            false => std::iter::once(path).chain(hook.args.iter().map(|a| a.as_str())).collect(),
        };
        let argv = b.table.list(args, &format!("{field}.args"))?;
        let env = match environment.filter(|_| hook.env.is_empty()) {
            Some(environment) => Environment::OfProcess(environment),
            None => {
                let own = hook.env.iter().map(|e| e.as_str());
                Environment::Own(b.table.list(own, &format!("{field}.env"))?)
            }
        };
        let output = b.slot(SlotSource::HookOutput { kind, index, path: path.to_owned() });
        b.step(field, Step::Hook { argv, env, state: state.first, timeout_s, output });
    }
    Ok(())
}
