//! Who is attached to a service: each has a queue of its own, and one whose queue is full is cut off. Nobody waits for any of them.
use axum::body::Bytes;
use sampan_api::attach::{Last, Stream};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

/// What may wait for one client.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// What a piece takes besides its bytes: a service may write one byte at a time.
const PIECE_BYTES: usize = 128;

/// What a client is told.
#[derive(Debug, Clone)]
pub enum Piece {
    Output(Stream, Bytes),
    Last(Last),
}

impl Piece {
    fn cost(&self) -> usize {
        match self {
            Piece::Output(_, bytes) => bytes.len() + PIECE_BYTES,
            Piece::Last(_) => 0,
        }
    }
}

#[derive(Debug)]
struct Client {
    send: mpsc::UnboundedSender<Piece>,
    queued: Arc<AtomicUsize>,
}

impl Client {
    /// False: it has gone, or is cut off.
    fn give(&self, piece: &Piece) -> bool {
        let cost = piece.cost();
        if self.queued.fetch_add(cost, Ordering::Relaxed) + cost <= QUEUE_BYTES_MAX {
            return self.send.send(piece.clone()).is_ok();
        }
        let text = format!(
            "cut off: {} MiB of output waited for this client; the service goes on, its log has all of it",
            QUEUE_BYTES_MAX >> 20
        );
        let _ = self.send.send(Piece::Last(Last::CutOff { text }));
        false
    }
}

/// All that are attached to one life.
#[derive(Debug, Default)]
pub struct Clients {
    all: RefCell<Vec<Client>>,
    left: Arc<Notify>,
    /// Why nothing more is passed on to anybody.
    broken: RefCell<Option<Last>>,
}

impl Clients {
    pub fn add(&self) -> Output {
        let (send, pieces) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        match &*self.broken.borrow() {
            Some(last) => drop(send.send(Piece::Last(last.clone()))),
            None => self.all.borrow_mut().push(Client { send, queued: queued.clone() }),
        }
        Output { pieces, queued, left: self.left.clone() }
    }

    pub fn is_empty(&self) -> bool {
        let mut all = self.all.borrow_mut();
        all.retain(|client| !client.send.is_closed());
        all.is_empty()
    }

    pub fn show(&self, stream: Stream, bytes: Bytes) {
        let piece = Piece::Output(stream, bytes);
        self.all.borrow_mut().retain(|client| client.give(&piece));
    }

    /// To all of them; nobody is attached any more.
    pub fn end(&self, last: &Last) {
        for client in self.all.borrow_mut().drain(..) {
            let _ = client.send.send(Piece::Last(last.clone()));
        }
    }

    /// Its output is not passed on any more: those who are attached are told, and so is everybody who comes later.
    pub fn break_off(&self, why: &str) {
        let text = format!("its output is not passed on any more: {why}; the service goes on");
        let last = Last::CutOff { text };
        self.end(&last);
        *self.broken.borrow_mut() = Some(last);
    }

    /// Returns when all have gone.
    pub async fn gone(&self) {
        while !self.is_empty() {
            self.left.notified().await;
        }
    }
}

/// What one client is to be told. Dropped, it is not attached any more.
#[derive(Debug)]
pub struct Output {
    pieces: mpsc::UnboundedReceiver<Piece>,
    queued: Arc<AtomicUsize>,
    left: Arc<Notify>,
}

impl Output {
    /// None: there is no more, and nobody has said why.
    pub async fn next(&mut self) -> Option<Piece> {
        let piece = self.pieces.recv().await?;
        self.queued.fetch_sub(piece.cost(), Ordering::Relaxed);
        Some(piece)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.pieces.close();
        self.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(output: &mut Output) -> (usize, Option<Last>) {
        let mut bytes = 0;
        while let Ok(piece) = output.pieces.try_recv() {
            output.queued.fetch_sub(piece.cost(), Ordering::Relaxed);
            match piece {
                Piece::Output(_, some) => bytes += some.len(),
                Piece::Last(last) => return (bytes, Some(last)),
            }
        }
        (bytes, None)
    }

    #[test]
    fn one_that_does_not_read_is_cut_off_and_the_others_are_not() {
        let clients = Clients::default();
        let (mut slow, mut fast) = (clients.add(), clients.add());
        let (chunk, mut read) = (Bytes::from(vec![b'x'; 64 << 10]), 0);
        for _ in 0..100 {
            clients.show(Stream::Stdout, chunk.clone());
            read += all_of(&mut fast).0;
        }
        assert_eq!(read, 100 * chunk.len());
        let (bytes, last) = all_of(&mut slow);
        assert!(bytes <= QUEUE_BYTES_MAX && bytes > QUEUE_BYTES_MAX / 2, "{bytes}");
        assert!(matches!(last, Some(Last::CutOff { text }) if text.contains("4 MiB")));
        assert_eq!(clients.all.borrow().len(), 1);
    }

    #[test]
    fn single_bytes_count_as_what_they_take() {
        let clients = Clients::default();
        let mut slow = clients.add();
        let byte = Bytes::from_static(b"x");
        (0..QUEUE_BYTES_MAX / PIECE_BYTES).for_each(|_| clients.show(Stream::Stderr, byte.clone()));
        let (bytes, last) = all_of(&mut slow);
        assert!(bytes < QUEUE_BYTES_MAX / PIECE_BYTES && last.is_some(), "{bytes} {last:?}");
    }

    #[test]
    fn who_has_gone_is_not_told() {
        let clients = Clients::default();
        drop(clients.add());
        assert!(clients.is_empty());
        let mut stays = clients.add();
        clients.end(&Last::End { code: Some(3), text: "exit 3".into() });
        assert!(matches!(all_of(&mut stays), (0, Some(Last::End { code: Some(3), .. }))));
    }
}
