//! Keys that end a session, as docker writes them: `ctrl-p,ctrl-q`, or letters with commas between.

/// The bytes that a terminal sends for them; none: no keys do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

impl Keys {
    pub fn parse(text: &str) -> Result<Keys, String> {
        if text.is_empty() {
            return Ok(Keys(Vec::new()));
        }
        let one = |word: &str| match word.as_bytes() {
            [key] => Ok(*key),
            [b'c', b't', b'r', b'l', b'-', key] if is_control(*key) => Ok(key.to_ascii_uppercase() & 0x1f),
            _ => Err(format!("{word:?} is no key: write a letter or ctrl-p, with commas between")),
        };
        Ok(Keys(text.split(',').map(one).collect::<Result<_, _>>()?))
    }
}

/// Keys that a terminal makes a control character of.
fn is_control(key: u8) -> bool {
    key.is_ascii_alphabetic() || matches!(key, b'@' | b'[' | b'\\' | b']' | b'^' | b'_')
}

/// What is typed, looked through for the keys.
#[derive(Debug)]
pub struct Typed {
    keys: Vec<u8>,
    /// So many of them were typed last, and are held back until it is clear what they are.
    held: usize,
}

impl Typed {
    pub fn new(keys: &Keys) -> Typed {
        Typed { keys: keys.0.clone(), held: 0 }
    }

    /// Adds to `pass` what goes to the service; true: the keys are complete, and what comes after them is nobody's.
    pub fn take(&mut self, typed: &[u8], pass: &mut Vec<u8>) -> bool {
        for byte in typed {
            let mut tail: Vec<u8> = self.keys.iter().take(self.held).copied().collect();
            tail.push(*byte);
            while !self.keys.starts_with(&tail) {
                pass.push(tail.remove(0));
            }
            self.held = tail.len();
            if self.held == self.keys.len() && self.held > 0 {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_docker_has_them() {
        for (text, bytes) in
            [("ctrl-p,ctrl-q", &[16, 17][..]), ("ctrl-@", &[0]), ("ctrl-[", &[27]), ("a,ctrl-A,,", b"a")]
        {
            match Keys::parse(text) {
                Ok(keys) => assert_eq!(keys.0, bytes, "{text}"),
                Err(error) => {
                    assert!(text.ends_with(",,") && error.contains("\"\" is no key"), "{text}: {error}")
                }
            }
        }
        for text in ["ctrl-", "ctrl-1", "control-p", "ab", "é"] {
            assert!(Keys::parse(text).is_err(), "{text}");
        }
    }

    /// All that goes on to the service, and whether the keys came; for each way to cut what is typed in two.
    fn typed(keys: &str, text: &[u8]) -> (Vec<u8>, bool) {
        let mut all = None;
        for cut in 0..=text.len() {
            let (mut typed, mut pass) = (Typed::new(&Keys::parse(keys).unwrap()), Vec::new());
            let over = typed.take(&text[..cut], &mut pass) || typed.take(&text[cut..], &mut pass);
            assert_eq!(*all.get_or_insert((pass.clone(), over)), (pass, over), "{cut}");
        }
        all.unwrap()
    }

    #[test]
    fn keys_are_found_however_they_are_cut_and_what_is_none_goes_on() {
        for (keys, text, pass, over) in [
            ("ctrl-p,ctrl-q", &b"ls\x10\x11rm"[..], &b"ls"[..], true),
            ("ctrl-p,ctrl-q", b"\x10x", b"\x10x", false),
            ("ctrl-p,ctrl-q", b"\x10\x10\x11", b"\x10", true),
            ("a,a,b", b"aaab", b"a", true),
            ("a,a,b", b"aac", b"aac", false),
            ("", b"\x10\x11", b"\x10\x11", false),
        ] {
            assert_eq!(typed(keys, text), (pass.to_vec(), over), "{keys} {text:?}");
        }
    }
}
