//! `lifecycle` and `on`: commands around a service's life.

use std::time::Duration;

use super::service::command;
use super::{Field, Fields, Value, rights};
use crate::schema::{Ids, Lifecycle, NameOrId, On, Place, Step, User};

/// Where the steps of a list may be.
#[derive(Clone, Copy)]
enum Places {
    /// In the container unless they say otherwise: it runs.
    Both,
    /// The text says why not in the container.
    Host(&'static str),
}

pub fn lifecycle(t: &Fields<'_>) -> Lifecycle {
    Lifecycle {
        pre_start: steps(t, "pre_start", Places::Host("there is no container before its start")),
        post_start: steps(t, "post_start", Places::Both),
        pre_stop: steps(t, "pre_stop", Places::Both),
        post_stop: steps(t, "post_stop", Places::Host("there is no container after its stop")),
    }
}

pub fn on(t: &Fields<'_>) -> On {
    let list = |name| steps(t, name, Places::Host("what happens need not leave a container that runs"));
    On { exit: list("exit"), failure: list("failure"), oom: list("oom"), health: list("health") }
}

fn steps(t: &Fields<'_>, name: &str, places: Places) -> Vec<Step> {
    t.or(name, |f| f.list(|f| step(f, places)), Vec::new())
}

fn step(f: &Field<'_>, places: Places) -> Option<Step> {
    let Value::Table(_) = f.node.value else { return f.expected("a table: { command, in, user, timeout }") };
    let t = f.fields();
    t.only(&["command", "in", "user", "timeout"], &[]);
    let Some(program) = t.get("command") else {
        t.missing("command", "add command = [\"PROGRAM\", \"ARGUMENT\"]");
        return None;
    };
    let usual = match places {
        Places::Both => Place::Container,
        Places::Host(_) => Place::Host,
    };
    Some(Step {
        command: command(&program)?,
        place: t.or("in", |f| place(f, places), usual),
        user: t.or("user", |f| ids(f).map(Some), None),
        timeout: t.or("timeout", Field::period, Duration::from_secs(60)),
    })
}

fn place(f: &Field<'_>, places: Places) -> Option<Place> {
    let place = f.word("place", &[("container", Place::Container), ("host", Place::Host)], &[])?;
    match places {
        Places::Host(why) if place == Place::Container => {
            f.wrong(why, "write \"host\", or leave it out");
            None
        }
        Places::Host(_) | Places::Both => Some(place),
    }
}

/// Names would be looked up in files of the host, or of the container, each time.
fn ids(f: &Field<'_>) -> Option<Ids> {
    match rights::user(f)? {
        User { user: NameOrId::Id(uid), group: Some(NameOrId::Id(gid)) } => Some(Ids { uid, gid }),
        _ => {
            f.wrong("the user of a step is two numbers", "as \"1000:1000\"");
            None
        }
    }
}
