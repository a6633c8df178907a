//! What of the environment is not the config's: HOME, by the image's own passwd file, and TERM.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use sampan_testkit::{Bundle, terminal};
use serde_json::{Value, json};

use crate::sampan::{Root, bundle, ran, run, works};

/// HOME of uid 1000 with this passwd file.
fn home(passwd: &str, expected: &str) {
    works(
        "home",
        |b| {
            fs::write(b.rootfs().join("etc/passwd"), passwd).unwrap();
            b.set("/process/user/uid", json!(1000)).script("echo $HOME");
        },
        &format!("{expected}\n"),
    );
}

#[test]
fn home_is_found_in_a_passwd_file_of_any_size_and_form() {
    let user = "u:x:1000:1000:Somebody:/home/u:/bin/sh";
    let many: String =
        (2_000..4_000).map(|n| format!("user{n}:x:{n}:{n}:User {n}:/home/user{n}:/bin/sh\n")).collect();
    home(&format!("{many}{user}\n"), "/home/u");
    home(user, "/home/u");
    home(
        &format!("\n::::::\nodd\n# x:x:\nx:x:+1000:\nx:x:99999999999999:\n{user}\nv:x:1000:1::/v:\n"),
        "/home/u",
    );
    home(&format!("l:x:1:1:{}:/l:/bin/sh\n{user}", "long ".repeat(20_000)), "/home/u");
    home(&format!("u:x:1000:1000:{}:/home/u:/bin/sh", "long ".repeat(20_000)), "/home/u");
    home("u:x:1000:1000::home/u:/bin/sh\n", "home/u");
}

#[test]
fn home_is_the_root_for_a_user_without_one() {
    for passwd in
        ["", "root:x:0:0::/root:/bin/sh\n", "u:x:1000:1000::\n", "u:x:1000:1000\n", "u:x:01000x:0::/x:\n"]
    {
        home(passwd, "/");
    }
}

#[test]
fn a_passwd_file_that_is_none_holds_nobody_up() {
    let odd = |name: &str, make: fn(&Path)| {
        let change = |b: &mut Bundle| {
            let path = b.rootfs().join("etc/passwd");
            fs::remove_file(&path).unwrap();
            make(&path);
            b.script("echo $HOME");
        };
        works(name, change, "/\n");
    };
    odd("fifo", |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap());
    odd("endless", |path| symlink("/dev/zero", path).unwrap());
    odd("folder", |path| fs::create_dir(path).unwrap());
}

#[test]
fn an_empty_home_counts_as_none_and_another_one_holds() {
    works(
        "empty",
        |b| _ = b.set("/process/env", json!(["PATH=/bin", "HOME="])).script("echo $HOME"),
        "/root\n",
    );
    works("own", |b| _ = b.set("/process/env", json!(["PATH=/bin", "HOME=/x"])).script("echo $HOME"), "/x\n");
}

#[test]
fn a_hook_without_an_environment_has_the_processs_home() {
    let hook = json!([
        {"path": "/bin/sh", "args": ["sh", "-c", "echo $HOME $A >/tmp/without"]},
        {"path": "/bin/sh", "args": ["sh", "-c", "echo $HOME $A >/tmp/with"], "env": ["A=1"]},
    ]);
    let change = |b: &mut Bundle| {
        b.set("/root/readonly", json!(false)).set("/hooks", json!({"startContainer": hook}));
        b.script("cat /tmp/without /tmp/with");
    };
    works("hooks", change, "/root\n1\n");
}

/// The bundle's output, on a terminal whose other end is joined to one of ours, as a file has it.
fn on_a_terminal(env: Value, program: &str) -> Option<String> {
    let made = bundle("terminal", |b| {
        b.set("/process/terminal", json!(true)).set("/process/env", env).script(program);
    })?;
    let output = made.path().join("output");
    let root = Root::new("terminal");
    let sampan = root.command(["run", "-b", made.path().to_str().unwrap(), "terminal"]);
    let words: Vec<_> = std::iter::once(sampan.get_program()).chain(sampan.get_args()).collect();
    let words = words.join(std::ffi::OsStr::new(" "));
    let line = format!("{} >{}", words.to_str().unwrap(), output.display());
    let mut script = terminal::on_a_terminal(&line);
    // Open and silent: the end of the input would be echoed.
    let (silent, _open) = std::io::pipe().unwrap();
    script.stdin(silent);
    let (code, out, err) = run(&mut script);
    assert_eq!(code, 0, "{out}{err}");
    Some(fs::read_to_string(output).unwrap())
}

#[test]
fn a_terminal_has_a_kind_and_its_newlines_are_plain() {
    let Some(output) = on_a_terminal(json!(["PATH=/bin"]), "echo $TERM; tty") else { return };
    assert_eq!(output, "xterm\n/dev/pts/0\n");
    let output = on_a_terminal(json!(["PATH=/bin", "TERM=vt100"]), "echo $TERM").unwrap();
    assert_eq!(output, "vt100\n");
}

#[test]
fn without_a_terminal_there_is_no_term() {
    let Some(made) = bundle("none", |b| _ = b.set("/process/env", json!(["PATH=/bin"])).script("env")) else {
        return;
    };
    let (code, out, err) = ran(&made);
    assert!(code == 0 && !out.contains("TERM="), "{out}{err}");
}
