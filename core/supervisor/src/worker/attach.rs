//! A client that is to be attached to a service.
use super::Worker;
use crate::relay::Attached;
use crate::request::failure;
use sampan_api as api;
use sampan_config::schema::LogDriver;

impl Worker {
    pub(super) fn attach(&self, name: &str) -> Result<Attached, api::Failure> {
        let entry = self.fleet.get(name).ok_or_else(|| self.no_such(name))?;
        let refused = |text: String| failure("refused", text);
        let Some(live) = entry.live.as_ref().filter(|_| entry.machine.state.has_life()) else {
            let status = self.fleet.status(entry, crate::clock::boottime());
            return Err(refused(format!("{name} is not running: {}", status.text)));
        };
        if live.paused_since.is_some() {
            return Err(refused(format!("{name} is paused; `sampanctl unpause {name}` lets it go on")));
        }
        if let Some(attached) = self.context.relays.attach(name) {
            return Ok(attached);
        }
        if entry.config().logging.driver == LogDriver::None {
            return Err(refused(format!(
                "{name} has no log (logging.driver = \"none\"), no terminal and no open input: there is nothing to attach to"
            )));
        }
        if self.context.plugins.claimant("stdio").is_none() {
            return Err(refused(format!(
                "{name} has neither tty nor stdin_open, and no plugin keeps its log: its output is in {}",
                self.context.dirs.logs(name).display()
            )));
        }
        let (context, services) = (self.context.clone(), vec![name.to_owned()]);
        let log =
            async move { context.read_logs(services, true, Some(0)).await.map_err(|failure| failure.error) };
        Ok(self.context.relays.attach_to_log(name, log))
    }
}
