//! Text for people: without what a terminal would act on. An image, a hook or a program inside may have said it, and a program may
//! call itself anything.
use serde_json::Value;

/// What is one line, or a part of one.
pub fn line(text: &str) -> String {
    without(text, char::is_control)
}

/// What may have several.
pub fn text(text: &str) -> String {
    without(text, |c| c.is_control() && !matches!(c, '\n' | '\t'))
}

/// All texts of a reply that is to be shown.
pub fn reply(value: Value) -> Value {
    match value {
        Value::String(of) => text(&of).into(),
        Value::Array(all) => all.into_iter().map(reply).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (text(&name), reply(value))).collect()
        }
        other => other,
    }
}

fn without(text: &str, is_harmful: impl Fn(char) -> bool) -> String {
    text.chars().map(|c| if is_harmful(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_of_a_reply_does_anything_to_a_terminal() {
        let harmful = "a\u{1b}]0;x\u{7}\r\u{9b}31m\u{7f}b\n\tc";
        let shown = "a\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}31m\u{fffd}b\n\tc";
        assert_eq!(
            reply(json!({ "n": 1, harmful: [harmful, { "in": harmful }] })),
            json!({ "n": 1, shown: [shown, { "in": shown }] })
        );
        assert!(!line(harmful).contains(char::is_control));
    }
}
