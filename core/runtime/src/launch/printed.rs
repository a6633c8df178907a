//! What hooks print: cut into lines for a log, its end kept for the error of a hook that fails.
//!
//! ```text
//!   stdout and stderr -> one pipe -> Lines -> "createRuntime hook /path: text\n", one write each -> log
//!                                 \> tail  -> Error
//! ```
//! A hook may print without end, and a log may be a pipe that nobody reads just now: what is kept is bounded, what is logged
//! is bounded, the log is never waited for, and what did not get there is counted in a last line.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use crate::error::{Errno, Error, Result};
use crate::launch::pipe::pipe;

/// How much of a hook's output an error carries.
pub const TAIL_BYTES_MAX: usize = 4096;
/// A longer line goes on in the next one. With what stands before it still one atomic write into a pipe (PIPE_BUF).
pub const LINE_BYTES_MAX: usize = 2048;
/// Of one hook in the log. Less than a pipe holds, because the log of a service is not read before its container is attached.
pub const LOG_BYTES_MAX: usize = 48 * 1024;
/// One read; and so many of them at the most when a hook has ended, because a daemon that it left may print for ever.
const READ_BYTES: usize = 16 * 1024;
const LAST_READS_MAX: usize = 64;

/// Cuts bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// `line` gets each line that is complete or as long as a line may be, without its end.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (whole, rest) = bytes.split_at(end);
            self.add(whole, &mut line);
            line(self.begun.strip_suffix(b"\r").unwrap_or(&self.begun));
            self.begun.clear();
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.add(bytes, &mut line);
    }

    /// No more comes: what stands there without an end is a line too.
    pub fn end(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            line(&self.begun);
            self.begun.clear();
        }
    }

    fn add(&mut self, mut bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.begun.len() + bytes.len() > LINE_BYTES_MAX {
            let (now, later) = bytes.split_at(LINE_BYTES_MAX - self.begun.len());
            self.begun.extend_from_slice(now);
            line(&self.begun);
            self.begun.clear();
            bytes = later;
        }
        self.begun.extend_from_slice(bytes);
    }
}

/// The output of one hook.
#[derive(Debug)]
pub struct Printed {
    lines: Lines,
    out: Out,
    tail: Vec<u8>,
}

/// Its way into the log.
#[derive(Debug)]
struct Out {
    prefix: String,
    logged: usize,
    lost: usize,
}

impl Printed {
    pub fn new(kind: &str, path: &str) -> Printed {
        // A path as long as a path may be leaves no room for the line.
        let path = match path.len() > 512 {
            true => path.rsplit('/').next().unwrap_or_default(),
            false => path,
        };
        let out = Out { prefix: format!("{kind} hook {path}: "), logged: 0, lost: 0 };
        Printed { lines: Lines::default(), out, tail: Vec::new() }
    }

    pub fn take(&mut self, bytes: &[u8], log: Option<BorrowedFd<'_>>) {
        self.tail.extend_from_slice(bytes);
        let over = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..over);
        if let Some(log) = log {
            self.lines.push(bytes, |line| self.out.line(line, log));
        }
    }

    /// Completes the last line, and says what is missing.
    pub fn end(&mut self, log: Option<BorrowedFd<'_>>) {
        let Some(log) = log else { return };
        self.lines.end(|line| self.out.line(line, log));
        if self.out.lost > 0 {
            let text = format!("({} bytes more, not logged)", self.out.lost);
            self.out.write(text.as_bytes(), log);
            self.out.lost = 0;
        }
    }

    /// The end of it as one line of text: what is not UTF-8 is replaced.
    pub fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" | ")
    }

    /// Takes what is there. False: there will be no more.
    fn read(&mut self, pipe: BorrowedFd<'_>, log: Option<BorrowedFd<'_>>) -> bool {
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.take(buffer.get(..n).unwrap_or_default(), log);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// The hook has ended: takes what it left in the pipe.
    pub fn finish(&mut self, pipe: BorrowedFd<'_>, log: Option<BorrowedFd<'_>>) {
        for _ in 0..LAST_READS_MAX {
            if !is_readable(pipe) || !self.read(pipe, log) {
                break;
            }
        }
        self.end(log);
    }
}

impl Out {
    fn line(&mut self, line: &[u8], log: BorrowedFd<'_>) {
        // Once something is lost so is the rest: no line stands beside one that it did not follow.
        if self.lost > 0 || self.logged + line.len() > LOG_BYTES_MAX || !self.write(line, log) {
            self.lost += line.len() + 1;
        }
    }

    fn write(&mut self, line: &[u8], log: BorrowedFd<'_>) -> bool {
        let whole = [self.prefix.as_bytes(), line, b"\n"].concat();
        self.logged += whole.len();
        rustix::io::retry_on_intr(|| rustix::io::write(log, &whole)) == Ok(whole.len())
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&now)) == Ok(1)
}

/// A hook's output on its way through a pipe.
#[derive(Debug)]
pub struct Pipe {
    read: Option<OwnedFd>,
    pub printed: Printed,
}

impl Pipe {
    /// With the end that the hook writes to.
    pub fn new(kind: &str, path: &str) -> Result<(Pipe, OwnedFd)> {
        let (read, write) = pipe()?;
        rustix::io::ioctl_fionbio(&read, true)
            .map_err(|e| Error::new("cannot set up a pipe").call("ioctl", e))?;
        Ok((Pipe { read: Some(read), printed: Printed::new(kind, path) }, write))
    }

    /// One that was made by somebody else: not blocking, and read up to here.
    pub fn found(read: Option<OwnedFd>, kind: &str, path: &str) -> Pipe {
        Pipe { read, printed: Printed::new(kind, path) }
    }

    /// For poll; None once nobody can write to it any more.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.read.as_ref().map(AsFd::as_fd)
    }

    /// One read, so that output without end hides nothing else.
    pub fn turn(&mut self, log: Option<BorrowedFd<'_>>) {
        if let Some(read) = &self.read
            && !self.printed.read(read.as_fd(), log)
        {
            self.read = None;
        }
    }

    /// The hook has ended.
    pub fn finish(&mut self, log: Option<BorrowedFd<'_>>) {
        match self.read.take() {
            Some(read) => self.printed.finish(read.as_fd(), log),
            None => self.printed.end(log),
        }
    }
}

/// The pipes of the hooks that run inside the container, each with its field of config.json.
#[derive(Debug, Default)]
pub struct HookOutputs {
    hooks: Vec<(String, Pipe)>,
}

impl HookOutputs {
    /// One more; returns the hook's end.
    pub fn pipe(&mut self, kind: &str, index: usize, path: &str) -> Result<OwnedFd> {
        let (pipe, write) = Pipe::new(kind, path)?;
        self.hooks.push((format!("hooks.{kind}[{index}]"), pipe));
        Ok(write)
    }

    /// Waits until `fd` is readable, and takes meanwhile what hooks print.
    pub fn wait(&mut self, fd: BorrowedFd<'_>, log: Option<BorrowedFd<'_>>) -> Result<()> {
        loop {
            let mut open: Vec<&mut Pipe> =
                self.hooks.iter_mut().map(|(_, pipe)| pipe).filter(|pipe| pipe.read.is_some()).collect();
            let mut fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            fds.extend(
                open.iter().filter_map(|p| p.fd()).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            );
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(e) => {
                    return Err(Error::new("cannot wait for the container's report").call("poll", e));
                }
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            for (pipe, _) in open.iter_mut().zip(ready.iter().skip(1)).filter(|(_, ready)| **ready) {
                pipe.turn(log);
            }
            if ready.first() == Some(&true) {
                return Ok(());
            }
        }
    }

    /// All hooks of this kind have ended.
    pub fn finish(&mut self, kind: &str, log: Option<BorrowedFd<'_>>) {
        let kind = format!("hooks.{kind}[");
        self.hooks.iter_mut().filter(|(field, _)| field.starts_with(&kind)).for_each(|(_, p)| p.finish(log));
    }

    /// What a hook printed belongs to its error.
    pub fn explain(&mut self, mut error: Error, log: Option<BorrowedFd<'_>>) -> Error {
        if let Some((_, pipe)) = self.hooks.iter_mut().find(|(field, _)| *field == error.field) {
            pipe.finish(log);
            let tail = pipe.printed.tail();
            if !tail.is_empty() {
                error.doing = format!("{}: {tail}", error.doing);
            }
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `chunks` as they come from the pipe: the lines, each in brackets.
    fn lines(chunks: &[&str]) -> String {
        let (mut lines, mut text) = (Lines::default(), String::new());
        let mut line = |line: &[u8]| text.push_str(&format!("[{}]", String::from_utf8_lossy(line)));
        chunks.iter().for_each(|chunk| lines.push(chunk.as_bytes(), &mut line));
        lines.end(&mut line);
        text
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        assert_eq!(lines(&["on", "e\ntwo\nth", "ree\n"]), "[one][two][three]");
    }

    #[test]
    fn an_empty_line_is_a_line() {
        assert_eq!(lines(&["a\n\nb\n"]), "[a][][b]");
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(lines(&["a\nb"]), "[a][b]");
        assert_eq!(lines(&["a\n"]), "[a]");
        assert_eq!(lines(&[""]), "");
    }

    #[test]
    fn a_carriage_return_before_the_end_goes() {
        assert_eq!(lines(&["a\r", "\nb\rc\n"]), "[a][b\rc]");
    }

    #[test]
    fn a_long_line_goes_on_in_the_next() {
        let long = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(lines(&[&long, "y\nz\n"]), format!("[{long}][y][z]"));
        assert_eq!(lines(&[&long, "\nz\n"]), format!("[{long}][z]"));
    }

    #[test]
    fn no_cut_changes_what_is_in_the_lines() {
        let text = "a\n\nlong line\r\nlast";
        let whole = lines(&[text]);
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(lines(&[a, b]), whole, "cut at {cut}");
        }
    }

    /// What is in the log after the hook printed this.
    fn log(chunks: &[&[u8]]) -> String {
        let (read, write) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&write, true).unwrap();
        let mut printed = Printed::new("createRuntime", "/h");
        chunks.iter().for_each(|chunk| printed.take(chunk, Some(write.as_fd())));
        printed.end(Some(write.as_fd()));
        drop(write);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut text).unwrap();
        text
    }

    #[test]
    fn a_line_in_the_log_names_its_hook() {
        assert_eq!(log(&[b"one\ntw", b"o"]), "createRuntime hook /h: one\ncreateRuntime hook /h: two\n");
    }

    #[test]
    fn a_chatty_hook_is_cut_and_the_rest_counted() {
        let text = log(&[&b"0123456789\n".repeat(100_000)]);
        assert!(text.len() <= LOG_BYTES_MAX + 200, "{}", text.len());
        let last = text.lines().last().unwrap();
        let logged = text.lines().count() - 1;
        assert_eq!(
            last,
            format!("createRuntime hook /h: ({} bytes more, not logged)", (100_000 - logged) * 11)
        );
    }

    #[test]
    fn the_tail_is_the_end_as_one_line() {
        let mut printed = Printed::new("poststop", "/h");
        printed.take(&b"early\n".repeat(2_000), None);
        printed.take(b"late\n\n\xff", None);
        assert!(printed.tail().ends_with("early | late | \u{fffd}"), "{}", printed.tail());
        assert!(printed.tail.len() == TAIL_BYTES_MAX);
    }
}
