//! config.toml(5) from the key tables, as docs/config.md is: `make man`.

use crate::docs::{ABOUT, title};
use crate::elsewhere;
use crate::keys::{Applies, Key, SECTIONS, Stage};

/// Shown in the page; a test loads it.
pub const EXAMPLE: &str = r#"[services.web]
image = "docker.io/library/nginx:1.27"
ports = ["8080:80"]
volumes = ["site:/usr/share/nginx/html:ro"]
depends_on = ["api"]
healthcheck = { http = 80, interval = "10s" }

[services.api]
rootfs = "host"
command = ["python3", "-m", "http.server", "3000"]
user = "65534:65534"
environment = { TZ = "${TZ:-UTC}" }
resources = { memory = "64M", pids = 32 }
restart = { policy = "always", delay = "1s", max_delay = "1m" }

[volumes.site]
"#;

pub fn page(version: &str) -> String {
    let mut out = format!(".TH config.toml 5 \"\" \"sampan {version}\" \"Sampan\"\n");
    out.push_str(".SH NAME\nconfig.toml \\- what sampand(8) runs, and how\n.SH DESCRIPTION\n");
    // Its stars are Markdown's; a key's are its own (`net.*`).
    for paragraph in ABOUT.replace('*', "").split("\n\n") {
        out.push_str(&format!(".PP\n{}\n", prose(paragraph)));
    }
    out.push_str(".PP\nBehind a key stand its forms, its default, and when a change applies.\n");
    for (path, keys) in SECTIONS {
        out.push_str(&format!(".SH {}\n", escape(&title(path).to_uppercase().replace(".X]", ".NAME]"))));
        for key in keys.iter().filter(|key| key.stage == Stage::Built) {
            out.push_str(&entry(path, key));
        }
    }
    out.push_str(".SH EXAMPLES\nA web server from an image before a program of the host:\n.PP\n.nf\n");
    out.extend(EXAMPLE.lines().map(|line| format!("{}\n", escape(line))));
    out.push_str(".fi\n.PP\nWhat is wrong with it, and nothing else:\n.PP\n.nf\nsampand \\-\\-check \\-\\-config config.toml\n.fi\n");
    out.push_str(FILES);
    out
}

const FILES: &str = ".SH FILES\n\
    .TP\n/etc/sampan/config.toml\nread where no \\-\\-config names another\n\
    .TP\n/etc/sampan/services.d/*.toml\nincluded by the one that make install writes\n\
    .TP\n/run/sampan\nrun_dir: containers, the socket, what was applied last\n\
    .TP\n/var/lib/sampan\nstate_dir: logs, named volumes, images, what was started and stopped by hand\n\
    .TP\nPREFIX/share/sampan/config.schema.json\nthe JSON Schema for editors\n\
    .SH SEE ALSO\n\
    .BR sampand (8),\n.BR sampanctl (1),\n.BR sampan\\-image (1),\n.BR sampan (8),\n\
    .BR capabilities (7),\n.BR systemd.service (5)\n";

fn entry(section: &str, key: &Key) -> String {
    let applies = match key.applies {
        Applies::Live => "live",
        Applies::NewContainers => "new containers",
        Applies::Restart => "restart",
        Applies::Supervisor => "sampand's next start",
    };
    let default = if key.default.is_empty() { String::new() } else { format!("; default {}", key.default) };
    let mut text = format!(
        ".TP\n.B {}\n{}\n.br\n",
        escape(&key.path.replace('*', "NAME")),
        prose(&format!("{}{default}; {applies}", key.forms))
    );
    if !key.meaning.is_empty() {
        text.push_str(&format!("{}\n", prose(key.meaning)));
    }
    let row = elsewhere::SECTIONS
        .iter()
        .filter(|(of, _)| *of == section)
        .find_map(|(_, rows)| rows.iter().find(|row| row.key() == key.path));
    let names = row.map(elsewhere::Row::columns).into_iter().flatten();
    // That it is called the same says nothing.
    let names: Vec<String> = names
        .filter_map(|(whose, names)| {
            let names: Vec<&str> =
                names.iter().map(|name| name.name).filter(|name| *name != key.path).collect();
            (!names.is_empty()).then(|| format!("{whose}: {}", names.join(", ")))
        })
        .collect();
    if !names.is_empty() {
        text.push_str(&format!(".br\n{}\n", prose(&format!("({})", names.join("; ")))));
    }
    text
}

/// Text without the marks of Markdown.
fn prose(text: &str) -> String {
    text.lines().map(|line| escape(&line.replace('`', ""))).collect::<Vec<_>>().join("\n")
}

/// So that roff takes a line as text.
pub fn escape(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}
