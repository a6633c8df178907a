//! The flags of `run --rootfs` that people type first.

use std::fs;
use std::os::unix::ffi::OsStringExt;

use sampan_runtime::cli::table::{Flag, Takes, VERBS, Verb};
use sampan_testkit::{Bundle, need, terminal};

use crate::sampan::{Root, program, run};

/// `run FLAGS -- sh -c SCRIPT` in a root of busybox, and what came of it.
fn ran(flags: &[&str], script: &str) -> Option<(i32, String, String)> {
    if !(need::root() && need::busybox()) {
        return None;
    }
    let bundle = Bundle::new("run-flags").unwrap();
    let rootfs = bundle.rootfs();
    let (root, shared) = (Root::new("run-flags"), bundle.path().join("shared"));
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "shared\n").unwrap();
    fs::create_dir_all(rootfs.join("data")).unwrap();
    let flags: Vec<String> =
        flags.iter().map(|flag| flag.replace("SHARED", shared.to_str().unwrap())).collect();
    let mut command = root.command(["run", "--rootfs", rootfs.to_str().unwrap()]);
    Some(run(command
        .args(flags)
        .args(["--", "/bin/sh", "-c", script])
        .env("OURS", "from here")
        .env_remove("NOBODYS")))
}

#[track_caller]
fn prints(flags: &[&str], script: &str, expected: &str) {
    let Some((code, out, err)) = ran(flags, script) else { return };
    assert_eq!((code, out.trim_end(), err.as_str()), (0, expected, ""), "{flags:?}");
}

/// Whatever kernel this is: uid 0 inside is the uid 0 that these files are for.
#[test]
fn no_file_of_procfs_that_only_root_may_read_is_seen() {
    prints(&[], "find /proc -maxdepth 1 -type f ! -perm -004", "");
}

#[test]
fn each_flag_does_what_it_does_elsewhere() {
    prints(
        &["-e", "A=1", "--env", "B=x=y", "-e", "OURS", "-e", "NOBODYS"],
        "echo $A $B $OURS ${NOBODYS-unset}",
        "1 x=y from here unset",
    );
    prints(&["-e", "PATH=/bin"], "echo $PATH; env | grep -c ^PATH=", "/bin\n1");
    prints(&["-w", "/data"], "pwd", "/data");
    prints(&["-u", "7:8"], "id -u; id -g", "7\n8");
    prints(&["-u", "7"], "id -u; id -g", "7\n0");
    prints(&["--hostname", "box"], "hostname", "box");
    prints(
        &["-v", "SHARED:/data"],
        "cat /data/file; echo more >/data/file && cat /data/file",
        "shared\nmore",
    );
    prints(
        &["-v", "SHARED:/data:ro"],
        "cat /data/file; echo more 2>/dev/null >/data/file || echo no",
        "shared\nno",
    );
    prints(
        &["-v", "SHARED/file:/data/one", "-v", "SHARED:/data/new/folder"],
        "cat /data/one /data/new/folder/file",
        "shared\nshared",
    );
    prints(
        &["--read-only"],
        "(echo x >/data/x) 2>/dev/null || echo no; echo x >/tmp/x && echo yes",
        "no\nyes",
    );
    prints(&["--read-only", "-v", "SHARED:/tmp/in"], "cat /tmp/in/file", "shared");
    prints(&[], "echo x >/data/x && echo yes", "yes");
    let bits = |line: &str| format!("grep {line} /proc/self/status | cut -f2");
    prints(&["--cap-drop", "ALL"], &bits("CapEff"), "0000000000000000");
    prints(&["--cap-drop", "all", "--cap-add", "net_admin"], &bits("CapBnd"), "0000000000001000");
    prints(&["--cap-drop", "CAP_CHOWN"], "touch /tmp/x; chown 7 /tmp/x 2>/dev/null || echo no", "no");
    let own = "[ $(ls /sys/class/net | wc -l) = 1 ] && echo alone";
    prints(&["--network", "none"], own, "alone");
    prints(&[], own, "alone");
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    prints(&["--network", "host"], "readlink /proc/self/ns/net", ours.to_str().unwrap());
}

#[test]
fn memory_is_limited() {
    let script = "head -c 100000000 /dev/zero | tail | wc -c; echo ended";
    let Some((code, out, err)) = ran(&["--memory", "16m"], script) else { return };
    assert!(!out.contains("100000000"), "{code} {out} {err}");
    let Some((code, out, err)) = ran(&[], script) else { return };
    assert_eq!((code, out.trim_end()), (0, "100000000\nended"), "{err}");
}

#[test]
fn what_cannot_be_is_told_by_its_flag() {
    for (flags, says) in [
        (&["-v", "SHARED"][..], "--volume \""),
        (&["-v", "/no/such:/data"], "--volume /no/such: ENOENT"),
        (&["-v", "SHARED:data"], "with DST from / on"),
        (&["-v", "SHARED:/data:rx"], "must be SRC:DST or SRC:DST:ro"),
        (&["-e", "=x"], "--env \"=x\": must be NAME=VALUE"),
        (&["-w", "data"], "--workdir \"data\": must begin with /"),
        (&["-u", "root"], "--user \"root\": must be UID or UID:GID, in digits"),
        (&["--memory", "much"], "--memory \"much\": must be a size of 512k or more"),
        (&["--memory", "-1"], "--memory \"-1\""),
        (&["--network", "bridge"], "--network \"bridge\": must be host or none"),
        (&["--hostname", ""], "--hostname \"\""),
        (&["--cap-add", "NET_ADMINS"], "--cap-add \"NET_ADMINS\": no such capability"),
        (&["--read-only", "--scratch"], "either --read-only or --scratch"),
    ] {
        let Some((code, out, err)) = ran(flags, "echo ran") else { return };
        assert!(code == 1 && out.is_empty() && err.contains(says), "{flags:?}: {code} {out} {err}");
    }
    let root = Root::new("run-flags-bundle");
    let run = VERBS.iter().find(|row| row.verb == Verb::Run).unwrap();
    let of_us = |flag: &&Flag| flag.long == "volume" || flag.help.starts_with("with these: ");
    let flags: Vec<&Flag> = run.flags.iter().filter(of_us).collect();
    assert!(flags.len() > 10, "{flags:?}");
    for flag in flags {
        let value = if flag.takes == Takes::Nothing { String::new() } else { "=x".to_owned() };
        let (code, says) = root.err(["run", &format!("--{}{value}", flag.long), "x"]);
        let expected = format!("--{}: needs --rootfs or --image; a bundle has config.json for it", flag.long);
        assert!(code == 1 && says.contains(&expected), "{says}");
    }
}

#[test]
fn a_variable_of_ours_that_is_no_text_is_named_and_not_changed() {
    if !(need::root() && need::busybox()) {
        return;
    }
    let (bundle, root) = (Bundle::new("run-env").unwrap(), Root::new("run-env"));
    let rootfs = bundle.rootfs();
    let mut command =
        root.command(["run", "--rootfs", rootfs.to_str().unwrap(), "-e", "OURS", "--", "/bin/true"]);
    command.env("OURS", std::ffi::OsString::from_vec(b"a\xff".to_vec()));
    let (code, _, err) = run(&mut command);
    assert!(code == 1 && err.contains("--env OURS: the value that we have is not UTF-8"), "{code} {err}");
}

#[test]
fn with_a_terminal_the_kind_that_was_asked_for_is_the_only_one() {
    if !(need::root() && need::busybox() && terminal::needed()) {
        return;
    }
    let (bundle, root) = (Bundle::new("run-term").unwrap(), Root::new("run-term"));
    for (flags, kind) in [("", "of-here"), ("-e TERM=asked", "asked")] {
        let line = format!(
            "{} --root {} run --rootfs {} -t {flags} -- /bin/sh -c 'env | grep ^TERM='",
            program(),
            root.path().display(),
            bundle.rootfs().display()
        );
        let (code, out, err) = run(terminal::on_a_terminal(&line).env("TERM", "of-here"));
        // The program `script` may say something of its own around it.
        let is_it = out.contains(&format!("TERM={kind}")) && out.matches("TERM=").count() == 1;
        assert!(code == 0 && is_it, "{code} {out} {err}");
    }
}

/// Also as a user who is not root, and where the root cannot be written to.
#[test]
fn with_init_the_program_is_a_child_that_is_signalled_and_its_orphans_are_reaped() {
    let script = "read name </proc/1/comm; echo $name $PPID; (sleep 0.1 &); sleep 0.5; \
                  ls /proc | grep -c '^[0-9]' >/dev/null; cat /proc/[0-9]*/stat | grep -c ') Z'; exit 0";
    for flags in [&["--init"][..], &["--init", "-u", "7:8"], &["--init", "--read-only"]] {
        prints(flags, script, "sampan-init 1\n0");
    }
    let Some((code, _, err)) = ran(&["--init"], "exit 7") else { return };
    assert_eq!((code, err.as_str()), (7, ""));
    let (code, _, _) = ran(&["--init"], "trap 'exit 9' TERM; kill -TERM 1; sleep 5 & wait").unwrap();
    assert_eq!(code, 9, "the signal is passed on");
    let (code, _, err) = ran(&["--init"], "echo x >/dev/sampan-init").unwrap();
    assert!(code != 0 && err.contains("Read-only"), "{code} {err}");
}
