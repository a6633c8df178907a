//! `sampand -d`: a sampand in the background, where no service manager starts one. Whoever asks for it reads the config, starts the
//! same program again in a session of its own, with its output in a file, and stays until that one answers on the control socket
//! with the number of its own process, or has ended.
use crate::own_log::{BYTES_MAX, LOG, OLD_LOG};
use crate::source::{Files, Source};
use rustix::fs::OFlags;
use sampan_api as api;
use sampan_config::Loaded;
use sampan_config::schema::Supervisor;
use sampan_keel::rundir;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The first argument of the sampand that runs in the background.
pub const BACKGROUND: &str = "--background";
/// Of the log, shown when a start fails.
const SHOWN_BYTES_MAX: u64 = 64 * 1024;
/// Plugins that open, a predecessor that is followed: it takes longer only where something hangs.
const READY_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// One answer of sampand; it may be busy with a start.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What to print on standard error, and the exit code.
#[derive(Debug)]
pub struct Failed {
    pub text: String,
    pub code: u8,
}

fn failed(text: impl Into<String>) -> Failed {
    Failed { text: format!("sampand: {}", text.into()), code: 1 }
}

/// Starts a sampand with these arguments. What there is to say when it is ready.
pub fn start(source: &Source, arguments: impl Iterator<Item = OsString>) -> Result<String, Failed> {
    let supervisor = read(source.files())?.config.supervisor;
    if let Some(running) = ask(&supervisor.socket) {
        return Err(failed(format!(
            "sampand runs already, as process {}\n  `sampanctl --socket {}` talks to it; a second one needs a run_dir of its own",
            running.keel_pid,
            supervisor.socket.display()
        )));
    }
    let mut log = Log::open(&supervisor.state_dir)?;
    let program = sampan_runtime::kernel::seal::installed_path();
    let mut child = Command::new("/proc/self/exe")
        .arg0(program.unwrap_or_else(|| "sampand".into()))
        .arg(BACKGROUND)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.another()?)
        .stderr(log.another()?)
        .spawn()
        .map_err(|error| failed(format!("cannot start sampand: {error}")))?;
    until_ready(&mut child, &supervisor, &mut log)
}

/// In the process that is started: it outlives the terminal, whose keys mean nothing to it.
pub fn leave_terminal() {
    // It leads no group of processes yet, so this cannot fail.
    let _ = rustix::process::setsid();
}

fn until_ready(child: &mut Child, supervisor: &Supervisor, log: &mut Log) -> Result<String, Failed> {
    let (begin, pid) = (Instant::now(), child.id());
    let log_path = log.path.display().to_string();
    while begin.elapsed() < READY_MAX {
        let ended = child.try_wait().map_err(|error| failed(format!("cannot wait for sampand: {error}")))?;
        if let Some(status) = ended {
            return Err(Failed { text: log.ended(status), code: code_of(status) });
        }
        if ask(&supervisor.socket).is_some_and(|version| u32::try_from(version.keel_pid) == Ok(pid)) {
            return Ok(format!(
                "sampand runs as process {pid}; its log is {log_path}\n\
                 `sampanctl --socket {0}` talks to it, `sampanctl --socket {0} down` ends it with all services\n",
                supervisor.socket.display()
            ));
        }
        std::thread::sleep(LOOK);
    }
    let seconds = READY_MAX.as_secs();
    Err(failed(format!(
        "sampand, process {pid}, is not ready after {seconds} s, and goes on trying\n  its log is {log_path}"
    )))
}

fn code_of(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1)
}

/// The config, which is read by a thread: what it names may hang.
fn read(files: &Files) -> Result<Loaded, Failed> {
    enum Said {
        Doing(String),
        Done(Box<crate::source::Loading>),
    }
    let (say, heard) = mpsc::channel();
    let reading = files.clone();
    std::thread::spawn(move || {
        let tell = |path: &Path, key: &str| {
            let _ = say.send(Said::Doing(crate::life::reading::look_at(path, key)));
        };
        let _ = say.send(Said::Done(Box::new(reading.load(&tell))));
    });
    let mut doing = "the look at the config".to_owned();
    let loading = loop {
        match heard.recv_timeout(crate::life::reading::LOOK_MAX) {
            Ok(Said::Doing(what)) => doing = what,
            Ok(Said::Done(loading)) => break *loading,
            Err(_) => {
                let (why, hint) = crate::life::reading::took_too_long(&doing);
                return Err(Failed { text: files.unread(&why, hint), code: 2 });
            }
        }
    };
    let (text, code) = files.report(&loading, false, false);
    loading.map_err(|_| Failed { text, code })
}

/// `GET /v1/version`, if anybody answers there.
fn ask(socket: &Path) -> Option<api::Version> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    stream.write_all(b"GET /v1/version HTTP/1.1\r\nHost: sampand\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Where sampand's own lines go.
struct Log {
    path: PathBuf,
    file: File,
    /// Where those of this start begin.
    from: u64,
}

impl Log {
    fn open(state_dir: &Path) -> Result<Log, Failed> {
        rundir::make_state(state_dir).map_err(|error| failed(error.to_string()))?;
        let path = state_dir.join(LOG);
        let cannot = |error: io::Error| failed(format!("cannot open {}: {error}", path.display()));
        if fs::metadata(&path).is_ok_and(|log| log.len() > BYTES_MAX) {
            fs::rename(&path, state_dir.join(OLD_LOG)).map_err(cannot)?;
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK).bits();
        let mut options = File::options();
        let options =
            options.read(true).append(true).create(true).mode(0o600).custom_flags(flags.cast_signed());
        let file = options.open(&path).map_err(cannot)?;
        let from = file.metadata().map_err(cannot)?.len();
        Ok(Log { path, file, from })
    }

    fn another(&self) -> Result<File, Failed> {
        self.file.try_clone().map_err(|error| failed(format!("cannot use {}: {error}", self.path.display())))
    }

    /// What sampand has said before its end, which is why.
    fn ended(&mut self, status: ExitStatus) -> String {
        let mut said = Vec::new();
        let read = self.file.seek(SeekFrom::Start(self.from));
        let read = read.and_then(|_| (&self.file).take(SHOWN_BYTES_MAX).read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said);
        match (read, said.trim_end()) {
            (Ok(_), said) if !said.is_empty() => said.to_owned(),
            _ => format!("sampand: it has ended: {status}; its log is {}", self.path.display()),
        }
    }
}
