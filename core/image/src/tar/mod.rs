//! Archives, read from front to back: ustar, PAX, GNU's long names and all four forms of sparse files.
//!
//! The blocks are taken apart by the crate `tar`. Its own iterator holds a name or a list of records in memory whatever its
//! size, does not know PAX's sparse files, and so it is not used for what a stranger made.

mod pax;
mod sparse;

use std::io::Read;

use tar::Header;

use self::pax::Records;
pub use self::sparse::Segment;
use crate::error::{Error, Kind as Fault, Result, from_reader};
use crate::limits::{PATH_BYTES, PAX_BYTES};

pub const BLOCK: u64 = 512;
const READ: &str = "cannot read the archive";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Folder,
    Fifo,
}

/// One member, without its data: that is read from the archive before the next one.
#[derive(Debug, Clone)]
pub struct Entry {
    pub kind: Kind,
    pub path: Vec<u8>,
    /// What a link leads to.
    pub target: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// Bytes in the archive.
    pub stored: u64,
    /// Bytes in the file, holes with them.
    pub size: u64,
    /// Where in the file the stored bytes belong, if it has holes.
    pub segments: Option<Vec<Segment>>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Is it a device: which.
    pub device: (u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

#[derive(Debug)]
pub struct Archive<R> {
    reader: R,
    /// Of the entry's data, and then of what fills its last block.
    left: u64,
    padding: u64,
}

fn bad(why: impl std::fmt::Display) -> Error {
    Error::bad(READ, why)
}

impl<R: Read> Archive<R> {
    pub fn new(reader: R) -> Archive<R> {
        Archive { reader, left: 0, padding: 0 }
    }

    pub fn into_inner(self) -> R {
        self.reader
    }

    /// The next member; what was not read of the last one is passed over.
    pub fn member(&mut self) -> Result<Option<Entry>> {
        self.skip()?;
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(block) = self.header()? else { return Ok(None) };
            let header = Header::from_byte_slice(&block);
            let size = number(&header.as_old().size, "size")?;
            match header.entry_type().as_byte() {
                b'x' => records = Records::parse(&self.text(size, PAX_BYTES, "PAX records")?)?,
                // Of all members that follow: what git and docker write there is of no use to us.
                b'g' => drop(self.text(size, PAX_BYTES, "PAX records")?),
                b'L' => long_name = Some(self.name(size)?),
                b'K' => long_link = Some(self.name(size)?),
                _ => return self.entry(header, size, records, long_name, long_link).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        mut records: Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let size = records.size.unwrap_or(size);
        let path = records.take_path().or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let target = records.link.take().or(long_link);
        let target = target.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        for name in [&path, &target] {
            if name.len() > PATH_BYTES {
                return Err(bad("a name of more than 4,095 bytes"));
            }
            if name.contains(&0) {
                return Err(bad("a name with a NUL in it"));
            }
        }
        let kind = kind(header, &path)?;
        // An old folder, known by its name alone, may have data: it is passed over.
        let has_data = matches!(header.entry_type().as_byte(), b'0' | 0 | b'7' | b'S');
        // Some writers give a hard link the size of its file, and no data; so do Go and GNU tar read it.
        self.expect(if has_data { size } else { 0 })?;
        let old = header.as_old();
        let id = |record: Option<u64>, field: &[u8], name| -> Result<u32> {
            let id = record.map_or_else(|| number(field, name), Ok)?;
            u32::try_from(id).map_err(|_| bad(format!("{}: the {name} {id} is too large", show(&path))))
        };
        let device = |part: std::io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
        let mut entry = Entry {
            kind,
            uid: id(records.uid, &old.uid, "uid")?,
            gid: id(records.gid, &old.gid, "gid")?,
            mode: u32::try_from(number(&old.mode, "mode")? & 0o7777).unwrap_or_default(),
            mtime: records.mtime.unwrap_or(Time { seconds: signed(&old.mtime).unwrap_or(0), nanoseconds: 0 }),
            stored: self.left,
            size: self.left,
            segments: None,
            xattrs: std::mem::take(&mut records.xattrs),
            device: (device(header.device_major()), device(header.device_minor())),
            path,
            target,
        };
        if kind == Kind::File {
            sparse::find(self, header, &records, &mut entry)?;
        }
        Ok(entry)
    }

    /// Of the entry's data.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..room).filter(|b| !b.is_empty()) else { return Ok(0) };
        let n = self.read_raw(buffer)?;
        if n == 0 {
            return Err(bad("it ends in the middle of a file"));
        }
        self.left -= n as u64;
        Ok(n)
    }

    /// All of `buffer` from the entry's data.
    pub fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let n = self.read(buffer)?;
            if n == 0 {
                return Err(bad("the data of a file is shorter than its map of holes says"));
            }
            buffer = buffer.get_mut(n..).unwrap_or_default();
        }
        Ok(())
    }

    fn read_raw(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.reader.read(buffer) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other.map_err(|e| from_reader(e, Fault::BadImage, READ)),
            }
        }
    }

    /// What is left of the entry.
    fn skip(&mut self) -> Result<()> {
        let mut piece = [0; 16 << 10];
        let mut left = self.left.checked_add(self.padding).ok_or_else(|| bad("a size beyond all bounds"))?;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let n = self.read_raw(piece.get_mut(..room).unwrap_or_default())?;
            if n == 0 {
                return Err(bad("it ends in the middle of a file"));
            }
            left -= n as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// So much data comes now.
    fn expect(&mut self, size: u64) -> Result<()> {
        if size > i64::MAX as u64 {
            return Err(bad("a size beyond all bounds"));
        }
        self.padding = size.next_multiple_of(BLOCK) - size;
        self.left = size;
        Ok(())
    }

    /// A block, or none at the end of the file.
    fn block(&mut self) -> Result<Option<[u8; BLOCK as usize]>> {
        let mut block = [0; BLOCK as usize];
        let mut have = 0;
        while have < block.len() {
            let n = self.read_raw(block.get_mut(have..).unwrap_or_default())?;
            match n {
                0 if have == 0 => return Ok(None),
                0 => return Err(bad("it ends in the middle of a header")),
                n => have += n,
            }
        }
        Ok(Some(block))
    }

    /// A member's, or none at the end of the archive: two blocks of zeros, or where the file ends.
    fn header(&mut self) -> Result<Option<[u8; BLOCK as usize]>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block == [0; BLOCK as usize] {
            return match self.block()? {
                Some(next) if next != block => Err(bad("a single block of zeros in the middle")),
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block);
        if !signed(&header.as_old().cksum).is_some_and(|said| checksums(&block).contains(&said)) {
            return Err(bad("a header's checksum is wrong: it is no tar archive, or it is damaged"));
        }
        Ok(Some(block))
    }

    /// The data of a header that describes the next one.
    fn text(&mut self, size: u64, max: u64, what: &str) -> Result<Vec<u8>> {
        if size > max {
            return Err(bad(format!("{what} of {size} bytes; at most {max} are read")));
        }
        self.expect(size)?;
        let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read_exact(&mut text)?;
        self.skip()?;
        Ok(text)
    }

    fn name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.text(size, PATH_BYTES as u64 + 1, "a long name")?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }
}

/// For a message: without what a terminal would obey.
#[must_use]
pub fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if text.chars().count() > 200 {
        shown.push_str("..");
    }
    shown
}

fn number(field: &[u8], name: &str) -> Result<u64> {
    let number = signed(field).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| bad(format!("a header whose {name} is no number")))
}

/// Octal digits, or with the highest bit set a binary number. An empty field is a zero.
fn signed(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The second highest is the sign.
        let start = if first & 0x40 != 0 { i64::from(*first) - 0x100 } else { i64::from(first & 0x7f) };
        return rest.iter().try_fold(start, |n, byte| n.checked_mul(256)?.checked_add(i64::from(*byte)));
    }
    let text = field.split(|b| *b == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text).ok()?.trim_matches(' ');
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
}

fn kind(header: &Header, path: &[u8]) -> Result<Kind> {
    Ok(match header.entry_type().as_byte() {
        // Before ustar a folder was known by its name alone.
        b'0' | 0 if path.ends_with(b"/") => Kind::Folder,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' => Kind::Folder,
        b'6' => Kind::Fifo,
        other => {
            let name = char::from(other).escape_default();
            return Err(bad(format!("{}: members of type '{name}' are not supported", show(path))));
        }
    })
}

/// Of the header's bytes, its own field as spaces; old writers summed signed ones.
fn checksums(block: &[u8; BLOCK as usize]) -> [i64; 2] {
    let bytes = || block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { b' ' } else { *b });
    [bytes().map(i64::from).sum(), bytes().map(|b| i64::from(b.cast_signed())).sum()]
}
