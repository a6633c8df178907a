//! No service, health check or exec of sampand has anything open that leads to the host (CVE-2024-21626).
use std::os::unix::fs::FileTypeExt;

/// A shell's look at its own descriptors, into a file of its own; and the same of the first process, which waits.
const LOOK: &str = "exec > /tmp/$0; ls -l /proc/$$/fd; true";

fn beyond_stdio(listing: &str) -> Vec<&str> {
    let number =
        |line: &&str| line.split(" -> ").next().unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    listing.lines().filter(|line| line.contains(" -> ") && number(line) > 2).collect()
}

/// Those of a process, from 3 on, that are no pipe, socket or memfd.
fn ways_out(pid: i32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let own = entries.filter(|entry| entry.file_name().to_str().unwrap().parse::<u32>().unwrap() > 2);
    own.filter_map(|entry| {
        let kind = std::fs::metadata(entry.path()).unwrap().file_type();
        let link = std::fs::read_link(entry.path()).unwrap().display().to_string();
        (!kind.is_fifo() && !kind.is_socket() && !link.starts_with("/memfd:")).then_some(link)
    })
    .collect()
}

#[test]
fn nothing_of_the_host_is_open_in_a_service_its_checks_and_what_joins_it() {
    // In config.toml `$$` stands for a dollar.
    let look = LOOK.replace('$', "$$");
    let mut world = world!(
        "[services.a]\ntmpfs = [\"/tmp\"]\ncommand = [\"/bin/sh\", \"-c\", \"{look} ; exec sleep 100000\", \"service\"]\n\
         stop_signal = \"SIGKILL\"\nhealthcheck = {{ test = [\"CMD\", \"/bin/sh\", \"-c\", \"{look}\", \"check\"], interval = \"100ms\" }}\n"
    );
    world.start();
    world.until_state("a", "running");
    assert_eq!(ways_out(world.pid("a")), Vec::<String>::new(), "the service's process");
    world.ok(&["exec", "a", "/bin/sh", "-c", LOOK, "exec"]);
    for who in ["service", "check", "exec"] {
        let listing = || world.ctl(&["exec", "a", "/bin/cat", &format!("/tmp/{who}")]).out;
        world.until(&format!("the {who} has looked"), |_| listing().contains(" 2 -> "));
        assert_eq!(beyond_stdio(&listing()), Vec::<&str>::new(), "{who}");
    }
}
