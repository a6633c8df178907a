//! Debian's docker-registry, filled by skopeo: plain, with a password, with TLS of an authority of ours, as a mirror.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sampan_image::registry::Settings;
use sampan_testkit::{Folder, need};

use crate::hostile::pull_from;
use crate::made::{Layer, Layout, TestStore, gzip, layout};

pub struct Registry {
    folder: Folder,
    child: Child,
    pub host: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

pub fn ready() -> bool {
    need::programs(
        &["docker-registry", "skopeo", "openssl", "htpasswd"],
        "docker-registry skopeo openssl apache2-utils",
    )
}

impl Registry {
    pub fn new(password: bool, tls: bool) -> Registry {
        let folder = Folder::new();
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| folder.path(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: x\n",
            at("data")
        );
        if tls {
            authority(&folder);
            config += &format!("  tls: {{certificate: {}, key: {}}}\n", at("host.crt"), at("host.key"));
        }
        if password {
            run(Command::new("htpasswd").args(["-Bbc", &at("htpasswd"), "user", "secret"]));
            config += &format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", at("htpasswd"));
        }
        fs::write(folder.path("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let host = format!("127.0.0.1:{port}");
        let registry = Registry { folder, child, host };
        for _ in 0..200 {
            if TcpStream::connect(&registry.host).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        registry
    }

    /// An image of two layers, pushed by skopeo.
    fn push(&self, name: &str) {
        let layers = [
            Layer::default().file("a", "1").bytes(),
            Layer::default().file("b", "2").file(".wh.a", "").bytes(),
        ];
        self.push_made(&layout("x:1", &layers, gzip), name);
    }

    /// What is `x:1` in `made`.
    pub fn push_made(&self, made: &Layout, name: &str) {
        let to = format!("docker://{}/{name}", self.host);
        let from = format!("oci:{}:x:1", made.folder.0.display());
        run(Command::new("skopeo").args([
            "copy",
            "--insecure-policy",
            "--dest-tls-verify=false",
            "--dest-creds=user:secret",
            &from,
            &to,
        ]));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }
}

/// An authority, and a certificate of it for 127.0.0.1.
fn authority(folder: &Folder) {
    let at = |name: &str| folder.path(name).display().to_string();
    fs::write(folder.path("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let openssl = |args: &[&str]| run(Command::new("openssl").args(args));
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        &[
            &["req", "-x509"],
            &curve[..],
            &["-keyout", &at("ca.key"), "-out", &at("ca.crt"), "-subj", "/CN=test", "-days", "2"],
        ]
        .concat(),
    );
    openssl(
        &[&["req"], &curve[..], &["-keyout", &at("host.key"), "-out", &at("host.csr"), "-subj", "/CN=host"]]
            .concat(),
    );
    openssl(&[
        "x509",
        "-req",
        "-in",
        &at("host.csr"),
        "-CA",
        &at("ca.crt"),
        "-CAkey",
        &at("ca.key"),
        "-CAcreateserial",
        "-out",
        &at("host.crt"),
        "-days",
        "2",
        "-extfile",
        &at("ext"),
    ]);
}

/// Both layers are here, and what hides the first one's file.
fn check(store: &TestStore, name: &str) {
    let image = store.store.find(name).unwrap();
    let layers = store.store.layers(&image).unwrap();
    assert!(layers[0].join("a").exists() && layers[1].join("b").exists() && layers[1].join("a").exists());
    assert_eq!(layers.len(), 2);
}

#[test]
fn plain_and_as_a_mirror() {
    if !ready() {
        return;
    }
    let registry = Registry::new(false, false);
    registry.push("library/app:1");
    let store = TestStore::new();
    let name = format!("{}/library/app:1", registry.host);
    pull_from(&store, &Settings::default(), &name).unwrap();
    check(&store, &name);
    let mirrors = vec![("docker.io".to_owned(), registry.host.clone())];
    pull_from(&store, &Settings { mirrors, ..Settings::default() }, "app:1").unwrap();
    check(&store, "app:1");
    let said =
        pull_from(&store, &Settings::default(), &format!("{}/library/other", registry.host)).unwrap_err();
    assert_eq!(said.kind(), sampan_image::Kind::NotFound, "{said}");
}

#[test]
fn with_a_password_from_a_file_and_from_a_helper() {
    if !ready() {
        return;
    }
    let registry = Registry::new(true, false);
    registry.push("app:1");
    let store = TestStore::new();
    let name = format!("{}/app:1", registry.host);
    // Each test is a process of its own under nextest; with cargo test this one alone sets the variable.
    let image = |auth: &str| {
        let file = registry.file("auth.json");
        fs::write(&file, auth).unwrap();
        Command::new(env!("CARGO_BIN_EXE_sampan-image"))
            .args(["--store", store.store.path().to_str().unwrap(), "--progress", "json", "pull", &name])
            .env("REGISTRY_AUTH_FILE", file)
            .env("PATH", format!("{}:{}", registry.folder.0.display(), std::env::var("PATH").unwrap()))
            .output()
            .unwrap()
    };
    let none = image("{}");
    assert_eq!(none.status.code(), Some(4), "{none:?}");
    assert!(String::from_utf8_lossy(&none.stdout).contains(r#""kind":"denied""#), "{none:?}");
    // user:secret
    let entry = format!(r#"{{"auths": {{"{}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#, registry.host);
    let got = image(&entry);
    assert!(got.status.success(), "{got:?}");
    let last = String::from_utf8_lossy(&got.stdout).lines().last().unwrap().to_owned();
    let line: sampan_image::progress::Line = serde_json::from_str(&last).unwrap();
    assert!(
        matches!(line, sampan_image::progress::Line::Image { names, .. } if names == std::slice::from_ref(&name))
    );
    check(&store, &name);
    let helper = registry.file("docker-credential-test");
    fs::write(
        &helper,
        "#!/bin/sh\nread -r host || [ -n \"$host\" ]; echo '{\"Username\":\"user\",\"Secret\":\"secret\"}'\n",
    )
    .unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let entry = format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.host);
    assert!(image(&entry).status.success());
}

#[test]
fn with_tls_of_an_authority_that_must_be_named() {
    if !ready() {
        return;
    }
    let registry = Registry::new(false, true);
    registry.push("app:1");
    let store = TestStore::new();
    let name = format!("{}/app:1", registry.host);
    let said = pull_from(&store, &Settings::default(), &name).unwrap_err().to_string();
    assert!(said.contains("--ca FILE"), "{said}");
    let settings = Settings { authorities: vec![registry.file("ca.crt")], ..Settings::default() };
    pull_from(&store, &settings, &name).unwrap();
    check(&store, &name);
}
