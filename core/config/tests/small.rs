//! Units, variables, words, globs, dotenv: tables, and what must hold for any input.

use proptest::prelude::*;
use sampan_config::{self as config, Builtin, env_file, glob, units, variables, words};

use super::{Folder, env};

#[test]
fn durations() {
    for (text, micros) in [
        ("0s", 0),
        ("1us", 1),
        ("250ms", 250_000),
        ("1m30s", 90_000_000),
        ("1.5h", 5_400_000_000),
        ("0.1s", 100_000),
        ("1d", 86_400_000_000),
        ("1m 30s", 90_000_000),
    ] {
        assert_eq!(units::parse_duration(text).unwrap().as_micros(), micros, "{text}");
    }
    for text in [
        "",
        "5",
        "s",
        "5x",
        "1..5s",
        "-1s",
        "1e3s",
        "99999999999999999999d",
        "1s5",
        "1.2.3s",
        ".s",
        "9000000d",
    ] {
        assert!(units::parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0", 0),
        ("5", 5),
        ("5b", 5),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("512M", 512 << 20),
        ("1.5g", 3 << 29),
        ("1T", 1 << 40),
        ("2 M", 2 << 20),
    ] {
        assert_eq!(units::parse_size(text).unwrap(), bytes, "{text}");
    }
    for text in ["", "M", "5X", "-5", "1e6", "99999999T", "1.2.3M", "0x10"] {
        assert!(units::parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn signals() {
    for (text, number) in [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigkill", 9),
        ("15", 15),
        ("SIGRTMIN+3", libc::SIGRTMIN() + 3),
        ("RTMAX-1", libc::SIGRTMAX() - 1),
    ] {
        assert_eq!(units::parse_signal(text), Some(number), "{text}");
    }
    for text in ["", "0", "-1", "99", "SIGFOO", "SIGRTMIN+99", "SIGRTMAX-99"] {
        assert_eq!(units::parse_signal(text), None, "{text}");
    }
    for number in 1..=libc::SIGRTMAX() {
        if number < 32 || number >= libc::SIGRTMIN() {
            assert_eq!(units::parse_signal(&units::show_signal(number)), Some(number));
        }
    }
}

#[test]
fn substitution() {
    for (text, expected) in [
        ("a", "a"),
        ("$", "$"),
        ("$a", "$a"),
        ("$$", "$"),
        ("$${NAME}", "${NAME}"),
        ("$$$", "$$"),
        ("x${NAME}y", "xvaluey"),
        ("${NONE:-}", ""),
        ("${NONE:-a b}", "a b"),
        ("${EMPTY:-e}", "e"),
        ("${NAME:-x}${PORT}", "value8080"),
        ("${DOLLAR}", "a$b${c}"),
    ] {
        assert_eq!(variables::substitute(text, &env).as_deref(), Ok(expected), "{text}");
    }
    for text in
        ["${NONE}", "${EMPTY}", "${NONE:?}", "${", "${}", "${1A}", "${NAME-x}", "${NAME:x}", "x${NAME"]
    {
        assert!(variables::substitute(text, &env).is_err(), "{text}");
    }
}

#[test]
fn splitting() {
    for (text, expected) in [
        ("", vec![]),
        ("  ", vec![]),
        ("a b", vec!["a", "b"]),
        ("'a b'c", vec!["a bc"]),
        ("\"a \\\" \\x\"", vec!["a \" \\x"]),
        ("a\\ b", vec!["a b"]),
        ("''", vec![""]),
        ("a#b", vec!["a#b"]),
        ("$HOME", vec!["$HOME"]),
        ("a '|' \\;", vec!["a", "|", ";"]),
        ("a\\\nb", vec!["ab"]),
    ] {
        assert_eq!(words::split(text).unwrap(), expected, "{text}");
    }
    for text in ["'", "\"", "\\", "a | b", "a && b", "a > b", "`a`", "# a", "(a)", "a;"] {
        assert!(words::split(text).is_err(), "{text}");
    }
}

/// As compose's documentation has them.
#[test]
fn dotenv_as_compose_reads_it() {
    let read = |text: &str| {
        env_file::parse(text).unwrap().into_iter().map(|e| (e.name, e.value)).collect::<Vec<_>>()
    };
    for (text, value) in [
        ("\u{feff}V=first\n", "first"),
        (r"V='Let\'s go!'", "Let's go!"),
        (r"V='se\'#cret'", "se'#cret"),
        (r"V='a\b\n'", r"a\b\n"),
        (r#"V="a \"b\" \\ c""#, r#"a "b" \ c"#),
        ("V=\"it's\"", "it's"),
        ("V='say \"x\"'", "say \"x\""),
        ("V=it's # x", "it's"),
    ] {
        assert_eq!(read(text), [("V".to_owned(), value.to_owned())], "{text}");
    }
    assert!(env_file::parse(r"V='open\'").is_err(), "the last quote is escaped");
}

#[test]
fn dotenv() {
    let text = "# c\n\nexport A=1\nB = two words # c\nC='a # $b'\nD=\"x\\n\\\"y\\\"\" # c\nE=\nF=a#b\nG=\"two\nlines\"\nH=a=b\r\n";
    let entries = env_file::parse(text).unwrap();
    let pairs: Vec<(&str, &str)> = entries.iter().map(|e| (e.name.as_str(), e.value.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("A", "1"),
            ("B", "two words"),
            ("C", "a # $b"),
            ("D", "x\n\"y\""),
            ("E", ""),
            ("F", "a#b"),
            ("G", "two\nlines"),
            ("H", "a=b")
        ]
    );
    for (text, line) in
        [("A=a\0b", 1), ("A", 1), ("A=1\nB C=2", 2), ("=1", 1), ("A='x", 1), ("\nA='x' y", 2), ("A=\"x\\", 1)]
    {
        assert_eq!(env_file::parse(text).map_err(|(line, _)| line), Err(line), "{text}");
    }
}

#[test]
fn globs() {
    for (pattern, name, fits) in [
        ("*", "a", true),
        ("*", ".a", false),
        (".*", ".a", true),
        ("*.toml", "a.toml", true),
        ("*.toml", "toml", false),
        ("a*b*c", "aXbYc", true),
        ("a*b*c", "aXcYb", false),
        ("?", "a", true),
        ("?", "", false),
        ("[a-c]x", "bx", true),
        ("[a-c]x", "dx", false),
        ("[!a]", "b", true),
        ("[!a]", "a", false),
        ("web-*", "web-", true),
        ("[", "[", true),
        ("**", "a", true),
        ("[]]", "]", true),
    ] {
        assert_eq!(glob::fits(pattern, name), fits, "{pattern} {name}");
    }
}

proptest! {
    #[test]
    fn a_shown_duration_reads_back(micros in 0u64..=10_000 * 366 * 86_400_000_000) {
        let d = std::time::Duration::from_micros(micros);
        prop_assert_eq!(units::parse_duration(&units::show_duration(d)), Ok(d));
    }

    #[test]
    fn a_shown_size_reads_back(bytes in 0u64..=i64::MAX as u64) {
        prop_assert_eq!(units::parse_size(&units::show_size(bytes)), Ok(bytes));
    }

    #[test]
    fn escaped_text_survives_substitution(text in ".*") {
        prop_assert_eq!(variables::substitute(&variables::escape(&text), &|_| None), Ok(text));
    }

    #[test]
    fn quoted_words_split_into_themselves(words in prop::collection::vec("[^']*", 0..5)) {
        let text: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
        prop_assert_eq!(words::split(&text.join(" ")), Ok(words));
    }

    #[test]
    fn no_input_panics(text in ".{0,40}", pattern in "[a*?\\[\\]!-]{0,8}") {
        let _ = units::parse_duration(&text);
        let _ = units::parse_size(&text);
        let _ = units::parse_signal(&text);
        let _ = variables::substitute(&text, &env);
        let _ = words::split(&text);
        let _ = env_file::parse(&text);
        let _ = glob::fits(&pattern, &text);
    }

    #[test]
    fn a_single_star_fits_what_begins_and_ends_so(a in "[a-b]{0,4}", b in "[a-b]{0,4}", name in "[a-b]{0,8}") {
        let expected = name.len() >= a.len() + b.len() && name.starts_with(&a) && name.ends_with(&b);
        prop_assert_eq!(glob::fits(&format!("{a}*{b}"), &name), expected);
    }
}

#[test]
fn a_profile_that_is_active_is_kept_with_the_config_and_a_misspelt_one_is_told() {
    let service = |name: &str, keys: &str| {
        format!("[services.{name}]\nrootfs = \"/\"\ncommand = [\"a\"]\nuser = \"5\"\n{keys}\n")
    };
    let text = service("plain", "")
        + &service("dev", "profiles = [\"dev\"]")
        + &service("odd", "profiles = [\"x\"]");
    let folder = Folder::new().with("c.toml", &text);
    let profiles = ["dev".to_owned(), "devv".to_owned()].into();
    let builtin = Builtin { profiles, ..Builtin::default() };
    let loaded = config::load(&[folder.path("c.toml")], &|_| None, &builtin).unwrap();
    let loaded = config::again(&loaded.inputs).unwrap();
    let starts = |name: &str| loaded.config.starts_by_itself(&loaded.config.services[name]);
    assert_eq!(["plain", "dev", "odd"].map(starts), [true, true, false]);
    let told: Vec<_> = loaded.warnings.iter().map(|w| (w.title(), w.hint.clone())).collect();
    assert_eq!(
        told,
        [(
            "--profile devv: no service has this profile".to_owned(),
            "did you mean --profile dev?".to_owned()
        )]
    );
}
