//! From the bytes of a blob to those of the archive in it, within limits.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Kind, Result, from_reader};
use crate::limits::{RATIO_FROM, Share};
use crate::pipe::{PipeReader, PipeWriter, pipe};

use super::frames::Frames;

const PIECE: usize = 128 << 10;
/// Pieces that are unpacked and not yet taken.
const AHEAD: usize = 6;
const WHAT: &str = "cannot unpack it";

/// The archive in a blob, whatever it is packed with. What it is packed with is seen by its first bytes: media types lie.
pub struct Unpacked<'a, R: Read> {
    inner: Decoder<'a, R>,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    share: &'a Share,
}

enum Decoder<'a, R: Read> {
    Plain(BufReader<Counted<R>>),
    Gzip(Box<MultiGzDecoder<BufReader<Counted<R>>>>),
    Zstd(Box<Frames<'a, BufReader<Counted<R>>>>),
}

struct Counted<R> {
    reader: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.bytes.set(self.bytes.get() + n as u64);
        Ok(n)
    }
}

impl<'a, R: Read> Unpacked<'a, R> {
    pub fn new(reader: R, share: &'a Share) -> Result<Unpacked<'a, R>> {
        let packed = Rc::new(Cell::new(0));
        let mut reader = BufReader::with_capacity(PIECE, Counted { reader, bytes: Rc::clone(&packed) });
        let fail = |e| from_reader(e, Kind::BadImage, WHAT);
        let start = reader.fill_buf().map_err(fail)?;
        let other = |name: &str| {
            let why = format!("it is packed with {name}; gzip, zstd and plain tar are supported");
            Err(Error::bad(WHAT, why).hint("`skopeo copy --dest-compress-format gzip` makes one"))
        };
        let inner = match start {
            [0x1f, 0x8b, ..] => Decoder::Gzip(Box::new(MultiGzDecoder::new(reader))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Decoder::Zstd(Box::new(Frames::new(reader, share).map_err(fail)?))
            }
            [0xfd, b'7', b'z', b'X', b'Z', ..] => return other("xz"),
            [b'B', b'Z', b'h', ..] => return other("bzip2"),
            _ => Decoder::Plain(reader),
        };
        Ok(Unpacked { inner, packed, unpacked: 0, share })
    }

    /// To its end, where nothing more is used of it: all of the blob is checked.
    pub fn finish(mut self) -> Result<()> {
        let fail = |e| from_reader(e, Kind::BadImage, WHAT);
        io::copy(&mut self, &mut io::sink()).map_err(fail)?;
        let mut rest = match self.inner {
            Decoder::Plain(reader) => reader,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(frames) => frames.into_inner(),
        };
        // What stands behind the packed data.
        io::copy(&mut rest, &mut io::sink()).map_err(fail)?;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let ratio = self.share.limits().ratio;
        if self.unpacked > RATIO_FROM && self.unpacked / ratio.max(1) > self.packed.get() {
            let why = format!("it unpacks to more than {ratio} times its size");
            return Err(Error::bad("the layer is refused", why).hint("if that is meant: --max-ratio"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Unpacked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.inner {
            Decoder::Plain(reader) => reader.read(buffer)?,
            Decoder::Gzip(decoder) => decoder.read(buffer)?,
            Decoder::Zstd(frames) => frames.read(buffer)?,
        };
        self.unpacked += n as u64;
        self.share.bytes(n as u64)?;
        self.check()?;
        Ok(n)
    }
}

/// What `take` makes of the archive in a blob. Another thread unpacks ahead of it: that takes longer than all the rest.
pub fn ahead<R: Read + Send, T>(
    reader: R,
    share: &Share,
    take: impl FnOnce(PipeReader) -> Result<T>,
) -> Result<T> {
    std::thread::scope(|scope| {
        let (to, from) = pipe(AHEAD);
        let unpacking = scope.spawn(|| send(reader, share, to));
        let taken = take(from);
        // A fault of its own is known by then: the archive had no end.
        let _ = unpacking.join();
        taken
    })
}

fn send<R: Read>(reader: R, share: &Share, mut to: PipeWriter) {
    let sent = (|| {
        let mut unpacked = Unpacked::new(reader, share)?;
        let mut next =
            |room: &mut [u8]| unpacked.read(room).map_err(|e| from_reader(e, Kind::BadImage, WHAT));
        while to.give(&mut next)? > 0 {}
        unpacked.finish()
    })();
    match sent {
        Ok(()) => drop(to.end()),
        // Whoever took it has given up, and says why; or hears it now.
        Err(error) => to.fail(error.into()),
    }
}
