//! (config, the service's table) -> what to change in `linux.resources`. Pure: core writes the files.

use sampan_plugin::prelude::*;

use crate::config::{Config, Limits, Machine, Size};

/// The answer to `create`.
pub fn adjust(config: &Config, machine: &Machine, service: &str, table: &Value) -> Adjust {
    let wanted = wanted(config, service, table);
    let mut adjust = Adjust::new();
    if let Some(cpus) = wanted.cpus {
        adjust =
            adjust.resource("cpu.quota", (cpus * 100_000.0).round() as i64).resource("cpu.period", 100_000);
    }
    if let Some(weight) = wanted.cpu_weight {
        adjust = adjust.resource("cpu.shares", shares(weight));
    }
    if let Some(cpuset) = &wanted.cpuset {
        adjust = adjust.resource("cpu.cpus", cpuset.as_str());
    }
    if let Some(Size(memory)) = wanted.memory {
        adjust = adjust.resource("memory.limit", memory);
        // OCI counts memory and swap together. Where swap is not counted, memory alone is limited.
        if machine.swap {
            let swap = wanted.memory_swap.map_or(memory, |s| s.0);
            adjust = adjust.resource("memory.swap", memory.saturating_add(swap));
        }
    }
    if let Some(Size(low)) = wanted.memory_low {
        adjust = adjust.resource("memory.reservation", low);
    }
    if let Some(Size(high)) = wanted.memory_high {
        adjust = adjust.resource("unified.memory.high", high.to_string());
    }
    if let Some(pids) = wanted.pids {
        let limit = if pids == 0 { -1 } else { i64::try_from(pids).unwrap_or(i64::MAX) };
        adjust = adjust.resource("pids.limit", limit);
    }
    if let Some(weight) = wanted.io_weight {
        adjust = adjust.resource("blockIO.weight", weight);
    }
    for (file, value) in &wanted.unified {
        adjust = adjust.resource(&format!("unified.{file}"), value.as_str());
    }
    adjust
}

/// Every pattern that fits says what it wants, the longest last; then the defaults, where nobody else has said anything.
fn wanted(config: &Config, service: &str, table: &Value) -> Limits {
    let mut fitting: Vec<(&String, &Limits)> =
        config.services.iter().filter(|(p, _)| fits(p, service)).collect();
    fitting.sort_by_key(|(pattern, _)| pattern.len());
    let mut wanted = Limits::default();
    for (_, limits) in fitting {
        wanted = over(limits.clone(), wanted);
    }
    let mut defaults = config.defaults.clone();
    if is_own(table, "cpus", &json!("none")) {
        defaults.cpus = None;
    }
    if is_own(table, "cpu_weight", &json!(100)) {
        defaults.cpu_weight = None;
    }
    if is_own(table, "memory", &json!("none")) {
        (defaults.memory, defaults.memory_swap) = (None, None);
    }
    if is_own(table, "pids", &json!(4096)) {
        defaults.pids = None;
    }
    over(wanted, defaults)
}

/// Whether the service itself says this. The table comes resolved: what nobody wrote has config.toml's `default` there, so
/// `explicit` tells which keys were written. A host that does not send it leaves the value to be compared.
fn is_own(table: &Value, key: &str, default: &Value) -> bool {
    match table.get("explicit").and_then(Value::as_array) {
        Some(written) => written.contains(&json!(format!("resources.{key}"))),
        None => {
            let value = table.pointer(&format!("/resources/{key}")).unwrap_or(&Value::Null);
            !value.is_null() && value != default
        }
    }
}

/// `first`, and `second` where `first` says nothing.
fn over(first: Limits, second: Limits) -> Limits {
    // Swap is said with memory: another's swap beside one's own memory would be a limit that nobody wrote.
    let memory_swap =
        if first.memory.is_some() { first.memory_swap } else { first.memory_swap.or(second.memory_swap) };
    let mut unified = second.unified;
    unified.extend(first.unified);
    Limits {
        cpus: first.cpus.or(second.cpus),
        cpu_weight: first.cpu_weight.or(second.cpu_weight),
        cpuset: first.cpuset.or(second.cpuset),
        memory: first.memory.or(second.memory),
        memory_swap,
        memory_high: first.memory_high.or(second.memory_high),
        memory_low: first.memory_low.or(second.memory_low),
        pids: first.pids.or(second.pids),
        io_weight: first.io_weight.or(second.io_weight),
        unified,
        pressure: None,
    }
}

/// `*` stands for any run of characters.
pub fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    let starts = rest.char_indices().map(|(i, _)| i).chain([rest.len()]);
    starts.into_iter().any(|i| fits(tail, &rest[i..]))
}

/// The `cpu.shares` that core turns into this weight: OCI has no weight, and 100 is 1024 shares. The inverse of the
/// quadratic in log2 by which runtimes convert them.
fn shares(weight: u32) -> u64 {
    let weight = weight.clamp(1, 10_000);
    if weight == 1 {
        return 2;
    }
    // l^2 + 125 l = 612 (log10(weight) + 7/34), solved for l = log2(shares).
    let c = 612.0 * (f64::from(weight).log10() + 7.0 / 34.0);
    let l = (-125.0 + (125.0 * 125.0 + 4.0 * c).sqrt()) / 2.0;
    (2_f64.powf(l).floor() as u64).clamp(2, 262_144)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        serde_json::from_value(json!({
            "defaults": {"memory": "512M", "pids": 100, "cpus": 2.0},
            "services": {
                "web-*": {"cpu_weight": 200, "unified": {"memory.high": "1"}},
                "web-front": {"memory": "1G", "memory_swap": 0, "cpuset": "0-1"}
            }
        }))
        .unwrap()
    }

    #[track_caller]
    fn check(service: &str, table: Value, expected: Value) {
        let machine = Machine { memory_on_v2: false, swap: true };
        let adjust = adjust(&config(), &machine, service, &table);
        assert_eq!(adjust.adjust.get("resources").cloned().unwrap_or(Value::Null), expected);
    }

    #[test]
    fn a_service_that_says_nothing_gets_the_defaults() {
        let resolved =
            json!({"resources": {"cpus": "none", "cpu_weight": 100, "memory": "none", "pids": 4096}});
        for table in [json!({}), resolved] {
            check(
                "db",
                table,
                json!({"memory.limit": 536_870_912_u64, "memory.swap": 1_073_741_824_u64, "pids.limit": 100,
                       "cpu.quota": 200_000, "cpu.period": 100_000}),
            );
        }
    }

    #[test]
    fn what_a_service_says_itself_stands() {
        check("db", json!({"resources": {"memory": "64M", "pids": 5, "cpus": 1.0}}), Value::Null);
    }

    /// A host that says which keys are the service's own: a value that happens to be the default is still one that was written.
    #[test]
    fn what_a_service_says_itself_stands_also_where_it_is_the_default() {
        let resolved = json!({"cpus": "none", "cpu_weight": 100, "memory": "none", "pids": 4096});
        let of = |explicit: Value| json!({"resources": resolved, "explicit": explicit});
        check(
            "db",
            of(json!(["resources.pids", "resources.memory"])),
            json!({"cpu.quota": 200_000, "cpu.period": 100_000}),
        );
        check("db", of(json!(["resources.cpus", "resources.memory", "resources.pids"])), Value::Null);
        let all = json!({"memory.limit": 536_870_912_u64, "memory.swap": 1_073_741_824_u64, "pids.limit": 100,
                         "cpu.quota": 200_000, "cpu.period": 100_000});
        check("db", of(json!([])), all);
    }

    #[test]
    fn patterns_add_up_and_the_longest_wins() {
        check(
            "web-front",
            json!({"resources": {"cpus": 1.0, "pids": 5}}),
            json!({"memory.limit": 1_073_741_824_u64, "memory.swap": 1_073_741_824_u64, "cpu.cpus": "0-1",
                   "cpu.shares": shares(200), "unified.memory.high": "1"}),
        );
    }

    #[test]
    fn a_star_is_any_run() {
        for (pattern, name, wanted) in [
            ("web", "web", true),
            ("web", "web2", false),
            ("web-*", "web-", true),
            ("*-db", "x-db", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn the_usual_weight_is_the_usual_shares() {
        assert_eq!((shares(1), shares(100), shares(10_000)), (2, 1024, 262_144));
    }
}
