//! Where each leaf lands, what is refused, and that nothing is taken by half.
#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn spec() -> Value {
    json!({
        "process": { "env": ["PATH=/bin", "TZ=UTC"], "args": ["sh"], "user": { "uid": 0 } },
        "mounts": [{ "destination": "/proc", "type": "proc" }, { "destination": "/data/", "type": "bind" }],
        "linux": { "namespaces": [{ "type": "pid" }], "resources": { "memory": { "limit": 1 } } },
    })
}

fn applied(adjust: Value, grants: &[&str]) -> Result<Value, String> {
    let mut spec = spec();
    let grants: Vec<String> = grants.iter().map(|g| (*g).to_owned()).collect();
    Owners::new(None)
        .apply(&mut spec, "p", &grants, adjust.as_object().unwrap())
        .map(|()| spec)
        .map_err(|refusal| refusal.to_string())
}

fn check(adjust: Value, pointer: &str, expected: Value) {
    let all = ["seccomp", "capabilities", "devices", "namespaces", "hooks", "sysctl", "user"];
    let spec = applied(adjust, &all).unwrap();
    assert_eq!(spec.pointer(pointer).cloned().unwrap_or(Value::Null), expected);
}

#[test]
fn each_key_lands_where_the_runtime_spec_has_it() {
    check(json!({ "env": { "A": "1" } }), "/process/env", json!(["PATH=/bin", "TZ=UTC", "A=1"]));
    check(json!({ "env": { "PATH": "/x" } }), "/process/env", json!(["PATH=/x", "TZ=UTC"]));
    check(json!({ "env": { "TZ": null } }), "/process/env", json!(["PATH=/bin"]));
    check(json!({ "annotations": { "k": "v" } }), "/annotations", json!({ "k": "v" }));
    check(
        json!({ "mounts": { "/data//": { "type": "tmpfs" } } }),
        "/mounts/1",
        json!({ "type": "tmpfs", "destination": "/data" }),
    );
    check(json!({ "mounts": { "/proc": null } }), "/mounts/0/destination", json!("/data/"));
    check(
        json!({ "devices": { "/dev/fuse": { "type": "c", "major": 10 } } }),
        "/linux/devices",
        json!([{ "type": "c", "major": 10, "path": "/dev/fuse" }]),
    );
    check(
        json!({ "rlimits": { "RLIMIT_CORE": { "soft": 0, "hard": 1 } } }),
        "/process/rlimits",
        json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 1 }]),
    );
    check(json!({ "sysctl": { "net.a": "1" } }), "/linux/sysctl", json!({ "net.a": "1" }));
    check(
        json!({ "namespaces": { "network": "/x", "pid": "" } }),
        "/linux/namespaces",
        json!([{ "type": "pid" }, { "type": "network", "path": "/x" }]),
    );
    check(json!({ "resources": { "memory.limit": 2 } }), "/linux/resources/memory", json!({ "limit": 2 }));
    check(json!({ "resources": { "cpu": { "quota": 3 } } }), "/linux/resources/cpu", json!({ "quota": 3 }));
    check(
        json!({ "resources": { "unified.memory.high": "max" } }),
        "/linux/resources/unified",
        json!({ "memory.high": "max" }),
    );
    check(json!({ "netDevices": { "eth1": { "name": "x" } } }), "/linux/netDevices/eth1/name", json!("x"));
    check(json!({ "cgroupsPath": "/a" }), "/linux/cgroupsPath", json!("/a"));
    check(json!({ "args": ["a"] }), "/process/args", json!(["a"]));
    check(json!({ "oomScoreAdj": 5 }), "/process/oomScoreAdj", json!(5));
    check(json!({ "seccomp": null }), "/linux/seccomp", Value::Null);
    check(
        json!({ "capabilities": { "bounding": ["CAP_KILL"] } }),
        "/process/capabilities/bounding/0",
        json!("CAP_KILL"),
    );
    check(json!({ "user": { "uid": 7 } }), "/process/user/uid", json!(7));
    check(json!({ "hostname": "h" }), "/hostname", json!("h"));
    check(json!({ "hooks": { "poststop": [{ "path": "/x" }] } }), "/hooks/poststop/0/path", json!("/x"));
    check(json!({ "additionalGids": [5, 5] }), "/process/user/additionalGids", json!([5]));
}

#[test]
fn what_is_not_valid_is_refused_whole() {
    let bad = |adjust: Value| applied(adjust, &[]).unwrap_err();
    assert_eq!(bad(json!({ "enf": {} })), "its answer is not valid: enf: no such key");
    assert_eq!(
        bad(json!({ "env": { "A=B": "1" } })),
        "its answer is not valid: env/A=B: not a name of a variable"
    );
    assert_eq!(bad(json!({ "env": { "A": 1 } })), "its answer is not valid: env/A: not a text");
    assert_eq!(
        bad(json!({ "mounts": { "data": {} } })),
        "its answer is not valid: mounts/data: not an absolute path"
    );
    assert_eq!(
        bad(json!({ "mounts": { "/a/../b": {} } })),
        "its answer is not valid: mounts//a/../b: \"..\" in a path"
    );
    assert_eq!(
        bad(json!({ "oomScoreAdj": 5000 })),
        "its answer is not valid: oomScoreAdj: not a number from -1000 to 1000"
    );
    let mut spec = spec();
    let adjust = json!({ "annotations": { "a": "1" }, "env": { "": "1" } });
    Owners::new(None).apply(&mut spec, "p", &[], adjust.as_object().unwrap()).unwrap_err();
    assert_eq!(spec, self::spec());
}

#[test]
fn a_security_leaf_needs_its_grant() {
    let sysctl = json!({ "sysctl": { "net.ipv4.ip_forward": "1" } });
    assert_eq!(
        applied(sysctl.clone(), &[]).unwrap_err(),
        "it may not set sysctl/net.ipv4.ip_forward: that needs grants = [\"sysctl\"] in its table of config.toml"
    );
    assert!(applied(sysctl, &["sysctl"]).is_ok());
}

fn two(first: Value, second: Value, choice: Value) -> Result<Value, String> {
    let mut spec = spec();
    let mut owners = Owners::new(Some(&choice));
    owners.apply(&mut spec, "tz", &[], first.as_object().unwrap()).map_err(|r| r.to_string())?;
    owners.apply(&mut spec, "locale", &[], second.as_object().unwrap()).map_err(|r| r.to_string())?;
    Ok(json!({ "env": spec["process"]["env"][1], "owner": owners.names()["env/TZ"] }))
}

#[test]
fn two_values_for_one_leaf_stop_the_start_unless_the_operator_chose() {
    let (utc, cet) = (json!({ "env": { "TZ": "UTC" } }), json!({ "env": { "TZ": "CET" } }));
    assert_eq!(
        two(utc.clone(), cet.clone(), json!({})).unwrap_err(),
        "env TZ set to \"UTC\" by plugin tz and to \"CET\" by plugin locale; pick one with adjust.\"env/TZ\" = \"tz\""
    );
    assert_eq!(two(utc.clone(), utc.clone(), json!({})).unwrap(), json!({ "env": "TZ=UTC", "owner": "tz" }));
    assert_eq!(
        two(utc.clone(), cet.clone(), json!({ "env/TZ": "tz" })).unwrap(),
        json!({ "env": "TZ=UTC", "owner": "tz" })
    );
    assert_eq!(
        two(utc, cet, json!({ "env/TZ": "locale" })).unwrap(),
        json!({ "env": "TZ=CET", "owner": "locale" })
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/=.\0]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z/.]{0,5}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_answer_is_merged_or_refused_and_never_half(
        keys in proptest::collection::btree_map(
            proptest::sample::select(vec!["env", "mounts", "devices", "hooks", "resources", "args", "user", "additionalGids", "zzz"]),
            any_json(), 0..4),
    ) {
        let adjust: Map<String, Value> = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut spec = spec();
        let before = spec.clone();
        let grants = ["devices", "hooks", "user"].map(str::to_owned);
        if Owners::new(None).apply(&mut spec, "p", &grants, &adjust).is_err() {
            prop_assert_eq!(spec, before);
        }
    }
}
