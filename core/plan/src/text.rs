//! The string table of an image: every string once, NUL-terminated, steps hold offsets into it.

use crate::error::Error;
use sampan_child::step::{List, Numbers, Text};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Table {
    bytes: Vec<u8>,
    /// By hash: two strings with one hash are rare, and the second is then simply there twice.
    known: BTreeMap<u64, u32>,
}

impl Table {
    /// `field` is what to blame for a string that no C string can hold.
    pub fn add(&mut self, text: &str, field: &str) -> Result<Text, Error> {
        if text.as_bytes().contains(&0) {
            return Err(Error::new(field, "holds a NUL, which no path or argument can"));
        }
        Ok(self.known_or_new(text.as_bytes()))
    }

    /// A string of our own making, without a NUL.
    pub fn own(&mut self, text: &str) -> Text {
        self.known_or_new(text.replace('\0', "").as_bytes())
    }

    fn known_or_new(&mut self, text: &[u8]) -> Text {
        let key = hash(text);
        if let Some(at) = self.known.get(&key)
            && self.bytes.get(*at as usize..).and_then(|b| b.strip_prefix(text)?.first()) == Some(&0)
        {
            return Text(*at);
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        self.known.insert(key, at);
        Text(at)
    }

    /// Strings that must follow each other.
    pub fn list<'s>(
        &mut self,
        strings: impl IntoIterator<Item = &'s str>,
        field: &str,
    ) -> Result<List, Error> {
        let mut list = List { first: Text(self.bytes.len() as u32), count: 0 };
        for (index, s) in strings.into_iter().enumerate() {
            if s.as_bytes().contains(&0) {
                return Err(Error::new(
                    format!("{field}[{index}]"),
                    "holds a NUL, which no path or argument can",
                ));
            }
            self.bytes.extend_from_slice(s.as_bytes());
            self.bytes.push(0);
            list.count += 1;
        }
        Ok(list)
    }

    /// Numbers that a step holds a list of.
    pub fn numbers(&mut self, numbers: impl IntoIterator<Item = u32>) -> Numbers {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_ne_bytes).collect();
        Numbers { count: (bytes.len() / 4) as u32, first: self.raw(&bytes) }
    }

    /// Bytes that are no strings, aligned to eight.
    pub fn raw(&mut self, bytes: &[u8]) -> Text {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Text(at)
    }

    /// The table, ending in NUL as an image must.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

/// FNV-1a.
fn hash(text: &[u8]) -> u64 {
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
