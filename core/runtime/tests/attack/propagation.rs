//! Mounts that travel: from a container to the host.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use sampan_testkit::Bundle;
use serde_json::json;

use super::Outcome;
use super::host::Host;
use super::runtime::Runtime;

/// What root in the namespace is outside.
const FIRST: u32 = 100_000;

/// A host whose mounts are all shared, as with systemd; the volume `$1` is a mount too. After the command: which mounts are new.
const SHARED_HOST: &str = r#"
mount --make-rshared / && mount -t tmpfs volume "$0" && mkdir -m 777 "$0/folder" || exit 99
cat /proc/self/mountinfo > "$0/before"
"$@"
cat /proc/self/mountinfo | grep -vxFf "$0/before" | sed 's/^/new mount: /'
"#;

/// The container has a volume and is root of a user namespace, where it may mount what it likes.
pub fn mount_of_root_in_a_user_namespace(runtime: &Runtime) -> Outcome {
    let volume = Host::new();
    let mut bundle = Bundle::new("userns-mount").unwrap();
    let map = json!([{"containerID": 0, "hostID": FIRST, "size": 1000}]);
    bundle.set("/linux/uidMappings", map.clone());
    bundle.set("/linux/gidMappings", map);
    bundle.add("/linux/namespaces", json!({"type": "user"}));
    for set in ["bounding", "effective", "permitted"] {
        bundle.add(&format!("/process/capabilities/{set}"), json!("CAP_SYS_ADMIN"));
    }
    for path in [bundle.path(), bundle.rootfs().as_path()] {
        chown(path, Some(FIRST), Some(FIRST)).unwrap();
    }
    fs::create_dir(bundle.rootfs().join("volume")).unwrap();
    bundle.add(
        "/mounts",
        json!({"destination": "/volume", "type": "bind", "source": volume.path(), "options": ["rbind", "rshared"]}),
    );
    bundle.script("mount -t tmpfs evil /volume/folder && echo mounted; sleep 1");
    let ran = runtime.run_with(&[], &bundle, |command| {
        let mut host = Command::new("unshare");
        host.args(["--mount", "sh", "-c", SHARED_HOST]).arg(volume.path());
        host.arg(command.get_program()).args(command.get_args());
        host.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        *command = host;
    });
    match ran.out.lines().find(|line| line.starts_with("new mount: ")) {
        Some(line) => Outcome::Worked(line.to_owned()),
        None if ran.out.contains("mounted") => Outcome::Repelled("the mount stayed inside".into()),
        None => Outcome::Repelled(ran.said()),
    }
}
