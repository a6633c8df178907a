//! Any text and any tree: no panic, and what loads prints as something that loads equal.

use proptest::prelude::*;
use sampan_config::explain;

use super::{Folder, Load};

/// Lines of a service, right and wrong.
const LINES: &[&str] = &[
    "restart = \"always\"",
    "restart = \"on-failure:2\"",
    "restart.delay = \"1s\"",
    "restart = { delay = \"90m\" }",
    "restart.success_exit_status = [0, 143, \"TERM\"]",
    "restart = { prevent_exit_status = [\"SIGRTMAX\"], force_exit_status = [1, 1] }",
    "restart.force_exit_status = [\"SIG64\", 256]",
    "notify = \"healthy\"",
    "notify = \"ready\"",
    "watchdog = \"3s\"",
    "reload = { signal = \"HUP\" }",
    "reload.command = [\"a\", \"b\"]",
    "healthcheck.notify = true",
    "healthcheck.unix = \"/run/x.sock\"",
    "stop_signal = \"SIGRTMIN+1\"",
    "environment = { A = \"$x\", \"B.C\" = \"\\n\\t\\\"\" }",
    "environment = [\"A=1\", \"NAME\"]",
    "env_file = []",
    "user = \"a:1\"",
    "user = \"4:b\"",
    "volumes = [\"/etc:/e:ro,noexec\"]",
    "volumes = [{ source = \"./n\", target = \"/n\", create = true }]",
    "tmpfs = [\"/t:size=1M,mode=0700,uid=3\"]",
    "ports = [\"80:80\", \"127.0.0.1:81:80/udp\"]",
    "network_mode = \"host\"",
    "networks = []",
    "networks = [\"n\"]",
    "networks = [{ name = \"n\", ipv4_address = \"10.3.0.9\", aliases = [\"x\", \"a.b\"] }, \"default\"]",
    "networks = { n = { aliases = [\"x\"] }, default = {} }",
    "ports = [\"90-92:90-92\", \"[2001:db8::1]:70:70\"]",
    "networks = [{ name = \"default\", ipv6_address = \"fd00::7\" }]",
    "dns = [\"192.0.2.1\", \"::1\"]",
    "dns_search = [\".\"]",
    "dns_opt = [\"ndots:2\"]",
    "extra_hosts = [\"a:host-gateway\", \"b=::1\"]",
    "healthcheck.http = { port = 80, status = 204 }",
    "healthcheck = { test = [\"CMD\", \"a\", \"b c\"], retries = 9, success_threshold = 2, stop_grace_period = \"3s\" }",
    "healthcheck.test = \"a | b\"",
    "healthcheck = \"none\"",
    "resources = { cpus = 0.5, memory = \"1.5G\", pids = 0 }",
    "resources.cpu_weight = 1",
    "logging = \"none\"",
    "logging = \"k8s-file\"",
    "logging.driver = \"journald\"",
    "logging = { max_size = 5000, max_line = \"1K\", max_age = \"7d\" }",
    "logging = { rate_limit = \"1.5M/s\", on_full = \"block\", compress = false }",
    "logging = { mode = \"non-blocking\", max_buffer_size = \"4M\", drop = \"newest\" }",
    "hooks.poststop = [{ path = \"/x\", env = [\"A=$$b\"], timeout = 3 }]",
    "hooks.startContainer = [{ path = \"/in\" }]",
    "depends_on = [\"b\"]",
    "depends_on.b.condition = \"service_completed_successfully\"",
    "cap_add = [\"ALL\"]",
    "security.seccomp_profile = \"./p.json\"",
    "security.no_new_privileges = false",
    "entrypoint = \"x 'y z'\"",
    "hostname = \"h\"",
    "shm_size = 1",
    "autostart = false",
    "init = true",
    "schedule = \"Mon..Fri 03:00 UTC\"",
    "schedule = \"*-02-30\"",
    "nonsense = 1",
    "working_dir = \"/a//b\"",
    "rootfs = \"host\"",
    "bundle = \"./n\"",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn text_of_any_kind_is_answered(text in prop::collection::vec(prop_oneof![".{0,20}", "\\[services\\.[a-z]\\]", "[a-z_.]{1,12} = [\\[{\"0-9a-z$\\]}]{0,12}"], 0..8)) {
        let folder = Folder::new().with("c.toml", &text.join("\n"));
        folder.check(&["c.toml"]);
    }

    #[test]
    fn what_loads_prints_as_its_equal(
        shared in prop::sample::subsequence(LINES, 0..4), own in prop::sample::subsequence(LINES, 0..8), over in prop::sample::subsequence(LINES, 0..3),
    ) {
        let text = format!(
            "[networks.n]\nsubnet = \"10.3.0.0/24\"\ngateway = \"10.3.0.254\"\nip_range = \"10.3.0.128/25\"\nmtu = 1400\nisolated = true\n[defaults]\n{}\n[services.a]\ncommand = \"a\"\n{}\n[services.b]\nrootfs = \"/\"\ncommand = \"b\"\nrestart = \"no\"\n",
            shared.join("\n"), own.join("\n"),
        );
        let folder = Folder::new().with("n/.keep", "").with("p.json", "{}").with("c.toml", &text).with("o.toml", &format!("[services.a]\n{}\n", over.join("\n")));
        folder.check(&["c.toml", "o.toml"]);
        if let Ok(loaded) = folder.load(&["c.toml", "o.toml"]) {
            let printed = explain::toml(&loaded.config, &loaded.origins, None).unwrap();
            let again = Folder::new().with("p.toml", &printed);
            let config = match again.load(&["p.toml"]) {
                Ok(again) => again.config,
                Err(_) => return Err(TestCaseError::fail(format!("{printed}\n{}", again.check(&["p.toml"])))),
            };
            prop_assert_eq!(config, loaded.config, "\n{}\n{}", text, printed);
        }
    }
}

/// Not a benchmark: quadratic work in a thousand services would take minutes, not seconds.
#[test]
fn a_thousand_services_in_a_chain_load() {
    let mut text = "[defaults]\nrootfs = \"/\"\nenvironment = { A = \"1\" }\n".to_string();
    for n in 0..1000 {
        text.push_str(&format!("[services.s{n}]\ncommand = \"a\"\nports = [\"{}:80\"]\n", 2000 + n));
        if n > 0 {
            text.push_str(&format!("depends_on = [\"s{}\"]\n", n - 1));
        }
    }
    let folder = Folder::new().with("c.toml", &text);
    let loaded = folder.load(&["c.toml"]).unwrap();
    assert_eq!(loaded.config.services.len(), 1000);
    assert!(explain::toml(&loaded.config, &loaded.origins, None).unwrap().contains("[services.s999]"));
}
