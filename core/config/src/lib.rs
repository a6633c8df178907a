//! config.toml: from files to a resolved [`Config`], with every mistake found in one run.
//!
//! ```text
//! files -> read, include -> short forms long -> merged tree -> decoded -> checked across services
//!          tree.rs, read.rs  merge.rs           known.rs      decode/    check.rs
//! ```
//! The tree keeps each value's place, so that whatever is said later can be underlined. What a config *does* is not
//! here: `bundle` turns a service into a container, the worker follows `diff`.

#![forbid(unsafe_code)]

#[expect(clippy::disallowed_methods, reason = "for inputs.rs")]
pub mod glob;
pub mod near;
pub mod units;
pub mod variables;
pub mod words;

pub mod env_file;
pub mod keys;
pub mod elsewhere;
pub mod schema;
pub mod source;

pub mod diagnostic;
#[expect(clippy::disallowed_methods, reason = "for inputs.rs")]
mod file;
#[expect(clippy::disallowed_methods, reason = "here the host is asked")]
mod inputs;
mod tree;

mod merge;

mod known;
mod read;

mod decode;

pub mod check;
pub mod explain;

pub mod diff;
pub mod docs;
pub mod json_schema;
pub mod manual;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use decode::{CAPABILITIES, DEFAULT};
pub use diagnostic::Diagnostic;
pub use file::read_text;
pub use inputs::{Builtin, Inputs, Tell, zone};
pub use known::is_name;
pub use sampan_runtime::kernel::trust::plain;
pub use schema::Config;

use decode::{Cx, Fields};
use explain::Origins;
use inputs::Asked;
use read::Broken;
use schema::{Network, Plugin};
use tree::{Node, Table, Value};

/// A config and what is known about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub origins: Origins,
    pub warnings: Vec<Diagnostic>,
    /// What it was made from.
    pub inputs: Inputs,
}

/// Reads and resolves; later files win. All mistakes, in the order of the files.
pub fn load(
    paths: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    builtin: &Builtin,
) -> Result<Loaded, Vec<Diagnostic>> {
    load_and_tell(paths, env, &|_, _| {}, builtin)
}

/// The same, for whoever must say what it hangs in.
pub fn load_and_tell(
    paths: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    tell: &Tell<'_>,
    builtin: &Builtin,
) -> Result<Loaded, Vec<Diagnostic>> {
    make(host(paths, env, tell, builtin)?)
}

/// The config that was once made from these, whatever became of the files.
pub fn again(inputs: &Inputs) -> Result<Loaded, Vec<Diagnostic>> {
    make(Asked::again(inputs))
}

/// Where the run folder is, as far as that can be read in files that may hold any mistake.
pub fn run_dir(paths: &[PathBuf], env: &dyn Fn(&str) -> Option<String>, builtin: &Builtin) -> PathBuf {
    let Ok(asked) = host(paths, env, &|_, _| {}, builtin) else { return builtin.run_dir.clone() };
    let tree = read::Reader::new(&asked, Broken::Read).all();
    let cx = Cx { asked: &asked, errors: RefCell::default(), warnings: RefCell::default() };
    decode::supervisor(&Fields::new(&cx, tree.get("supervisor"), "supervisor"), builtin).run_dir
}

fn host<'e>(
    paths: &[PathBuf],
    env: &'e dyn Fn(&str) -> Option<String>,
    tell: &'e Tell<'e>,
    builtin: &Builtin,
) -> Result<Asked<'e>, Vec<Diagnostic>> {
    Asked::host(paths, env, tell, builtin).map_err(|why| vec![Diagnostic::nowhere("", why, "")])
}

fn make(asked: Asked<'_>) -> Result<Loaded, Vec<Diagnostic>> {
    let mut reader = read::Reader::new(&asked, Broken::Skipped);
    let tree = reader.all();
    let mut errors = reader.errors;
    if reader.incomplete {
        diagnostic::sort(&mut errors);
        return Err(errors);
    }
    let cx = Cx { asked: &asked, errors: RefCell::default(), warnings: RefCell::new(reader.warnings) };
    let mut origins = Origins::default();
    let config = resolve(&cx, tree, &mut origins, &mut errors);
    errors.extend(cx.errors.into_inner());
    let mut warnings = cx.warnings.into_inner();
    if errors.is_empty() {
        origins.pack();
        diagnostic::sort(&mut warnings);
        return Ok(Loaded { config, origins, warnings, inputs: asked.into_inputs() });
    }
    diagnostic::sort(&mut errors);
    Err(errors)
}

fn resolve(cx: &Cx<'_>, mut tree: Table, origins: &mut Origins, errors: &mut Vec<Diagnostic>) -> Config {
    let defaults = tree.remove("defaults");
    let mut services = tree.remove("services");
    if let Some(Value::Table(services)) = services.as_mut().map(|n| &mut n.value) {
        inherit(services, defaults);
    }
    let top = Fields::new(cx, None, "");
    if let Some(version) = tree.get("version") {
        let field = decode::Field { cx, node: version, path: "version".into() };
        if field.integer(0..=i64::MAX).is_some_and(|n| n != 1) {
            field.wrong("no such version", "this sampand reads version = 1");
        }
    }
    let supervisor =
        decode::supervisor(&Fields::new(cx, tree.get("supervisor"), "supervisor"), &cx.asked.builtin());
    // Whoever opens plugins waits for as long as it takes: whether that can be is seen now, under whoever watches this.
    cx.asked.is_folder(&supervisor.plugin_dir, "supervisor.plugin_dir");
    let mut networks: BTreeMap<String, Network> = BTreeMap::new();
    networks.insert("default".into(), decode::network(&top));
    for (name, node) in tables(&tree, "networks") {
        let path = merge::join("networks", name);
        networks.insert(name.clone(), decode::network(&Fields::new(cx, Some(node), path)));
    }
    let plugins: BTreeMap<String, Plugin> = tables(&tree, "plugins")
        .map(|(name, node)| {
            let fields = Fields::new(cx, Some(node), merge::join("plugins", name));
            let plugin = decode::plugin(name, &fields, &supervisor.plugin_dir);
            cx.asked.exists(&plugin.path, &merge::join(&merge::join("plugins", name), "path"));
            (name.clone(), plugin)
        })
        .collect();
    let stores = stores(cx, &tree, &supervisor.state_dir);
    let drafts: BTreeMap<String, decode::Draft> = services
        .iter()
        .filter_map(Node::table)
        .flatten()
        .filter(|(_, node)| node.table().is_some())
        .map(|(name, node)| (name.clone(), decode::service(cx, name, node, &stores)))
        .collect();
    let network_nodes = tree.get("networks").and_then(Node::table);
    check::check(cx.asked, &drafts, &networks, network_nodes, errors, &mut cx.warnings.borrow_mut());
    let profiles = cx.asked.builtin().profiles;
    cx.warnings.borrow_mut().extend(check::unused_profiles(&profiles, &drafts));
    for (name, node) in &tree {
        origins.collect(name, node);
    }
    if let Some(node) = &services {
        origins.collect("services", node);
    }
    Config {
        supervisor,
        services: drafts.into_iter().map(|(n, d)| (n, Arc::new(d.service))).collect(),
        networks,
        volumes: stores.volumes.all,
        secrets: stores.secrets.all,
        plugins,
        profiles,
    }
}

/// A secret that is wrong is none, and then those who name it are told so too: one more line, and no wrong one.
fn stores(cx: &Cx<'_>, tree: &Table, state_dir: &Path) -> decode::Stores {
    let volume = |(name, node): (&String, &Node)| {
        let fields = Fields::new(cx, Some(node), merge::join("volumes", name));
        (name.clone(), decode::volume(name, &fields, state_dir))
    };
    let secret = |(name, node): (&String, &Node)| {
        let fields = Fields::new(cx, Some(node), merge::join("secrets", name));
        Some((name.clone(), decode::secret(&fields, &node.key)?))
    };
    decode::Stores {
        volumes: decode::Named { section: "volumes", all: tables(tree, "volumes").map(volume).collect() },
        secrets: decode::Named {
            section: "secrets",
            all: tables(tree, "secrets").filter_map(secret).collect(),
        },
    }
}

fn tables<'t>(tree: &'t Table, name: &str) -> impl Iterator<Item = (&'t String, &'t Node)> {
    tree.get(name).and_then(Node::table).into_iter().flatten().filter(|(_, node)| node.table().is_some())
}

/// `[defaults]` beneath every service; beneath one with a bundle, only what config.json does not describe.
fn inherit(services: &mut Table, defaults: Option<Node>) {
    let Some(Node { value: Value::Table(mut defaults), .. }) = defaults else { return };
    defaults.values_mut().for_each(Node::inherit);
    for node in services.values_mut() {
        let Value::Table(service) = &mut node.value else { continue };
        let mut whole = defaults.clone();
        let own_root = service.contains_key("rootfs") || service.contains_key("image");
        if service.contains_key("bundle") || (whole.contains_key("bundle") && !own_root) {
            without_oci(&mut whole, &mut Vec::new());
        }
        merge::overlay_service(&mut whole, std::mem::take(service));
        *service = whole;
    }
}

fn without_oci(table: &mut Table, above: &mut Vec<String>) {
    table.retain(|name, node| {
        above.push(name.clone());
        let path: Vec<&str> = above.iter().map(String::as_str).collect();
        let keep = match keys::find(keys::SERVICE, &path) {
            keys::Found::Key(key) => !key.oci,
            _ => {
                if let Value::Table(inner) = &mut node.value {
                    without_oci(inner, above);
                }
                true
            }
        };
        above.pop();
        keep
    });
}

/// `sampand --check`: what to print and the exit code; also what a refused `apply` prints.
pub fn report(
    paths: &[PathBuf],
    result: &Result<Loaded, Vec<Diagnostic>>,
    color: bool,
    as_json: bool,
) -> (String, u8) {
    let name = paths.first().map_or("config".into(), |p| p.display().to_string());
    let (list, code) = match result {
        Ok(loaded) => (&loaded.warnings, 0),
        Err(errors) => (errors, 2),
    };
    if as_json {
        return (format!("{:#}\n", diagnostic::to_json(list)), code);
    }
    let mut text = diagnostic::render(list, color);
    text.push_str(&match result {
        Ok(loaded) => match loaded.config.services.len() {
            1 => format!("{name}: 1 service, no errors\n"),
            n => format!("{name}: {n} services, no errors\n"),
        },
        Err(errors) if errors.len() == 1 => format!("{name}: 1 error, nothing changed\n"),
        Err(errors) => format!("{name}: {} errors, nothing changed\n", errors.len()),
    });
    (text, code)
}
