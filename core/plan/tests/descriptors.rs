//! Which descriptors are open when: no directory, mount or namespace of the host is, from the first lookup on that the container
//! can influence (CVE-2024-21626). Proved on the plans of arbitrary configs, by following what each step closes.

use crate::plans::config;
use proptest::prelude::*;
use sampan_child::image::Image;
use sampan_child::step::{Numbers, Source, Step};
use sampan_plan::host::Version;
use sampan_plan::slots::SlotSource;
use sampan_plan::{Host, Options, Plan, Spec};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Follows a plan; the slots that lead to the host and are open at a step that looks up what the container chose.
fn ways_out<'p>(plan: &'p Plan<'p>) -> Vec<(usize, &'p SlotSource)> {
    let image = Image::check(&plan.image).unwrap();
    // Whoever clones has all of them open, and so has the child at first.
    let mut open: BTreeSet<u32> = (0..plan.slots.len() as u32).collect();
    let mut inside = false;
    let mut found = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let keep_only = |open: &mut BTreeSet<u32>, keep: Numbers| {
            let kept: BTreeSet<u32> = image.numbers(keep).collect();
            open.retain(|slot| kept.contains(slot));
        };
        match *step {
            Step::Close { keep, .. } => keep_only(&mut open, keep),
            Step::Pivot { keep, .. } | Step::Join { keep, .. } => {
                keep_only(&mut open, keep);
                inside = true;
            }
            Step::Root { from: Source::Tree(slot), .. }
            | Step::Scratch { from: Source::Tree(slot), .. }
            | Step::Bind { from: Source::Tree(slot), .. } => {
                assert!(open.contains(&slot.0), "closed too early: {step:?}")
            }
            _ => {}
        }
        let used_later = plan.steps[index + 1..].iter().filter(|s| !matches!(s, Step::Enter { .. }));
        for slot in used_later.flat_map(|step| step.slots()) {
            assert!(
                open.contains(&slot.0),
                "step {index}, {step:?}, closes what a later one uses: {:?}",
                plan.slots[slot.0 as usize]
            );
        }
        let lookup = match step {
            Step::Home { .. } | Step::Cwd { .. } | Step::Find { .. } | Step::Exec { .. } => {
                assert!(inside, "{step:?} looks up what the container chose, outside of it");
                true
            }
            Step::Hook { .. } | Step::Console { .. } | Step::Wait { .. } => inside,
            _ => false,
        };
        if lookup {
            let out =
                open.iter().map(|slot| &plan.slots[*slot as usize]).filter(|want| want.leads_to_the_host());
            found.extend(out.map(|want| (index, want)));
        }
    }
    found
}

const KINDS: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

/// Everything in a config that a descriptor may come from.
fn any_config() -> impl Strategy<Value = Value> {
    let namespaces = prop::collection::vec((any::<bool>(), any::<bool>()), KINDS.len());
    let hooks = prop::collection::vec(any::<bool>(), 4);
    let propagation = prop::sample::select(vec!["", "private", "rslave", "shared", "rshared"]);
    let flags = prop::collection::vec(any::<bool>(), 7);
    (namespaces, hooks, propagation, flags, 0u32..3).prop_map(|(namespaces, hooks, propagation, flags, binds)| {
        let [terminal, no_new_privileges, seccomp, scratch, user, dev, readonly] = flags[..] else { unreachable!() };
        let mut c = config();
        let list = KINDS.iter().zip(&namespaces).filter(|(kind, (there, _))| *there || **kind == "mount");
        c["linux"]["namespaces"] = list
            .map(|(kind, (_, joined))| match *joined && *kind != "mount" {
                true => json!({"type": kind, "path": format!("/run/ns/{kind}")}),
                false => json!({"type": kind}),
            })
            .collect();
        let has = |c: &Value, kind: &str| c["linux"]["namespaces"].as_array().unwrap().iter().any(|n| n["type"] == kind);
        if has(&c, "user") {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            c["linux"]["uidMappings"] = map.clone();
            c["linux"]["gidMappings"] = map;
        }
        if !has(&c, "uts") {
            c.as_object_mut().unwrap().remove("hostname");
        }
        let hook = json!([{"path": "/bin/hook"}]);
        for (kind, there) in ["prestart", "createRuntime", "createContainer", "startContainer"].iter().zip(hooks) {
            c["hooks"][kind] = if there { hook.clone() } else { json!([]) };
        }
        c["linux"]["rootfsPropagation"] = propagation.into();
        c["process"]["terminal"] = terminal.into();
        c["process"]["noNewPrivileges"] = no_new_privileges.into();
        c["process"]["user"]["uid"] = if user { 1000 } else { 0 }.into();
        c["root"]["readonly"] = (readonly && !scratch).into();
        if seccomp {
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        }
        if scratch {
            c["annotations"] = json!({"org.sampan.rootfs.mode": "scratch"});
        }
        for n in 0..binds {
            let bind = json!({"destination": format!("/data{n}"), "type": "bind", "source": format!("/srv/{n}"), "options": ["rbind"]});
            c["mounts"].as_array_mut().unwrap().push(bind);
        }
        if dev {
            let bind = json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]});
            c["mounts"].as_array_mut().unwrap().push(bind);
        }
        c
    })
}

fn any_host() -> impl Strategy<Value = Host> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(v1, v2, privileged, inside)| {
        let mut host = Host { privileged, in_user_namespace: inside, ..Host::example() };
        host.cgroups.retain(|group| match group.version {
            Version::V1 => v1,
            Version::V2 => v2,
        });
        host
    })
}

fn any_options() -> impl Strategy<Value = Options> {
    let flags = prop::collection::vec(any::<bool>(), 7);
    (flags, 0u32..4).prop_map(|(flags, preserve_fds)| {
        let [new_keyring, attach, given_netns, may_wait, given_stdio, relayed_terminal, trace] = flags[..]
        else {
            unreachable!()
        };
        let o = Options { id: "web".to_owned(), bundle: "/bundle".to_owned(), ..Options::default() };
        Options {
            preserve_fds,
            new_keyring,
            attach,
            given_netns,
            may_wait,
            given_stdio,
            relayed_terminal,
            trace,
            ..o
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_leads_to_the_host_when_a_container_is_created(config in any_config(), host in any_host(), options in any_options()) {
        let text = config.to_string();
        let spec = Spec::parse(&text).unwrap();
        let plan = Plan::compile(&spec, &host, &options).unwrap();
        prop_assert_eq!(ways_out(&plan), vec![]);
    }

    /// Whoever attaches it configures the network namespace that it has by then.
    #[test]
    fn a_child_that_says_so_is_in_all_its_namespaces(config in any_config(), host in any_host(), options in any_options()) {
        let text = config.to_string();
        let spec = Spec::parse(&text).unwrap();
        let shown = sampan_plan::render::text(&Plan::compile(&spec, &host, &options).unwrap());
        let after = |word: &str| shown.split_once(word).map_or("", |(_, after)| after);
        for said in ["report: in its namespaces and groups", "report: mounted"] {
            let is_step = |line: &&str| line.contains(" namespace") && !line.starts_with("warning: ");
            let later: Vec<&str> = after(said).lines().skip(1).filter(is_step).collect();
            prop_assert_eq!(later, Vec::<&str>::new());
        }
    }

    #[test]
    fn nothing_leads_to_the_host_when_a_process_joins(config in any_config(), host in any_host(), options in any_options()) {
        let text = config.to_string();
        let spec = Spec::parse(&text).unwrap();
        let process = spec.process.clone().unwrap();
        let plan = Plan::exec(&spec, &process, &host, &options).unwrap();
        prop_assert_eq!(ways_out(&plan), vec![]);
    }
}

#[test]
fn what_stays_open_is_part_of_what_a_plan_shows() {
    let text = config().to_string();
    let spec = Spec::parse(&text).unwrap();
    let options = Options { attach: true, ..crate::plans::options() };
    let shown = sampan_plan::render::text(&Plan::compile(&spec, &Host::example(), &options).unwrap());
    let pivot = shown.lines().find(|line| line.contains("pivot")).unwrap();
    assert!(pivot.contains("close all descriptors from 3 on but the report, the gate of start"), "{pivot}");
}
