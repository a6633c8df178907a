//! A root made of an image's layers: overlayfs of folders that many containers share.
//!
//! config.json has no field for it, so annotations ask, as for a scratch root: the bundle stays the only hand-over. The parent
//! makes the overlay, detached, before the clone, because overlayfs takes layers with mapped ids from the host's root alone; the
//! child gets it as it gets any other tree. `root.path` is where it lies until the pivot: an empty folder.

use crate::error::Error;
use crate::host::Host;
use crate::scratch::RootMode;
use crate::slots::{IdMap, SlotSource};
use crate::spec::{IdMapping, Spec};

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
