//! Where an answer is elsewhere. Followed here, not by the library: that reads the body of each answer on the way, however long it takes.

use ureq::http::{Response, Uri};
use ureq::{Agent, Body, Error};

const REDIRECTS: u32 = 6;

/// Asks, and asks on where the answer says so. `Authorization` goes to the host that was asked first, and to no other.
pub fn get(
    agent: &Agent,
    url: &str,
    query: &[(&str, &str)],
    headers: &[(&str, &str)],
    authorization: Option<&str>,
) -> Result<Response<Body>, Error> {
    let mut request = agent.get(url).query_pairs(query.iter().copied());
    let mut authorization = authorization;
    let mut at = request.uri_ref().cloned().ok_or_else(|| Error::BadUri(url.to_owned()))?;
    for _ in 0..=REDIRECTS {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        let response = request.call()?;
        let Some(to) = location(&at, &response)? else { return Ok(response) };
        if !is_same(&at, &to) {
            // Not on the way back, either.
            authorization = None;
        }
        request = agent.get(&to);
        at = to;
    }
    Err(Error::TooManyRedirects)
}

/// Of an answer that is elsewhere. Its body is nobody's: the connection ends with it.
fn location(at: &Uri, response: &Response<Body>) -> Result<Option<Uri>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get("location") else { return Ok(None) };
    let bad = || Error::BadUri(String::from_utf8_lossy(location.as_bytes()).into_owned());
    resolve(at, location.to_str().map_err(|_| bad())?).ok_or_else(bad).map(Some)
}

/// RFC 3986, 5.2, without the dots in paths: those are the server's to understand.
fn resolve(at: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, host) = (at.scheme_str()?, at.authority()?);
    let is_whole = ["http://", "https://"]
        .iter()
        .any(|scheme| location.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)));
    let text = if is_whole {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{host}{}{location}", at.path())
    } else {
        let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{host}{folder}/{location}")
    };
    text.parse().ok()
}

/// One host, in the same place of it, and no worse protected.
fn is_same(from: &Uri, to: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    host(from) == host(to)
        && from.port_u16() == to.port_u16()
        && (from.scheme_str() == to.scheme_str() || to.scheme_str() == Some("https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_found_from_where_it_was_said() {
        let at: Uri = "https://a.example:5000/v2/x/blobs/y?z=1".parse().unwrap();
        for (location, is) in [
            ("http://b/c?d=e#f", "http://b/c?d=e"),
            ("HTTPS://b/c", "https://b/c"),
            ("//b/c", "https://b/c"),
            ("/c?d", "https://a.example:5000/c?d"),
            ("c", "https://a.example:5000/v2/x/blobs/c"),
            ("?c", "https://a.example:5000/v2/x/blobs/y?c"),
            ("/to?url=http://b", "https://a.example:5000/to?url=http://b"),
        ] {
            assert_eq!(resolve(&at, location).unwrap().to_string(), is, "{location}");
        }
        assert_eq!(resolve(&at, "http://a b/"), None);
    }

    #[test]
    fn secrets_go_to_the_same_host_alone() {
        let is = |from: &str, to: &str| is_same(&from.parse().unwrap(), &to.parse().unwrap());
        assert!(is("https://a/x", "https://A/y") && is("http://a/", "https://a/"));
        assert!(!is("https://a/", "http://a/") && !is("https://a/", "https://b/"));
        assert!(!is("https://a/", "https://b.a/") && !is("https://a/", "https://a:8443/"));
    }
}
