//! A one-off with a terminal.
use super::super::LIVE;
use super::super::attach::Attached;
use super::super::died::kill_the_worker;
use std::time::Duration;

#[test]
fn a_shell_is_typed_to_over_the_death_of_a_worker() {
    let mut world = world!("[services.web]\n{LIVE}autostart = false\nenvironment = {{ PS1 = \"$ \" }}\n");
    world.start();
    let mut one = Attached::by(&world, "run", &["-it", "--rm", "web", "sh"]);
    one.until("$ ");
    one.asks(b"tty; stty size; echo $((6*7))\r", "/dev/pts/0\r\n24 80\r\n42\r\n");
    one.resize(31, 97);
    std::thread::sleep(Duration::from_millis(300));
    one.asks(b"stty size\r", "31 97\r\n");
    kill_the_worker(&world);
    one.asks(b"echo still $((6*8))\r", "still 48\r\n");
    one.interrupts_the_shell();
    one.asks(b"echo again $((6*9))\r", "again 54\r\n");
    let name = world.the_one_off();
    one.types(b"exit 7\r");
    assert_eq!(one.ended().code(), Some(7), "{}", one.shown());
    world.until_gone(&name);
}

#[test]
fn when_sampand_is_gone_the_terminal_is_as_it_was() {
    let mut world = world!("[services.web]\n{LIVE}autostart = false\nenvironment = {{ PS1 = \"$ \" }}\n");
    world.start();
    let mut one = Attached::by(&world, "run", &["-it", "web", "sh"]);
    one.until("$ ");
    assert_ne!(one.modes(), one.modes_before, "it is raw");
    world.signal(libc::SIGKILL);
    world.ended();
    assert_eq!(one.ended().code(), Some(125), "{}", one.shown());
    assert_eq!(one.modes(), one.modes_before);
    // The next sampand ends what its client has left.
    world.start();
    world.until("it has ended", |world| world.services().iter().all(|status| status.pid.is_none()));
}

#[test]
fn without_being_asked_it_has_one_where_its_client_has_unless_that_is_not_wanted() {
    let mut world = world!("[services.web]\n{LIVE}autostart = false\n");
    world.start();
    for (options, shows) in [(&["--rm"][..], "/dev/pts/0"), (&["--rm", "-T"], "not a tty")] {
        let mut one = Attached::by(&world, "run", &[options, &["web", "tty"]].concat());
        one.until(shows);
        one.ended();
    }
    let piped = world.ctl(&["run", "--rm", "web", "tty"]);
    assert_eq!((piped.code, piped.out.as_str()), (1, "not a tty\n"), "{piped:?}");
    // Where ours is no terminal it has one all the same, if that is asked for.
    let asked = world.ctl(&["run", "--rm", "-t", "web", "tty"]);
    assert_eq!((asked.code, asked.out.as_str()), (0, "/dev/pts/0\r\n"), "{asked:?}");
}
