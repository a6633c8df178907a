//! dotenv files: `K=V` a line, `export` allowed, `#` comments, single quotes literal, double quotes with the escapes
//! \n \r \t \" \\ \$. No variables are substituted: a password may hold a `$`.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub value: String,
    /// Of the name, in bytes.
    pub start: usize,
    pub end: usize,
}

/// Or where it is wrong (a byte range) and how.
pub fn parse(text: &str) -> Result<Vec<Entry>, (std::ops::Range<usize>, String)> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |n| at + n);
        let line = &text[at..line_end];
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            at = line_end + 1;
            continue;
        }
        let mut start = at + (line.len() - line.trim_start().len());
        if let Some(rest) = trimmed.strip_prefix("export ") {
            start += trimmed.len() - rest.trim_start().len();
        }
        let Some(equals) = text[start..line_end].find('=') else {
            return Err((start..line_end.max(start), "expected K=V".into()));
        };
        let name = text[start..start + equals].trim_end();
        if !is_name(name) {
            return Err((start..start + equals, format!("`{name}` is not a variable's name")));
        }
        let value_at = start + equals + 1;
        let (value, next) = value(text, value_at, line_end)?;
        entries.push(Entry { name: name.into(), value, start, end: start + name.len() });
        at = next;
    }
    Ok(entries)
}

/// What may stand left of `=`.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '=' || c == '\0' || c.is_whitespace())
}

/// The value from `at` and where the next line begins; quoted values may span lines.
fn value(
    text: &str,
    at: usize,
    line_end: usize,
) -> Result<(String, usize), (std::ops::Range<usize>, String)> {
    let lead = text[at..line_end].len() - text[at..line_end].trim_start().len();
    let begin = at + lead;
    let quote = match text[begin..line_end].chars().next() {
        Some(c @ ('"' | '\'')) => c,
        _ => {
            let plain = &text[begin..line_end];
            // ` #` begins a comment, `a#b` does not.
            let end = if plain.starts_with('#') { 0 } else { plain.find(" #").unwrap_or(plain.len()) };
            return Ok((plain[..end].trim_end().to_string(), line_end + 1));
        }
    };
    let mut out = String::new();
    let mut chars = text[begin + 1..].char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            c if c == quote => {
                let after = begin + 1 + i + 1;
                let end = text[after..].find('\n').map_or(text.len(), |n| after + n);
                let tail = text[after..end].trim();
                if !tail.is_empty() && !tail.starts_with('#') {
                    return Err((after..end, "text after the closing quote".into()));
                }
                return Ok((out, end + 1));
            }
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, 't')) => out.push('\t'),
                Some((_, c @ ('"' | '\\' | '$'))) => out.push(c),
                Some((_, c)) => out.extend(['\\', c]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err((begin..line_end, "a quote is not closed".into()))
}
