//! The path of what could not be read, against serde_path_to_error, which keeps one while it reads.

use crate::plans::config;
use sampan_plan::Spec;
use sampan_plan::json_path::path;
use serde_json::{Value, json};

/// Each value of the default config (and of a few more fields) replaced by one of each type: what is refused is named alike.
#[test]
fn every_wrong_value_is_named_as_the_oracle_names_it() {
    let mut config = config();
    config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a", "b"],
        "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]});
    config["linux"]["resources"]["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 1}]);
    config["hooks"] = json!({"prestart": [{"path": "/a", "args": ["a"], "timeout": 3}]});
    config["annotations"] = json!({"odd ,:{[ key": "x"});
    let mut pointers = Vec::new();
    below(&config, String::new(), &mut pointers);
    let mut refused = 0;
    for pointer in pointers {
        for wrong in [json!("x"), json!(-1.5), json!(true), json!([[]]), json!({"a": {"b": [0]}})] {
            let mut config = config.clone();
            *config.pointer_mut(&pointer).unwrap() = wrong;
            for text in [config.to_string(), serde_json::to_string_pretty(&config).unwrap()] {
                refused += usize::from(agree(&text));
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

fn below(value: &Value, pointer: String, all: &mut Vec<String>) {
    let part = |name: &str| format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(object) => object.iter().for_each(|(name, v)| below(v, part(name), all)),
        Value::Array(array) => {
            array.iter().enumerate().for_each(|(i, v)| below(v, part(&i.to_string()), all))
        }
        _ => {}
    }
    all.push(pointer);
}

/// True if the text was refused.
fn agree(text: &str) -> bool {
    let Err(plain) = serde_json::from_str::<Spec<'_>>(text) else { return false };
    let oracle =
        serde_path_to_error::deserialize::<_, Spec<'_>>(&mut serde_json::Deserializer::from_str(text));
    let wanted = oracle.unwrap_err().path().to_string();
    let ours = path(text, plain.line(), plain.column());
    assert_eq!(if ours.is_empty() { "." } else { &ours }, wanted, "{plain}\n{text}");
    true
}

#[test]
fn a_text_that_ends_or_breaks_is_named_up_to_there() {
    let at_end =
        |text: &str| path(text, text.lines().count().max(1), text.lines().last().unwrap_or("").len());
    assert_eq!(at_end(""), "");
    assert_eq!(at_end("{"), "");
    assert_eq!(at_end(r#"{"a": {"b": [0, {"c": "no e"#), "a.b[1].c");
    assert_eq!(at_end(r#"{"a": {"b": 1}, "c"#), "c");
    assert_eq!(at_end("{\"a\": [\n[],\n[1, [\n"), "a[1][1]");
    assert_eq!(at_end(r#"{"a \" {[": [1]}"#), "");
    assert_eq!(path("{\"ä\": 1", 1, 3), "", "in the middle of a character");
    assert_eq!(path("{\"a\": 1", 7, 900), "a", "beyond the end");
}

proptest::proptest! {
    #[test]
    fn any_text_at_any_place_is_survived(text in r#"[\[\]{}:,"\\a1é \n]{0,60}"#, line in 0usize..5, column in 0usize..70) {
        let _ = path(&text, line, column);
    }
}
