//! `reload`: a service is told to read its configuration again. The machine knows nothing of it: the service runs.
use super::Worker;
use crate::clock;
use crate::life::Context;
use crate::message::{Message, Reloaded};
use crate::request::{Answer, failure};
use crate::sd_notify::{Notifications, Phase, Reported};
use sampan_api as api;
use sampan_config::schema::{Place, Reload, Step};
use sampan_config::units;
use sampan_runtime::kernel::pidfd;
use sampan_service::State;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// For a command, as for a step of `lifecycle`.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// One that says RELOADING=1 says so within this after it was told.
const BEGIN_MAX: Duration = Duration::from_secs(1);

/// One reload.
struct Job {
    context: Rc<Context>,
    name: Arc<str>,
    how: Reload,
    container: Arc<OwnedFd>,
    /// None: it cannot say how it is.
    reported: Option<watch::Receiver<Reported>>,
    /// Until it is ready again; none: as long as it takes.
    limit: Option<Duration>,
}

impl Worker {
    pub(super) fn reload(&mut self, name: &str, answer: Answer<api::Done>) {
        let Some(entry) = self.fleet.get(name) else { return };
        let refuse = |text: String| failure("refused", format!("cannot reload {name}: {text}"));
        let Some(how) = entry.config().reload.clone() else {
            let hint =
                format!("write services.{name}.reload = {{ signal = \"SIGHUP\" }} and `sampanctl apply`");
            let _ = answer.send(Err(refuse(format!("its config does not say how; {hint}"))));
            return;
        };
        let runs = matches!(entry.machine.state, State::Running { .. });
        let Some(live) = entry.live.as_ref().filter(|live| runs && live.paused_since.is_none()) else {
            let is = self.fleet.status(entry, clock::boottime()).text;
            let _ = answer.send(Err(refuse(format!("it is {is}, and must run"))));
            return;
        };
        let start_timeout = entry.config().start_timeout;
        let job = Job {
            context: self.context.clone(),
            name: entry.name.clone(),
            how,
            container: live.pidfd.clone(),
            reported: live.says.as_ref().and_then(Notifications::reported),
            limit: (!start_timeout.is_zero()).then_some(start_timeout),
        };
        let send = self.send.clone();
        tokio::task::spawn_local(async move {
            let name = job.name.clone();
            let result = job.run().await;
            let _ = send.send(Message::Reloaded(Box::new(Reloaded { name, result, answer })));
        });
    }

    pub(super) fn reloaded(&mut self, reloaded: Reloaded) {
        let Reloaded { name, result, answer } = reloaded;
        if let Err(why) = &result {
            tracing::warn!(service = &*name, "reload: {why}");
        }
        let status = self.fleet.get(&name).map(|entry| self.fleet.status(entry, clock::boottime()));
        let services = status.into_iter().collect();
        let done = result.map(|()| api::Done { services, complete: true });
        let _ = answer.send(done.map_err(|why| failure("refused", format!("{name}: {why}"))));
    }
}

impl Job {
    async fn run(mut self) -> Result<(), String> {
        let before = self.reported.as_ref().map_or(0, |reported| reported.borrow().reloads);
        match &self.how {
            Reload::Signal(signal) => pidfd::send(self.container.as_fd(), signal.0)
                .map_err(|error| format!("cannot send {signal}: {error}"))?,
            Reload::Command(command) => {
                let step = Step {
                    command: command.clone(),
                    place: Place::Container,
                    user: None,
                    timeout: COMMAND_MAX,
                };
                self.context.steps.inside(&self.name, "reload", &step, self.container.clone()).await?;
            }
        }
        match self.reported.take() {
            Some(reported) => ready_again(reported, before, self.limit).await,
            None => Ok(()),
        }
    }
}

/// One that says RELOADING=1 is waited for; one that does not is told, and that is all there is to know.
async fn ready_again(
    mut reported: watch::Receiver<Reported>,
    before: u64,
    limit: Option<Duration>,
) -> Result<(), String> {
    let ended = |_| "it ended while it reloaded".to_owned();
    let began = reported.wait_for(|told| told.last == Some(Phase::Reloading) || told.reloads > before);
    match tokio::time::timeout(BEGIN_MAX, began).await {
        Ok(began) => drop(began.map_err(ended)?),
        Err(_) => return Ok(()),
    }
    let over = reported.wait_for(|told| told.reloads > before);
    match limit {
        None => over.await.map(drop).map_err(ended),
        Some(limit) => match tokio::time::timeout(limit, over).await {
            Ok(over) => over.map(drop).map_err(ended),
            Err(_) => Err(format!(
                "it has said RELOADING=1, and not READY=1 in start_timeout ({})",
                units::show_duration(limit)
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(told: &[Reported], limit: Option<Duration>) -> Result<(), String> {
        let (send, reported) = watch::channel(Reported::default());
        let all = told.to_vec();
        let says = async move {
            for one in all {
                tokio::time::sleep(Duration::from_millis(5)).await;
                send.send_replace(one);
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        };
        tokio::select! {
            biased;
            result = ready_again(reported, 0, limit) => result,
            () = says => Err("nobody waits so long".into()),
        }
    }

    #[tokio::test]
    async fn what_reloads_is_waited_for() {
        let reloading = Reported { last: Some(Phase::Reloading), reloads: 0 };
        let again = Reported { last: Some(Phase::Ready), reloads: 1 };
        assert_eq!(after(&[], None).await, Ok(()), "it says nothing of it");
        assert_eq!(after(&[reloading, again], None).await, Ok(()));
        assert_eq!(after(&[again], None).await, Ok(()), "both were heard at once");
        let late = after(&[reloading], Some(Duration::from_millis(50))).await;
        assert!(late.is_err_and(|why| why.contains("not READY=1 in start_timeout (50ms)")));
        let (send, reported) = watch::channel(reloading);
        drop(send);
        assert!(ready_again(reported, 0, None).await.is_err_and(|why| why.contains("it ended")));
    }
}
