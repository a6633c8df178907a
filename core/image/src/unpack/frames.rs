//! zstd's frames, one behind another. Each says in its header how far it looks back: that much of what it unpacks to, its
//! window, is kept in memory (RFC 8878, 3.1.1). A blob may have any number of frames, with windows of any sizes.

use std::io::{self, BufRead, Read};
use std::sync::MutexGuard;

use zstd::stream::raw::{DParameter, Decoder, Operation};

use crate::limits::Share;

/// 8 MiB: what the RFC wants of every decoder, and the most that zstd's levels up to 19 ask for.
const USUAL_LOG: u32 = 23;
/// 128 MiB, as zstd's own program: a frame that asks for more is refused.
const MAX_LOG: u32 = 27;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Magic, descriptor, window or dictionary's id, and the content's size.
const HEADER_MAX: usize = 18;

/// What the frames in `reader` unpack to.
pub struct Frames<'a, R> {
    reader: R,
    decoder: Decoder<'static>,
    share: &'a Share,
    /// From the first frame on that needs it, to the end.
    large: Option<MutexGuard<'a, ()>>,
    header: Header,
    is_between: bool,
}

/// What is read of a frame to see its window, and how much of that the decoder has taken.
#[derive(Default)]
struct Header {
    bytes: [u8; HEADER_MAX],
    length: usize,
    taken: usize,
}

impl<'a, R: BufRead> Frames<'a, R> {
    pub fn new(reader: R, share: &'a Share) -> io::Result<Frames<'a, R>> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(USUAL_LOG))?;
        Ok(Frames { reader, decoder, share, large: None, header: Header::default(), is_between: true })
    }

    /// What stands behind the last frame that was read.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// The next frame, if there is one. Only one layer at a time has a large window.
    fn begin(&mut self) -> io::Result<bool> {
        self.header = Header::default();
        let mut wanted = MAGIC.len() + 1;
        while self.header.length < wanted {
            let Some(byte) = self.reader.fill_buf()?.first().copied() else { break };
            self.reader.consume(1);
            self.header.push(byte);
            wanted = self.header.wanted();
        }
        self.decoder.reinit()?;
        if self.large.is_none() && self.header.window().is_some_and(|bytes| bytes > 1 << USUAL_LOG) {
            self.large = Some(self.share.large_window());
            self.decoder.set_parameter(DParameter::WindowLogMax(MAX_LOG))?;
        }
        self.is_between = self.header.length == 0;
        Ok(!self.is_between)
    }
}

impl<R: BufRead> Read for Frames<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if self.is_between && !self.begin()? {
                return Ok(0);
            }
            let is_header = self.header.taken < self.header.length;
            let input = if is_header { self.header.rest() } else { self.reader.fill_buf()? };
            let is_end = input.is_empty();
            let status = self.decoder.run_on_buffers(input, buffer)?;
            match is_header {
                true => self.header.taken += status.bytes_read,
                false => self.reader.consume(status.bytes_read),
            }
            self.is_between = status.remaining == 0;
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
            if is_end && !self.is_between {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame"));
            }
        }
        Ok(0)
    }
}

impl Header {
    fn push(&mut self, byte: u8) {
        if let Some(room) = self.bytes.get_mut(self.length) {
            *room = byte;
            self.length += 1;
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..self.length).unwrap_or_default()
    }

    /// A zstd frame's descriptor. A frame that is to be skipped has none, nor has what is no frame.
    fn descriptor(&self) -> Option<u8> {
        let is_frame = self.length > MAGIC.len() && self.bytes.starts_with(&MAGIC);
        self.bytes.get(MAGIC.len()).copied().filter(|_| is_frame)
    }

    /// Where the header says how large the content is: where that starts, and in how many bytes.
    fn content_size(descriptor: u8) -> (usize, usize) {
        let is_single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or(0);
        let size = match descriptor >> 6 {
            0 => usize::from(is_single),
            power => 1 << power,
        };
        (MAGIC.len() + 1 + usize::from(!is_single) + dictionary, size)
    }

    /// How many bytes of the frame tell its window.
    fn wanted(&self) -> usize {
        match self.descriptor() {
            Some(descriptor) => {
                let (start, size) = Header::content_size(descriptor);
                start + size
            }
            None => MAGIC.len() + 1,
        }
    }

    /// In bytes.
    fn window(&self) -> Option<u64> {
        let descriptor = self.descriptor()?;
        let (start, size) = Header::content_size(descriptor);
        if descriptor & 0x20 == 0 {
            let byte = *self.bytes.get(MAGIC.len() + 1)?;
            let base = 1u64 << (10 + (byte >> 3));
            return Some(base + base / 8 * u64::from(byte & 7));
        }
        // A single segment: all of the content. Two bytes count from 256 on.
        let bytes = self.bytes.get(start..start + size)?;
        let content = bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        Some(content.saturating_add(if size == 2 { 256 } else { 0 }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use zstd::stream::raw::CParameter;

    use super::*;
    use crate::limits::{Budget, Limits};

    /// A frame with this window, or of one segment with its size in the header.
    fn frame(content: &[u8], window_log: u32, is_single: bool) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(CParameter::WindowLog(window_log)).unwrap();
        if is_single {
            encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
        }
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn share(budget: &Arc<Budget>) -> Arc<Share> {
        Share::new(budget)
    }

    fn budget() -> Arc<Budget> {
        Budget::new(Limits::default())
    }

    fn header(frame: &[u8]) -> Header {
        let mut header = Header::default();
        for byte in frame.iter().take(HEADER_MAX) {
            header.push(*byte);
        }
        header
    }

    #[test]
    fn the_window_is_what_the_header_says() {
        for log in 10..=27 {
            assert_eq!(header(&frame(b"abc", log, false)).window(), Some(1 << log), "{log}");
        }
        for size in [0, 1, 255, 256, 70_000, 9 << 20] {
            let found = header(&frame(&vec![7; size], 27, true)).window();
            assert_eq!(found, Some(size as u64), "{size}");
        }
        // RFC 8878, 3.1.1.1.2: with a mantissa, and the largest of all.
        assert_eq!(header(&[&MAGIC[..], &[0, 0x6c]].concat()).window(), Some((8 << 20) / 8 * 12));
        assert_eq!(header(&[&MAGIC[..], &[0, 0xff]].concat()).window(), Some((1 << 41) / 8 * 15));
        assert_eq!(header(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]).window(), None);
    }

    #[test]
    fn frames_of_any_windows_come_out_one_behind_another_however_they_are_read() {
        let noise: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [
            frame(&noise, 17, false),
            skipped.clone(),
            frame(b"", 20, true),
            frame(&noise[..70_000], 27, false),
            frame(b"abc", 23, true),
            skipped,
        ];
        let packed = frames.concat();
        let content = [&noise[..], &noise[..70_000], b"abc"].concat();
        for piece in [1, 2, 7, 19, 128 << 10] {
            let budget = budget();
            let share = share(&budget);
            let mut unpacked = Vec::new();
            let reader = BufReader::with_capacity(piece, &packed[..]);
            Frames::new(reader, &share).unwrap().read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == content, "{piece}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_frame_is_an_error() {
        let budget = budget();
        let share = share(&budget);
        let whole = frame(&[7; 5000], 20, false);
        let fails = |bytes: &[u8]| {
            let read = Frames::new(bytes, &share).unwrap().read_to_end(&mut Vec::new());
            assert!(read.is_err(), "{bytes:x?}");
        };
        for length in 1..whole.len() {
            fails(&whole[..length]);
        }
        fails(&[&whole[..], b"rest"].concat());
        fails(&[&whole[..], &whole[..3]].concat());
        // 256 MiB.
        let too_large = [&MAGIC[..], &[0, 18 << 3]].concat();
        assert_eq!(header(&too_large).window(), Some(256 << 20));
        fails(&too_large);
    }

    #[test]
    fn one_layer_at_a_time_has_a_large_window_and_those_of_small_ones_wait_for_none() {
        let budget = budget();
        let shares = [share(&budget), share(&budget), share(&budget)];
        // The large window comes late.
        let large = [frame(b"a", 20, false), frame(b"bc", 27, false)].concat();
        let mut first = Frames::new(&large[..], &shares[0]).unwrap();
        let mut bytes = [0; 2];
        first.read_exact(&mut bytes).unwrap();
        let is_read = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let mut text = String::new();
                Frames::new(&large[..], &shares[1]).unwrap().read_to_string(&mut text).unwrap();
                is_read.store(true, Ordering::SeqCst);
                text
            });
            let small = frame(b"small", 23, false);
            let mut text = String::new();
            Frames::new(&small[..], &shares[2]).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "small");
            std::thread::sleep(Duration::from_millis(200));
            assert!(!is_read.load(Ordering::SeqCst), "two large windows at once");
            drop(first);
            assert_eq!(second.join().unwrap(), "abc");
        });
    }
}
