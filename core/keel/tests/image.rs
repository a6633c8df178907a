//! The smallest images: a shell command, as the plan of a host process would be.

use sampan_child::image::Header;
use sampan_child::step::{Filter, List, Slot, Step, Text};

/// `sh -c command`; slot 0 is its stdio, slot 1 a barrier.
pub fn image(command: &str, waits: bool) -> Vec<u8> {
    let mut text = Vec::new();
    let mut list = |strings: &[&str]| {
        let first = Text(text.len() as u32);
        for string in strings {
            text.extend_from_slice(string.as_bytes());
            text.push(0);
        }
        List { first, count: strings.len() as u32 }
    };
    let candidates = list(&["/bin/sh"]);
    let argv = list(&["sh", "-c", command]);
    let env = list(&["PATH=/usr/bin:/bin"]);
    let mut steps = vec![Step::Signals {}, Step::Session {}];
    if waits {
        steps.push(Step::Wait { from: Slot(1) });
    }
    steps.extend((0..3).map(|to| Step::Stdio { from: Slot(0), to }));
    steps.extend([
        Step::CloseOnExec { first: 3 },
        Step::Find { candidates },
        Step::Exec { argv, env, filter: Filter::default() },
    ]);
    let header = Header {
        clone_flags: 0,
        cgroup: Slot::NONE,
        report: Slot::NONE,
        trace: Slot::NONE,
        slots: if waits { 2 } else { 1 },
        steps: steps.len() as u32,
        text: text.len() as u32,
    };
    let words = header.encode().into_iter().chain(steps.into_iter().flat_map(Step::encode));
    let mut image: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    image.extend(text);
    image
}

pub fn null() -> std::io::Result<std::fs::File> {
    std::fs::File::options().read(true).write(true).open("/dev/null")
}
