//! An image as an archive: an OCI layout that `docker load` of any version reads too.

use std::io::{self, Write};

use serde_json::json;
use tar::{Builder, Header};

use crate::documents::IMAGE_NAME;
use crate::error::{Error, Kind, Result, from_reader};
use crate::store::{Image, Store};

/// `blobs/`, index.json with each of its names, and docker's manifest.json.
pub fn export(store: &Store, image: &Image, to: impl Write) -> Result<()> {
    let mut archive = Builder::new(to);
    let write =
        |done: io::Result<()>| done.map_err(|e| from_reader(e, Kind::Host, "cannot write the archive"));
    let raw_manifest = store.read_document(&image.digest)?;
    let blobs =
        [&image.digest, image.id()].into_iter().chain(image.manifest.layers.iter().map(|l| &l.digest));
    let mut written = Vec::new();
    for digest in blobs {
        if written.contains(&digest) {
            continue;
        }
        written.push(digest);
        let file = store.open_blob(digest)?;
        let size = file.metadata().map_err(|e| Error::bad("cannot read a blob", e))?.len();
        let path = blob_path(digest);
        write(archive.append_data(&mut header(size), path, file))?;
    }
    let names: Vec<Option<&str>> = match image.names.is_empty() {
        true => vec![None],
        false => image.names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let media_type = if image.manifest.media_type.is_empty() {
        crate::documents::OCI_MANIFEST
    } else {
        image.manifest.media_type.as_str()
    };
    let manifests = names.iter().map(|name| {
        let mut descriptor =
            json!({"mediaType": media_type, "digest": image.digest, "size": raw_manifest.len()});
        if let Some(name) = name {
            descriptor["annotations"] = json!({IMAGE_NAME: name, crate::documents::REF_NAME: name});
        }
        descriptor
    });
    let index = json!({"schemaVersion": 2, "manifests": manifests.collect::<Vec<_>>()});
    let docker = json!([{
        "Config": blob_path(image.id()),
        "RepoTags": image.names,
        "Layers": image.manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect::<Vec<_>>(),
    }]);
    let layout = json!({"imageLayoutVersion": "1.0.0"});
    for (name, document) in [("index.json", index), ("manifest.json", docker), ("oci-layout", layout)] {
        let text = document.to_string();
        write(archive.append_data(&mut header(text.len() as u64), name, text.as_bytes()))?;
    }
    write(archive.into_inner().and_then(|mut to| to.flush()))
}

fn blob_path(digest: &crate::digest::Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn header(size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header
}
