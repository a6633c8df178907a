//! An image into the store, wherever its blobs are: each layer is fetched, checked, kept and unpacked in one go.
//!
//! ```text
//!   source -> [thread: file, digest] -> pipe -> [thread: unzip] -> pipe -> [thread: digest, tar] -> folder, named when its diff id is right
//! ```
//! Several layers at once, begun from the lowest: a layer may wait for those below it, never the other way.

mod fetch;
mod turns;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::ConfigDocument;
use crate::digest::{Digest, Hashed, Hasher};
use crate::documents::{DOCKER_MANIFEST, Descriptor, Document, Manifest, OCI_MANIFEST, Platform};
use crate::error::{Error, Kind, Result, from_reader};
use crate::limits::{Budget, DOCUMENT_BYTES, Share};
use crate::pipe::{PipeReader, PipeWriter, pipe};
use crate::progress::{Progress, Stage};
use crate::store::{Blob, ChainId, Claim, Partial, Staging, Store, Verified, Writer};
use crate::tar::Archive;
use crate::unpack::{Unpack, ahead};

use self::turns::Turns;

/// Pieces on the way from who fetches to who unpacks.
const QUEUE: usize = 16;
/// Layers at once. More would not be faster: one takes a core to unpack.
const PARALLEL: usize = 4;

/// Where blobs come from.
pub trait Source: Sync {
    /// Its bytes from `offset` on. What breaks on the way and may work again is a [`Kind::Temporary`].
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>>;
}

/// All are in the store already.
#[derive(Debug)]
pub struct Nowhere;

impl Source for Nowhere {
    fn open(&self, blob: &Descriptor, _offset: u64) -> Result<Box<dyn Read + Send>> {
        Err(Error::bad(
            format!("there is no blob {}", blob.digest),
            "the archive names it and does not have it",
        ))
    }
}

/// What it takes to get an image.
pub struct Getter<'a> {
    pub store: &'a Store,
    pub writer: &'a Writer,
    pub budget: Arc<Budget>,
    pub platform: &'a Platform,
    pub progress: &'a dyn Progress,
}

/// What a layer's job needs to know.
struct Job<'a> {
    layer: &'a Descriptor,
    diff_id: &'a Digest,
    index: usize,
    chain: &'a [ChainId],
    turns: &'a Turns,
    source: &'a dyn Source,
}

impl Getter<'_> {
    /// All of it, and then its name. The manifest is at hand; what it names comes from `source`.
    pub fn image(&self, source: &dyn Source, bytes: &[u8], names: &[String]) -> Result<Digest> {
        let Document::Manifest(manifest) = Document::parse(bytes, "")? else {
            return Err(Error::bad("cannot get the image", "it is an index where a manifest should be"));
        };
        self.check(&manifest)?;
        let sizes = manifest.layers.iter().map(|l| l.size).fold(manifest.config.size, u64::saturating_add);
        self.progress.total(manifest.layers.len() + 1, sizes);
        let document = ConfigDocument::parse(&self.document(source, &manifest.config)?)?;
        self.check_document(&manifest, &document)?;
        self.layers(source, &manifest, &document)?;
        let digest = self.store.add_bytes(bytes)?;
        let is_docker = manifest.media_type == DOCKER_MANIFEST;
        let media_type = if is_docker { DOCKER_MANIFEST } else { OCI_MANIFEST };
        for name in names {
            let descriptor = Descriptor {
                media_type: media_type.to_owned(),
                digest: digest.clone(),
                size: bytes.len() as u64,
                platform: Some(document.platform.clone()),
                annotations: Default::default(),
            };
            self.store.tag(self.writer, name, &descriptor)?;
        }
        Ok(digest)
    }

    fn check(&self, manifest: &Manifest) -> Result<()> {
        let refused = |why: String| Err(Error::bad("the image is refused", why));
        let media = manifest.config.media_type.as_str();
        let is_config = [
            "application/vnd.oci.image.config",
            "application/vnd.docker.container.image",
            "application/octet-stream",
        ];
        if !media.is_empty() && !is_config.iter().any(|known| media.starts_with(known)) {
            return refused(format!("it is no image of a container: its config is {media}"));
        }
        let limits = self.budget.limits();
        if manifest.layers.len() > limits.layers {
            return refused(format!("it has {} layers, more than {}", manifest.layers.len(), limits.layers));
        }
        for layer in &manifest.layers {
            if layer.size > limits.bytes {
                return refused(format!("the layer {} is of {} MiB", layer.digest.short(), layer.size >> 20));
            }
            if layer.media_type.contains("encrypted") {
                return refused(format!("the layer {} is encrypted", layer.digest.short()));
            }
        }
        Ok(())
    }

    fn check_document(&self, manifest: &Manifest, document: &ConfigDocument) -> Result<()> {
        let found = &document.platform;
        let says = !found.os.is_empty() && !found.architecture.is_empty();
        if says && !self.platform.runs(found) {
            let doing = format!("the image is not for {}", self.platform);
            return Err(Error::bad(doing, format!("it is for {found}")).hint("--platform takes another one"));
        }
        let (layers, diffs) = (manifest.layers.len(), document.diff_ids.len());
        if layers != diffs {
            let why = format!("its manifest has {layers} layers and its config {diffs}");
            return Err(Error::bad("the image is refused", why));
        }
        Ok(())
    }

    /// A small blob, to read.
    pub fn document(&self, source: &dyn Source, blob: &Descriptor) -> Result<Vec<u8>> {
        if self.store.has_blob(&blob.digest) {
            return self.store.read_document(&blob.digest);
        }
        if blob.size > DOCUMENT_BYTES {
            return Err(Error::bad(format!("cannot get {}", blob.digest), "it is larger than 8 MiB"));
        }
        if let Blob::Partial(partial) = self.store.blob(&blob.digest, &|| ())? {
            fetch::Fetch { source, blob, progress: self.progress, stopped: &|| false }
                .run(partial, &mut PipeWriter::nowhere())?
                .commit()?;
        }
        self.store.read_document(&blob.digest)
    }

    fn layers(&self, source: &dyn Source, manifest: &Manifest, document: &ConfigDocument) -> Result<()> {
        let chain = ChainId::of(&document.diff_ids);
        let turns = Turns::new(manifest.layers.len());
        let work = || {
            while let Some(turn) = turns.next() {
                let index = turn.index;
                let (Some(layer), Some(diff_id)) = (manifest.layers.get(index), document.diff_ids.get(index))
                else {
                    return;
                };
                let job = Job { layer, diff_id, index, chain: &chain, turns: &turns, source };
                let done = self.layer(&job);
                turn.done(done.map_err(|e| e.within(format!("the layer {}", layer.digest.short()))));
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..PARALLEL.min(manifest.layers.len())).map(|_| scope.spawn(work)).collect();
            // One that panicked has failed its layer.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        turns.result()
    }

    fn layer(&self, job: &Job<'_>) -> Result<()> {
        match self.layer_once(job) {
            // What an earlier pull left of it was damaged, and is gone now.
            Err((error, true)) if error.kind() == Kind::BadImage => {
                self.progress
                    .note(&format!("{}: fetched again from the beginning", job.layer.digest.short()));
                if let Blob::Partial(mut partial) = self.store.blob(&job.layer.digest, &|| ())? {
                    partial.restart()?;
                }
                self.layer_once(job).map_err(|(error, _)| error)
            }
            other => other.map_err(|(error, _)| error),
        }
    }

    /// If it fails: was it begun with what an earlier attempt had left?
    fn layer_once(&self, job: &Job<'_>) -> std::result::Result<(), (Error, bool)> {
        let (digest, size) = (&job.layer.digest, job.layer.size);
        let waiting = || self.progress.stage(digest, size, Stage::Waiting);
        let new = |error| (error, false);
        let chain =
            job.chain.get(job.index).ok_or_else(|| new(Error::bad("no layer", "its chain is short")))?;
        let claim = self.store.layer(chain, &waiting).map_err(new)?;
        let blob = self.store.blob(digest, &waiting).map_err(new)?;
        let fetch = fetch::Fetch {
            source: job.source,
            blob: job.layer,
            progress: self.progress,
            stopped: &|| job.turns.failed(),
        };
        match (claim, blob) {
            (Claim::There, Blob::There(_)) => {
                self.progress.stage(digest, size, Stage::Present);
                return Ok(());
            }
            (Claim::There, Blob::Partial(partial)) => {
                let resumed = partial.have() > 0;
                let fetched = fetch.run(partial, &mut PipeWriter::nowhere());
                fetched.and_then(Verified::commit).map_err(|e| (e, resumed))?;
            }
            (Claim::Ours(staging), Blob::There(file)) => {
                self.progress.stage(digest, size, Stage::Unpacking);
                let staging = self.unpack(job, staging, Checked::new(file, job.layer), &Mutex::default());
                staging.and_then(|staging| staging.commit(None)).map_err(new)?;
            }
            (Claim::Ours(staging), Blob::Partial(partial)) => {
                let resumed = partial.have() > 0;
                self.both(job, staging, &fetch, partial).map_err(|e| (e, resumed))?;
            }
        }
        self.progress.stage(digest, size, Stage::Done);
        Ok(())
    }

    /// It is unpacked while it is fetched.
    fn both(
        &self,
        job: &Job<'_>,
        staging: Staging,
        fetch: &fetch::Fetch<'_>,
        partial: Partial,
    ) -> Result<()> {
        let (mut to, from) = pipe(QUEUE);
        let fetched = Fetched::default();
        let fetch = || {
            let blob = fetch.run(partial, &mut to)?;
            *locked(&fetched) = Some(blob);
            Ok(to.end()?)
        };
        let (fetching, unpacked) = std::thread::scope(|scope| {
            let fetching = scope.spawn(fetch);
            let unpacked = self.unpack(job, staging, from, &fetched);
            (fetching.join(), unpacked)
        });
        let fault = || Err(Error::bad("cannot fetch it", "a fault of ours"));
        // Who unpacks ends with who fetches, and knows less; who was left alone has nothing to say.
        match fetching.unwrap_or_else(|_| fault()) {
            Err(e) if e.kind() != Kind::Usage => Err(e),
            _ => unpacked?.commit(locked(&fetched).take()),
        }
    }

    /// All of the layer, which remains to be synced and named.
    fn unpack(
        &self,
        job: &Job<'_>,
        staging: Staging,
        reader: impl Read + Send,
        fetched: &Fetched,
    ) -> Result<Staging> {
        let share = Share::new(&self.budget);
        ahead(reader, &share, |archive| self.members(job, &staging, archive, &share, fetched))?;
        share.keep();
        Ok(staging)
    }

    fn members(
        &self,
        job: &Job<'_>,
        staging: &Staging,
        archive: PipeReader,
        share: &Arc<Share>,
        fetched: &Fetched,
    ) -> Result<()> {
        let mut unpack = Unpack::new(staging.path(), job.index > 0, share)?;
        let mut archive = Archive::new(Hashed::new(archive, job.diff_id.hasher()));
        unpack.all(&mut archive)?;
        let found = archive.into_inner().finish();
        let found = found.map_err(|e| from_reader(e, Kind::BadImage, "cannot unpack it"))?;
        if found != *job.diff_id {
            let why = format!("unpacked it is {found}, and the image's config says {}", job.diff_id);
            return Err(Error::bad("the layer is refused", why));
        }
        let mut lower: Vec<PathBuf> = Vec::new();
        if unpack.needs_lower() {
            // Below somebody may wait for the same blob: who waits holds none.
            locked(fetched).take().map_or(Ok(()), Verified::commit)?;
            job.turns.wait_below(job.index)?;
            let below = job.chain.get(..job.index).unwrap_or_default();
            lower.extend(below.iter().rev().map(|chain| self.store.layer_path(chain)));
        }
        let left_out = unpack.finish(&lower)?;
        if left_out.devices > 0 {
            let text = format!(
                "{}: {} devices left out: a container has its own /dev",
                job.layer.digest.short(),
                left_out.devices
            );
            self.progress.note(&text);
        }
        if left_out.xattrs > 0 {
            let text =
                format!("{}: {} extended attributes left out", job.layer.digest.short(), left_out.xattrs);
            self.progress.note(&text);
        }
        Ok(())
    }
}

/// The blob that a layer was unpacked from, if that is new: to be synced and named with the layer.
type Fetched = Mutex<Option<Verified>>;

fn locked(fetched: &Fetched) -> MutexGuard<'_, Option<Verified>> {
    fetched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A blob of the store, checked again as it is read.
struct Checked<'a> {
    file: File,
    blob: &'a Descriptor,
    hasher: Option<Hasher>,
}

impl<'a> Checked<'a> {
    fn new(file: File, blob: &'a Descriptor) -> Checked<'a> {
        Checked { file, blob, hasher: Some(blob.digest.hasher()) }
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        if n > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(buffer.get(..n).unwrap_or_default());
            }
        } else if let Some(hasher) = self.hasher.take().filter(|_| !buffer.is_empty())
            && hasher.finish() != self.blob.digest
        {
            let hint = "remove the image and get it again: is the disk all right?";
            let doing = format!("cannot use the blob {}", self.blob.digest);
            return Err(Error::bad(doing, "it is not what its digest says").hint(hint).into());
        }
        Ok(n)
    }
}
