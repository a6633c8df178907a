//! Where in a JSON text its reader stopped: `linux.resources.devices[3].major`, for the error that names a field.
//!
//! The reader says line and column; the text up to there says which keys and indices were open.  So the spec's types need no
//! second reader that keeps a path: it would be a tenth of `sampan`.  Deliberately absent: any judgement of the text, which may
//! be broken at its end and is right before.

/// What is open at some point of the text.
enum Open<'t> {
    /// The key read last; none before the first, and after a comma.
    Object(Option<&'t str>),
    /// The index of the element that has begun; none before the first.
    Array(Option<usize>),
}

/// The path at a place as serde_json counts: lines from 1, columns in bytes read. Empty at the top.
pub fn path(text: &str, line: usize, column: usize) -> String {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut end = text.len().min(start.saturating_add(column));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (read, next) = text.split_at(end);
    let mut open = Vec::new();
    let mut rest = read;
    let mut before_key = false;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        if let Some(Open::Array(index @ None)) = open.last_mut()
            && !c.is_ascii_whitespace()
            && c != ']'
        {
            *index = Some(0);
        }
        match c {
            '{' => {
                open.push(Open::Object(None));
                before_key = true;
            }
            '[' => open.push(Open::Array(None)),
            '}' | ']' => drop(open.pop()),
            ':' => before_key = false,
            ',' => match open.last_mut() {
                Some(Open::Object(key)) => {
                    *key = None;
                    before_key = true;
                }
                Some(Open::Array(index)) => *index = index.map(|i| i + 1),
                None => {}
            },
            '"' => {
                let string = string(rest);
                rest = rest.get(string.len() + 1..).unwrap_or_default();
                if let (true, Some(Open::Object(key))) = (before_key, open.last_mut()) {
                    *key = Some(string);
                }
            }
            _ => {}
        }
    }
    // Of an element that is a list or an object not even the bracket has been read when its type is refused.
    if let (Some(Open::Array(index @ None)), true) =
        (open.last_mut(), next.trim_start().starts_with(['[', '{']))
    {
        *index = Some(0);
    }
    shown(&open)
}

/// The inside of a string whose opening quote has been read, escapes as they stand.
fn string(text: &str) -> &str {
    let mut escaped = false;
    let end = text.find(|c| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

fn shown(open: &[Open<'_>]) -> String {
    let mut path = String::new();
    for part in open {
        match part {
            Open::Object(Some(key)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Open::Array(Some(index)) => path.push_str(&format!("[{index}]")),
            Open::Object(None) | Open::Array(None) => {}
        }
    }
    path
}
