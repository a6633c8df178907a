//! Whether an output looks as a page shows it: numbers, times and dates are others on each machine, the words are the same.

/// A word of so many hexadecimal digits is one, or the beginning of one.
const DIGEST: usize = 12;

/// A line without what differs from run to run: numbers with their units, names of days and months, widths of columns.
pub fn shape(line: &str) -> String {
    let mut shape = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let is_start = !shape.ends_with(|c: char| c.is_ascii_alphanumeric());
        if is_start && word >= DIGEST && rest[..word].chars().all(|c| c.is_ascii_hexdigit()) {
            shape.push_str("DIGEST");
            rest = &rest[word..];
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            let units = ["ms", "us", "ns", "h", "m", "s", "d"];
            let unit = units.iter().find(|unit| {
                rest.strip_prefix(**unit).is_some_and(|next| !next.starts_with(|c: char| c.is_alphabetic()))
            });
            rest = unit.map_or(rest, |unit| &rest[unit.len()..]);
            shape.push('N');
        } else {
            shape.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words = shape.split_whitespace().map(|word| match word {
        day if days.contains(&day) => "DAY",
        month if months.contains(&month) => "MONTH",
        // A line is as wide as its column.
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `...`, whatever is drawn before it: some lines were left out.
pub fn is_gap(line: &str) -> bool {
    line.trim_start_matches(['|', ' ']).trim_end() == "..."
}

/// Is `real` what the page shows? Empty lines do not count.
pub fn is_alike(shown: &[String], real: &[String]) -> bool {
    fn alike(shown: &[&String], real: &[String]) -> bool {
        match (shown.split_first(), real.split_first()) {
            (None, None) => true,
            (Some((gap, after)), _) if is_gap(gap) => {
                alike(after, real) || real.split_first().is_some_and(|(_, rest)| alike(shown, rest))
            }
            (Some((one, shown)), Some((other, real))) => *one == other && alike(shown, real),
            _ => false,
        }
    }
    let is_text = |line: &&String| !line.trim().is_empty();
    let of = |lines: &[String]| -> Vec<String> {
        lines
            .iter()
            .filter(is_text)
            .map(|line| if is_gap(line) { "...".to_owned() } else { shape(line) })
            .collect()
    };
    let shown = of(shown);
    alike(&shown.iter().collect::<Vec<_>>(), &of(real))
}

#[test]
fn numbers_differ_and_words_do_not() {
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let is = |shown, real| is_alike(&lines(shown), &lines(real));
    assert!(is("web  running 9.4s  0", "web     running 12m     3"));
    assert!(is("Wed Nov 25 02:38:14 UTC 2026", "Tue Dec  1 11:00:00 UTC 2027"));
    assert!(is("a\n...\nd\n", "a\nb\nc\nd\n") && is("a\n  ...\n", "a\n") && is("| ...\nb", "a\nb"));
    assert!(!is("a\n...\nd\n", "a\nb\n") && !is("a", "b") && !is("a", "a\nb") && !is("", "a"));
    assert!(is("sha256:d425d08c273d78cd", "sha256:00000000000000ff") && !is("deadbeef", "decade"));
    assert!(!is("running 3s", "running 3steps"));
}
