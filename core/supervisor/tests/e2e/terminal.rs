//! Services with a terminal, or with an open standard input: their output in the log, and what outlives the worker.
use super::World;
use super::world::kill;
use std::fs;

/// As it stands in the log, each line with its end in words.
fn log(world: &World, name: &str) -> String {
    world.ok(&["logs", name]).replace('\r', "<CR>")
}

pub fn with_plugin(toml: &str) -> Option<World> {
    let logging = super::world::library("logging");
    let world = World::new("")?;
    let (supervisor, services) = toml.split_once("---\n").unwrap_or(("", toml));
    let plugin = format!("[plugins.logging]\npath = \"{}\"\n", logging.display());
    world.configure(&format!("{supervisor}---\n{plugin}{services}"));
    Some(world)
}

const SHOWS: &str = "command = [\"/bin/sh\", \"-c\", \
    \"tty; echo $TERM; test -t 2 && echo errors too >&2; stat -c %t:%T /dev/console; exec sleep 100000\"]\n\
    stop_signal = \"SIGKILL\"\n";

#[test]
fn a_terminal_s_output_is_in_the_log_with_its_line_ends() {
    let Some(mut world) = with_plugin(&format!("[services.a]\ntty = true\n{SHOWS}")) else { return };
    world.start();
    world.until("all is in the log", |world| log(world, "a").lines().count() == 4);
    assert_eq!(log(&world, "a"), "/dev/pts/0<CR>\nxterm<CR>\nerrors too<CR>\n88:0<CR>\n");
}

#[test]
fn without_a_plugin_it_is_in_the_file_and_the_kind_of_terminal_is_the_user_s() {
    let Some(mut world) =
        World::new(&format!("[services.a]\ntty = true\nenvironment = {{ TERM = \"vt100\" }}\n{SHOWS}"))
    else {
        return;
    };
    world.start();
    let file = world.dir().join("state/logs/a/stdout.log");
    let said = || fs::read_to_string(&file).unwrap_or_default();
    world.until("all is in the file", |_| said().lines().count() == 4);
    assert_eq!(said(), "/dev/pts/0\r\nvt100\r\nerrors too\r\n88:0\r\n");
}

#[test]
fn a_bundle_whose_config_asks_for_a_terminal_has_one_unless_the_service_says_no() {
    let Some(mut world) = with_plugin("") else { return };
    let mut bundle = sampan_testkit::Bundle::new("with-terminal").unwrap();
    bundle
        .script("test -t 1 && echo yes || echo no")
        .set("/process/terminal", serde_json::json!(true))
        .write()
        .unwrap();
    let at = bundle.path().display();
    let service =
        |name: &str, more: &str| format!("[services.{name}]\nbundle = \"{at}\"\nrestart = \"no\"\n{more}\n");
    let plugin = format!("[plugins.logging]\npath = \"{}\"\n", super::world::library("logging").display());
    world.configure(&format!("{plugin}{}{}", service("a", ""), service("b", "tty = false")));
    world.start();
    world.until("both have said it", |world| !log(world, "a").is_empty() && !log(world, "b").is_empty());
    assert_eq!((log(&world, "a").as_str(), log(&world, "b").as_str()), ("yes<CR>\n", "no\n"));
}

/// Lines with numbers, each of them once.
#[test]
fn no_line_is_lost_and_none_comes_twice_though_the_worker_is_killed_again_and_again() {
    for key in ["tty", "stdin_open"] {
        let script = "i=0; while [ $i -lt 60000 ]; do echo $i; i=$((i+1)); [ $((i%2000)) = 0 ] && sleep 0.1; done; echo end; exec sleep 100000";
        let toml = format!(
            "[services.a]\n{key} = true\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop_signal = \"SIGKILL\"\n"
        );
        let Some(mut world) = with_plugin(&toml) else { return };
        world.start();
        let mut last = None;
        for _ in 0..3 {
            world.until("it has a worker", |world| world.worker().is_some() && world.worker() != last);
            last = world.worker().filter(|worker| Some(*worker) != last);
            // It is in the midst of passing lines on.
            let lines = |world: &World| world.ctl(&["logs", "a"]).out.lines().count();
            let before = lines(&world);
            world.until("more lines come", |world| lines(world) > before.min(60_000));
            last.iter().for_each(|worker| kill(*worker, libc::SIGKILL));
        }
        world.until("the last line is there", |world| {
            world.ctl(&["logs", "-n", "1", "a"]).out.contains("end")
        });
        let log = world.ok(&["logs", "a"]);
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 60_001, "{key}");
        assert!(lines.iter().take(60_000).enumerate().all(|(n, line)| *line == n.to_string()), "{key}");
    }
}

#[test]
fn its_last_words_are_in_the_log_though_it_ends_at_once() {
    for key in ["tty", "stdin_open"] {
        let toml = format!(
            "[services.a]\n{key} = true\nrestart = \"no\"\ncommand = [\"/bin/sh\", \"-c\", \"seq 1 5000; exit 3\"]\n"
        );
        let Some(mut world) = with_plugin(&toml) else { return };
        world.start();
        world.ctl(&["wait", "--condition", "done", "a"]);
        let log = world.ok(&["logs", "a"]);
        assert_eq!((log.lines().count(), log.lines().last()), (5000, Some("5000")), "{key}");
    }
}

#[test]
fn an_open_input_has_no_end_and_a_closed_one_is_at_its_end() {
    let script = "cat; echo end; exec sleep 100000";
    let service = |name: &str, open: bool| {
        format!(
            "[services.{name}]\nstdin_open = {open}\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop_signal = \"SIGKILL\"\n"
        )
    };
    let Some(mut world) = with_plugin(&format!("{}{}", service("open", true), service("closed", false)))
    else {
        return;
    };
    world.start();
    world.until("the closed one has read its end", |world| log(world, "closed") == "end\n");
    kill(world.worker().unwrap(), libc::SIGKILL);
    world.until_state("open", "running");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(log(&world, "open"), "");
}

/// All that a relay is made of is let go of with the life.
#[test]
fn lives_leave_no_descriptor_behind() {
    let service = |name: &str, key: &str| {
        format!(
            "[services.{name}]\n{key} = true\ncommand = [\"/bin/sleep\", \"100000\"]\nstop_signal = \"SIGKILL\"\n"
        )
    };
    let Some(mut world) = with_plugin(&format!("{}{}", service("a", "tty"), service("b", "stdin_open")))
    else {
        return;
    };
    world.start();
    let open = |world: &World| {
        let count = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        (count(world.keel()), count(world.worker().unwrap()))
    };
    let restart = |world: &World| {
        world.ok(&["restart", "a", "b"]);
        // A launching process stays for two seconds.
        std::thread::sleep(std::time::Duration::from_millis(2500));
    };
    restart(&world);
    let before = open(&world);
    (0..3).for_each(|_| restart(&world));
    // Fewer, if a launching process was still there: a life has more than that one has.
    let is_as_before = |world: &World| open(world).0 <= before.0 && open(world).1 <= before.1;
    world.until("as many are open as before", is_as_before);
    world.ok(&["stop", "a", "b"]);
    let terminals = |pid: i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).filter(|to| to.ends_with("ptmx")).count()
    };
    assert_eq!((terminals(world.keel()), terminals(world.worker().unwrap())), (0, 0));
}

#[test]
fn a_container_has_its_streams_and_no_other_descriptor_of_a_relay() {
    // The shell's own, then that of the folder that is listed.
    let script = "echo $(ls /proc/self/fd); exec sleep 100000";
    let service = |name: &str, key: &str| {
        format!(
            "[services.{name}]\n{key}\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop_signal = \"SIGKILL\"\n"
        )
    };
    let toml =
        [service("a", "tty = true\nstdin_open = true"), service("b", "stdin_open = true"), service("c", "")];
    let Some(mut world) = with_plugin(&toml.concat()) else { return };
    world.start();
    for name in ["a", "b", "c"] {
        world.until("it has said what it has", |world| !log(world, name).is_empty());
        assert_eq!(log(&world, name).replace("<CR>", ""), "0 1 2 3\n", "{name}");
    }
}

/// Nothing tells sampand that it is opened again.
#[test]
fn a_terminal_that_everybody_has_left_is_heard_when_it_is_opened_again() {
    let script = "echo one; (sleep 1; echo two >/dev/console; exec sleep 100000) </dev/null >/dev/null 2>&1 & \
        exec sleep 100000 <&- >&- 2>&-";
    let toml = format!(
        "[services.a]\ntty = true\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop_signal = \"SIGKILL\"\n"
    );
    let Some(mut world) = with_plugin(&toml) else { return };
    world.start();
    world.until("both lines are there", |world| log(world, "a") == "one<CR>\ntwo<CR>\n");
}

#[test]
fn a_terminal_that_is_opened_again_and_stays_open_keeps_nobody_busy() {
    let script = "(sleep 1; exec 3<>/dev/console; echo two >&3; exec sleep 100000) </dev/null >/dev/null 2>&1 & \
        exec sleep 100000 <&- >&- 2>&-";
    let toml = format!(
        "[services.a]\ntty = true\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop_signal = \"SIGKILL\"\n"
    );
    let Some(mut world) = with_plugin(&toml) else { return };
    world.start();
    world.until("its line is there", |world| log(world, "a") == "two<CR>\n");
    let worker = world.worker().unwrap();
    // utime and stime, proc_pid_stat(5), in hundredths of a second.
    let busy = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        fields.map(|field| field.parse::<u64>().unwrap()).sum()
    };
    let before = busy();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let more = busy() - before;
    assert!(more < 50, "{more}");
}

#[test]
fn a_terminal_outlives_a_sampand_that_leaves_its_services_running() {
    let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done";
    let toml = format!(
        "on_exit = \"keep\"\n---\n[services.a]\ntty = true\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop_signal = \"SIGKILL\"\n"
    );
    let Some(mut world) = with_plugin(&toml) else { return };
    world.start();
    world.until("it counts", |world| log(world, "a").lines().count() > 3);
    world.signal(libc::SIGTERM);
    assert_eq!(world.ended(), Some(0));
    std::thread::sleep(std::time::Duration::from_millis(500));
    world.start();
    let before = log(&world, "a").lines().count();
    world.until("it counts on", |world| log(world, "a").lines().count() > before + 5);
    let log = log(&world, "a");
    assert!(log.lines().enumerate().all(|(n, line)| line == format!("{n}<CR>")), "{log}");
    assert_eq!(world.inspect("a").status.generation, 1);
}
