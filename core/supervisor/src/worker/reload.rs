//! `reload`: a service is told to read its configuration again. The machine knows nothing of it: the service runs.
use super::Worker;
use crate::clock;
use crate::life::Context;
use crate::message::{Message, Reloaded};
use crate::request::{Answer, failure};
use crate::sd_notify::{Says, Told, Word};
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
    words: Option<watch::Receiver<Told>>,
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
            words: live.says.as_ref().and_then(Says::words),
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
        let before = self.words.as_ref().map_or(0, |words| words.borrow().reloads);
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
        match self.words.take() {
            Some(words) => ready_again(words, before, self.limit).await,
            None => Ok(()),
        }
    }
}

/// One that says RELOADING=1 is waited for; one that does not is told, and that is all there is to know.
async fn ready_again(
    mut words: watch::Receiver<Told>,
    before: u64,
    limit: Option<Duration>,
) -> Result<(), String> {
    let ended = |_| "it ended while it reloaded".to_owned();
    let began = words.wait_for(|told| told.last == Some(Word::Reloading) || told.reloads > before);
    match tokio::time::timeout(BEGIN_MAX, began).await {
        Ok(began) => drop(began.map_err(ended)?),
        Err(_) => return Ok(()),
    }
    let over = words.wait_for(|told| told.reloads > before);
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

    async fn after(told: &[Told], limit: Option<Duration>) -> Result<(), String> {
        let (send, words) = watch::channel(Told::default());
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
            result = ready_again(words, 0, limit) => result,
            () = says => Err("nobody waits so long".into()),
        }
    }

    #[tokio::test]
    async fn what_reloads_is_waited_for() {
        let reloading = Told { last: Some(Word::Reloading), reloads: 0 };
        let again = Told { last: Some(Word::Ready), reloads: 1 };
        assert_eq!(after(&[], None).await, Ok(()), "it says nothing of it");
        assert_eq!(after(&[reloading, again], None).await, Ok(()));
        assert_eq!(after(&[again], None).await, Ok(()), "both were heard at once");
        let late = after(&[reloading], Some(Duration::from_millis(50))).await;
        assert!(late.is_err_and(|why| why.contains("not READY=1 in start_timeout (50ms)")));
        let (send, words) = watch::channel(reloading);
        drop(send);
        assert!(ready_again(words, 0, None).await.is_err_and(|why| why.contains("it ended")));
    }
}
