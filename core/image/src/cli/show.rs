//! How far the work is, on a terminal, in a log, or for a program.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sampan_image::Digest;
use sampan_image::progress::{Line, Progress, Stage};
use sampan_runtime::error::printable;

use super::args::Show;

/// A terminal shows no more, and a program that reads needs no more.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Shown {
    how: How,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Bar,
    Plain,
    Json,
    Nothing,
}

#[derive(Default)]
struct State {
    total: u64,
    blobs: BTreeMap<Digest, u64>,
    shown: Option<Instant>,
    is_bar: bool,
}

impl Shown {
    pub fn new(show: Show) -> Shown {
        let how = match show {
            Show::Auto if std::io::stderr().is_terminal() => How::Bar,
            Show::Auto | Show::Plain => How::Plain,
            Show::Json => How::Json,
            Show::None => How::Nothing,
        };
        Shown { how, state: Mutex::default() }
    }

    pub fn is_json(&self) -> bool {
        self.how == How::Json
    }

    /// A result or an error: the last lines.
    pub fn end(&self, line: &Line) {
        self.state().clear();
        if self.how == How::Json {
            print(line);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, state: &mut State, at_once: bool) {
        if !at_once && state.shown.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        state.shown = Some(Instant::now());
        let done = state.blobs.values().sum::<u64>().min(state.total);
        match self.how {
            How::Bar => state.bar(done),
            How::Json => print(&Line::Progress { done, total: state.total }),
            How::Plain | How::Nothing => {}
        }
    }
}

impl State {
    fn bar(&mut self, done: u64) {
        let total = self.total.max(1);
        let width = usize::try_from(done.saturating_mul(30) / total).unwrap_or(0).min(30);
        let percent = done.saturating_mul(100) / total;
        let bar = format!("{}{}", "#".repeat(width), ".".repeat(30 - width));
        eprint!("\r\x1b[K[{bar}] {percent:3} %  {} of {}", size(done), size(self.total));
        self.is_bar = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_bar) {
            eprint!("\r\x1b[K");
        }
    }
}

impl Progress for Shown {
    fn total(&self, _blobs: usize, bytes: u64) {
        let mut state = self.state();
        state.total = bytes;
        self.advance(&mut state, true);
    }

    fn stage(&self, what: &Digest, bytes: u64, stage: Stage) {
        let mut state = self.state();
        if matches!(stage, Stage::Present | Stage::Done) {
            state.blobs.insert(what.clone(), bytes);
            self.advance(&mut state, true);
        }
        let words = match stage {
            Stage::Present => "is here already",
            Stage::Waiting => "is being fetched by another process; waiting",
            Stage::Fetching => "is fetched",
            Stage::Retrying => return,
            Stage::Unpacking => "is unpacked",
            Stage::Done => "done",
        };
        if self.how == How::Plain {
            eprintln!("{} ({}) {words}", what.short(), size(bytes));
        }
    }

    fn bytes(&self, what: &Digest, done: u64) {
        let mut state = self.state();
        state.blobs.insert(what.clone(), done);
        self.advance(&mut state, false);
    }

    fn note(&self, text: &str) {
        let mut state = self.state();
        match self.how {
            How::Json => print(&Line::Note { text: text.to_owned() }),
            How::Nothing => {}
            How::Bar | How::Plain => {
                state.clear();
                eprintln!("{}", printable(text));
            }
        }
    }
}

/// A reader that has gone is no reason to stop.
fn print(line: &Line) {
    let text = serde_json::to_string(line).unwrap_or_default();
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}
