//! Health checks: HTTP and TCP from inside the container's network namespace without a process in the container, a Unix
//! socket through its root, or a command that the executor runs there. One task per checked service sleeps until the
//! next check; without checks there is no task and no wake-up. What a result means is counted by the pure
//! [`sampan_service::Tally`]; only a change of verdict goes to the machine.
//!
//! The container is not trusted: every check has a deadline, reads a bounded amount, follows no path out of the
//! container's root, and what it answered is cleaned before a terminal may see it.
//!
//! The socket of a TCP or HTTP check is born in the container's network namespace, made by a thread that enters it and ends: the
//! loop's own thread never changes namespace.

pub mod exec;
mod helper;
mod http;
mod schedule;
mod tcp;
mod unix;

pub use exec::{Exec, Ran};
pub use helper::{Helper, Turn};
pub use schedule::{Last, Probes, Report};

use sampan_config::{schema, units};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a check says, at most; the rest is cut.
pub const OUTPUT_BYTES_MAX: usize = 4096;

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Http {
        port: u16,
        path: String,
        status: (u16, u16),
        host: String,
    },
    Tcp {
        port: u16,
    },
    /// A path in the container.
    Unix {
        path: PathBuf,
    },
    Exec {
        argv: Vec<String>,
    },
}

impl Check {
    /// None: the service says itself how it is.
    pub fn of(probe: &schema::Probe) -> Option<Check> {
        Some(match probe {
            schema::Probe::Http(http) => Check::Http {
                port: http.port,
                path: http.path.clone(),
                status: http.status,
                host: http.host.clone(),
            },
            schema::Probe::Tcp(port) => Check::Tcp { port: *port },
            schema::Probe::Unix(path) => Check::Unix { path: path.clone() },
            schema::Probe::Test(test) => Check::Exec { argv: test.argv() },
            schema::Probe::Notify(_) => return None,
        })
    }
}

/// Where: one life of one service.
#[derive(Clone)]
pub struct Target {
    pub service: String,
    pub generation: u64,
    /// The main process; trusted only while `pidfd` lives.
    pub pid: i32,
    pub pidfd: Arc<OwnedFd>,
    /// The container's network namespace; none: it is ours.
    pub netns: Option<Arc<OwnedFd>>,
    pub exec: Arc<dyn Exec>,
}

/// One check, done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub ok: bool,
    /// What it said, or why it failed; printable, at most [`OUTPUT_BYTES_MAX`].
    pub output: String,
    pub took: Duration,
}

/// What a kind of check answers: whether it is well, and its output; or why there is no answer.
type Answer = Result<(bool, Vec<u8>), String>;

/// Checks once. It ends at `timeout` whatever the container does.
pub async fn check(check: &Check, target: &Target, helper: &Helper, timeout: Duration) -> Outcome {
    let begun = Instant::now();
    let answer = tokio::time::timeout(timeout, ask(check, target, helper)).await;
    let (ok, output) = match answer {
        Ok(Ok((ok, output))) => (ok, clean(&output)),
        Ok(Err(why)) => (false, clean(why.as_bytes())),
        Err(_) => (false, format!("no answer in {}", units::show_duration(timeout))),
    };
    Outcome { ok, output, took: begun.elapsed() }
}

async fn ask(check: &Check, target: &Target, helper: &Helper) -> Answer {
    match check {
        Check::Http { port, path, status, host } => {
            let mut stream = tcp::connect(target, helper, &addresses(host), *port).await?;
            http::get(&mut stream, host, *port, path, *status).await
        }
        Check::Tcp { port } => {
            tcp::connect(target, helper, &addresses("localhost"), *port).await?;
            Ok((true, format!("port {port} is open").into_bytes()))
        }
        Check::Unix { path } => unix::connect(target, helper, path).await,
        Check::Exec { argv } => exec::run(target, helper, argv).await,
    }
}

/// An address is connected to as it is. Any other name stands in the Host header alone: what is checked is this container,
/// and its resolver is not ours to ask. Some listen on ::1 only.
fn addresses(host: &str) -> Vec<IpAddr> {
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(address) => vec![address],
        Err(_) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    }
}

/// Turns a line around, or is not seen at all: a text could look like another.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text that can do no harm to a terminal, a journal or a table: characters that are not shown become `?`, but the newline.
pub fn clean(bytes: &[u8]) -> String {
    let bytes = bytes.get(..OUTPUT_BYTES_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let plain = |c: char| if (c.is_control() && c != '\n') || is_format(c) { '?' } else { c };
    let mut text: String = text.trim().replace("\r\n", "\n").chars().map(plain).collect();
    // Each wrong byte has become three.
    while text.len() > OUTPUT_BYTES_MAX {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_move_a_cursor_and_has_a_limit() {
        assert_eq!(clean(b"\x1b[2Jok\r\nline\x07 \n"), "?[2Jok\nline?");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200b}".as_bytes()), "a?b?c?");
        assert_eq!(clean(&[b'x'; 10_000]).len(), OUTPUT_BYTES_MAX);
        assert!(clean(&[0xff; 10_000]).len() <= OUTPUT_BYTES_MAX);
    }

    #[test]
    fn a_name_is_for_the_header_and_an_address_to_connect_to() {
        assert_eq!(addresses("10.1.2.3"), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses("[::1]"), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert_eq!(addresses("example.org").len(), 2);
    }
}
