//! PAX records: `LENGTH KEY=VALUE\n`, where the length counts all of it.

use super::{Time, bad};
use crate::error::Result;

/// Those that say something to us.
#[derive(Debug, Default)]
pub struct Records {
    path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Sparse,
}

/// GNU's three ways to tell of holes.
#[derive(Debug, Default)]
pub struct Sparse {
    pub major: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// 0.1: `offset,length,offset,length`.
    pub map: Option<Vec<u8>>,
    /// 0.0: one record for each number.
    pub numbers: Vec<u64>,
}

impl Records {
    pub fn parse(mut text: &[u8]) -> Result<Records> {
        let mut records = Records::default();
        while !text.is_empty() {
            let broken = || bad("PAX records that cannot be read");
            let space = text.iter().position(|b| *b == b' ').filter(|at| *at < 20).ok_or_else(broken)?;
            let length = decimal(text.get(..space).unwrap_or_default()).ok_or_else(broken)?;
            let length = usize::try_from(length).map_err(|_| broken())?;
            let record =
                text.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(broken)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(broken)?;
            let (key, value) =
                (record.get(..equals).unwrap_or_default(), record.get(equals + 1..).unwrap_or_default());
            records.take(key, value)?;
            text = text.get(length..).unwrap_or_default();
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || decimal(value).ok_or_else(|| bad(format!("PAX: {} is no number", super::show(key))));
        match key {
            b"path" => self.path = filled(value),
            b"linkpath" => self.link = filled(value),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(|| bad("PAX: mtime is no time"))?),
            b"GNU.sparse.major" => self.sparse.major = Some(number()?),
            b"GNU.sparse.name" => self.sparse.name = filled(value),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = Some(number()?),
            b"GNU.sparse.map" => self.sparse.map = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.numbers.push(number()?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// A sparse file's own name is in a record, for tar programs that know no holes.
    pub fn take_path(&mut self) -> Option<Vec<u8>> {
        let path = self.path.take();
        self.sparse.name.take().or(path)
    }
}

/// An empty value takes an earlier one away.
fn filled(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// `-12.345678901`
fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if !whole.starts_with('-') || nanoseconds == 0 {
        return Some(Time { seconds, nanoseconds });
    }
    Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_what_is_none_is_refused() {
        let records =
            Records::parse(b"11 uid=100\n18 mtime=-1.25000\n32 SCHILY.xattr.user.a=x\n=y\0zzz\n").unwrap();
        assert_eq!(records.uid, Some(100));
        assert_eq!(records.mtime, Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(records.xattrs, [(b"user.a".to_vec(), b"x\n=y\0zzz".to_vec())]);
        for wrong in [
            &b"5 a=b"[..],
            b"0 a=b\n",
            b"99 a=b\n",
            b"a=b\n",
            b"4 ab\n",
            b"18446744073709551616 a=b\n",
            b"11 uid=abc\n",
            b"3 =\n\n",
        ] {
            assert!(Records::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
