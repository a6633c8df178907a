//! What services share, as the config has it and as it is: volumes, secrets, networks.
use super::Worker;
use crate::life::{Context, reading};
use crate::request::{Answer, failure, no_such};
use crate::volumes;
use sampan_api as api;
use sampan_config::schema::{Config, NetworkMode, SecretSource, Service, VolumeSource};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The plugin that knows of networks.
const NETWORK: &str = "network";

/// Volumes by name.
type Volumes = BTreeMap<String, api::Volume>;

/// The volumes and bind mounts of the config and of what runs.
struct Inventory {
    /// Without those that are in the folder alone.
    volumes: Volumes,
    /// The names of all services.
    services: BTreeSet<String>,
    binds: Vec<Bind>,
    state_dir: PathBuf,
}

/// Paths as users wrote them -> without links.
type ResolvedPaths = BTreeMap<PathBuf, PathBuf>;

impl Inventory {
    /// All that users have named, and our own folder.
    fn paths(&self) -> BTreeSet<PathBuf> {
        let binds = self.binds.iter().map(|bind| bind.path.clone());
        let volumes = self.volumes.values().map(|volume| PathBuf::from(&volume.path));
        binds.chain(volumes).chain([volumes::folder(&self.state_dir)]).collect()
    }

    async fn resolved(&self, context: &Context) -> Result<ResolvedPaths, String> {
        let paths: Vec<PathBuf> = self.paths().into_iter().collect();
        let resolved = reading::real(&context.launchers, paths.clone()).await?;
        Ok(paths.into_iter().zip(resolved).collect())
    }
}

/// A path without links, by itself or by the folder that it is in; as it is written where it was not resolved.
fn resolve(path: &Path, resolved: &ResolvedPaths) -> PathBuf {
    let in_folder = || Some(resolved.get(path.parent()?)?.join(path.file_name()?));
    resolved.get(path).cloned().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

/// A path that a service has.
struct Bind {
    service: String,
    path: PathBuf,
    writes: bool,
}

impl Bind {
    /// Whether it has some of a volume, or may change it: what is read at a folder far above, as by a monitor that has all of the host,
    /// is no use of it.
    fn uses(&self, volume: &Path) -> bool {
        self.path.starts_with(volume) || (self.writes && volume.starts_with(&self.path))
    }
}

impl Worker {
    pub(super) fn volumes(&self, answer: Answer<Vec<api::Volume>>) {
        let (inventory, context) = (self.inventory(), self.context.clone());
        tokio::task::spawn_local(async move {
            // Where a path cannot be looked at they are told as they are written.
            let resolved = inventory.resolved(&context).await.unwrap_or_else(|why| {
                tracing::warn!("who uses a volume by its path is not known: {why}");
                ResolvedPaths::new()
            });
            tokio::task::spawn_blocking(move || {
                let all = all_volumes(inventory, &resolved);
                let _ = answer.send(all.map(|all| all.into_values().collect()));
            });
        });
    }

    /// Only of our own folder: what a path of the config's is else, nobody here knows.
    pub(super) fn remove_volume(&self, name: String, answer: Answer<api::Volume>) {
        let (inventory, context) = (self.inventory(), self.context.clone());
        tokio::task::spawn_local(async move {
            let resolved = match inventory.resolved(&context).await {
                Ok(resolved) => resolved,
                Err(why) => {
                    let why = format!("volume {name} stays: who uses it by its path is not known: {why}");
                    let _ = answer.send(Err(failure("refused", why)));
                    return;
                }
            };
            tokio::task::spawn_blocking(move || {
                let removed = remove(inventory, &resolved, &name);
                if removed.is_ok() {
                    tracing::info!(volume = name, "removed");
                }
                let _ = answer.send(removed);
            });
        });
    }

    /// What the config says of them.
    fn inventory(&self) -> Inventory {
        let mut volumes: Volumes = BTreeMap::new();
        for (name, volume) in &self.config.volumes {
            volumes.insert(name.clone(), volume_of(name, volume.path.display().to_string(), "config"));
        }
        // Those that live by an earlier config too.
        let live = self.fleet.entries.values().map(|entry| entry.config());
        let configured = self.config.services.values().map(|service| &**service);
        let (mut services, mut binds) = (BTreeSet::new(), Vec::new());
        for service in configured.chain(live) {
            services.insert(service.name.clone());
            for used in &service.volumes {
                match &used.source {
                    VolumeSource::Named(name, volume) => {
                        let path = volume.path.display().to_string();
                        let volume =
                            volumes.entry(name.clone()).or_insert_with(|| volume_of(name, path, "left"));
                        volume.services.push(service.name.clone());
                    }
                    VolumeSource::Path(path) => binds.push(Bind {
                        service: service.name.clone(),
                        path: path.clone(),
                        writes: !used.read_only,
                    }),
                }
            }
        }
        Inventory { volumes, services, binds, state_dir: self.context.dirs.state.clone() }
    }

    pub(super) fn secrets(&self) -> Vec<api::Secret> {
        let of = |name: &String, source: &SecretSource| {
            let (kind, from) = match source {
                SecretSource::File(path) => ("file", path.display().to_string()),
                SecretSource::Environment(variable) => ("environment", variable.clone()),
                SecretSource::Command(argv) => ("command", argv.first().cloned().unwrap_or_default()),
            };
            let has = |service: &&Service| service.secrets.iter().any(|used| used.source == *name);
            let services = self.config.services.values().map(|service| &**service).filter(has);
            api::Secret {
                name: name.clone(),
                kind: kind.into(),
                from,
                services: services.map(|service| service.name.clone()).collect(),
            }
        };
        self.config.secrets.iter().map(|(name, secret)| of(name, &secret.source)).collect()
    }

    /// Without the plugin they are what the config says.
    pub(super) fn networks(&self, answer: Answer<Vec<api::Network>>) {
        let (context, mut all) = (self.context.clone(), configured(&self.config));
        tokio::task::spawn_local(async move {
            match context.plugins.control(NETWORK, &serde_json::json!({ "verb": "status" })).await {
                Ok((status, _)) => all.iter_mut().for_each(|network| add_status(network, &status)),
                Err(error) => tracing::debug!("networks are told without their plugin: {error}"),
            }
            let _ = answer.send(Ok(all));
        });
    }
}

fn volume_of(name: &str, path: String, kind: &str) -> api::Volume {
    api::Volume { name: name.into(), path, kind: kind.into(), services: Vec::new() }
}

/// With those that are in the folder alone, and with all who use them.
fn all_volumes(inventory: Inventory, resolved: &ResolvedPaths) -> Result<Volumes, api::Failure> {
    let Inventory { volumes: mut all, services, mut binds, state_dir } = inventory;
    let folder = volumes::folder(&state_dir);
    let cannot = |error| failure("internal", format!("cannot look into {}: {error}", folder.display()));
    for name in volumes::names(&state_dir).map_err(cannot)? {
        let path = folder.join(&name).display().to_string();
        // Of an image, it is called by its service and its place there: `web+var+lib`.
        let owner = name.split_once('+').map(|(service, _)| service.to_owned());
        let owner = owner.filter(|service| services.contains(service));
        let kind = if owner.is_some() { "image" } else { "left" };
        let volume = all.entry(name.clone()).or_insert_with(|| volume_of(&name, path, kind));
        volume.services.extend(owner);
    }
    for bind in &mut binds {
        bind.path = resolve(&bind.path, resolved);
    }
    for volume in all.values_mut() {
        let path = resolve(Path::new(&volume.path), resolved);
        let using = binds.iter().filter(|bind| bind.uses(&path));
        volume.services.extend(using.map(|bind| bind.service.clone()));
        volume.services.sort();
        volume.services.dedup();
    }
    Ok(all)
}

fn remove(inventory: Inventory, resolved: &ResolvedPaths, name: &str) -> Result<api::Volume, api::Failure> {
    let state_dir = inventory.state_dir.clone();
    let mut all = all_volumes(inventory, resolved)?;
    let Some(volume) = all.remove(name) else {
        return Err(no_such("volume", name, &all.keys().map(String::as_str).collect::<Vec<_>>()));
    };
    may_go(&volume, &state_dir)?;
    match volumes::remove(&state_dir, name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failure("internal", format!("cannot remove {}: {error}", volume.path)))
        }
        _ => Ok(volume),
    }
}

fn may_go(volume: &api::Volume, state_dir: &Path) -> Result<(), api::Failure> {
    let name = &volume.name;
    if !volume.services.is_empty() {
        let services = volume.services.join(", ");
        return Err(failure(
            "refused",
            format!(
                "volume {name} is used by {services}; take it out of config.toml there, then `sampanctl apply`"
            ),
        ));
    }
    let ours = volumes::folder(state_dir).join(name);
    if Path::new(&volume.path) != ours {
        return Err(failure(
            "refused",
            format!(
                "volume {name} is at {}, where config.toml puts it; remove what is there yourself",
                volume.path
            ),
        ));
    }
    Ok(())
}

fn configured(config: &Config) -> Vec<api::Network> {
    let is_in = |service: &&Service, name: &str| {
        service.network_mode == NetworkMode::Bridge
            && service.networks.iter().any(|membership| membership.network == name)
    };
    let of = |(name, network): (&String, &sampan_config::schema::Network)| api::Network {
        name: name.clone(),
        internal: network.internal,
        services: config
            .services
            .values()
            .map(|service| &**service)
            .filter(|service| is_in(service, name))
            .map(|service| service.name.clone())
            .collect(),
        ..api::Network::default()
    };
    config.networks.iter().map(of).collect()
}

/// What the plugin says of a network. Its answer is not trusted to have any form.
fn add_status(network: &mut api::Network, status: &serde_json::Value) {
    let text = |value: &serde_json::Value, field: &str| {
        value.get(field).and_then(|value| value.as_str()).map(str::to_owned)
    };
    let of =
        status.get("networks").and_then(|all| all.get(&network.name)).unwrap_or(&serde_json::Value::Null);
    network.up = of.get("up").and_then(serde_json::Value::as_bool).unwrap_or_default();
    network.bridge = text(of, "bridge");
    network.subnet = text(of, "subnet");
    network.gateway = text(of, "gateway");
    network.ipv6_prefix = text(of, "ipv6_prefix");
    let services = status.get("services").and_then(|all| all.as_object());
    for (service, of) in services.into_iter().flatten() {
        let places = of.get("networks").and_then(|all| all.as_array());
        for place in places.into_iter().flatten() {
            if text(place, "network").as_deref() == Some(&network.name) {
                network.members.push(api::Member {
                    service: service.clone(),
                    interface: text(place, "interface").unwrap_or_default(),
                    address: text(place, "address"),
                    ipv6_address: text(place, "ipv6_address"),
                    mac: text(place, "mac"),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_volumes_path_uses_it_too() {
        let kept = sampan_testkit::Folder::new();
        let state_dir = kept.path("state");
        let folder = volumes::folder(&state_dir);
        for name in ["data", "data2"] {
            std::fs::create_dir_all(folder.join(name).join("in it")).unwrap();
        }
        std::os::unix::fs::symlink(folder.join("data"), kept.path("link")).unwrap();
        let cases = [
            (folder.join("data"), false, "data"),
            (folder.join("data/in it"), false, "data"),
            (kept.path("link/in it"), true, "data"),
            (folder.clone(), true, "data data2"),
            (state_dir.clone(), true, "data data2"),
            (PathBuf::from("/"), true, "data data2"),
            // A monitor's.
            (PathBuf::from("/"), false, ""),
            (kept.path("elsewhere"), true, ""),
        ];
        for (path, writes, used) in cases {
            let bind = Bind { service: "web".into(), path: path.clone(), writes };
            let inventory = Inventory {
                volumes: Volumes::new(),
                services: BTreeSet::new(),
                binds: vec![bind],
                state_dir: state_dir.clone(),
            };
            let resolved =
                inventory.paths().into_iter().map(|path| (path.clone(), reading::real_path(&path)));
            let resolved = resolved.collect();
            let all = all_volumes(inventory, &resolved).unwrap();
            let is_used = |volume: &&api::Volume| volume.services == ["web"];
            let found: Vec<&str> = all.values().filter(is_used).map(|volume| &*volume.name).collect();
            assert_eq!(found.join(" "), used, "{} {writes}", path.display());
        }
    }

    #[test]
    fn a_plugin_may_answer_anything() {
        let network = || api::Network { name: "default".into(), ..api::Network::default() };
        for strange in ["null", "[]", "7", r#"{"networks":[]}"#, r#"{"networks":{"default":7},"services":7}"#]
        {
            let mut told = network();
            add_status(&mut told, &serde_json::from_str(strange).unwrap());
            assert_eq!(told, network(), "{strange}");
        }
        let status = serde_json::json!({
            "networks": { "default": { "up": true, "bridge": "sp-default", "subnet": "10.144.0.0/20" } },
            "services": {
                "web": { "networks": [{ "network": "default", "interface": "eth0", "address": "10.144.0.2" }] },
                "db": { "networks": [{ "network": "back", "interface": "eth0", "address": "10.144.16.2" }] },
            },
        });
        let mut told = network();
        add_status(&mut told, &status);
        assert_eq!((told.up, told.subnet.as_deref()), (true, Some("10.144.0.0/20")));
        assert_eq!(told.members.iter().map(|member| member.service.as_str()).collect::<Vec<_>>(), ["web"]);
    }
}
