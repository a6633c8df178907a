//! `${V}`, `${V:-text}`, `${V:?message}`, `$$`. Empty is unset; a `$` before anything else stays. Pure: the environment
//! is an argument.

/// A variable without a value, or one badly written; `part` is the text of the `${...}` concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub part: String,
    pub message: String,
    pub hint: String,
}

pub fn substitute(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Trouble> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(body) = rest.strip_prefix("${") {
            let Some(end) = body.find('}') else {
                return Err(trouble(
                    rest,
                    "`${` without a `}`",
                    "close it, or write `$${` for the text itself",
                ));
            };
            let part = &rest[..end + 3];
            out.push_str(&value(part, &body[..end], env)?);
            rest = &body[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether substitution would look at the environment.
pub fn has_variable(text: &str) -> bool {
    text.replace("$$", "").contains("${")
}

/// `text` so that `substitute` gives it back.
pub fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

fn value(part: &str, body: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Trouble> {
    let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
    let (name, operator) = body.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(trouble(
            part,
            "not a variable's name",
            "`${V}`, `${V:-text}`, `${V:?message}`; `$$` is a `$`",
        ));
    }
    let set = env(name).filter(|v| !v.is_empty());
    let unset = format!("variable {name} is not set");
    if operator.is_empty() {
        let hint = format!("set it in sampand's environment or write ${{{name}:-text}}");
        set.ok_or_else(|| trouble(part, &unset, &hint))
    } else if let Some(text) = operator.strip_prefix(":-") {
        Ok(set.unwrap_or_else(|| text.to_string()))
    } else if let Some(message) = operator.strip_prefix(":?") {
        set.ok_or_else(|| trouble(part, &unset, message))
    } else {
        Err(trouble(
            part,
            "no such form of a variable",
            "`${V}`, `${V:-text}`, `${V:?message}`; `$$` is a `$`",
        ))
    }
}

fn trouble(part: &str, message: &str, hint: &str) -> Trouble {
    Trouble { part: part.into(), message: message.into(), hint: hint.into() }
}
