//! Another user of the host, who may run programs there and is not ours: what they can read, hold and write.
use super::{LIVE, World};
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MALLORY: u32 = 4242;

/// All that is below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(below(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

#[test]
fn nothing_of_ours_can_be_read_by_others_whatever_the_umask() {
    let logging = super::world::library("logging");
    for umask in ["000", "077"] {
        let mut world = world!(
            "[plugins.logging]\npath = \"{}\"\n[services.a]\n{LIVE}environment = {{ PASSWORD = \"secret\" }}\n",
            logging.display()
        )
        .umask(umask);
        world.start();
        world.until_state("a", "running");
        let (run, state) = (world.dir().join("run"), world.dir().join("state"));
        let mode = |path: &Path| path.symlink_metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode(&run), mode(&state)), (0o711, 0o700), "umask {umask}");
        let all: Vec<PathBuf> = [&run, &state].iter().flat_map(|folder| below(folder)).collect();
        for needed in ["containers/a/config.json", "bundles/a/config.json", "plugins/a.json", "sampand.lock"]
        {
            assert!(all.contains(&run.join(needed)), "{needed} is not where it was: {all:#?}");
        }
        for path in &all {
            assert_eq!(mode(path) & 0o077, 0, "umask {umask}: {}", path.display());
        }
        // And as that user, who sees nothing of the secret, and can lock nothing of ours.
        let script = format!(
            "cat {0}/*/*/* {0}/*/* {0}/* 2>/dev/null; flock -n {0}/sampand.lock echo locked",
            run.display()
        );
        let theirs = Command::new("sh").args(["-c", &script]).uid(MALLORY).gid(MALLORY).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&theirs.stdout), "");
    }
}

/// Root inside finds its standard input in /proc, and may do there what it likes: it is no file of the host's.
#[test]
fn a_service_and_its_health_check_cannot_change_the_hosts_null_device() {
    let look = "stat -L -c %d:%i /proc/self/fd/0";
    let mut world = world!(
        "[services.a]\ncommand = [\"/bin/sh\", \"-c\", \"{look}; sleep 100000\"]\n\
         stop_signal = \"SIGKILL\"\nhealthcheck = {{ test = [\"CMD-SHELL\", \"{look} > /dev/shm/check\"], interval = \"100ms\" }}\n"
    );
    world.start();
    world.until("the health check has run", |world| world.inspect("a").last_check.is_some());
    let host = fs::metadata("/dev/null").unwrap();
    let host = format!("{}:{}\n", host.dev(), host.ino());
    let service = fs::read_to_string(world.dir().join("state/logs/a/stdout.log")).unwrap();
    let check = world.ok(&["exec", "a", "/bin/cat", "/dev/shm/check"]);
    for (who, theirs) in [("service", service), ("check", check)] {
        assert!(theirs.contains(':') && theirs != host, "{who}: {theirs}, the host's is {host}");
    }
}

#[test]
fn a_volume_that_sampand_makes_is_open_to_the_containers_user() {
    let world = world!("");
    let data = world.dir().join("data/a");
    let mut world = world;
    world.configure(&format!(
        "[services.a]\n{LIVE}user = \"1000:1000\"\nvolumes = [{{ source = \"{}\", target = \"/data\", create = true }}]\n",
        data.display()
    ));
    world.start();
    world.until_state("a", "running");
    assert_eq!(data.metadata().unwrap().mode() & 0o7777, 0o755);
    world.ok(&["exec", "a", "ls", "/data"]);
}

/// Anybody may take any name in the abstract namespace; a service on the host's network too.
#[test]
fn who_takes_our_names_for_sockets_does_not_keep_sampand_from_starting() {
    let mut world = world!("[services.a]\n{LIVE}");
    let namespace = fs::metadata("/proc/self/ns/cgroup").unwrap().ino();
    let parent = format!("/{}", world.group());
    let sum = sampan_journal::crc32(parent.as_bytes());
    let name = format!("sampan/groups/{namespace}/{sum:08x}");
    let _held = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
    world.start();
    world.until_state("a", "running");
}

/// A state_dir that others may read, as packages make it: they can lock the folder itself, and that is all.
#[test]
fn who_locks_a_folder_of_ours_does_not_keep_sampand_from_starting() {
    let mut world = world!("[services.a]\n{LIVE}");
    let locked: Vec<fs::File> = ["run", "state"]
        .iter()
        .map(|name| {
            let path = world.dir().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            fs::File::open(path).unwrap()
        })
        .collect();
    for folder in &locked {
        rustix::fs::flock(folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    }
    world.start();
    world.until_state("a", "running");
}

#[test]
fn the_folder_of_locks_is_closed_to_others() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    let folder = Path::new("/run/sampan.locks");
    assert_eq!((folder.metadata().unwrap().uid(), folder.metadata().unwrap().mode() & 0o7777), (0, 0o700));
    let theirs = Command::new("ls").arg(folder).uid(MALLORY).gid(MALLORY).output().unwrap();
    assert!(!theirs.status.success());
}

/// A sampand that is started anew must not trust what was made while nobody looked.
#[test]
fn folders_that_an_older_version_left_open_are_closed() {
    let mut world = world!("[services.a]\n{LIVE}");
    let containers = world.dir().join("run/containers");
    fs::create_dir_all(&containers).unwrap();
    fs::set_permissions(&containers, fs::Permissions::from_mode(0o755)).unwrap();
    world.start();
    assert_eq!(containers.metadata().unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn a_run_folder_that_was_open_is_closed_and_one_that_others_use_too_keeps_its_mode() {
    for (others, expected) in [(false, 0o711), (true, 0o755)] {
        let mut world = world!("[services.a]\n{LIVE}");
        let run = world.dir().join("run");
        fs::create_dir_all(run.join("bundles")).unwrap();
        fs::write(run.join("journal"), "").unwrap();
        if others {
            fs::write(run.join("theirs"), "").unwrap();
        }
        for path in [&run, &run.join("bundles")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        world.start();
        world.until_state("a", "running");
        let mode = |path: &Path| path.symlink_metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode(&run), expected);
        for entry in fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().path()) {
            if !entry.ends_with("theirs") {
                assert_eq!(mode(&entry) & 0o077, 0, "{}", entry.display());
            }
        }
        let _ = fs::remove_file(run.join("theirs"));
    }
}

/// One per path of control groups that was ever used would be a file for ever.
#[test]
fn a_claim_on_control_groups_leaves_no_file() {
    let mut world = world!("[services.a]\n{LIVE}");
    let sum = format!("{:08x}", sampan_journal::crc32(format!("/{}", world.group()).as_bytes()));
    let claims = || {
        let files = fs::read_dir("/run/sampan.locks").unwrap().map(|entry| entry.unwrap().file_name());
        files.filter(|name| name.to_string_lossy().ends_with(&sum)).count()
    };
    world.start();
    assert_eq!(claims(), 1);
    assert_eq!(world.interrupt(), Some(0));
    assert_eq!(claims(), 0);
}

#[test]
fn a_run_folder_that_others_could_replace_is_refused() {
    let world = world!("[services.a]\n{LIVE}");
    let open = world.dir().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let config = fs::read_to_string(world.config()).unwrap();
    let run = format!("{}/run", world.dir().display());
    fs::write(world.config(), config.replace(&run, &format!("{}/run", open.display()))).unwrap();
    let mut sampand = Command::new(world.bin().join("sampand"));
    let ran = super::world::run(sampand.arg("--config").arg(world.config()));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.out.contains(&format!("{}: everybody may write to it (mode 0777)", open.display())),
        "{ran:?}"
    );
}

/// `make run` of an ordinary user: all files are theirs, and sudo says who they are.
#[test]
fn a_checkout_of_an_ordinary_user_runs_with_sudo() {
    let Some(world) = World::new("") else { return };
    let world = world.installed(&["logging"]);
    world.configure(&format!("[services.a]\n{LIVE}"));
    for path in below(world.dir()).into_iter().chain([world.dir().to_owned()]) {
        lchown(path, Some(MALLORY), Some(MALLORY)).unwrap();
    }
    let ran =
        super::world::run(Command::new(world.bin().join("sampand")).arg("--config").arg(world.config()));
    assert_eq!(ran.code, 2, "without sudo it is another user's: {ran:?}");
    assert!(ran.err.contains("it belongs to user 4242, who is neither root nor us"), "{ran:?}");
    let mut world = world.env("SUDO_UID", &MALLORY.to_string());
    world.start();
    world.until_state("a", "running");
    assert!(world.ok(&["plugin", "list"]).contains("logging"), "{}", world.said());
}
