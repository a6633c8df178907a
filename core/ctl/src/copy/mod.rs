//! `cp`: files into a running container and out of it, through its root as /proc/PID/root shows it. What is in there is a stranger's: no
//! path of it is looked up but below that root, no name is followed twice, and nothing but folders, regular files and links is copied.
mod maker;
mod place;
mod tree;

use crate::args;
use crate::ask::{Ask, DONE, FAILED, complain, of};
use crate::client::Error;
use place::{Container, Target};
use sampan_api as api;
use std::path::PathBuf;
use tree::{Owner, Report};

/// One of the two operands.
#[derive(Debug, PartialEq, Eq)]
enum Operand {
    Here(PathBuf),
    In { service: String, path: PathBuf },
}

impl Operand {
    /// As docker: `NAME:PATH`, unless it begins with `/` or `.`, or a `/` comes before the colon.
    fn parse(text: &str) -> Operand {
        match text.split_once(':') {
            Some((service, path))
                if !service.is_empty() && !service.starts_with('.') && !service.contains('/') =>
            {
                // From the root on, wherever a program of the container may be.
                Operand::In { service: service.to_owned(), path: PathBuf::from(format!("/{path}")) }
            }
            _ => Operand::Here(text.into()),
        }
    }
}

pub fn cp(ask: &Ask<'_>, with: &args::Cp) -> Result<u8, Error> {
    let mut report = Report::default();
    match (Operand::parse(&with.from), Operand::parse(&with.to)) {
        (Operand::In { service, path }, Operand::Here(to)) => {
            let container = enter(ask, &service)?;
            let from = container.source(&path)?;
            let to = Target::here(&to, &from)?;
            tree::copy(&from, &to, Owner::Ours, &mut report);
        }
        (Operand::Here(from), Operand::In { service, path }) => {
            let container = enter(ask, &service)?;
            let from = place::source_here(&from)?;
            let to = container.target(&path, &from)?;
            tree::copy(&from, &to, container.owner(), &mut report);
        }
        (Operand::Here(_), Operand::Here(_)) => {
            let text = "neither is in a service: write one as NAME:PATH, as `sampanctl cp web:/etc/hosts .`";
            return Err(Error::Here(text.into()));
        }
        (Operand::In { .. }, Operand::In { .. }) => {
            return Err(Error::Here("both are in services; copy to a place here first".into()));
        }
    }
    report.errors.iter().for_each(|text| complain(text));
    if report.failed > report.errors.len() as u64 {
        complain(&format!("{} more could not be copied", report.failed - report.errors.len() as u64));
    }
    if ask.wants_values() {
        let Report { files, bytes, failed, .. } = report;
        ask.value(&serde_json::json!({ "files": files, "bytes": bytes, "failed": failed }))?;
    }
    Ok(if report.failed == 0 { DONE } else { FAILED })
}

/// The root of the life that a service has now.
fn enter(ask: &Ask<'_>, service: &str) -> Result<Container, Error> {
    let inspect = || ask.get::<api::Inspect>(&of(service, ""));
    let before = inspect()?.status;
    let Some(pid) = before.pid else {
        let hint = format!("`sampanctl start {service}` starts it");
        return Err(Error::Here(format!("{service} is not running: {}; {hint}", before.text)));
    };
    let container = Container::open(service, pid)?;
    // Its number is nobody else's while sampand says that it is the service's.
    let after = inspect()?.status;
    if (after.pid, after.generation) == (before.pid, before.generation) {
        return Ok(container);
    }
    Err(Error::Here(format!("{service} has ended meanwhile: {}; try again", after.text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_colon_before_any_slash_is_a_service() {
        let inside = |service: &str, path: &str| Operand::In { service: service.into(), path: path.into() };
        for (text, operand) in [
            ("web:/etc/hosts", inside("web", "//etc/hosts")),
            ("web:etc", inside("web", "/etc")),
            ("web:", inside("web", "/")),
            ("web:/a:b", inside("web", "//a:b")),
            ("./web:x", Operand::Here("./web:x".into())),
            ("a/b:c", Operand::Here("a/b:c".into())),
            ("/a:b", Operand::Here("/a:b".into())),
            (":x", Operand::Here(":x".into())),
            ("..:x", Operand::Here("..:x".into())),
            ("plain", Operand::Here("plain".into())),
        ] {
            assert_eq!(Operand::parse(text), operand, "{text}");
        }
    }
}
