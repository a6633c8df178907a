//! Real containers, as root, through the launch alone: no command line, no other runtime.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};

use sampan_plan::{Options, Plan, Spec};
use sampan_runtime::clone::Direct;
use sampan_runtime::error::Error;
use sampan_runtime::launch::{self, Barrier, Console, Created, Request};
use sampan_runtime::root::Root;
use sampan_testkit::{Bundle, need};

/// A container run to its end: what it printed, and its exit code.
struct Ran {
    #[allow(dead_code)]
    output: String,
    code: i32,
}

fn run(bundle: &Bundle) -> Result<Ran, Error> {
    let text = bundle.write().unwrap();
    let spec = Spec::parse(&text)?;
    let root = Root::new(Some(&bundle.path().join("state"))).unwrap();
    let id = format!("t{}-{}", std::process::id(), bundle.path().file_name().unwrap().to_str().unwrap());
    let folder = root.create(&id).unwrap();
    let host = sampan_runtime::host::facts(spec.linux.cgroups_path.as_deref(), &id, true)?;
    let options = Options {
        id: id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        given_stdio: true,
        ..Options::default()
    };
    let plan = Plan::compile(&spec, &host, &options)?;
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let mut output = rustix_memfd();
    let request = Request {
        plan: &plan,
        host: &host,
        folder: &folder,
        bundle: bundle.path(),
        barrier: Barrier::Pipe,
        console: Console::Keep,
        stdio: Some([null.as_fd(), output.as_fd(), output.as_fd()]),
        netns: None,
        keep_groups: false,
    };
    let mut created: Created = launch::create(&request, &mut Direct, &mut ())?;
    let started = launch::start(&mut created, &plan, &folder);
    let code = wait(&created);
    remove_groups(&id);
    started?;
    let mut text = String::new();
    output.seek(SeekFrom::Start(0)).unwrap();
    output.read_to_string(&mut text).unwrap();
    Ok(Ran { output: text, code })
}

fn rustix_memfd() -> File {
    nix::sys::memfd::memfd_create(c"output", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap().into()
}

fn wait(created: &Created) -> i32 {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    match waitid(Id::PIDFd(created.child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

fn remove_groups(id: &str) {
    let hierarchies = sampan_cgroups::Hierarchies::detect().unwrap();
    let place = sampan_cgroups::Place::parse(None, id).unwrap();
    sampan_cgroups::Cgroup::at(hierarchies, &place).unwrap().remove().unwrap();
}

fn ready() -> bool {
    need::root() && need::busybox()
}

#[test]
fn the_default_config_runs_true() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new("true").unwrap();
    assert_eq!(run(&bundle).unwrap().code, 0);
}
