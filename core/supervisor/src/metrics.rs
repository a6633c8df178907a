//! What sampand counts, in the text format of OpenMetrics, which Prometheus reads. docs/metrics.md has the names and units.
//!
//! The loop gives what it knows ([`Facts`]) and goes on; control groups are read by whoever writes the text, on a thread of the pool, one
//! at a time. Absent: any number that is kept for this alone; each is read when somebody asks.
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use sampan_api as api;
use sampan_cgroups::{Cgroup, CgroupsPath, Hierarchies, Stats};
use sampan_plugin_host::{Metric, MetricKind, Status};
use std::fmt;
use std::time::SystemTime;

/// What the loop knows.
#[derive(Debug)]
pub struct Facts {
    pub services: Vec<OfService>,
    pub turns: api::Loop,
    /// Workers since the keel began.
    pub workers: u32,
    pub journal_bytes: u64,
    pub plugins: Vec<Status>,
    pub hierarchies: &'static Hierarchies,
}

#[derive(Debug)]
pub struct OfService {
    pub name: String,
    pub state: &'static str,
    /// None: it has no health check, or is not checked now.
    pub health: Option<String>,
    /// Over all runs of sampand.
    pub restarts: u64,
    pub started_at: Option<SystemTime>,
    /// Of this run of sampand; none also where it is unknown.
    pub last_exit: Option<i32>,
    /// None: nothing of it lives.
    pub cgroup: Option<String>,
}

/// The text of it all. It reads files: not on the loop's thread.
pub fn text(facts: Facts) -> Result<String, fmt::Error> {
    let read = |service: &OfService| {
        let path = CgroupsPath::Absolute(service.cgroup.clone()?);
        let group = Cgroup::at(facts.hierarchies, &path).ok()?;
        // Gone since the loop was asked: it has none.
        group.stats().ok()
    };
    let stats = facts.services.iter().map(read).collect();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page { facts, stats }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Page {
    facts: Facts,
    /// As many as services.
    stats: Vec<Option<Stats>>,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Values of one metric, each with its labels.
type Values<'a> = Vec<(Labels<'a>, f64)>;

/// Name without unit, help, unit, whether it only ever grows, of a service's control groups.
type OfGroup = (&'static str, &'static str, Option<Unit>, bool, fn(&Stats) -> f64);

/// Nanoseconds.
const NANO: f64 = 1e-9;

fn of_groups() -> [OfGroup; 6] {
    [
        ("cpu", "CPU time of all its processes", Some(Unit::Seconds), true, |s| {
            s.cpu.usage.total as f64 * NANO
        }),
        ("memory", "memory in use, page cache included", Some(Unit::Bytes), false, |s| {
            s.memory.usage.usage as f64
        }),
        ("memory_peak", "the most memory that was in use", Some(Unit::Bytes), false, |s| {
            s.memory.usage.max as f64
        }),
        ("processes", "processes and threads", None, false, |s| s.pids.current as f64),
        ("io_read", "bytes read from block devices", Some(Unit::Bytes), true, |s| io(s, "read")),
        ("io_written", "bytes written to block devices", Some(Unit::Bytes), true, |s| io(s, "write")),
    ]
}

fn io(stats: &Stats, op: &str) -> f64 {
    let entries = stats.blkio.io_service_bytes_recursive.iter();
    entries.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value as f64).sum()
}

impl Collector for Page {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        self.of_the_loop(&mut to)?;
        self.of_services(&mut to)?;
        self.of_control_groups(&mut to)?;
        self.of_plugins(&mut to)
    }
}

impl Page {
    fn of_the_loop(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Facts { turns, workers, journal_bytes, .. } = &self.facts;
        let seconds = |turn: &api::Turn| turn.took_us as f64 / 1e6;
        let one = |value| vec![(Labels::new(), value)];
        let longest = "the longest turn of the loop since the worker began";
        let lately = "the longest turn of the loop in the last minute";
        let s = Some(Unit::Seconds);
        counter(to, "sampan_loop_turns", "turns of the worker's loop", None, one(turns.turns as f64))?;
        gauge(to, "sampan_loop_longest_turn", longest, s.clone(), one(seconds(&turns.longest)))?;
        gauge(
            to,
            "sampan_loop_longest_turn_of_last_minute",
            lately,
            s,
            one(seconds(&turns.longest_of_last_minute)),
        )?;
        counter(to, "sampan_workers", "workers since sampand began", None, one(f64::from(*workers)))?;
        gauge(to, "sampan_journal", "the journal's file", Some(Unit::Bytes), one(*journal_bytes as f64))
    }

    fn of_services(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = || self.facts.services.iter();
        let states = all()
            .map(|s| (vec![("service", s.name.as_str()), ("state", s.state)], 1.0))
            .collect::<Values<'_>>();
        gauge(to, "sampan_service_state", "1 for the state that it is in", None, states)?;
        let health = all().filter_map(|s| Some((s, s.health.as_deref()?)));
        let health =
            health.map(|(s, is)| (vec![("service", s.name.as_str()), ("health", is)], 1.0)).collect();
        gauge(to, "sampan_service_health", "1 for what its health check says", None, health)?;
        let restarts = all().map(|s| (vec![("service", s.name.as_str())], s.restarts as f64)).collect();
        counter(
            to,
            "sampan_service_restarts",
            "restarts by policy, over all runs of sampand",
            None,
            restarts,
        )?;
        let since =
            |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok().map(|at| at.as_secs_f64());
        let started = all().filter_map(|s| Some((vec![("service", s.name.as_str())], since(s.started_at?)?)));
        let help = "when its present life began, since 1970";
        gauge(to, "sampan_service_start_time", help, Some(Unit::Seconds), started.collect())?;
        let exits = all().filter_map(|s| Some((vec![("service", s.name.as_str())], f64::from(s.last_exit?))));
        let help = "its last exit in this run of sampand; 128 + N: by signal N";
        gauge(to, "sampan_service_last_exit_code", help, None, exits.collect())
    }

    fn of_control_groups(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, unit, grows, read) in of_groups() {
            let all = self.facts.services.iter().zip(&self.stats);
            let values = all
                .filter_map(|(s, stats)| Some((vec![("service", s.name.as_str())], read(stats.as_ref()?))))
                .collect();
            let name = format!("sampan_service_{name}");
            match grows {
                true => counter(to, &name, help, unit, values)?,
                false => gauge(to, &name, help, unit, values)?,
            }
        }
        Ok(())
    }

    fn of_plugins(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let each = |of: fn(&Status) -> u64| {
            let value = |plugin| of(plugin) as f64;
            self.facts.plugins.iter().map(|p| (vec![("plugin", p.name.as_str())], value(p))).collect()
        };
        counter(to, "sampan_plugin_calls", "calls of a plugin", None, each(|p| p.figures.calls))?;
        counter(to, "sampan_plugin_errors", "calls that it failed", None, each(|p| p.figures.errors))?;
        self.facts.plugins.iter().flat_map(|plugin| &plugin.metrics).try_for_each(|metric| own(to, metric))
    }
}

/// What a plugin has defined itself. Those of the host have no service.
fn own(to: &mut DescriptorEncoder<'_>, metric: &Metric) -> fmt::Result {
    let labels = |service: &'_ str| -> Vec<(&'static str, String)> {
        (!service.is_empty()).then(|| ("service", service.to_owned())).into_iter().collect()
    };
    let help = if metric.help.is_empty() { "of a plugin" } else { &metric.help };
    let name = metric.name.strip_suffix("_total").unwrap_or(&metric.name);
    let kind = match metric.kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
    };
    let mut encoder = to.encode_descriptor(name, help, None, kind)?;
    for (service, (first, second)) in &metric.values {
        let labels = labels(service);
        let mut value = encoder.encode_family(&labels)?;
        match metric.kind {
            MetricKind::Counter => value.encode_counter::<NoLabelSet, _, u64>(first, None)?,
            MetricKind::Gauge => value.encode_gauge(first)?,
            MetricKind::Histogram => {
                let count = *first as u64;
                value.encode_histogram::<NoLabelSet>(*second, count, &[(f64::MAX, count)], None)?;
            }
        }
    }
    Ok(())
}

fn counter(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    values: Values<'_>,
) -> fmt::Result {
    let encoder = to.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
    each(encoder, &values, |mut to, value| to.encode_counter::<NoLabelSet, _, u64>(&value, None))
}

fn gauge(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    values: Values<'_>,
) -> fmt::Result {
    let encoder = to.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
    each(encoder, &values, |mut to, value| to.encode_gauge(&value))
}

fn each(
    mut encoder: MetricEncoder<'_>,
    values: &Values<'_>,
    write: impl Fn(MetricEncoder<'_>, f64) -> fmt::Result,
) -> fmt::Result {
    match values.as_slice() {
        [(labels, value)] if labels.is_empty() => write(encoder, *value),
        values => values.iter().try_for_each(|(labels, value)| write(encoder.encode_family(labels)?, *value)),
    }
}
