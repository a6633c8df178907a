//! The attacks, and how each is judged.

use std::fmt::Write as _;

use sampan_child::defence::{self, Defence};
use sampan_testkit::need;

use super::Adversary::{Caller, Image, Inside, User};
use super::runtime::Runtime;
use super::{Attack, Outcome, descriptors, dev, exec, host_root, proc, propagation, special, targets, user};

macro_rules! attacks {
    ($($module:ident::$name:ident {
        known_as: $known_as:literal, by: $by:ident, tried: $tried:literal, defence: $defence:ident,
    })*) => {
        pub const ATTACKS: &[Attack] = &[$(Attack {
            name: stringify!($name),
            known_as: $known_as,
            by: $by,
            tried: $tried,
            defence: Defence::$defence,
            run: $module::$name,
        }),*];

        mod repelled {
            $(#[test]
            fn $name() {
                super::repelled(stringify!($name));
            })*
        }
    };
}

attacks! {
    descriptors::path_through_a_descriptor {
        known_as: "CVE-2024-21626 (runc, youki)", by: Image,
        tried: "the image's `PATH` leads through every descriptor of the runtime to a program of the host",
        defence: CloseBeforeLookup,
    }
    descriptors::links_through_each_descriptor {
        known_as: "CVE-2024-21626 (runc, youki)", by: Image,
        tried: "links of the image lead through every descriptor of the runtime to a program of the host",
        defence: CloseBeforeLookup,
    }
    descriptors::interpreter_through_a_descriptor {
        known_as: "CVE-2024-21626 (runc, youki)", by: Image,
        tried: "the entrypoint is a script whose interpreter is behind a descriptor of the runtime",
        defence: CloseBeforeLookup,
    }
    descriptors::home_through_a_descriptor {
        known_as: "CVE-2024-21626 (runc, youki)", by: Image,
        tried: "`/etc/passwd` is a link that leads through a descriptor of the runtime to a file of the host",
        defence: CloseBeforeLookup,
    }
    descriptors::cwd_in_a_descriptor_of_the_callers {
        known_as: "CVE-2024-21626 (runc, youki)", by: Image,
        tried: "the working directory is a link to a folder of the host that the caller hands on with `--preserve-fds`",
        defence: CwdInRoot,
    }
    descriptors::exec_through_a_descriptor {
        known_as: "CVE-2024-21626 (runc, youki)", by: Inside,
        tried: "links in a running container lead `exec` through every descriptor of the runtime to a program of the host",
        defence: CloseBeforeLookup,
    }
    descriptors::descriptors_of_a_created_neighbour {
        known_as: "CVE-2016-9962, CVE-2024-21626 (runc)", by: Inside,
        tried: "a process with CAP_SYS_PTRACE looks behind the descriptors of a created container in its pod",
        defence: CloseBeforeLookup,
    }
    special::passwd_is_a_fifo {
        known_as: "waiting for the less trusted", by: Image,
        tried: "`/etc/passwd` of the image is a FIFO that nobody writes to: the runtime hangs",
        defence: PasswdIsAFile,
    }
    targets::mount_target_behind_a_link {
        known_as: "CVE-2019-18837 (crun)", by: Image,
        tried: "`/etc` of the image is a link to a folder of the host; the config mounts at `/etc/folder` and `/etc/file`",
        defence: TargetsInRoot,
    }
    targets::mount_target_swapped_for_a_link {
        known_as: "CVE-2021-30465, CVE-2024-45310 (runc)", by: Inside,
        tried: "a neighbour swaps a folder of a shared volume for a link to the host while mount points are made in it",
        defence: TargetsInRoot,
    }
    proc::proc_is_a_link {
        known_as: "CVE-2019-19921, CVE-2023-27561, CVE-2023-28642 (runc), CVE-2025-54867 (youki)", by: Image,
        tried: "`/proc` of the image is a link, so that masks cover another folder than procfs",
        defence: ProcIsNoLink,
    }
    proc::sys_is_a_link {
        known_as: "CVE-2023-27561 (runc)", by: Image,
        tried: "`/sys` of the image is a link",
        defence: ProcIsNoLink,
    }
    proc::volume_over_proc {
        known_as: "CVE-2019-16884 (runc, crun)", by: Image,
        tried: "the image declares a volume at `/proc`, whose files a runtime would take for the kernel's",
        defence: ProcMountsChecked,
    }
    proc::sysctl_through_the_images_proc {
        known_as: "CVE-2025-52881 (runc), CVE-2025-62596 (youki)", by: Image,
        tried: "where a sysctl is written the image has a link to a file of the host",
        defence: OwnProc,
    }
    proc::profile_for_the_images_proc {
        known_as: "CVE-2019-16884 (runc, crun)", by: Image,
        tried: "the image has no procfs but a file of its own where AppArmor's profile is written",
        defence: OwnProc,
    }
    propagation::mount_of_root_in_a_user_namespace {
        known_as: "mounts that propagate", by: Inside,
        tried: "root of a user namespace mounts something in a volume whose mount is shared: it appears on the host",
        defence: NoPeers,
    }
    dev::dev_is_a_link {
        known_as: "CVE-2026-41579 (runc), CVE-2026-47766 (crun)", by: Image,
        tried: "`/dev` of the image is a link to a folder of the host, where device nodes and links would be made",
        defence: DevIsNoLink,
    }
    dev::mask_made_of_the_containers_null {
        known_as: "CVE-2025-31133 (runc), CVE-2025-62161 (youki)", by: Inside,
        tried: "`/dev/null` in a shared `/dev` is a link to a file of procfs, and masks are made of it",
        defence: HostNull,
    }
    dev::null_of_the_host_taken_away {
        known_as: "the host's files in masks", by: Inside,
        tried: "root of a container makes the null device of masks, which is the host's, one for root alone",
        defence: NullStaysTheHosts,
    }
    dev::console_is_a_link {
        known_as: "CVE-2026-88264 (crun)", by: Image,
        tried: "`/dev/console` of the image is a link to where the host has no file yet",
        defence: ConsoleIsNoLink,
    }
    dev::terminal_of_a_neighbour {
        known_as: "CVE-2025-52565 (runc)", by: Inside,
        tried: "`/dev/pts` is shared with a neighbour, who has put another terminal, or file, at the number of ours",
        defence: PtyFromMaster,
    }
    dev::null_given_as_standard_input {
        known_as: "the host's files in standard streams", by: Image,
        tried: "the null device that is the container's standard input is made one for root alone",
        defence: NullReopened,
    }
    dev::standard_input_given_away {
        known_as: "CVE-2026-88265 (crun)", by: Image,
        tried: "the container's user is given the file of root's that is its standard input",
        defence: StdioOfOthersStays,
    }
    exec::joining_process_is_read {
        known_as: "CVE-2016-9962 (runc)", by: Inside,
        tried: "a process in the container looks into the one that `exec` sends, before that has become its program",
        defence: Undumpable,
    }
    exec::root_of_a_joining_process {
        known_as: "CVE-2016-9962 (runc)", by: Inside,
        tried: "a process with CAP_SYS_PTRACE goes through the root folder of the one that `exec` sends",
        defence: BornInside,
    }
    exec::capabilities_of_a_joining_process {
        known_as: "CVE-2016-9962 (runc)", by: Inside,
        tried: "a process with CAP_SYS_PTRACE takes over the one that `exec` sends while that has the host root's capabilities",
        defence: UserBeforeBirth,
    }
    exec::pid_of_a_joining_process_forged {
        known_as: "memory shared with the less trusted", by: Inside,
        tried: "a process with CAP_SYS_PTRACE writes to where `exec` learns its process's pid, to have a process of the host signalled",
        defence: SuccessorOutOfReach,
    }
    exec::program_of_the_runtime_overwritten {
        known_as: "CVE-2019-5736 (runc, youki)", by: Inside,
        tried: "`exec` of `/proc/self/exe` shows the container the runtime's own file, which it writes to later",
        defence: SealedProgram,
    }
    exec::inheritable_capabilities {
        known_as: "CVE-2022-29162 (runc), CVE-2022-27650 (crun), CVE-2025-27612 (youki)", by: Inside,
        tried: "capabilities given by `exec --cap` are inherited by programs that were not meant",
        defence: ExecCapsNotInherited,
    }
    host_root::root_reads_the_hosts_secrets {
        known_as: "`rootfs = \"host\"`", by: Inside,
        tried: "root of a container on the host's own root, called `/etc/..`, reads what only the host's root may",
        defence: UnmappedOwners,
    }
    user::state_planted_by_another_user {
        known_as: "a state root with umask 0", by: User,
        tried: "another user makes a container's folder, whose poststop hook `delete --force` would run as root",
        defence: StateOwner,
    }
    user::state_read_by_another_user {
        known_as: "a state root with umask 0", by: User,
        tried: "another user reads the environment of a container where the runtime keeps its config",
        defence: ClosedToOthers,
    }
    user::pid_file_through_a_link {
        known_as: "files written through links", by: User,
        tried: "where root writes a pid file another user has a link to a file of root's",
        defence: PidFileIsNew,
    }
    exec::user_that_is_no_number {
        known_as: "CVE-2026-30892 (crun)", by: Caller,
        tried: "`exec --user` with what is no number gives root",
        defence: UserInDigits,
    }
}

/// As `make test` runs each: against `sampan` as it is.
fn repelled(name: &str) {
    if !need::root() || !need::busybox() {
        return;
    }
    let attack = ATTACKS.iter().find(|attack| attack.name == name).unwrap();
    match (attack.run)(&Runtime::sampan()) {
        Outcome::Repelled(_) => {}
        Outcome::Worked(got) => panic!("{name}: {got}"),
        Outcome::Lacks(what) => assert!(!need::need(what, false)),
    }
}

#[test]
fn each_defence_that_can_be_switched_off_has_an_attack() {
    let of_sampan = |d: &&Defence| !defence::OF_SAMPAND.contains(d);
    for defence in Defence::ALL.iter().filter(of_sampan) {
        assert!(ATTACKS.iter().any(|attack| attack.defence == *defence), "{defence:?}");
    }
}

#[test]
#[ignore = "make attack builds the program without defences that this needs"]
fn each_attack_fails_and_works_without_its_defence() {
    let weakened = std::env::var_os("SAMPAN_WEAKENED").expect("SAMPAN_WEAKENED: run by make attack");
    assert!(need::root() && need::busybox(), "attacks are made by real containers");
    let others: Vec<Runtime> = ["runc", "crun"].into_iter().filter_map(Runtime::other).collect();
    let only = std::env::var("SAMPAN_ATTACK").ok();
    let mut missed = String::new();
    for attack in ATTACKS.iter().filter(|attack| only.as_deref().is_none_or(|name| name == attack.name)) {
        println!("{}: {} ({})", attack.name, attack.tried, attack.known_as);
        let told = |who: &str, outcome: &Outcome| {
            let (verdict, detail) = match outcome {
                Outcome::Repelled(said) => ("repelled", said.as_str()),
                Outcome::Worked(got) => ("WORKED", got.as_str()),
                Outcome::Lacks(what) => ("not tried, lacks", *what),
            };
            println!("    {who:40} {verdict}: {detail}");
        };
        let outcome = (attack.run)(&Runtime::sampan());
        told("sampan", &outcome);
        if !matches!(outcome, Outcome::Repelled(_)) {
            writeln!(missed, "{}: not repelled", attack.name).unwrap();
        }
        let outcome = (attack.run)(&Runtime::weakened(&weakened, attack.defence));
        told(&format!("sampan without {}", attack.defence.name()), &outcome);
        if !matches!(outcome, Outcome::Worked(_)) {
            writeln!(missed, "{}: does not work without its defence either", attack.name).unwrap();
        }
        for other in &others {
            told(other.name, &(attack.run)(other));
        }
    }
    assert!(missed.is_empty(), "\n{missed}");
}
