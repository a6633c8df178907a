//! Which line of config.toml a failed launch is about. The runtime names a field of config.json, which nobody has written:
//! here it is the key that it was made from.
use sampan_config::keys;
use sampan_config::schema::Service;
use sampan_service::Problem;
use serde_json::Value;

/// What the fields of config.json are made from. The first that fits counts.
const MADE_FROM: [(&str, &str); 31] = [
    ("process.args", "command"),
    ("process.cwd", "working_dir"),
    ("process.user.additionalGids", "group_add"),
    ("process.user", "user"),
    ("process.env", "environment"),
    ("process.capabilities", "cap_add"),
    ("process.noNewPrivileges", "security.no_new_privileges"),
    ("process.rlimits", "ulimits"),
    ("process.oomScoreAdj", "oom_score_adj"),
    ("process.apparmorProfile", "security.apparmor"),
    ("process.selinuxLabel", "security.selinux"),
    ("hooks", "hooks"),
    ("domainname", "domainname"),
    ("annotations", "annotations"),
    ("hostname", "hostname"),
    ("root", "rootfs"),
    ("linux.seccomp", "security.seccomp_profile"),
    ("linux.sysctl", "sysctls"),
    ("linux.devices", "devices"),
    ("linux.maskedPaths", "security.masked_paths"),
    ("linux.readonlyPaths", "security.readonly_paths"),
    ("linux.resources.memory.reservation", "resources.memory_low"),
    ("linux.resources.memory", "resources.memory"),
    ("linux.resources.cpu.cpus", "resources.cpuset"),
    ("linux.resources.cpu", "resources.cpus"),
    ("linux.resources.pids", "resources.pids"),
    ("linux.resources.devices", "devices"),
    ("linux.resources.blockIO.weight", "resources.io_weight"),
    ("linux.resources.blockIO", "resources.io_max"),
    ("linux.resources.unified", "resources.unified"),
    ("linux.resources", "resources"),
];

/// The problem, and in a line of its own where its key stands. `origin` gives `FILE:LINE` of a key.
pub fn located(
    problem: Problem,
    service: &Service,
    spec: &Value,
    origin: impl Fn(&str) -> Option<String>,
) -> Problem {
    let locate = |text: String| {
        let key = field(&text, &service.name).and_then(|field| key_of(field, service, spec));
        match key.and_then(|key| Some((origin(&key)?, key))) {
            Some((place, key)) => format!("{text}\n  {place}: services.{}.{key}", service.name),
            None => text,
        }
    };
    match problem {
        Problem::Config(text) => Problem::Config(locate(text)),
        Problem::Exec(text) => Problem::Exec(locate(text)),
        Problem::Io(text) => Problem::Io(locate(text)),
        Problem::Hook { kind, text } => Problem::Hook { kind, text: locate(text) },
        veto @ Problem::Veto { .. } => veto,
    }
}

/// `web: mounts[3]: cannot ...` is about `mounts[3]`.
fn field<'t>(text: &'t str, service: &str) -> Option<&'t str> {
    text.strip_prefix(service)?.strip_prefix(": ")?.split_once(": ").map(|(field, _)| field)
}

/// The key of config.toml that a field of the spec was made from.
pub fn key_of(field: &str, service: &Service, spec: &Value) -> Option<String> {
    if let Some(rest) = field.strip_prefix("mounts[") {
        let number: usize = rest.split_once(']')?.0.parse().ok()?;
        let target = spec.pointer(&format!("/mounts/{number}/destination"))?.as_str()?;
        let (volumes, tmpfs) = (&service.volumes, &service.tmpfs);
        return match () {
            () if volumes.iter().any(|volume| volume.target == target) => Some("volumes".into()),
            () if tmpfs.iter().any(|tmpfs| tmpfs.target == target) => Some("tmpfs".into()),
            () => None,
        };
    }
    let below = |key: &str| {
        field.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let made_from = MADE_FROM.iter().find(|(name, _)| below(name)).map(|(_, key)| (*key).to_owned());
    // `bundle` names the key itself.
    let own = || keys::SERVICE.iter().any(|key| key.path == field).then(|| field.to_owned());
    made_from.or_else(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_config::Builtin;
    use serde_json::json;

    fn service() -> (sampan_testkit::Folder, sampan_config::Loaded) {
        let folder = sampan_testkit::Folder::new().with(
            "config.toml",
            "[services.web]\nrootfs = \"/\"\ncommand = \"x\"\ntmpfs = \"/t\"\nvolumes = [\"/:/v\"]\nuser = \"me\"\n\
             working_dir = \"/w\"\n",
        );
        let loaded =
            sampan_config::load(&[folder.path("config.toml")], &|_| None, &Builtin::default()).unwrap();
        (folder, loaded)
    }

    /// As the two that say such things say them.
    #[test]
    fn errors_of_bundle_and_runtime_find_their_line() {
        let (_folder, loaded) = service();
        let service = &loaded.config.services["web"];
        let spec = json!({ "mounts": [{ "destination": "/proc" }, { "destination": "/v" }, { "destination": "/t" }] });
        let place = |text: String| {
            let origin = |key: &str| Some(loaded.origins.of(&format!("services.web.{key}")));
            let Problem::Io(text) = located(Problem::Io(text), service, &spec, origin) else { panic!() };
            let last = text.lines().last().unwrap_or_default().to_owned();
            last.rsplit_once("config.toml:").map(|(_, place)| place.to_owned())
        };
        let runtime = |field: &str| {
            place(sampan_runtime::error::Error::new("cannot do it").field(field).of("web").to_string())
        };
        let bundle = |key| place(sampan_bundle::Error::new("web", key, "do it").to_string());
        let found = |place: Option<String>| place.unwrap_or_default();
        assert_eq!(found(runtime("process.args[0]")), "3: services.web.command");
        assert_eq!(found(runtime("process.cwd")), "7: services.web.working_dir");
        assert_eq!(found(runtime("mounts[1]")), "5: services.web.volumes");
        assert_eq!(found(runtime("mounts[2].options[0]")), "4: services.web.tmpfs");
        assert_eq!(found(runtime("root.path")), "2: services.web.rootfs");
        assert_eq!(found(bundle("user")), "6: services.web.user");
        for unknown in ["mounts[0]", "mounts[9]", "mounts[x", "rooted", "attach", ""] {
            assert_eq!(runtime(unknown), None, "{unknown}");
        }
    }
}
