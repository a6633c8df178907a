//! A parsed command line -> the verb's options -> its exit code.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::args::{Command, Given, Usage};
use super::help;
use crate::kernel::signals;
use crate::log::{Level, Log};
use crate::ops::{self, enter, list};
use crate::store::dir::Root;
use crate::store::state::{Manager, OCI_VERSION};

/// What every verb gets from the global flags.
#[derive(Debug)]
pub struct Context {
    pub root: Root,
    pub log: Log,
    pub cgroup_manager: Manager,
}

/// Runs `sampan ARGS`; the process's exit code.
pub fn main(argv0: &OsStr, args: impl IntoIterator<Item = OsString>) -> i32 {
    let command = match super::args::parse(args) {
        Ok(command) => command,
        Err(e) => {
            Log::default().error(&e.to_string());
            return 1;
        }
    };
    let log = match log(&command.global) {
        Ok(log) => log,
        Err(e) => {
            Log::default().error(&e.to_string());
            return 1;
        }
    };
    if let (Err(e), Some(file)) = (log.make(), &log.file) {
        Log::default().error(&format!("--log {}: {}", file.display(), crate::error::io_name(&e)));
        return 1;
    }
    match dispatch(argv0, &command, &log) {
        Ok(code) => {
            log.debug(&format!("ended with exit code {code}"));
            code
        }
        Err(e) => {
            log.error(&e.to_string());
            // exec tells its own failure from the program's by a code of its own (runc).
            if command.verb.is_some_and(|v| v.name == "exec") { 255 } else { 1 }
        }
    }
}

fn dispatch(argv0: &OsStr, c: &Command, log: &Log) -> ops::Result<i32> {
    let Some(verb) = c.verb else {
        return if c.global.has("version") {
            ops::print(&version(argv0)).map(|()| 0)
        } else {
            // Without a command there is nothing to do, which is only right if help was asked for.
            ops::print(&help::overview()).map(|()| i32::from(!c.wants_help()))
        };
    };
    if matches!(verb.name, "checkpoint" | "restore") {
        // podman and CRI-O ask for `checkpoint --help` to learn whether it is there: it is not.
        return Err(ops::Error::Asked(format!("{}: not supported yet", verb.name)));
    }
    if c.wants_help() {
        return ops::print(&help::of(verb)).map(|()| 0);
    }
    let context = context(&c.global, log)?;
    let root = &context.root;
    log.debug(&format!(
        "sampan {}: {} {:?} in {}",
        env!("CARGO_PKG_VERSION"),
        verb.name,
        c.operands,
        root.path().display()
    ));
    if matches!(verb.name, "create" | "run" | "exec" | "enter") {
        // These go near a container, which must not get at our binary.
        crate::kernel::seal::seal()?;
    }
    let done = |()| 0;
    match verb.name {
        "create" => ops::create::run(root, &create_options(c, &context)?).map(done),
        "start" => ops::start::run(root, id(c)?).map(done),
        "run" => ops::run::run(root, &run_options(c, &context)?),
        "exec" => ops::exec::run(root, &exec_options(c)?, log),
        "plan" => {
            let mut o = create_options(c, &context)?;
            if let Some(dir) = c.operands.first() {
                o.bundle = dir.into();
            }
            o.id = "plan".into();
            ops::plan::run(&o, c.given.has("json")).map(done)
        }
        "state" => ops::state::run(root, id(c)?).map(done),
        "list" => ops::list::run(root, list_format(&c.given)?).map(done),
        "kill" => {
            let signal = text(&c.operands, 1)?.unwrap_or("TERM");
            let number =
                signals::parse(signal).ok_or_else(|| asked(format!("kill: unknown signal {signal:?}")))?;
            ops::kill::run(root, id(c)?, number, c.given.has("all")).map(done)
        }
        "delete" => ops::delete::run(root, id(c)?, c.given.has("force"), log).map(done),
        "ps" => {
            let json = list_format(&c.given)? == list::Format::Json;
            ops::ps::run(root, id(c)?, json, &texts(&c.operands[1..])?).map(done)
        }
        "pause" => ops::pause::pause(root, id(c)?).map(done),
        "resume" => ops::pause::resume(root, id(c)?).map(done),
        "update" => ops::update::run(root, id(c)?, &resources(&c.given)?, log).map(done),
        "events" => {
            let interval = ops::events::interval(c.given.text("interval")?.unwrap_or("5s"))?;
            ops::events::run(root, id(c)?, c.given.has("stats"), interval).map(done)
        }
        "ns" => ops::ns::run(root, &texts(&c.operands)?, c.given.has("json")).map(done),
        "enter" => enter::run(root, &enter_options(c)?),
        "spec" => ops::spec::run(&bundle(&c.given), c.given.has("rootless"), c.given.has("secure")).map(done),
        "features" => ops::features::run().map(done),
        "generate" => generate(text(&c.operands, 0)?.unwrap_or_default()).map(done),
        other => Err(asked(format!("{other}: not supported yet"))),
    }
}

impl From<Usage> for ops::Error {
    fn from(e: Usage) -> ops::Error {
        ops::Error::Asked(e.0)
    }
}

fn asked(problem: String) -> ops::Error {
    ops::Error::Asked(problem)
}

fn log(global: &Given) -> Result<Log, Usage> {
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

fn context(global: &Given, log: &Log) -> ops::Result<Context> {
    let cgroup_manager = match global.text("cgroup-manager")? {
        Some("systemd") => Manager::Systemd,
        Some("disabled") => Manager::Disabled,
        Some("cgroupfs") => Manager::Cgroupfs,
        None if global.has("systemd-cgroup") => Manager::Systemd,
        None => Manager::Cgroupfs,
        Some(other) => {
            return Err(asked(format!("--cgroup-manager {other:?}: must be cgroupfs, systemd or disabled")));
        }
    };
    if let Some(rootless) = global.text("rootless")?
        && !matches!(rootless, "true" | "false" | "auto")
    {
        return Err(asked(format!("--rootless {rootless:?}: must be true, false or auto")));
    }
    Ok(Context { root: Root::new(global.get("root").map(Path::new))?, log: log.clone(), cgroup_manager })
}

/// go-runc reads `commit:` and `spec:`, and only if the first line begins with `runc version`, so under that name we say so.
fn version(argv0: &OsStr) -> String {
    let name = if Path::new(argv0).file_name() == Some(OsStr::new("runc")) { "runc" } else { "sampan" };
    let commit = option_env!("SAMPAN_COMMIT").unwrap_or("unknown");
    format!("{name} version {}\ncommit: {commit}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

fn list_format(given: &Given) -> ops::Result<list::Format> {
    if given.has("quiet") {
        return Ok(list::Format::Quiet);
    }
    match given.text("format")? {
        None | Some("table") => Ok(list::Format::Table),
        Some("json") => Ok(list::Format::Json),
        Some(other) => Err(asked(format!("--format {other:?}: must be table or json"))),
    }
}

fn enter_options(c: &Command) -> ops::Result<enter::Options> {
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

fn create_options(c: &Command, context: &Context) -> ops::Result<ops::create::Options> {
    let given = &c.given;
    for flag in ["no-pivot", "pidfd-socket"] {
        if given.has(flag) {
            return Err(asked(format!("--{flag}: not supported yet")));
        }
    }
    let path = |flag| given.get(flag).map(PathBuf::from);
    Ok(ops::create::Options {
        id: id(c)?.to_owned(),
        // `create ID BUNDLE` is the spec's own form.
        bundle: c.operands.get(1).map_or_else(|| bundle(given), PathBuf::from),
        config: path("config"),
        console_socket: path("console-socket"),
        pid_file: path("pid-file"),
        preserve_fds: given.number("preserve-fds")?.unwrap_or(0),
        no_new_keyring: given.has("no-new-keyring"),
        cgroup_manager: context.cgroup_manager,
        log: context.log.clone(),
        trace: given.has("trace"),
    })
}

fn run_options(c: &Command, context: &Context) -> ops::Result<ops::run::Run> {
    let mut create = create_options(c, context)?;
    let scratch = c.given.has("scratch");
    if scratch && !c.given.has("rootfs") {
        let annotation = sampan_plan::scratch::ANNOTATION;
        return Err(asked(format!(
            "run --scratch: needs --rootfs; a bundle has the annotation {annotation} for it"
        )));
    }
    let rootfs = match (c.given.text("rootfs")?, &c.program) {
        (None, None) if create.id.is_empty() => {
            return Err(asked(
                "run: which container? sampan run ID, or sampan run --rootfs host -- CMD".into(),
            ));
        }
        (None, None) => None,
        (None, Some(_)) => {
            return Err(asked("run: a program after -- needs --rootfs host or --rootfs DIR".into()));
        }
        (Some(root), program) => {
            let program = program.clone().filter(|p| !p.is_empty());
            let program =
                program.ok_or_else(|| asked("run --rootfs: which program? put it after --".into()))?;
            if create.id.is_empty() {
                create.id = name_for(&program[0]);
            }
            let ours = rustix::termios::isatty(rustix::stdio::stdin())
                && rustix::termios::isatty(rustix::stdio::stdout());
            let terminal = c.given.has("tty") || (ours && !c.given.has("detach"));
            Some(ops::run::Rootfs { root: root.to_owned(), scratch, program, terminal })
        }
    };
    Ok(ops::run::Run {
        create,
        detach: c.given.has("detach"),
        keep: c.given.has("keep"),
        no_subreaper: c.given.has("no-subreaper"),
        rootfs,
    })
}

fn exec_options(c: &Command) -> ops::Result<ops::exec::Options> {
    let given = &c.given;
    for flag in ["cgroup", "pidfd-socket"] {
        if given.has(flag) {
            return Err(asked(format!("exec --{flag}: not supported yet")));
        }
    }
    let path = |flag| given.get(flag).map(PathBuf::from);
    let list = |flag| given.all(flag).map(|v| v.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let texts_of = |flag| list(flag).ok_or_else(|| asked(format!("--{flag}: not UTF-8")));
    let gids = texts_of("additional-gids")?;
    let gid = |g: &String| g.parse().map_err(|_| asked(format!("--additional-gids {g:?}: must be a number")));
    let own = |flag| -> ops::Result<Option<String>> { Ok(given.text(flag)?.map(str::to_owned)) };
    Ok(ops::exec::Options {
        id: id(c)?.to_owned(),
        process: path("process"),
        args: texts(&c.operands[1..])?,
        cwd: own("cwd")?,
        env: texts_of("env")?,
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

fn resources(given: &Given) -> ops::Result<String> {
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if given.has(flag) {
            return Err(asked(format!("update --{flag}: not supported yet")));
        }
    }
    match given.get("resources") {
        Some(file) => ops::update::read(Path::new(file)),
        None => ops::update::from_flags(|flag| given.text(flag).ok().flatten()),
    }
}

fn generate(what: &str) -> ops::Result<()> {
    ops::print(&match what {
        "man" => help::man(),
        "bash" => help::bash(),
        "zsh" => help::zsh(),
        "fish" => help::fish(),
        other => return Err(asked(format!("generate {other:?}: must be man, bash, zsh or fish"))),
    })
}

fn bundle(given: &Given) -> PathBuf {
    PathBuf::from(given.get("bundle").unwrap_or(OsStr::from_bytes(b".")))
}

fn id(c: &Command) -> ops::Result<&str> {
    text(&c.operands, 0).map(Option::unwrap_or_default)
}

fn text(words: &[OsString], at: usize) -> ops::Result<Option<&str>> {
    let Some(word) = words.get(at) else { return Ok(None) };
    word.to_str().map(Some).ok_or_else(|| asked(format!("{word:?} is not UTF-8")))
}

fn texts(words: &[OsString]) -> ops::Result<Vec<String>> {
    (0..words.len()).map(|i| text(words, i).map(|t| t.unwrap_or_default().to_owned())).collect()
}
