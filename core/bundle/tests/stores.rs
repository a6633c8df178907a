//! Named volumes and secrets: what is made on the host, and what a container has of it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use sampan_testkit::{Folder, need};

use super::real::{ro_service, run, run_in};

/// A run folder in memory, as /run is.
struct Shm(PathBuf);

impl Shm {
    fn new(name: &str) -> Shm {
        Shm(PathBuf::from(format!("/dev/shm/sampan-test-{}-{name}", std::process::id())))
    }
}

impl Drop for Shm {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `keys` end the service; `more` are tables after it.
fn service(keys: &str, more: &str, script: &str) -> Folder {
    ro_service(&format!("{keys}\n{more}"), script).with("root/run/.keep", "").with("pass", "s3cret")
}

const READS: &str = "cat /run/secrets/db";

#[test]
fn a_secret_is_a_file_of_the_services_user() {
    if !(need::root() && need::busybox()) {
        return;
    }
    let run = Shm::new("secret");
    let script = "cat /run/secrets/db /run/secrets/sub/env /etc/own; [ -w /run/secrets/db ] || echo ro";
    let keys = "user = \"33:34\"\nrootfs.mode = \"rw\"\nsecrets = [\"db\", { source = \"env\", target = \"sub/env\", mode = \"0440\" }, { source = \"made\", target = \"/etc/own\", uid = 33 }]";
    let more = "[secrets.db]\nfile = \"pass\"\n[secrets.env]\nenvironment = \"PATH\"\n[secrets.made]\ncommand = \"/bin/echo made\"";
    let folder = service(keys, more, script);
    let toml = std::fs::read_to_string(folder.path("config.toml"))
        .unwrap()
        .replace("rootfs = \"root\"", "rootfs.path = \"root\"");
    let folder = folder.with("config.toml", &toml);
    std::fs::copy(sampan_testkit::bundle::BUSYBOX, folder.path("root/bin/cat")).unwrap();
    // As the process has it that launches.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let (text, code) = run_in(&folder, "secret", &run.0);
    let path = std::env::var("PATH").unwrap();
    assert_eq!((text.as_str(), code), (format!("s3cret{path}madero\n").as_str(), 0));
    let stat = std::fs::metadata(run.0.join("secrets/web/all/db")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.permissions().mode() & 0o777), (33, 34, 0o400));
    let config = std::fs::read_to_string(run.0.join("bundles/web/config.json")).unwrap();
    assert!(!config.contains("s3cret") && !config.contains(&path.replace('/', "\\/")));
    super::bundle::remove(&run.0, "web").unwrap();
    assert!(!run.0.join("secrets/web").exists());
}

#[track_caller]
fn refused(source: &str, why: &str) {
    let run = Shm::new("refused");
    let folder = service("secrets = [\"db\"]", &format!("[secrets.db]\n{source}"), READS);
    let config = super::config(&folder, "config.toml");
    let error =
        super::bundle::look(&super::bundle::Look::of(&config.services["web"], &run.0, &run.0), &|_| ())
            .unwrap_err();
    assert!(error.to_string().starts_with(&format!("web: secrets: {why}")), "{error}");
}

#[test]
fn a_secret_that_cannot_be_had_is_named_and_never_shown() {
    let folder = Folder::new().with("empty", "").with("long", &"x".repeat(10 << 20));
    let path = |name: &str| folder.path(name).display().to_string();
    refused("file = \"no-such\"", "cannot read ");
    refused("file = \"/dev/zero\"", "cannot read /dev/zero: it is no file");
    refused(&format!("file = \"{}\"", path("empty")), "cannot read a secret: db: it is empty");
    refused(&format!("file = \"{}\"", path("long")), "cannot read a secret: db: longer than 500 KiB");
    refused("environment = \"NO_SUCH\"", "cannot read a secret: db: NO_SUCH is not set");
    refused("command = \"/bin/false\"", "cannot read a secret: db: /bin/false: exit status: 1");
    refused("command = \"/no/such\"", "cannot read a secret: db: /no/such: no such file");
    refused("command = \"/bin/cat /dev/zero\"", "cannot read a secret: db: ");
}

/// On a disk it would stay.
#[test]
fn a_run_folder_on_a_disk_is_refused() {
    let folder = service("secrets = [\"db\"]", "[secrets.db]\nfile = \"pass\"", READS);
    let in_memory = std::process::Command::new("stat").args(["-f", "-c", "%T", "/tmp"]).output().unwrap();
    if String::from_utf8_lossy(&in_memory.stdout).contains("tmpfs") {
        return println!("skipped: /tmp is a tmpfs");
    }
    let config = super::config(&folder, "config.toml");
    let look = super::bundle::Look::of(&config.services["web"], &folder.path("run"), &folder.path("var"));
    let error = super::bundle::look(&look, &|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("it is on a disk, where secrets would stay\n  put supervisor.run_dir on a tmpfs"),
        "{error}"
    );
}

#[test]
fn a_named_volume_is_made_once_with_its_owner_and_stays() {
    if !(need::root() && need::busybox()) {
        return;
    }
    let keys = "volumes = [\"data:/etc\"]\nuser = \"33:34\"";
    let more = "[volumes.data]\npath = \"kept/data\"\nuid = 33\ngid = 34\nmode = \"0700\"";
    let folder = service(keys, more, "echo a >> /etc/f; while read l; do echo $l; done < /etc/f");
    assert_eq!(run(&folder, "volume"), ("a\n".into(), 0));
    let made = folder.path("kept/data");
    let stat = std::fs::metadata(&made).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.permissions().mode() & 0o7777), (33, 34, 0o700));
    // What is there is the user's.
    std::fs::set_permissions(&made, PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(run(&folder, "volume-2"), ("a\na\n".into(), 0));
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o7777, 0o755);
}
