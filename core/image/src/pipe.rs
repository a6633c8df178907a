//! Bytes from one thread to another, in pieces whose memory is used again and again.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::error::{Error, Kind};

/// Of one piece.
pub const PIECE: usize = 128 << 10;

enum Message {
    Bytes(Piece),
    /// All of it is there and right.
    End,
    Failed(io::Error),
}

/// Room for [`PIECE`] bytes, and how many of them there are.
struct Piece {
    room: Vec<u8>,
    length: usize,
}

/// Nobody takes the bytes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl From<Gone> for Error {
    fn from(_: Gone) -> Error {
        Error::new(Kind::Usage, "the work is given up", "nobody takes what comes")
    }
}

/// The end that bytes go into.
pub struct PipeWriter {
    to: Option<SyncSender<Message>>,
    back: Receiver<Piece>,
    /// That may still be made.
    unmade: usize,
    /// That was not sent.
    spare: Option<Piece>,
}

/// The end that they come out of. Read to its end, all of it was right.
pub struct PipeReader {
    from: Receiver<Message>,
    back: Sender<Piece>,
    piece: Option<Piece>,
    at: usize,
    ended: bool,
}

/// At most so many pieces are on the way or in somebody's hands.
#[must_use]
pub fn pipe(pieces: usize) -> (PipeWriter, PipeReader) {
    let (to, from) = sync_channel(pieces);
    let (back, returned) = channel();
    let writer = PipeWriter { to: Some(to), back: returned, unmade: pieces, spare: None };
    (writer, PipeReader { from, back, piece: None, at: 0, ended: false })
}

impl PipeWriter {
    /// Takes everything, and it leads nowhere.
    #[must_use]
    pub fn nowhere() -> PipeWriter {
        PipeWriter { to: None, back: channel().1, unmade: 1, spare: None }
    }

    /// Sends what `fill` puts into the room that it is given, once the reader is done with an earlier piece; how many bytes.
    pub fn give<E: From<Gone>>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let mut piece = self.piece()?;
        let filled = fill(&mut piece.room).map(|length| length.min(PIECE));
        piece.length = *filled.as_ref().unwrap_or(&0);
        match &self.to {
            Some(to) if piece.length > 0 => to.send(Message::Bytes(piece)).map_err(|_| Gone)?,
            _ => self.spare = Some(piece),
        }
        filled
    }

    fn piece(&mut self) -> Result<Piece, Gone> {
        if let Some(piece) = self.spare.take().or_else(|| self.back.try_recv().ok()) {
            return Ok(piece);
        }
        if self.unmade > 0 {
            self.unmade -= 1;
            return Ok(Piece { room: vec![0; PIECE], length: 0 });
        }
        self.back.recv().map_err(|_| Gone)
    }

    /// That was all, and it was right.
    pub fn end(self) -> Result<(), Gone> {
        self.last(Message::End)
    }

    /// The reader fails with this, behind all that was sent.
    pub fn fail(self, error: io::Error) {
        let _ = self.last(Message::Failed(error));
    }

    fn last(self, message: Message) -> Result<(), Gone> {
        self.to.map_or(Ok(()), |to| to.send(message).map_err(|_| Gone))
    }
}

impl PipeReader {
    fn next(&mut self) -> io::Result<()> {
        self.at = 0;
        if let Some(piece) = self.piece.take() {
            // Who has ended needs none.
            let _ = self.back.send(piece);
        }
        match self.from.recv() {
            Ok(Message::Bytes(piece)) => self.piece = Some(piece),
            Ok(Message::End) => self.ended = true,
            Ok(Message::Failed(error)) => return Err(error),
            Err(_) => {
                let why = "it was not fetched to its end";
                return Err(Error::new(Kind::Temporary, "cannot unpack it", why).into());
            }
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        self.piece.as_ref().and_then(|piece| piece.room.get(self.at..piece.length)).unwrap_or_default()
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest().is_empty() && !self.ended && !buffer.is_empty() {
            self.next()?;
        }
        let rest = self.rest();
        let n = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(writer: &mut PipeWriter, bytes: &[u8]) -> Result<(), Gone> {
        let given = writer.give(|room| {
            room[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, Gone>(bytes.len())
        });
        given.map(|length| assert_eq!(length, bytes.len()))
    }

    #[test]
    fn what_goes_in_comes_out_in_order_whatever_the_pieces() {
        let (mut writer, mut reader) = pipe(2);
        let sent: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let mut got = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for piece in sent.chunks(7_777) {
                    send(&mut writer, piece).unwrap();
                }
                writer.end().unwrap();
            });
            reader.read_to_end(&mut got).unwrap();
        });
        assert_eq!(got, sent);
    }

    #[test]
    fn a_reader_without_an_end_fails_behind_what_was_sent() {
        let (mut writer, mut reader) = pipe(2);
        send(&mut writer, b"abc").unwrap();
        drop(writer);
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
        assert!(reader.read(&mut buffer).unwrap_err().to_string().contains("not fetched to its end"));

        let (mut writer, mut reader) = pipe(2);
        send(&mut writer, b"abc").unwrap();
        writer.fail(io::Error::other("wrong"));
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
        assert_eq!(reader.read(&mut buffer).unwrap_err().to_string(), "wrong");
    }

    #[test]
    fn a_writer_does_not_wait_for_a_reader_that_is_gone() {
        let (mut writer, reader) = pipe(2);
        send(&mut writer, b"abc").unwrap();
        drop(reader);
        assert_eq!(send(&mut writer, b"abc"), Err(Gone));
        // One more than it may make.
        for _ in 0..3 {
            assert_eq!(writer.give(|_| Err::<usize, _>(Gone)), Err(Gone));
        }
        let mut nowhere = PipeWriter::nowhere();
        for _ in 0..9 {
            send(&mut nowhere, b"abc").unwrap();
        }
        nowhere.end().unwrap();
    }
}
