//! Links of the image where the runtime mounts something.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sampan_testkit::Bundle;
use serde_json::json;

use super::Outcome;
use super::host::Host;
use super::runtime::Runtime;

/// How often a race is tried. Without the defence it is won in the first few.
const TRIES: u32 = 25;

/// The image's `/etc` is a link to a folder of the host.
pub fn mount_target_behind_a_link(runtime: &Runtime) -> Outcome {
    let host = Host::new();
    let mut bundle = Bundle::new("target-link").unwrap();
    fs::remove_dir_all(bundle.rootfs().join("etc")).unwrap();
    symlink(host.path(), bundle.rootfs().join("etc")).unwrap();
    let file = bundle.path().join("config.json");
    bundle.add("/mounts", json!({"destination": "/etc/folder", "type": "tmpfs", "source": "tmpfs"}));
    bundle.add(
        "/mounts",
        json!({"destination": "/etc/file", "type": "bind", "source": file, "options": ["bind"]}),
    );
    host.verdict(&runtime.run(&bundle))
}

/// Somebody with a volume of the container's swaps a folder and a link to the host while mount points are made in it.
pub fn mount_target_swapped_for_a_link(runtime: &Runtime) -> Outcome {
    let host = Host::new();
    let volume = Host::with(|path| {
        fs::create_dir(path.join("folder")).unwrap();
        symlink(host.path(), path.join("link")).unwrap();
    });
    let mut bundle = Bundle::new("target-swapped").unwrap();
    bundle.add(
        "/mounts",
        json!({"destination": "/volume", "type": "bind", "source": volume.path(), "options": ["rbind"]}),
    );
    bundle.add("/mounts", json!({"destination": "/volume/folder/a/b", "type": "tmpfs", "source": "tmpfs"}));
    while_swapped(&volume.path().join("folder"), &volume.path().join("link"), || {
        let mut last = Outcome::Repelled("never tried".into());
        for _ in 0..TRIES {
            last = host.verdict(&runtime.run(&bundle));
            if matches!(last, Outcome::Worked(_)) {
                break;
            }
            // Or the next try would have nothing to make.
            for name in ["folder", "link"] {
                let _ = fs::remove_dir_all(volume.path().join(name).join("a"));
            }
        }
        last
    })
}

/// Swaps the two names without pause while `attack` runs.
fn while_swapped(one: &Path, other: &Path, attack: impl FnOnce() -> Outcome) -> Outcome {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let outcome = attack();
        done.store(true, Relaxed);
        outcome
    })
}
