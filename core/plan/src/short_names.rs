//! The plan of a process that makes the overlay of a root of layers, on kernels that take no layers one by one (`layers`).

use crate::error::Error;
use crate::layers::ANNOTATION;
use crate::nobody::in_a_root;
use crate::order::finish;
use crate::plan::{Parent, Plan};
use sampan_child::step::Step;

/// What overlayfs is told in one string, fsconfig(2).
const STRING_BYTES_MAX: usize = 255;
/// Where the folder with `upper` and `work` is.
const TOP: &str = "top";

/// The layers lie under names of a letter or two in a root of its own, so that all of them fit into one string. Its slots are the report, the trees of the layers, the
/// lowest first, that of the upper folder if there is one, and a socket for the overlay's mount.
pub fn plan(layers: usize, upper: bool, in_user_namespace: bool) -> Result<Plan<'static>, Error> {
    let field = format!("annotations[{ANNOTATION:?}]");
    let names: Vec<String> = (0..layers).map(short_name).collect();
    let highest_first: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    let lower = highest_first.join(":");
    if lower.len() > STRING_BYTES_MAX {
        let problem = format!("{layers} layers are more than this kernel takes: that needs Linux 6.5");
        return Err(Error::new(field, problem));
    }
    let places: Vec<String> =
        names.iter().map(String::as_str).chain(upper.then_some(TOP)).map(|name| format!("/{name}")).collect();
    let trees: Vec<(&str, &str)> = places.iter().map(|place| (place.as_str(), place.as_str())).collect();
    let (mut build, to) = in_a_root(&trees, &field)?;
    let b = &mut build;
    let mut data = vec!["ssource", "overlay", "slowerdir", lower.as_str()];
    if upper {
        data.extend(["supperdir", "top/upper", "sworkdir", "top/work"]);
    }
    if in_user_namespace {
        data.push("fuserxattr");
    }
    let data = b.table.list(data, &field)?;
    b.step(field, Step::Overlay { data, attributes: 0, to });
    Ok(finish(b, Parent::default()))
}

/// `a` to `Z`, then of two letters.
fn short_name(number: usize) -> String {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let letter = |n: usize| char::from(LETTERS[n % LETTERS.len()]);
    match number.checked_sub(LETTERS.len()) {
        None => letter(number).to_string(),
        Some(more) => format!("{}{}", letter(more / LETTERS.len()), letter(more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_differ() {
        let names: Vec<String> = (0..100).map(short_name).collect();
        assert_eq!((names[0].as_str(), names[51].as_str(), names[52].as_str()), ("a", "Z", "aa"));
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), 100);
    }

    #[test]
    fn a_hundred_layers_fit_and_more_are_refused() {
        assert!(plan(100, true, false).is_ok());
        let refused = plan(110, false, false).unwrap_err();
        assert!(refused.problem.contains("Linux 6.5"), "{}", refused.problem);
    }
}
