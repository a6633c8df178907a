//! A bounded queue between threads whose memory grows with what waits in it.
//!
//! `std::sync::mpsc::sync_channel` makes, and writes to, all its places at once: half a megabyte for the thousands of lines that
//! wait only when a terminal stops. Here the bound is a count beside an unbounded channel. Absent on purpose: a `send` that waits.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, TrySendError};

/// A queue of at most `most` that wait.
pub fn bounded<T>(most: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Sender { sender, waiting: waiting.clone(), most }, Receiver { receiver, waiting })
}

#[derive(Debug)]
pub struct Sender<T> {
    sender: mpsc::Sender<T>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { sender: self.sender.clone(), waiting: self.waiting.clone(), most: self.most }
    }
}

impl<T> Sender<T> {
    /// Never waits.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        // The place is taken before the item is sent, so senders at once cannot take more than there are.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(TrySendError::Full(item));
        }
        self.sender.send(item).map_err(|refused| TrySendError::Disconnected(refused.0))
    }
}

#[derive(Debug)]
pub struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
    waiting: Arc<AtomicUsize>,
}

impl<T> Receiver<T> {
    /// Waits; none when all senders are gone and nothing is left.
    pub fn recv(&self) -> Option<T> {
        self.took(self.receiver.recv().ok())
    }

    /// What waits now.
    pub fn try_recv(&self) -> Option<T> {
        self.took(self.receiver.try_recv().ok())
    }

    fn took(&self, item: Option<T>) -> Option<T> {
        if item.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_its_bound_it_is_full_until_one_is_taken() {
        let (sender, receiver) = bounded(2);
        assert!(sender.try_send(1).is_ok() && sender.try_send(2).is_ok());
        assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
        assert_eq!(receiver.recv(), Some(1));
        assert!(sender.clone().try_send(4).is_ok());
        assert_eq!(sender.try_send(5), Err(TrySendError::Full(5)));
        assert_eq!([receiver.try_recv(), receiver.try_recv(), receiver.try_recv()], [Some(2), Some(4), None]);
    }

    #[test]
    fn each_side_learns_that_the_other_has_gone() {
        let (sender, receiver) = bounded(1);
        drop(receiver);
        assert_eq!(sender.try_send(1), Err(TrySendError::Disconnected(1)));
        let (sender, receiver) = bounded::<u8>(1);
        drop(sender);
        assert_eq!(receiver.recv(), None);
    }
}
