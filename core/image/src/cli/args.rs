//! What people type. `core/ctl/examples/manual.rs` makes its page and completions from this file.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

/// Gets images, keeps them unpacked, and makes roots of them.
///
/// Exit codes: 0 as asked, 1 failed, 2 usage, 3 no such image, 4 the registry refuses, 5 the registry or the way to it failed.
#[derive(Debug, Parser)]
#[command(name = "sampan-image", version, max_term_width = 100)]
pub struct Args {
    /// Where images are kept
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SAMPAN_IMAGES",
        default_value = "/var/lib/sampan/images"
    )]
    pub store: PathBuf,
    /// How to show how far it is
    #[arg(long, global = true, value_enum, default_value_t = Show::Auto)]
    pub progress: Show,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// A line that changes on a terminal, else plain lines
    Auto,
    /// A line for each step
    Plain,
    /// JSON objects, a line each, on standard output
    Json,
    /// Nothing
    None,
}

/// Of what comes in.
#[derive(Debug, Group)]
pub struct Incoming {
    /// For another machine than this one: os/architecture, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// MiB that the layers of an image may unpack to, together
    #[arg(long, value_name = "MIB")]
    pub max_size: Option<u64>,
    /// Files that the layers of an image may have, together
    #[arg(long, value_name = "N")]
    pub max_entries: Option<u64>,
    /// How many times its size a layer may unpack to
    #[arg(long, value_name = "N")]
    pub max_ratio: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Get images from their registries; what is here already is not fetched again
    Pull {
        #[arg(required = true)]
        images: Vec<String>,
        /// Ask MIRROR before REGISTRY (docker.io=mirror.example:5000); may be repeated
        #[arg(long, value_name = "REGISTRY=MIRROR")]
        mirror: Vec<String>,
        /// Ask this host without TLS; may be repeated
        #[arg(long, value_name = "HOST")]
        plain_http: Vec<String>,
        /// Trust the authorities in this file (PEM) too; may be repeated
        #[arg(long, value_name = "FILE")]
        ca: Vec<PathBuf>,
        #[command(flatten)]
        incoming: Incoming,
    },
    /// List the images that are here
    List {
        /// Names alone
        #[arg(short, long)]
        quiet: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Everything about one image, as JSON
    Inspect { image: String },
    /// Take names away; `prune` removes what then has none
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove what neither a name nor a service of sampand needs
    ///
    /// What `mount` has mounted and what `sampan run --image` runs is not known. If its name is gone or has moved on, give
    /// its digest to --keep, or its files are removed while it runs.
    Prune {
        /// A manifest's digest that is in use, by a mount or a container of `sampan run --image`; may be repeated
        #[arg(long, value_name = "DIGEST")]
        keep: Vec<String>,
    },
    /// Read images from an archive (docker save, OCI; packed or not), a folder with an OCI layout, or - for standard input
    Import {
        path: PathBuf,
        /// Call it so, whatever the archive calls it: a name without a digest
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        incoming: Incoming,
    },
    /// Mount an image on a folder; setuid programs and devices in it do nothing
    Mount {
        image: String,
        place: PathBuf,
        /// Let it be written to: what is written goes into this folder, and stays
        #[arg(long, value_name = "FOLDER")]
        upper: Option<PathBuf>,
        /// Let it be written to, in memory
        #[arg(long, conflicts_with = "upper")]
        scratch: bool,
    },
    /// Unmount what `mount` mounted
    Unmount { place: PathBuf },
    /// Write an image as an OCI archive, which docker can load too
    Export {
        image: String,
        /// To this file (default: standard output)
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}
