//! Running the built `sampan`, in a root folder of the test's own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sampan_testkit::{Bundle, need};

/// `--root`, removed at the end with every container in it.
pub struct Root(PathBuf);

impl Root {
    pub fn new(name: &str) -> Root {
        let path = std::env::temp_dir().join(format!("sampan-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Root(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = sampan(["--root"]);
        command.arg(&self.0).args(args);
        command
    }

    /// The same once a shell has run `before`, which may use `$$`, the verb's own pid; code 124 if it takes over 20 s.
    pub fn after<S: AsRef<OsStr>>(
        &self,
        before: &str,
        args: impl IntoIterator<Item = S>,
    ) -> (i32, String, String) {
        let mut command = Command::new("timeout");
        command.args(["20", "sh", "-c", &format!("{before}; exec \"$@\""), "sh"]);
        command.args([program(), "--root"]).arg(&self.0).args(args).stdin(Stdio::null());
        run(&mut command)
    }

    /// Standard output; the verb must succeed.
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let (code, out, err) = run(&mut self.command(args));
        assert_eq!((code, err.as_str()), (0, ""), "stdout: {out}");
        out
    }

    /// Exit code and standard error.
    pub fn err<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> (i32, String) {
        let (code, _, err) = run(&mut self.command(args));
        (code, err)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = run(&mut self.command([OsStr::new("delete"), OsStr::new("--force"), &entry.file_name()]));
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The one that is tested: `SAMPAN_BIN`, as `make root-test-static` names it, or the one that cargo built beside the tests.
pub fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    let built = || env!("CARGO_BIN_EXE_sampan").to_owned();
    PROGRAM.get_or_init(|| std::env::var("SAMPAN_BIN").unwrap_or_else(|_| built()))
}

pub fn sampan<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program());
    command.args(args).stdin(Stdio::null());
    command
}

/// Exit code, standard output and error. Files, not pipes: a container that stays holds what it was given, and an end of
/// file would never come.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let (mut out, mut err) = (capture(), capture());
    let status = command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap()).status().unwrap();
    (status.code().unwrap_or(-1), text(&mut out), text(&mut err))
}

/// A bundle that says "ran", changed.
pub fn bundle(name: &str, change: impl FnOnce(&mut Bundle)) -> Option<Bundle> {
    if !(need::root() && need::busybox()) {
        return None;
    }
    let mut bundle = Bundle::new(name).unwrap();
    bundle.args(&["/bin/echo", "ran"]);
    change(&mut bundle);
    bundle.write().unwrap();
    Some(bundle)
}

/// Run to its end: exit code, standard output and error.
pub fn ran(bundle: &Bundle) -> (i32, String, String) {
    let id = bundle.path().file_name().unwrap().to_str().unwrap();
    let root = Root::new(id);
    run(&mut root.command(["run", "-b", bundle.path().to_str().unwrap(), id]))
}

/// It prints that and ends with 0.
pub fn works(name: &str, change: impl FnOnce(&mut Bundle), expected: &str) {
    let Some(bundle) = bundle(name, change) else { return };
    let (code, out, err) = ran(&bundle);
    assert_eq!((code, out.as_str()), (0, expected), "{err}");
}

/// It does not start, and the error says that.
pub fn fails(name: &str, change: impl FnOnce(&mut Bundle), expected: &str) {
    let Some(bundle) = bundle(name, change) else { return };
    let (code, out, err) = ran(&bundle);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains(expected), "{err}");
}

fn capture() -> File {
    rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
