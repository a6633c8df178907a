//! What the limit of open files allows. The keel has raised it as far as it goes.
use rustix::process::{Resource, getrlimit};

/// That the worker has open for itself and its plugins, and what a launch needs for a while.
const OURS: u64 = 64;
/// For each service whose output is read, with the plugins' own (tests/e2e/limits.rs counts them).
const A_SERVICE: u64 = 6;

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
    fn it_warns_where_the_config_has_more() {
        assert_eq!(warning_of(1024, 160), None);
        let text = warning_of(1024, 161).unwrap();
        assert!(text.starts_with(
            "the limit of open files (1024) is enough for about 160 services, and the config has 161"
        ));
        assert!(warning_of(8, 1).unwrap().contains("about 0 services"));
    }
}
