//! `fd_store_max`: descriptors that a service gives away by FDSTORE=1 come back in its next life, and no others do.
use super::World;
use super::died::kill_the_worker;
use super::sd_notify::{has_python, tell};
use super::world::kill;
use std::fs;

/// Carries out what it reads from a FIFO, a line of Python at a time.
const DOES: &str = r"
import os, socket
fifo = '/mnt/' + os.environ['FIFO']
lines = os.fdopen(os.open(fifo, os.O_RDWR), 'r')
def say(text, fds=[]):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ['NOTIFY_SOCKET'])
    socket.send_fds(s, [text.encode()], fds)
    s.close()
def done():
    r, w = os.pipe()
    say('BARRIER=1', [w])
    os.close(w)
    os.read(r, 1)
    os.close(r)
def store(name, *fds, more=''):
    say('FDSTORE=1\nFDNAME=' + name + more, list(fds))
def memfd(text):
    fd = os.memfd_create('x')
    os.write(fd, text.encode())
    return fd
def file(path, flags=os.O_RDONLY):
    return os.open(path, flags)
def closed_pipe():
    r, w = os.pipe()
    os.close(w)
    return r
say('READY=1')
open(fifo + '.up', 'w').close()
for line in lines:
    exec(line)
    done()
    open('/mnt/done', 'w').close()
";

fn storing(more: &str) -> Option<World> {
    let mut world = World::new("").filter(|_| has_python())?;
    let dir = world.dir().join("talk");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("does.py"), DOES).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("web"), rustix::fs::FileType::Fifo, 0o666.into(), 0)
        .unwrap();
    world.configure(&config(&world, more));
    world.start();
    world.until_state("web", "running");
    Some(world)
}

fn config(world: &World, more: &str) -> String {
    format!(
        "[services.web]\nrootfs = \"host\"\ncommand = [\"/usr/bin/python3\", \"/mnt/does.py\"]\n\
         environment = {{ FIFO = \"web\" }}\nvolumes = [\"{}:/mnt\"]\nstop_signal = \"SIGKILL\"\n\
         restart = {{ delay = \"10ms\", max_delay = \"10ms\" }}\nnotify = \"ready\"\n{more}\n",
        world.dir().join("talk").display()
    )
}

/// Has it done, and what it has said is done, too.
fn does(world: &World, line: &str) {
    let done = world.dir().join("talk/done");
    let _ = fs::remove_file(&done);
    tell(world, "web", line);
    world.until(line, |_| done.exists());
}

/// Names of what it was given, with what stands in each that can be opened as a file.
fn given(world: &World) -> Vec<(String, String)> {
    world.until_state("web", "running");
    let pid = world.pid("web");
    let text = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let all: Vec<_> =
        text.split(|b| *b == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
    let value = |name: &str| all.iter().find_map(|entry| entry.strip_prefix(name)).map(str::to_owned);
    let names: Vec<String> =
        value("LISTEN_FDNAMES=").map_or_else(Vec::new, |names| names.split(':').map(str::to_owned).collect());
    assert_eq!(value("LISTEN_FDS="), Some(names.len().to_string()).filter(|_| !names.is_empty()));
    let content = |at: usize| {
        let path = format!("/proc/{pid}/fd/{}", 3 + at);
        let link = fs::read_link(&path).unwrap().display().to_string();
        if link.starts_with("/memfd:") { fs::read_to_string(path).unwrap() } else { String::new() }
    };
    names.into_iter().enumerate().map(|(at, name)| (name, content(at))).collect()
}

fn names(world: &World) -> Vec<String> {
    given(world).into_iter().map(|(name, _)| name).collect()
}

fn next_life(world: &World, end: impl FnOnce()) {
    let before = world.inspect("web").status.generation;
    end();
    world.until("it lives again", |world| world.inspect("web").status.generation > before);
    world.until_state("web", "running");
}

fn restart(world: &World) {
    next_life(world, || drop(world.ok(&["restart", "web"])));
}

fn dropped(world: &World) -> u64 {
    world.inspect("web").notified.map_or(0, |said| said.dropped)
}

#[test]
fn what_is_stored_comes_back_until_the_service_is_stopped() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!("fd_store_max = 8\nsockets = [{{ listen = \"tcp:{free}\" }}]");
    let Some(mut world) = storing(&more) else { return };
    assert_eq!(names(&world), ["web"]);
    does(&world, "store('a state', memfd('kept')); store('b:c', memfd('unnamed'))");
    let expected = [("web", ""), ("a state", "kept"), ("stored", "unnamed")]
        .map(|(name, text)| (name.to_owned(), text.to_owned()));
    next_life(&world, || kill(world.pid("web"), libc::SIGKILL));
    assert_eq!(given(&world), expected, "after a crash");
    kill_the_worker(&world);
    restart(&world);
    assert_eq!(given(&world), expected, "after the death of a worker, and by hand");
    world.signal(libc::SIGKILL);
    assert_eq!(world.ended(), None);
    world.start();
    restart(&world);
    assert_eq!(given(&world), expected, "after the death of the keel");
    does(&world, "say('FDSTOREREMOVE=1\\nFDNAME=a state')");
    restart(&world);
    assert_eq!(names(&world), ["web", "stored"]);
    world.ok(&["stop", "web"]);
    world.until_state("web", "stopped");
    assert_eq!(fs::read_dir(world.dir().join("run/fdstore")).unwrap().count(), 0);
    world.ok(&["start", "web"]);
    assert_eq!(names(&world), ["web"], "after a stop");
    assert_eq!(dropped(&world), 0);
}

#[test]
fn another_config_begins_with_nothing_stored() {
    let Some(world) = storing("fd_store_max = 2") else { return };
    does(&world, "store('x', memfd(''))");
    next_life(&world, || {
        world.configure(&config(&world, "fd_store_max = 2\nuser = \"root\"\nhostname = \"other\""));
        world.ok(&["apply"]);
    });
    assert!(names(&world).is_empty());
}

#[test]
fn what_nobody_can_use_any_more_and_what_is_there_already_is_not_kept() {
    let Some(world) = storing("fd_store_max = 3") else { return };
    does(&world, "store('gone', closed_pipe()); store('stays', closed_pipe(), more='\\nFDPOLL=0')");
    does(&world, "m = memfd('m'); store('once', m); store('again', m, os.dup(m))");
    // There is room for it: who is gone goes.
    does(&world, "store('late', memfd(''))");
    assert_eq!(dropped(&world), 0, "{}", world.said());
    restart(&world);
    let mut names = names(&world);
    names.sort();
    assert_eq!(names, ["late", "once", "stays"]);
}

#[test]
fn what_leads_elsewhere_or_is_too_much_is_refused_and_counted() {
    let Some(world) = storing("fd_store_max = 2") else { return };
    let refused = [
        "file('/')",
        "file('/usr/bin/python3')",
        "file('/dev/null')",
        "file('/dev/null', os.O_PATH)",
        "file('/proc/self/ns/net')",
        "os.pidfd_open(1)",
        "e.fileno()",
    ];
    for (at, fd) in refused.into_iter().enumerate() {
        does(&world, &format!("import select; e = select.epoll(); store('x', {fd})"));
        assert_eq!(dropped(&world), at as u64 + 1, "{fd}");
    }
    does(&world, "store('many', *[memfd(str(n)) for n in range(253)])");
    assert_eq!(dropped(&world), 8);
    does(&world, "store('none')");
    assert_eq!(dropped(&world), 9);
    let said = world.said();
    for reason in ["only pipes", "as many descriptors", "no descriptor came"] {
        assert_eq!(said.matches(reason).count(), 1, "{reason}: {said}");
    }
    restart(&world);
    assert_eq!(names(&world), ["many", "many"]);
}

/// The number of descriptors of sampand's three processes is as before.
#[test]
fn none_of_them_is_left_open() {
    let Some(world) = storing("fd_store_max = 4") else { return };
    let open = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let all = || [world.keel(), world.worker().unwrap()].map(open);
    restart(&world);
    let before = all();
    for _ in 0..3 {
        does(&world, "store('x', *[memfd('') for _ in range(200)]); store('y', file('/'))");
        assert!(open(world.keel()) >= before[0] + 4);
        does(&world, "say('FDSTOREREMOVE=1\\nFDNAME=x')");
    }
    world.until("they are closed", |_| all().iter().zip(before).all(|(now, before)| *now <= before));
}
