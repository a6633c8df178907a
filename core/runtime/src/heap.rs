//! The heap of `sampan`: one piece of memory that is handed out from its start to its end, and libc's once that is used up.
//!
//! A process of a millisecond gives nothing back that it needs again, and libc's malloc was a tenth of its time: it takes and
//! returns small maps of the kernel. What is freed here is used again only if it was the last; so a verb that goes on, as `events`,
//! soon lives on libc's heap alone. Untouched pages of the piece are no memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A launch of a large config takes half of it.
const BYTES: usize = 512 * 1024;

#[repr(align(4096))]
struct Piece(UnsafeCell<[MaybeUninit<u8>; BYTES]>);

// SAFETY: `next` gives each byte to one owner at a time.
unsafe impl Sync for Piece {}

pub struct Heap {
    piece: Piece,
    /// Bytes of it that have been handed out.
    next: AtomicUsize,
}

impl Heap {
    pub const fn new() -> Heap {
        Heap { piece: Piece(UnsafeCell::new([MaybeUninit::uninit(); BYTES])), next: AtomicUsize::new(0) }
    }

    fn start(&self) -> *mut u8 {
        self.piece.0.get().cast()
    }

    /// Where in the piece it begins; None: it is libc's.
    fn place(&self, at: *mut u8) -> Option<usize> {
        at.addr().checked_sub(self.start().addr()).filter(|place| *place < BYTES)
    }

    /// Moves the end of what has been handed out, if it is still there.
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= BYTES && self.next.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }
}

// SAFETY: what `alloc` returns is aligned (the piece is to a page), of that size, and nobody else's: `next` moves past it in one
// step, and back only by whoever has the last one. What is not in the piece came from System, and goes back to it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut end = self.next.load(Relaxed);
        while layout.align() <= 4096 {
            let place = end.next_multiple_of(layout.align());
            let Some(to) = place.checked_add(layout.size()).filter(|to| *to <= BYTES) else { break };
            match self.next.compare_exchange_weak(end, to, Relaxed, Relaxed) {
                // SAFETY: `place` is in the piece.
                Ok(_) => return unsafe { self.start().add(place) },
                Err(now) => end = now,
            }
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match self.place(at) {
            Some(place) => drop(self.move_end(place + layout.size(), place)),
            // SAFETY: the caller's promise, and it is not of the piece.
            None => unsafe { System.dealloc(at, layout) },
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(place) = self.place(at) else {
            // SAFETY: the caller's promise, and it is not of the piece.
            return unsafe { System.realloc(at, layout, size) };
        };
        let grown = place.checked_add(size).is_some_and(|end| self.move_end(place + layout.size(), end));
        if grown || size <= layout.size() {
            return at;
        }
        // SAFETY: the caller's promise of `size`; both are of at least the smaller of the two sizes.
        unsafe {
            let to = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !to.is_null() {
                ptr::copy_nonoverlapping(at, to, layout.size());
            }
            to
        }
    }
}
