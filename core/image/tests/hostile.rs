//! Registries that are slow, wrong, broken or evil: a clear error or the image, and nothing half-done.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sampan_image::get::Getter;
use sampan_image::limits::Budget;
use sampan_image::registry::{Patience, Pulled, Settings, pull};
use sampan_image::{Digest, Platform, Reference, Result};

use crate::made::{Layer, Layout, TestStore, gzip, layout};
use crate::server::{Request, Server, head, send, status};

pub fn pull_from(store: &TestStore, settings: &Settings, name: &str) -> Result<Pulled> {
    let (writer, platform) = (store.store.writer().unwrap(), Platform::host());
    let getter = Getter {
        store: &store.store,
        writer: &writer,
        budget: Budget::new(store.limits),
        platform: &platform,
        progress: &store.notes,
    };
    pull(&getter, settings, &Reference::parse(name).unwrap())
}

/// An image with one layer that is not small.
struct Image {
    layout: Layout,
    layer: Digest,
}

impl Image {
    fn new() -> Image {
        let text: String = (0..60_000).map(|n| n.to_string()).collect();
        let layer = Layer::default().file("file", &text).bytes();
        Image {
            layout: layout("x/app:1", std::slice::from_ref(&layer), gzip),
            layer: Digest::of(&gzip(&layer)),
        }
    }

    /// What a good registry has at this path.
    fn at(&self, path: &str) -> Option<Vec<u8>> {
        let (_, last) = path.rsplit_once('/')?;
        let digest = if last == "1" { self.layout.manifest.hex() } else { last.strip_prefix("sha256:")? };
        std::fs::read(self.layout.folder.path("blobs/sha256").join(digest)).ok()
    }

    fn good(&self, request: &Request, to: &mut TcpStream) {
        match self.at(&request.path) {
            Some(bytes) => send(request, to, &bytes),
            None => status(to, "404 Not Found"),
        }
    }
}

/// A registry that is good but for what `bad` answers: `true` if it has.
fn server(
    bad: impl Fn(&Image, &Request, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> (Server, Arc<Image>) {
    let image = Arc::new(Image::new());
    let ours = Arc::clone(&image);
    let server = Server::new(move |request: &Request, to: &mut TcpStream| {
        if !bad(&ours, request, to) {
            ours.good(request, to);
        }
    });
    (server, image)
}

fn result(
    bad: impl Fn(&Image, &Request, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> (Result<Pulled>, TestStore) {
    let (server, _image) = server(bad);
    let store = TestStore::new();
    let settings = Settings { plain_http: vec![server.host.clone()], ..Settings::default() };
    (pull_from(&store, &settings, &format!("{}/x/app:1", server.host)), store)
}

fn comes(
    what: &str,
    bad: impl Fn(&Image, &Request, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> Vec<String> {
    let (result, store) = result(bad);
    let pulled = result.unwrap_or_else(|e| panic!("{what}: {e}"));
    let image = store.store.find(pulled.digest.as_str()).unwrap();
    assert!(store.store.layers(&image).unwrap()[0].join("file").exists());
    assert!(store.rubbish().is_empty(), "{what}: {:?}", store.rubbish());
    store.notes.0.lock().unwrap().clone()
}

fn fails(
    what: &str,
    words: &str,
    bad: impl Fn(&Image, &Request, &mut TcpStream) -> bool + Send + Sync + 'static,
) {
    let (result, store) = result(bad);
    let said = result.unwrap_err().to_string();
    assert!(said.contains(words), "{what}: {said}");
    assert_eq!((store.store.names().unwrap().len(), store.count("layers")), (0, 0), "{what}");
}

fn is_layer(image: &Image, request: &Request) -> bool {
    request.path.ends_with(image.layer.as_str())
}

#[test]
fn a_good_registry_is_pulled_from_and_the_second_time_nothing_is_fetched() {
    let (server, image) = server(|_, _, _| false);
    let store = TestStore::new();
    let settings = Settings::default();
    // Loopback, so without TLS if it has none.
    let name = format!("{}/x/app:1", server.host);
    let pulled = pull_from(&store, &settings, &name).unwrap();
    assert_eq!((pulled.digest, pulled.name), (image.layout.manifest.clone(), name.clone()));
    drop(image);
    pull_from(&store, &settings, &name).unwrap();
    let pinned = format!("{}/x/app@{}", server.host, store.store.find(&name).unwrap().digest);
    pull_from(&store, &settings, &pinned).unwrap();
    assert!(store.store.find(&pinned).is_ok());
}

#[test]
fn what_breaks_on_the_way_goes_on_from_there() {
    let notes = comes("cut off", |image, request, to| {
        let cut = is_layer(image, request) && request.range.is_none_or(|from| from < 90_000);
        if cut {
            let bytes = image.at(&request.path).unwrap();
            let from = request.range.unwrap_or(0) as usize;
            let length = (bytes.len() - from).to_string();
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            match request.range {
                Some(_) => {
                    head(to, "206 Partial Content", &[("Content-Length", &length), ("Content-Range", &range)])
                }
                None => head(to, "200 OK", &[("Content-Length", &length)]),
            }
            let _ = to.write_all(&bytes[from..from + 50_000]);
        }
        cut
    });
    assert_eq!(notes.iter().filter(|note| note.contains("tried again")).count(), 2, "{notes:?}");
    comes("it knows no ranges", |image, request, to| {
        let bytes = image.at(&request.path).unwrap_or_default();
        let cut = is_layer(image, request);
        if cut {
            head(to, "200 OK", &[("Content-Length", &bytes.len().to_string())]);
            let end = if request.range.is_some() { bytes.len() } else { 50_000 };
            let _ = to.write_all(&bytes[..end]);
        }
        cut
    });
}

#[test]
fn a_registry_that_is_busy_is_asked_again() {
    for (what, said) in
        [("429", "429 Too Many Requests"), ("500", "500 Internal Server Error"), ("503", "503 Busy")]
    {
        let notes = comes(what, move |_, request, to| {
            let busy = request.number < 2;
            if busy {
                head(to, said, &[("Content-Length", "0"), ("Retry-After", "0")]);
            }
            busy
        });
        assert_eq!(notes.iter().filter(|note| note.contains("tried again")).count(), 2, "{notes:?}");
    }
    comes("a busy blob", |image, request, to| {
        let busy = is_layer(image, request) && request.range.is_none() && request.number < 4;
        if busy {
            status(to, "502 Bad Gateway");
        }
        busy
    });
}

#[test]
fn what_is_not_what_was_asked_for_is_refused() {
    fails("another manifest", "not what its digest says", |image, request, to| {
        let manifest = request.path.ends_with("manifests/1");
        if manifest {
            let mut index =
                String::from(r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","size":5,"digest":""#);
            index += &format!(r#"{}"}}]}}"#, Digest::of(b"something else"));
            send(request, to, index.as_bytes());
            return true;
        }
        let other = request.path.contains("/manifests/");
        if other {
            send(request, to, &image.at("/1").unwrap());
        }
        other
    });
    fails("another byte", "", |image, request, to| {
        if !is_layer(image, request) {
            return false;
        }
        let mut bytes = image.at(&request.path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        send(request, to, &bytes);
        true
    });
    for (what, change) in [("too long", 1i64), ("too short", -1)] {
        fails(what, "and by the manifest it must be", move |image, request, to| {
            let other = is_layer(image, request);
            if other {
                let mut bytes = image.at(&request.path).unwrap();
                bytes.resize((bytes.len() as i64 + change) as usize, 0);
                send(request, to, &bytes);
            }
            other
        });
    }
    fails("endless", "is longer than", |image, request, to| {
        if !is_layer(image, request) {
            return false;
        }
        head(to, "200 OK", &[]);
        while to.write_all(&[0; 65536]).is_ok() {}
        true
    });
    fails("an endless manifest", "larger than 8 MiB", |_, request, to| {
        let manifest = request.path.contains("/manifests/");
        if manifest {
            head(to, "200 OK", &[]);
            while to.write_all(&[b' '; 65536]).is_ok() {}
        }
        manifest
    });
    fails("no manifest", "schema", |_, request, to| {
        let manifest = request.path.contains("/manifests/");
        if manifest {
            send(request, to, b"{}");
        }
        manifest
    });
    fails("no JSON", "cannot read the manifest", |_, request, to| {
        let manifest = request.path.contains("/manifests/");
        if manifest {
            send(request, to, b"<html>");
        }
        manifest
    });
}

#[test]
fn redirects_end_and_secrets_do_not_follow_them() {
    fails("a loop", "redirects without end", |_, request, to| {
        head(to, "307 Temporary Redirect", &[("Location", &request.path), ("Content-Length", "0")]);
        true
    });
    // As docker's registry does with a store of its own elsewhere.
    let elsewhere = Arc::new(Image::new());
    let ours = Arc::clone(&elsewhere);
    let other = Server::new(move |request: &Request, to: &mut TcpStream| {
        assert_eq!(request.authorization, None);
        ours.good(request, to);
    });
    let place = format!("http://{}", other.host.replace("127.0.0.1", "localhost"));
    comes("another host", move |_, request, to| {
        let blob = request.path.contains("/blobs/");
        if blob {
            head(
                to,
                "307 Temporary Redirect",
                &[("Location", &format!("{place}{}", request.path)), ("Content-Length", "0")],
            );
        }
        blob
    });
}

#[test]
fn who_may_not_is_told_where_to_log_in() {
    fails("401", "podman login", |_, _, to| {
        head(to, "401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"x\""), ("Content-Length", "0")]);
        true
    });
    fails("403", "podman login", |_, _, to| {
        status(to, "403 Forbidden");
        true
    });
    fails("404", "404", |_, _, to| {
        status(to, "404 Not Found");
        true
    });
}

#[test]
fn a_token_is_got_where_the_registry_says() {
    comes("a token", |_, request, to| {
        if request.path.starts_with("/token") {
            assert!(
                request.path.contains("service=me")
                    && request.path.contains("scope=repository%3Ax%2Fapp%3Apull")
            );
            send(request, to, br#"{"access_token": "abc"}"#);
            return true;
        }
        if request.authorization.as_deref() == Some("Bearer abc") {
            return false;
        }
        // Our own address is not known here: it is that of the socket.
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"me\"", to.local_addr().unwrap());
        head(to, "401 Unauthorized", &[("WWW-Authenticate", &realm), ("Content-Length", "0")]);
        true
    });
}

#[test]
fn a_registry_that_vanishes_is_an_error_in_good_time() {
    let start = Instant::now();
    fails("vanished", "cannot ask", |image, request, to| {
        if !is_layer(image, request) {
            return false;
        }
        if request.range.is_none() {
            head(to, "200 OK", &[("Content-Length", &image.at(&request.path).unwrap().len().to_string())]);
            let _ = to.write_all(&[0x1f]);
        }
        true
    });
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let store = TestStore::new();
    let settings = Settings { plain_http: vec!["127.0.0.1:9".into()], ..Settings::default() };
    let said = pull_from(&store, &settings, "127.0.0.1:9/x/app:1").unwrap_err().to_string();
    assert!(said.contains("cannot ask 127.0.0.1:9"), "{said}");
}

/// A byte now and then, until nobody listens.
fn trickle(to: &mut TcpStream, status: &str) {
    head(to, status, &[("Content-Length", "100000")]);
    while to.write_all(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn trickles(words: &str, bad: impl Fn(&Image, &Request, &mut TcpStream) -> bool + Send + Sync + 'static) {
    let (server, _image) = server(bad);
    let settings = Settings { patience: Patience(Duration::from_millis(300)), ..Settings::default() };
    let name = format!("{}/x/app:1", server.host);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(pull_from(&TestStore::new(), &settings, &name)));
    let said = receiver.recv_timeout(Duration::from_secs(60)).unwrap().unwrap_err().to_string();
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_manifest_that_trickles_holds_nobody() {
    trickles("too slow", |_, request, to| {
        let is_it = request.path.contains("/manifests/");
        if is_it {
            trickle(to, "200 OK");
        }
        is_it
    });
}

#[test]
fn a_reason_that_trickles_holds_nobody() {
    trickles("404", |_, request, to| {
        let is_it = request.path.contains("/manifests/");
        if is_it {
            trickle(to, "404 Not Found");
        }
        is_it
    });
}

#[test]
fn a_token_that_trickles_holds_nobody() {
    trickles("too slow", |_, request, to| {
        if request.path.starts_with("/token") {
            trickle(to, "200 OK");
            return true;
        }
        let realm = format!("Bearer realm=\"http://{}/token\"", to.local_addr().unwrap());
        head(to, "401 Unauthorized", &[("WWW-Authenticate", &realm), ("Content-Length", "0")]);
        true
    });
}

#[test]
fn a_redirect_that_trickles_holds_nobody() {
    let asked = Mutex::new(HashSet::new());
    let (server, _image) = server(move |_, request, to| {
        // Each leads to itself, the first time.
        let is_it = asked.lock().unwrap().insert(request.path.clone());
        if is_it {
            let location = ("Location", request.path.as_str());
            head(to, "307 Temporary Redirect", &[location, ("Content-Length", "100000")]);
            while to.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        is_it
    });
    let name = format!("{}/x/app:1", server.host);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send(pull_from(&TestStore::new(), &Settings::default(), &name).is_ok())
    });
    assert!(receiver.recv_timeout(Duration::from_secs(20)).expect("it is held"));
}

#[test]
fn mirrors_are_asked_first_and_the_registry_where_they_fail() {
    let (good, image) = server(|_, _, _| false);
    let (bad, _) = server(|_, request, to| {
        let blob = request.path.contains("/blobs/");
        status(to, if blob { "500 Oops" } else { "404 Not Found" });
        true
    });
    // The registry itself is nowhere.
    let mirrors = [&bad.host, &good.host].map(|host| ("nowhere.invalid".to_owned(), host.clone()));
    let settings = Settings { mirrors: mirrors.into(), ..Settings::default() };
    let store = TestStore::new();
    let pulled = pull_from(&store, &settings, "nowhere.invalid/x/app:1").unwrap();
    assert_eq!(pulled.digest, image.layout.manifest);
    assert!(store.store.find("nowhere.invalid/x/app:1").is_ok());
    assert!(store.notes.0.lock().unwrap().iter().any(|n| n.contains("the next one is asked")));
}
