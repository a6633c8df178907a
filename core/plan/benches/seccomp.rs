//! How long a profile takes to compile: `cargo bench -p sampan-plan`. Wanted: at most 0.1 ms each; libseccomp takes
//! 5 to 8.

#![allow(clippy::unwrap_used, clippy::disallowed_types)] // a clock, for one

use sampan_plan::default::CAPABILITIES;
use sampan_plan::seccomp::docker::{self, Facts};
use sampan_plan::seccomp::{Arch, compile_on};
use sampan_plan::spec::Str;
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let bounding = CAPABILITIES.map(Str::from);
    let facts = Facts { bounding: &bounding, kernel: (5, 14), native: Arch::X86_64 };
    for (name, text) in [
        ("docker", include_str!("../src/seccomp/docker-default.json")),
        ("podman", include_str!("../tests/data/podman-default.json")),
    ] {
        let profile = docker::profile(text, &facts).unwrap();
        let length = compile_on(&profile, Arch::X86_64).unwrap().len();
        let compile = median_us(|| drop(black_box(compile_on(black_box(&profile), Arch::X86_64).unwrap())));
        let resolve = median_us(|| drop(black_box(docker::profile(black_box(text), &facts).unwrap())));
        println!("{name}: {length} instructions in {compile:.1} us; read and resolved in {resolve:.1} us");
    }
}

fn median_us(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..2_000)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
