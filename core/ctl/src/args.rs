//! What people type.
use crate::format::Format;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Commands sampand: shows, starts and stops its services.
///
/// Exit codes: 0 as asked, 1 failed, 2 usage or config, 3 no sampand, 4 not all healthy (up --wait).
#[derive(Debug, Parser)]
#[command(name = "sampanctl", version, max_term_width = 100)]
pub struct Args {
    /// sampand's control socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "SAMPAN_SOCKET",
        default_value = "/run/sampan/sampand.sock"
    )]
    pub socket: PathBuf,
    /// Print JSON as sampand sends it
    #[arg(long, global = true)]
    pub json: bool,
    /// Print what a template of Go makes of it, with the names that --json shows: '{{.name}} {{.pid}}', for lists a line each;
    /// with `table ` before it under a head; `json` is --json
    #[arg(long, global = true, value_name = "TEMPLATE", conflicts_with = "json", value_parser = Format::parse)]
    pub format: Option<Format>,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Apply the config and start services (default: all)
    Up(Up),
    /// Stop everything in reverse order; sampand ends
    Down,
    /// List the services (restarts and exits of this run of sampand; `inspect` has totals)
    Ps {
        /// Names alone
        #[arg(short, long)]
        quiet: bool,
        /// Only those with label=KEY, label=KEY=VALUE, state=STATE or health=HEALTH (repeatable)
        #[arg(short, long, value_name = "FILTER")]
        filter: Vec<String>,
        /// Again every second, until it is ended
        #[arg(short, long)]
        watch: bool,
    },
    /// Show services with their last transitions (default: all)
    Status { services: Vec<String> },
    /// Everything about services, as JSON
    Inspect {
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Show where a service's ports are published
    Port {
        service: String,
        /// This port of the container alone, as 80 or 53/udp: prints the address
        port: Option<String>,
    },
    /// List the processes of services, with the numbers and users that the host knows them by
    Top {
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Show what services use (default: all that run)
    Stats {
        services: Vec<String>,
        /// Once, over one second
        #[arg(long)]
        no_stream: bool,
    },
    /// Wait until services are as asked; for `exited` and `done` prints their exit codes, and exits with the first that is not 0 (1: unknown)
    Wait {
        #[arg(required = true)]
        services: Vec<String>,
        #[arg(long, value_enum, default_value_t = Condition::Exited)]
        condition: Condition,
        /// How long at most, in seconds
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Show what each service needs, in the order in which they start
    Graph {
        /// In the language of graphviz
        #[arg(long)]
        dot: bool,
    },
    /// Start services and what they depend on
    Start {
        #[arg(required = true)]
        services: Vec<String>,
        /// Do not wait
        #[arg(short, long)]
        detach: bool,
        /// Jobs: until they are done, and end with the exit code of the first that failed
        #[arg(short, long, conflicts_with = "detach")]
        wait: bool,
    },
    /// Stop services; they stay stopped over reboots, until `start` or `up`
    Stop {
        #[arg(required = true)]
        services: Vec<String>,
        /// Do not wait
        #[arg(short, long)]
        detach: bool,
    },
    /// Stop and start services
    Restart {
        #[arg(required = true)]
        services: Vec<String>,
        /// Do not wait
        #[arg(short, long)]
        detach: bool,
    },
    /// Send a signal to the main processes of services: `kill web`, `kill web HUP`, `kill -s HUP web db`
    Kill {
        #[arg(required = true, value_name = "SERVICES [SIGNAL]")]
        services: Vec<String>,
        /// Name or number [default: SIGKILL]
        #[arg(short, long)]
        signal: Option<String>,
    },
    /// Freeze services: they keep their memory, get no CPU, and are not checked
    Pause {
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Let services that are paused go on
    Unpause {
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Change limits of services that run, until their next life or an apply that changes their resources
    Update(Update),
    /// Have services read their configuration again, as their `reload` says
    Reload {
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Show output (default: of all services)
    Logs(Logs),
    /// Show transitions
    Events {
        /// Go on as they come
        #[arg(short, long)]
        follow: bool,
        /// From then on: a sequence number, a time in UTC (2026-12-01T08:00:00Z), or how long ago (10m)
        #[arg(long, value_name = "SEQ|TIME", value_parser = crate::moment::Since::parse)]
        since: Option<crate::moment::Since>,
    },
    /// Why services are as they are: their last transitions and their causes
    Why {
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Run a program in a service's container
    Exec(Exec),
    /// Join a service's output, and type to it if it has stdin_open; ends with it, by its exit code
    Attach(Attach),
    /// Run a container of its own once, with a service's settings and another command; ends with its exit code (125: it was not started,
    /// 126 or 127: its program could not be)
    Run(Run),
    /// Copy files and folders into a service, or out of it
    Cp(Cp),
    /// Read the config again and apply what changed
    Apply {
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// The config as it holds, each key with where it comes from
    Config { service: Option<String> },
    /// List plugins, or ask one
    #[command(subcommand)]
    Plugin(PluginVerb),
    /// Named volumes: list or remove them
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Secrets: which there are
    #[command(subcommand)]
    Secret(SecretVerb),
    /// Networks: list them, or show who is in one
    #[command(subcommand)]
    Network(NetworkVerb),
    /// Images: pull, list, inspect, rm, prune, import, export, mount (what sampan-image does; `image help` lists it)
    #[command(disable_help_flag = true)]
    Image {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "VERB")]
        args: Vec<OsString>,
    },
    /// What there is, a name a line, for shells that complete
    #[command(hide = true)]
    Names { kind: Kind },
    /// Versions of sampanctl and sampand
    Version,
}

/// What has names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Services,
    /// Services and one-offs
    All,
    Volumes,
    Networks,
    Plugins,
}

/// What is to be up.
#[derive(Debug, clap::Args)]
pub struct Up {
    pub services: Vec<String>,
    /// Where no sampand runs, start one in the background first
    #[arg(short, long)]
    pub detach: bool,
    /// With -d: the config file of a sampand that is started; may be repeated
    #[arg(long, short = 'c', value_name = "FILE", requires = "detach")]
    pub config: Vec<PathBuf>,
    /// With -d: a profile of a sampand that is started; may be repeated
    #[arg(long, value_name = "NAME", requires = "detach")]
    pub profile: Vec<String>,
    /// Until all are running, and healthy where there is a check
    #[arg(long)]
    pub wait: bool,
    /// With --wait: how long at most, in seconds
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub timeout: Option<u64>,
}

/// Which output, and how it is shown.
#[derive(Debug, clap::Args)]
pub struct Logs {
    pub services: Vec<String>,
    /// Go on as it comes
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with the last N lines of each, counted from the end of its log
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "until")]
    pub tail: Option<u64>,
    /// With the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Only lines from then on: a time in UTC (2026-12-01T08:00:00Z), or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = crate::moment::ago)]
    pub since: Option<String>,
    /// Only lines until then; not with --tail
    #[arg(long, value_name = "TIME", value_parser = crate::moment::ago)]
    pub until: Option<String>,
    /// Without the names of the services
    #[arg(long)]
    pub no_prefix: bool,
}

/// How a program is run in a container.
#[derive(Debug, clap::Args)]
pub struct Exec {
    pub service: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Give it a terminal (default: if this is one)
    #[arg(short, long)]
    pub tty: bool,
    /// For docker's `-it`; standard input is always passed on
    #[arg(short, long)]
    pub interactive: bool,
    /// As this user, in numbers
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Add to the environment (repeatable)
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// In this folder of the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
}

/// How a service is joined.
#[derive(Debug, clap::Args)]
pub struct Attach {
    pub service: String,
    /// Keys that detach from a service with a terminal: letters or ctrl-X; none: ""
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q", value_parser = crate::keys::Keys::parse)]
    pub detach_keys: crate::keys::Keys,
    /// Type nothing to it
    #[arg(long)]
    pub no_stdin: bool,
    /// Without a terminal: pass the signals that are sent to us on to it, as Ctrl-C
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub sig_proxy: bool,
}

/// What is run once, and how.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Nothing stays of it when it has ended; else the last ten can be asked about
    #[arg(long)]
    pub rm: bool,
    /// On its own: print its name, and do not wait for it
    #[arg(short, long)]
    pub detach: bool,
    /// For docker's `-it`; standard input is always passed on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal (default: if this is one)
    #[arg(short, long, conflicts_with_all = ["detach", "no_tty"])]
    pub tty: bool,
    /// Give it none, also if this is one
    #[arg(short = 'T', long = "no-tty")]
    pub no_tty: bool,
    /// Add to the environment, NAME alone as it is here (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// As this user, a name or a number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// In this folder of the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Call it so [default: SERVICE-run-NUMBER]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Neither start nor wait for what the service depends on
    #[arg(long)]
    pub no_deps: bool,
    /// Publish the service's ports
    #[arg(long)]
    pub service_ports: bool,
    pub service: String,
    /// In the place of the service's `command`; its `entrypoint` stays
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Limits as in config.toml.
#[derive(Debug, clap::Args)]
pub struct Update {
    #[arg(required = true)]
    pub services: Vec<String>,
    /// As 512M; of each of these limits `none` is no limit, and what is not given stays
    #[arg(short, long, value_name = "SIZE", required_unless_present_any = ["cpus", "pids"])]
    pub memory: Option<String>,
    /// How many may be busy all the time, as 1.5
    #[arg(long, value_name = "CPUS")]
    pub cpus: Option<String>,
    /// Processes and threads
    #[arg(long, value_name = "N")]
    pub pids: Option<String>,
}

/// What is copied, and to where.
#[derive(Debug, clap::Args)]
pub struct Cp {
    /// NAME:PATH in a service that runs, or a path here; PATH/. is what is in a folder
    pub from: String,
    /// The other one: a folder that is there, or a new name
    pub to: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Condition {
    Running,
    /// Running, and healthy where there is a check
    Healthy,
    /// The present life has ended; where nothing lives, the next one
    Exited,
    /// A job (restart no or on-failure) has ended, and is not tried again
    Done,
}

#[derive(Debug, Subcommand)]
pub enum PluginVerb {
    /// List them
    List,
    /// Forget what a plugin has done: a quarantine, panics, timeouts
    Reset { name: String },
    /// Send a plugin its control request
    Call { name: String, request: String },
}

#[derive(Debug, Subcommand)]
pub enum VolumeVerb {
    /// List them, with path, size and who has them
    #[command(visible_alias = "list")]
    Ls,
    /// Remove volumes that no service has, with all that is in them
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true)]
        volumes: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum SecretVerb {
    /// List them, with where they come from and who has them; what they are is not shown
    #[command(visible_alias = "list")]
    Ls,
}

#[derive(Debug, Subcommand)]
pub enum NetworkVerb {
    /// List them
    #[command(visible_alias = "list")]
    Ls,
    /// Everything about networks, as JSON
    Inspect {
        #[arg(required = true)]
        networks: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_counted_from_the_end_of_the_log_so_until_is_refused_with_them() {
        let parsed = |line: &str| Args::try_parse_from(line.split(' ')).map_err(|e| e.to_string());
        let refused = parsed("sampanctl logs web -n 10 --until 10m").unwrap_err();
        assert!(refused.contains("--tail") && refused.contains("--until"), "{refused}");
        for line in ["logs web -n 10 --since 10m", "logs web --since 2h --until 10m"] {
            assert!(parsed(&format!("sampanctl {line}")).is_ok(), "{line}");
        }
    }
}
