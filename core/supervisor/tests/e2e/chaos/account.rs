//! What the services say of themselves (talker.c), beside what sampand says of them: its transitions and their logs.
use sampan_api::Transition;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const WORD: usize = 8;
const LIFE_BYTES: usize = 64;
const HEAD_BYTES: usize = 64;
/// As talker.c has it.
pub const ACCOUNT_BYTES: u64 = (HEAD_BYTES + 8192 * LIFE_BYTES) as u64;
const BY_ITSELF: u64 = 1000;
const BY_TERM: u64 = 2000;

/// How a life ended by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    ByItself(u64),
    ByTerm,
    /// It was killed, or it lives.
    Unsaid,
}

#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Lines, of each stream.
    pub written: [u64; 2],
    pub end: End,
}

pub struct Account {
    pub lives: Vec<Life>,
    /// So often was there another one alive when one began.
    pub doubles: u64,
}

pub fn read(path: &Path) -> Account {
    let bytes = fs::read(path).unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + WORD].try_into().unwrap());
    let life = |n: usize| {
        let at = HEAD_BYTES + n * LIFE_BYTES;
        let end = match word(at + 3 * WORD) {
            code @ BY_ITSELF..BY_TERM => End::ByItself(code - BY_ITSELF),
            BY_TERM => End::ByTerm,
            _ => End::Unsaid,
        };
        Life { written: [word(at + WORD), word(at + 2 * WORD)], end }
    };
    let lives = (0..usize::try_from(word(0)).unwrap()).map(life).collect();
    Account { lives, doubles: word(WORD) }
}

/// What was done to a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub killed: u64,
    /// It was to stop, or to live anew: by hand or by another config.
    pub ordered: u64,
}

/// Everything that is known of one service.
pub struct Service<'a> {
    pub name: &'a str,
    pub account: Account,
    pub done: Done,
    /// The exits in its transitions, one for each life, in order.
    pub exits: Vec<&'a str>,
    pub log: Log,
    /// Whether all of sampand was ever dead at once.
    pub unheld: bool,
}

/// The exits of each service, one for each life: a second one that differs is a fault. What was cloned and has not executed its
/// program has no exit of the service's.
pub fn exits<'a>(events: &'a [Transition], faults: &mut Vec<String>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // The present life has had its exit.
    let mut ended: BTreeMap<&str, bool> = BTreeMap::new();
    for event in events {
        let service = event.service.as_str();
        if event.to == "creating" {
            ended.insert(service, false);
        }
        let cause = event.cause.strip_prefix("sampand came back: ").unwrap_or(&event.cause);
        let Some(exit) = cause.strip_prefix("exit ") else { continue };
        if event.data.get("end").is_some_and(|end| end == "interrupted launch") {
            continue;
        }
        let exits = found.entry(service).or_default();
        let again = ended.insert(service, true) == Some(true);
        match exits.last() {
            Some(before) if again && *before == exit => {}
            Some(before) if again => {
                faults.push(format!("{service} generation {}: {before}, then {exit}", event.generation));
            }
            _ => exits.push(exit),
        }
    }
    found
}

impl Service<'_> {
    /// After sampand's end, when nothing lives any more.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.account.doubles > 0 {
            faults.push(format!("{} times a second copy of it", self.account.doubles));
        }
        self.why_each_life_ended(&mut faults);
        if !self.exits_are_known() {
            let ends: Vec<End> = self.account.lives.iter().map(|life| life.end).collect();
            faults.push(format!("by its account it ended {ends:?}, by sampand's {:?}", self.exits));
        }
        self.log.compare(&self.account, self.unheld, &mut faults);
        faults.iter().map(|fault| format!("{}: {fault}", self.name)).collect()
    }

    /// Nobody but us has ended it.
    fn why_each_life_ended(&self, faults: &mut Vec<String>) {
        let Done { killed, ordered } = self.done;
        let count =
            |is: fn(End) -> bool| self.account.lives.iter().filter(|life| is(life.end)).count() as u64;
        let (unsaid, asked) = (count(|end| end == End::Unsaid), count(|end| end == End::ByTerm));
        // At the end sampand stops each.
        let ordered = ordered + 1;
        if unsaid + asked > killed + ordered || asked > ordered {
            faults.push(format!(
                "{unsaid} lives were killed and {asked} stopped; we have killed {killed} and stopped {ordered}"
            ));
        }
    }

    /// Are its exits those of its lives, in order? A life that was killed before its first line is in no account.
    fn exits_are_known(&self) -> bool {
        let (lives, exits) = (&self.account.lives, &self.exits);
        let unknown = |exit: &str| self.unheld && exit == "unknown";
        let is = |life: &Life, exit: &str| {
            unknown(exit)
                || match life.end {
                    End::ByItself(code) => exit == code.to_string(),
                    End::ByTerm => exit == "0",
                    End::Unsaid => exit == "137 SIGKILL",
                }
        };
        // possible[l]: the exits so far can be those of the first l lives.
        let mut possible = vec![false; lives.len() + 1];
        possible[0] = true;
        for exit in exits {
            let mut next = vec![false; lives.len() + 1];
            for (l, _) in possible.iter().enumerate().filter(|(_, is)| **is) {
                next[l] |= unknown(exit) || *exit == "137 SIGKILL";
                if lives.get(l).is_some_and(|life| is(life, exit)) {
                    next[l + 1] = true;
                }
            }
            possible = next;
        }
        possible[lives.len()]
    }
}

/// A service's log, as far as it is there.
#[derive(Default)]
pub struct Log {
    /// (life, stream) -> the numbers in their order.
    lines: BTreeMap<(usize, usize), Vec<u64>>,
    /// Lines that are said to have been dropped.
    dropped: u64,
    /// Says that lines may be missing.
    marks: u64,
    /// Its first segments were rotated away.
    beheaded: bool,
    strange: Vec<String>,
}

impl Log {
    pub fn read(folder: &Path) -> Log {
        let mut log = Log::default();
        let mut names: Vec<_> =
            fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        // Not one that is being compressed yet.
        names.retain(|path| path.extension().is_some_and(|ending| ending == "log" || ending == "zst"));
        names.sort();
        // A plain one that is about to be replaced comes before the compressed one of its number.
        names.dedup_by_key(|path| path.file_stem().unwrap().to_string_lossy().replace(".log", ""));
        let is_first = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("0000000001.");
        log.beheaded = names.first().is_some_and(|first| !is_first(first));
        let content = |path: &PathBuf| match path.extension().is_some_and(|ending| ending == "zst") {
            true => zstd::decode_all(fs::File::open(path).unwrap()).unwrap(),
            false => fs::read(path).unwrap(),
        };
        let text: Vec<u8> = names.iter().flat_map(content).collect();
        let mut unfinished = [String::new(), String::new()];
        for record in String::from_utf8_lossy(&text).lines() {
            let fields: Vec<&str> = record.splitn(4, ' ').collect();
            let &[_, stream, tag, text] = &fields[..] else {
                log.strange.push(record.to_owned());
                continue;
            };
            let stream = usize::from(stream == "stderr");
            match tag {
                "F:d" => log.remark(text),
                "P" => unfinished[stream] += text,
                _ => log.line(stream, &(std::mem::take(&mut unfinished[stream]) + text)),
            }
        }
        log
    }

    fn remark(&mut self, text: &str) {
        let lines: Option<u64> =
            text.strip_prefix("dropped lines=").and_then(|rest| rest.split(' ').next()?.parse().ok());
        match lines {
            Some(lines) => self.dropped += lines,
            None if text.starts_with("lines may be missing before this") => self.marks += 1,
            None => self.strange.push(text.to_owned()),
        }
    }

    fn line(&mut self, stream: usize, line: &str) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let (Some(Ok(life)), Some(Ok(number))) =
            (words.first().map(|w| w.parse()), words.get(1).map(|w| w.parse()))
        else {
            self.strange.push(line.to_owned());
            return;
        };
        self.lines.entry((life, stream)).or_default().push(number);
    }

    fn compare(&self, account: &Account, unheld: bool, faults: &mut Vec<String>) {
        let (mut missing, mut uncertain) = (0, 0);
        for (life, said) in account.lives.iter().enumerate() {
            for stream in 0..2 {
                let seen = self.lines.get(&(life, stream)).map_or(&[][..], Vec::as_slice);
                let at = format!("life {life} stream {stream}");
                if let Some(pair) = seen.windows(2).find(|pair| pair[1] <= pair[0]) {
                    faults.push(format!("{at}: line {} after line {}", pair[1], pair[0]));
                }
                let (written, count) = (said.written[stream], seen.len() as u64);
                // The account of a life that was killed may be one line behind.
                let last = seen.last().copied().unwrap_or(0);
                let slack = u64::from(said.end == End::Unsaid);
                if last > written + slack {
                    faults.push(format!("{at}: line {last}, and it has written {written}"));
                }
                uncertain += slack;
                let gaps = written.saturating_sub(count);
                if gaps > 0 && std::env::var_os("SAMPAN_CHAOS_GAPS").is_some() {
                    eprintln!("{at}: {gaps} of {written} are not in the log; its last is {last}");
                }
                missing += gaps;
            }
        }
        for line in self.strange.iter().take(3) {
            faults.push(format!("its log has {line:?}"));
        }
        let explained = (missing..=missing + uncertain).contains(&self.dropped);
        // What was read and not yet written goes with the last of sampand's processes, and so does the count of what was dropped.
        let marked = unheld && self.marks > 0;
        if !explained && !marked && !self.beheaded {
            faults.push(format!("{missing} lines are missing, and {} are said to be dropped", self.dropped));
        }
        if self.marks > 0 && !unheld {
            faults
                .push("lines may be missing, it is said, and somebody has always held its output".to_owned());
        }
    }
}
