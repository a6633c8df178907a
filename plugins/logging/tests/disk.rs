//! A full disk: an own tmpfs of 1 MiB, in a mount namespace of one thread.
use std::fs;
use std::io::Write;
use std::time::Duration;

use logging::config::Settings;
use logging::engine::{Attachment, Engine};
use logging::segments::list;
use logging::spool::Spool;
use sampan_plugin::types::Container;

use crate::world::{Fifo, Folder, records, soon};

/// The thread gets a mount namespace of its own, which the logging thread inherits.
fn on_a_small_disk(test: impl FnOnce(&std::path::Path) + Send + 'static) {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: needs root, for a mount namespace");
        return;
    }
    std::thread::spawn(|| {
        let dir = Folder::new();
        let text = std::ffi::CString::new(dir.0.to_str().unwrap()).unwrap();
        // SAFETY: NUL-terminated texts; only this thread changes its namespace (CLONE_FS is implied by NEWNS).
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "{}", std::io::Error::last_os_error());
            let private = libc::MS_REC | libc::MS_PRIVATE;
            assert_eq!(
                libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()),
                0
            );
            let size = c"size=1m".as_ptr().cast();
            assert_eq!(libc::mount(c"tmpfs".as_ptr(), text.as_ptr(), c"tmpfs".as_ptr(), 0, size), 0);
        }
        test(&dir.0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::umount2(text.as_ptr(), libc::MNT_DETACH) }, 0);
    })
    .join()
    .unwrap();
}

#[test]
fn a_full_disk_drops_counts_says_so_and_goes_on() {
    on_a_small_disk(|disk| {
        let elsewhere = Folder::new();
        let logs = disk.join("logs");
        let engine = Engine::start(logs.clone(), Spool::create().unwrap(), Box::new(|_, _, _| ())).unwrap();
        let out = Fifo::new(&elsewhere.0, "out");
        let settings = Settings { max_size: 64 << 10, max_file: 5, ..Settings::default() };
        let pipes = [Some(out.read_end()), None];
        let attachment = Attachment { service: "web".into(), container: Container(1), settings, pipes };
        engine.attach(attachment).blocking_recv().unwrap().unwrap();
        fs::write(disk.join("hog"), vec![0; 760 << 10]).unwrap();
        let hog = fs::OpenOptions::new().append(true).open(disk.join("hog")).unwrap();
        // First the oldest segments go: lines are still written when the disk is smaller than 5 x 64 KiB.
        (0..4000).for_each(|n| writeln!(&out.container, "early {n} {}", "x".repeat(60)).unwrap());
        soon("the last early line", Duration::from_secs(5), || {
            records(&logs, "web").last().is_some_and(|(_, _, text)| text.starts_with("early 3999 "))
        });
        let status = engine.status().blocking_recv().unwrap()["web"];
        assert_eq!((status.dropped, status.lines), (0, 4000));
        // Now somebody takes the rest as soon as it is free.
        let dir = logs.join("web");
        while (&hog).write(&[0; 4096]).is_ok() {}
        let before = records(&logs, "web");
        for n in 0..4000 {
            writeln!(&out.container, "late {n} {}", "x".repeat(60)).unwrap();
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(1));
                while (&hog).write(&[0; 4096]).is_ok() {}
            }
        }
        soon("all lines", Duration::from_secs(5), || {
            engine.status().blocking_recv().unwrap()["web"].lines == 8000
        });
        let status = engine.status().blocking_recv().unwrap()["web"];
        assert!(status.dropped > 1000 && status.write_errors > 0, "{status:?}");
        assert!(list(&dir).unwrap().len() <= 2 && !before.is_empty());
        fs::remove_file(disk.join("hog")).unwrap();
        drop(hog);
        let said = |text: &str| text.starts_with("dropped lines=");
        soon("the remark, by itself", Duration::from_secs(3), || {
            records(&logs, "web").last().is_some_and(|(_, _, text)| said(text))
        });
        writeln!(&out.container, "again").unwrap();
        engine.detach("web").blocking_recv().unwrap();
        let all = records(&logs, "web");
        let remarked: u64 = all
            .iter()
            .filter(|(_, _, text)| said(text))
            .map(|(_, _, text)| {
                text["dropped lines=".len()..].split(' ').next().unwrap().parse::<u64>().unwrap()
            })
            .sum();
        assert_eq!(remarked, status.dropped, "what was dropped and what was said to have been");
        assert_eq!(all.last().unwrap().2, "again");
    });
}
