//! One-offs (`sampanctl run`): a container that is run once with a service's settings and, as a rule, another command.
//!
//! To the loop it is a service like any other, of a config that is made here and that config.toml does not have. It is begun once:
//! whatever becomes of it, or of sampand, its program does not run a second time.
pub mod client;
pub mod kept;

use sampan_api as api;
use sampan_config::schema::{
    ExitStatus, Lifecycle, LogDriver, Membership, Notify, On, Policy, Restart, Service, User,
};
use std::path::Path;
use std::time::Duration;

/// The service's config as the one-off has it. The text says what of `run` cannot be.
///
/// Left out is what one of a kind can have: its sockets, its addresses and aliases, its published ports; and what keeps a
/// service going or watches it: health check, schedule, restart, steps around its life. Ids and the image's volumes are the service's own
/// ([`Service::owner`]), so that files have the owners that it sees.
pub fn config(of: &Service, run: &api::Run) -> Result<Service, String> {
    let kept = of.clone();
    // Without `..`: the compiler asks what becomes of a key that is new.
    #[rustfmt::skip]
    let mut one = Service {
        // As its service has them.
        source: kept.source, annotations: kept.annotations, labels: kept.labels, own: kept.own,
        entrypoint: kept.entrypoint, command: kept.command, working_dir: kept.working_dir,
        hostname: kept.hostname, domainname: kept.domainname, init: kept.init, tty: kept.tty, stdin_open: kept.stdin_open,
        volumes: kept.volumes, tmpfs: kept.tmpfs, secrets: kept.secrets, shm_size: kept.shm_size,
        environment: kept.environment, adjust: kept.adjust, hooks: kept.hooks,
        user: kept.user, group_add: kept.group_add, privileged: kept.privileged, namespaces: kept.namespaces,
        sysctls: kept.sysctls, ulimits: kept.ulimits, oom_score_adj: kept.oom_score_adj, devices: kept.devices,
        cap_add: kept.cap_add, cap_drop: kept.cap_drop, security: kept.security, resources: kept.resources,
        network_mode: kept.network_mode, resolver: kept.resolver,
        start_timeout: kept.start_timeout, stop_signal: kept.stop_signal, stop_grace_period: kept.stop_grace_period,
        logging: kept.logging, depends_on: kept.depends_on,
        // As it is asked for.
        name: run.name.clone(), of: Some(kept.name),
        ports: if run.service_ports { kept.ports } else { Vec::new() },
        networks: kept.networks.iter().map(|membership| Membership::of(&membership.network)).collect(),
        // It is begun once, by hand, and nothing watches it.
        autostart: false, schedule: None, profiles: Vec::new(), sockets: Vec::new(), restart: never(kept.restart),
        healthcheck: None, notify: Notify::None, watchdog: Duration::ZERO, fd_store_max: 0, reload: None,
        lifecycle: Lifecycle {
            pre_start: Vec::new(), post_start: Vec::new(), pre_stop: Vec::new(), post_stop: Vec::new(),
        },
        on: On { exit: Vec::new(), failure: Vec::new(), oom: Vec::new(), health: Vec::new() },
    };
    asked(&mut one, run)?;
    // Nor the image's.
    one.own.insert("healthcheck".into());
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

/// Whatever its exit code: it has failed unless that is 0.
fn never(restart: Restart) -> Restart {
    Restart {
        policy: Policy::No,
        success_exit_status: vec![ExitStatus::Code(0)],
        prevent_exit_status: Vec::new(),
        force_exit_status: Vec::new(),
        ..restart
    }
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
