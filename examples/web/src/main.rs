//! The program that config.toml runs: a web server in one static file, so that its rootfs needs nothing else.
//!
//! `web serve [ADDR:PORT]` answers every path and logs each request; `/health` says ok. `web get URL [SECONDS]` asks
//! again and again. `web crash SECONDS CODE` lives that long. `web hello` greets.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const USAGE: &str =
    "usage: web serve [ADDR:PORT] | get http://HOST:PORT/PATH [SECONDS] | crash SECONDS CODE | hello";
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: u64 = 16 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    // PID 1 of a container has no default for SIGTERM: without this, stopping it takes the whole grace period.
    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            println!("asked to stop, bye");
            std::process::exit(0);
        }
    });
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve"] => serve("0.0.0.0:80"),
        ["serve", address] => serve(address),
        ["get", url] => get(url, None),
        ["get", url, seconds] => get(url, Some(Duration::from_secs(seconds.parse()?))),
        ["crash", seconds, code] => crash(Duration::from_secs(seconds.parse()?), code.parse()?),
        ["hello"] => {
            println!("hello from {}, process {}", hostname(), std::process::id());
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).map_err(|e| format!("cannot listen on {address}: {e}"))?;
    println!("listening on {address} as {}", hostname());
    let served = std::sync::Arc::new(AtomicU64::new(0));
    for stream in listener.incoming() {
        let served = served.clone();
        // A slow client must not hold up the health check.
        std::thread::spawn(move || match stream.map_err(Into::into).and_then(|s| answer(s, &served)) {
            Ok(line) if line.contains("/health") => {}
            Ok(line) => println!("{line}"),
            Err(e) => eprintln!("request failed: {e}"),
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream, served: &AtomicU64) -> Result<String, Box<dyn Error>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(&stream).take(REQUEST_BYTES_MAX).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    for header in lines {
        if header?.is_empty() {
            break;
        }
    }
    let body = match request.split(' ').nth(1) {
        Some("/health") => "ok\n".to_string(),
        _ => {
            let n = served.fetch_add(1, Ordering::Relaxed) + 1;
            format!("hello from {}: request {n} of process {}\n", hostname(), std::process::id())
        }
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    Ok(request)
}

fn get(url: &str, every: Option<Duration>) -> Result<(), Box<dyn Error>> {
    let rest = url.strip_prefix("http://").ok_or(USAGE)?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    loop {
        match ask(address, path) {
            Ok(text) => println!("{}", text.trim_end()),
            Err(e) if every.is_none() => return Err(format!("{url}: {e}").into()),
            Err(e) => eprintln!("{url}: {e}"),
        }
        match every {
            Some(pause) => std::thread::sleep(pause),
            None => return Ok(()),
        }
    }
}

fn ask(address: &str, path: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(1 << 20).read_to_string(&mut reply)?;
    let (_, body) = reply.split_once("\r\n\r\n").ok_or("no answer of HTTP")?;
    Ok(body.to_string())
}

fn crash(after: Duration, code: i32) -> Result<(), Box<dyn Error>> {
    println!("alive, for {} s", after.as_secs());
    std::thread::sleep(after);
    eprintln!("crashing on purpose with {code}");
    std::process::exit(code);
}

fn hostname() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(name) => name.trim().to_string(),
        Err(_) => "somewhere".to_string(),
    }
}
