//! A disk that fails to take what was written. The kernel keeps what it could not write, as if it were on the disk, and says so
//! once (fsync(2), errors): the next attempt must not believe it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use sampan_image::Store;
use sampan_testkit::{Folder, need};

use crate::crashes::{Small, check, image};
use crate::made::{Layer, in_memory, layout};

/// ext4 on a sparse file in memory: once there is no room for the file's next block, a write is an error of the disk.
struct Disk {
    memory: Small,
    at: Folder,
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {out:?}");
}

impl Disk {
    fn new() -> Disk {
        let memory = Small::new("48m");
        let file = memory.0.path("disk");
        File::create(&file).unwrap().set_len(64 << 20).unwrap();
        let now = "lazy_itable_init=0,nodiscard";
        let file = file.to_str().unwrap();
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-N", "256", "-O", "^has_journal", "-E", now, file]);
        let disk = Disk { memory, at: Folder::new() };
        disk.mount();
        // The file system's own blocks have their room from the first time that they are written: it must live on.
        let early: Vec<_> = (0..200).map(|n| disk.at.path(&format!("early{n}"))).collect();
        for path in &early {
            fs::write(path, vec![0; 16 << 10]).unwrap();
        }
        run("sync", &["-f", disk.at.0.to_str().unwrap()]);
        early.iter().for_each(|path| fs::remove_file(path).unwrap());
        run("sync", &["-f", disk.at.0.to_str().unwrap()]);
        disk
    }

    fn mount(&self) {
        run(
            "mount",
            &["-o", "loop", self.memory.0.path("disk").to_str().unwrap(), self.at.0.to_str().unwrap()],
        );
    }

    fn unmount(&self) {
        run("umount", &[self.at.0.to_str().unwrap()]);
    }

    fn filler(&self) -> PathBuf {
        self.memory.0.path("filler")
    }

    /// Room for a megabyte more.
    fn fails(&self) {
        let free = free_bytes(&self.memory.0.0) - (1 << 20);
        fs::write(self.filler(), vec![0; free]).unwrap();
    }

    fn works(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

fn free_bytes(path: &Path) -> usize {
    let found = nix::sys::statvfs::statvfs(path).unwrap();
    (found.blocks_available() * found.fragment_size()) as usize
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at.0).status();
    }
}

#[test]
fn what_the_disk_did_not_take_is_not_believed_by_the_next_attempt() {
    if !need::root() || !need::programs(&["mkfs.ext4"], "e2fsprogs") {
        return;
    }
    let noise: String =
        (0..400_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).to_string()).collect();
    let layer = Layer::default().file("noise", &noise).bytes();
    let made = layout("localhost/app:1", &[layer], <[u8]>::to_vec);
    let from = made.folder.0.to_str().unwrap();
    let good = in_memory();
    assert!(image(&good.path("store"), None, &["import", from]).status.success());

    let disk = Disk::new();
    let path = disk.at.path("store");
    // The folders of the store are on the disk.
    let small = layout("localhost/small:1", &[Layer::default().file("a", "b").bytes()], <[u8]>::to_vec);
    assert!(image(&path, None, &["import", small.folder.0.to_str().unwrap()]).status.success());
    assert!(image(&path, None, &["rm", "localhost/small:1"]).status.success());
    assert!(image(&path, None, &["prune"]).status.success());
    run("sync", &["-f", disk.at.0.to_str().unwrap()]);
    disk.fails();
    let failed = image(&path, None, &["import", from]);
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && said.contains("cannot sync"), "{said}");
    disk.works();
    let again = image(&path, None, &["import", from]);
    assert!(again.status.success(), "{again:?}");
    // What is on the disk, and not what the kernel has of it in memory.
    disk.unmount();
    disk.mount();
    check(&path, &good.path("store"), "after a disk that failed");
    assert_eq!(Store::read(&path).unwrap().names().unwrap().len(), 1);
}
