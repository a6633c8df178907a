//! What is no regular file where the runtime expects one: it must not wait for ever, and not read for ever.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use sampan_testkit::Bundle;

use super::Outcome;
use super::runtime::{Ran, Runtime};

/// Nothing here takes a second, also on a machine that is busy.
const LONG: Duration = Duration::from_secs(12);

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from(0o666), 0).unwrap();
}

fn waited(attack: impl FnOnce() -> Ran) -> Outcome {
    let begin = Instant::now();
    let ran = attack();
    match begin.elapsed() {
        time if time > LONG => Outcome::Worked(format!("it hung for {} s, and was ended", time.as_secs())),
        _ => Outcome::Repelled(ran.said()),
    }
}

/// The image's passwd file, where HOME is looked up, is a FIFO that nobody writes to.
pub fn passwd_is_a_fifo(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::new("passwd-fifo").unwrap();
    let passwd = bundle.rootfs().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    fifo(&passwd);
    waited(|| runtime.run(&bundle))
}
