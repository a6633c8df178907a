//! What a registry sends: an index, a manifest, a config; and references as people type them.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sampan_image::config::ConfigDocument;
use sampan_image::documents::{Document, Platform};
use sampan_image::reference::Reference;

fuzz_target!(|bytes: &[u8]| {
    for kind in [
        "",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ] {
        if let Ok(Document::Index(index)) = Document::parse(bytes, kind) {
            let _ = index.choose(&Platform::host());
        }
    }
    if let Ok(config) = ConfigDocument::parse(bytes) {
        let _ = config;
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(reference) = Reference::parse(text)
    {
        let again = Reference::parse(&reference.to_string()).expect("what is written is read");
        assert_eq!(again.to_string(), reference.to_string());
    }
});
