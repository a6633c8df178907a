//! Services' bundles as containers, as root: what they see of the host and what they may do.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use sampan_bundle as bundle;
use sampan_plan::{Options, Plan, Spec};
use sampan_runtime::launch::spawn::Direct;
use sampan_runtime::launch::{self, Barrier, Console, Keep, Request};
use sampan_runtime::store::dir::Root;
use sampan_testkit::need;
use serde_json::{Value, json};

use sampan_testkit::Folder;

/// Runs the service `web`; what it printed and how it ended.
pub fn run(folder: &Folder, name: &str) -> (String, i32) {
    match run_adjusted(folder, name, |_| ()) {
        Ok(ran) => ran,
        Err(e) => panic!("{e}"),
    }
}

/// As `run`, of the spec that plugins have adjusted; or why it could not be.
fn run_adjusted(folder: &Folder, name: &str, adjust: fn(&mut Value)) -> Result<(String, i32), String> {
    run_all(folder, name, &folder.path("run"), adjust)
}

/// As `run`, with another run folder.
pub fn run_in(folder: &Folder, name: &str, run_dir: &Path) -> (String, i32) {
    match run_all(folder, name, run_dir, |_| ()) {
        Ok(ran) => ran,
        Err(e) => panic!("{e}"),
    }
}

fn run_all(
    folder: &Folder,
    name: &str,
    run_dir: &Path,
    adjust: fn(&mut Value),
) -> Result<(String, i32), String> {
    let config = super::config(folder, "config.toml");
    let parent = format!("/sampan-test-{}-{name}", std::process::id());
    let _groups = Groups(parent.clone());
    let request = bundle::Request {
        service: &config.services["web"],
        cgroup_parent: &parent,
        joined: &[],
        stored: &[],
    };
    let facts =
        bundle::look(&bundle::Look::of(request.service, run_dir, &folder.path("var")), &|_| ()).unwrap();
    let mut built = bundle::build(&request, &facts).map_err(|e| e.to_string())?;
    adjust(&mut built.spec);
    let path = bundle::write(run_dir, "web", &built.spec, &bundle::text(&built.spec)).unwrap();
    let text = std::fs::read_to_string(path.join("config.json")).unwrap();
    let spec = Spec::parse(&text).unwrap();
    let id = format!("{name}-{}", std::process::id());
    let state = Root::new(Some(&folder.path("state"))).unwrap().create(&id).unwrap();
    let host = sampan_runtime::launch::host_facts(&spec, &path, &id, true).unwrap();
    let options =
        Options { id, bundle: path.to_str().unwrap().into(), given_stdio: true, ..Options::default() };
    let plan = Plan::compile(&spec, &host, &options).unwrap();
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let mut output: File = memfd_create(c"output", MFdFlags::MFD_CLOEXEC).unwrap().into();
    let request = Request {
        plan: &plan,
        host: &host,
        folder: &state,
        bundle: &path,
        barrier: Barrier::Pipe,
        console: Console::Keep,
        stdio: Some([null.as_fd(), output.as_fd(), output.as_fd()]),
        given: &[],
        netns: None,
        groups: Keep::No,
        hook_log: None,
    };
    let mut created = launch::create(&request, &mut Direct, &mut ()).map_err(|e| e.to_string())?;
    let started = launch::start(&mut created, &plan, &state, &mut launch::HookRunner::new(&mut Direct));
    let code = match waitid(Id::PIDFd(created.child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    };
    started.map_err(|e| e.to_string())?;
    let mut text = String::new();
    output.seek(SeekFrom::Start(0)).unwrap();
    output.read_to_string(&mut text).unwrap();
    Ok((text, code))
}

/// The groups of a service and their parent, gone with the test however it ends.
struct Groups(String);

impl Drop for Groups {
    fn drop(&mut self) {
        for path in [format!("{}/web", self.0), self.0.clone()] {
            let place = sampan_cgroups::CgroupsPath::parse(Some(&path), "web").unwrap();
            let hierarchies = sampan_cgroups::Hierarchies::detect().unwrap();
            if let Ok(group) = sampan_cgroups::Cgroup::at(hierarchies, &place) {
                let _ = group.remove();
            }
        }
    }
}

fn host_service(script: &str, keys: &str) -> Folder {
    let script = script.replace('\\', "\\\\").replace('"', "\\\"");
    Folder::new().with(
        "config.toml",
        &format!(
            "[services.web]\nrootfs = \"host\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n{keys}\n"
        ),
    )
}

/// The folders that every container needs, and a shell.
fn fill(folder: &Folder) {
    for name in ["bin", "dev", "proc", "sys"] {
        std::fs::create_dir_all(folder.path("root").join(name)).unwrap();
    }
    std::fs::copy(sampan_testkit::bundle::BUSYBOX, folder.path("root/bin/sh")).unwrap();
}

/// Every path of the root.
fn tree(folder: &Folder) -> Vec<PathBuf> {
    let mut all = vec![folder.path("root")];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        if path.is_dir() && !path.is_symlink() {
            all.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all.sort();
    all
}

pub fn ro_service(keys: &str, script: &str) -> Folder {
    let folder = Folder::new().with("root/etc/.keep", "").with("data/file", "hello\n").with(
        "config.toml",
        &format!(
            "[services.web]\nrootfs = \"root\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n{keys}\n"
        ),
    );
    fill(&folder);
    folder
}

/// What `build` does not see (a link that dangles, what a plugin mounts), the kernel refuses.
#[test]
fn a_ro_root_is_never_written_to() {
    if !(need::root() && need::busybox()) {
        return;
    }
    let nothing: fn(&mut Value) = |_| ();
    let mount: fn(&mut Value) = |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/of-a-plugin/deep", "type": "tmpfs", "source": "tmpfs" }));
    };
    let cwd: fn(&mut Value) = |spec| spec["process"]["cwd"] = json!("/of-a-plugin/deep");
    let hook: fn(&mut Value) = |spec| {
        let root = spec["root"]["path"].as_str().unwrap().to_owned();
        let args = ["sh", "-c", &format!("mkdir {root}/of-a-hook")];
        spec["hooks"] = json!({ "createContainer": [{ "path": "/bin/sh", "args": args }] });
    };
    let cases = [
        ("volumes", "volumes = [\"./data:/nothing/here\"]", nothing, "it has no /nothing/here"),
        ("tmpfs", "tmpfs = \"/nothing\"", nothing, "it has no /nothing"),
        ("cwd", "working_dir = \"/nothing\"", nothing, "it has no /nothing"),
        ("link", "volumes = [\"./data:/etc/link\"]", nothing, "read-only"),
        ("plugin", "", mount, "read-only"),
        ("plugincwd", "", cwd, "read-only"),
        ("hook", "", hook, "hook"),
    ];
    for (name, keys, adjust, why) in cases {
        let folder = ro_service(keys, "true");
        std::os::unix::fs::symlink("/nothing", folder.path("root/etc/link")).unwrap();
        let before = tree(&folder);
        let ran = run_adjusted(&folder, name, adjust);
        assert_eq!(tree(&folder), before, "{name}: {ran:?}");
        assert!(ran.as_ref().is_err_and(|e| e.contains(why)), "{name}: {ran:?}");
    }
}

#[test]
fn what_is_mounted_inside_of_another_mount_needs_nothing_of_a_ro_root() {
    if !(need::root() && need::busybox()) {
        return;
    }
    let folder = ro_service(
        "tmpfs = [\"/etc\"]\nworking_dir = \"/etc/a\"\nvolumes = [\"./data:/etc/b/c\", \"./data/file:/run/f\"]",
        "pwd; read a < /etc/b/c/file; read b < /var/run/f; echo $a $b",
    );
    std::fs::create_dir_all(folder.path("root/run")).unwrap();
    std::fs::create_dir_all(folder.path("root/var")).unwrap();
    std::os::unix::fs::symlink("/run", folder.path("root/var/run")).unwrap();
    let before = tree(&folder);
    assert_eq!(run(&folder, "inside"), ("/etc/a\nhello hello\n".to_owned(), 0));
    assert_eq!(tree(&folder), before);
}

/// The root is read-only, and what a volume shows is as the volume says, even where it is a folder of that root.
#[test]
fn a_volume_out_of_a_ro_root_is_writable() {
    if !(need::root() && need::busybox()) {
        return;
    }
    let keys = "volumes = [\"./root/own:/etc\", \"./root/own:/proc-of/us:ro\"]";
    let folder =
        ro_service(keys, "echo 1 > /etc/made; echo 2 > /own/not; echo 3 > /proc-of/us/not; echo 4 > /not");
    for name in ["own", "proc-of/us"] {
        std::fs::create_dir_all(folder.path("root").join(name)).unwrap();
    }
    let (output, code) = run(&folder, "own");
    assert_eq!(std::fs::read_to_string(folder.path("root/own/made")).unwrap(), "1\n");
    assert_eq!((output.matches("Read-only file system").count(), code), (3, 1), "{output}");
}

/// Whoever is not root, or is in a user namespace, may find it unreadable.
#[test]
fn a_seccomp_profile_that_may_not_be_read_is_said() {
    if !(need::root() && need::busybox()) {
        return;
    }
    let folder = ro_service("security.seccomp_profile = \"profile.json\"", "true").with("profile.json", "{}");
    let profile = folder.path("profile.json");
    let config = super::config(&folder, "config.toml");
    let look = |mode| {
        std::fs::set_permissions(&profile, std::fs::Permissions::from_mode(mode)).unwrap();
        // Of this thread alone, and with it the right to read what modes forbid.
        nix::unistd::setfsuid(65534.into());
        let looked = bundle::look(
            &bundle::Look::of(&config.services["web"], &folder.path("run"), &folder.path("var")),
            &|_| (),
        );
        nix::unistd::setfsuid(0.into());
        looked.map(|facts| facts.profile).map_err(|e| e.to_string())
    };
    let why = format!("web: security.seccomp_profile: cannot read the profile {}: ", profile.display());
    let error = look(0o600).unwrap_err();
    assert!(error.starts_with(&why) && error.to_lowercase().contains("permission denied"), "{error}");
    assert_eq!(look(0o644), Ok(Some("{}".to_owned())));
}

#[test]
fn the_hosts_root_is_read_only_and_its_secrets_are_hidden() {
    if !need::root() {
        return;
    }
    let folder = host_service(
        "hostname; id -u; cat /etc/shadow 2>/dev/null; ls /root /home /var/lib 2>/dev/null | grep -v :$ | grep .; \
         for d in / /usr /etc /var; do test -d $d || echo no $d; touch $d/x 2>/dev/null && echo wrote to $d; done; \
         for d in /tmp /run /dev/shm; do touch $d/x && rm $d/x && echo can write to $d; done; \
         grep -c . /proc/net/dev; echo $HOME",
        "",
    );
    let (output, code) = run(&folder, "host");
    assert_eq!(code, 0, "{output}");
    // Two lines of header and lo.
    assert_eq!(output, "web\n0\ncan write to /tmp\ncan write to /run\ncan write to /dev/shm\n3\n/root\n");
}

#[test]
fn a_volume_whose_mount_point_would_be_made_on_the_host_is_refused_and_leaves_nothing() {
    if !need::root() {
        return;
    }
    let folder = host_service("true", "volumes = [\"/etc:/usr/no-such-folder-of-a-host\"]");
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&folder, "refused")));
    assert!(refused.is_err());
    assert!(!std::path::Path::new("/usr/no-such-folder-of-a-host").exists());
}

#[test]
fn a_rootfs_with_volumes_users_and_limits() {
    if !(need::root() && need::busybox()) {
        return;
    }
    let folder = Folder::new()
        .with("root/bin/.keep", "")
        .with("root/data/.keep", "")
        .with("root/etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/home/app:\n")
        .with("root/etc/group", "logs:x:40:app\n")
        .with("data/inner/file", "hello\n")
        .with(
            "config.toml",
            "[services.web]\nrootfs = \"root\"\nuser = \"app\"\nhostname = \"inside\"\n\
             command = [\"/bin/sh\", \"-c\", \"id; hostname; cat /data/inner/file; touch /data/x /x; echo $HOME $TZ; ulimit -Sn; grep NoNewPrivs /proc/self/status; grep CapBnd /proc/self/status; df /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2\"]\n\
             volumes = [\"./data:/data:ro\"]\nenvironment.TZ = \"UTC\"\ncap_drop = [\"ALL\"]\ncap_add = [\"KILL\"]\nshm_size = \"1M\"\nresources = { memory = \"64M\", pids = 20, cpus = 0.5 }\n",
        );
    fill(&folder);
    for name in ["id", "hostname", "cat", "touch", "grep", "df", "tail", "tr", "cut"] {
        std::os::unix::fs::symlink("sh", folder.path("root/bin").join(name)).unwrap();
    }
    let (output, code) = run(&folder, "rootfs");
    assert_eq!(code, 0, "{output}");
    assert_eq!(
        output,
        "uid=1000(app) gid=1001 groups=40(logs)\ninside\nhello\n\
         touch: /data/x: Read-only file system\ntouch: /x: Read-only file system\n/home/app UTC\n1024\n\
         NoNewPrivs:\t1\nCapBnd:\t0000000000000020\n1024\n"
    );
}
