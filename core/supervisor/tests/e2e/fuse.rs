//! A file system whose server has stopped answering, as a mount of a host that is gone: whoever looks into it waits.
//!
//! The server speaks the kernel's FUSE protocol (linux/fuse.h) as far as it takes: it answers INIT, and nothing after that.
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// FUSE_INIT, and where things are in its request: `struct fuse_in_header`, then `struct fuse_init_in`.
const INIT: u32 = 26;
const UNIQUE: std::ops::Range<usize> = 8..16;
const MINOR: u32 = 31;

/// Mounted until it is dropped; then whoever waits gets an error.
pub struct Dead {
    at: PathBuf,
    device: Option<File>,
}

impl Dead {
    /// `takes`: the server reads what it never answers. Then whoever asked waits in the kernel and cannot even be killed.
    pub fn mount(at: &Path, takes: bool) -> Option<Dead> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        if !sampan_testkit::need::need("/dev/fuse", device.is_ok()) {
            return None;
        }
        let mut device = device.unwrap();
        std::fs::create_dir_all(at).unwrap();
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("dead"), at, Some("fuse.dead"), flags, Some(data.as_str())).unwrap();
        let mut request = vec![0; 1 << 16];
        let got = device.read(&mut request).unwrap();
        assert!(got >= 40 && request[4..8] == INIT.to_le_bytes(), "the first request is INIT");
        // struct fuse_out_header, then struct fuse_init_out with the few fields that must be said.
        let mut answer = vec![0; 16 + 64];
        let length = u32::try_from(answer.len()).unwrap();
        answer[0..4].copy_from_slice(&length.to_le_bytes());
        answer[UNIQUE].copy_from_slice(&request[UNIQUE]);
        answer[16..20].copy_from_slice(&7_u32.to_le_bytes());
        answer[20..24].copy_from_slice(&MINOR.to_le_bytes());
        // max_write
        answer[36..40].copy_from_slice(&4096_u32.to_le_bytes());
        device.write_all(&answer).unwrap();
        if takes {
            let mut device = device.try_clone().unwrap();
            std::thread::spawn(move || while device.read(&mut request).is_ok_and(|got| got > 0) {});
        }
        Some(Dead { at: at.to_owned(), device: Some(device) })
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        // First the connection is aborted: who waits wakes up, our reader too.
        let _ = umount2(&self.at, MntFlags::MNT_FORCE);
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        drop(self.device.take());
    }
}
