//! One-offs (`sampanctl run`): a container that is run once with a service's settings and, as a rule, another command.
//!
//! To the loop it is a service like any other, of a config that is made here and that config.toml does not have. It is begun once:
//! whatever becomes of it, or of sampand, its program does not run a second time.
pub mod client;
pub mod kept;

use sampan_api as api;
use sampan_config::schema::{
    ExitStatus, Lifecycle, LogDriver, Membership, Notify, On, Policy, Service, User,
};
use std::path::Path;
use std::time::Duration;

/// The service's config as the one-off has it. The text says what of `run` cannot be.
///
/// Left out is what one of a kind can have: its sockets, its addresses and aliases, its published ports; and what keeps a
/// service going or watches it: health check, schedule, restart, steps around its life. Ids and the image's volumes are the service's own
/// ([`Service::owner`]), so that files have the owners that it sees.
pub fn config(of: &Service, run: &api::Run) -> Result<Service, String> {
    let mut one = of.clone();
    one.name.clone_from(&run.name);
    one.of = Some(of.name.clone());
    asked(&mut one, run)?;
    one.autostart = false;
    one.schedule = None;
    one.profiles.clear();
    one.sockets.clear();
    if !run.service_ports {
        one.ports.clear();
    }
    for membership in &mut one.networks {
        *membership = Membership::of(&membership.network);
    }
    one.restart.policy = Policy::No;
    one.restart.success_exit_status = vec![ExitStatus::Code(0)];
    one.restart.prevent_exit_status.clear();
    one.restart.force_exit_status.clear();
    one.healthcheck = None;
    // Nor the image's.
    one.own.insert("healthcheck".into());
    one.notify = Notify::None;
    one.watchdog = Duration::ZERO;
    one.reload = None;
    one.lifecycle = Lifecycle {
        pre_start: Vec::new(),
        post_start: Vec::new(),
        pre_stop: Vec::new(),
        post_stop: Vec::new(),
    };
    one.on = On { exit: Vec::new(), failure: Vec::new(), oom: Vec::new(), health: Vec::new() };
    if run.client.is_some() {
        one.logging.driver = LogDriver::None;
        (one.tty, one.stdin_open) = (run.tty, false);
        // Also where its bundle has one.
        one.own.insert("tty".into());
    }
    if run.no_deps {
        one.depends_on.clear();
    }
    // Started again with what it depends on, it would run twice.
    for dependency in one.depends_on.values_mut() {
        (dependency.restart, dependency.bind) = (false, false);
    }
    Ok(one)
}

/// What was asked for, in the place of what the service says.
fn asked(one: &mut Service, run: &api::Run) -> Result<(), String> {
    let mut own = |key: &str| {
        one.own.insert(key.to_owned());
    };
    if !run.command.is_empty() {
        one.command.clone_from(&run.command);
        own("command");
    }
    if !run.environment.is_empty() {
        one.environment.extend(run.environment.clone());
        own("environment");
    }
    if let Some(text) = &run.user {
        one.user = text.parse::<User>().map_err(|error| format!("user {text:?}: {error}"))?;
        own("user");
    }
    if let Some(folder) = &run.working_dir {
        if !Path::new(folder).is_absolute() {
            return Err(format!("the folder {folder:?} is not absolute"));
        }
        one.working_dir.clone_from(folder);
        own("working_dir");
    }
    Ok(())
}

/// Whether it may have such a name; the text says why not.
pub fn check_name(name: &str) -> Result<(), String> {
    match sampan_config::is_name(name) {
        true => Ok(()),
        false => Err(format!("{name:?} is not a name: a-z and 0-9 first, then also _ . -, at most 63")),
    }
}
