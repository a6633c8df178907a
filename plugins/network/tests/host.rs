//! An engine on a host of its own, driven without the plugin ABI.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use network::config::Config;
use network::engine::{Engine, HostFacts};
use network::ipv6;
use network::records::{Effect, Records};
use sampan_testkit::Folder;
use serde_json::{Value, json};

use crate::world::{Namespace, forwarding, run};

/// An engine and what it wrote down. Its crash is losing the first and keeping the second.
pub struct Host {
    pub engine: Option<Engine>,
    pub config: Value,
    pub kv: BTreeMap<String, Value>,
    pub keel: BTreeMap<String, OwnedFd>,
    pub containers: BTreeMap<String, Namespace>,
    /// Where its resolv.conf is.
    pub folder: Folder,
}

impl Host {
    pub fn new(config: Value) -> Host {
        let mut host = Host {
            engine: None,
            config,
            kv: BTreeMap::new(),
            keel: BTreeMap::new(),
            containers: BTreeMap::new(),
            folder: Folder::new(),
        };
        host.open();
        host
    }

    fn open(&mut self) {
        let config: Config = serde_json::from_value(self.config.clone()).unwrap();
        let mut records = Records::default();
        for (key, value) in &self.kv {
            let value = value.clone();
            match key.split_once('/') {
                Some(("service", name)) => {
                    records.services.push((name.into(), serde_json::from_value(value).unwrap()))
                }
                Some((_, name)) => {
                    records.networks.push((name.into(), serde_json::from_value(value).unwrap()))
                }
                None => panic!("{key}"),
            }
        }
        let facts = HostFacts { machine: "test".into(), etc: self.folder.0.clone(), ipv6: ipv6::is_there() };
        self.engine = Some(Engine::new(config, facts, records));
    }

    /// As after `kill -9` of the worker: the containers live, so does the keel.
    pub fn crash_and_reopen(&mut self) {
        self.engine = None;
        self.open();
        let kept = self.keel.iter().map(|(k, fd)| (k.clone(), fd.try_clone().unwrap())).collect();
        let unknown = self.engine().adopt(kept);
        self.carry_out(unknown);
        let live: Vec<String> = self.containers.keys().cloned().collect();
        self.run(|engine, effects| engine.synchronize(&live, effects)).unwrap();
        for name in live {
            self.attach(&name).unwrap();
        }
    }

    pub fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    pub fn run(
        &mut self,
        step: impl FnOnce(&mut Engine, &mut Vec<Effect>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut effects = Vec::new();
        let done = step(self.engine(), &mut effects);
        self.carry_out(effects);
        done
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Put(key, value) => drop(self.kv.insert(key, value)),
                Effect::Delete(key) => drop(self.kv.remove(&key)),
                Effect::Keep(key, fd) => drop(self.keel.insert(key, fd)),
                Effect::Drop(key) => drop(self.keel.remove(&key)),
            }
        }
    }

    pub fn start(&mut self, name: &str, service: Value) -> Result<(), String> {
        self.run(|engine, effects| engine.prepare(name, &service, effects))?;
        self.containers.insert(name.into(), Namespace::new());
        self.attach(name)
    }

    pub fn attach(&mut self, name: &str) -> Result<(), String> {
        let ns = self.containers.remove(name).unwrap();
        let done = self.run(|engine, effects| engine.attach(name, ns.fd(), ns.id(), effects));
        self.containers.insert(name.into(), ns);
        done
    }

    pub fn stop(&mut self, name: &str) {
        self.containers.remove(name);
        self.run(|engine, effects| {
            engine.release(name, effects);
            Ok(())
        })
        .unwrap();
    }

    pub fn address(&mut self, name: &str) -> String {
        self.engine().status()["services"][name]["networks"][0]["address"].as_str().unwrap().to_owned()
    }

    pub fn ports_held(&self) -> usize {
        self.keel.keys().filter(|key| key.starts_with("port/")).count()
    }

    pub fn container(&self, name: &str) -> &Namespace {
        &self.containers[name]
    }
}

pub fn ports(list: &[(&str, u16, u16, &str)]) -> Value {
    let port = |(ip, published, target, protocol): &(&str, u16, u16, &str)| {
        let mut port = json!({ "published": published, "target": target, "protocol": protocol });
        if !ip.is_empty() {
            port["host_ip"] = json!(ip);
        }
        port
    };
    list.iter().map(port).collect()
}

pub fn web() -> Value {
    json!({ "network_mode": "bridge", "networks": ["default"], "ports": ports(&[("", 8080, 80, "tcp")]) })
}

pub fn nothing_is_left(host: &mut Host) {
    host.engine().sweep();
    let links = run("ip -o link");
    assert!(!links.contains("sp-") && !links.contains(": v"), "{links}");
    assert_eq!(run("nft list ruleset"), "");
    assert_eq!(forwarding(), [""; 0]);
    assert!(host.keel.is_empty(), "{:?}", host.keel);
}
