//! The service's keys as leaves of config.json: process, capabilities, resources, hooks. Typed pieces by oci-spec, put
//! into the JSON one by one, so that a bundle keeps what the service does not name.

use oci_spec::runtime as oci;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Facts, limits};
use sampan_config::schema::{Hook, Service};

type Asked<'a> = &'a dyn Fn(&str) -> bool;

/// Puts `value` at a JSON pointer, making the objects above it. `~` and `/` within a name need no care: ours have none.
pub fn set(spec: &mut Value, pointer: &str, value: Value) {
    let mut at = spec;
    for name in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[name];
    }
    *at = value;
}

/// Puts `value` at the end of the list at a JSON pointer.
pub fn push(spec: &mut Value, pointer: &str, value: Value) {
    if !spec.pointer(pointer).is_some_and(Value::is_array) {
        set(spec, pointer, json!([]));
    }
    if let Some(all) = spec.pointer_mut(pointer).and_then(Value::as_array_mut) {
        all.push(value);
    }
}

pub fn process(spec: &mut Value, service: &Service, facts: &Facts, asked: Asked<'_>) {
    let argv = service.argv();
    if !argv.is_empty() {
        set(spec, "/process/args", json!(argv));
    }
    if asked("working_dir") {
        set(spec, "/process/cwd", json!(service.working_dir));
    }
    if asked("tty") && (service.tty || spec.pointer("/process/terminal").is_some()) {
        set(spec, "/process/terminal", json!(service.tty));
    }
    if asked("hostname") {
        set(spec, "/hostname", json!(service.hostname));
    }
    if let (true, Some(name)) = (asked("domainname"), &service.domainname) {
        set(spec, "/domainname", json!(name));
    }
    // What the container inherits anyway is not worth a system call.
    if asked("oom_score_adj") && limits::own_oom_score_adj() != Some(service.oom_score_adj) {
        set(spec, "/process/oomScoreAdj", json!(service.oom_score_adj));
    }
    if asked("annotations") {
        for (name, value) in &service.annotations {
            let annotations = spec["annotations"].take();
            let mut annotations = annotations.as_object().cloned().unwrap_or_default();
            annotations.insert(name.clone(), json!(value));
            spec["annotations"] = annotations.into();
        }
    }
    if asked("security.no_new_privileges") {
        set(spec, "/process/noNewPrivileges", json!(service.security.no_new_privileges));
    }
    let mut home = None;
    if let Some(user) = &facts.user {
        home = Some(user.home.as_str());
        set(spec, "/process/user", json!({ "uid": user.uid, "gid": user.gid }));
        if !user.groups.is_empty() {
            set(spec, "/process/user/additionalGids", json!(user.groups));
        }
    }
    for group in &facts.groups {
        let at = "/process/user/additionalGids";
        let mut all = spec.pointer(at).and_then(Value::as_array).cloned().unwrap_or_default();
        if !all.contains(&json!(group)) {
            all.push(json!(group));
            set(spec, at, all.into());
        }
    }
    if asked("environment") {
        let merged = environment(spec, service, home);
        set(spec, "/process/env", json!(merged));
    }
}

/// As sd_listen_fds(3) has it. The program is process 1, or started by our init, which writes its number there.
pub fn descriptors(spec: &mut Value, service: &Service, stored: &[String]) {
    if service.fd_store_max > 0 {
        set_env(spec, &["FDSTORE"], [format!("FDSTORE={}", service.fd_store_max)]);
    }
    let sockets = service.sockets.iter().map(|socket| &socket.name);
    let names: Vec<&str> = sockets.chain(stored).map(String::as_str).collect();
    if names.is_empty() {
        return;
    }
    let ours = [
        format!("LISTEN_FDS={}", names.len()),
        format!("LISTEN_FDNAMES={}", names.join(":")),
        "LISTEN_PID=1".to_owned(),
    ];
    set_env(spec, &["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID"], ours);
}

/// Of these variables the environment has what `ours` says, and nothing else.
pub fn set_env(spec: &mut Value, names: &[&str], ours: impl IntoIterator<Item = String>) {
    if let Some(all) = spec.pointer_mut("/process/env").and_then(Value::as_array_mut) {
        let name =
            |entry: &Value| entry.as_str().and_then(|entry| entry.split('=').next()).map(str::to_owned);
        all.retain(|entry| !name(entry).is_some_and(|name| names.contains(&name.as_str())));
    }
    ours.into_iter().for_each(|entry| push(spec, "/process/env", entry.into()));
}

/// The spec's, HOME, then the service's; the last of a name wins and stays where the name first stood.
fn environment(spec: &Value, service: &Service, home: Option<&str>) -> Vec<String> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| match all.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => *old = value.to_string(),
        None => all.push((name.into(), value.into())),
    };
    for entry in spec.pointer("/process/env").and_then(Value::as_array).into_iter().flatten() {
        if let Some((name, value)) = entry.as_str().and_then(|e| e.split_once('=')) {
            put(name, value);
        }
    }
    if let Some(home) = home {
        put("HOME", home);
    }
    for (name, value) in &service.environment {
        put(name, value);
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Drops first, then adds; `ALL` is every one.
pub fn capabilities(spec: &mut Value, service: &Service, asked: Asked<'_>) {
    if !asked("cap_add") && !asked("cap_drop") {
        return;
    }
    let mut caps: Vec<String> = spec
        .pointer("/process/capabilities/bounding")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|c| c.as_str().map(String::from))
        .collect();
    caps.retain(|c| !service.cap_drop.iter().any(|d| d == c || d == "ALL"));
    let all = sampan_config::CAPABILITIES.iter().map(|c| format!("CAP_{c}"));
    if service.cap_add.iter().any(|c| c == "ALL") {
        caps = all.collect();
    } else {
        caps.extend(service.cap_add.iter().cloned());
    }
    caps.sort();
    caps.dedup();
    for kind in ["bounding", "effective", "permitted"] {
        set(spec, &format!("/process/capabilities/{kind}"), json!(caps));
    }
}

/// After those of a bundle.
pub fn hooks(spec: &mut Value, service: &Service) {
    let hooks = &service.hooks;
    for (kind, hooks) in [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ] {
        if hooks.is_empty() {
            continue;
        }
        let pointer = format!("/hooks/{kind}");
        let mut all = spec.pointer(&pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        all.extend(hooks.iter().map(|hook| to_json(&oci_hook(hook))));
        set(spec, &pointer, all.into());
    }
}

fn oci_hook(hook: &Hook) -> oci::Hook {
    let mut out = oci::Hook::default();
    out.set_path(hook.path.clone())
        .set_args(Some(hook.args.clone()))
        .set_env(Some(hook.env.clone()))
        .set_timeout(Some(i64::from(hook.timeout)));
    out
}

/// oci-spec's types always serialize; without the nulls that it writes for what is absent.
pub fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
