//! What the limit of open files allows. The keel has raised it as far as it goes.
use rustix::process::{Resource, getrlimit};

/// That the worker has open for itself and its plugins, and what a launch needs for a while.
const OURS: u64 = 64;
/// For each service whose output is read, with the plugins' own (tests/e2e/limits.rs counts them).
const A_SERVICE: u64 = 6;

/// That a kill of a service's groups has open: one for each hierarchy of control groups, of which v1 has this many.
const A_KILL: u64 = 14;
/// More at once would take no less time.
const KILLS_MAX: u64 = 32;

/// How many kills may go on at the same time. At the least half of what is not for services is theirs.
pub fn kills_at_once() -> usize {
    kills_of(getrlimit(Resource::Nofile).current)
}

fn kills_of(limit: Option<u64>) -> usize {
    let kills = limit.map_or(KILLS_MAX, |limit| (limit / 16).max(OURS / 2) / A_KILL);
    usize::try_from(kills.clamp(1, KILLS_MAX)).unwrap_or(1)
}

/// Warns if it is not enough for all services of the config.
pub fn tell(services: usize) {
    let limit = getrlimit(Resource::Nofile).current;
    if let Some(warning) = limit.and_then(|limit| warning_of(limit, services)) {
        tracing::warn!("{warning}");
    }
}

fn warning_of(limit: u64, services: usize) -> Option<String> {
    let enough = limit.saturating_sub(OURS) / A_SERVICE;
    (u64::try_from(services).unwrap_or(u64::MAX) > enough).then(|| {
        format!(
            "the limit of open files ({limit}) is enough for about {enough} services, and the config has {services}: \
             raise LimitNOFILE= in sampand's unit, or `ulimit -n`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_at_once_fit_into_what_is_left() {
        assert_eq!(
            [None, Some(8), Some(1024), Some(20_000), Some(1 << 20)].map(kills_of),
            [32, 2, 4, 32, 32]
        );
    }

    #[test]
    fn it_warns_where_the_config_has_more() {
        assert_eq!(warning_of(1024, 160), None);
        let text = warning_of(1024, 161).unwrap();
        assert!(text.starts_with(
            "the limit of open files (1024) is enough for about 160 services, and the config has 161"
        ));
        assert!(warning_of(8, 1).unwrap().contains("about 0 services"));
    }
}
