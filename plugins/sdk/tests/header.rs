//! The header and `abi.rs` are two texts of one contract: a C program prints every size, offset and constant of the header.
use sampan_plugin::abi::*;
use std::fmt::Write;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

macro_rules! structs {
    ($($c:literal $rust:ty { $($field:ident),* $(,)? })*) => {{
        let mut c = String::new();
        let mut rust = String::new();
        $(
            writeln!(c, r#"P("{0}", sizeof({0}));"#, $c).unwrap();
            writeln!(rust, "{} {}", $c, size_of::<$rust>()).unwrap();
            $(
                writeln!(c, r#"P("{0}.{1}", offsetof({0}, {1}));"#, $c, stringify!($field)).unwrap();
                writeln!(rust, "{}.{} {}", $c, stringify!($field), offset_of!($rust, $field)).unwrap();
            )*
        )*
        (c, rust)
    }};
}

macro_rules! constants {
    ($c:ident $rust:ident $($name:ident)*) => {
        $(
            writeln!($c, r#"P("SP_{0}", SP_{0});"#, stringify!($name)).unwrap();
            writeln!($rust, "SP_{} {}", stringify!($name), $name as i64).unwrap();
        )*
    };
}

#[test]
fn the_header_and_the_rust_structures_have_equal_offsets_and_constants() {
    let (mut c, mut rust) = structs! {
        "sp_bytes" Bytes { ptr, len }
        "sp_owned" Owned { ptr, len, owner }
        "sp_fd" Fd { fd, role }
        "sp_request" Request { size, event, flags, id, seq, deadline_ns, container, container_id, service, pid, exit_code,
            signal, attempt, token, trace, nfds, reserved, fds, body }
        "sp_log" Log { size, level, request, container, line, reserved, target, file, message, fields, spans }
        "sp_host" HostTable { size, major, minor, complete, extend, log_level, log, emit, read, release, get_fd, put, submit,
            metric_define, metric, subscribe, keep_fd }
        "sp_plugin" PluginTable { magic, size, major, minor, events, flags, min_minor, name, version, manifest, open, call,
            cancel, close }
    };
    constants!(c rust MAGIC ABI_MAJOR ABI_MINOR OK PENDING E_FAIL E_VETO E_PANIC E_CANCELLED E_STALE E_NOSUCH E_TOOBIG E_DENIED
        E_UNSUPPORTED E_BUSY E_INVAL FD_STDOUT FD_STDERR FD_NETNS FD_PIDFD FD_OTHER
        EV_OPEN EV_SYNCHRONIZE EV_VALIDATE EV_CREATE EV_REVIEW EV_ATTACH EV_START EV_STARTED EV_READY EV_HEALTH EV_OOM EV_EXIT
        EV_UPDATED EV_STOP EV_STOPPING EV_DETACH EV_REMOVED EV_SHUTDOWN EV_CUSTOM
        EV_CONTROL EV_TIMER EV_RESULT F_GATE F_REPLAY F_OOM F_MORE F_LOST P_NONBLOCKING P_PANIC_ABORT P_PROCESS_ONLY READ_CONTAINER
        READ_SPEC READ_SERVICE READ_LIST READ_KV READ_KV_LIST OP_SIGNAL OP_START OP_STOP
        OP_RESTART OP_TIMER OP_UNTIMER);
    assert_eq!(printed_by_c(&c), rust);
}

fn printed_by_c(lines: &str) -> String {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("header-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let source = dir.join("offsets.c");
    let program = dir.join("offsets");
    let text = format!(
        "#include \"sampan_plugin.h\"\n#include <stdio.h>\n#define P(n, v) printf(\"%s %lld\\n\", n, (long long)(v))\nint main(void) {{\n{lines}return 0; }}\n"
    );
    std::fs::write(&source, text).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let built = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .args([include.as_os_str(), source.as_os_str(), "-o".as_ref(), program.as_os_str()])
        .status()
        .unwrap();
    assert!(built.success(), "cc refused the header");
    let output = Command::new(&program).output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_event_names_stand_at_their_numbers() {
    assert_eq!(event_name(EV_OPEN), "open");
    assert_eq!(event_name(EV_DETACH), "detach");
    assert_eq!(event_name(EV_RESULT), "result");
    assert_eq!((event_name(99), event_name(12)), ("unknown event", "unknown event"));
    assert_eq!(EVENTS_ALL & (1 << 12 | 1 << EV_RESULT | 1 << 26), 1 << EV_RESULT);
}
