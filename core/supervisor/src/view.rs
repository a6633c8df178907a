//! What sampand shows in the foreground: its own lines and the services' output, each behind the service's name.
//!
//! One thread owns standard output. Everybody else hands it finished lines through a bounded queue and never waits:
//! a terminal stopped with Ctrl-S must not stop the loop. What does not fit is counted and the count is shown.
//! Absent on purpose: any state of services; a line is formatted where its facts are.
use crate::own_log::keep_stdout_short;
use sampan_plugin_host::queue::{Receiver, Sender, bounded};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// Lines that may wait for the terminal; beyond that they are dropped and counted.
const LINES_MAX: usize = 8192;
/// A name longer than this does not push the column of all others to the right.
const NAME_WIDTH_MAX: usize = 24;

/// A line on its way to standard output.
#[derive(Debug)]
enum Line {
    /// Written by a service.
    Output { service: Arc<str>, stderr: bool, text: String },
    /// Written by sampand, complete with its line end.
    Own(String),
    /// Answer when everything before has been written.
    Flush(SyncSender<()>),
}

/// Where standard output leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Somebody looks: a terminal, the journal, whoever started sampand.
    Foreground,
    /// A file of sampand's own lines, each with its time; the services' output is in their logs.
    File,
}

/// A handle on the output thread. Clones share the queue.
#[derive(Debug, Clone)]
pub struct View {
    lines: Sender<Line>,
    dropped: Arc<AtomicU64>,
    width: Arc<AtomicUsize>,
    colour: bool,
    output: Output,
}

impl View {
    /// Starts the output thread. Colour is for terminals alone, and not where `NO_COLOR` is set (no-color.org).
    pub fn start(output: Output) -> std::io::Result<View> {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (lines, queue) = bounded(LINES_MAX);
        let view = View {
            lines,
            dropped: Arc::new(AtomicU64::new(0)),
            width: Arc::new(AtomicUsize::new(0)),
            colour,
            output,
        };
        let (dropped, width) = (view.dropped.clone(), view.width.clone());
        std::thread::Builder::new()
            .name("view".into())
            .stack_size(128 * 1024)
            .spawn(move || write_lines(&queue, &dropped, &width, colour, output))?;
        Ok(view)
    }

    /// Whether lines may carry colour.
    pub fn colour(&self) -> bool {
        self.colour
    }

    pub fn leads_to(&self) -> Output {
        self.output
    }

    /// Makes room for these names in the first column.
    pub fn names<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let widest = names.map(str::len).max().unwrap_or(0).min(NAME_WIDTH_MAX);
        self.width.store(widest, Ordering::Relaxed);
    }

    /// A line of a service's output, without its line end.
    pub fn output(&self, service: Arc<str>, stderr: bool, text: String) {
        self.send(Line::Output { service, stderr, text });
    }

    /// A line of sampand's own.
    pub fn own(&self, line: String) {
        self.send(Line::Own(line));
    }

    /// Waits until all that was handed over is written, `limit` at most.
    pub fn flush(&self, limit: std::time::Duration) {
        let (done, wait) = sync_channel(1);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(limit);
        }
    }

    fn send(&self, line: Line) {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines(
    queue: &Receiver<Line>,
    dropped: &AtomicU64,
    width: &AtomicUsize,
    colour: bool,
    output: Output,
) {
    let mut text = String::new();
    while let Some(first) = queue.recv() {
        let mut waiting = Vec::new();
        for line in std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv()).take(512)) {
            match line {
                Line::Output { service, stderr, text: line } => {
                    push_output(&mut text, &service, stderr, &line, width.load(Ordering::Relaxed), colour);
                }
                Line::Own(line) => text.push_str(&line),
                Line::Flush(done) => waiting.push(done),
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            text.push_str(&format!(
                "({lost} lines not shown: the terminal is too slow; `sampanctl logs` has them)\n"
            ));
        }
        // A closed terminal ends the view, not the supervisor.
        if std::io::stdout().lock().write_all(text.as_bytes()).is_err() {
            return;
        }
        text.clear();
        if output == Output::File
            && let Some(lost) = keep_stdout_short()
        {
            tracing::warn!("{lost}");
        }
        for done in waiting {
            let _ = done.try_send(());
        }
    }
}

/// Appends `web  | text`, with control characters other than tab and colour codes made harmless on a terminal.
fn push_output(out: &mut String, service: &str, stderr: bool, line: &str, width: usize, colour: bool) {
    let bar = if stderr { '!' } else { '|' };
    if colour {
        out.push_str(&format!("\x1b[{}m{service:width$} {bar}\x1b[0m ", colour_of(service)));
    } else {
        out.push_str(&format!("{service:width$} {bar} "));
    }
    // As a terminal ends its lines.
    let mut rest = line.strip_suffix('\r').unwrap_or(line);
    let mut is_coloured = false;
    while let Some(c) = rest.chars().next() {
        let length = Some(colour_code(rest)).filter(|length| colour && *length > 0);
        let (shown, after) = rest.split_at(length.unwrap_or(c.len_utf8()));
        match c {
            _ if length.is_some() => out.push_str(shown),
            c if c.is_control() && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
        is_coloured |= length.is_some();
        rest = after;
    }
    if is_coloured {
        out.push_str("\x1b[0m");
    }
    out.push('\n');
}

/// The length of a colour code that `text` begins with (ECMA-48, SGR); 0: of any other it does not. Others move the cursor, change
/// the title, or have the terminal answer as if somebody had typed.
fn colour_code(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else { return 0 };
    let length = parameters.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
    let is_one = parameters.as_bytes().get(length) == Some(&b'm');
    if is_one { length + 3 } else { 0 }
}

/// The same name has the same colour in every run: FNV-1a over the name, folded onto eight readable colours. Red and
/// yellow are those of errors and warnings.
pub fn colour_of(name: &str) -> u8 {
    const COLOURS: [u8; 8] = [36, 32, 35, 34, 96, 92, 95, 94];
    let hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    COLOURS.get((hash % COLOURS.len() as u64) as usize).copied().unwrap_or(36)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(service: &str, stderr: bool, line: &str, colour: bool) -> String {
        let mut out = String::new();
        push_output(&mut out, service, stderr, line, 5, colour);
        out
    }

    #[test]
    fn a_line_stands_behind_its_service() {
        assert_eq!(shown("web", false, "hello", false), "web   | hello\n");
        assert_eq!(shown("web", true, "oops", false), "web   ! oops\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(shown("web", false, "a\x07\x1b[2Jb\tc", false), "web   | a\u{fffd}\u{fffd}[2Jb\tc\n");
    }

    #[test]
    fn of_escape_sequences_colour_alone_reaches_a_terminal() {
        for (line, is) in [
            ("\x1b[6n\x1b]0;mine\x07\x1b[2J", "\u{fffd}[6n\u{fffd}]0;mine\u{fffd}\u{fffd}[2J"),
            ("\x1b[31mred\x1b[H", "\x1b[31mred\u{fffd}[H\x1b[0m"),
            ("\x1b[1;38:5:9mé\x1b", "\x1b[1;38:5:9mé\u{fffd}\x1b[0m"),
            ("\x1b[31", "\u{fffd}[31"),
            ("$ ls\r", "$ ls"),
            ("a\rb\r\r", "a\u{fffd}b\u{fffd}"),
        ] {
            let line = shown("web", false, line, true);
            assert!(line.ends_with(&format!("\x1b[0m {is}\n")), "{line:?}");
        }
    }

    #[test]
    fn colour_is_closed_where_the_service_opened_it() {
        assert!(shown("web", false, "\x1b[31mred", true).ends_with("red\x1b[0m\n"));
    }
}
