//! What sampand counts, as Prometheus reads it: on the control socket, at an address, at a path.
use super::LIVE;
use super::world::{World, kill, library};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// The body of a reply, if it is a page of ours.
fn ask(mut stream: impl Read + Write, path: &str) -> Option<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let is_page = head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text");
    is_page.then(|| body.to_owned())
}

pub fn page(world: &World) -> String {
    let stream = UnixStream::connect(world.socket()).unwrap();
    ask(stream, "/v1/metrics").expect("a page on the control socket")
}

/// The value behind these labels.
pub fn value(page: &str, metric: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn each_metric_of_the_documentation_is_on_the_page_with_what_is_so() {
    let world = World::new(&format!(
        "[plugins.logging]\npath = \"{}\"\n[services.a]\nstop_signal = \"SIGKILL\"\nrestart.delay = \"10ms\"\n\
         command = [\"/bin/sh\", \"-c\", \"echo hello; while :; do :; done\"]\n\
         healthcheck = {{ test = [\"CMD\", \"/bin/true\"], interval = \"50ms\" }}\n\
         [services.idle]\nautostart = false\n{LIVE}",
        library("logging").display()
    ));
    let Some(mut world) = world else { return };
    world.start();
    world.until_state("a", "running");
    kill(world.pid("a"), libc::SIGKILL);
    world.until("a is restarted and healthy", |world| {
        let status = world.inspect("a").status;
        status.restarts == 1 && status.health == "healthy"
    });
    let a = |name: &str| format!("{name}{{service=\"a\"}}");
    world.until("its line is counted", |world| {
        value(&page(world), &a("sampan_plugin_logging_lines_total")) >= Some(2.0)
    });
    world.until("it has used the CPU", |world| {
        value(&page(world), &a("sampan_service_cpu_seconds_total")) > Some(0.05)
    });
    let page = page(&world);
    let is = |metric: &str| value(&page, metric);
    assert_eq!(is("sampan_service_state{service=\"a\",state=\"running\"}"), Some(1.0), "{page}");
    assert_eq!(is("sampan_service_state{service=\"idle\",state=\"stopped\"}"), Some(1.0), "{page}");
    assert_eq!(is("sampan_service_health{service=\"a\",health=\"healthy\"}"), Some(1.0), "{page}");
    assert_eq!(is(&a("sampan_service_restarts_total")), Some(1.0), "{page}");
    assert_eq!(is(&a("sampan_service_last_exit_code")), Some(137.0), "{page}");
    assert!(is(&a("sampan_service_start_time_seconds")) > Some(1.7e9), "{page}");
    assert!(is(&a("sampan_service_processes")) >= Some(1.0), "{page}");
    assert!(is(&a("sampan_service_memory_bytes")) > Some(0.0), "{page}");
    assert!(is("sampan_journal_bytes") > Some(0.0), "{page}");
    assert!(is("sampan_loop_turns_total") > Some(5.0), "{page}");
    assert!(is("sampan_loop_longest_turn_seconds") > Some(0.0), "{page}");
    assert_eq!(is("sampan_workers_total"), Some(1.0), "{page}");
    assert_eq!(is("sampan_service_cpu_seconds_total{service=\"idle\"}"), None, "nothing of it lives");
    assert!(page.ends_with("# EOF\n"), "{page}");
    let documented = include_str!("../../../../docs/metrics.md");
    let names = documented.lines().filter(|line| line.starts_with("| `sampan_"));
    let names = names.flat_map(|line| line.split('|').nth(1).unwrap().split(", "));
    for name in names.map(|name| name.trim().trim_matches('`')).filter(|name| !name.contains('*')) {
        let there =
            page.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        assert!(there, "{name} is documented and not there:\n{page}");
    }
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (name, kind) in kinds.filter(|(name, _)| !name.starts_with("sampan_plugin_logging")) {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(documented.contains(&format!("`{name}`")), "{name} is there and not documented");
    }
}

#[test]
fn metrics_are_served_where_the_config_says_and_apply_moves_them() {
    let mut world = world!("[services.a]\n{LIVE}");
    let (first, second) = (free_port(), free_port());
    let socket = world.dir().join("metrics.sock");
    let config = |world: &World, at: &str| {
        world.configure(&format!("metrics = \"{at}\"\n---\n[services.a]\n{LIVE}"));
    };
    let tcp = |port: u16| ask(TcpStream::connect(("127.0.0.1", port)).ok()?, "/metrics");
    config(&world, &format!(":{first}"));
    world.start();
    world.until("it is served at the address", |_| tcp(first).is_some());
    assert!(tcp(first).unwrap().contains("sampan_service_state{service=\"a\""));
    config(&world, &format!("localhost:{second}"));
    world.ok(&["apply"]);
    world.until("it is served at the other address", |_| tcp(second).is_some());
    world.until("and no more at the first", |_| TcpStream::connect(("127.0.0.1", first)).is_err());
    config(&world, &socket.display().to_string());
    world.ok(&["apply"]);
    let unix = || ask(UnixStream::connect(&socket).ok()?, "/metrics");
    world.until("it is served at the path", |_| unix().is_some());
    // The dead worker's socket is in the way, and nobody listens on it.
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGKILL);
    world.until("the next worker serves it", |world| {
        world.worker().is_some_and(|now| now != worker) && unix().is_some()
    });
    world.interrupt();
    assert!(!socket.exists(), "it goes with sampand");
}

#[test]
fn a_port_that_is_taken_is_told_once_and_taken_when_it_is_free() {
    let mut world = world!("[services.a]\n{LIVE}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    world.configure(&format!("metrics = \":{port}\"\n---\n[services.a]\n{LIVE}"));
    world.start();
    world.until_state("a", "running");
    let told = format!("supervisor.metrics: cannot listen on 127.0.0.1:{port}: Address already in use");
    world.until("it is told", |world| world.said().contains(&told));
    drop(taken);
    world.until("it is served when the port is free", |_| {
        TcpStream::connect(("127.0.0.1", port)).is_ok_and(|stream| ask(stream, "/metrics").is_some())
    });
    assert_eq!(world.said().matches(&told).count(), 1, "{}", world.said());
}

/// Metrics are served to whoever comes, and so is nothing that the worker needs: it takes 16 connections at a time.
fn idle_connections_are_few<C: Read + Write>(at: &str, connect: impl Fn(&World) -> std::io::Result<C>) {
    let Some(mut world) = World::new("") else { return };
    let at = at.replace("DIR", &world.dir().display().to_string());
    world.configure(&format!("metrics = \"{at}\"\n---\n[services.a]\n{LIVE}"));
    world.start();
    world.until("it is served", |world| connect(world).is_ok_and(|stream| ask(stream, "/metrics").is_some()));
    let worker = world.worker().unwrap();
    let open = || std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap().count();
    world.until_state("a", "running");
    let before = open();
    let idle: Vec<C> = (0..40).map(|_| connect(&world).unwrap()).collect();
    let mut most = 0;
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        most = most.max(open());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(most <= before + 24, "{before} descriptors, then {most}");
    let asked = Instant::now();
    assert!(ask(connect(&world).unwrap(), "/metrics").is_some(), "{}", world.said());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    world.until("they are ended", |_| open() <= before);
    drop(idle);
    // One that has come before `apply` does not outlive the place.
    let mut last = connect(&world).unwrap();
    world.configure(&format!("[services.a]\n{LIVE}"));
    world.ok(&["apply"]);
    let mut read = Vec::new();
    assert_eq!(last.read_to_end(&mut read).unwrap_or(0), 0);
    world.until("nobody listens", |world| connect(world).is_err());
}

#[test]
fn idle_connections_to_the_port_are_few_and_end() {
    let port = free_port();
    idle_connections_are_few(&format!(":{port}"), |_| {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    });
}

#[test]
fn idle_connections_to_the_socket_are_few_and_end() {
    idle_connections_are_few("DIR/metrics.sock", |world| {
        let stream = UnixStream::connect(world.dir().join("metrics.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    });
}

#[test]
fn a_socket_of_somebody_else_stays() {
    let mut world = world!("");
    let (others, ours) = (world.dir().join("others.sock"), world.dir().join("ours.sock"));
    let _other = UnixListener::bind(&others).unwrap();
    let configure = |world: &World, at: &std::path::Path| {
        world.configure(&format!("metrics = \"{}\"\n---\n[services.a]\n{LIVE}", at.display()));
    };
    let is_served =
        |_: &World| UnixStream::connect(&ours).is_ok_and(|stream| ask(stream, "/metrics").is_some());
    configure(&world, &others);
    world.start();
    world.until("it is told", |world| world.said().contains("supervisor.metrics: cannot listen on"));
    configure(&world, &ours);
    world.ok(&["apply"]);
    world.until("it is served", is_served);
    assert!(UnixStream::connect(&others).is_ok(), "corrected, the other's is still there");
    // Somebody takes the place of ours.
    std::fs::remove_file(&ours).unwrap();
    let _next = UnixListener::bind(&ours).unwrap();
    configure(&world, &others);
    world.ok(&["apply"]);
    world.until_state("a", "running");
    assert_eq!(world.interrupt(), Some(0));
    assert!(UnixStream::connect(&ours).is_ok(), "it was ours no more");
    assert!(UnixStream::connect(&others).is_ok(), "sampand has ended");
}
