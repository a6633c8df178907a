//! What a launch is made from: the spec of a service with what plugins have answered, or that of the life before, where nothing that
//! it was made from has changed since.
//!
//! ```text
//!   the service's config, all networks    the same object: another one comes with each `apply`
//!   what is in its root, its volumes..    looked at for each life, by a launching process: the same text
//!   names of what was kept (fd_store_max) looked at for each life: the same
//!   the host's limits                     read for each life: the same text
//!   plugins' answers to `create`          asked for each life, unless a plugin calls its answer stable: the same text
//!   what the bundle says                  read by the launching process, unless it has compiled just that: the same text
//!   the host as a plan sees it            looked at for each launch (`compiled`): the same facts
//! ```
//! Where no plugin is asked, the launch and the look are one order, and it is launched if the look finds the same.
//! All have to hold. Nothing is kept but digests and answers, and nothing over a life that failed to begin, or over a worker.
use super::fd_store::Stored;
use super::launcher::Launcher;
use super::relayed::Relayed;
use super::talk::{Order, Said};
use super::{Context, Joined, Kept, OfClient, Wanted, confused, needs, of_config, of_plugin};
use sampan_bundle as bundle;
use sampan_bundle::image::Used;
use sampan_config::Config;
use sampan_config::schema::Service;
use sampan_plugin_host::digest::{Digest, digest};
use sampan_plugin_host::{self as plugins, Document, Failure};
use sampan_service::Problem;
use serde_json::Value;
use std::rc::{self, Rc};
use std::sync::{Arc, Weak};

/// What a life is made from.
pub struct Basis {
    pub created: Rc<plugins::Created>,
    /// None: the bundle says it.
    pub spec: Option<Value>,
    pub image: Option<(Used, Arc<Service>)>,
    /// Of `linux.resources`.
    pub resources: Option<Digest>,
    pub has_hooks: bool,
    /// It has a namespace of processes of its own.
    pub own_pids: bool,
    pub relayed: Relayed,
    /// It is as the life before if a look finds the same: the launching process has yet to take it.
    pub assumed: Option<(bundle::Look, Digest)>,
    key: Key,
    table: Document,
}

/// What it was made from, to see whether that is still the same.
#[derive(Debug, Clone)]
struct Key {
    config: Weak<Service>,
    all: rc::Weak<Config>,
    host: Digest,
    /// Names of what was kept for it.
    stored: Vec<String>,
    facts: Digest,
}

/// That of the life before, with what its bundle says.
#[derive(Debug)]
pub struct Earlier {
    key: Key,
    pub bundled: Digest,
    created: Rc<plugins::Created>,
    table: Document,
    image: Option<(Used, Arc<Service>)>,
    resources: Option<Digest>,
    pub has_hooks: bool,
    pub own_pids: bool,
    pub relayed: Relayed,
}

/// Whoever makes it.
pub struct Maker<'m> {
    pub context: &'m Context,
    pub wanted: &'m Wanted,
    pub joined: &'m [Joined],
    /// Standard streams of its own.
    pub stdio: Option<OfClient>,
    /// What was kept for it.
    pub stored: Vec<Stored>,
    pub launcher: &'m Launcher,
}

/// Why it cannot be made.
struct Unmade(Problem);

impl From<Failure> for Unmade {
    fn from(failure: Failure) -> Unmade {
        Unmade(of_plugin(failure))
    }
}

/// The spec of a service as the config says it, from what is found in its root.
struct Prepared {
    spec: Value,
    /// Files of the root that a plugin may mount over.
    network_files: Vec<String>,
    image: Option<(Used, Arc<Service>)>,
}

impl Basis {
    /// For the next life.
    pub fn kept(self, bundled: Digest) -> Earlier {
        let Basis { created, image, resources, has_hooks, own_pids, relayed, key, table, .. } = self;
        Earlier { key, bundled, created, table, image, resources, has_hooks, own_pids, relayed }
    }
}

impl Maker<'_> {
    /// Plugins' `create`, and what it takes to ask them.
    pub async fn basis(&self, earlier: Option<Earlier>, kept: &mut Kept) -> Result<Basis, Problem> {
        let Wanted { config, all, .. } = self.wanted;
        let host = digest(&bundle::host_text());
        // The namespaces of another service's process are in the spec by its number.
        let earlier =
            earlier.filter(|earlier| self.joined.is_empty() && earlier.key.is_of(config, all, host));
        let stored = self.stored_names();
        let earlier = earlier.filter(|earlier| earlier.key.stored == stored);
        let (weak, all) = (Arc::downgrade(config), Rc::downgrade(all));
        let key = |facts| Key { config: weak, all, host, stored, facts };
        let earlier = match earlier {
            // Nobody is asked, so nobody's `detach` need be over.
            Some(earlier) if self.asks_nobody(&earlier) => {
                return self.assumed(key(earlier.key.facts), earlier).await;
            }
            earlier => earlier,
        };
        let (facts, found) = self.look(earlier.as_ref().map(|earlier| earlier.key.facts)).await?;
        kept.detached().await;
        let key = key(facts);
        match (found, earlier) {
            (None, Some(earlier)) => self.again(key, earlier).await,
            (None, None) => Err(Problem::Io("nothing was found where something was looked for".into())),
            (Some(found), _) => self.anew(key, &found).await,
        }
    }

    /// What was assumed is not so: this is found.
    pub async fn basis_of(
        &self,
        assumed: &Basis,
        facts: Digest,
        found: &str,
        kept: &mut Kept,
    ) -> Result<Basis, Problem> {
        kept.detached().await;
        self.anew(Key { facts, ..assumed.key.clone() }, found).await
    }

    fn asks_nobody(&self, earlier: &Earlier) -> bool {
        let (service, needs) = (&self.wanted.config.name, needs(&self.wanted.config));
        self.context.plugins.asks_nobody(service, needs, &earlier.created)
    }

    async fn assumed(&self, key: Key, earlier: Earlier) -> Result<Basis, Problem> {
        let (look, facts) = (self.what_to_look_at(), key.facts);
        let basis = self.again(key, earlier).await?;
        Ok(Basis { assumed: Some((look, facts)), ..basis })
    }

    /// The spec once more that plugins' answers have made, for a bundle that does not say it any more.
    pub async fn spec_again(&self, basis: &Basis) -> Result<Value, Problem> {
        let mut spec = self.prepared_anew().await?.spec;
        self.context.plugins.merged_again(&self.wanted.ctx, &basis.table, &basis.created, &mut spec);
        Ok(spec)
    }

    async fn anew(&self, key: Key, found: &str) -> Result<Basis, Problem> {
        let (context, ctx, config) = (self.context, &self.wanted.ctx, &self.wanted.config);
        let Prepared { mut spec, network_files, image } = self.prepared(found)?;
        self.wanted.under_way.now("the plugins' create");
        let table = service_table(config, &self.wanted.all, network_files);
        let created =
            context.plugins.create(ctx, &table, needs(config), &mut spec).await.map_err(of_plugin)?;
        let table = context.plugins.table(ctx.handle).unwrap_or_default();
        let relayed = Relayed::of(&spec, config.stdin_open);
        Ok(Basis::of(key, table, image, created, spec, relayed))
    }

    async fn again(&self, key: Key, earlier: Earlier) -> Result<Basis, Problem> {
        let (context, ctx) = (self.context, &self.wanted.ctx);
        let Earlier { created, table, image, resources, has_hooks, own_pids, relayed, .. } = earlier;
        self.wanted.under_way.now("the plugins' create");
        let build = async || self.prepared_anew().await.map(|prepared| prepared.spec).map_err(Unmade);
        let needs = needs(&self.wanted.config);
        let other = context.plugins.create_again(ctx, &table, needs, &created, build).await;
        Ok(match other.map_err(|Unmade(problem)| problem)? {
            None => {
                let (spec, assumed) = (None, None);
                Basis { created, spec, image, resources, has_hooks, own_pids, relayed, assumed, key, table }
            }
            Some((created, spec)) => {
                let relayed = Relayed::of(&spec, self.wanted.config.stdin_open);
                Basis::of(key, table, image, created, spec, relayed)
            }
        })
    }

    async fn prepared_anew(&self) -> Result<Prepared, Problem> {
        let (_, found) = self.look(None).await?;
        self.prepared(&found.unwrap_or_default())
    }

    /// What is found on a look at all that the service names on disk; None where that is the same as before.
    async fn look(&self, before: Option<Digest>) -> Result<(Digest, Option<String>), Problem> {
        let (under_way, look) = (&self.wanted.under_way, self.what_to_look_at());
        under_way.now(format!("a look at {}", look.at().display()));
        self.launcher.send(&Order::Look(look.into(), before), "")?;
        match self.launcher.next(under_way).await? {
            (Said::Looked(Ok(now)), text, _) => Ok((now, (before != Some(now)).then_some(text))),
            (Said::Looked(Err(text)), ..) => Err(Problem::Config(text)),
            (said, ..) => Err(confused(&said)),
        }
    }

    fn what_to_look_at(&self) -> bundle::Look {
        bundle::Look::of(&self.wanted.config, &self.context.dirs.run, &self.context.dirs.state)
    }

    fn stored_names(&self) -> Vec<String> {
        self.stored.iter().map(|stored| stored.name.clone()).collect()
    }

    fn prepared(&self, found: &str) -> Result<Prepared, Problem> {
        let (context, config) = (self.context, &self.wanted.config);
        let facts: bundle::Facts = serde_json::from_str(found).map_err(super::of_io)?;
        let one = |joined: &Joined| {
            let Joined { key, pid, ref service, .. } = *joined;
            bundle::Joined { key, pid, spec: context.spec_of(service) }
        };
        let joined: Vec<bundle::Joined> = self.joined.iter().map(one).collect();
        let (cgroup_parent, stored) = (context.cgroup_parent.as_str(), &self.stored_names());
        let request = bundle::Request { service: config, cgroup_parent, joined: &joined, stored };
        let built = bundle::build(&request, &facts).map_err(of_config)?;
        for warning in &built.warnings {
            context.warn(&config.name, warning);
        }
        let image = match facts.image.map(|image| image.used()) {
            Some(used) => {
                let led = used.leads(config).map_err(Problem::Config)?;
                Some((used, led))
            }
            None => None,
        };
        Ok(Prepared { spec: built.spec, network_files: built.network_files, image })
    }
}

impl Basis {
    fn of(
        key: Key,
        table: Document,
        image: Option<(Used, Arc<Service>)>,
        created: plugins::Created,
        spec: Value,
        relayed: Relayed,
    ) -> Basis {
        Basis {
            resources: spec.pointer("/linux/resources").map(|resources| digest(&resources.to_string())),
            has_hooks: spec.get("hooks").is_some(),
            own_pids: has_own_pids(&spec),
            relayed,
            assumed: None,
            created: Rc::new(created),
            spec: Some(spec),
            image,
            key,
            table,
        }
    }
}

impl Key {
    fn is_of(&self, config: &Arc<Service>, all: &Rc<Config>, host: Digest) -> bool {
        let is_same_config = std::ptr::eq(self.config.as_ptr(), Arc::as_ptr(config));
        is_same_config && std::ptr::eq(self.all.as_ptr(), Rc::as_ptr(all)) && self.host == host
    }
}

fn has_own_pids(spec: &Value) -> bool {
    let namespaces = spec.pointer("/linux/namespaces").and_then(Value::as_array);
    let is_own = |one: &Value| one["type"] == "pid" && one.get("path").is_none();
    namespaces.into_iter().flatten().any(is_own)
}

/// What plugins see of a service: its table of config.toml, resolved, the networks it may name, and the files of its root that a plugin
/// for networks may mount over.
fn service_table(service: &Service, all: &Config, network_files: Vec<String>) -> Value {
    let mut table = serde_json::to_value(service).unwrap_or_default();
    if let Some(table) = table.as_object_mut() {
        table.insert("name".into(), service.name.as_str().into());
        table.insert("network_definitions".into(), serde_json::to_value(&all.networks).unwrap_or_default());
        table.insert("network_files".into(), network_files.into());
        table.insert("explicit".into(), service.resources.written().into());
    }
    table
}
