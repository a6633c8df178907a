//! Layers and images made for a test.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sampan_image::import::{Import, Imported};
use sampan_image::progress::Progress;
use sampan_image::{Digest, Limits, Platform, Reference, Result, Store};
use sampan_testkit::Folder;
use serde_json::json;
use tar::{Builder, EntryType, Header};

/// A layer's archive, member by member.
pub struct Layer(Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Layer {
        Layer(Builder::new(Vec::new()))
    }
}

/// With a name that the crate `tar` would refuse to write.
pub fn header(kind: EntryType, name: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_cksum();
    header
}

impl Layer {
    pub fn member(mut self, mut header: Header, data: &[u8]) -> Layer {
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn with(self, header: Header, data: &[u8], change: impl FnOnce(&mut Header)) -> Layer {
        let mut header = header;
        change(&mut header);
        self.member(header, data)
    }

    pub fn file(self, name: &str, data: &str) -> Layer {
        self.member(header(EntryType::Regular, name, data.len() as u64), data.as_bytes())
    }

    pub fn folder(self, name: &str) -> Layer {
        self.member(header(EntryType::Directory, name, 0), &[])
    }

    fn pointing(self, kind: EntryType, name: &str, target: &str) -> Layer {
        self.with(header(kind, name, 0), &[], |h| {
            h.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub fn link(self, name: &str, target: &str) -> Layer {
        self.pointing(EntryType::Symlink, name, target)
    }

    pub fn hard(self, name: &str, target: &str) -> Layer {
        self.pointing(EntryType::Link, name, target)
    }

    /// PAX records for the next member.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Layer {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            text.extend(format!("{length} {key}=").bytes());
            text.extend(*value);
            text.push(b'\n');
        }
        self.member(header(EntryType::XHeader, "pax", text.len() as u64), &text)
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image of these layers' archives, packed by `pack`, as an OCI layout.
pub struct Layout {
    pub folder: Folder,
    pub manifest: Digest,
}

pub fn blob(folder: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let path = folder.join("blobs/sha256");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join(digest.hex()), bytes).unwrap();
    digest
}

pub fn layout(name: &str, layers: &[Vec<u8>], pack: impl Fn(&[u8]) -> Vec<u8>) -> Layout {
    let folder = Folder::new();
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({
        "architecture": Platform::host().architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string();
    let config_digest = blob(&folder.0, config.as_bytes());
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let packed = pack(layer);
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": blob(&folder.0, &packed), "size": packed.len()})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": layers,
    })
    .to_string();
    let manifest_digest = blob(&folder.0, manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": manifest_digest, "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }]});
    fs::write(folder.path("index.json"), index.to_string()).unwrap();
    fs::write(folder.path("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Layout { folder, manifest: manifest_digest }
}

/// A layer is synced before it has its name, and with it all that the other tests of a loaded machine write to its disk.
pub fn in_memory() -> Folder {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("sampan-image-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = Path::new("/dev/shm").join(name);
    fs::create_dir_all(&path).unwrap();
    Folder(path)
}

/// A store, and what was said while it was filled.
pub struct TestStore {
    _folder: Folder,
    pub store: Store,
    pub limits: Limits,
    pub notes: Notes,
}

#[derive(Default)]
pub struct Notes(pub std::sync::Mutex<Vec<String>>);

impl Progress for Notes {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl TestStore {
    pub fn new() -> TestStore {
        let folder = in_memory();
        let store = Store::open(&folder.path("store")).unwrap();
        TestStore { _folder: folder, store, limits: Limits::default(), notes: Notes::default() }
    }

    pub fn import_as(&self, path: &Path, name: Option<&str>) -> Result<Vec<Imported>> {
        let name = name.map(|name| Reference::parse(name).unwrap());
        let (platform, store) = (Platform::host(), &self.store);
        let import = Import {
            store,
            limits: self.limits,
            platform: &platform,
            progress: &self.notes,
            name: name.as_ref(),
        };
        import.path(path)
    }

    /// An image of these layers; where each lies.
    pub fn layers(&self, layers: &[Vec<u8>]) -> Result<Vec<PathBuf>> {
        let layout = layout("test:1", layers, gzip);
        self.import_as(&layout.folder.0, None)?;
        self.store.layers(&self.store.find("test:1")?)
    }

    pub fn layer(&self, layer: Layer) -> Result<PathBuf> {
        self.layers(&[layer.bytes()]).map(|mut layers| layers.remove(0))
    }

    /// Nothing half-made.
    pub fn rubbish(&self) -> Vec<String> {
        let names = fs::read_dir(self.store.path().join("tmp")).unwrap();
        names.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    pub fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.store.path().join(folder)).unwrap().count()
    }
}
