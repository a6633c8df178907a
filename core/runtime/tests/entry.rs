//! What runs before libc (src/entry.rs) depends on what a compiler may put into it: so it is built at every level of
//! optimization, looked at, and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sampan_runtime::cli::table::VERBS;
use sampan_testkit::need;

use crate::sampan::program;

const LEVELS: [&str; 6] = ["0", "1", "2", "3", "s", "z"];

/// A program around the entry: it says what it was given, and how the mount of its file is.
const PROGRAM: &str = r##"
#![no_main]
#[path = "ENTRY"]
mod entry;

unsafe extern "C" {
    fn statfs(path: *const std::ffi::c_char, into: *mut [u64; 16]) -> i32;
}

#[unsafe(no_mangle)]
extern "C" fn main(argc: i32, _argv: *const *const std::ffi::c_char) -> i32 {
    let mut found = [0u64; 16];
    unsafe { statfs(c"/proc/self/exe".as_ptr(), &mut found) };
    let how = if found[10] & 1 == 1 { "read-only" } else { "writable" };
    println!("{argc} {} {how} {}", std::env::args().collect::<Vec<_>>().join(","), std::env::var("SEEN").unwrap());
    0
}
"##;

/// A folder of sources and what is built from them.
struct Build {
    folder: PathBuf,
}

impl Drop for Build {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn entry() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/entry.rs")
}

impl Build {
    fn new(name: &str) -> Build {
        let folder = std::env::temp_dir().join(format!("sampan-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // The crate that the entry takes its numbers from, without anything else of it.
        let uapi =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../child/src/sys/uapi.rs").canonicalize().unwrap();
        let stub = format!("#![no_std] pub mod sys {{ #[path = {uapi:?}] pub mod uapi; }}");
        fs::write(folder.join("child.rs"), stub).unwrap();
        fs::write(folder.join("program.rs"), PROGRAM.replace("ENTRY", entry().to_str().unwrap())).unwrap();
        Build { folder }
    }

    fn rustc(&self, level: &str, args: &[&str]) {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.current_dir(&self.folder).args(["--edition", "2024", "-A", "warnings"]);
        let out = command.args(["-C", &format!("opt-level={level}")]).args(args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn child(&self, level: &str) -> &'static str {
        self.rustc(level, &["--crate-name", "sampan_child", "--crate-type", "rlib", "child.rs"]);
        "sampan_child=libsampan_child.rlib"
    }

    fn program(&self, level: &str, is_static: bool) -> PathBuf {
        let child = self.child(level);
        let linked = if is_static { "target-feature=+crt-static" } else { "target-feature=-crt-static" };
        let link = "link-arg=-Wl,-e,sampan_entry";
        self.rustc(level, &["--extern", child, "-C", linked, "-C", link, "-o", "program", "program.rs"]);
        self.folder.join("program")
    }

    /// What the entry's own object asks of others, as nm prints it.
    fn undefined(&self, level: &str) -> String {
        let (child, entry) = (self.child(level), entry());
        let object = ["--crate-type", "lib", "--emit", "obj", "-C", "codegen-units=1", "-o", "entry.o"];
        self.rustc(level, &[&object[..], &["--extern", child, entry.to_str().unwrap()]].concat());
        let out = Command::new("nm").current_dir(&self.folder).args(["-u", "entry.o"]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }
}

/// Before libc, memcpy and its like are pointers that nobody has filled in yet, and nothing of libc may be called.
#[test]
fn the_entry_calls_nothing_of_libc_but_its_start_at_any_level() {
    let build = Build::new("entry-object");
    for level in LEVELS {
        let undefined = build.undefined(level);
        let names = undefined.lines().filter_map(|line| line.split_whitespace().last());
        // Without optimization there are paths to core's panics, which are not taken.
        let of_core = |name: &&str| name.contains("core9panicking") || *name == "rust_eh_personality";
        let names: Vec<&str> = names.filter(|name| !of_core(name)).collect();
        assert_eq!(names, ["_start"], "opt-level {level}");
    }
}

#[test]
fn the_verbs_that_the_table_seals_run_sealed_and_others_as_they_are_at_any_level() {
    if !need::root() {
        return;
    }
    let build = Build::new("entry");
    for (level, is_static) in LEVELS.iter().flat_map(|level| [(*level, true), (*level, false)]) {
        let program = build.program(level, is_static);
        let verbs = VERBS.iter().map(|row| (row.name, if row.seal { "read-only" } else { "writable" }));
        for (verb, how) in verbs.chain(["runs", "creates", ""].map(|word| (word, "writable"))) {
            let mut command = Command::new(&program);
            command.args(["--root", "/x y", verb, "id"]).env("SEEN", "by both").stdin(Stdio::null());
            let out = command.output().unwrap();
            let said = format!("5 {},--root,/x y,{verb},id {how} by both\n", program.display());
            let (text, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            assert_eq!(text, said, "opt-level {level}, static {is_static}: {:?} {err}", out.status);
        }
    }
}

/// A static glibc cannot ask its name service without loading libraries, and musl's knows of files and nscd alone. Ids are numbers in a
/// config; the names that are told, or looked up in a container, are read from /etc/passwd there.
#[test]
fn no_name_of_a_user_or_a_host_is_asked_of_the_c_library() {
    let program = fs::read(program()).unwrap();
    let has = |word: &str| program.windows(word.len()).any(|bytes| bytes == word.as_bytes());
    assert!(has("/etc/passwd"));
    for word in ["getpw", "getgrnam", "getgrgid", "getgrouplist", "initgroups", "getaddrinfo", "nscd/socket"]
    {
        assert!(!has(word), "{word}");
    }
}
