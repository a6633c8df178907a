//! What each verb does.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use sampan_image::get::Getter;
use sampan_image::import::Import;
use sampan_image::limits::Budget;
use sampan_image::progress::Line;
use sampan_image::registry::{self, Settings};
use sampan_image::root::{self, Mode, View};
use sampan_image::{Digest, Error, Image, Kind, Limits, Platform, Reference, Result, Store};
use serde_json::{Value, json};

use super::args::{Args, Incoming, Verb};
use super::show::{Shown, size};

/// Who removes waits so long for those who add.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: &Args, shown: &Shown) -> Result<()> {
    let path = args.store.as_path();
    match &args.verb {
        Verb::Pull { images, mirror, plain_http, ca, incoming } => {
            let mirrors = mirror.iter().map(|text| mirror_of(text)).collect::<Result<_>>()?;
            let (plain_http, authorities) = (plain_http.clone(), ca.clone());
            let settings = Settings { mirrors, plain_http, authorities, ..Settings::default() };
            pull(&Store::open(path)?, images, &settings, incoming, shown)
        }
        Verb::List { quiet, json } => list(path, *quiet, *json),
        Verb::Inspect { image } => {
            let store = Store::read(path)?;
            out(&format!("{:#}\n", described(&store, &store.find(image)?)?))
        }
        Verb::Rm { images } => rm(&Store::read(path)?, images),
        Verb::Prune { keep } => prune(&Store::open(path)?, keep),
        Verb::Import { path: from, name, incoming } => {
            import(&Store::open(path)?, from, name.as_deref(), incoming, shown)
        }
        Verb::Mount { image, place, upper, scratch } => {
            let store = Store::read(path)?;
            let mode = match upper {
                Some(folder) => Mode::Writable(folder.clone()),
                None if *scratch => Mode::Scratch,
                None => Mode::ReadOnly,
            };
            root::mount(&store.layers(&store.find(image)?)?, &mode, place)
        }
        Verb::Unmount { place } => root::unmount(place),
        Verb::Export { image, output } => export(&Store::read(path)?, image, output.as_deref()),
    }
}

fn list(path: &Path, quiet: bool, as_json: bool) -> Result<()> {
    // No store yet is an empty one.
    let images = match Store::read(path) {
        Ok(store) => images(&store)?,
        Err(e) if e.kind() == Kind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    if as_json {
        let all: Vec<Value> = images.iter().map(|(name, image)| summary(name, image)).collect();
        return out(&format!("{:#}\n", json!(all)));
    }
    let mut text = String::new();
    let short = |name: &str| Reference::parse(name).map_or(name.to_owned(), |r| r.familiar());
    let width = images.iter().map(|(name, _)| short(name).len()).max().unwrap_or(0).max(4);
    if !quiet {
        text += &format!("{:width$}  {:12}  {:>9}  CREATED\n", "NAME", "ID", "SIZE");
    }
    for (name, image) in &images {
        let name = short(name);
        match quiet {
            true => text += &format!("{name}\n"),
            false => {
                let created = image.document.created.get(..10).unwrap_or("-");
                text +=
                    &format!("{name:width$}  {}  {:>9}  {created}\n", image.id().short(), size(image.size()));
            }
        }
    }
    out(&text)
}

fn images(store: &Store) -> Result<Vec<(String, Image)>> {
    let names = store.names()?;
    names.into_iter().map(|name| Ok((name.reference.clone(), store.find(name.manifest.as_str())?))).collect()
}

fn summary(name: &str, image: &Image) -> Value {
    json!({
        "name": name,
        "digest": image.digest,
        "id": image.id(),
        "size": image.size(),
        "created": image.document.created,
        "platform": image.document.platform.to_string(),
    })
}

/// Also what `sampan run --image` makes a container of.
fn described(store: &Store, image: &Image) -> Result<Value> {
    // None, if not all are here.
    let layers = store.layers(image).unwrap_or_default();
    Ok(json!({
        "names": image.names,
        "digest": image.digest,
        "id": image.id(),
        "size": image.size(),
        "created": image.document.created,
        "platform": image.document.platform.to_string(),
        "config": image.document.config,
        "user": View::new(&layers).user(&image.document.config.user)?,
        "layers": layers,
    }))
}

fn rm(store: &Store, images: &[String]) -> Result<()> {
    let _writer = store.writer()?;
    for text in images {
        // By a name: that one alone. By a digest: all that it has.
        let name = Reference::parse(text).map(|reference| reference.to_string()).unwrap_or_default();
        if store.untag(&name)? {
            continue;
        }
        for name in store.find(text)?.names {
            store.untag(&name)?;
        }
    }
    Ok(())
}

fn prune(store: &Store, keep: &[String]) -> Result<()> {
    let keep = keep.iter().map(|digest| Digest::parse(digest)).collect::<Result<Vec<_>>>()?;
    let pruned = store.prune(&store.alone(PATIENCE)?, &keep)?;
    out(&format!(
        "{} layers and {} blobs removed, {} free\n",
        pruned.layers,
        pruned.blobs,
        size(pruned.bytes)
    ))
}

/// `REGISTRY=MIRROR`
fn mirror_of(text: &str) -> Result<(String, String)> {
    let parts = text.split_once('=').filter(|(registry, mirror)| !registry.is_empty() && !mirror.is_empty());
    let (registry, mirror) = parts.ok_or_else(|| {
        let why = "it is REGISTRY=MIRROR, as docker.io=mirror.example:5000";
        Error::new(Kind::Usage, format!("--mirror {text:?} is no mirror"), why)
    })?;
    Ok((registry.to_owned(), mirror.to_owned()))
}

fn pull(
    store: &Store,
    images: &[String],
    settings: &Settings,
    incoming: &Incoming,
    shown: &Shown,
) -> Result<()> {
    let references = images.iter().map(|text| Reference::parse(text)).collect::<Result<Vec<_>>>()?;
    let platform = platform(incoming)?;
    let writer = store.writer()?;
    for reference in &references {
        let budget = Budget::new(limits(incoming));
        let getter = Getter { store, writer: &writer, budget, platform: &platform, progress: shown };
        let pulled = registry::pull(&getter, settings, reference)?;
        came_in(shown, vec![pulled.name], pulled.digest)?;
    }
    Ok(())
}

fn import(store: &Store, from: &Path, name: Option<&str>, incoming: &Incoming, shown: &Shown) -> Result<()> {
    let name = name.map(Reference::parse).transpose()?;
    let platform = platform(incoming)?;
    let import =
        Import { store, limits: limits(incoming), platform: &platform, progress: shown, name: name.as_ref() };
    let imported = match from == Path::new("-") {
        true => import.stream(io::stdin().lock())?,
        false => import.path(from)?,
    };
    for image in imported {
        came_in(shown, image.names, image.digest)?;
    }
    Ok(())
}

/// The last that is said of an image.
pub fn came_in(shown: &Shown, names: Vec<String>, digest: Digest) -> Result<()> {
    let text = names.iter().map(|name| format!("{name} {digest}\n")).collect::<String>();
    shown.end(&Line::Image { names, digest });
    if shown.is_json() { Ok(()) } else { out(&text) }
}

pub fn platform(incoming: &Incoming) -> Result<Platform> {
    incoming.platform.as_deref().map_or(Ok(Platform::host()), Platform::parse)
}

pub fn limits(incoming: &Incoming) -> Limits {
    let usual = Limits::default();
    Limits {
        bytes: incoming.max_size.map_or(usual.bytes, |mib| mib.saturating_mul(1 << 20)),
        entries: incoming.max_entries.unwrap_or(usual.entries),
        ratio: incoming.max_ratio.unwrap_or(usual.ratio),
        ..usual
    }
}

fn export(store: &Store, image: &str, output: Option<&Path>) -> Result<()> {
    let image = store.find(image)?;
    match output {
        Some(path) => {
            let file = File::create(path).map_err(|e| Error::io("make", path, e))?;
            sampan_image::export::export(store, &image, BufWriter::new(file))
        }
        None if io::stdout().is_terminal() => {
            let hint = "-o FILE writes it to a file";
            Err(Error::new(Kind::Usage, "an archive is nothing for a terminal", "standard output is one")
                .hint(hint))
        }
        None => sampan_image::export::export(store, &image, io::stdout().lock()),
    }
}

fn out(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader has gone: nobody to say it to.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Error::new(Kind::Host, "cannot write to standard output", e)),
    }
}
