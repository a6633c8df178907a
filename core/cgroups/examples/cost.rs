//! What a container's groups cost here, phase by phase, beside the bare mkdir and rmdir in every hierarchy. As root:
//! `cargo run --release -p sampan-cgroups --example cost`. Prints medians in microseconds; asserts nothing.

use std::time::{Duration, Instant};

use sampan_cgroups::{Cgroup, CgroupsPath, Hierarchies, Limits};
use sampan_plan::spec::Resources;

const ROUNDS: usize = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hierarchies = Hierarchies::detect_at("/sys/fs/cgroup")?;
    let place = CgroupsPath::Absolute(format!("sampan-cost-{}", std::process::id()));
    let text =
        r#"{"memory":{"limit":536870912},"cpu":{"quota":150000,"period":100000},"pids":{"limit":4096}}"#;
    let resources = Resources::parse(text)?;
    let mut rows: Vec<(&str, Vec<Duration>)> = Vec::new();
    let mut note = |row: usize, name: &'static str, since: Instant| {
        if rows.len() <= row {
            rows.push((name, Vec::new()));
        }
        rows[row].1.push(since.elapsed());
    };
    for _ in 0..ROUNDS {
        let at = Cgroup::at(&hierarchies, &place)?;
        let since = Instant::now();
        for (_, path) in at.paths() {
            std::fs::create_dir(path)?;
        }
        for (_, path) in at.paths() {
            std::fs::remove_dir(path)?;
        }
        note(0, "floor: mkdir and rmdir in each hierarchy", since);

        let since = Instant::now();
        Hierarchies::detect_at("/sys/fs/cgroup")?;
        note(1, "detect", since);
        let since = Instant::now();
        let limits = Limits::new(&resources, &hierarchies.layout())?;
        note(2, "limits (pure)", since);
        let since = Instant::now();
        let group = Cgroup::create(&hierarchies, &place)?;
        note(3, "create", since);
        let since = Instant::now();
        group.apply(&limits)?;
        note(4, "apply", since);
        let since = Instant::now();
        drop(group.v2_fd()?);
        note(5, "open for joining", since);
        let since = Instant::now();
        Cgroup::reuse(&hierarchies, &place)?;
        note(6, "use again", since);
        let since = Instant::now();
        group.stats()?;
        note(7, "stats", since);
        let since = Instant::now();
        group.remove()?;
        note(8, "remove", since);
    }
    for (name, mut times) in rows {
        times.sort_unstable();
        println!("{name:45} {:7.1}", times[times.len() / 2].as_secs_f64() * 1e6);
    }
    Ok(())
}
