//! A layer's archive, member by member.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sampan_image::tar::Archive;

fuzz_target!(|bytes: &[u8]| {
    let mut archive = Archive::new(bytes);
    let mut buffer = [0; 4096];
    while let Ok(Some(entry)) = archive.member() {
        let mut read = 0u64;
        while let Ok(n) = archive.read(&mut buffer) {
            if n == 0 {
                break;
            }
            read += n as u64;
        }
        assert!(read <= entry.stored, "no more than the head says");
    }
});
