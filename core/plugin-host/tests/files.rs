//! Which files are plugins, and what is said of those that are not (rows 1, 2, 3, 8, 20, 27).
use super::*;
use sampan_testkit::Folder;
use sampan_testkit::plugin::{C, watch};

/// Opens one file and returns why it was refused.
fn refusal(path: &Path, name: &str) -> String {
    let world = World::new();
    let opened = run(world.open(&[config(name, path)]));
    let [failure] = opened.failures.try_into().unwrap();
    failure.to_string()
}

fn built(defines: &'static [(&'static str, &'static str)]) -> (Folder, PathBuf, PathBuf) {
    let dir = Folder::new();
    let mark = dir.0.join("constructed");
    // SAFETY: nextest runs each test in a process of its own.
    unsafe { std::env::set_var("CONSTRUCTED", &mark) };
    let before = r#"__attribute__((constructor)) static void made(void) { int fd = open(getenv("CONSTRUCTED"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600); close(fd); }
"#;
    let path = C { before, defines, ..C::new("p", "return SP_OK;") }.build(&dir);
    (dir, path, mark)
}

#[test]
fn another_major_is_refused_before_its_constructor_runs() {
    let (_dir, path, mark) = built(&[("MAJOR", "2")]);
    let text = refusal(&path, "p");
    assert!(text.ends_with("built for plugin ABI 2, this sampand speaks 1"), "{text}");
    assert!(!mark.exists());
}

#[test]
fn a_newer_minor_works_unless_it_says_otherwise() {
    let (_dir, path, mark) = built(&[("MINOR", "9")]);
    let world = World::new();
    run(world.with(&[config("p", &path)]));
    assert!(mark.exists());
    let (_dir, path, mark) = built(&[("MIN_MINOR", "9")]);
    let text = refusal(&path, "p");
    assert!(text.ends_with("it needs a host of plugin ABI 1.9 or newer, this sampand speaks 1.0"), "{text}");
    assert!(!mark.exists());
}

#[test]
fn panic_abort_and_a_process_of_its_own_are_known_and_not_built() {
    for (flag, text) in [("SP_P_PANIC_ABORT", "panic=abort"), ("SP_P_PROCESS_ONLY", "a process of its own")] {
        let dir = Folder::new();
        let defines: &'static [(&str, &str)] = Box::leak(Box::new([("FLAGS", flag)]));
        let path = C { defines, ..C::new("p", "return SP_OK;") }.build(&dir);
        let refused = refusal(&path, "p");
        assert!(refused.contains(text) && refused.contains("known, not built"), "{refused}");
    }
}

#[test]
fn each_wrong_file_has_its_own_sentence() {
    let (dir, good, _mark) = built(&[]);
    let bytes = std::fs::read(&good).unwrap();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = dir.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        let text = refusal(&path, "p");
        assert!(text.contains(expected), "{name}: {text}");
    };
    check("not-elf", b"#!/bin/sh\n", "not an ELF file");
    check("cut-short", &bytes[..bytes.len() / 2], "the file is cut short");
    let mut other = bytes.clone();
    other[18..20].copy_from_slice(&8u16.to_le_bytes());
    check("mips", &other, "built for another processor (ELF machine 8,");
    let mut narrow = bytes.clone();
    narrow[4] = 1;
    check("32-bit", &narrow, "not 64-bit little-endian");
    let at = bytes.windows(14).position(|window| window == b"sampan_plugin\0").unwrap();
    let mut nameless = bytes.clone();
    nameless[at] = b'x';
    check("nameless", &nameless, "no symbol sampan_plugin");
    let (_other, bad, mark) = built(&[("MAGIC", "7")]);
    assert!(refusal(&bad, "p").contains("does not begin with SP_MAGIC"));
    assert!(!mark.exists());
    assert!(refusal(&dir.0.join("absent"), "p").contains("cannot read it: no such file"));
    assert!(refusal(&good, "q").contains("call its table [plugins.p]"));
}

#[test]
fn a_file_that_others_may_write_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path, mark) = built(&[]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o757)).unwrap();
    assert!(refusal(&path, "p").contains("everybody may write to it (mode 0757)"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o775)).unwrap();
    assert!(refusal(&path, "p").contains("its group 0 may write to it (mode 0775)"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (mode, whose) in [(0o777, "everybody"), (0o775, "its group 0")] {
        std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(mode)).unwrap();
        let text = refusal(&path, "p");
        assert!(text.contains(&format!("{}: {whose} may write to it", dir.0.display())), "{text}");
    }
    assert!(!mark.exists());
}

#[test]
fn a_plugin_that_is_a_fifo_is_refused_at_once() {
    let dir = Folder::new();
    let path = dir.0.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refusal(&path, "p").contains("cannot read it: a FIFO, not a regular file"));
}

#[test]
fn a_file_replaced_in_place_is_another_plugin_and_does_not_hurt_the_first() {
    let dir = Folder::new();
    let first = C::new("p", r#"return r->event == SP_EV_CONTROL ? reply(r, "1") : SP_OK;"#).build(&dir);
    let world = World::new();
    run(async {
        let one = world.with(&[config("p", &first)]).await;
        let bytes = std::fs::read(
            C::new("p", r#"return r->event == SP_EV_CONTROL ? reply(r, "2") : SP_OK;"#).build(&Folder::new()),
        )
        .unwrap();
        std::fs::write(&first, bytes).unwrap();
        let two = World::new().with(&[config("p", &first)]).await;
        assert_eq!(one.control("p", &json!(null)).await.unwrap().0, json!(1));
        assert_eq!(two.control("p", &json!(null)).await.unwrap().0, json!(2));
    });
}

#[test]
fn the_examples_in_c_and_rust_work_side_by_side() {
    let world = World::new();
    let audit = build::rust("plugin-rust", "audit");
    let mut second = config("audit", &audit);
    second.config = json!({ "deny": ["evil"] });
    run(async {
        let plugins = world.with(&[config("watch", &watch(&world.dir)), second]).await;
        let web = ctx("web");
        let mut spec = spec();
        let created = plugins.create(&web, &json!({}), &[], &mut spec).await.unwrap();
        assert_eq!(spec["process"]["env"], json!(["WATCHED=1"]));
        assert_eq!(spec["annotations"], json!({ "org.example.audited": "1" }));
        assert_eq!(created.owners["env/WATCHED"], "watch");
        plugins.notify_exit(&web, &ExitFacts { code: 3, ..ExitFacts::default() });
        eventually("both count the exit", || {
            let statuses = plugins.statuses();
            statuses.iter().all(|status| status.metrics[0].values.get("web") == Some(&(1.0, 0.0)))
        })
        .await;
        assert_eq!(plugins.statuses()[1].metrics[0].name, "sampan_plugin_audit_exits");
        let veto = create(&plugins, "evil").await.unwrap_err();
        assert_eq!(veto.to_string(), "plugin audit vetoed create: denied by audit");
        assert_eq!(plugins.shutdown().await, []);
    });
}

#[test]
fn a_plugin_exports_one_symbol() {
    let output = std::process::Command::new("nm")
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(build::rust("plugin-rust", "audit"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["sampan_plugin"]);
}

#[test]
fn a_config_error_names_table_and_key() {
    let world = World::new();
    let mut audit = config("audit", &build::rust("plugin-rust", "audit"));
    audit.config = json!({ "deni": ["evil"] });
    let failure = run(world.open(&[audit])).failures.remove(0).to_string();
    assert_eq!(
        failure,
        "plugin audit: plugins.audit.config.deni: unknown field `deni`, expected `deny`; did you mean \"deny\"?"
    );
}

/// The two lists of grants are one.
#[test]
fn every_grant_can_be_written_and_reaches_the_host() {
    let dir = Folder::new();
    let file = dir.0.join("c.toml");
    let grants = sampan_plugin::merge::GRANTS;
    std::fs::write(&file, format!("[plugins.x]\ngrants = {grants:?}\n")).unwrap();
    let loaded = sampan_config::load(&[file], &|_| None, &sampan_config::Builtin::default()).unwrap();
    let [plugin] = &discover(&dir.0, &loaded.config.plugins)[..] else { panic!("one plugin") };
    assert_eq!(plugin.policy.grants, grants);
}
