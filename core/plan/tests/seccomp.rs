//! Filters: what ours decide against what libseccomp's decide with runc's ENOSYS before them, and against a plain
//! reading of the profile; both run in an interpreter of our own.

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sampan_plan::default::CAPABILITIES;
use sampan_plan::seccomp::docker::{self, Facts};
use sampan_plan::seccomp::evaluate::{Data, answer, denies_execve};
use sampan_plan::seccomp::{Arch, compile, compile_on, flags};
use sampan_plan::spec::{Seccomp, SeccompArg, SeccompRule, Str};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::AsFd;

const PODMAN: &str = include_str!("data/podman-default.json");
const DOCKER: &str = include_str!("../src/seccomp/docker-default.json");
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL_THREAD: u32 = 0;

/// What the program returns for the call. Panics where the kernel would refuse the program.
fn run(program: &[u64], call: &Data) -> u32 {
    answer(program, call).unwrap()
}

// ---- the oracles ----

fn action(name: &str, errno: Option<u32>) -> ScmpAction {
    ScmpAction::from_str(name, Some(errno.unwrap_or(1) as i32)).unwrap()
}

fn word(name: &str, errno: Option<u32>) -> u32 {
    match action(name, errno) {
        ScmpAction::KillProcess => 0x8000_0000,
        ScmpAction::KillThread => KILL_THREAD,
        ScmpAction::Trap => 0x0003_0000,
        ScmpAction::Errno(n) => 0x0005_0000 | n as u32,
        ScmpAction::Trace(n) => 0x7ff0_0000 | u32::from(n),
        ScmpAction::Log => 0x7ffc_0000,
        ScmpAction::Allow => ALLOW,
        other => panic!("{other:?}"),
    }
}

fn theirs(arch: Arch) -> ScmpArch {
    match arch {
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X86 => ScmpArch::X86,
        Arch::X32 => ScmpArch::X32,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Arm => ScmpArch::Arm,
    }
}

/// The rule as libseccomp takes it, in runc's way.
fn compares(rule: &SeccompRule<'_>) -> Vec<Vec<ScmpArgCompare>> {
    let compare = |a: &SeccompArg<'_>| {
        let (op, value) = match a.op.as_str() {
            "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, a.value),
            "SCMP_CMP_LT" => (ScmpCompareOp::Less, a.value),
            "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, a.value),
            "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, a.value),
            "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, a.value),
            "SCMP_CMP_GT" => (ScmpCompareOp::Greater, a.value),
            "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(a.value), a.value_two),
            other => panic!("{other}"),
        };
        ScmpArgCompare::new(a.index, op, value)
    };
    let all: Vec<_> = rule.args.iter().map(compare).collect();
    if distinct(&rule.args) { vec![all] } else { all.into_iter().map(|c| vec![c]).collect() }
}

/// libseccomp's program; none where it refuses the profile.
fn libseccomp(profile: &Seccomp<'_>, arches: &[Arch]) -> Option<Vec<u64>> {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let mut context = ScmpFilterContext::new(default).unwrap();
    for arch in arches {
        context.add_arch(theirs(*arch)).unwrap();
    }
    if !arches.contains(&Arch::X86_64) {
        context.remove_arch(ScmpArch::X8664).unwrap();
    }
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret);
        let calls = rule.names.iter().filter_map(|name| ScmpSyscall::from_name(name).ok());
        for call in calls.filter(|_| action != default) {
            for case in compares(rule) {
                context.add_rule_conditional(action, call, &case).ok()?;
            }
        }
    }
    let (mut read, write) = std::io::pipe().unwrap();
    let mut bytes = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| read.read_to_end(&mut bytes).unwrap());
        context.export_bpf(write.as_fd()).unwrap();
        drop(write);
    });
    Some(bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect())
}

/// The profile read line by line.
struct Model<'p> {
    arch: Arch,
    default: u32,
    /// Where numbers begin that are newer than the profile.
    newer: Option<u32>,
    /// The rules of each call.
    rules: BTreeMap<u32, Vec<&'p SeccompRule<'p>>>,
}

impl<'p> Model<'p> {
    fn new(profile: &'p Seccomp<'p>, arch: Arch) -> Model<'p> {
        let default = word(&profile.default_action, profile.default_errno_ret);
        let named = || {
            let names = |r: &'p SeccompRule<'p>| r.names.iter().map(move |n| (n, r));
            profile.syscalls.iter().flat_map(names).filter_map(|(n, r)| Some((arch.call(n)?, r)))
        };
        let lets_pass = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        let stub = !lets_pass.contains(&profile.default_action.as_str());
        let newer = named().map(|(n, _)| n).filter(|n| !own(arch, *n) && n & !(1 << 30) > 0).max();
        let mut rules: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (number, rule) in named().filter(|(_, r)| word(&r.action, r.errno_ret) != default) {
            rules.entry(number).or_default().push(rule);
        }
        Model { arch, default, newer: newer.filter(|_| stub), rules }
    }

    /// What runc puts before libseccomp's program.
    fn newer(&self, number: u32) -> bool {
        self.newer.is_some_and(|newest| number > newest) && !own(self.arch, number)
    }

    fn decide(&self, call: &Data) -> u32 {
        if self.newer(call.number) {
            return ENOSYS;
        }
        let holds = |a: &SeccompArg<'_>| self.holds(a, call);
        let rules = self.rules.get(&call.number).map_or(&[][..], Vec::as_slice);
        let first = rules.iter().find(|r| r.args.is_empty()).or_else(|| {
            rules.iter().find(|r| match distinct(&r.args) {
                true => r.args.iter().all(holds),
                false => r.args.iter().any(holds),
            })
        });
        first.map_or(self.default, |r| word(&r.action, r.errno_ret))
    }

    fn holds(&self, a: &SeccompArg<'_>, call: &Data) -> bool {
        let wide = matches!(self.arch, Arch::X86_64 | Arch::Aarch64);
        let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
        let (arg, value, two) = (cut(call.args[a.index as usize]), cut(a.value), cut(a.value_two));
        match a.op.as_str() {
            "SCMP_CMP_NE" => arg != value,
            "SCMP_CMP_LT" => arg < value,
            "SCMP_CMP_LE" => arg <= value,
            "SCMP_CMP_EQ" => arg == value,
            "SCMP_CMP_GE" => arg >= value,
            "SCMP_CMP_GT" => arg > value,
            "SCMP_CMP_MASKED_EQ" => arg & value == two & value,
            other => panic!("{other}"),
        }
    }
}

/// Arm's own calls lie above all others and say nothing about age.
fn own(arch: Arch, number: u32) -> bool {
    arch == Arch::Arm && (0xf_0000..0xf_0008).contains(&number)
}

/// No argument is named twice.
fn distinct(args: &[SeccompArg<'_>]) -> bool {
    args.iter().map(|a| a.index).collect::<BTreeSet<u32>>().len() == args.len()
}

// ---- comparing ----

/// The values at which a condition of the profile may turn, per argument.
fn boundaries(profile: &Seccomp<'_>) -> [Vec<u64>; 6] {
    let mut all: [BTreeSet<u64>; 6] = Default::default();
    for set in &mut all {
        set.extend([0, 1, 5, u64::MAX, 1 << 32]);
    }
    for arg in profile.syscalls.iter().flat_map(|r| &r.args) {
        for value in [arg.value, arg.value_two] {
            let near = [value.wrapping_sub(1), value, value.wrapping_add(1), value ^ (1 << 32), !value];
            all[arg.index as usize].extend(near);
            all[arg.index as usize].extend([value & 0xffff_ffff, value << 32, value ^ (1 << 63)]);
        }
    }
    all.map(|set| set.into_iter().collect())
}

/// Every number of the architecture and beyond, with arguments where a rule looks at them.
fn calls(profile: &Seccomp<'_>, arch: Arch) -> Vec<Data> {
    let bit = if arch == Arch::X32 { 1 << 30 } else { 0 };
    let beyond =
        [0x2ff, 0x300, 0x301, 999, 9_999, 0xf001, 0xe_ffff, 0xf_0001, 0xf_0005, 0xf_0010, 0x3fff_ffff];
    let values = boundaries(profile);
    let looked_at: BTreeSet<u32> = profile
        .syscalls
        .iter()
        .filter(|r| !r.args.is_empty())
        .flat_map(|r| r.names.iter().filter_map(|n| arch.call(n)))
        .chain([102, 117].into_iter().filter(|_| arch == Arch::X86))
        .collect();
    let mut calls = Vec::new();
    for number in (0..480).chain(510..560).chain(beyond) {
        let number = number | bit;
        // Walks through the values of each argument at its own pace, so that pairs come together.
        let rounds = if looked_at.contains(&number) { 400 } else { 1 };
        for round in 0..rounds {
            let mut args = [0; 6];
            for (i, (arg, values)) in args.iter_mut().zip(&values).enumerate() {
                *arg = values[(round / [1, 7, 3, 5, 11, 13][i] + i) % values.len()];
                if arch == Arch::X86 || arch == Arch::Arm {
                    *arg &= 0xffff_ffff;
                }
            }
            if arch == Arch::X86 && looked_at.contains(&number) && round % 2 == 0 {
                args[0] = round as u64 % 30;
            }
            calls.push(Data { arch: arch.audit(), number, args });
        }
    }
    calls
}

fn family(native: Arch) -> &'static [Arch] {
    match native {
        Arch::X86_64 => &[Arch::X86_64, Arch::X86, Arch::X32],
        _ => &[Arch::Aarch64, Arch::Arm],
    }
}

fn included(profile: &Seccomp<'_>, native: Arch) -> Vec<Arch> {
    let named = |a: &Arch| *a == native || profile.architectures.iter().any(|n| n.as_str() == a.name());
    family(native).iter().copied().filter(named).collect()
}

/// Names that libseccomp knows wherever we do (not x32's map_shadow_stack, for one), so that a newer table is no
/// difference. On x86 many are pseudo numbers to it.
fn known_to_both<'a>(profile: &Seccomp<'a>) -> Seccomp<'a> {
    let mut profile = profile.clone();
    let known = |name: &str, arch: Arch| {
        ScmpSyscall::from_name_by_arch(name, theirs(arch))
            .is_ok_and(|c| arch == Arch::X86 || c.as_raw_syscall() >= 0)
    };
    let arches = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| arches.iter().all(|a| a.call(name).is_none() || known(name, *a)));
    }
    profile
}

fn check_libseccomp(profile: &Seccomp<'_>, native: Arch) {
    let profile = known_to_both(profile);
    let arches = included(&profile, native);
    let Some(theirs) = libseccomp(&profile, &arches) else { return };
    let ours = compile_on(&profile, native).unwrap();
    for arch in family(native) {
        let model = Model::new(&profile, *arch);
        for call in calls(&profile, *arch) {
            let stub = arches.contains(arch) && model.newer(call.number);
            let expected = if stub { ENOSYS } else { run(&theirs, &call) };
            let found = run(&ours, &call);
            assert_eq!(found, expected, "{arch:?} {call:x?}: {found:#x}, and {expected:#x} with libseccomp");
        }
    }
}

fn check_model(profile: &Seccomp<'_>, native: Arch) {
    let program = compile_on(profile, native).unwrap();
    let arches = included(profile, native);
    for arch in family(native) {
        let model = Model::new(profile, *arch);
        for call in calls(profile, *arch) {
            // The model knows no sub-calls.
            if *arch == Arch::X86 && [102, 117].contains(&call.number) {
                continue;
            }
            let expected = if arches.contains(arch) { model.decide(&call) } else { KILL_THREAD };
            assert_eq!(run(&program, &call), expected, "{arch:?} {call:x?}");
        }
    }
}

// ---- docker's and podman's profiles ----

fn resolved<'a>(text: &'a str, more: &[&'static str], native: Arch) -> Seccomp<'a> {
    let bounding: Vec<Str> = CAPABILITIES.iter().chain(more).map(|c| Str::from(*c)).collect();
    docker::profile(text, &Facts { bounding: &bounding, kernel: (5, 14), native }).unwrap()
}

#[test]
fn dockers_profile_decides_as_with_libseccomp() {
    for native in [Arch::X86_64, Arch::Aarch64] {
        check_libseccomp(&resolved(DOCKER, &[], native), native);
        check_libseccomp(&resolved(DOCKER, &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"], native), native);
    }
}

#[test]
fn podmans_profile_decides_as_with_libseccomp() {
    for native in [Arch::X86_64, Arch::Aarch64] {
        check_libseccomp(&resolved(PODMAN, &[], native), native);
        let mut without_audit = resolved(PODMAN, &[], native);
        let bounding = [Str::from("CAP_CHOWN")];
        let facts = Facts { bounding: &bounding, kernel: (6, 18), native };
        assert_ne!(without_audit, docker::profile(PODMAN, &facts).unwrap());
        without_audit = docker::profile(PODMAN, &facts).unwrap();
        check_libseccomp(&without_audit, native);
    }
}

#[test]
fn the_tables_are_libseccomps() {
    let names = include_str!("../src/seccomp/tables.rs");
    let names = names.split("NAMES: &str = \"\\").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let mut compared = 0;
    for name in names.split([' ', '\\', '\n']).filter(|n| !n.is_empty()) {
        for arch in [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm] {
            // A negative number is libseccomp's sign for "not on this architecture".
            let Ok(call) = ScmpSyscall::from_name_by_arch(name, theirs(arch)) else { continue };
            let Ok(number) = u32::try_from(call.as_raw_syscall()) else { continue };
            assert_eq!(arch.call(name), Some(number), "{name} on {arch:?}");
            compared += 1;
        }
    }
    assert!(compared > 1_800, "{compared}");
}

/// What the profile is for, in words.
#[test]
fn the_default_profile_denies_what_docker_denies() {
    let check = |more: &[&'static str], name: &str, args: [u64; 6], expected| {
        let program = compile_on(&resolved(DOCKER, more, Arch::X86_64), Arch::X86_64).unwrap();
        let number = Arch::X86_64.call(name).unwrap();
        assert_eq!(run(&program, &Data { arch: Arch::X86_64.audit(), number, args }), expected, "{name}");
    };
    check(&[], "read", [0; 6], ALLOW);
    check(&[], "mount", [0; 6], EPERM);
    check(&["CAP_SYS_ADMIN"], "mount", [0; 6], ALLOW);
    check(&[], "chroot", [0; 6], ALLOW);
    check(&[], "bpf", [0; 6], EPERM);
    check(&["CAP_BPF"], "bpf", [0; 6], ALLOW);
    check(&[], "clone3", [0; 6], ENOSYS);
    check(&[], "clone", [0x11, 0, 0, 0, 0, 0], ALLOW);
    check(&[], "clone", [0x1000_0000, 0, 0, 0, 0, 0], EPERM);
    check(&[], "socket", [2, 1, 0, 0, 0, 0], ALLOW);
    check(&[], "socket", [40, 1, 0, 0, 0, 0], EPERM);
    check(&[], "personality", [0xffff_ffff, 0, 0, 0, 0, 0], ALLOW);
    check(&[], "personality", [0x4_0000, 0, 0, 0, 0, 0], EPERM);
}

#[test]
fn the_native_architecture_is_in_and_others_kill() {
    let allow = Seccomp { default_action: "SCMP_ACT_ALLOW".into(), ..Seccomp::default() };
    let program = compile_on(&allow, Arch::X86_64).unwrap();
    let call = |arch: u32, number| run(&program, &Data { arch, number, args: [0; 6] });
    assert_eq!(call(Arch::X86_64.audit(), 0), ALLOW);
    assert_eq!(call(Arch::X86_64.audit(), 1 << 30), KILL_THREAD);
    assert_eq!(call(Arch::X86.audit(), 0), KILL_THREAD);
    assert_eq!(call(0xc000_00b7, 0), KILL_THREAD);
}

#[test]
fn calls_newer_than_the_profile_are_not_there() {
    let check = |default: &str, errno, expected| {
        let profile = Seccomp {
            default_action: default.into(),
            default_errno_ret: errno,
            syscalls: vec![rule(&["read", "close_range"], "SCMP_ACT_KILL", None, &[])],
            ..Seccomp::default()
        };
        let program = compile_on(&profile, Arch::X86_64).unwrap();
        let call = |number| run(&program, &Data { arch: Arch::X86_64.audit(), number, args: [0; 6] });
        assert_eq!((call(435), call(437), call(9_999)), expected, "{default}");
    };
    check("SCMP_ACT_ERRNO", None, (EPERM, ENOSYS, ENOSYS));
    check("SCMP_ACT_ERRNO", Some(38), (ENOSYS, ENOSYS, ENOSYS));
    check("SCMP_ACT_KILL_PROCESS", None, (0x8000_0000, ENOSYS, ENOSYS));
    check("SCMP_ACT_ALLOW", None, (ALLOW, ALLOW, ALLOW));
    check("SCMP_ACT_LOG", None, (0x7ffc_0000, 0x7ffc_0000, 0x7ffc_0000));
}

#[test]
fn flags_that_are_absent_are_not_empty() {
    let check = |names: Option<&[&'static str]>, expected| {
        let names = names.map(|names| names.iter().map(|n| Str::from(*n)).collect());
        let profile = Seccomp { flags: names, ..Seccomp::default() };
        assert_eq!(flags(&profile).map_err(|e| e.to_string()), expected);
    };
    check(None, Ok(4));
    check(Some(&[]), Ok(0));
    check(Some(&["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]), Ok(3));
    check(Some(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), Ok(0));
    check(
        Some(&["SECCOMP_FILTER_FLAG_LOGS"]),
        Err("linux.seccomp.flags[0]: no flag is called \"SECCOMP_FILTER_FLAG_LOGS\"; did you mean \
             SECCOMP_FILTER_FLAG_LOG?"
            .to_owned()),
    );
}

// ---- what is wrong ----

fn check_error(profile: serde_json::Value, expected: &str) {
    let text = profile.to_string();
    let profile: Seccomp<'_> = serde_json::from_str(&text).unwrap();
    assert_eq!(compile_on(&profile, Arch::X86_64).unwrap_err().to_string(), expected);
}

fn with_rule(rule: serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

#[test]
fn errors_name_the_field() {
    use serde_json::json;
    check_error(json!({}), "linux.seccomp.defaultAction: is missing");
    check_error(
        json!({ "defaultAction": "SCMP_ACT_ALOW" }),
        "linux.seccomp.defaultAction: no action is called \"SCMP_ACT_ALOW\"; did you mean SCMP_ACT_ALLOW?",
    );
    check_error(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 }),
        "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW returns none",
    );
    check_error(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X46"] }),
        "linux.seccomp.architectures[1]: no architecture is called \"SCMP_ARCH_X46\"; did you mean \
         SCMP_ARCH_X86?",
    );
    check_error(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" }),
        "linux.seccomp.listenerMetadata: there is no listenerPath to send it to",
    );
    check_error(
        with_rule(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" })),
        "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY is not supported yet",
    );
    check_error(
        with_rule(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 })),
        "linux.seccomp.syscalls[0].errnoRet: 4096 is no errno",
    );
    check_error(
        with_rule(json!({ "names": ["read"], "action": "SCMP_ACT_LOG",
            "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] })),
        "linux.seccomp.syscalls[0].args[0].index: 6 is not 0 to 5",
    );
    check_error(
        with_rule(json!({ "names": ["read"], "action": "SCMP_ACT_LOG",
            "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQQ" }] })),
        "linux.seccomp.syscalls[0].args[0].op: no operator is called \"SCMP_CMP_EQQ\"; did you mean SCMP_CMP_EQ?",
    );
}

/// `count` rules on as many calls, each with all arguments looked at.
fn long(count: usize) -> Seccomp<'static> {
    const CALLS: &[&str] =
        &["read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap"];
    let args = |n: u64| (0..6).map(|i| arg(i, "SCMP_CMP_GT", n << 30 | 7, 0)).collect::<Vec<_>>();
    let rules = (0..count)
        .map(|n| rule(&[CALLS[n % CALLS.len()]], "SCMP_ACT_ERRNO", Some(n as u32), &args(n as u64)));
    Seccomp { default_action: "SCMP_ACT_ALLOW".into(), syscalls: rules.collect(), ..Seccomp::default() }
}

#[test]
fn a_long_program_jumps_far() {
    let profile = long(100);
    let length = compile_on(&profile, Arch::X86_64).unwrap().len();
    assert!(length > 3_000, "{length}");
    check_model(&profile, Arch::X86_64);
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_an_error() {
    let error = compile_on(&long(200), Arch::X86_64).unwrap_err().to_string();
    assert!(
        error.starts_with("linux.seccomp: ")
            && error.ends_with(" instructions, and the kernel takes 4096; shorten the rules"),
        "{error}"
    );
}

#[test]
fn what_is_wrong_in_dockers_form() {
    let check = |profile: &str, expected: &str| {
        let facts = Facts { bounding: &[], kernel: (5, 14), native: Arch::X86_64 };
        assert_eq!(docker::profile(profile, &facts).unwrap_err().to_string(), expected);
    };
    check(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#,
        "archMap: both architectures and archMap are given; write one",
    );
    check(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM"}]}"#,
        "syscalls[0].errno: is a name; write errnoRet and the number",
    );
    check(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL", "includes": {"minKernel": "new"}}]}"#,
        "syscalls[0].includes.minKernel: \"new\" is not as \"4.8\"",
    );
    check(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscals": []}"#,
        "profile: unknown field `syscals`, expected one of `defaultAction`, `defaultErrnoRet`, `defaultErrno`, \
         `architectures`, `archMap`, `flags`, `listenerPath`, `listenerMetadata`, `syscalls` at line 1 column 45",
    );
}

// ---- any profile ----

fn rule(
    names: &[&'static str],
    action: &'static str,
    errno: Option<u32>,
    args: &[SeccompArg<'static>],
) -> SeccompRule<'static> {
    let names = names.iter().map(|n| Str::from(*n)).collect();
    SeccompRule { names, action: action.into(), errno_ret: errno, args: args.to_vec() }
}

fn arg(index: u32, op: &'static str, value: u64, two: u64) -> SeccompArg<'static> {
    SeccompArg { index, value, value_two: two, op: op.into() }
}

fn any_action() -> impl Strategy<Value = (&'static str, Option<u32>)> {
    prop_oneof![
        Just(("SCMP_ACT_ALLOW", None)),
        Just(("SCMP_ACT_KILL", None)),
        Just(("SCMP_ACT_KILL_PROCESS", None)),
        Just(("SCMP_ACT_TRAP", None)),
        Just(("SCMP_ACT_LOG", None)),
        prop_oneof![Just(None), (0..200u32).prop_map(Some)].prop_map(|e| ("SCMP_ACT_ERRNO", e)),
        (0..70u32).prop_map(|e| ("SCMP_ACT_TRACE", Some(e))),
    ]
}

fn any_args() -> impl Strategy<Value = Vec<SeccompArg<'static>>> {
    let value =
        || prop_oneof![0..9u64, Just(u64::from(u32::MAX)), Just(1 << 32), Just(5 << 32 | 5), any::<u64>()];
    let op = prop::sample::select(vec![
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ]);
    let one = (0..6u32, op, value(), value()).prop_map(|(index, op, value, two)| arg(index, op, value, two));
    prop::collection::vec(one, 1..4)
}

fn any_names() -> impl Strategy<Value = Vec<&'static str>> {
    let names = "read write open close mmap clone socket accept4 connect semget semctl shmat msgsnd socketcall ipc
        personality ptrace kcmp openat2 futex_waitv breakpoint cacheflush arch_prctl set_tls vm86 no_such_call";
    prop::collection::vec(prop::sample::select(names.split_whitespace().collect::<Vec<_>>()), 1..5)
}

fn any_profile() -> impl Strategy<Value = Seccomp<'static>> {
    let args = prop_oneof![Just(vec![]), any_args()];
    let one = (any_names(), any_action(), args)
        .prop_map(|(names, (action, errno), args)| rule(&names, action, errno, &args));
    let arches = prop::sample::subsequence(
        vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_S390X"],
        0..5,
    );
    let rules = prop::collection::vec(one, 0..8);
    (any_action(), rules, arches).prop_map(|((default, errno), syscalls, arches)| Seccomp {
        default_action: default.into(),
        default_errno_ret: errno,
        architectures: arches.into_iter().map(Str::from).collect(),
        syscalls,
        ..Seccomp::default()
    })
}

/// What libseccomp 2.5.4 gets right. A condition on none of an argument's bits holds for it before a later rule without
/// conditions, which otherwise comes first. Of several rules with conditions on one call it makes one tree that is at times
/// wrong (`a3 < 1<<32` or `a3 < 0` does not hold for 0xffffffff there), and where the first rule's call is none of the
/// architecture it forgets to load the number for the next (breakpoint on aarch64, accept and semop on x86). The model
/// knows better.
fn within_libseccomp(profile: &Seccomp<'static>, native: Arch) -> Seccomp<'static> {
    let mut profile = profile.clone();
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| family(native).iter().all(|arch| arch.call(name).is_some()));
    }
    let mut seen = BTreeSet::new();
    for rule in profile.syscalls.iter_mut().filter(|r| !r.args.is_empty()) {
        // socketcall(2) and ipc(2) are calls of many names.
        let call = |name: &str| match name {
            "accept4" | "connect" => "socket".to_owned(),
            "semctl" | "shmat" | "msgsnd" => "semget".to_owned(),
            other => other.to_owned(),
        };
        rule.names.truncate(1);
        rule.names.retain(|name| seen.insert(call(name)));
        let mut indices = BTreeSet::new();
        rule.args.retain(|a| indices.insert(a.index));
        // On 32-bit architectures it looks at the lower half alone.
        for mask in rule.args.iter_mut().filter(|a| &*a.op == "SCMP_CMP_MASKED_EQ") {
            mask.value |= u64::from(mask.value as u32 == 0);
        }
    }
    profile
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_profile_decides_as_it_reads(profile in any_profile()) {
        check_model(&profile, Arch::X86_64);
        check_model(&profile, Arch::Aarch64);
    }
}

// The same profiles each time: a fault of libseccomp not yet in `within_libseccomp` is found by a person who asks for
// more (PROPTEST_CASES=20000), not by whoever comes next.
proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(0x5a_3b), ..ProptestConfig::with_cases(60) })]

    #[test]
    fn any_profile_decides_as_with_libseccomp(profile in any_profile()) {
        for native in [Arch::X86_64, Arch::Aarch64] {
            check_libseccomp(&within_libseccomp(&profile, native), native);
        }
    }
}

#[test]
fn a_profile_that_denies_execve_is_known_as_one() {
    let denies = |default: &'static str, rules: Vec<SeccompRule<'static>>| {
        let profile = Seccomp { default_action: default.into(), syscalls: rules, ..Seccomp::default() };
        let filter: Vec<u8> = compile(&profile).unwrap().iter().flat_map(|insn| insn.to_ne_bytes()).collect();
        denies_execve(&filter)
    };
    assert!(!denies("SCMP_ACT_ALLOW", vec![]));
    assert!(!denies("SCMP_ACT_LOG", vec![]));
    for action in
        ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE"]
    {
        assert!(denies(action, vec![]), "{action}");
        assert!(!denies(action, vec![rule(&["execve"], "SCMP_ACT_ALLOW", None, &[])]), "{action}");
        assert!(denies("SCMP_ACT_ALLOW", vec![rule(&["execve"], action, None, &[])]), "{action}");
    }
    assert!(!denies_execve(&[]));
}
