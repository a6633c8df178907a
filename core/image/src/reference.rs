//! Names of images, by docker's grammar: `nginx` is `docker.io/library/nginx:latest`.
//!
//! ```text
//!   reference  = name [":" tag] ["@" digest]
//!   name       = [domain "/"] component *("/" component)
//!   domain     = what has a "." or ":" in it, or is "localhost", or has a capital letter
//!   component  = a-z 0-9, between them one of  .  _  __  or any number of -
//!   tag        = [A-Za-z0-9_] up to 127 of [A-Za-z0-9_.-]
//! ```

use std::fmt;

use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

const DOCKER: &str = "docker.io";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// With all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    pub fn parse(text: &str) -> Result<Reference> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(300).collect();
            let hint = "as in nginx, nginx:1.27, example.org/team/app:v2, nginx@sha256:..";
            Error::new(Kind::Usage, format!("{shown:?} is no name of an image"), why).hint(hint)
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(Digest::parse(digest).map_err(|_| wrong("what follows @ is no digest"))?))
            }
            None => (text, None),
        };
        // A colon behind the last slash begins a tag, one before it a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(|why| wrong(&why))?;
        }
        let (domain, path) = split(name);
        check_domain(&domain).map_err(|why| wrong(&why))?;
        check_path(&path).map_err(|why| wrong(&why))?;
        if domain.len() + path.len() + 1 > NAME_MAX {
            return Err(wrong("it is longer than 255 characters"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Reference { domain, path, tag, digest })
    }

    /// The registry: a host, perhaps with a port.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository, without the registry: `library/nginx`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What the registry is asked for: the digest where there is one, whatever the tag says.
    #[must_use]
    pub fn wanted(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    /// As people write it: without what is meant anyway.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(short).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn split(name: &str) -> (String, String) {
    let first = name.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':']) || *first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
    });
    match first {
        Some(("docker.io" | "index.docker.io", rest)) => (DOCKER.to_owned(), library(rest)),
        Some((domain, rest)) => (domain.to_owned(), rest.to_owned()),
        None => (DOCKER.to_owned(), library(name)),
    }
}

fn library(path: &str) -> String {
    if path.contains('/') { path.to_owned() } else { format!("library/{path}") }
}

fn check_domain(domain: &str) -> std::result::Result<(), String> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or("the address has no ]")?;
            let good = !host.is_empty() && host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            (good, rest.strip_prefix(':').or((!rest.is_empty()).then_some("x")))
        }
        None => {
            let (host, port) = domain.split_once(':').map_or((domain, None), |(h, p)| (h, Some(p)));
            let label = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            (host.split('.').all(label), port)
        }
    };
    if !host {
        return Err(format!("{domain:?} is no name of a registry"));
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() => Err(format!("{port:?} is no port")),
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> std::result::Result<(), String> {
    for component in path.split('/') {
        if component.is_empty() {
            return Err("a part of its name is empty".into());
        }
        if component.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!("{component:?} must be in small letters"));
        }
        let words = component.split(['.', '_', '-']);
        let letters = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !words.clone().all(letters) {
            return Err(format!("{component:?} may have a-z, 0-9, '.', '_' and '-'"));
        }
        if !separated(component) {
            return Err(format!("in {component:?} separators ('.', '_', '__', '-') stand between letters"));
        }
    }
    Ok(())
}

/// Runs of separators are `.`, `_`, `__` or dashes, and none is at an end.
fn separated(component: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = component.starts_with(is_letter) && component.ends_with(is_letter);
    let mut runs = component.split(is_letter).filter(|run| !run.is_empty());
    ends && runs.all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> std::result::Result<(), String> {
    let mut bytes = tag.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !first || !rest || tag.len() > TAG_MAX { Err(format!("{tag:?} is no tag")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn defaults_are_filled_in_as_docker_does() {
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest", "127.0.0.1:5000/a/b/c:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("quay.io/a/b__c.d---e", "quay.io/a/b__c.d---e:latest", "quay.io/a/b__c.d---e:latest"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
            assert_eq!(Reference::parse(full).unwrap(), reference);
            assert_eq!(Reference::parse(familiar).unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_is_what_the_registry_is_asked_for() {
        let pinned = Reference::parse(&format!("nginx:1@sha256:{HEX}")).unwrap();
        assert_eq!(pinned.wanted(), format!("sha256:{HEX}"));
        assert_eq!(pinned.tag(), Some("1"));
        assert_eq!(Reference::parse(&format!("nginx@sha256:{HEX}")).unwrap().tag(), None);
        assert_eq!(Reference::parse("nginx").unwrap().wanted(), "latest");
    }

    #[test]
    fn what_is_no_name_says_why() {
        for (text, why) in [
            ("", "is empty"),
            ("Nginx", "small letters"),
            ("a//b", "is empty"),
            ("-a", "between letters"),
            ("a___b", "between letters"),
            ("a..b", "between letters"),
            ("a:", "is no tag"),
            ("a:-b", "is no tag"),
            ("a@sha256:12", "is no digest"),
            ("a b", "may have"),
            ("../../etc/passwd", "no name of a registry"),
            ("host:99999/a", "no port"),
            ("a.b-/c", "no name of a registry"),
            ("[::1/a", "no ]"),
        ] {
            let said = Reference::parse(text).unwrap_err().to_string();
            assert!(said.contains(why), "{text:?}: {said}");
        }
        assert!(Reference::parse(&format!("a/{}", "b".repeat(300))).is_err());
    }
}
