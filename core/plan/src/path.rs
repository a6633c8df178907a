//! Paths as a config writes them.

/// An absolute path without empty parts, `.` and `..`; a relative one starts at `/`.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A path of the host: relative ones start at the bundle.
pub fn from_bundle(path: &str, bundle: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", bundle.trim_end_matches('/')) }
}
