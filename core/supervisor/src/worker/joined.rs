//! Services in namespaces of another one: whose process is there now.
use super::Worker;
use crate::life::Joined;
use sampan_config::schema;

impl Worker {
    /// Each that it names; or which does not run. That it is waited for, and stopped with it, is a need like any other
    /// (`depends_on.X.bind`).
    pub(super) fn joined(&self, service: &schema::Service) -> Result<Vec<Joined>, String> {
        let one = |(key, name): (&'static str, &str)| {
            let live = self.fleet.get(name).and_then(|entry| entry.live.as_ref());
            let live =
                live.ok_or_else(|| format!("{key}: {name} does not run: it has no namespace to join"))?;
            Ok(Joined { key, service: name.to_owned(), pid: live.pid, pidfd: live.pidfd.clone() })
        };
        service.joins().into_iter().map(one).collect()
    }
}
