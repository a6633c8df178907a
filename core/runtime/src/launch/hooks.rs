//! The hooks of a launch: those of the host's side are run here, those in the container by the child.

use std::os::fd::OwnedFd;

use sampan_hooks::{Kind, Output};

use crate::error::{Error, Result};
use crate::state::State;

pub(super) fn run_hooks(state: &State, kind: Kind) -> Result<()> {
    if state.hooks.of(kind).is_empty() {
        return Ok(());
    }
    sampan_hooks::run_all(
        &state.hooks,
        kind,
        &state.for_hook(kind),
        None,
        Output::Tail,
        crate::signals::start_clean,
    )?;
    Ok(())
}

/// What a hook printed belongs to its error.
pub(super) fn with_output(mut error: Error, output: Option<&OwnedFd>) -> Error {
    if let Some(fd) = output {
        let mut bytes = [0u8; 1024];
        let printed = rustix::io::pread(fd, &mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..printed).unwrap_or_default()).trim().to_owned();
        if !text.is_empty() {
            error.doing = format!("{}: {text}", error.doing);
        }
    }
    error
}

pub(super) fn hooks_of(hooks: &sampan_plan::spec::Hooks<'_>) -> sampan_hooks::Hooks {
    let list = |hooks: &[sampan_plan::spec::Hook<'_>]| -> Vec<sampan_hooks::Hook> {
        let strings = |list: &[sampan_plan::spec::Str<'_>]| list.iter().map(|s| s.to_string()).collect();
        hooks
            .iter()
            .map(|h| sampan_hooks::Hook {
                path: h.path.to_string(),
                args: strings(&h.args),
                env: strings(&h.env),
                timeout: h.timeout.and_then(|t| u64::try_from(t).ok()),
            })
            .collect()
    };
    sampan_hooks::Hooks {
        prestart: list(&hooks.prestart),
        create_runtime: list(&hooks.create_runtime),
        create_container: list(&hooks.create_container),
        start_container: list(&hooks.start_container),
        poststart: list(&hooks.poststart),
        poststop: list(&hooks.poststop),
    }
}
