//! What people type.
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
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Apply the config and start services (default: all)
    Up {
        services: Vec<String>,
        /// Until all are running, and healthy where there is a check
        #[arg(long)]
        wait: bool,
        /// With --wait: how long at most, in seconds
        #[arg(long, value_name = "SECONDS", requires = "wait")]
        timeout: Option<u64>,
    },
    /// Stop everything in reverse order; sampand ends
    Down,
    /// List the services (restarts and exits of this run of sampand; `inspect` has totals)
    Ps {
        /// Names alone
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show services with their last transitions (default: all)
    Status { services: Vec<String> },
    /// Everything about one service
    Inspect { service: String },
    /// Start services and what they depend on
    Start {
        #[arg(required = true)]
        services: Vec<String>,
        /// Do not wait
        #[arg(short, long)]
        detach: bool,
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
    /// Send a signal to the main process
    Kill {
        service: String,
        /// Name or number
        #[arg(short, long, default_value = "SIGKILL")]
        signal: String,
    },
    /// Show output (default: of all services)
    Logs {
        services: Vec<String>,
        /// Go on as it comes
        #[arg(short, long)]
        follow: bool,
        /// Begin with the last N lines of each
        #[arg(short = 'n', long, value_name = "N")]
        tail: Option<u64>,
        /// With the time of each line
        #[arg(short, long)]
        timestamps: bool,
    },
    /// Show transitions
    Events {
        /// Go on as they come
        #[arg(short, long)]
        follow: bool,
        /// From this sequence number on
        #[arg(long, value_name = "SEQ")]
        since: Option<u64>,
    },
    /// Why a service is as it is: its last transitions and their causes
    Why { service: String },
    /// Run a program in a service's container
    Exec {
        service: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
        /// Give it a terminal (default: if this is one)
        #[arg(short, long)]
        tty: bool,
    },
    /// Read the config again and apply what changed
    Apply,
    /// The config as it holds, each key with where it comes from
    Config { service: Option<String> },
    /// List plugins, or ask one
    #[command(subcommand)]
    Plugin(PluginVerb),
    /// Images: pull, list, inspect, rm, prune, import, export, mount (what sampan-image does; `image help` lists it)
    #[command(disable_help_flag = true)]
    Image {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "VERB")]
        args: Vec<OsString>,
    },
    /// Versions of sampanctl and sampand
    Version,
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
