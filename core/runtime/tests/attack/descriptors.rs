//! Descriptors of the runtime that are still open when the container's files decide where a lookup goes: from a folder
//! of the host, `..` leads to the host's root (the class of CVE-2024-21626).

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use sampan_testkit::Bundle;
use sampan_testkit::bundle::BUSYBOX;
use serde_json::json;

use super::Outcome;
use super::host::{Host, SECRET};
use super::runtime::Runtime;

/// Where runtimes have been seen to keep descriptors.
const NUMBERS: std::ops::RangeInclusive<u32> = 3..=24;

/// A path of the host behind a descriptor.
fn behind(number: u32, path: &Path) -> String {
    format!("/proc/self/fd/{number}{}{}", "/..".repeat(12), path.display())
}

/// The host has a program that the image lacks. Asked for itself, it tells the host's secret.
fn with_program() -> Host {
    Host::with(|path| {
        let program = path.join("busybox");
        fs::copy(BUSYBOX, &program).unwrap();
        fs::OpenOptions::new().append(true).open(&program).unwrap().write_all(SECRET.as_bytes()).unwrap();
    })
}

/// What that program is called with.
fn tells(bundle: &mut Bundle, program: &str) {
    bundle.args(&[program, "grep", "-ao", SECRET, "/proc/self/exe"]);
}

/// The image's PATH leads through every descriptor.
pub fn path_through_a_descriptor(runtime: &Runtime) -> Outcome {
    let host = with_program();
    let mut bundle = Bundle::new("fd-path").unwrap();
    let folders: Vec<String> = NUMBERS.map(|number| behind(number, host.path())).collect();
    bundle.set("/process/env", json!([format!("PATH={}", folders.join(":"))]));
    tells(&mut bundle, "busybox");
    host.verdict(&runtime.run(&bundle))
}

/// The same by links of the image: as many folders of its own as there may be descriptors.
pub fn links_through_each_descriptor(runtime: &Runtime) -> Outcome {
    let host = with_program();
    let mut bundle = Bundle::new("fd-link").unwrap();
    for number in NUMBERS {
        symlink(behind(number, host.path()), bundle.rootfs().join(format!("link{number}"))).unwrap();
    }
    let folders: Vec<String> = NUMBERS.map(|number| format!("/link{number}")).collect();
    bundle.set("/process/env", json!([format!("PATH={}", folders.join(":"))]));
    tells(&mut bundle, "busybox");
    host.verdict(&runtime.run(&bundle))
}

/// Tries one descriptor after the other: `prepare` makes the image for that behind which the host's folder would be.
fn each_descriptor(
    runtime: &Runtime,
    host: &Host,
    name: &str,
    prepare: impl Fn(&mut Bundle, u32),
) -> Outcome {
    let mut outcome = Outcome::Repelled("never tried".into());
    for number in NUMBERS {
        let mut bundle = Bundle::new(name).unwrap();
        prepare(&mut bundle, number);
        outcome = host.verdict(&runtime.run(&bundle));
        if matches!(outcome, Outcome::Worked(_)) {
            break;
        }
    }
    outcome
}

/// The entrypoint is a script, and its interpreter a program of the host.
pub fn interpreter_through_a_descriptor(runtime: &Runtime) -> Outcome {
    let host = with_program();
    each_descriptor(runtime, &host, "fd-script", |bundle, number| {
        let interpreter = behind(number, &host.path().join("busybox"));
        let script = bundle.rootfs().join("script");
        fs::write(&script, format!("#!{interpreter} sh\ngrep -ao '{SECRET}' /proc/$$/exe\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        bundle.args(&["/script"]);
    })
}

/// The image's passwd file is the host's, whose root has an unusual home.
pub fn home_through_a_descriptor(runtime: &Runtime) -> Outcome {
    let host =
        Host::with(|path| fs::write(path.join("passwd"), format!("root:x:0:0::/{SECRET}:/\n")).unwrap());
    each_descriptor(runtime, &host, "fd-home", |bundle, number| {
        let passwd = bundle.rootfs().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        symlink(behind(number, &host.path().join("passwd")), passwd).unwrap();
        bundle.script("echo $HOME");
    })
}

/// The caller hands a folder on (`--preserve-fds`), and the image's working directory is that.
pub fn cwd_in_a_descriptor_of_the_callers(runtime: &Runtime) -> Outcome {
    let host = Host::new();
    let mut bundle = Bundle::new("fd-cwd").unwrap();
    symlink("/proc/self/fd/3", bundle.rootfs().join("work")).unwrap();
    bundle.set("/process/cwd", json!("/work"));
    bundle.args(&["cat", "secret"]);
    host.verdict(&runtime.run_with(&["--preserve-fds", "1"], &bundle, |command| {
        // The folder is descriptor 3 of the runtime.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 3< \"$0\""]).arg(host.path());
        shell.arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        *command = shell;
    }))
}

/// As many links of the container's own, for `exec`.
pub fn exec_through_a_descriptor(runtime: &Runtime) -> Outcome {
    let host = with_program();
    let mut bundle = Bundle::new("fd-exec").unwrap();
    for number in NUMBERS {
        symlink(behind(number, host.path()), bundle.rootfs().join(format!("link{number}"))).unwrap();
    }
    bundle.script("sleep 60");
    let Ok(running) = runtime.start(&bundle) else { return Outcome::Lacks("a container that starts") };
    let folders: Vec<String> = NUMBERS.map(|number| format!("/link{number}")).collect();
    let path = format!("PATH={}", folders.join(":"));
    host.verdict(&running.exec(&["--env", &path], &["busybox", "grep", "-ao", SECRET, "/proc/self/exe"]))
}

/// A process that may trace every process of its pid namespace looks behind the descriptors of a neighbour in the same pod
/// that is created and not yet started.
pub fn descriptors_of_a_created_neighbour(runtime: &Runtime) -> Outcome {
    let host = Host::new();
    let mut hostile = Bundle::new("fd-tracer").unwrap();
    hostile.script("mkfifo /tmp/end; cat /tmp/end");
    hostile.set("/root/readonly", json!(false));
    for set in ["bounding", "effective", "permitted"] {
        hostile.add(&format!("/process/capabilities/{set}"), json!("CAP_SYS_PTRACE"));
    }
    let Ok(tracer) = runtime.start(&hostile) else { return Outcome::Lacks("a container that starts") };
    let mut neighbour = Bundle::new("fd-created").unwrap();
    let pod = format!("/proc/{}/ns/pid", tracer.pid());
    neighbour.config["linux"]["namespaces"][0] = json!({"type": "pid", "path": pod});
    let created = match runtime.create(&neighbour) {
        Ok(created) => created,
        Err(ran) => return host.verdict(&ran),
    };
    let secret = host.path().join("secret");
    let look = format!("cat /proc/[0-9]*/fd/*{}{}; true", "/..".repeat(12), secret.display());
    let outcome = host.verdict(&tracer.exec(&[], &["sh", "-c", &look]));
    drop(created);
    outcome
}
