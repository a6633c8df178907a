//! How fast a pipe becomes a log, beside its floor: the same bytes by plain read and write of 64 KiB. Alternated in one run.
//!
//! `cargo run --release -p sampan-plugin-logging --example throughput [MiB [plain]]`; `plain`: without what is compressed.
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use logging::config::{Driver, Settings};
use logging::engine::{Attachment, Engine};
use logging::spool::Spool;
use sampan_plugin::types::Container;

const KINDS: [(&str, Driver, bool); 3] = [
    ("local", Driver::Local, false),
    ("json-file", Driver::JsonFile, false),
    ("compressed", Driver::Local, true),
];

fn main() -> io::Result<()> {
    let mib: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(512);
    let kinds = match std::env::args().nth(2) {
        Some(_) => &KINDS[..2],
        None => &KINDS[..],
    };
    let folder = sampan_testkit::Folder::new();
    let dir = &folder.0;
    println!("MiB/s of the container's bytes, {mib} MiB each, best of 3");
    for width in [20, 100, 1000] {
        let mut best = [0f64; 4];
        for _ in 0..3 {
            best[0] = best[0].max(floor(dir, mib, width)?);
            for (n, (_, driver, compress)) in kinds.iter().enumerate() {
                let settings = Settings { driver: *driver, compress: *compress, ..Settings::default() };
                best[n + 1] = best[n + 1].max(engine(dir, mib, width, settings)?);
            }
        }
        print!("lines of {width:4} bytes: read+write {:5.0}", best[0]);
        for ((name, ..), best_of) in kinds.iter().zip(&best[1..]) {
            print!("   {name} {best_of:5.0} = {:.2}", best_of / best[0]);
        }
        println!();
    }
    Ok(())
}

/// What a container does: 64 KiB of lines at a time.
fn feed(mut pipe: File, mib: usize, width: usize) -> std::thread::JoinHandle<io::Result<()>> {
    std::thread::spawn(move || {
        let line = [&vec![b'x'; width - 1][..], b"\n"].concat();
        let block = line.repeat((64 << 10) / width);
        let mut left = mib << 20;
        while left > 0 {
            let n = left.min(block.len());
            pipe.write_all(&block[..n])?;
            left -= n;
        }
        Ok(())
    })
}

fn finish(feeder: std::thread::JoinHandle<io::Result<()>>) -> io::Result<()> {
    feeder.join().map_err(|_| io::Error::other("the feeder panicked"))?
}

fn floor(dir: &Path, mib: usize, width: usize) -> io::Result<f64> {
    fs::create_dir_all(dir)?;
    let (read, write) = io::pipe()?;
    let (mut read, write) = (File::from(OwnedFd::from(read)), File::from(OwnedFd::from(write)));
    let mut to = File::create(dir.join("floor"))?;
    let mut buffer = vec![0; 64 << 10];
    let start = Instant::now();
    let feeder = feed(write, mib, width);
    loop {
        match read.read(&mut buffer)? {
            0 => break,
            n => to.write_all(&buffer[..n])?,
        }
    }
    finish(feeder)?;
    let rate = mib as f64 / start.elapsed().as_secs_f64();
    fs::remove_file(dir.join("floor"))?;
    Ok(rate)
}

fn engine(dir: &Path, mib: usize, width: usize, settings: Settings) -> io::Result<f64> {
    let engine = Engine::start(dir.join("logs"), Spool::create()?, Box::new(|_, _, _| ()))?;
    let (read, write) = io::pipe()?;
    let pipes = [Some(std::sync::Arc::new(read.into())), None];
    let attachment =
        Attachment { service: "web".to_owned(), container: Container(1), settings, ring: None, pipes };
    let start = Instant::now();
    engine.attach(attachment).blocking_recv().map_err(io::Error::other)??;
    finish(feed(File::from(OwnedFd::from(write)), mib, width))?;
    engine.detach("web").blocking_recv().map_err(io::Error::other)?;
    let rate = mib as f64 / start.elapsed().as_secs_f64();
    drop(engine);
    fs::remove_dir_all(dir.join("logs"))?;
    Ok(rate)
}
