//! What a change of config.toml does to what runs.

use sampan_config::diff::{self, Change};

use super::{Folder, Load};

#[track_caller]
fn check(old: &str, new: &str, expected: &str) {
    let of = |keys: &str| {
        let keys = keys.replace("; ", "\n");
        let text = format!(
            "[networks.n]\n[services.web]\nrootfs = \"/\"\ncommand = [\"a\"]\nhealthcheck.tcp = 1\n{keys}\n"
        );
        Folder::new().with("c.toml", &text).config(&["c.toml"])
    };
    let found = diff::show(&diff::diff(&of(old), &of(new)));
    assert_eq!(found.trim_end(), expected, "\n{old} -> {new}");
}

#[test]
fn each_key_applies_as_the_reference_says() {
    check("", "", "web: nothing");
    check("", "restart = \"unless-stopped\"; stop_signal = \"TERM\"", "web: nothing");
    check("", "restart.delay = \"5s\"", "web: live (restart.delay)");
    check("", "resources.memory = \"1G\"", "web: live (resources.memory)");
    check("", "healthcheck.interval = \"1s\"", "web: live (healthcheck.interval)");
    check("", "healthcheck.stop_grace_period = \"1s\"", "web: live (healthcheck.stop_grace_period)");
    check("", "stop_grace_period = \"1s\"; autostart = false", "web: live (autostart, stop_grace_period)");
    check("", "logging.max_size = \"1M\"", "web: next run (logging.max_size)");
    check(
        "",
        "logging.max_size = \"1M\"; autostart = false",
        "web: live (autostart, logging.max_size (next run))",
    );
    check("", "init = true", "web: restart (init)");
    check("restart = \"no\"", "restart = \"no\"; schedule = \"daily\"", "web: live (schedule)");
    check("restart = \"no\"; schedule = \"daily\"", "restart = \"no\"; schedule = \"0:00\"", "web: nothing");
    check("", "logging.mode = \"non-blocking\"", "web: next run (logging.mode)");
    check("", "logging.driver = \"none\"", "web: restart (logging.driver)");
    check("", "user = \"5\"", "web: restart (user)");
    check("environment.A = \"1\"", "environment.A = \"2\"; restart = \"no\"", "web: restart (environment.A)");
    check("environment.A = \"1\"", "", "web: restart (environment.A)");
    check("", "ports = [\"80:80\"]", "web: restart (ports)");
    check("", "hooks.poststop = [{ path = \"/x\" }]", "web: next run (hooks.poststop)");
    check("", "networks = [\"n\"]", "web: restart (networks)");
    check("", "[services.b]; rootfs = \"/\"; command = \"b\"", "b: new\nweb: nothing");
    check("[services.b]; rootfs = \"/\"; command = \"b\"", "", "b: removed, stops\nweb: nothing");
    check(
        "[supervisor]",
        "[supervisor]; run_dir = \"/x\"; log_level = \"debug\"",
        "web: nothing\nsupervisor.log_level: live\nsupervisor.run_dir: at sampand's next start\nsupervisor.socket: at sampand's next start",
    );
}

#[test]
fn a_networks_change_restarts_its_services_alone() {
    let of = |subnet: &str| {
        let text = format!(
            "[networks.n]\n{subnet}\n[services.a]\nrootfs = \"/\"\ncommand = \"a\"\nnetworks = [\"n\"]\n[services.b]\nrootfs = \"/\"\ncommand = \"b\"\n"
        );
        Folder::new().with("c.toml", &text).config(&["c.toml"])
    };
    let found = diff::diff(&of(""), &of("subnet = \"10.9.0.0/24\""));
    assert_eq!(found.services["b"], Change::Nothing);
    assert_eq!(diff::show(&found), "a: restart (networks.n.subnet)\nb: nothing\n");
}
