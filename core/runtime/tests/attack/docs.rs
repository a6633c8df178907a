//! docs/security.md's table is the attacks' own.

use super::Adversary;
use super::table::ATTACKS;

const BEGIN: &str = "<!-- generated from core/runtime/tests/attack/table.rs: \
                     SAMPAN_WRITE_DOCS=1 cargo test -p sampan-runtime the_docs -->\n";
const END: &str = "<!-- end of the generated part -->\n";

fn generated() -> String {
    let mut text =
        String::from("| attack | known as | by | what holds | tested as |\n|---|---|---|---|---|\n");
    for a in ATTACKS {
        let by = match a.by {
            Adversary::Image => "image",
            Adversary::Inside => "inside",
            Adversary::User => "user",
            Adversary::Caller => "caller",
        };
        let (tried, holds) = (a.tried, a.defence.what().trim());
        text += &format!("| {tried} | {} | {by} | {holds} | `{}` |\n", a.known_as, a.name);
    }
    text
}

#[test]
fn the_docs_table_is_that_of_the_attacks() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let old = std::fs::read_to_string(path).unwrap();
    let (before, rest) = old.split_once(BEGIN).expect("docs/security.md: where the table begins");
    let (_, after) = rest.split_once(END).expect("docs/security.md: where the table ends");
    let new = format!("{before}{BEGIN}\n{}\n{END}{after}", generated());
    if std::env::var_os("SAMPAN_WRITE_DOCS").is_some() {
        std::fs::write(path, &new).unwrap();
    }
    let old = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        old, new,
        "docs/security.md is old: SAMPAN_WRITE_DOCS=1 cargo test -p sampan-runtime the_docs"
    );
}
