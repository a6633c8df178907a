//! A hostile container, and `exec` into it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sampan_testkit::Bundle;
use serde_json::json;

use super::Outcome;
use super::host::{Host, SECRET};
use super::runtime::{Running, Runtime, full_pipe};

/// How often a race is tried.
const TRIES: u32 = 20;

/// A container whose root may be written to, running `script`.
fn hostile<'r>(runtime: &'r Runtime, bundle: &mut Bundle, script: &str) -> Result<Running<'r>, Outcome> {
    bundle.script(script);
    bundle.set("/root/readonly", json!(false));
    runtime.start(bundle).map_err(|ran| Outcome::Repelled(ran.said()))
}

/// Sends one process after the other into a container that looks into each that appears; `found` is where it writes what it
/// has learnt.
fn sent_into(runtime: &Runtime, bundle: &mut Bundle, look: &str) -> Outcome {
    let looks = format!("while :; do {look} >> /tmp/found; done 2> /dev/null");
    let running = match hostile(runtime, bundle, &looks) {
        Ok(running) => running,
        Err(outcome) => return outcome,
    };
    let mut said = String::new();
    for _ in 0..TRIES {
        let mut exec = running.exec_command(&[], &["true"]);
        exec.env("SECRET_OF_THE_CALLER", SECRET);
        let (code, _, err) = crate::sampan::run(&mut exec);
        said = format!("exit {code}: {}", err.trim());
        let found = fs::read(bundle.rootfs().join("tmp/found")).unwrap_or_default();
        if String::from_utf8_lossy(&found).contains(SECRET) {
            return Outcome::Worked("what the host keeps to itself was in reach".into());
        }
    }
    Outcome::Repelled(said)
}

/// The environment of the runtime's caller. The image's PATH is so long that there is time for it: the program is looked for
/// when the capabilities are already those of the container.
pub fn joining_process_is_read(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("traced").unwrap();
    let path = format!("PATH={}/bin", "/none:".repeat(20_000));
    bundle.set("/process/env", json!([path]));
    sent_into(runtime, &mut bundle, &format!("/bin/grep -as '{SECRET}' /proc/[0-9]*/environ"))
}

/// The root folder of a process that is in the container's pid namespace, and still in the host's mount namespace. Only who
/// may trace everybody sees it.
pub fn root_of_a_joining_process(runtime: &Runtime) -> Outcome {
    let host = Host::new();
    let mut bundle = Bundle::new("joining-root").unwrap();
    for set in ["bounding", "effective", "permitted"] {
        bundle.add(&format!("/process/capabilities/{set}"), json!("CAP_SYS_PTRACE"));
    }
    let secret = host.path().join("secret");
    sent_into(runtime, &mut bundle, &format!("cat /proc/[0-9]*/root{}", secret.display()))
}

/// The capabilities of the host's root in a process that the container may trace. A working directory that is deep gives time to
/// look: it is made while they are still there.
pub fn capabilities_of_a_joining_process(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("joining-capabilities").unwrap();
    for set in ["bounding", "effective", "permitted"] {
        bundle.add(&format!("/process/capabilities/{set}"), json!("CAP_SYS_PTRACE"));
    }
    bundle.set("/process/cwd", json!("/d".repeat(2_000)));
    let ours = fs::read_to_string("/proc/self/status").unwrap();
    let ours = ours.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    let look = format!("/bin/grep -qs 'CapPrm:.{ours}' /proc/[0-9]*/status && echo '{SECRET}'");
    sent_into(runtime, &mut bundle, &look)
}

/// Memory that the process shares with the runtime on the host: its pid is written there, and who writes another one has the
/// runtime signal that process of the host. The long PATH gives time to look.
pub fn pid_of_a_joining_process_forged(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("joining-pid").unwrap();
    for set in ["bounding", "effective", "permitted"] {
        bundle.add(&format!("/process/capabilities/{set}"), json!("CAP_SYS_PTRACE"));
    }
    bundle.set("/process/env", json!([format!("PATH={}/bin", "/none:".repeat(20_000))]));
    let look = format!("/bin/grep -q rw-s /proc/[0-9]*/maps && echo '{SECRET}'");
    sent_into(runtime, &mut bundle, &look)
}

/// `exec` of /proc/self/exe is the runtime itself, as a process that may be looked into; the attacker opens its file, and opens
/// that again for writing when nobody runs it any more.
pub fn program_of_the_runtime_overwritten(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("overwritten").unwrap();
    let runtime = runtime.copied_to(bundle.path());
    bring_libraries(&runtime.program, &bundle.rootfs());
    let before = fs::read(&runtime.program).unwrap();
    let running = match hostile(&runtime, &mut bundle, OVERWRITE) {
        Ok(running) => running,
        Err(outcome) => return outcome,
    };
    let held = || fs::read_to_string(bundle.rootfs().join("tmp/held")).unwrap_or_default();
    let (mut said, begin) = (String::from("nothing"), Instant::now());
    while held().is_empty() && begin.elapsed() < Duration::from_secs(5) {
        // Its help goes to a pipe that is full: it waits, and can be found.
        let (read, write) = full_pipe();
        let mut exec = running.exec_command(&[], &["/proc/self/exe", "--help"]);
        let mut child = exec.stdout(write).stderr(Stdio::null()).spawn().unwrap();
        drop(exec);
        let patience = Instant::now();
        while held().is_empty() && patience.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(read);
        said = child.wait().unwrap().to_string();
    }
    let patience = Instant::now();
    while patience.elapsed() < Duration::from_secs(3) {
        if fs::read(&runtime.program).unwrap() != before {
            return Outcome::Worked("the file of the runtime's program was written to".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Outcome::Repelled(format!("{said}; the attacker held {:?}", held().trim()))
}

/// What the runtime is linked with, as the image of a whole distribution has it.
fn bring_libraries(program: &Path, rootfs: &Path) {
    let out = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        let copy = rootfs.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(library, copy).unwrap();
    }
}

/// Keeps whatever program is not the image's own, and writes to it as soon as that is possible.
const OVERWRITE: &str = r#"
while :; do for p in /proc/[0-9]*; do
  exe=$(readlink $p/exe) || continue
  case $exe in */busybox|"") continue;; esac
  command exec 3< $p/exe || continue
  echo "$exe" > /tmp/held
  while :; do echo overwritten > /proc/self/fd/3; done
done; done 2> /dev/null
"#;

/// A capability given by `--cap` that the program's children would inherit.
pub fn inheritable_capabilities(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("cap").unwrap();
    let running = match hostile(runtime, &mut bundle, "sleep 60") {
        Ok(running) => running,
        Err(outcome) => return outcome,
    };
    let ran = running.exec(&["--cap", "CAP_NET_ADMIN"], &["grep", "CapInh", "/proc/self/status"]);
    match ran.out.split_whitespace().nth(1) {
        Some(set) if set.chars().any(|digit| digit != '0') => {
            Outcome::Worked(format!("inheritable capabilities {set}"))
        }
        _ => Outcome::Repelled(ran.said()),
    }
}

/// A user that is no number is taken for root's.
pub fn user_that_is_no_number(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("user").unwrap();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let running = match hostile(runtime, &mut bundle, "sleep 60") {
        Ok(running) => running,
        Err(outcome) => return outcome,
    };
    let mut said = String::new();
    for user in ["", "app", "1x", "-", "1000:", ":1000", "+1000", "4294967296"] {
        let ran = running.exec(&["--user", user], &["id"]);
        if ran.out.contains("uid=0") || ran.out.contains("gid=0") {
            return Outcome::Worked(format!("--user {user:?} is root"));
        }
        said = ran.said();
    }
    Outcome::Repelled(said)
}
