//! `security.userns`.

use super::{Field, Fields, Value};
use crate::schema::{IdMaps, IdRange, NamespaceMode, Namespaces, UserNamespace};

/// The kernel takes no more (user_namespaces(7)).
const RANGES_MAX: usize = 340;

/// `security`: the service's table of that name.
pub fn userns(security: &Fields<'_>, privileged: bool, namespaces: &Namespaces) -> UserNamespace {
    let Some(f) = security.get("userns") else { return UserNamespace::None };
    let found = match &f.node.value {
        Value::Table(_) => maps(&f).map(UserNamespace::Maps),
        Value::Text(_) => {
            let auto = f.word("user namespace", &[("none", false), ("auto", true)], &[]);
            auto.map(|auto| if auto { UserNamespace::Auto } else { UserNamespace::None })
        }
        _ => f.expected("\"none\", \"auto\" or { uid_map, gid_map }"),
    };
    let Some(found) = found else { return UserNamespace::None };
    if found != UserNamespace::None {
        if privileged {
            f.wrong("beside privileged", "who owns the host's devices has its ids: drop one");
        }
        for (key, mode) in [("pid", &namespaces.pid), ("ipc", &namespaces.ipc)] {
            if let Some(joined) = mode.joined() {
                let hint =
                    "the kernel shows it to the root of those users alone to whom it belongs: drop one";
                f.wrong(format!("beside {key} = \"{joined}\""), hint);
            }
        }
        if namespaces.pid == NamespaceMode::Host {
            f.wrong(
                "beside pid = \"host\"",
                "the kernel shows the host's processes to its own root: drop one",
            );
        }
    }
    found
}

fn maps(f: &Field<'_>) -> Option<IdMaps> {
    let t = f.fields();
    t.only(&["uid_map", "gid_map"], &[]);
    let one = |name: &str| {
        let Some(f) = t.get(name) else {
            t.missing(name, "as { uid_map = [\"0:100000:65536\"], gid_map = [\"0:100000:65536\"] }");
            return None;
        };
        let ranges = f.list(range)?;
        // One that is wrong has been named.
        (ranges.len() == f.items()?.len() && fit_together(&f, &ranges)).then_some(ranges)
    };
    let (uid_map, gid_map) = (one("uid_map"), one("gid_map"));
    Some(IdMaps { uid_map: uid_map?, gid_map: gid_map? })
}

fn range(f: &Field<'_>) -> Option<IdRange> {
    f.nonempty()?.parse().map_err(|why| f.wrong(why, "as \"INSIDE:HOST:SIZE\", \"0:100000:65536\"")).ok()
}

fn fit_together(f: &Field<'_>, ranges: &[IdRange]) -> bool {
    let overlap = |a: u32, b: u32, sizes: (u32, u32)| {
        let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
        u64::from(a) < end(b, sizes.1) && u64::from(b) < end(a, sizes.0)
    };
    let pairs = ranges.iter().enumerate().flat_map(|(n, a)| ranges.iter().skip(n + 1).map(move |b| (a, b)));
    for (a, b) in pairs {
        let sizes = (a.size, b.size);
        if overlap(a.inside, b.inside, sizes) || overlap(a.host, b.host, sizes) {
            f.wrong(format!("{a} and {b} overlap"), "each id stands for one");
            return false;
        }
    }
    let has_root = ranges.iter().any(|range| range.to_host(0).is_some());
    if !has_root {
        f.wrong("0 has no id", "a container is set up by its root: begin with \"0:HOST:SIZE\"");
    }
    if ranges.len() > RANGES_MAX {
        f.wrong(format!("{} ranges", ranges.len()), format!("the kernel takes {RANGES_MAX}"));
    }
    has_root && ranges.len() <= RANGES_MAX
}
