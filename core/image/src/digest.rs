//! `sha256:..`: the name of content by what it is.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Error, Kind};

/// Checked when it is made: of a known algorithm, with as many hexadecimal digits as that gives, so it is a file's name too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    text: String,
}

impl Digest {
    pub fn parse(text: &str) -> Result<Digest, Error> {
        let digits = match text.split_once(':') {
            Some(("sha256", hex)) => (hex, 64),
            Some(("sha512", hex)) => (hex, 128),
            _ => return Err(refused(text, "it begins neither with sha256: nor with sha512:")),
        };
        let (hex, length) = digits;
        if hex.len() != length {
            return Err(refused(text, &format!("it has {} digits, and must have {length}", hex.len())));
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refused(text, "its digits must be 0-9 and a-f"));
        }
        Ok(Digest { text: text.to_owned() })
    }

    /// Of bytes at hand.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::sha256();
        hasher.update(bytes);
        hasher.finish()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.text.split(':').next().unwrap_or_default()
    }

    /// The digits: a file's name.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.text.split(':').nth(1).unwrap_or_default()
    }

    /// What people look at.
    #[must_use]
    pub fn short(&self) -> &str {
        self.hex().get(..12).unwrap_or_default()
    }

    #[must_use]
    pub fn hasher(&self) -> Hasher {
        match self.algorithm() {
            "sha512" => Hasher::sha512(),
            _ => Hasher::sha256(),
        }
    }
}

fn refused(text: &str, why: &str) -> Error {
    let shown: String = text.chars().take(140).collect();
    Error::new(Kind::BadImage, format!("{shown:?} is no digest"), why)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Digest, Error> {
        Digest::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.text
    }
}

/// Takes content in pieces.
pub enum Hasher {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    #[must_use]
    pub fn sha256() -> Hasher {
        Hasher::Sha256(Box::new(Sha256::new()))
    }

    #[must_use]
    pub fn sha512() -> Hasher {
        Hasher::Sha512(Box::new(Sha512::new()))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    #[must_use]
    pub fn finish(self) -> Digest {
        let (name, bytes) = match self {
            Hasher::Sha256(hasher) => ("sha256:", hasher.finalize().to_vec()),
            Hasher::Sha512(hasher) => ("sha512:", hasher.finalize().to_vec()),
        };
        let mut text = String::from(name);
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
        }
        Digest { text }
    }
}

/// What is read through it is hashed.
pub struct Hashed<R> {
    reader: R,
    hasher: Hasher,
}

impl<R: Read> Hashed<R> {
    pub fn new(reader: R, hasher: Hasher) -> Hashed<R> {
        Hashed { reader, hasher }
    }

    /// To its end: the digest of all of it.
    pub fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hasher.finish())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_files_name_is_a_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert_eq!(Digest::parse(empty).unwrap().short(), "e3b0c44298fc");
        let long = format!("sha512:{}", "0".repeat(128));
        assert_eq!(Digest::parse(&long).unwrap().algorithm(), "sha512");
        for wrong in [
            "",
            "sha256:",
            "sha256",
            "md5:e3b0c44298fc1c149afbf4c8996fb924",
            &empty[..70],
            &empty.to_uppercase(),
            &empty.replace('e', "/"),
            &format!("{empty}0"),
        ] {
            assert!(Digest::parse(wrong).is_err(), "{wrong}");
        }
    }
}
