//! `WWW-Authenticate`: which way a registry wants to be asked.

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The one that we can answer; a token before a password.
    pub fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut basic = false;
        for header in headers {
            let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let parameter = |name: &str| {
                    parameters(rest)
                        .into_iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value)
                };
                if let Some(realm) = parameter("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: parameter("service"),
                        scope: parameter("scope"),
                    });
                }
            }
            basic |= scheme.eq_ignore_ascii_case("basic");
        }
        basic.then_some(Challenge::Basic)
    }
}

/// `name="value", name=value`
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => until_quote(quoted),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                let (value, next) = after.split_at(end);
                (value.trim().to_owned(), next)
            }
        };
        found.push((name.trim_matches([' ', ',']).to_owned(), value));
        rest = next;
    }
    found
}

/// With `\` before what would end it.
fn until_quote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_write_is_understood() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/a:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:library/a:pull,push".into()),
        };
        assert_eq!(Challenge::choose(["Basic realm=\"x\"", docker].into_iter()), Some(expected));
        assert_eq!(Challenge::choose(["basic realm=x"].into_iter()), Some(Challenge::Basic));
        let odd = Challenge::choose(["bearer realm=https://a/t , service=\"a \\\"b\\\"\""].into_iter());
        let expected =
            Challenge::Bearer { realm: "https://a/t".into(), service: Some("a \"b\"".into()), scope: None };
        assert_eq!(odd, Some(expected));
        for nothing in ["", "Negotiate", "Bearer", "Bearer realm", "=,=,=\""] {
            assert_eq!(Challenge::choose([nothing].into_iter()), None, "{nothing}");
        }
    }
}
