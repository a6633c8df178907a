//! procfs and what is mistaken for it.

use std::fs;
use std::os::unix::fs::symlink;

use sampan_testkit::Bundle;
use serde_json::json;

use super::Outcome;
use super::host::Host;
use super::runtime::{Ran, Runtime};

/// The image's `name` (proc or sys) is a link to a folder of its own, which then is what the runtime masks and trusts.
fn behind_a_link(runtime: &Runtime, name: &str) -> Outcome {
    let mut bundle = Bundle::new("proc-link").unwrap();
    fs::remove_dir(bundle.rootfs().join(name)).unwrap();
    fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
    symlink("elsewhere", bundle.rootfs().join(name)).unwrap();
    bundle.script("grep ' /elsewhere ' /proc/self/mounts");
    let ran = runtime.run(&bundle);
    match ran.code {
        0 => Outcome::Worked(format!("mounted behind the link: {}", ran.out.trim())),
        _ => Outcome::Repelled(ran.said()),
    }
}

pub fn proc_is_a_link(runtime: &Runtime) -> Outcome {
    behind_a_link(runtime, "proc")
}

pub fn sys_is_a_link(runtime: &Runtime) -> Outcome {
    behind_a_link(runtime, "sys")
}

/// The image declares a volume at /proc, and brings the files that a runtime writes to.
pub fn volume_over_proc(runtime: &Runtime) -> Outcome {
    let volume = Host::new();
    let mut bundle = Bundle::new("proc-volume").unwrap();
    bundle.add(
        "/mounts",
        json!({"destination": "/proc", "type": "bind", "source": volume.path(), "options": ["rbind"]}),
    );
    bundle.script("[ -e /proc/secret ] && echo the volume is procfs now");
    fake(&runtime.run(&bundle))
}

fn fake(ran: &Ran) -> Outcome {
    match ran.out.trim() {
        "" => Outcome::Repelled(ran.said()),
        text => Outcome::Worked(text.to_owned()),
    }
}

/// The image has no procfs but a link to the host where a sysctl would be written.
pub fn sysctl_through_the_images_proc(runtime: &Runtime) -> Outcome {
    let host = Host::with(|path| fs::write(path.join("file"), "").unwrap());
    let mut bundle = Bundle::new("sysctl-link").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| m["destination"] != "/proc");
    let folder = bundle.rootfs().join("proc/sys/net/ipv4");
    fs::create_dir_all(&folder).unwrap();
    symlink(host.path().join("file"), folder.join("ip_forward")).unwrap();
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    host.verdict(&runtime.run(&bundle))
}

/// The image brings the file that AppArmor's profile is written to: it takes the profile, and the process runs without one.
pub fn profile_for_the_images_proc(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("profile-file").unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/proc");
    for attributes in ["proc/thread-self/attr/apparmor", "proc/self/attr/apparmor", "proc/self/attr"] {
        let folder = bundle.rootfs().join(attributes);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("exec"), "").unwrap();
    }
    // Loaded nowhere: whoever asks AppArmor is told so.
    bundle.set("/process/apparmorProfile", json!("sampan-nosuch"));
    bundle.script("echo not confined");
    fake(&runtime.run(&bundle))
}
