//! `sockets`.

use super::{Field, Fields};
use crate::diagnostic::Diagnostic;
use crate::schema::{Listen, NamespaceMode, Namespaces, NoListen, Socket};
use crate::source::Spot;

const FORM: &str = "as \"tcp:127.0.0.1:8080\", \"udp:[::]:53\" or \"unix:/run/web.sock\"";
/// Each is a descriptor in the service and one at the keel.
pub const SOCKETS_MAX: usize = 32;
/// sun_path of unix(7), with its end.
const PATH_BYTES_MAX: usize = 107;

pub fn sockets(t: &Fields<'_>, service: &str, namespaces: &Namespaces) -> Vec<Socket> {
    let Some(f) = t.get("sockets") else { return Vec::new() };
    let mut all: Vec<(Socket, Spot)> = Vec::new();
    for item in f.items().unwrap_or_default() {
        let Some(socket) = socket(&item, service) else { continue };
        if let Some((_, first)) = all.iter().find(|(other, _)| other.listen == socket.listen) {
            let error = Diagnostic::error(
                &item.path,
                &item.node.at,
                format!("{} is there twice", socket.listen),
                "drop one",
            );
            item.cx.errors.borrow_mut().push(error.also(first, "first here"));
            continue;
        }
        all.push((socket, item.node.at.clone()));
    }
    if all.len() > SOCKETS_MAX {
        f.wrong(format!("{} sockets", all.len()), format!("at most {SOCKETS_MAX}"));
    }
    if !all.is_empty() {
        has_a_known_number(&f, namespaces);
    }
    all.into_iter().map(|(socket, _)| socket).collect()
}

/// Of what is handed to a program from descriptor 3 on.
pub fn has_a_known_number(f: &Field<'_>, namespaces: &Namespaces) {
    let mode = match &namespaces.pid {
        NamespaceMode::Private => return,
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Service(joined) => joined.to_string(),
    };
    let hint = "its program takes what LISTEN_PID says is for it, and its number is known only where it is 1: drop one";
    f.wrong(format!("beside pid = \"{mode}\""), hint);
}

fn socket(f: &Field<'_>, service: &str) -> Option<Socket> {
    if f.node.table().is_none() {
        return f.expected("a table: { listen, name }");
    }
    let t = f.fields();
    t.only(&["listen", "name"], &[]);
    let Some(at) = t.get("listen") else {
        t.missing("listen", FORM);
        return None;
    };
    Some(Socket { listen: listen(&at)?, name: t.or("name", name, service.to_owned()) })
}

fn listen(f: &Field<'_>) -> Option<Listen> {
    let text = f.nonempty()?;
    let listen = match text.parse() {
        Ok(Listen::Unix(path)) => Listen::Unix(f.host_path_of(&path.to_string_lossy())?),
        Ok(listen) => listen,
        Err(why) => {
            let wrong = match why {
                NoListen::Kind => "neither tcp, udp nor unix".to_owned(),
                NoListen::Address(_) => "not an address and a port".to_owned(),
                NoListen::Port => "port 0 is another one each time".to_owned(),
            };
            f.wrong(wrong, FORM);
            return None;
        }
    };
    if let Listen::Unix(path) = &listen
        && path.as_os_str().len() > PATH_BYTES_MAX
    {
        f.wrong(format!("longer than {PATH_BYTES_MAX} bytes"), "unix(7) takes no more");
        return None;
    }
    Some(listen)
}

/// As sd_listen_fds_with_names(3) has it.
fn name(f: &Field<'_>) -> Option<String> {
    let name = f.nonempty()?;
    if name.len() > 255 || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
        f.wrong("no name of a socket", "at most 255 letters, digits and signs, without blanks and colons");
        return None;
    }
    Some(name)
}
