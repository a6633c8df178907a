//! `kill web HUP`, as `sampan kill` and kill(1) have it, beside `kill -s HUP web db`.
use nix::sys::signal::Signal;

const USUAL: &str = "SIGKILL";

/// Services and the signal for them. Without `-s` a signal may come last; after `-s` every word is a service.
pub fn told_apart<'a>(words: &'a [String], signal: Option<&'a str>) -> (&'a [String], &'a str) {
    match (signal, words) {
        (Some(signal), _) => (words, signal),
        (None, [services @ .., last]) if !services.is_empty() && is_signal(last) => (services, last),
        (None, _) => (words, USUAL),
    }
}

/// In capitals, or a number: whatever a service may be called, few are called so.
fn is_signal(word: &str) -> bool {
    let name = word.strip_prefix("SIG").unwrap_or(word);
    let real_time = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    format!("SIG{name}").parse::<Signal>().is_ok()
        || word.parse().is_ok_and(|number: u8| (1..=64).contains(&number))
        || real_time.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-']))
}

/// The signal that a word in small letters may have been meant for.
pub fn meant(word: &str) -> Option<String> {
    let name = word.to_uppercase();
    (name != word && is_signal(&name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_may_come_last_or_be_named() {
        let apart = |words: &[&str], signal: Option<&str>| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let (services, signal) = told_apart(&words, signal);
            (services.join(" "), signal.to_owned())
        };
        for (words, signal, services, is) in [
            (&["web"][..], None, "web", "SIGKILL"),
            (&["web", "HUP"], None, "web", "HUP"),
            (&["web", "SIGHUP"], None, "web", "SIGHUP"),
            (&["web", "db", "15"], None, "web db", "15"),
            (&["web", "RTMIN+3"], None, "web", "RTMIN+3"),
            (&["web", "db"], None, "web db", "SIGKILL"),
            (&["web", "hup"], None, "web hup", "SIGKILL"),
            (&["HUP"], None, "HUP", "SIGKILL"),
            (&["web", "65"], None, "web 65", "SIGKILL"),
            (&["web", "HUP"], Some("TERM"), "web HUP", "TERM"),
        ] {
            assert_eq!(apart(words, signal), (services.to_owned(), is.to_owned()), "{words:?} {signal:?}");
        }
    }
}
