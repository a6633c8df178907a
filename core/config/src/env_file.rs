//! dotenv files as compose reads them: `K=V` a line, `export` allowed, `#` comments, a byte order mark at the beginning is
//! none of it, single quotes literal but for `\'`, double quotes with the escapes \n \r \t \" \\ \$. Unlike there no variables
//! are substituted: a password may hold a `$`.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub value: String,
}

/// Or the line that is wrong, from 1, and how. The text of the line is not part of it.
pub fn parse(text: &str) -> Result<Vec<Entry>, (usize, &'static str)> {
    let mut entries = Vec::new();
    let mut at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while at < text.len() {
        let wrong = |why| (text[..at].matches('\n').count() + 1, why);
        let line_end = text[at..].find('\n').map_or(text.len(), |n| at + n);
        let line = &text[at..line_end];
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            at = line_end + 1;
            continue;
        }
        let entry = trimmed.strip_prefix("export ").unwrap_or(trimmed).trim_start();
        let Some((name, _)) = entry.split_once('=') else { return Err(wrong("no `=`")) };
        let name = name.trim_end();
        if !is_name(name) {
            return Err(wrong("not a variable's name before `=`"));
        }
        let value_at = at + line.find('=').map_or(0, |n| n + 1);
        let (value, next) = value(text, value_at, line_end).map_err(wrong)?;
        if value.contains('\0') {
            return Err(wrong("a NUL byte, which no system call takes"));
        }
        entries.push(Entry { name: name.into(), value });
        at = next;
    }
    Ok(entries)
}

/// What may stand left of `=`.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '=' || c == '\0' || c.is_whitespace())
}

/// The value from `at` and where the next line begins; quoted values may span lines.
fn value(text: &str, at: usize, line_end: usize) -> Result<(String, usize), &'static str> {
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
                    return Err("text after the closing quote");
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
            '\\' if text[begin + 1 + i..].starts_with("\\'") => {
                out.push('\'');
                chars.next();
            }
            c => out.push(c),
        }
    }
    Err("a quote is not closed")
}
