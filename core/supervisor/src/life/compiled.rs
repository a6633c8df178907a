//! What a launching process has compiled: the next life of a service mostly starts from the same spec and the same host.
//!
//! A plan borrows from its spec and that from its text, so all three have a place in an arena on the caller's stack. When the
//! arena is full it is given up and begun anew: a launching process that goes from service to service does not grow.
use super::job::options;
use super::talk::Launch;
use super::{of_config, of_io};
use sampan_bundle as bundle;
use sampan_config::schema::SaysOn;
use sampan_plan::{Host, Options, Plan, Spec};
use sampan_plugin_host::digest::Digest;
use sampan_runtime::launch;
use sampan_service::Problem;
use std::cell::OnceCell;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// Services in one arena. A plan with its spec takes some 60 KiB.
const PLACES: usize = 16;

/// Texts and specs, each written once.
#[derive(Default)]
pub struct Texts([OnceCell<String>; PLACES]);

#[derive(Default)]
pub struct Specs<'t>([OnceCell<Spec<'t>>; PLACES]);

/// The compiled launches of one arena.
pub struct Compiled<'s, 't> {
    texts: &'t Texts,
    specs: &'s Specs<'t>,
    all: Vec<Launchable<'s>>,
}

/// A spec with its plan on this host.
pub struct Launchable<'s> {
    key: Key,
    pub text: &'s str,
    pub spec: &'s Spec<'s>,
    pub host: Host,
    pub plan: Plan<'s>,
    /// The plan's image, as the keel takes it.
    image: OnceCell<Arc<OwnedFd>>,
}

impl Launchable<'_> {
    pub fn image(&self) -> Result<Arc<OwnedFd>, Problem> {
        if self.image.get().is_none() {
            let sealed = sampan_keel::sealed_image(&self.plan.image).map_err(of_io)?;
            let _ = self.image.set(Arc::new(sealed));
        }
        self.image.get().cloned().ok_or_else(|| Problem::Io("no image".into()))
    }
}

/// What a plan is compiled from, beside the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub service: String,
    /// Of what its bundle says.
    pub bundled: Digest,
    /// Descriptors that its program is given.
    pub given_fds: u32,
}

impl<'s, 't> Compiled<'s, 't> {
    pub fn new(texts: &'t Texts, specs: &'s Specs<'t>) -> Compiled<'s, 't> {
        Compiled { texts, specs, all: Vec::new() }
    }

    pub fn knows(&self, key: &Key) -> bool {
        self.all.iter().any(|one| one.key == *key)
    }

    /// The launch needs no place of its own.
    pub fn has_all_for(&self, launch: &Launch, text: &str) -> bool {
        text.is_empty() && launch.bundled.is_some_and(|bundled| self.knows(&launch.key(bundled)))
    }

    pub fn is_full(&self) -> bool {
        self.free().is_none()
    }

    /// As it was compiled before, or else from the text; a full arena has no place for that. A host that has changed since is another
    /// one: then the plan is made anew, from the spec that is there.
    pub fn get(&mut self, key: Key, text: String, run: &Path) -> Result<&Launchable<'s>, Problem> {
        let place = match self.all.iter().position(|one| one.key == key) {
            Some(place) => self.refresh(place, run)?,
            None => self.add(key, text, run)?,
        };
        self.all.get(place).ok_or_else(full)
    }

    fn refresh(&mut self, place: usize, run: &Path) -> Result<usize, Problem> {
        let one = self.all.get_mut(place).ok_or_else(full)?;
        let bundle = bundle::folder(run, &one.key.service);
        let host = launch::host_facts(one.spec, &bundle, &one.key.service, true).map_err(of_io)?;
        if host != one.host {
            one.plan = compile(one.spec, &host, &one.key, &bundle)?;
            one.host = host;
            one.image = OnceCell::new();
        }
        Ok(place)
    }

    fn add(&mut self, key: Key, text: String, run: &Path) -> Result<usize, Problem> {
        let (texts, specs) = self.free().ok_or_else(full)?;
        let text: &'t str = texts.get_or_init(|| text);
        let spec = Spec::parse(text).map_err(of_config)?;
        let spec: &'s Spec<'t> = specs.get_or_init(|| spec);
        let bundle = bundle::folder(run, &key.service);
        let host = launch::host_facts(spec, &bundle, &key.service, true).map_err(of_io)?;
        let plan = compile(spec, &host, &key, &bundle)?;
        self.all.push(Launchable { key, text, spec, host, plan, image: OnceCell::new() });
        Ok(self.all.len() - 1)
    }

    fn free(&self) -> Option<(&'t OnceCell<String>, &'s OnceCell<Spec<'t>>)> {
        let mut places = self.texts.0.iter().zip(&self.specs.0);
        places.find(|(text, _)| text.get().is_none())
    }
}

fn full() -> Problem {
    Problem::Io("no room for one more plan".into())
}

fn compile<'s>(spec: &'s Spec<'s>, host: &Host, key: &Key, bundle: &Path) -> Result<Plan<'s>, Problem> {
    let options = Options { given_fds: key.given_fds, ..options(&key.service, bundle) };
    Plan::compile(spec, host, &options).map_err(of_config)
}

impl Launch {
    pub fn key(&self, bundled: Digest) -> Key {
        let descriptor = u32::from(self.says_on == Some(SaysOn::Descriptor));
        let given_fds = (self.sockets.len() + self.stored.len()) as u32 + descriptor;
        Key { service: self.service.clone(), bundled, given_fds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> String {
        let spec = sampan_plan::default::spec();
        let mut spec = serde_json::to_value(&spec).unwrap();
        spec["process"]["env"] = serde_json::json!([format!("N={n}")]);
        spec["root"] = serde_json::json!({ "path": "/nowhere" });
        bundle::text(&spec)
    }

    fn key(n: usize) -> Key {
        Key { service: "a".into(), bundled: [n as u8; 32], given_fds: 0 }
    }

    #[test]
    fn what_was_compiled_stays_until_the_host_is_another_one() {
        let (texts, specs) = (Texts::default(), Specs::default());
        let mut compiled = Compiled::new(&texts, &specs);
        let run = Path::new("/run/none");
        let image = compiled.get(key(0), text(0), run).unwrap().plan.image.clone();
        assert!(compiled.knows(&key(0)) && !compiled.knows(&key(1)));
        // Of what is known nothing is read again.
        assert_eq!(compiled.get(key(0), String::new(), run).unwrap().plan.image, image);
        assert!(compiled.get(key(1), String::new(), run).is_err(), "an empty text is no spec");
        let host = compiled.all[0].host.clone();
        // As if it had been compiled on another host.
        compiled.all[0].host.cgroups.clear();
        compiled.all[0].plan.image.clear();
        assert_eq!(compiled.get(key(0), String::new(), run).unwrap().plan.image, image);
        assert_eq!(compiled.all[0].host, host);
    }

    #[test]
    fn a_full_arena_still_has_what_it_has() {
        let (texts, specs) = (Texts::default(), Specs::default());
        let mut compiled = Compiled::new(&texts, &specs);
        let run = Path::new("/run/none");
        for n in 0..PLACES {
            assert!(!compiled.is_full());
            compiled.get(key(n), text(n), run).unwrap();
        }
        assert!(compiled.is_full());
        assert!(compiled.get(key(PLACES), text(PLACES), run).is_err());
        let of = |compiled: &mut Compiled<'_, '_>, n| {
            let one = compiled.get(key(n), String::new(), run).unwrap();
            one.text.contains(&format!("\"N={n}\""))
        };
        assert!((0..PLACES).all(|n| of(&mut compiled, n)));
    }
}
