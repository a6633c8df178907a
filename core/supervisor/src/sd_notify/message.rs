//! What a message of sd_notify(3) says. Any bytes may come; nothing is asked of anybody here.
use crate::probe;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A longer message is none.
pub const BYTES_MAX: usize = 4096;
const FD_NAME_BYTES_MAX: usize = 255;
/// What is shown of a STATUS.
const STATUS_BYTES_MAX: usize = 200;

/// One assignment that means something to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// READY=1: also after a reload.
    Ready,
    /// RELOADING=1
    Reloading,
    /// STOPPING=1
    Stopping,
    /// STATUS=, as it can be shown.
    Status(String),
    /// MAINPID=, by the numbers of who says it.
    MainPid(u32),
    /// EXTEND_TIMEOUT_USEC=
    Extend(Duration),
    /// WATCHDOG=1
    Alive,
    /// WATCHDOG=trigger
    Trigger,
    /// WATCHDOG_USEC=
    Watchdog(Duration),
    /// BARRIER=1: it waits until the descriptor that came with it is closed.
    Barrier,
    /// FDSTORE=1: the descriptors that came with it are to be kept.
    Store,
    /// FDSTOREREMOVE=1
    Unstore,
    /// FDNAME=
    FdName(String),
    /// FDPOLL=0
    NoPoll,
}

impl Assignment {
    fn name(&self) -> &'static str {
        match self {
            Assignment::Ready => "READY",
            Assignment::Reloading => "RELOADING",
            Assignment::Stopping => "STOPPING",
            Assignment::Status(_) => "STATUS",
            Assignment::MainPid(_) => "MAINPID",
            Assignment::Extend(_) => "EXTEND_TIMEOUT_USEC",
            Assignment::Alive | Assignment::Trigger => "WATCHDOG",
            Assignment::Watchdog(_) => "WATCHDOG_USEC",
            Assignment::Barrier => "BARRIER",
            Assignment::Store => "FDSTORE",
            Assignment::Unstore => "FDSTOREREMOVE",
            Assignment::FdName(_) => "FDNAME",
            Assignment::NoPoll => "FDPOLL",
        }
    }
}

/// Why something is not done, and counted instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Dropped {
    /// Of a process that is none of the service's.
    Foreign,
    TooLong,
    /// No assignment that sd_notify(3) knows, or one with a value that it does not have.
    Unclear,
    /// Another main process than ours.
    MainPid,
    /// It may have none kept.
    NoStore,
    /// FDSTORE=1 without descriptors.
    NoFds,
    /// What cannot be kept for anybody.
    FdKind,
    StoreIsFull,
    /// Some of its descriptors could not be received.
    FdsAreCut,
    /// Looking at them, or closing one, lasted for too long.
    FdsAreLate,
    /// sampand could not keep them.
    Unkept,
}

impl Dropped {
    pub const COUNT: usize = 11;

    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dropped::Foreign => {
                f.write_str("it comes from a process that is not in the service's control group")
            }
            Dropped::TooLong => write!(f, "it is longer than {BYTES_MAX} bytes"),
            Dropped::Unclear => f.write_str("it has no assignment, or no value, that sd_notify(3) knows"),
            Dropped::MainPid => {
                f.write_str(
                    "MAINPID: another process is not followed, since a container ends with its first process: run the program in the foreground",
                )
            }
            Dropped::NoStore => f.write_str("FDSTORE: it has no fd_store_max: its descriptors are closed"),
            Dropped::NoFds => f.write_str("FDSTORE: no descriptor came with it"),
            Dropped::FdKind => f.write_str(
                "FDSTORE: only pipes, sockets, memfds, eventfds and timerfds are kept: another one is closed",
            ),
            Dropped::StoreIsFull => {
                f.write_str("FDSTORE: it has as many descriptors kept as fd_store_max: another one is closed")
            }
            Dropped::FdsAreCut => {
                f.write_str("FDSTORE: not all of its descriptors could be received, so none of them is kept")
            }
            Dropped::FdsAreLate => {
                f.write_str("FDSTORE: closing what came with it hangs (a dead mount?): nothing is kept")
            }
            Dropped::Unkept => {
                f.write_str("FDSTORE: sampand could not keep its descriptors (too many open files?)")
            }
        }
    }
}

/// What a message says, in its order. Of a name that stands more than once the last value holds: however long a message is, there
/// is one thing to do for each name at most.
pub fn parse(message: &[u8]) -> (Vec<Assignment>, Option<Dropped>) {
    let (mut said, mut dropped, mut known) = (Vec::new(), None, false);
    for line in message.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match assignment(line) {
            Ok(Some(one)) => {
                known = true;
                said.retain(|earlier: &Assignment| earlier.name() != one.name());
                said.push(one);
            }
            Ok(None) => known = true,
            Err(Unknown) => dropped = Some(Dropped::Unclear),
        }
    }
    // Whoever knows more than we do says that beside what we know.
    let only_unknown = !known && dropped.is_none();
    (said, dropped.or(only_unknown.then_some(Dropped::Unclear)))
}

struct Unknown;

/// None: it is of sd_notify(3), or somebody's own (`X_`), and there is nothing to do about it.
fn assignment(line: &[u8]) -> Result<Option<Assignment>, Unknown> {
    let at = line.iter().position(|byte| *byte == b'=').ok_or(Unknown)?;
    let (name, value) = (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default());
    let one = |said: Assignment| if value == b"1" { Ok(Some(said)) } else { Err(Unknown) };
    match name {
        b"READY" => one(Assignment::Ready),
        b"RELOADING" => one(Assignment::Reloading),
        b"STOPPING" => one(Assignment::Stopping),
        b"BARRIER" => one(Assignment::Barrier),
        b"FDSTORE" => one(Assignment::Store),
        b"FDSTOREREMOVE" => one(Assignment::Unstore),
        b"FDNAME" => Ok(fd_name(value).map(Assignment::FdName)),
        b"FDPOLL" => Ok((value == b"0").then_some(Assignment::NoPoll)),
        b"STATUS" => Ok(Some(Assignment::Status(shown(value)))),
        b"MAINPID" => Ok(Some(Assignment::MainPid(number(value)?.try_into().map_err(|_| Unknown)?))),
        b"EXTEND_TIMEOUT_USEC" => Ok(Some(Assignment::Extend(Duration::from_micros(number(value)?)))),
        b"WATCHDOG_USEC" => match number(value)? {
            0 => Err(Unknown),
            micros => Ok(Some(Assignment::Watchdog(Duration::from_micros(micros)))),
        },
        b"WATCHDOG" if value == b"trigger" => Ok(Some(Assignment::Trigger)),
        b"WATCHDOG" => one(Assignment::Alive),
        b"MONOTONIC_USEC" | b"ERRNO" | b"BUSERROR" | b"VARLINKERROR" | b"EXIT_STATUS" | b"NOTIFYACCESS"
        | b"MAINPIDFDID" | b"MAINPIDFD" => Ok(None),
        _ if name.starts_with(b"X_") => Ok(None),
        _ => Err(Unknown),
    }
}

/// As systemd has it (fdname_is_valid): 1 to 255 printable characters of ASCII, none of them a colon.
fn fd_name(value: &[u8]) -> Option<String> {
    let is_one = (1..=FD_NAME_BYTES_MAX).contains(&value.len())
        && value.iter().all(|byte| (byte.is_ascii_graphic() || *byte == b' ') && *byte != b':');
    String::from_utf8(value.to_vec()).ok().filter(|_| is_one)
}

/// What a message wants of the descriptors that are kept for its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AboutFds {
    /// None: no name that can be one.
    pub name: Option<String>,
    /// First of all, those of that name go.
    pub removes: bool,
    pub stores: bool,
    /// One whose other end is gone is not kept.
    pub polls: bool,
}

impl AboutFds {
    pub fn of(said: &[Assignment]) -> Option<AboutFds> {
        let has = |one: &Assignment| said.contains(one);
        let (stores, removes) = (has(&Assignment::Store), has(&Assignment::Unstore));
        let name = said.iter().find_map(|one| match one {
            Assignment::FdName(name) => Some(name.clone()),
            _ => None,
        });
        let polls = !has(&Assignment::NoPoll);
        (stores || removes).then_some(AboutFds { name, removes, stores, polls })
    }
}

fn number(value: &[u8]) -> Result<u64, Unknown> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok()).ok_or(Unknown)
}

/// One line that can do no harm to a terminal.
fn shown(value: &[u8]) -> String {
    let mut text = probe::clean(value.get(..STATUS_BYTES_MAX).unwrap_or(value));
    while text.len() > STATUS_BYTES_MAX {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sd_notify_knows_is_understood() {
        let message =
            b"READY=1\nSTATUS=\x1b[31mgoes on\nMAINPID=12\nEXTEND_TIMEOUT_USEC=1500000\nX_MINE=5\nERRNO=2";
        assert_eq!(
            parse(message),
            (
                vec![
                    Assignment::Ready,
                    Assignment::Status("?[31mgoes on".into()),
                    Assignment::MainPid(12),
                    Assignment::Extend(Duration::from_millis(1500))
                ],
                None
            )
        );
        assert_eq!(parse(b"RELOADING=1\nMONOTONIC_USEC=17\n"), (vec![Assignment::Reloading], None));
        let watchdog = vec![Assignment::Trigger, Assignment::Watchdog(Duration::from_secs(2))];
        assert_eq!(parse(b"WATCHDOG=1\nWATCHDOG=trigger\nWATCHDOG_USEC=2000000"), (watchdog, None));
    }

    #[test]
    fn what_nobody_understands_is_counted_and_the_rest_holds() {
        let unclear = Some(Dropped::Unclear);
        for message in [
            &b""[..],
            b"\n\n",
            b"READY",
            b"READY=0",
            b"READY=1 ",
            b" READY=1",
            b"=",
            b"\xff\xfe\0",
            b"WATCHDOG_USEC=0",
            b"WATCHDOG=yes",
            b"MAINPID=-1",
            b"MAINPID=99999999999999999999",
            b"EXTEND_TIMEOUT_USEC=+5",
        ] {
            assert_eq!(parse(message), (vec![], unclear), "{message:?}");
        }
        assert_eq!(parse(b"READY=1\nNONSENSE"), (vec![Assignment::Ready], unclear));
    }

    #[test]
    fn of_a_name_the_last_value_holds() {
        for name in ["MAINPID", "EXTEND_TIMEOUT_USEC", "WATCHDOG_USEC", "STATUS"] {
            let text: String = (1..=200).map(|number| format!("{name}={number}\n")).collect();
            let last = parse(format!("{name}=200").as_bytes());
            assert_eq!(parse(text.as_bytes()), last, "{name}");
        }
        let flags = ["READY", "RELOADING", "STOPPING", "BARRIER", "FDSTORE", "WATCHDOG"];
        let text: String = flags.iter().map(|name| format!("{name}=1\n")).collect();
        let turns = "WATCHDOG=trigger\nWATCHDOG=1\n".repeat(50);
        assert_eq!(parse((text.repeat(20) + &turns).as_bytes()).0.len(), flags.len());
    }

    #[test]
    fn what_is_to_be_kept_has_a_name_that_a_list_can_have() {
        let long = "x".repeat(255);
        for (name, kept) in
            [("a b", true), ("", false), ("a:b", false), ("a\tb", false), ("é", false), (&long, true)]
        {
            let (said, dropped) = parse(format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0").as_bytes());
            let name = kept.then(|| name.to_owned());
            let about = AboutFds { name, removes: false, stores: true, polls: false };
            assert_eq!((AboutFds::of(&said), dropped), (Some(about), None));
        }
        let (said, _) = parse(format!("FDSTOREREMOVE=1\nFDNAME={long}x").as_bytes());
        let about = AboutFds { name: None, removes: true, stores: false, polls: true };
        assert_eq!(AboutFds::of(&said), Some(about));
        assert_eq!(AboutFds::of(&parse(b"FDNAME=x\nREADY=1").0), None);
    }

    #[test]
    fn a_status_is_short_and_plain() {
        let (said, _) = parse(&[b"STATUS=".as_slice(), &[0xff; 4000]].concat());
        let Some(Assignment::Status(text)) = said.into_iter().next() else { panic!("nothing is said") };
        let (said, _) = parse("STATUS=a\u{202e}b\u{2066}c\u{200b}".as_bytes());
        assert_eq!(said, [Assignment::Status("a?b?c?".into())]);
        assert!(text.len() <= STATUS_BYTES_MAX && !text.chars().any(char::is_control));
    }
}
