//! A parsed command line -> its verb -> what is printed, and the exit code.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::Path;

use sampan_plan::render as steps;

use super::args::Command;
use super::options::{self, Global};
use super::render;
use super::table::{Needs, Row, Verb};
use super::{args, help};
use crate::error::{io_name, printable};
use crate::kernel::seal;
use crate::launch::trace::Cost;
use crate::log::Log;
use crate::ops::enter::Entered;
use crate::ops::events::Event;
use crate::ops::{self, Container, Error};
use crate::store::dir::{Root, check_id};
use crate::store::state::OCI_VERSION;

/// Runs `sampan ARGS`; the process's exit code.
pub fn main(argv0: &OsStr, args: impl IntoIterator<Item = OsString>) -> i32 {
    let command = match args::parse(args) {
        Ok(command) => command,
        Err(e) => {
            Log::default().error(&e.to_string());
            return 1;
        }
    };
    let log = match options::log(&command.global) {
        Ok(log) => log,
        Err(e) => {
            Log::default().error(&e.to_string());
            return 1;
        }
    };
    if let (Err(e), Some(file)) = (log.make(), &log.file) {
        Log::default().error(&format!("--log {}: {}", file.display(), io_name(&e)));
        return 1;
    }
    match run(argv0, &command, &log) {
        Ok(code) => {
            log.debug(&format!("ended with exit code {code}"));
            code
        }
        Err(e) => {
            log.error(&e.to_string());
            // exec tells its own failure from the program's by a code of its own (runc).
            if command.verb.is_some_and(|row| row.verb == Verb::Exec) { 255 } else { 1 }
        }
    }
}

fn run(argv0: &OsStr, c: &Command, log: &Log) -> ops::Result<i32> {
    let Some(row) = c.verb else {
        return if c.global.has("version") {
            render::print(&version(argv0)).map(|()| 0)
        } else {
            // Without a command there is nothing to do, which is only right if help was asked for.
            render::print(&help::overview()).map(|()| i32::from(!c.wants_help()))
        };
    };
    // podman and CRI-O ask for `checkpoint --help` to learn whether it is there: it is not.
    let is_there = !matches!(row.verb, Verb::Checkpoint | Verb::Restore);
    if c.wants_help() && is_there {
        return render::print(&help::of(row)).map(|()| 0);
    }
    let call = Call::new(c, row, log)?;
    log.debug(&call.to_string());
    if row.seal {
        seal::seal()?;
    }
    match call.dispatch()? {
        Output::Code(code) => Ok(code),
        Output::Text(text) => render::print(&text).map(|()| 0),
    }
}

/// What comes of a verb.
enum Output {
    /// To be printed.
    Text(String),
    Code(i32),
}

const DONE: Output = Output::Code(0);

/// A verb with all that its row in the table says it needs.
struct Call<'c> {
    command: &'c Command,
    row: &'static Row,
    global: Global,
    root: Option<Root>,
    id: Option<&'c str>,
}

impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sampan {}: {} {:?}", env!("CARGO_PKG_VERSION"), self.row.name, self.command.operands)?;
        self.root.as_ref().map_or(Ok(()), |root| write!(f, " in {}", root.path().display()))
    }
}

impl<'c> Call<'c> {
    fn new(command: &'c Command, row: &'static Row, log: &Log) -> ops::Result<Call<'c>> {
        let global = options::global(&command.global, log)?;
        let root = || Root::new(command.global.get("root").map(Path::new));
        let (root, id) = match row.needs {
            Needs::Nothing => (None, None),
            Needs::Root => (Some(root()?), None),
            Needs::Container => {
                let id = options::text(&command.operands, 0)?.unwrap_or_default();
                let root = root()?;
                check_id(id)?;
                (Some(root), Some(id))
            }
        };
        Ok(Call { command, row, global, root, id })
    }

    fn root(&self) -> ops::Result<&Root> {
        self.root.as_ref().ok_or_else(|| self.not_in_the_table("the root folder"))
    }

    fn container(&self) -> ops::Result<(&Root, &'c str)> {
        let id = self.id.ok_or_else(|| self.not_in_the_table("a container"))?;
        Ok((self.root()?, id))
    }

    /// A mistake of ours, which a test over all verbs finds.
    fn not_in_the_table(&self, what: &str) -> Error {
        Error::new(format!("{}: its row in cli/table.rs does not say that it needs {what}", self.row.name))
    }

    fn dispatch(&self) -> ops::Result<Output> {
        let (c, given, global) = (self.command, &self.command.given, &self.global);
        let done = |()| DONE;
        match self.row.verb {
            Verb::Create => ops::create::run(self.root()?, &options::create(c, global)?).map(done),
            Verb::Start => self.of(ops::start::run).map(done),
            Verb::Run => {
                // Not with what the program prints, which others may read.
                let mut show = |costs: &[Cost]| eprint!("{}", render::costs(costs));
                ops::run::run(self.root()?, &options::run(c, global)?, &mut show).map(Output::Code)
            }
            Verb::Exec => ops::exec::run(self.root()?, &options::exec(c)?, &global.log).map(Output::Code),
            Verb::Kill => {
                let signal = options::signal(&c.operands)?;
                self.of(|root, id| ops::kill::run(root, id, signal, given.has("all"))).map(done)
            }
            Verb::Delete => {
                self.of(|root, id| ops::delete::run(root, id, given.has("force"), &global.log)).map(done)
            }
            Verb::State => text(render::json(&self.of(ops::state::run)?.document())),
            Verb::List => self.list(),
            Verb::Ps => self.ps(),
            Verb::Pause => self.of(ops::pause::pause).map(done),
            Verb::Resume => self.of(ops::pause::resume).map(done),
            Verb::Update => {
                let resources = options::resources(given)?;
                self.of(|root, id| ops::update::run(root, id, &resources, &global.log)).map(done)
            }
            Verb::Events => self.events().map(done),
            Verb::Ns => {
                let found = ops::ns::look(self.root()?, &options::texts(&c.operands)?)?;
                text(if given.has("json") { render::json(&found) } else { Ok(render::namespaces(&found)) })
            }
            Verb::Enter => self.enter(),
            Verb::Plan => self.plan(),
            Verb::Spec => {
                let config = ops::spec::document(given.has("rootless"), given.has("secure"))?;
                ops::spec::write(&options::bundle(given), &render::json(&config)?).map(done)
            }
            Verb::Features => text(render::json(&ops::features::document())),
            Verb::Checkpoint | Verb::Restore => {
                Err(Error::new(format!("{}: not supported yet", self.row.name)))
            }
            Verb::Generate => text(generate(options::text(&c.operands, 0)?.unwrap_or_default())),
        }
    }

    /// A verb on one container.
    fn of<T>(&self, verb: impl FnOnce(&Root, &str) -> ops::Result<T>) -> ops::Result<T> {
        let (root, id) = self.container()?;
        verb(root, id)
    }

    fn list(&self) -> ops::Result<Output> {
        let json = options::json(&self.command.given)?;
        if self.command.given.has("quiet") {
            return text(Ok(render::lines(&ops::list::ids(self.root()?)?)));
        }
        let listing = ops::list::run(self.root()?)?;
        listing.unreadable.iter().for_each(|e| eprintln!("sampan: {}", printable(&e.to_string())));
        let rows: Vec<_> = listing.containers.iter().map(Container::document).collect();
        text(if json { render::json_list(&rows) } else { Ok(render::containers(&rows)) })
    }

    fn ps(&self) -> ops::Result<Output> {
        let json = options::json(&self.command.given)?;
        let args = options::texts(self.command.operands.get(1..).unwrap_or_default())?;
        let pids = self.of(ops::ps::run)?;
        text(if json {
            render::json_list(&pids)
        } else {
            ops::ps::table(&pids, &args).map(|t| render::lines(&t))
        })
    }

    fn events(&self) -> ops::Result<()> {
        let given = &self.command.given;
        let interval = ops::events::interval(given.text("interval")?.unwrap_or("5s"))?;
        let once = given.has("stats");
        let mut show = |event: &Event<'_>| render::print(&render::json_line(event)?);
        self.of(|root, id| ops::events::run(root, id, once, interval, &mut show))
    }

    /// A program that cannot be run ends as in a shell.
    fn enter(&self) -> ops::Result<Output> {
        Ok(Output::Code(match ops::enter::run(self.root()?, &options::enter(self.command)?)? {
            Entered::Ended(code) => code,
            Entered::NotRun { program, error } => {
                eprintln!("sampan: cannot run {}: {}", program.display(), io_name(&error));
                if error.kind() == ErrorKind::NotFound { 127 } else { 126 }
            }
        }))
    }

    fn plan(&self) -> ops::Result<Output> {
        let mut o = options::create(self.command, &self.global)?;
        if let Some(bundle) = self.command.operands.first() {
            o.bundle = bundle.into();
        }
        o.id = "plan".into();
        let json = self.command.given.has("json");
        text(ops::plan::run(
            &o,
            |plan| {
                if json { render::json(&steps::json(plan)) } else { Ok(steps::text(plan)) }
            },
        )?)
    }
}

fn text(rendered: ops::Result<String>) -> ops::Result<Output> {
    rendered.map(Output::Text)
}

fn generate(what: &str) -> ops::Result<String> {
    match what {
        "man" => Ok(help::man()),
        "bash" => Ok(help::bash()),
        "zsh" => Ok(help::zsh()),
        "fish" => Ok(help::fish()),
        other => Err(Error::new(format!("generate {other:?}: must be man, bash, zsh or fish"))),
    }
}

/// go-runc reads `commit:` and `spec:`, and only if the first line begins with `runc version`, so under that name we say so.
fn version(argv0: &OsStr) -> String {
    let name = if Path::new(argv0).file_name() == Some(OsStr::new("runc")) { "runc" } else { "sampan" };
    let commit = option_env!("SAMPAN_COMMIT").unwrap_or("unknown");
    format!("{name} version {}\ncommit: {commit}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION"))
}
