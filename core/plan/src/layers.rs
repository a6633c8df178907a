//! A root made of an image's layers: overlayfs of folders that many containers share.
//!
//! config.json has no field for it, so annotations ask, as for a scratch root: the bundle stays the only hand-over. The parent
//! makes the overlay, detached, before the clone, because overlayfs takes layers with mapped ids from the host's root alone; the
//! child gets it as it gets any other tree. `root.path` is where it lies until the pivot: an empty folder.

use crate::error::Error;
use crate::host::Host;
use crate::nobody::in_a_root;
use crate::order::finish;
use crate::plan::{Parent, Plan};
use crate::scratch::RootMode;
use crate::slots::{IdMap, SlotSource};
use crate::spec::{IdMapping, Spec};
use sampan_child::step::Step;

/// A JSON array of absolute paths, the lowest layer first.
pub const ANNOTATION: &str = "org.sampan.rootfs.layers";
/// A folder with `upper` and `work` in it: what is written goes there, and stays.
pub const UPPER: &str = "org.sampan.rootfs.upper";
/// The kernel takes 500 of an overlay.
const LAYERS_MAX: usize = 500;

/// What the config asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    pub lower: Vec<String>,
    pub upper: Option<String>,
}

pub fn asked(spec: &Spec<'_>, mode: RootMode) -> Result<Option<Layers>, Error> {
    let annotation = |name: &str| {
        spec.annotations.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value.as_str())
    };
    let (field, upper_field) = (format!("annotations[{ANNOTATION:?}]"), format!("annotations[{UPPER:?}]"));
    let (layers, upper) = (annotation(ANNOTATION), annotation(UPPER));
    let Some(text) = layers else {
        return match upper {
            Some(_) => Err(Error::new(upper_field, format!("needs {ANNOTATION:?}"))),
            None => Ok(None),
        };
    };
    let lower: Vec<String> = serde_json::from_str(text)
        .map_err(|e| Error::new(&field, format!("is no JSON array of paths: {e}")))?;
    if lower.is_empty() || lower.len() > LAYERS_MAX {
        return Err(Error::new(
            field,
            format!("has {} layers; from 1 to {LAYERS_MAX} are possible", lower.len()),
        ));
    }
    if let Some(path) = lower.iter().find(|path| !is_path(path)) {
        return Err(Error::new(field, format!("{path:?} is not an absolute path")));
    }
    if let Some(path) = upper.filter(|path| !is_path(path)) {
        return Err(Error::new(upper_field, format!("{path:?} is not an absolute path")));
    }
    let readonly = spec.root.as_ref().is_some_and(|root| root.readonly);
    if upper.is_some() && (readonly || mode != RootMode::AsSpecified) {
        return Err(Error::new(
            upper_field,
            "is for a root that may be written to: root.readonly must be false, and no other mode asked for",
        ));
    }
    if upper.is_none() && !readonly && mode == RootMode::AsSpecified {
        let problem = format!("must be true for a root of layers, unless {UPPER:?} says where writes go");
        return Err(Error::new("root.readonly", problem));
    }
    Ok(Some(Layers { lower, upper: upper.map(str::to_owned) }))
}

/// What overlayfs is told in one string, fsconfig(2).
const STRING_BYTES_MAX: usize = 255;
/// Where the folder with `upper` and `work` is.
const TOP: &str = "top";

/// The plan of a process that makes the overlay where this kernel takes no layers one by one: they lie under names of a letter or
/// two in a root of its own, so that all of them fit into one string. Its slots are the report, the trees of the layers, the
/// lowest first, that of the upper folder if there is one, and a socket for the overlay's mount.
pub fn by_short_names(layers: usize, upper: bool, in_user_namespace: bool) -> Result<Plan<'static>, Error> {
    let field = format!("annotations[{ANNOTATION:?}]");
    let names: Vec<String> = (0..layers).map(short_name).collect();
    let highest_first: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    let lower = highest_first.join(":");
    if lower.len() > STRING_BYTES_MAX {
        let problem = format!("{layers} layers are more than this kernel takes: that needs Linux 6.5");
        return Err(Error::new(field, problem));
    }
    let places: Vec<String> =
        names.iter().map(String::as_str).chain(upper.then_some(TOP)).map(|name| format!("/{name}")).collect();
    let trees: Vec<(&str, &str)> = places.iter().map(|place| (place.as_str(), place.as_str())).collect();
    let (mut build, to) = in_a_root(&trees, &field)?;
    let b = &mut build;
    let mut data = vec!["ssource", "overlay", "slowerdir", lower.as_str()];
    if upper {
        data.extend(["supperdir", "top/upper", "sworkdir", "top/work"]);
    }
    if in_user_namespace {
        data.push("fuserxattr");
    }
    let data = b.table.list(data, &field)?;
    b.step(field, Step::Overlay { data, attributes: 0, to });
    Ok(finish(b, Parent::default()))
}

/// `a` to `Z`, then of two letters.
fn short_name(number: usize) -> String {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let letter = |n: usize| char::from(LETTERS[n % LETTERS.len()]);
    match number.checked_sub(LETTERS.len()) {
        None => letter(number).to_string(),
        Some(more) => format!("{}{}", letter(more / LETTERS.len()), letter(more)),
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0')
}

impl Layers {
    /// An overlay without an upper folder takes no new mount point: what `root.readonly` alone asks for, that those which are
    /// missing are made first, is done in memory.
    pub fn mode(&self, asked: RootMode) -> RootMode {
        match asked {
            RootMode::AsSpecified if self.upper.is_none() => RootMode::Scratch,
            RootMode::AsSpecified | RootMode::NeverWritten | RootMode::Scratch => asked,
        }
    }

    /// With the ids of the container's own user namespace, so that root's files are those of its root.
    pub fn slot(
        self,
        users: (&[IdMapping], &[IdMapping]),
        own_users: bool,
        host: &Host,
    ) -> Result<SlotSource, Error> {
        let field = format!("annotations[{ANNOTATION:?}]");
        if !host.privileged {
            return Err(Error::new(
                field,
                "an overlay takes root: a user namespace of your own, or a plain root",
            ));
        }
        let (uids, gids) = users;
        let idmap = own_users.then(|| IdMap {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
            recursive: false,
            field: field.clone(),
        });
        if idmap.as_ref().is_some_and(|map| map.uids.is_empty() || map.gids.is_empty()) {
            return Err(Error::new(
                field,
                "needs linux.uidMappings and linux.gidMappings beside a user namespace",
            ));
        }
        let Layers { lower, upper } = self;
        Ok(SlotSource::Layers { lower, upper, in_user_namespace: host.in_user_namespace, idmap, field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_differ() {
        let names: Vec<String> = (0..100).map(short_name).collect();
        assert_eq!((names[0].as_str(), names[51].as_str(), names[52].as_str()), ("a", "Z", "aa"));
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), 100);
    }

    #[test]
    fn a_hundred_layers_fit_and_more_are_refused() {
        assert!(by_short_names(100, true, false).is_ok());
        let refused = by_short_names(110, false, false).unwrap_err();
        assert!(refused.problem.contains("Linux 6.5"), "{}", refused.problem);
    }
}
