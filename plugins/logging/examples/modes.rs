//! Both modes beside each other, alternated in one run: how fast a service may print, how fast that is in its log, how much of it, and
//! what its buffer has of memory at the end. Lines of 100 bytes, 64 KiB of them with each write, or one.
//!
//! `cargo run --release -p sampan-plugin-logging --example modes [MiB]`
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use logging::config::{Buffer, Drops, Settings};
use logging::engine::{Attachment, Engine};
use logging::ring::Ring;
use logging::spool::Spool;
use sampan_plugin::types::Container;

const LINE_BYTES: usize = 100;
const RUNS: usize = 5;

/// One that is never full, and docker's.
const MODES: [(&str, Option<u64>); 3] =
    [("blocking", None), ("non-blocking, all of it", Some(1 << 30)), ("non-blocking, 1M", Some(1 << 20))];

#[derive(Clone, Copy, Default)]
struct Figures {
    printed: f64,
    logged: f64,
    kept: f64,
    memory: u64,
}

fn main() -> io::Result<()> {
    let mib: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(128);
    let folder = sampan_testkit::Folder::new();
    let dir = &folder.0;
    for (what, lines, mib) in [("64 KiB at once", (64 << 10) / LINE_BYTES, mib), ("line by line", 1, mib / 8)]
    {
        println!("{what}, {mib} MiB, MiB/s, best of {RUNS}");
        let mut best = [Figures::default(); MODES.len()];
        for _ in 0..RUNS {
            for ((_, bytes), best) in MODES.iter().zip(&mut best) {
                let found = run(dir, mib, lines, *bytes)?;
                if found.logged > best.logged {
                    *best = found;
                }
            }
        }
        for ((name, _), Figures { printed, logged, kept, memory }) in MODES.iter().zip(best) {
            println!(
                "  {name:24} printed {printed:5.0}   logged {logged:5.0}   kept {:4.0} %   buffer {} KiB",
                100.0 * kept,
                memory >> 10
            );
        }
    }
    Ok(())
}

fn run(dir: &Path, mib: usize, lines: usize, bytes: Option<u64>) -> io::Result<Figures> {
    let buffer = bytes.map(|bytes| Buffer { bytes, drops: Drops::Oldest });
    let ring = buffer.map(Ring::create).transpose()?.map(Arc::new);
    let settings = Settings { buffer, compress: false, ..Settings::default() };
    let engine = Engine::start(dir.join("logs"), Spool::create()?, Box::new(|_, _, _| ()))?;
    let (read, write) = io::pipe()?;
    let (pipes, service) = ([Some(Arc::new(read.into())), None], "web".to_owned());
    let attachment = Attachment { service, container: Container(1), settings, ring: ring.clone(), pipes };
    engine.attach(attachment).blocking_recv().map_err(io::Error::other)??;
    let begin = Instant::now();
    feed(File::from(OwnedFd::from(write)), mib << 20, lines)?;
    let printed = begin.elapsed();
    // All that there is, and what is in the pipe.
    let mut dropped = 0;
    loop {
        let status = engine.status().blocking_recv().map_err(io::Error::other)?;
        let Some(figures) = status.get("web") else { break };
        if figures.bytes >= (mib << 20) as u64 / LINE_BYTES as u64 * LINE_BYTES as u64 {
            dropped = figures.dropped;
            break;
        }
        std::thread::yield_now();
    }
    let logged = begin.elapsed();
    engine.detach("web").blocking_recv().map_err(io::Error::other)?;
    drop(engine);
    fs::remove_dir_all(dir.join("logs"))?;
    let blocks = |ring: &Arc<Ring>| ring.keep(|fd| rustix::fs::fstat(fd).map_or(0, |stat| stat.st_blocks));
    let memory = ring.as_ref().map_or(0, blocks) as u64 * 512;
    let kept = 1.0 - (dropped * LINE_BYTES as u64) as f64 / (mib << 20) as f64;
    let rate = |took: std::time::Duration| mib as f64 / took.as_secs_f64();
    Ok(Figures { printed: rate(printed), logged: kept * rate(logged), kept, memory })
}

/// Whole lines, so many with each write.
fn feed(mut pipe: File, bytes: usize, lines: usize) -> io::Result<()> {
    let block = [&[b'x'; LINE_BYTES - 1][..], b"\n"].concat().repeat(lines);
    let mut left = bytes / LINE_BYTES * LINE_BYTES;
    while left > 0 {
        let some = left.min(block.len());
        pipe.write_all(&block[..some])?;
        left -= some;
    }
    Ok(())
}
