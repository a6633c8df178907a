//! One GET, written by hand: a status is all that is asked, and a client library would bring pools, redirects and a
//! resolver that must not be used here. What is read is bounded; interim answers (1xx) are passed over.

use super::{Answer, OUTPUT_BYTES_MAX, tcp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Of the answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

pub async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    host: &str,
    port: u16,
    path: &str,
    status: (u16, u16),
) -> Answer {
    let request = request(host, port, path)?;
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|e| format!("write the request: {}", tcp::plain(&e)))?;
    let mut read = Vec::with_capacity(1024);
    loop {
        if let Some(head) = head(&read)? {
            if (100..200).contains(&head.status) {
                read.drain(..head.len);
                continue;
            }
            let ok = (status.0..=status.1).contains(&head.status);
            // The rest of the body is not waited for: a server may take its time with it.
            let body = read.get(head.len..).unwrap_or_default();
            let body = body.get(..OUTPUT_BYTES_MAX).unwrap_or(body);
            return Ok((ok, [format!("HTTP {}\n", head.status).as_bytes(), body].concat()));
        }
        if read.len() >= HEAD_BYTES_MAX {
            return Err(format!("the answer's head is longer than {} KiB", HEAD_BYTES_MAX / 1024));
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) if read.is_empty() => return Err("closed without an answer".to_owned()),
            Ok(0) => return Err("closed in the middle of the answer's head".to_owned()),
            Ok(n) => read.extend(part.iter().take(n)),
            Err(e) => return Err(format!("read the answer: {}", tcp::plain(&e))),
        }
    }
}

/// `Connection: close`: one connection, one question. Nothing in the path may end the line.
fn request(host: &str, port: u16, path: &str) -> Result<String, String> {
    let bad = |text: &str| text.bytes().any(|b| b <= b' ' || b == 0x7f);
    if bad(path) || bad(host) || !path.starts_with('/') {
        return Err(format!("no such request: host {host:?}, path {path:?}"));
    }
    let port = if port == 80 { String::new() } else { format!(":{port}") };
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: sampan\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ))
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    len: usize,
}

/// None: not all of it is here yet. RFC 9112 §2.2 lets a line end with a bare LF.
fn head(read: &[u8]) -> Result<Option<Head>, String> {
    let start = read.get(..read.len().min(5)).unwrap_or_default();
    if !b"HTTP/".starts_with(start) {
        return Err("the answer is no HTTP/1".to_owned());
    }
    let end = |mark: &[u8]| read.windows(mark.len()).position(|w| w == mark).map(|at| at + mark.len());
    let len = match (end(b"\r\n\r\n"), end(b"\n\n")) {
        (Some(a), Some(b)) => a.min(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return Ok(None),
    };
    let line = read.split(|b| *b == b'\n').next().unwrap_or_default();
    let code = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let code = code.strip_suffix(b"\r").unwrap_or(code);
    let digits = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
    let status = std::str::from_utf8(code).ok().filter(|_| digits).and_then(|code| code.parse().ok());
    match status {
        Some(status) => Ok(Some(Head { status, len })),
        None => Err("the answer has no status".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match head(text.as_bytes()) {
            Ok(Some(head)) => format!("{} after {}", head.status, head.len),
            Ok(None) => "more".to_owned(),
            Err(e) => e,
        }
    }

    #[test]
    fn heads() {
        for (text, expected) in [
            ("", "more"),
            ("HT", "more"),
            ("HTTP/1.1 200 OK\r\nA: b\r\n", "more"),
            ("HTTP/1.1 200 OK\r\n\r\nbody", "200 after 19"),
            ("HTTP/1.1 204\r\n\r\n", "204 after 16"),
            ("HTTP/1.0 503 Busy\nA: b\n\nbody\r\n\r\n", "503 after 24"),
            ("SSH-2.0-OpenSSH", "the answer is no HTTP/1"),
            ("HTTP/1.1 OK\r\n\r\n", "the answer has no status"),
            ("HTTP/1.1 20x OK\r\n\r\n", "the answer has no status"),
            ("HTTP/1.1 +20 OK\r\n\r\n", "the answer has no status"),
        ] {
            assert_eq!(parsed(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_path_cannot_smuggle_a_second_line() {
        assert!(request("localhost", 80, "/ok HTTP/1.1\r\nX: y").is_err());
        assert!(request("local\nhost", 80, "/").is_err());
        let request = request("localhost", 8080, "/health?x=1").unwrap();
        assert!(request.starts_with("GET /health?x=1 HTTP/1.1\r\nHost: localhost:8080\r\n"), "{request}");
    }

    async fn answered(parts: &[&str]) -> Answer {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        for part in parts {
            theirs.write_all(part.as_bytes()).await.unwrap();
        }
        theirs.shutdown().await.unwrap();
        get(&mut ours, "localhost", 80, "/", (200, 399)).await
    }

    #[tokio::test]
    async fn answers() {
        let answer = |ok: bool, text: &str| Ok((ok, text.as_bytes().to_vec()));
        assert_eq!(answered(&["HTTP/1.1 200 OK\r\n\r\nfine"]).await, answer(true, "HTTP 200\nfine"));
        assert_eq!(answered(&["HTTP/1.1 500 No\r\n\r\n"]).await, answer(false, "HTTP 500\n"));
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        assert_eq!(answered(&[hint, "HTTP/1.1 301 Moved\r\n\r\n"]).await, answer(true, "HTTP 301\n"));
        assert_eq!(answered(&[]).await, Err("closed without an answer".to_owned()));
        assert_eq!(
            answered(&["HTTP/1.1 2"]).await,
            Err("closed in the middle of the answer's head".to_owned())
        );
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(answered(&[&endless]).await, Err("the answer's head is longer than 64 KiB".to_owned()));
    }
}
