//! `update`: limits of what runs, until its next life or an apply that changes its resources.
use super::Worker;
use crate::life;
use crate::message::{Message, Updated};
use crate::request::{Answer, failure};
use sampan_api as api;
use sampan_config::schema::Resources;
use sampan_config::units;

/// As config.toml has them.
const MEMORY_BYTES_MIN: u64 = 512 << 10;
const CPUS: std::ops::RangeInclusive<f64> = 0.01..=65536.0;
const PIDS_MAX: u64 = 4 << 20;

impl Worker {
    pub(super) fn update(&mut self, name: &str, asked: &api::Update, answer: Answer<api::Done>) {
        let Some(entry) = self.fleet.get(name) else { return };
        let refused = match (&entry.live, changed(asked)) {
            (None, _) => failure(
                "refused",
                format!("{name} is not running; `sampanctl start {name}` starts it with the config's limits"),
            ),
            (_, Err(why)) => failure("usage", why),
            (Some(live), Ok(change)) => {
                let mut resources = entry.limits().clone();
                change(&mut resources);
                let (generation, ctx) = (live.generation, entry.ctx());
                let (hierarchies, cgroup) = (self.context.hierarchies, self.context.cgroup(name));
                let (plugins, send) = (self.context.plugins.clone(), self.send.clone());
                tokio::task::spawn_blocking(move || {
                    let limits = sampan_bundle::live_resources(&resources, &|_| false);
                    let result = life::update(hierarchies, &cgroup, &limits.to_string());
                    if result.is_ok() {
                        plugins.notify_updated(&ctx, &limits);
                    }
                    let resources = Box::new(resources);
                    let name = ctx.service.as_str().into();
                    let _ = send.send(Message::Updated(Box::new(Updated {
                        name,
                        generation,
                        resources,
                        result,
                        answer,
                    })));
                });
                return;
            }
        };
        let _ = answer.send(Err(refused));
    }

    pub(super) fn updated(&mut self, updated: Updated) {
        let Updated { name, generation, resources, result, answer } = updated;
        let answered = match (result, self.fleet.get_mut(&name)) {
            (Err(why), _) => Err(failure("refused", format!("{name}: limits not changed: {why}"))),
            (Ok(_), None) => Err(failure("refused", format!("{name} is gone"))),
            (Ok(warnings), Some(entry)) => {
                warnings.iter().for_each(|warning| tracing::warn!(service = &*name, "{warning}"));
                match entry.live.as_mut().filter(|live| live.generation == generation) {
                    None => Err(failure("refused", format!("{name} has ended meanwhile; try again"))),
                    Some(live) => {
                        live.limits = Some(resources);
                        Ok(())
                    }
                }
            }
        };
        let services = self.fleet.get(&name).map(|entry| self.fleet.status(entry, crate::clock::boottime()));
        let services = services.into_iter().collect();
        let _ = answer.send(answered.map(|()| api::Done { services, complete: true }));
    }
}

/// What is to be done to the limits that hold, or what is wrong with what was asked for.
fn changed(asked: &api::Update) -> Result<impl FnOnce(&mut Resources) + use<>, String> {
    let memory = parsed("memory", asked.memory.as_deref(), "512K or more, as `512M`", |text| {
        units::parse_size(text).ok().filter(|bytes| *bytes >= MEMORY_BYTES_MIN)
    })?;
    let cpus = parsed("cpus", asked.cpus.as_deref(), "0.01 to 65536, as `1.5`", |text| {
        text.parse().ok().filter(|cpus| CPUS.contains(cpus))
    })?;
    let pids = parsed("pids", asked.pids.as_deref(), "1 to 4194304", |text| {
        text.parse().ok().filter(|pids| (1..=PIDS_MAX).contains(pids))
    })?;
    if memory.is_none() && cpus.is_none() && pids.is_none() {
        return Err("nothing to change: give memory, cpus or pids".into());
    }
    Ok(move |resources: &mut Resources| {
        if let Some(memory) = memory {
            resources.memory = memory;
            // One that was told is for the limit that was.
            resources.memory_swap = resources.memory_swap.filter(|_| memory.is_some());
        }
        if let Some(cpus) = cpus {
            resources.cpus = cpus;
        }
        if let Some(pids) = pids {
            resources.pids = pids.unwrap_or(0);
        }
    })
}

/// None: not asked for; None in it: no limit.
fn parsed<T>(
    key: &str,
    text: Option<&str>,
    form: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<Option<T>>, String> {
    match text {
        None => Ok(None),
        Some("none") => Ok(Some(None)),
        Some(text) => match parse(text) {
            Some(value) => Ok(Some(Some(value))),
            None => Err(format!("{key}: {text:?} is no limit; write {form}, or `none`")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_in_the_config() {
        let asked = |memory: Option<&str>, cpus: Option<&str>, pids: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            changed(&api::Update { memory: text(memory), cpus: text(cpus), pids: text(pids) }).map(drop)
        };
        for good in ["512K", "1.5G", "none", "524288"] {
            assert_eq!(asked(Some(good), None, None), Ok(()), "{good}");
        }
        assert_eq!(asked(None, Some("0.5"), Some("none")), Ok(()));
        for (key, wrong) in [
            ("memory", asked(Some("1K"), None, None)),
            ("memory", asked(Some("much"), None, None)),
            ("memory", asked(Some("-1"), None, None)),
            ("cpus", asked(None, Some("0"), None)),
            ("cpus", asked(None, Some("NaN"), None)),
            ("cpus", asked(None, Some("inf"), None)),
            ("pids", asked(None, None, Some("0"))),
            ("pids", asked(None, None, Some("9999999"))),
            ("nothing to change", asked(None, None, None)),
        ] {
            assert!(wrong.as_ref().is_err_and(|why| why.starts_with(key)), "{key}: {wrong:?}");
        }
    }
}
