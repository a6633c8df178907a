//! The config of one service as its machine carries it: the table of config.toml, and what of it the machine reads.
use sampan_config::schema::{
    self, Condition as Wish, ExitStatus, Notify, OnUnhealthy, OomPolicy, Policy as Restart,
};
use sampan_service::policy::{Begins, HealthPolicy, OnFailure, OnOom, Readiness, RestartPolicy};
use sampan_service::{Condition, HasPolicy, Policy, Status};
use std::ops::Deref;
use std::sync::Arc;

/// A service's machine with its config, and what happens to it.
pub type Service = sampan_service::Service<Settings>;
pub type Event = sampan_service::Event<Settings>;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    service: Arc<schema::Service>,
    /// Derived from it, once: the machine looks at it at every step.
    policy: Arc<Policy>,
}

impl From<Arc<schema::Service>> for Settings {
    fn from(service: Arc<schema::Service>) -> Settings {
        let policy = Arc::new(policy(&service));
        Settings { service, policy }
    }
}

impl HasPolicy for Settings {
    fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl Deref for Settings {
    type Target = schema::Service;

    fn deref(&self) -> &schema::Service {
        &self.service
    }
}

impl Settings {
    pub fn shared(&self) -> Arc<schema::Service> {
        self.service.clone()
    }
}

/// What the machine needs to know of the config.
fn policy(config: &schema::Service) -> Policy {
    Policy {
        begins: if config.schedule.is_some() { Begins::ByTime } else { Begins::AtOnce },
        restart: match config.restart.policy {
            Restart::No => RestartPolicy::No,
            Restart::OnFailure => RestartPolicy::OnFailure,
            Restart::Always => RestartPolicy::Always,
            Restart::UnlessStopped => RestartPolicy::UnlessStopped,
        },
        delay: config.restart.delay,
        multiplier: config.restart.multiplier,
        delay_max: config.restart.max_delay,
        jitter: config.restart.jitter,
        reset_after: config.restart.reset_after,
        attempts_max: config.restart.max_attempts,
        success: statuses(&config.restart.success_exit_status),
        prevent: statuses(&config.restart.prevent_exit_status),
        force: statuses(&config.restart.force_exit_status),
        oom: match config.resources.oom_policy {
            OomPolicy::Kill | OomPolicy::Continue => OnOom::AsExit,
            OomPolicy::Stop => OnOom::Fail,
        },
        readiness: match config.notify {
            Notify::None => Readiness::Started,
            Notify::Healthy => Readiness::Healthy,
            Notify::Ready | Notify::Fd(_) => Readiness::Notified,
        },
        start_timeout: (!config.start_timeout.is_zero()).then_some(config.start_timeout),
        health: config.healthcheck.as_ref().map(|check| HealthPolicy {
            on_failure: match check.on_failure {
                OnUnhealthy::Restart => OnFailure::Restart,
                OnUnhealthy::Kill => OnFailure::Kill,
                OnUnhealthy::Stop => OnFailure::Stop,
                OnUnhealthy::None => OnFailure::None,
            },
            stop_grace: check.stop_grace_period,
        }),
        stop_signal: config.stop_signal.0,
        stop_grace: config.stop_grace_period,
    }
}

fn statuses(list: &[ExitStatus]) -> Vec<Status> {
    let status = |status: &ExitStatus| match *status {
        ExitStatus::Code(code) => Status::Code(code.into()),
        ExitStatus::Signal(signal) => Status::Signal(signal.0),
    };
    list.iter().map(status).collect()
}

pub fn condition(wish: Wish) -> Condition {
    match wish {
        Wish::Started => Condition::Started,
        Wish::Ready => Condition::Ready,
        Wish::Healthy => Condition::Healthy,
        Wish::CompletedSuccessfully => Condition::CompletedSuccessfully,
    }
}
