//! What was given on the command line -> the options of a verb. All that is wrong with it is said here, before anything is done.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::args::{Command, Given, Usage};
use super::asked;
use crate::kernel::signals;
use crate::log::{Level, Log};
use crate::ops::{self, Error, enter};
use crate::store::state::Manager;

/// What the global flags say to every verb.
#[derive(Debug)]
pub struct Global {
    pub log: Log,
    pub cgroup_manager: Manager,
}

impl From<Usage> for Error {
    fn from(e: Usage) -> Error {
        Error::new(e.0)
    }
}

pub fn log(global: &Given) -> Result<Log, Usage> {
    let file = match global.get("log") {
        None => None,
        // crun's spellings: a plain path may be written file:PATH.
        Some(path) => match path.to_str().and_then(|p| p.split_once(':')) {
            Some(("file", path)) => Some(PathBuf::from(path)),
            Some((kind @ ("journald" | "syslog"), _)) => {
                return Err(Usage(format!("--log {kind}: not supported yet; name a file")));
            }
            _ => Some(PathBuf::from(path)),
        },
    };
    let json = match global.text("log-format")? {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Usage(format!("--log-format {other:?}: must be text or json"))),
    };
    let level = match global.text("log-level")? {
        None | Some("error") => Level::Error,
        Some("warning" | "warn") => Level::Warning,
        Some("debug") => Level::Debug,
        Some(other) => return Err(Usage(format!("--log-level {other:?}: must be error, warning or debug"))),
    };
    Ok(Log { file, json, level: if global.has("debug") { Level::Debug } else { level } })
}

pub fn global(given: &Given, log: &Log) -> ops::Result<Global> {
    let cgroup_manager = match given.text("cgroup-manager")? {
        Some("systemd") => Manager::Systemd,
        Some("disabled") => Manager::Disabled,
        Some("cgroupfs") => Manager::Cgroupfs,
        None if given.has("systemd-cgroup") => Manager::Systemd,
        None => Manager::Cgroupfs,
        Some(other) => {
            return Err(Error::new(format!(
                "--cgroup-manager {other:?}: must be cgroupfs, systemd or disabled"
            )));
        }
    };
    if let Some(rootless) = given.text("rootless")?
        && !matches!(rootless, "true" | "false" | "auto")
    {
        return Err(Error::new(format!("--rootless {rootless:?}: must be true, false or auto")));
    }
    Ok(Global { log: log.clone(), cgroup_manager })
}

/// Of `--format`: JSON, or a table for people.
pub fn json(given: &Given) -> ops::Result<bool> {
    match given.text("format")? {
        None | Some("table") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(Error::new(format!("--format {other:?}: must be table or json"))),
    }
}

pub fn signal(words: &[OsString]) -> ops::Result<i32> {
    let name = text(words, 1)?.unwrap_or("TERM");
    signals::parse(name).ok_or_else(|| Error::new(format!("kill: unknown signal {name:?}")))
}

pub fn enter(c: &Command) -> ops::Result<enter::Options> {
    let from = |value: &OsStr| enter::From::File(value.into());
    let mut o = enter::Options {
        target: c.given.text("target")?.map(str::to_owned),
        all: c.given.has("all"),
        uid: c.given.number("setuid")?,
        gid: c.given.number("setgid")?,
        preserve_credentials: c.given.has("preserve-credentials"),
        no_fork: c.given.has("no-fork"),
        program: c.operands.clone(),
        ..enter::Options::default()
    };
    for (long, kind) in [
        ("mount", "mnt"),
        ("uts", "uts"),
        ("ipc", "ipc"),
        ("net", "net"),
        ("pid", "pid"),
        ("user", "user"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ] {
        if c.given.has(long) {
            o.namespaces.push((kind, c.given.get(long).map_or(enter::From::Target, from)));
        }
    }
    let folder = |long| c.given.has(long).then(|| c.given.get(long).map_or(enter::From::Target, from));
    (o.root, o.wd) = (folder("root"), folder("wd"));
    Ok(o)
}

pub fn create(c: &Command, global: &Global) -> ops::Result<ops::create::Options> {
    let given = &c.given;
    for flag in ["no-pivot", "pidfd-socket"] {
        if given.has(flag) {
            return Err(Error::new(format!("--{flag}: not supported yet")));
        }
    }
    let path = |flag| given.get(flag).map(PathBuf::from);
    Ok(ops::create::Options {
        id: text(&c.operands, 0)?.unwrap_or_default().to_owned(),
        // `create ID BUNDLE` is the spec's own form.
        bundle: c.operands.get(1).map_or_else(|| bundle(given), PathBuf::from),
        config: path("config"),
        console_socket: path("console-socket"),
        pid_file: path("pid-file"),
        preserve_fds: given.number("preserve-fds")?.unwrap_or(0),
        no_new_keyring: given.has("no-new-keyring"),
        cgroup_manager: global.cgroup_manager,
        log: global.log.clone(),
        trace: given.has("trace"),
    })
}

/// Of a program's words: each byte that is not UTF-8 becomes U+FFFD, as in runc, where they pass through JSON.
fn lossy(word: impl AsRef<OsStr>) -> String {
    word.as_ref().to_string_lossy().into_owned()
}

pub fn run(c: &Command, global: &Global) -> ops::Result<ops::run::Run> {
    let mut create = create(c, global)?;
    let scratch = c.given.has("scratch");
    if let Some(name) = c.given.text("image")? {
        return run_image(c, create, name);
    }
    if !c.given.has("rootfs") {
        asked::refuse(&c.given)?;
    }
    if scratch && !c.given.has("rootfs") {
        let annotation = sampan_plan::scratch::ANNOTATION;
        return Err(Error::new(format!(
            "run --scratch: needs --rootfs; a bundle has the annotation {annotation} for it"
        )));
    }
    let rootfs = match (c.given.text("rootfs")?, &c.program) {
        (None, None) if create.id.is_empty() => {
            return Err(Error::new(
                "run: which container? sampan run ID, or sampan run --rootfs host -- CMD",
            ));
        }
        (None, None) => None,
        (None, Some(_)) => {
            return Err(Error::new("run: a program after -- needs --rootfs host or --rootfs DIR"));
        }
        (Some(root), program) => {
            let program = program.clone().filter(|p| !p.is_empty());
            let program =
                program.ok_or_else(|| Error::new("run --rootfs: which program? put it after --"))?;
            if create.id.is_empty() {
                create.id = name_for(&program[0]);
            }
            let from = ops::run::RootFrom::Root(root.to_owned());
            let asked = asked::asked(&c.given)?;
            Some(ops::run::Rootfs { from, scratch, program, terminal: terminal(c), asked })
        }
    };
    Ok(run_of(c, create, rootfs))
}

fn run_of(c: &Command, create: ops::create::Options, rootfs: Option<ops::run::Rootfs>) -> ops::run::Run {
    ops::run::Run {
        create,
        detach: c.given.has("detach"),
        keep: c.given.has("keep"),
        no_subreaper: c.given.has("no-subreaper"),
        rootfs,
    }
}

fn terminal(c: &Command) -> bool {
    use rustix::{stdio, termios::isatty};
    c.given.has("tty") || (isatty(stdio::stdin()) && isatty(stdio::stdout()) && !c.given.has("detach"))
}

/// `run --image NAME [ID] [-- CMD..]`
fn run_image(c: &Command, mut create: ops::create::Options, name: &str) -> ops::Result<ops::run::Run> {
    if c.given.has("rootfs") {
        return Err(Error::new("run: either --rootfs or --image"));
    }
    let asked = asked::asked(&c.given)?;
    let given: Vec<String> = c.program.iter().flatten().map(lossy).collect();
    let image = ops::image::Image::find(name)?;
    let program: Vec<OsString> = image.program(&given).into_iter().map(OsString::from).collect();
    let first = program.first().ok_or_else(|| {
        Error::new(format!("run --image {name}: the image has no program of its own; put one after --"))
    })?;
    if create.id.is_empty() {
        create.id = name_for(first);
    }
    let from = ops::run::RootFrom::Image(image);
    let scratch = !asked.read_only;
    let rootfs = ops::run::Rootfs { from, scratch, program, terminal: terminal(c), asked };
    Ok(run_of(c, create, Some(rootfs)))
}

pub fn exec(c: &Command) -> ops::Result<ops::exec::Options> {
    let given = &c.given;
    for flag in ["cgroup", "pidfd-socket"] {
        if given.has(flag) {
            return Err(Error::new(format!("exec --{flag}: not supported yet")));
        }
    }
    let path = |flag| given.get(flag).map(PathBuf::from);
    let list = |flag| given.all(flag).map(|v| v.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let texts_of = |flag| list(flag).ok_or_else(|| Error::new(format!("--{flag}: not UTF-8")));
    let gids = texts_of("additional-gids")?;
    let gid =
        |g: &String| g.parse().map_err(|_| Error::new(format!("--additional-gids {g:?}: must be a number")));
    let own = |flag| -> ops::Result<Option<String>> { Ok(given.text(flag)?.map(str::to_owned)) };
    Ok(ops::exec::Options {
        id: text(&c.operands, 0)?.unwrap_or_default().to_owned(),
        process: path("process"),
        args: c.operands.iter().skip(1).map(lossy).collect(),
        cwd: own("cwd")?,
        env: given.all("env").map(lossy).collect(),
        terminal: given.has("tty"),
        user: own("user")?,
        additional_gids: gids.iter().map(gid).collect::<Result<_, _>>()?,
        detach: given.has("detach"),
        pid_file: path("pid-file"),
        console_socket: path("console-socket"),
        preserve_fds: given.number("preserve-fds")?.unwrap_or(0),
        process_label: own("process-label")?,
        apparmor: own("apparmor")?,
        no_new_privs: given.has("no-new-privs"),
        caps: texts_of("cap")?,
        ignore_paused: given.has("ignore-paused"),
    })
}

/// `bash-4711`: after the program, and nobody else's while we live.
fn name_for(program: &OsStr) -> String {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let name: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || "_+-".contains(*c)).take(40).collect();
    format!("{}-{}", if name.is_empty() { "run" } else { &name }, std::process::id())
}

pub fn resources(given: &Given) -> ops::Result<String> {
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if given.has(flag) {
            return Err(Error::new(format!("update --{flag}: not supported yet")));
        }
    }
    match given.get("resources") {
        Some(file) => ops::update::read(Path::new(file)),
        None => ops::update::from_flags(|flag| given.text(flag).ok().flatten()),
    }
}

pub fn bundle(given: &Given) -> PathBuf {
    PathBuf::from(given.get("bundle").unwrap_or(OsStr::new(".")))
}

pub fn text(words: &[OsString], at: usize) -> ops::Result<Option<&str>> {
    let Some(word) = words.get(at) else { return Ok(None) };
    word.to_str().map(Some).ok_or_else(|| Error::new(format!("{word:?} is not UTF-8")))
}

pub fn texts(words: &[OsString]) -> ops::Result<Vec<String>> {
    (0..words.len()).map(|i| text(words, i).map(|t| t.unwrap_or_default().to_owned())).collect()
}
