//! systemd's manager, org.freedesktop.systemd1(5): a scope for processes that are not systemd's own children.
use crate::bus::{Bus, Error};
use crate::wire::{Body, Target, Value};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The system's message bus, and systemd's own socket, which needs no message bus (root alone may connect).
const SOCKETS: [(&str, Kind); 2] =
    [("/run/dbus/system_bus_socket", Kind::Broker), ("/run/systemd/private", Kind::Direct)];
/// What sd_booted(3) looks at.
const BOOTED: &str = "/run/systemd/system";
/// As runc: a job of systemd may wait for others.
const LIMIT: Duration = Duration::from_secs(30);
/// As systemd's properties say it.
const INFINITY: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Broker,
    Direct,
}

/// Whether systemd is this host's init, sd_booted(3).
pub fn booted() -> bool {
    Path::new(BOOTED).is_dir()
}

/// A unit of processes that somebody else started.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    /// With `.scope`.
    pub name: &'a str,
    pub description: &'a str,
    pub slice: &'a str,
    /// Units that are stopped before this one when the host goes down.
    pub before: &'a [&'a str],
    /// Its first processes.
    pub pids: &'a [u32],
}

#[derive(Debug)]
pub struct Manager(Bus);

impl Manager {
    pub fn connect() -> Result<Manager, Error> {
        let mut failed = None;
        for (path, kind) in SOCKETS {
            match Bus::connect(Path::new(path), LIMIT).and_then(|bus| Manager::greet(bus, kind)) {
                Ok(manager) => return Ok(manager),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or(Error::NoMessage))
    }

    /// Over a connection to a message bus that is there.
    pub fn over(stream: UnixStream, limit: Duration) -> Result<Manager, Error> {
        Manager::greet(Bus::over(stream, limit)?, Kind::Broker)
    }

    fn greet(mut bus: Bus, kind: Kind) -> Result<Manager, Error> {
        if kind == Kind::Broker {
            bus.call(broker("Hello"), &Body::default())?;
            let mut rule = Body::default();
            rule.string("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
            bus.call(broker("AddMatch"), &rule)?;
        }
        let mut manager = Manager(bus);
        manager.call("Subscribe", &Body::default())?;
        Ok(manager)
    }

    /// Starts a scope whose control group is its owner's to divide (`Delegate=`), and waits until it is there.
    pub fn start_scope(&mut self, scope: &Scope<'_>) -> Result<(), Error> {
        let mut body = Body::default();
        body.string(scope.name).string("fail");
        body.properties(&[
            ("Description", Value::Text(scope.description)),
            ("Slice", Value::Text(scope.slice)),
            ("Delegate", Value::Flag(true)),
            // DefaultTasksMax= would be for all containers together; each has its own limit.
            ("TasksMax", Value::Number(INFINITY)),
            ("Before", Value::Texts(scope.before)),
            ("PIDs", Value::Numbers(scope.pids)),
        ]);
        body.no_units();
        let job = self.call("StartTransientUnit", &body)?.into_iter().next().unwrap_or_default();
        let done = self
            .0
            .signal("StartTransientUnit", |s| s.name == "JobRemoved" && s.texts.first() == Some(&job))?;
        match done.texts.last() {
            Some(result) if result == "done" => Ok(()),
            result => {
                Err(Error::Job { unit: scope.name.to_owned(), result: result.cloned().unwrap_or_default() })
            }
        }
    }

    /// Moves processes into a group below a delegated unit's (from systemd 238): `group` begins with a slash.
    pub fn attach(&mut self, unit: &str, group: &str, pids: &[u32]) -> Result<(), Error> {
        let mut body = Body::default();
        body.string(unit).string(group).numbers(pids);
        self.call("AttachProcessesToUnit", &body).map(drop)
    }

    fn call(&mut self, method: &str, body: &Body) -> Result<Vec<String>, Error> {
        let target = Target {
            service: "org.freedesktop.systemd1",
            object: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            method,
        };
        self.0.call(target, body)
    }
}

fn broker(method: &str) -> Target<'_> {
    let (service, object) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
    Target { service, object, interface: service, method }
}
