//! What the config says about one service's life, as far as the machine needs it, and the arithmetic of restarting.
//! Durations and counts are checked by the config before they come here; defaults are CONFIG's.

use crate::exit::{Exit, Status};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub begins: Begins,
    pub restart: RestartPolicy,
    /// The first wait; each further one in a row is `multiplier` times longer, up to `delay_max`.
    pub delay: Duration,
    pub multiplier: f64,
    pub delay_max: Duration,
    /// 0..=1: lengthens a wait by up to this part of it.
    pub jitter: f64,
    /// Ready and not unhealthy for so long: the row of attempts begins anew.
    pub reset_after: Duration,
    /// Restarts in a row; 0 = no limit.
    pub attempts_max: u32,
    /// Besides 0, unless the list says otherwise: the config gives the whole list.
    pub success: Vec<Status>,
    pub prevent: Vec<Status>,
    pub force: Vec<Status>,
    pub oom: OnOom,
    pub readiness: Readiness,
    /// From the beginning of a life until it is ready; none = as long as it takes.
    pub start_timeout: Option<Duration>,
    /// None: no health check, hence no probes.
    pub health: Option<HealthPolicy>,
    pub stop_signal: i32,
    pub stop_grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    No,
    OnFailure,
    Always,
    UnlessStopped,
}

/// What an end that the kernel's OOM killer had a hand in means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOom {
    /// What its status means.
    AsExit,
    /// `failed`, whatever the lists and the restart policy say.
    Fail,
}

/// When a service begins that is to be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    AtOnce,
    /// A job: when its time has come, which is said by `Up::Time`; at once for a hand and for who depends on it.
    ByTime,
}

/// When a started service counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Started,
    Healthy,
    /// When it says so itself.
    Notified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    pub on_failure: OnFailure,
    /// Instead of the service's own.
    pub stop_grace: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    Restart,
    Kill,
    /// And `failed`.
    Stop,
    None,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            begins: Begins::AtOnce,
            restart: RestartPolicy::UnlessStopped,
            delay: Duration::from_millis(100),
            multiplier: 2.0,
            delay_max: Duration::from_secs(60),
            jitter: 0.25,
            reset_after: Duration::from_secs(10),
            attempts_max: 0,
            success: vec![Status::Code(0)],
            prevent: Vec::new(),
            force: Vec::new(),
            oom: OnOom::AsExit,
            readiness: Readiness::Started,
            start_timeout: Some(Duration::from_secs(90)),
            health: None,
            stop_signal: 15,
            stop_grace: Duration::from_secs(10),
        }
    }
}

/// What the policy says after a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Again,
    /// A job that is done.
    Rest,
    Fail,
    /// `attempts_max` are used up.
    TooMany,
}

impl Policy {
    #[must_use]
    pub fn is_success(&self, exit: Exit) -> bool {
        self.success.contains(&exit.status)
    }

    /// After `exit` by itself (none: it was no exit but a failed start, a failed health check), with `attempts`
    /// restarts in a row behind it.
    #[must_use]
    pub fn answer(&self, exit: Option<Exit>, attempts: u32) -> Answer {
        let success = exit.is_some_and(|e| self.is_success(e));
        let listed = |list: &[Status]| exit.is_some_and(|e| list.contains(&e.status));
        if self.oom == OnOom::Fail && exit.is_some_and(|exit| exit.oom) {
            return Answer::Fail;
        }
        let again = match self.restart {
            _ if listed(&self.force) => true,
            _ if listed(&self.prevent) => false,
            RestartPolicy::No => false,
            RestartPolicy::OnFailure => !success,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        };
        match again {
            true if self.attempts_max > 0 && attempts >= self.attempts_max => Answer::TooMany,
            true => Answer::Again,
            false if success => Answer::Rest,
            false => Answer::Fail,
        }
    }

    /// The wait before restart number `attempt` (from 1) in a row. Jitter comes on top of `delay_max`: it only lengthens.
    #[must_use]
    pub fn wait(&self, attempt: u32, jitter_share: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.delay.as_secs_f64() * self.multiplier.max(1.0).powi(exponent);
        let capped = grown.min(self.delay_max.as_secs_f64());
        let part = self.jitter.clamp(0.0, 1.0) * f64::from(jitter_share) / f64::from(u32::MAX);
        Duration::try_from_secs_f64(capped * (1.0 + part)).unwrap_or(self.delay_max)
    }

    /// What follows from a service that is not well; one whose watchdog is missed need not have a health check.
    #[must_use]
    pub fn on_unhealthy(&self) -> OnFailure {
        self.health.map_or(OnFailure::Restart, |health| health.on_failure)
    }

    /// How long a life that is stopped because it is unhealthy gets.
    #[must_use]
    pub fn health_grace(&self) -> Duration {
        self.health.and_then(|h| h.stop_grace).unwrap_or(self.stop_grace)
    }
}
