//! memcpy and memmove for what is short. Musl's are one instruction for any length, `rep movs`, which needs 30 ns to begin; and a
//! launch copies 1,900 strings of which most are shorter than 16 bytes. Everything is loaded before anything is stored, so the two
//! may overlap.
//!
//! Not in a debug build: there these would be made of calls of themselves.

use std::arch::asm;

/// The first and the last `T` of `n` bytes; in between they overlap, or meet.
///
/// # Safety
/// `n` bytes are ours to read and to write, and `T` has half of that to all of it.
#[inline(always)]
unsafe fn ends<T: Copy>(to: *mut u8, from: *const u8, n: usize) {
    let last = n - size_of::<T>();
    // SAFETY: the caller's promise.
    unsafe {
        let first = from.cast::<T>().read_unaligned();
        let end = from.add(last).cast::<T>().read_unaligned();
        to.cast::<T>().write_unaligned(first);
        to.add(last).cast::<T>().write_unaligned(end);
    }
}

/// False: it is long, and nothing is done.
///
/// # Safety
/// As memmove.
#[inline(always)]
unsafe fn short(to: *mut u8, from: *const u8, n: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        match n {
            0 => {}
            1 => to.write(from.read()),
            2..=3 => ends::<u16>(to, from, n),
            4..=7 => ends::<u32>(to, from, n),
            8..=15 => ends::<u64>(to, from, n),
            16..=31 => ends::<u128>(to, from, n),
            32..=63 => ends::<[u128; 2]>(to, from, n),
            64..=128 => ends::<[u128; 4]>(to, from, n),
            _ => return false,
        }
    }
    true
}

/// # Safety
/// C's memcpy.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's promise. `rep movsb` goes up: the direction flag is clear by the calling convention.
    unsafe {
        if !short(to, from, n) {
            asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
        }
    }
    to
}

/// # Safety
/// C's memmove.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's promise. Where `to` begins inside of what is read, it goes from the end down.
    unsafe {
        if short(to, from, n) {
        } else if to.addr().wrapping_sub(from.addr()) >= n {
            asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack, preserves_flags));
        } else {
            asm!("std", "rep movsb", "cld", inout("rcx") n => _, inout("rdi") to.add(n - 1) => _, inout("rsi") from.add(n - 1) => _, options(nostack));
        }
    }
    to
}
