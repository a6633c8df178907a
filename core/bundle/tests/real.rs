//! Services' bundles as containers, as root: what they see of the host and what they may do.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use sampan_bundle as bundle;
use sampan_plan::{Options, Plan, Spec};
use sampan_runtime::launch::spawn::Direct;
use sampan_runtime::launch::{self, Barrier, Console, Keep, Request};
use sampan_runtime::store::dir::Root;
use sampan_testkit::need;

use sampan_testkit::Folder;

/// Runs the service `web`; what it printed and how it ended.
fn run(folder: &Folder, name: &str) -> (String, i32) {
    let config = super::config(folder, "config.toml");
    let parent = format!("/sampan-test-{}-{name}", std::process::id());
    let _groups = Groups(parent.clone());
    let request = bundle::Request { service: &config.services["web"], cgroup_parent: &parent };
    let facts = bundle::look(&bundle::Look::of(request.service)).unwrap();
    let built = bundle::build(&request, &facts).unwrap();
    let path = bundle::write(&folder.path("run"), "web", &built.spec).unwrap();
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
        netns: None,
        groups: Keep::No,
        hook_log: None,
    };
    let mut created = match launch::create(&request, &mut Direct, &mut ()) {
        Ok(created) => created,
        Err(e) => panic!("{e}"),
    };
    let started = launch::start(&mut created, &plan, &state, &mut launch::HookRunner::new(&mut Direct));
    let code = match waitid(Id::PIDFd(created.child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    };
    if let Err(e) = started {
        panic!("{e}");
    }
    let mut text = String::new();
    output.seek(SeekFrom::Start(0)).unwrap();
    output.read_to_string(&mut text).unwrap();
    (text, code)
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
        .with("root/etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/home/app:\n")
        .with("root/etc/group", "logs:x:40:app\n")
        .with("data/inner/file", "hello\n")
        .with(
            "config.toml",
            "[services.web]\nrootfs = \"root\"\nuser = \"app\"\nhostname = \"inside\"\n\
             command = [\"/bin/sh\", \"-c\", \"id; hostname; cat /data/inner/file; touch /data/x /x; echo $HOME $TZ; ulimit -Sn; grep NoNewPrivs /proc/self/status; grep CapBnd /proc/self/status; df /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2\"]\n\
             volumes = [\"./data:/data:ro\"]\nenvironment.TZ = \"UTC\"\ncap_drop = [\"ALL\"]\ncap_add = [\"KILL\"]\nshm_size = \"1M\"\nresources = { memory = \"64M\", pids = 20, cpus = 0.5 }\n",
        );
    std::fs::copy(sampan_testkit::bundle::BUSYBOX, folder.path("root/bin/sh")).unwrap();
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
